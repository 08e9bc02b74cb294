//! `postBuild`: variables put into the built objects, as text, object by object.
//!
//! Source of behaviour: `SubstituteVariables` of fluxcd/pkg/kustomize.

use std::collections::BTreeMap;

use druse_object::{Object, Value, yaml};

use crate::api::{KUSTOMIZE_GROUP, PostBuild};
use crate::config::{ANY_ENTRY, ConfigSource, is_placeholder};
use crate::envsubst::{self, Unset};
use crate::error::FluxError;

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// The variables of a `postBuild`, and what was missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// All variables: those of `substituteFrom` in order, then the inline ones over them.
    pub variables: Variables,
    /// Optional sources that do not exist, as `Kind/name`.
    pub skipped: Vec<String>,
    /// Sources with values that are not known here, as `Kind/name`.
    pub placeholders: Vec<String>,
    /// Whether one of the sources may hold variables that are not known here.
    pub open: bool,
}

/// Collects the variables of a `postBuild` in a Kustomization's namespace. Line breaks are taken out of values, as
/// Flux does.
///
/// # Errors
/// When a source that is not optional does not exist, is of another kind, or a name is not one.
pub fn collect(post_build: &PostBuild, namespace: &str, source: &dyn ConfigSource) -> Result<Collected, FluxError> {
    let mut out = Collected::default();
    for reference in &post_build.substitute_from {
        if !matches!(reference.kind.as_str(), "ConfigMap" | "Secret") {
            // Flux passes over kinds it does not know; its API admits only these two.
            return Err(FluxError::ReferenceKind { field: "substituteFrom", kind: reference.kind.to_string() });
        }
        match source.config(&reference.kind, namespace, &reference.name) {
            Some(data) => {
                if data.contains_key(ANY_ENTRY) || data.values().any(|v| is_placeholder(v)) {
                    out.placeholders.push(format!("{}/{}", reference.kind, reference.name));
                }
                out.open |= data.contains_key(ANY_ENTRY);
                for (k, v) in data.into_iter().filter(|(k, _)| k != ANY_ENTRY) {
                    out.variables.insert(k, String::from_utf8_lossy(&v).replace('\n', ""));
                }
            }
            None if reference.optional => out.skipped.push(format!("{}/{}", reference.kind, reference.name)),
            None => {
                return Err(FluxError::ConfigNotFound {
                    field: "substituteFrom",
                    kind: reference.kind.to_string(),
                    namespace: namespace.to_string(),
                    name: reference.name.to_string(),
                });
            }
        }
    }
    for (k, v) in post_build.substitute.iter() {
        let text = match v {
            Value::String(s) => s.to_string(),
            Value::Null => String::new(),
            // The API takes only strings here; what a YAML reader made a number or boolean is meant as its text.
            other => druse_object::json::to_string(other),
        };
        out.variables.insert(k.to_string(), text.replace('\n', ""));
    }
    if let Some(bad) = out.variables.keys().find(|k| !is_name(k)) {
        return Err(FluxError::VarName(bad.clone()));
    }
    Ok(out)
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

/// How variables are substituted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether a variable without value and default is an error; it is in Flux since kustomize-controller 1.9.
    pub strict: bool,
    /// Whether to substitute even when there are no variables (`substituteStrategy: Always`).
    pub always: bool,
    /// Whether variables may come from where they are not known ([`Collected::open`]): placeholders stand for them.
    pub open: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { strict: true, always: false, open: false }
    }
}

/// Whether an object opts out of substitution by label or annotation.
#[must_use]
pub fn is_disabled(object: &Object) -> bool {
    let key = format!("{KUSTOMIZE_GROUP}/substitute");
    object.label(&key) == Some("disabled") || object.annotation(&key) == Some("disabled")
}

/// Substitutes variables in one object: written as YAML, changed as text, read again, so that values may change type.
///
/// # Errors
/// When an expression is malformed, a variable is missing in strict mode, or the result is not YAML.
pub fn substitute(object: &mut Object, variables: &Variables, options: Options) -> Result<(), FluxError> {
    if (variables.is_empty() && !options.always && !options.open) || is_disabled(object) {
        return Ok(());
    }
    let text = yaml::to_string(&object.value);
    // Nothing can change without a dollar sign.
    if !text.contains('$') {
        return Ok(());
    }
    let lookup = |name: &str| variables.get(name).map(String::as_str);
    let unset = match (options.open, options.strict) {
        (true, _) => Unset::Placeholder,
        (false, true) => Unset::Refused,
        (false, false) => Unset::Empty,
    };
    let text = envsubst::substitute(&text, &lookup, unset)
        .map_err(|source| FluxError::Substitution { object: kustomize_name(object), source })?;
    let value = yaml::parse(&text, yaml::Dialect::Sigs)
        .map_err(|e| FluxError::SubstitutedYaml { object: kustomize_name(object), message: e.to_string() })?;
    if value.as_map().is_none() {
        return Err(FluxError::SubstitutedYaml {
            object: kustomize_name(object),
            message: "it is no longer a map".into(),
        });
    }
    object.value = value;
    Ok(())
}

