//! Values read: parameters by ten, secrets one by one, and files made of them.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use druse_aws::arn::{Arn, parameter_name};
use druse_aws::endpoint::Service;
use druse_aws::sealed::Json;
use druse_aws::{AwsError, Cause as AwsCause, Client, Credentials};
use druse_object::{Map, Value};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use zeroize::Zeroizing;

use super::problem::{Problem, Step};
use super::{File, Mounted};
use crate::cause::{self, Reason};
use crate::class::{Class, Descriptor, Encoding, Kind};

/// How many parameters AWS takes at once.
const BATCH: usize = 10;
/// How many requests are under way at once: AWS throttles who asks for more.
const AT_ONCE: usize = 4;

/// A value as it was read.
struct Found {
    contents: Zeroizing<Vec<u8>>,
    version: String,
}

/// What one request for a parameter names, and which objects of the class it is for.
struct Wanted {
    /// Name or ARN.
    name: String,
    /// `name`, `name:3` or `name:label`.
    full: String,
    users: Vec<usize>,
}

/// A request under way.
type Reading<'r> = BoxFuture<'r, Result<Vec<(usize, Found)>, Vec<Problem>>>;

pub(super) struct Reader<'a> {
    pub(super) class: &'a Class,
    pub(super) role: &'a str,
    pub(super) mode: u32,
}

impl Descriptor {
    /// Name, version and label, in the first region or in the failover's.
    fn asked(&self, failover: bool) -> (&str, Option<&str>, Option<&str>) {
        let (own_version, own_label) = (self.version.as_deref(), self.label.as_deref());
        match self.failover.as_ref().filter(|_| failover) {
            None => (&self.name, own_version, own_label),
            Some(f) => (&f.name, f.version.as_deref().or(own_version), f.label.as_deref().or(own_label)),
        }
    }
}

/// Groups of at most ten, each name once: AWS refuses a name twice, and answers by name.
fn batches(objects: &[(usize, &Descriptor)], failover: bool) -> Vec<Vec<Wanted>> {
    let mut all: Vec<Vec<Wanted>> = Vec::new();
    let mut seen: HashMap<String, (usize, usize)> = HashMap::new();
    let mut in_batches: HashMap<String, usize> = HashMap::new();
    for (n, d) in objects {
        let (name, version, label) = d.asked(failover);
        let full = match version.or(label) {
            Some(selector) => format!("{name}:{selector}"),
            None => name.to_string(),
        };
        if let Some((batch, at)) = seen.get(&full) {
            all[*batch][*at].users.push(*n);
            continue;
        }
        // The next batch that does not have the name yet.
        let mut batch = in_batches.get(name).map_or(0, |b| b + 1).max(all.len().saturating_sub(1));
        if all.get(batch).is_some_and(|b| b.len() >= BATCH) {
            batch += 1;
        }
        all.resize_with(all.len().max(batch + 1), Vec::new);
        in_batches.insert(name.to_string(), batch);
        seen.insert(full.clone(), (batch, all[batch].len()));
        all[batch].push(Wanted { name: name.to_string(), full, users: vec![*n] });
    }
    all
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.into_iter().collect())
}

