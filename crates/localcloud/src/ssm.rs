//! The Parameter Store.

use druse_aws::arn::{Arn, parameter, parameter_name};
use druse_object::{Map, Value};

use crate::answer::{Fault, Form};
use crate::auth::{Caller, caller};
use crate::cloud::{Cloud, State};
use crate::request::Request;
use crate::store::{Parameter, Version};

/// How many versions a parameter keeps.
const MAX_VERSIONS: usize = 100;
/// How many labels a version has at most.
const MAX_LABELS: usize = 10;

pub(crate) fn call(cloud: &Cloud, operation: &str, input: &Value, request: &Request) -> Result<Value, Fault> {
    let caller = caller(cloud, request, "ssm", Form::Json)?;
    let call = Call { cloud, caller, input };
    match operation {
        "GetParameter" => call.get_parameter(),
        "GetParameters" => call.get_parameters(),
        "GetParametersByPath" => call.by_path(),
        "GetParameterHistory" => call.history(),
        "PutParameter" => call.put(),
        "DeleteParameter" => call.delete(),
        "DeleteParameters" => call.delete_many(),
        "DescribeParameters" => call.describe(),
        "LabelParameterVersion" => call.label(),
        other => Err(Fault::new(400, "UnknownOperationException", format!("AmazonSSM.{other} is not served here"))),
    }
}

struct Call<'a> {
    cloud: &'a Cloud,
    caller: Caller,
    input: &'a Value,
}

/// What a caller names: a name or ARN, with a version or label.
struct Wanted {
    name: String,
    selector: Option<String>,
}

enum Miss {
    Name,
    Version,
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.into_iter().collect())
}