/// An object's kind and name as kustomize writes them: `ConfigMap.v1.[noGrp]/name`.
#[must_use]
pub fn kustomize_name(object: &Object) -> String {
    let gvk = object.gvk();
    let group = if gvk.group.is_empty() { "[noGrp]" } else { &gvk.group };
    format!("{}.{}.{group}/{}", gvk.kind, gvk.version, object.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigData;

    fn post_build(json: &str) -> PostBuild {
        druse_object::json::parse(json.as_bytes()).unwrap().to_typed().unwrap()
    }

    fn config() -> BTreeMap<(String, String, String), ConfigData> {
        let data =
            |v: &str| ConfigData::from([("x".to_string(), v.as_bytes().to_vec()), ("y".into(), b"1\n2".to_vec())]);
        BTreeMap::from([
            (("ConfigMap".into(), "ns".into(), "one".into()), data("one")),
            (("Secret".into(), "ns".into(), "two".into()), data("two")),
        ])
    }

    #[test]
    fn later_sources_beat_earlier_and_inline_beats_all() {
        let from = r#"[{"kind":"ConfigMap","name":"one"},{"kind":"Secret","name":"two"},
            {"kind":"Secret","name":"none","optional":true}]"#;
        let got = collect(&post_build(&format!(r#"{{"substituteFrom":{from}}}"#)), "ns", &config()).unwrap();
        assert_eq!(got.variables["x"], "two");
        assert_eq!(got.variables["y"], "12");
        assert_eq!(got.skipped, ["Secret/none"]);
        let got = collect(
            &post_build(&format!(r#"{{"substitute":{{"x":"inline"}},"substituteFrom":{from}}}"#)),
            "ns",
            &config(),
        )
        .unwrap();
        assert_eq!(got.variables["x"], "inline");
    }

    #[test]
    fn what_a_cluster_makes_gives_placeholders() {
        let mut config = config();
        let made = ConfigData::from([("x".to_string(), b"..PLACEHOLDER_x..".to_vec()), ("*".into(), Vec::new())]);
        config.insert(("Secret".into(), "ns".into(), "made".into()), made);
        let got =
            collect(&post_build(r#"{"substituteFrom":[{"kind":"Secret","name":"made"}]}"#), "ns", &config).unwrap();
        assert_eq!((got.placeholders.as_slice(), got.open), (["Secret/made".to_string()].as_slice(), true));
        let mut o = Object::new(
            druse_object::json::parse(
                br#"{"kind":"X","metadata":{"name":"a"},"a":"${x}","b":"${other}","c":"${d:=1}"}"#,
            )
            .unwrap(),
        );
        substitute(&mut o, &got.variables, Options { open: got.open, ..Options::default() }).unwrap();
        assert_eq!(o.value.str_at(["a"]), Some("..PLACEHOLDER_x.."));
        assert_eq!(o.value.str_at(["b"]), Some("..PLACEHOLDER_other.."));
        assert_eq!(o.value["c"], Value::Int(1));
    }

    #[test]
    fn missing_sources_and_bad_names_are_refused_by_name() {
        let e = collect(&post_build(r#"{"substituteFrom":[{"kind":"Secret","name":"none"}]}"#), "ns", &config());
        assert_eq!(e.unwrap_err().to_string(), "substituteFrom names Secret ns/none, which does not exist");
        let e = collect(&post_build(r#"{"substitute":{"a-b":"1"}}"#), "ns", &config());
        assert_eq!(e.unwrap_err(), FluxError::VarName("a-b".into()));
    }

    #[test]
    fn types_can_change_and_objects_can_opt_out() {
        let object = |labels: &str| {
            Object::new(
                druse_object::json::parse(
                    format!(
                        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"{labels}}},
                        "data":{{"n":"${{n}}","e":"$${{n}}"}}}}"#
                    )
                    .as_bytes(),
                )
                .unwrap(),
            )
        };
        let variables = Variables::from([("n".to_string(), "3".to_string())]);
        let mut o = object("");
        substitute(&mut o, &variables, Options::default()).unwrap();
        assert_eq!(o.value.at(["data", "n"]), Some(&Value::Int(3)));
        assert_eq!(o.value.str_at(["data", "e"]), Some("${n}"));
        let mut o = object(r#","labels":{"kustomize.toolkit.fluxcd.io/substitute":"disabled"}"#);
        substitute(&mut o, &variables, Options::default()).unwrap();
        assert_eq!(o.value.str_at(["data", "n"]), Some("${n}"));
        let mut o = object("");
        substitute(&mut o, &Variables::new(), Options::default()).unwrap();
        assert_eq!(o.value.str_at(["data", "n"]), Some("${n}"));
    }
}