impl Reader<'_> {
    /// All files, or everything that is wrong.
    pub(super) async fn all(
        &self,
        client: &Client,
        credentials: &Credentials,
        failover: bool,
    ) -> Result<Mounted, Vec<Problem>> {
        let of = |kind| self.class.objects.iter().enumerate().filter(move |(_, d)| d.kind == kind);
        let parameters: Vec<(usize, &Descriptor)> = of(Kind::Parameter).collect();
        let batches = batches(&parameters, failover);
        let mut read: Vec<Reading<'_>> =
            batches.iter().map(|b| self.parameters(client, credentials, b).boxed()).collect();
        for (n, d) in of(Kind::Secret) {
            read.push(self.secret(client, credentials, n, d, failover).boxed());
        }
        let results: Vec<_> = stream::iter(read).buffered(AT_ONCE).collect().await;
        let mut found: Vec<Option<Found>> = Vec::new();
        found.resize_with(self.class.objects.len(), || None);
        let mut problems = Vec::new();
        for result in results {
            match result {
                Ok(values) => values.into_iter().for_each(|(n, v)| found[n] = Some(v)),
                Err(p) => problems.extend(p),
            }
        }
        if !problems.is_empty() {
            return Err(together(problems));
        }
        let mut mounted = Mounted::default();
        for (d, value) in self.class.objects.iter().zip(found) {
            let made = match value {
                Some(v) => self.files(d, v, &mut mounted),
                None => Err("AWS did not answer for it".into()),
            };
            if let Err(what) = made {
                problems.push(Problem::new(Step::Value, what).objects(vec![d.name.clone()]));
            }
        }
        if problems.is_empty() { Ok(mounted) } else { Err(problems) }
    }

    fn failed(&self, e: &AwsError, objects: Vec<String>, client: &Client) -> Vec<Problem> {
        let cause = cause::of_read(e, self.role, &objects);
        self.about(Problem::aws(Step::Read, e, cause), objects, client)
    }

    fn about(&self, problem: Problem, objects: Vec<String>, client: &Client) -> Vec<Problem> {
        vec![problem.objects(objects).role(self.role).region(client.region())]
    }

    async fn parameters(
        &self,
        client: &Client,
        credentials: &Credentials,
        batch: &[Wanted],
    ) -> Result<Vec<(usize, Found)>, Vec<Problem>> {
        let names = batch.iter().map(|w| w.full.as_str()).collect::<Value>();
        let input = map([("Names", names), ("WithDecryption", true.into())]);
        let answer = client.sealed(Service::Ssm, "AmazonSSM.GetParameters", &input, credentials).await;
        let answer = answer.map_err(|e| {
            let all = || batch.iter().map(|w| w.full.clone()).collect();
            self.failed(&e, denied(&e, batch).map_or_else(all, |one| vec![one]), client)
        })?;
        let missing: Vec<String> =
            list(&answer, "InvalidParameters").filter_map(Json::text).map(str::to_string).collect();
        if !missing.is_empty() {
            let what = "ssm GetParameters: InvalidParameters".to_string();
            let problem = Problem { cause: Some(cause::not_found(&missing)), ..Problem::new(Step::Read, what) };
            return Err(self.about(problem, missing, client));
        }
        let mut found = Vec::new();
        for w in batch {
            let given = list(&answer, "Parameters").find(|p| is_answer_for(p, &w.name));
            let value = given.and_then(|p| Some((p.text_at("Value")?, p.get("Version")?.number()?)));
            let Some((value, version)) = value else {
                let what = "ssm GetParameters: its answer leaves it out".to_string();
                return Err(self.about(Problem::new(Step::Read, what), vec![w.full.clone()], client));
            };
            for n in &w.users {
                let contents = Zeroizing::new(value.as_bytes().to_vec());
                found.push((*n, Found { contents, version: version.to_string() }));
            }
        }
        Ok(found)
    }

    async fn secret(
        &self,
        client: &Client,
        credentials: &Credentials,
        n: usize,
        d: &Descriptor,
        failover: bool,
    ) -> Result<Vec<(usize, Found)>, Vec<Problem>> {
        let (name, version, label) = d.asked(failover);
        let mut input = Map::new();
        input.insert("SecretId", name);
        for (field, value) in [("VersionId", version), ("VersionStage", label)] {
            if let Some(value) = value {
                input.insert(field, value);
            }
        }
        let target = "secretsmanager.GetSecretValue";
        let answer = client.sealed(Service::SecretsManager, target, &Value::Map(input), credentials).await;
        let answer = answer.map_err(|e| self.failed(&e, vec![name.to_string()], client))?;
        let contents = match (answer.text_at("SecretString"), answer.text_at("SecretBinary")) {
            (Some(text), _) => Some(Zeroizing::new(text.as_bytes().to_vec())),
            (None, Some(binary)) => STANDARD.decode(binary).ok().map(Zeroizing::new),
            (None, None) => None,
        };
        match (contents, answer.text_at("VersionId")) {
            (Some(contents), Some(version)) => Ok(vec![(n, Found { contents, version: version.to_string() })]),
            _ => {
                let what = "secretsmanager GetSecretValue: its answer holds no value".to_string();
                Err(self.about(Problem::new(Step::Read, what), vec![name.to_string()], client))
            }
        }
    }

    /// The files of one object: its own, and those of its parts.
    fn files(&self, d: &Descriptor, found: Found, mounted: &mut Mounted) -> Result<(), String> {
        let contents = decoded(d.encoding, found.contents)?;
        let mode = d.permission.unwrap_or(self.mode);
        let mut parts = Vec::new();
        if !d.parts.is_empty() {
            // Where it stops being JSON would tell something of it.
            let json =
                Json::parse(&contents).map_err(|_| "it is no JSON, and jmesPath asks for parts of it".to_string())?;
            for p in &d.parts {
                let value = p.expression.search(&json).map_err(|e| format!("jmesPath {:?}: {e}", p.path))?;
                let value = match &value {
                    Json::Text(t) => Zeroizing::new(t.as_bytes().to_vec()),
                    Json::Null => return Err(format!("jmesPath {:?} finds nothing in it", p.path)),
                    other => {
                        return Err(format!(
                            "jmesPath {:?} finds {other:?}, and a file holds a text; to_string() makes one",
                            p.path
                        ));
                    }
                };
                let path = self.class.translation.file(&p.alias);
                parts.push(File { path, mode: p.permission.unwrap_or(mode), contents: value });
            }
        }
        let own = File { path: d.file(self.class.translation), mode, contents };
        for file in std::iter::once(own).chain(parts) {
            mounted.versions.push((file.path.clone(), found.version.clone()));
            mounted.files.push(file);
        }
        Ok(())
    }
}