fn not_found() -> Fault {
    Fault::new(400, "ParameterNotFound", "")
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970, as AWS writes times")]
fn time(at: i64) -> Value {
    Value::Float(at as f64)
}

impl Call<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.input.str_at([name])
    }

    fn need(&self, name: &str) -> Result<&str, Fault> {
        let missing = || {
            Fault::validation(format!(
                "1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must not be null"
            ))
        };
        self.text(name).filter(|v| !v.is_empty()).ok_or_else(missing)
    }

    fn flag(&self, name: &str) -> bool {
        self.input.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn names(&self, field: &str) -> Result<Vec<&str>, Fault> {
        let names: Vec<&str> =
            self.input.get(field).map(Value::items).unwrap_or_default().iter().filter_map(Value::as_str).collect();
        if !(1..=10).contains(&names.len()) {
            return Err(Fault::validation(format!(
                "1 validation error detected: Value at '{}' failed to satisfy constraint: Member must have length less \
                 than or equal to 10 and greater than or equal to 1",
                field.to_lowercase()
            )));
        }
        Ok(names)
    }

    fn arn(&self, name: &str) -> String {
        let cloud = self.cloud;
        parameter(druse_aws::endpoint::partition(&cloud.region), &cloud.region, &cloud.account, name)
    }

    fn wanted(&self, text: &str) -> Result<Wanted, Fault> {
        let (name, selector) = match Arn::parse(text) {
            Some(arn) => {
                let (resource, selector) = match arn.resource.split_once(':') {
                    Some((r, s)) => (r, Some(s)),
                    None => (arn.resource, None),
                };
                let name = parameter_name(&Arn { resource, ..arn.clone() });
                let here = arn.region == self.cloud.region && arn.account == self.cloud.account;
                (name.filter(|_| here).ok_or_else(not_found)?, selector)
            }
            None => match text.split_once(':') {
                Some((n, s)) => (n.to_string(), Some(s)),
                None => (text.to_string(), None),
            },
        };
        Ok(Wanted { name, selector: selector.map(str::to_string) })
    }

    fn find<'s>(&self, state: &'s State, wanted: &Wanted) -> Result<(&'s Parameter, &'s Version), Miss> {
        // A name that stands alone is found with or without its slash in an ARN.
        let parameters = &state.store.parameters;
        let p = parameters
            .get(&wanted.name)
            .or_else(|| {
                parameters
                    .get(&format!("/{}", wanted.name))
                    .filter(|_| !wanted.name.starts_with('/') && wanted.name.contains('/'))
            })
            .ok_or(Miss::Name)?;
        let v = match &wanted.selector {
            None => p.latest(),
            Some(s) => match s.parse::<i64>() {
                Ok(n) => p.versions.iter().find(|v| v.number == n),
                Err(_) => p.versions.iter().find(|v| v.labels.contains(s)),
            },
        };
        v.map(|v| (p, v)).ok_or(Miss::Version)
    }

    /// The parameter as AWS shows it. Decrypting asks for the key too where it is not the account's own.
    fn shown(
        &self,
        state: &State,
        name: &str,
        p: &Parameter,
        v: &Version,
        selector: Option<&str>,
    ) -> Result<Value, Fault> {
        let secure = p.kind == "SecureString";
        let value = if secure && !self.flag("WithDecryption") {
            v.sealed.clone()
        } else {
            if let Some(key) = p.key_id.as_deref().filter(|k| secure && !is_own_key(k)) {
                self.caller.may_decrypt(self.cloud, key)?;
            }
            let bytes = state.store.open_version("parameter", name, v).map_err(Fault::internal)?;
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut m = Map::new();
        m.insert("Name", name);
        m.insert("Type", p.kind.as_str());
        m.insert("Value", value);
        m.insert("Version", v.number);
        if let Some(s) = selector {
            m.insert("Selector", format!(":{s}"));
        }
        m.insert("LastModifiedDate", time(v.at));
        m.insert("ARN", self.arn(name));
        m.insert("DataType", "text");
        Ok(Value::Map(m))
    }

    fn get_parameter(&self) -> Result<Value, Fault> {
        let wanted = self.wanted(self.need("Name")?)?;
        self.caller.may(self.cloud, "ssm:GetParameter", &self.arn(&wanted.name))?;
        let state = self.cloud.state.lock();
        let (p, v) = self.find(&state, &wanted).map_err(|m| match m {
            Miss::Name => not_found(),
            Miss::Version => Fault::new(
                400,
                "ParameterVersionNotFound",
                format!(
                    "Systems Manager could not find version {} of {}.",
                    wanted.selector.clone().unwrap_or_default(),
                    wanted.name
                ),
            ),
        })?;
        Ok(map([("Parameter", self.shown(&state, &wanted.name, p, v, wanted.selector.as_deref())?)]))
    }

    fn get_parameters(&self) -> Result<Value, Fault> {
        let names = self.names("Names")?;
        for (i, n) in names.iter().enumerate() {
            if names[..i].contains(n) {
                return Err(Fault::validation(format!("{n} is named twice")));
            }
        }
        let wanted: Vec<(&str, Option<Wanted>)> = names.iter().map(|n| (*n, self.wanted(n).ok())).collect();
        // One that is not allowed refuses all.
        for w in wanted.iter().filter_map(|(_, w)| w.as_ref()) {
            self.caller.may(self.cloud, "ssm:GetParameters", &self.arn(&w.name))?;
        }
        let state = self.cloud.state.lock();
        let (mut found, mut invalid) = (Vec::new(), Vec::new());
        for (name, w) in &wanted {
            match w.as_ref().map(|w| (w, self.find(&state, w))) {
                Some((w, Ok((p, v)))) => found.push(self.shown(&state, &w.name, p, v, w.selector.as_deref())?),
                _ => invalid.push(Value::from(*name)),
            }
        }
        Ok(map([("Parameters", found.into()), ("InvalidParameters", invalid.into())]))
    }

    /// A page of a list: how many, and from which on.
    fn page<T>(&self, all: Vec<T>, most: usize) -> Result<(Vec<T>, Option<String>), Fault> {
        let bad = || Fault::new(400, "InvalidNextToken", "The specified token is not valid.");
        let from = match self.text("NextToken").filter(|t| !t.is_empty()) {
            Some(t) => t.strip_prefix("page-").and_then(|t| t.parse::<usize>().ok()).ok_or_else(bad)?,
            None => 0,
        };
        let n = match self.input.get("MaxResults").and_then(Value::as_i64) {
            Some(n) => usize::try_from(n)
                .ok()
                .filter(|n| (1..=most).contains(n))
                .ok_or_else(|| Fault::validation(format!("MaxResults is between 1 and {most}")))?,
            None => most,
        };
        let next = (from.saturating_add(n) < all.len()).then(|| format!("page-{}", from + n));
        Ok((all.into_iter().skip(from).take(n).collect(), next))
    }

    fn by_path(&self) -> Result<Value, Fault> {
        let path = self.need("Path")?;
        if !path.starts_with('/') {
            return Err(Fault::validation(format!(
                "The parameter path: {path} should begin with a slash (/) and must not be a name"
            )));
        }
        self.caller.may(self.cloud, "ssm:GetParametersByPath", &self.arn(path.trim_end_matches('/')))?;
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let state = self.cloud.state.lock();
        let recursive = self.flag("Recursive");
        let below = |n: &str| n.strip_prefix(&prefix).is_some_and(|rest| recursive || !rest.contains('/'));
        let all: Vec<(&String, &Parameter)> = state.store.parameters.iter().filter(|(n, _)| below(n)).collect();
        let (page, next) = self.page(all, 10)?;
        let mut shown = Vec::new();
        for (n, p) in page {
            if let Some(v) = p.latest() {
                shown.push(self.shown(&state, n, p, v, None)?);
            }
        }
        let mut m = Map::new();
        m.insert("Parameters", shown);
        if let Some(next) = next {
            m.insert("NextToken", next);
        }
        Ok(Value::Map(m))
    }

    fn history(&self) -> Result<Value, Fault> {
        let wanted = self.wanted(self.need("Name")?)?;
        self.caller.may(self.cloud, "ssm:GetParameterHistory", &self.arn(&wanted.name))?;
        let state = self.cloud.state.lock();
        let p = state.store.parameters.get(&wanted.name).ok_or_else(not_found)?;
        let (page, next) = self.page(p.versions.iter().collect(), 50)?;
        let mut all = Vec::new();
        for v in page {
            let mut shown = self.shown(&state, &wanted.name, p, v, None)?;
            if let Some(m) = shown.make_map() {
                m.insert("Labels", v.labels.iter().map(String::as_str).collect::<Value>());
                m.insert("Tier", p.tier.as_str());
            }
            all.push(shown);
        }
        let mut m = Map::new();
        m.insert("Parameters", all);
        if let Some(next) = next {
            m.insert("NextToken", next);
        }
        Ok(Value::Map(m))
    }

    fn put(&self) -> Result<Value, Fault> {
        let name = self.need("Name")?;
        let value =
            self.text("Value").filter(|v| !v.is_empty()).ok_or_else(|| Fault::validation("Value must not be empty"))?;
        check_name(name)?;
        self.caller.may(self.cloud, "ssm:PutParameter", &self.arn(name))?;
        let tier = self.text("Tier").unwrap_or("Standard");
        let limit = match tier {
            "Standard" => 4096,
            "Advanced" | "Intelligent-Tiering" => 8192,
            other => {
                return Err(Fault::validation(format!(
                    "Tier {other:?} is none of Standard, Advanced, Intelligent-Tiering"
                )));
            }
        };
        if value.len() > limit {
            return Err(Fault::validation(format!(
                "{tier} tier parameters support a maximum parameter value of {limit} characters."
            )));
        }
        let now = self.cloud.now();
        let mut state = self.cloud.state.lock();
        let old = state.store.parameters.get(name);
        let kind = match (self.text("Type"), old) {
            (Some(k @ ("String" | "StringList" | "SecureString")), _) => k.to_string(),
            (Some(k), _) => {
                return Err(Fault::new(400, "UnsupportedParameterType", format!("{k} is no type of a parameter")));
            }
            (None, Some(p)) => p.kind.clone(),
            (None, None) => return Err(Fault::validation("A parameter type is required when you create a parameter.")),
        };
        if old.is_some() && !self.flag("Overwrite") {
            return Err(Fault::new(
                400,
                "ParameterAlreadyExists",
                "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
            ));
        }
        let number = old.and_then(Parameter::latest).map_or(1, |v| v.number + 1);
        let mut p = old.cloned().unwrap_or_else(|| Parameter {
            kind: kind.clone(),
            key_id: None,
            description: String::new(),
            tier: tier.to_string(),
            versions: Vec::new(),
        });
        if p.versions.len() >= MAX_VERSIONS {
            if p.versions.first().is_some_and(|v| !v.labels.is_empty()) {
                return Err(Fault::new(
                    400,
                    "ParameterMaxVersionLimitExceeded",
                    "The oldest version has a label; move it to another version before another one is made.",
                ));
            }
            p.versions.remove(0);
        }
        p.kind = kind;
        p.tier = tier.to_string();
        if let Some(key) = self.text("KeyId") {
            p.key_id = Some(key.to_string());
        }
        if let Some(d) = self.text("Description") {
            p.description = d.to_string();
        }
        let sealed = state.store.seal("parameter", name, number, value.as_bytes()).map_err(Fault::internal)?;
        p.versions.push(Version { number, sealed, labels: Vec::new(), at: now });
        state.store.parameters.insert(name.to_string(), p);
        state.store.save().map_err(Fault::internal)?;
        Ok(map([("Version", number.into()), ("Tier", tier.into())]))
    }

    fn delete(&self) -> Result<Value, Fault> {
        let name = self.need("Name")?;
        self.caller.may(self.cloud, "ssm:DeleteParameter", &self.arn(name))?;
        let mut state = self.cloud.state.lock();
        state.store.parameters.remove(name).ok_or_else(not_found)?;
        state.store.save().map_err(Fault::internal)?;
        Ok(map([]))
    }

    fn delete_many(&self) -> Result<Value, Fault> {
        let names = self.names("Names")?;
        for n in &names {
            self.caller.may(self.cloud, "ssm:DeleteParameters", &self.arn(n))?;
        }
        let mut state = self.cloud.state.lock();
        let (mut deleted, mut invalid) = (Vec::new(), Vec::new());
        for n in names {
            match state.store.parameters.remove(n) {
                Some(_) => deleted.push(Value::from(n)),
                None => invalid.push(Value::from(n)),
            }
        }
        state.store.save().map_err(Fault::internal)?;
        Ok(map([("DeletedParameters", deleted.into()), ("InvalidParameters", invalid.into())]))
    }

    fn describe(&self) -> Result<Value, Fault> {
        self.caller.may(
            self.cloud,
            "ssm:DescribeParameters",
            &format!("arn:aws:ssm:{}:{}:*", self.cloud.region, self.cloud.account),
        )?;
        let state = self.cloud.state.lock();
        let filters = self.input.get("ParameterFilters").map(Value::items).unwrap_or_default();
        let mut all = Vec::new();
        for (n, p) in &state.store.parameters {
            let mut keep = true;
            for f in filters {
                keep &= passes(n, p, f)?;
            }
            if keep {
                all.push((n, p));
            }
        }
        let (page, next) = self.page(all, 50)?;
        let shown = page.into_iter().map(|(n, p)| {
            let mut m = Map::new();
            m.insert("Name", n.as_str());
            m.insert("ARN", self.arn(n));
            m.insert("Type", p.kind.as_str());
            if p.kind == "SecureString" {
                m.insert("KeyId", p.key_id.as_deref().unwrap_or("alias/aws/ssm"));
            }
            if let Some(v) = p.latest() {
                m.insert("LastModifiedDate", time(v.at));
                m.insert("Version", v.number);
            }
            if !p.description.is_empty() {
                m.insert("Description", p.description.as_str());
            }
            m.insert("Tier", p.tier.as_str());
            m.insert("Policies", Vec::new());
            m.insert("DataType", "text");
            Value::Map(m)
        });
        let mut m = Map::new();
        m.insert("Parameters", shown.collect::<Value>());
        if let Some(next) = next {
            m.insert("NextToken", next);
        }
        Ok(Value::Map(m))
    }

    fn label(&self) -> Result<Value, Fault> {
        let name = self.need("Name")?;
        self.caller.may(self.cloud, "ssm:LabelParameterVersion", &self.arn(name))?;
        let labels = self.names("Labels")?;
        let mut state = self.cloud.state.lock();
        let p = state.store.parameters.get_mut(name).ok_or_else(not_found)?;
        let number = match self.input.get("ParameterVersion").and_then(Value::as_i64) {
            Some(n) => n,
            None => p.latest().map_or(0, |v| v.number),
        };
        let at = p.versions.iter().position(|v| v.number == number);
        let at = at.ok_or_else(|| {
            Fault::new(400, "ParameterVersionNotFound", format!("there is no version {number} of {name}"))
        })?;
        let valid = |l: &str| {
            l.len() <= 100
                && !l.starts_with(|c: char| c.is_ascii_digit())
                && !l.to_lowercase().starts_with("aws")
                && !l.to_lowercase().starts_with("ssm")
                && l.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        let (good, bad): (Vec<&str>, Vec<&str>) = labels.into_iter().partition(|l| valid(l));
        let more = good.iter().filter(|l| !p.versions[at].labels.iter().any(|x| x == *l)).count();
        if p.versions[at].labels.len() + more > MAX_LABELS {
            return Err(Fault::new(
                400,
                "ParameterVersionLabelLimitExceeded",
                "A parameter version can have a maximum of ten labels.",
            ));
        }
        for label in good {
            // A label is on one version: it moves.
            for v in &mut p.versions {
                v.labels.retain(|l| l != label);
            }
            p.versions[at].labels.push(label.to_string());
        }
        state.store.save().map_err(Fault::internal)?;
        let invalid: Vec<Value> = bad.into_iter().map(Value::from).collect();
        Ok(map([("InvalidLabels", invalid.into()), ("ParameterVersion", number.into())]))
    }
}

/// Whether a key is the account's own for parameters, which needs no permission.
fn is_own_key(key: &str) -> bool {
    key.is_empty() || key == "alias/aws/ssm" || key.ends_with(":alias/aws/ssm")
}

fn check_name(name: &str) -> Result<(), Fault> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    let bare = name.trim_start_matches('/').to_lowercase();
    if name.len() > 2048 || !name.chars().all(valid) || name.ends_with('/') || name.contains("//") {
        return Err(Fault::validation(
            "Parameter name must use only letters, numbers and .-_/ and must not end with a slash",
        ));
    }
    if name.contains('/') && !name.starts_with('/') {
        return Err(Fault::validation("Parameter name must be a fully qualified name."));
    }
    if bare.starts_with("aws") || bare.starts_with("ssm") {
        return Err(Fault::validation("Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive)."));
    }
    if name.matches('/').count() > 15 {
        return Err(Fault::new(400, "HierarchyLevelLimitExceededException", "A parameter name has at most 15 levels."));
    }
    Ok(())
}

