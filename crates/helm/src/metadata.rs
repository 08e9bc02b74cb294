//! `Chart.yaml`: read as Go's decoder reads it (keys in any case, scalars turned into text where text is wanted) and
//! checked as Helm checks it.

use std::collections::BTreeMap;

use druse_object::{Map, Value};

use crate::error::HelmError;
use crate::version::Version;

/// A person in `maintainers`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintainer {
    /// Who.
    pub name: String,
    /// Mail address.
    pub email: String,
    /// Home page.
    pub url: String,
}

/// One entry of `dependencies`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dependency {
    /// The chart's name (replaced by the alias once dependencies are processed, as Helm does).
    pub name: String,
    /// The version constraint.
    pub version: String,
    /// Where it was fetched from.
    pub repository: String,
    /// Comma-separated value paths; the first that holds a boolean decides.
    pub condition: String,
    /// Tags, switched by `tags.NAME` in values.
    pub tags: Vec<String>,
    /// Whether it is switched on (known after processing).
    pub enabled: bool,
    /// `import-values`, each a string or a map of `child` and `parent`.
    pub import_values: Vec<Value>,
    /// The name to use instead.
    pub alias: String,
}

/// What `Chart.yaml` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The chart's name.
    pub name: String,
    /// Project page.
    pub home: String,
    /// Source pages.
    pub sources: Vec<String>,
    /// The chart's version.
    pub version: String,
    /// One sentence.
    pub description: String,
    /// Search words.
    pub keywords: Vec<String>,
    /// Who maintains it.
    pub maintainers: Vec<Maintainer>,
    /// URL of an icon.
    pub icon: String,
    /// `v1` or `v2`.
    pub api_version: String,
    /// Unused by Helm.
    pub condition: String,
    /// Unused by Helm.
    pub tags: String,
    /// The version of what it installs.
    pub app_version: String,
    /// Whether it is deprecated.
    pub deprecated: bool,
    /// Free annotations.
    pub annotations: BTreeMap<String, String>,
    /// Which Kubernetes versions it accepts, a constraint; empty: all.
    pub kube_version: String,
    /// Charts it depends on; `None` when it names no list at all.
    pub dependencies: Option<Vec<Dependency>>,
    /// `application`, `library` or empty.
    pub chart_type: String,
}

/// The value of a key in any letter case; an exact match wins.
fn field<'a>(map: &'a Map, name: &str) -> Option<&'a Value> {
    map.get(name).or_else(|| map.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

/// Text as Go's YAML decoder gives it to a string field: booleans and numbers are written out.
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => String::new(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::UInt(u) => u.to_string(),
        Value::Float(f) => go_float(*f),
        Value::String(s) => s.to_string(),
        Value::Array(_) | Value::Map(_) => return None,
    })
}

/// `strconv.FormatFloat(f, 'g', -1, 64)`.
pub(crate) fn go_float(f: f64) -> String {
    if f == 0.0 || !f.is_finite() {
        return if f == 0.0 { "0".into() } else { f.to_string().replace("inf", "Inf") };
    }
    let exponential = format!("{f:e}");
    let exponent: i32 = exponential.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let (mantissa, _) = exponential.split_once('e').unwrap_or((&exponential, ""));
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{f}")
}

fn type_error(what: &str, value: &Value, name: &str) -> String {
    let kind = match value {
        Value::Map(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        _ => "number",
    };
    format!(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} into Go struct field {what}.{name}"
    )
}

struct Reader<'a> {
    map: &'a Map,
    what: &'static str,
}

impl Reader<'_> {
    fn text(&self, name: &str, into: &mut String) -> Result<(), String> {
        if let Some(v) = field(self.map, name).filter(|v| !v.is_null()) {
            *into = scalar_text(v).ok_or_else(|| type_error(self.what, v, name))?;
        }
        Ok(())
    }
    fn texts(&self, name: &str, into: &mut Vec<String>) -> Result<(), String> {
        match field(self.map, name) {
            None => {}
            Some(Value::Null) => into.clear(),
            Some(Value::Array(a)) => {
                *into = a
                    .iter()
                    .map(|v| scalar_text(v).ok_or_else(|| type_error(self.what, v, name)))
                    .collect::<Result<_, _>>()?;
            }
            Some(v) => return Err(type_error(self.what, v, name)),
        }
        Ok(())
    }
    fn flag(&self, name: &str, into: &mut bool) -> Result<(), String> {
        match field(self.map, name) {
            None | Some(Value::Null) => {}
            Some(Value::Bool(b)) => *into = *b,
            Some(v) => return Err(type_error(self.what, v, name)),
        }
        Ok(())
    }
    fn maps<'b>(&'b self, name: &str) -> Result<Option<Vec<&'b Map>>, String> {
        match field(self.map, name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(a)) => a
                .iter()
                .map(|v| match v {
                    Value::Map(m) => Ok(m),
                    Value::Null => Err(format!("validation: {name} must not contain empty or null nodes")),
                    v => Err(type_error(self.what, v, name)),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            Some(v) => Err(type_error(self.what, v, name)),
        }
    }
}

