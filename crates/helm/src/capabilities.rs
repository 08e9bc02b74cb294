//! `.Capabilities`: the Kubernetes version and the API versions a chart is rendered for.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use druse_gotemplate::{Env, FuncError, GoObject, Val};
use druse_object::{Map, Str, Value};

use crate::error::HelmError;

/// The Helm version charts see (`.Capabilities.HelmVersion`).
pub const HELM_VERSION: &str = "v4.3.1";
const HELM_COMMIT: &str = "c0d08d0d6d9424d4a14febb5e8a3e51b0dd00dff";
const HELM_GO: &str = "go1.27.2";
const HELM_KUBE_CLIENT: &str = "v1.37";

static DEFAULT_API_VERSIONS: LazyLock<Arc<ApiVersions>> =
    LazyLock::new(|| Arc::new(ApiVersions::new(lines(include_str!("../data/api-versions.txt")))));

/// The lines of a data file without comments and blanks.
pub(crate) fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'))
}

/// A Kubernetes version as charts see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeVersion {
    /// In full, with a `v` (`v1.33.4-gke.1245000`).
    pub version: String,
    /// What constraints are checked against (`v1.33.4`).
    pub normalized: String,
    /// `1`
    pub major: String,
    /// `33`
    pub minor: String,
}

impl KubeVersion {
    /// Reads a version such as `1.33`, `v1.33.4` or `v1.33.4-gke.1`.
    ///
    /// # Errors
    /// When the text is not a version with at least two numbers.
    pub fn parse(text: &str) -> Result<Self, HelmError> {
        let fail = |m: String| Err(HelmError::Name(format!("invalid kube version '{text}': {m}")));
        let rest = text.trim_start();
        let rest = rest.strip_prefix('v').unwrap_or(rest);
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let numbers = rest.get(..end).unwrap_or("").trim_end_matches('.');
        if numbers.is_empty() {
            return fail(format!("could not parse {text:?} as version"));
        }
        let parts: Option<Vec<u64>> = numbers.split('.').map(|p| p.parse().ok()).collect();
        let Some([major, minor, ..]) = parts.as_deref() else {
            return fail(format!("illegal version string {text:?}"));
        };
        Ok(Self {
            version: if text.starts_with('v') { text.into() } else { format!("v{text}") },
            normalized: format!("v{}", parts.iter().flatten().map(u64::to_string).collect::<Vec<_>>().join(".")),
            major: major.to_string(),
            minor: minor.to_string(),
        })
    }
}

impl Default for KubeVersion {
    /// That of `helm template`: the Kubernetes version Helm was built against.
    fn default() -> Self {
        Self { version: "v1.37.0".into(), normalized: "v1.37.0".into(), major: "1".into(), minor: "37".into() }
    }
}

/// A set of API versions: `group/version`, and `group/version/Kind` where kinds are known.
#[derive(Clone, Debug, Default)]
pub struct ApiVersions {
    list: Vec<Arc<str>>,
    set: HashSet<Arc<str>>,
}

impl ApiVersions {
    /// From entries, in order; repeated ones are kept once.
    pub fn new<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Self {
        let mut out = Self::default();
        out.extend(entries);
        out
    }

    /// Adds entries that are not there yet.
    pub fn extend<S: AsRef<str>>(&mut self, entries: impl IntoIterator<Item = S>) {
        for e in entries {
            let e: Arc<str> = Arc::from(e.as_ref());
            if self.set.insert(Arc::clone(&e)) {
                self.list.push(e);
            }
        }
    }

    /// Whether an API version (or a kind of it) is served.
    #[must_use]
    pub fn has(&self, entry: &str) -> bool {
        self.set.contains(entry)
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(AsRef::as_ref)
    }
}

/// What a chart is rendered for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// The Kubernetes version.
    pub kube_version: KubeVersion,
    /// The API versions.
    pub api_versions: Arc<ApiVersions>,
}

impl Default for Capabilities {
    /// Those of `helm template` without flags.
    fn default() -> Self {
        Self { kube_version: KubeVersion::default(), api_versions: Arc::clone(&DEFAULT_API_VERSIONS) }
    }
}

impl Capabilities {
    /// These with more API versions, as `--api-versions` adds them.
    #[must_use]
    pub fn with_api_versions<S: AsRef<str>>(mut self, more: impl IntoIterator<Item = S>) -> Self {
        Arc::make_mut(&mut self.api_versions).extend(more);
        self
    }
}

/// The API versions templates asked for, with what they were told.
pub(crate) type Asked = Rc<RefCell<BTreeSet<String>>>;

pub(crate) fn capabilities_object(c: &Capabilities, asked: &Asked) -> Val {
    Val::Object(Rc::new(CapabilitiesObject { inner: c.clone(), asked: Rc::clone(asked) }))
}

struct CapabilitiesObject {
    inner: Capabilities,
    asked: Asked,
}

fn build_info() -> Value {
    Value::Map(
        [
            ("version", HELM_VERSION),
            ("git_commit", HELM_COMMIT),
            ("git_tree_state", "clean"),
            ("go_version", HELM_GO),
            ("kube_client_version", HELM_KUBE_CLIENT),
        ]
        .into_iter()
        .collect(),
    )
}