fn list<'j>(answer: &'j Json, name: &str) -> impl Iterator<Item = &'j Json> {
    answer.get(name).map(Json::items).unwrap_or_default().iter()
}

/// Whether a parameter of an answer is the one that was asked for by this name or ARN.
fn is_answer_for(p: &Json, name: &str) -> bool {
    let (own, arn) = (p.text_at("Name"), p.text_at("ARN"));
    own == Some(name)
        || arn == Some(name)
        || Arn::parse(name).is_some_and(|a| own.is_some() && own == parameter_name(&a).as_deref())
}

/// Which of a batch's parameters was denied, where AWS names it: one refuses all.
fn denied(e: &AwsError, batch: &[Wanted]) -> Option<String> {
    let AwsError::Service { message, .. } = e else { return None };
    if e.cause() != AwsCause::Denied {
        return None;
    }
    let resource = message.split("on resource: ").nth(1)?.split_whitespace().next()?;
    let arn = Arn::parse(resource)?;
    let name = parameter_name(&arn)?;
    let bare = |n: &str| n.trim_start_matches('/').to_string();
    batch.iter().find(|w| w.name == resource || bare(&w.name) == bare(&name)).map(|w| w.full.clone())
}

/// Problems that differ in nothing but their objects become one.
fn together(problems: Vec<Problem>) -> Vec<Problem> {
    let mut all: Vec<Problem> = Vec::new();
    for p in problems {
        let reason = |p: &Problem| p.cause.as_ref().map(|c| c.reason);
        let same = all.iter_mut().find(|a| reason(a).is_some() && reason(a) == reason(&p) && a.what == p.what);
        match same {
            Some(a) => {
                let missing = reason(&p) == Some(Reason::NotFound);
                a.objects.extend(p.objects);
                if missing {
                    a.cause = Some(cause::not_found(&a.objects));
                }
            }
            None => all.push(p),
        }
    }
    all
}