impl Dependency {
    fn read(map: &Map) -> Result<Self, String> {
        let r = Reader { map, what: "Dependency" };
        let mut d = Self::default();
        r.text("name", &mut d.name)?;
        r.text("version", &mut d.version)?;
        r.text("repository", &mut d.repository)?;
        r.text("condition", &mut d.condition)?;
        r.texts("tags", &mut d.tags)?;
        r.flag("enabled", &mut d.enabled)?;
        r.text("alias", &mut d.alias)?;
        if let Some(v) = field(map, "import-values") {
            d.import_values = v.items().to_vec();
        }
        Ok(d)
    }
}

impl Metadata {
    /// Reads fields of a `Chart.yaml` (or a `requirements.yaml`) over what is there.
    ///
    /// # Errors
    /// When a field has the wrong type.
    pub(crate) fn read(&mut self, value: &Value) -> Result<(), String> {
        let map = match value {
            Value::Map(m) => m,
            Value::Null => return Ok(()),
            v => return Err(type_error("Metadata", v, "")),
        };
        let r = Reader { map, what: "Metadata" };
        r.text("name", &mut self.name)?;
        r.text("home", &mut self.home)?;
        r.texts("sources", &mut self.sources)?;
        r.text("version", &mut self.version)?;
        r.text("description", &mut self.description)?;
        r.texts("keywords", &mut self.keywords)?;
        if let Some(list) = r.maps("maintainers")? {
            self.maintainers = list
                .into_iter()
                .map(|m| {
                    let r = Reader { map: m, what: "Maintainer" };
                    let mut out = Maintainer::default();
                    r.text("name", &mut out.name)?;
                    r.text("email", &mut out.email)?;
                    r.text("url", &mut out.url)?;
                    Ok(out)
                })
                .collect::<Result<_, String>>()?;
        }
        r.text("icon", &mut self.icon)?;
        r.text("apiVersion", &mut self.api_version)?;
        r.text("condition", &mut self.condition)?;
        r.text("tags", &mut self.tags)?;
        r.text("appVersion", &mut self.app_version)?;
        r.flag("deprecated", &mut self.deprecated)?;
        match field(map, "annotations") {
            None | Some(Value::Null) => {}
            Some(Value::Map(m)) => {
                for (k, v) in m.iter() {
                    let text = scalar_text(v).ok_or_else(|| type_error("Metadata", v, "annotations"))?;
                    self.annotations.insert(k.to_string(), text);
                }
            }
            Some(v) => return Err(type_error("Metadata", v, "annotations")),
        }
        r.text("kubeVersion", &mut self.kube_version)?;
        if let Some(list) = r.maps("dependencies")? {
            self.dependencies = Some(list.into_iter().map(Dependency::read).collect::<Result<_, _>>()?);
        }
        r.text("type", &mut self.chart_type)
    }