impl GoObject for CapabilitiesObject {
    fn type_name(&self) -> &str {
        "*common.Capabilities"
    }
    fn kind(&self) -> &str {
        "ptr"
    }
    fn field(&self, name: &str, _env: &mut Env<'_>) -> Option<Result<Val, FuncError>> {
        Some(Ok(match name {
            "KubeVersion" => Val::Object(Rc::new(KubeVersionObject(self.inner.kube_version.clone()))),
            "APIVersions" => Val::Object(Rc::new(ApiVersionsObject {
                inner: Arc::clone(&self.inner.api_versions),
                asked: Rc::clone(&self.asked),
            })),
            "HelmVersion" => Val::Object(Rc::new(HelmVersionObject)),
            _ => return None,
        }))
    }
    fn display(&self) -> String {
        format!(
            "&{{{} {} {}}}",
            kube_display(&self.inner.kube_version),
            api_display(&self.inner.api_versions),
            helm_display()
        )
    }
    fn to_value(&self) -> Value {
        let mut m = Map::new();
        m.insert("KubeVersion", kube_value(&self.inner.kube_version));
        m.insert("APIVersions", self.inner.api_versions.iter().collect::<Value>());
        m.insert("HelmVersion", build_info());
        Value::Map(m)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn kube_value(k: &KubeVersion) -> Value {
    Value::Map([("Version", &k.version), ("Major", &k.major), ("Minor", &k.minor)].into_iter().collect())
}

fn kube_display(k: &KubeVersion) -> String {
    format!("{{{} {} {} {}}}", k.version, k.normalized, k.major, k.minor)
}

fn api_display(v: &ApiVersions) -> String {
    format!("[{}]", v.iter().collect::<Vec<_>>().join(" "))
}

fn helm_display() -> String {
    format!("{{{HELM_VERSION} {HELM_COMMIT} clean {HELM_GO} {HELM_KUBE_CLIENT}}}")
}

struct KubeVersionObject(KubeVersion);

impl GoObject for KubeVersionObject {
    fn type_name(&self) -> &str {
        "common.KubeVersion"
    }
    fn field(&self, name: &str, _env: &mut Env<'_>) -> Option<Result<Val, FuncError>> {
        Some(Ok(Val::str(match name {
            "Version" | "GitVersion" => &self.0.version,
            "String" => &self.0.normalized,
            "Major" => &self.0.major,
            "Minor" => &self.0.minor,
            _ => return None,
        })))
    }
    /// Go's `String` method.
    fn display(&self) -> String {
        self.0.normalized.clone()
    }
    fn to_value(&self) -> Value {
        kube_value(&self.0)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct HelmVersionObject;

impl GoObject for HelmVersionObject {
    fn type_name(&self) -> &str {
        "version.BuildInfo"
    }
    fn field(&self, name: &str, _env: &mut Env<'_>) -> Option<Result<Val, FuncError>> {
        Some(Ok(Val::str(match name {
            "Version" => HELM_VERSION,
            "GitCommit" => HELM_COMMIT,
            "GitTreeState" => "clean",
            "GoVersion" => HELM_GO,
            "KubeClientVersion" => HELM_KUBE_CLIENT,
            _ => return None,
        })))
    }
    fn display(&self) -> String {
        helm_display()
    }
    fn to_value(&self) -> Value {
        build_info()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct ApiVersionsObject {
    inner: Arc<ApiVersions>,
    asked: Asked,
}

impl GoObject for ApiVersionsObject {
    fn type_name(&self) -> &str {
        "common.VersionSet"
    }
    fn kind(&self) -> &str {
        "slice"
    }
    fn field(&self, name: &str, _env: &mut Env<'_>) -> Option<Result<Val, FuncError>> {
        (name == "Has").then(|| Err(FuncError::new("wrong number of args for Has: want 1 got 0")))
    }
    fn call(&self, name: &str, args: &[Val], env: &mut Env<'_>) -> Option<Result<Val, FuncError>> {
        match (name, args) {
            ("Has", [Val::Str(s)]) => {
                self.asked.borrow_mut().insert(s.to_string());
                Some(Ok(Val::Bool(self.inner.has(s))))
            }
            ("Has", [_]) => Some(Err(FuncError::new("wrong type for value; expected string"))),
            ("Has", []) => self.field(name, env),
            ("Has", more) => {
                Some(Err(FuncError::new(format!("wrong number of args for Has: want 1 got {}", more.len()))))
            }
            _ => None,
        }
    }
    fn entries(&self) -> Option<Vec<(Str, Val)>> {
        self.asked.borrow_mut().insert("*".into());
        Some(self.inner.iter().map(|v| (Str::default(), Val::str(v))).collect())
    }
    fn display(&self) -> String {
        // The whole list was looked at: any change to it may change the output.
        self.asked.borrow_mut().insert("*".into());
        api_display(&self.inner)
    }
    fn to_value(&self) -> Value {
        self.asked.borrow_mut().insert("*".into());
        self.inner.iter().collect()
    }
    fn truth(&self) -> bool {
        !self.inner.list.is_empty()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kube_versions_are_read_as_helm_reads_them() {
        let v = KubeVersion::parse("1.33.4-gke.1245000").expect("is a version");
        assert_eq!((v.version.as_str(), v.normalized.as_str()), ("v1.33.4-gke.1245000", "v1.33.4"));
        assert_eq!((v.major.as_str(), v.minor.as_str()), ("1", "33"));
        assert!(KubeVersion::parse("abc").is_err() && KubeVersion::parse("1").is_err());
    }

    #[test]
    fn the_default_set_is_helms() {
        let c = Capabilities::default();
        assert!(c.api_versions.has("policy/v1") && !c.api_versions.has("monitoring.coreos.com/v1"));
        let more = c.clone().with_api_versions(["monitoring.coreos.com/v1"]);
        assert!(more.api_versions.has("monitoring.coreos.com/v1") && !c.api_versions.has("monitoring.coreos.com/v1"));
    }
}