fn decoded(encoding: Encoding, contents: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, String> {
    match encoding {
        Encoding::Plain => Ok(contents),
        Encoding::Hex => {
            hex::decode(contents.trim_ascii()).map(Zeroizing::new).map_err(|_| "it is not written in hex".into())
        }
        Encoding::Base64 => {
            let mut text = Zeroizing::new(Vec::with_capacity(contents.len()));
            text.extend(contents.iter().filter(|b| !b.is_ascii_whitespace() && **b != b'='));
            let bytes = STANDARD_NO_PAD.decode(&*text).map(Zeroizing::new);
            bytes.map_err(|_| "it is not written in base64".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::yaml;

    fn objects(names: &[&str]) -> Vec<Descriptor> {
        let text: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(n, name)| {
                let (name, version) = name.split_once(':').unwrap_or((name, ""));
                format!("- {{objectName: {name}, objectType: ssmparameter, objectAlias: f{n}, objectVersion: '{version}'}}\n")
            })
            .collect();
        let mut v = yaml::parse_strict("{region: us-west-2}").unwrap();
        v.make_map().unwrap().insert("objects", text.concat());
        Class::parse(&v).unwrap().objects
    }

    fn grouped(names: &[&str]) -> Vec<Vec<String>> {
        let objects = objects(names);
        let all: Vec<(usize, &Descriptor)> = objects.iter().enumerate().collect();
        batches(&all, false).iter().map(|b| b.iter().map(|w| w.full.clone()).collect()).collect()
    }

    #[test]
    fn ten_are_asked_for_at_once_and_no_name_twice() {
        let names: Vec<String> = (0..23).map(|n| format!("p{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(grouped(&names).iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 3]);
        assert_eq!(grouped(&["a", "a", "b"]), [vec!["a", "b"]], "one request serves both");
        assert_eq!(grouped(&["a:1", "a:2", "b", "a"]), [vec!["a:1"], vec!["a:2", "b"], vec!["a"]]);
        let many: Vec<String> = (0..10_000).map(|n| format!("p{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(grouped(&many).len(), 1000);
    }

    #[test]
    fn the_denied_parameter_of_a_batch_is_named() {
        let batch = [("/a/b", "/a/b"), ("plain", "plain:3")].map(|(name, full)| Wanted {
            name: name.into(),
            full: full.into(),
            users: Vec::new(),
        });
        let e = |resource: &str| AwsError::Service {
            service: "ssm",
            operation: "GetParameters".into(),
            code: "AccessDeniedException".into(),
            message: format!(
                "User: u is not authorized to perform: ssm:GetParameters on resource: {resource} because …"
            ),
            status: 400,
            request_id: String::new(),
        };
        let of = |resource: &str| denied(&e(resource), &batch);
        assert_eq!(of("arn:aws:ssm:us-west-2:1:parameter/a/b").as_deref(), Some("/a/b"));
        assert_eq!(of("arn:aws:ssm:us-west-2:1:parameter/plain").as_deref(), Some("plain:3"));
        assert_eq!(of("arn:aws:ssm:us-west-2:1:parameter/c"), None);
    }

    #[test]
    fn values_are_decoded() {
        let of = |encoding, text: &str| decoded(encoding, Zeroizing::new(text.as_bytes().to_vec())).map(|v| v.to_vec());
        assert_eq!(of(Encoding::Base64, "aGk=\n").unwrap(), b"hi");
        assert_eq!(of(Encoding::Base64, "aG\nk").unwrap(), b"hi");
        assert_eq!(of(Encoding::Hex, "6869\n").unwrap(), b"hi");
        assert_eq!(of(Encoding::Plain, " x").unwrap(), b" x");
        assert!(of(Encoding::Hex, "geheim").is_err_and(|e| !e.contains("geheim")));
        assert!(of(Encoding::Base64, "!").is_err());
    }
}