    /// Checks what Helm checks when it loads a chart, and cleans text of characters that do not print.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub(crate) fn validate(&mut self) -> Result<(), HelmError> {
        for text in [
            &mut self.name,
            &mut self.description,
            &mut self.home,
            &mut self.icon,
            &mut self.condition,
            &mut self.tags,
            &mut self.app_version,
            &mut self.kube_version,
        ]
        .into_iter()
        .chain(&mut self.sources)
        .chain(&mut self.keywords)
        .chain(self.maintainers.iter_mut().flat_map(|m| [&mut m.name, &mut m.email, &mut m.url]))
        {
            clean(text);
        }
        let fail = |m: String| Err(HelmError::Load(format!("validation: {m}")));
        if self.api_version.is_empty() {
            return fail("chart.metadata.apiVersion is required".into());
        }
        if self.name.is_empty() {
            return fail("chart.metadata.name is required".into());
        }
        if self.name == "." || self.name == ".." {
            return fail(format!("chart.metadata.name {:?} is not allowed", self.name));
        }
        if self.name.contains('/') {
            return fail(format!("chart.metadata.name {:?} is invalid", self.name));
        }
        if self.version.is_empty() {
            return fail("chart.metadata.version is required".into());
        }
        if Version::parse(&self.version).is_err() {
            return fail(format!("chart.metadata.version {:?} is invalid", self.version));
        }
        if !matches!(self.chart_type.as_str(), "" | "application" | "library") {
            return fail("chart.metadata.type must be application or library".into());
        }
        let mut seen: Vec<String> = Vec::new();
        for d in self.dependencies.iter_mut().flatten() {
            for text in [&mut d.name, &mut d.version, &mut d.repository, &mut d.condition] {
                clean(text);
            }
            d.tags.iter_mut().for_each(clean);
            if !d.alias.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
                return fail(format!("dependency {:?} has disallowed characters in the alias", d.name));
            }
            let key = if d.alias.is_empty() { &d.name } else { &d.alias };
            if seen.contains(key) {
                return fail(format!("more than one dependency with name or alias {key:?}"));
            }
            seen.push(key.clone());
        }
        Ok(())
    }

    /// Whether this is a library chart, whose templates are only included by others.
    #[must_use]
    pub fn is_library(&self) -> bool {
        self.chart_type.eq_ignore_ascii_case("library")
    }

    /// The JSON form, as a release record stores it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut out = Map::new();
        put(&mut out, "name", &self.name);
        put(&mut out, "home", &self.home);
        put_list(&mut out, "sources", &self.sources);
        put(&mut out, "version", &self.version);
        put(&mut out, "description", &self.description);
        put_list(&mut out, "keywords", &self.keywords);
        if !self.maintainers.is_empty() {
            let list: Value = self
                .maintainers
                .iter()
                .map(|m| {
                    let mut o = Map::new();
                    put(&mut o, "name", &m.name);
                    put(&mut o, "email", &m.email);
                    put(&mut o, "url", &m.url);
                    o
                })
                .collect();
            out.insert("maintainers", list);
        }
        put(&mut out, "icon", &self.icon);
        put(&mut out, "apiVersion", &self.api_version);
        put(&mut out, "condition", &self.condition);
        put(&mut out, "tags", &self.tags);
        put(&mut out, "appVersion", &self.app_version);
        if self.deprecated {
            out.insert("deprecated", true);
        }
        if !self.annotations.is_empty() {
            out.insert("annotations", self.annotations.iter().map(|(k, v)| (k.as_str(), v)).collect::<Map>());
        }
        put(&mut out, "kubeVersion", &self.kube_version);
        if let Some(deps) = self.dependencies.as_ref().filter(|d| !d.is_empty()) {
            let list: Value = deps
                .iter()
                .map(|d| {
                    let mut o = Map::new();
                    o.insert("name", d.name.as_str());
                    put(&mut o, "version", &d.version);
                    o.insert("repository", d.repository.as_str());
                    put(&mut o, "condition", &d.condition);
                    put_list(&mut o, "tags", &d.tags);
                    if d.enabled {
                        o.insert("enabled", true);
                    }
                    if !d.import_values.is_empty() {
                        o.insert("import-values", d.import_values.clone());
                    }
                    put(&mut o, "alias", &d.alias);
                    o
                })
                .collect();
            out.insert("dependencies", list);
        }
        put(&mut out, "type", &self.chart_type);
        Value::Map(out)
    }
}

fn put(map: &mut Map, key: &str, text: &str) {
    if !text.is_empty() {
        map.insert(key, text);
    }
}

fn put_list(map: &mut Map, key: &str, list: &[String]) {
    if !list.is_empty() {
        map.insert(key, list.iter().map(String::as_str).collect::<Value>());
    }
}

/// Turns every space into a plain one and drops control characters.
fn clean(text: &mut String) {
    if text.chars().any(|c| c.is_control() || (c.is_whitespace() && c != ' ')) {
        *text = text
            .chars()
            .filter_map(|c| match c {
                c if c.is_whitespace() => Some(' '),
                c if c.is_control() => None,
                c => Some(c),
            })
            .collect();
    }
}