fn passes(name: &str, p: &Parameter, filter: &Value) -> Result<bool, Fault> {
    let values: Vec<&str> =
        filter.get("Values").map(Value::items).unwrap_or_default().iter().filter_map(Value::as_str).collect();
    let option = filter.str_at(["Option"]);
    let any = |f: &dyn Fn(&str) -> bool| values.iter().any(|v| f(v));
    let bare = |n: &str| n.trim_start_matches('/').to_string();
    Ok(match (filter.str_at(["Key"]), option) {
        (Some("Name"), None | Some("Equals")) => any(&|v| v == name),
        (Some("Name"), Some("BeginsWith")) => any(&|v| bare(name).starts_with(&bare(v))),
        (Some("Name"), Some("Contains")) => any(&|v| name.contains(v)),
        (Some("Type"), _) => any(&|v| v == p.kind),
        (Some("KeyId"), _) => any(&|v| v == p.key_id.as_deref().unwrap_or("alias/aws/ssm")),
        (Some("Tier"), _) => any(&|v| v == p.tier),
        (Some("Path"), Some("Recursive")) => any(&|v| name.starts_with(&format!("{}/", v.trim_end_matches('/')))),
        (Some("Path"), _) => any(&|v| {
            name.strip_prefix(&format!("{}/", v.trim_end_matches('/'))).is_some_and(|rest| !rest.contains('/'))
        }),
        (key, _) => {
            let text = format!("The filter {:?} is not served here", key.unwrap_or_default());
            return Err(Fault::new(400, "InvalidFilterKey", text));
        }
    })
}
