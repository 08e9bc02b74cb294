//! The expressions of admission: what they may read, and what they must evaluate to
//! (`k8s.io/apiserver` `pkg/admission/plugin/cel/compile.go`, `composition.go`).

use druse_object::Value;
use druse_object::value::Str;

use crate::cel::{Program, Scope, Type};
use crate::field::{FieldError, FieldErrorKind};

/// What an expression must evaluate to: one of these types, or any when there are none.
pub(super) struct Wanted {
    types: &'static [fn() -> Type],
    /// The space around the expression is no part of it.
    trimmed: bool,
    /// Errors show it as it is written.
    whole: bool,
}

pub(super) const TRUTH: Wanted = Wanted { types: &[|| Type::Bool], trimmed: false, whole: true };
pub(super) const MESSAGE: Wanted = Wanted { types: &[|| Type::Str], trimmed: false, whole: true };
pub(super) const NOTE: Wanted = Wanted { types: &[|| Type::Str, || Type::Null], trimmed: true, whole: true };
pub(super) const OBJECT: Wanted = Wanted { types: &[|| Type::Struct("Object".into())], trimmed: true, whole: false };
pub(super) const PATCH: Wanted =
    Wanted { types: &[|| Type::list(Type::Struct("JSONPatch".into()))], trimmed: true, whole: false };
pub(super) const ANYTHING: Wanted = Wanted { types: &[], trimmed: false, whole: true };

/// The message type of the variables that a policy declares.
const COMPOSED: &str = "kubernetes.variables";
const REQUEST: &str = "kubernetes.AdmissionRequest";
const NAMESPACE: &str = "kubernetes.Namespace";

/// What an expression may read.
#[derive(Clone)]
pub(super) struct Variables(Scope);

impl Variables {
    /// The variables of every expression, and the policy's parameters where it has some.
    pub(super) fn new(params: bool) -> Self {
        let mut scope = Scope::default();
        let mut declare = |name: &str, ty: Type| scope.variables.push((name.into(), ty));
        declare("object", Type::Dyn);
        declare("oldObject", Type::Dyn);
        declare("request", Type::Struct(REQUEST.into()));
        declare("namespaceObject", Type::Struct(NAMESPACE.into()));
        declare("authorizer", Type::Struct("kubernetes.authorization.Authorizer".into()));
        declare("authorizer.requestResource", Type::Struct("kubernetes.authorization.ResourceCheck".into()));
        if params {
            declare("params", Type::Dyn);
        }
        for (name, fields) in structs() {
            let fields = fields.into_iter().map(|(k, t)| (Str::from(k), t)).collect();
            scope.structs.insert(name.into(), fields);
        }
        Self(scope)
    }

    /// With what only patches may use; their policies always have variables.
    pub(super) fn with_patches(mut self) -> Self {
        self.0.patches = true;
        self.compose();
        self
    }

    /// Without what tells about rights.
    pub(super) fn without_authorizer(&self) -> Self {
        let mut out = self.clone();
        out.0.variables.retain(|(name, _)| !name.starts_with("authorizer"));
        out
    }

    fn compose(&mut self) {
        if !self.0.structs.contains_key(COMPOSED) {
            self.0.structs.insert(COMPOSED.into(), std::collections::HashMap::new());
            self.0.variables.push(("variables".into(), Type::Struct(COMPOSED.into())));
        }
    }

    /// Adds a variable of the policy: of no certain type where its expression is wrong.
    pub(super) fn declare(&mut self, name: &str, ty: Option<&Type>) {
        self.compose();
        let ty = ty.map_or(Type::Dyn, composed);
        self.0.structs.entry(COMPOSED.into()).or_default().insert(name.into(), ty);
    }

    /// An expression that must be there, must be readable, and of a type; its type when it is.
    pub(super) fn expression(
        &self,
        v: &Value,
        path: String,
        missing: &str,
        wanted: &Wanted,
        out: &mut Vec<FieldError>,
    ) -> Option<Type> {
        let whole = v.as_str().unwrap_or_default();
        let text = if wanted.trimmed { whole.trim() } else { whole };
        let shown = if wanted.whole { whole } else { text };
        if text.trim().is_empty() {
            out.push(FieldError::required(path, missing));
            return None;
        }
        let ty = match Program::compile(text).and_then(|p| p.check(text, &self.0)) {
            Err(e) => {
                out.push(FieldError::invalid(path, shown, format!("compilation failed: {e}")));
                return None;
            }
            Ok(checked) => checked,
        };
        let (ty, constants) = (ty.output().clone(), ty.constants());
        let types: Vec<Type> = wanted.types.iter().map(|t| t()).collect();
        if !types.is_empty() && !types.contains(&ty) {
            let words: Vec<String> = types.iter().map(Type::long_name).collect();
            let words = match words.as_slice() {
                [one] => one.clone(),
                all => format!("one of [{}]", all.join(" ")),
            };
            out.push(FieldError::invalid(path, shown, format!("must evaluate to {words} but got {}", ty.long_name())));
            return None;
        }
        if let Err(why) = constants {
            let why = format!("program instantiation failed: {why}");
            out.push(FieldError::new(FieldErrorKind::Internal, path, None, why));
            return None;
        }
        Some(ty)
    }
}

/// The type that a variable's readers see: of objects nothing is certain.
fn composed(ty: &Type) -> Type {
    match ty {
        Type::List(of) => Type::list(composed(of)),
        Type::Map(k, v) => Type::map(composed(k), composed(v)),
        Type::Opaque(..) | Type::Struct(_) | Type::Meta(_) => Type::Dyn,
        ty => ty.clone(),
    }
}

type Fields = Vec<(&'static str, Type)>;

/// The objects of the request and its namespace, as far as expressions may read them.
fn structs() -> Vec<(&'static str, Fields)> {
    let text = || Type::Str;
    let texts = || Type::list(Type::Str);
    let object = |name: &str| Type::Struct(name.into());
    let all_text = |names: &[&'static str]| -> Fields { names.iter().map(|n| (*n, Type::Str)).collect() };
    vec![
        ("kubernetes.GroupVersionKind", all_text(&["group", "version", "kind"])),
        ("kubernetes.GroupVersionResource", all_text(&["group", "version", "resource"])),
        (
            "kubernetes.UserInfo",
            vec![("username", text()), ("uid", text()), ("groups", texts()), ("extra", Type::map(text(), texts()))],
        ),
        (
            REQUEST,
            vec![
                ("kind", object("kubernetes.GroupVersionKind")),
                ("resource", object("kubernetes.GroupVersionResource")),
                ("subResource", text()),
                ("requestKind", object("kubernetes.GroupVersionKind")),
                ("requestResource", object("kubernetes.GroupVersionResource")),
                ("requestSubResource", text()),
                ("name", text()),
                ("namespace", text()),
                ("operation", text()),
                ("userInfo", object("kubernetes.UserInfo")),
                ("dryRun", Type::Bool),
                ("options", Type::Dyn),
            ],
        ),
        ("kubernetes.NamespaceSpec", vec![("finalizers", texts())]),
        (
            "kubernetes.NamespaceCondition",
            vec![
                ("status", text()),
                ("type", text()),
                ("lastTransitionTime", Type::Timestamp),
                ("message", text()),
                ("reason", text()),
            ],
        ),
        (
            "kubernetes.NamespaceStatus",
            vec![("conditions", Type::list(object("kubernetes.NamespaceCondition"))), ("phase", text())],
        ),
        (
            "kubernetes.NamespaceMetadata",
            vec![
                ("name", text()),
                ("generateName", text()),
                ("namespace", text()),
                ("labels", Type::map(text(), text())),
                ("annotations", Type::map(text(), text())),
                ("UID", text()),
                ("creationTimestamp", Type::Timestamp),
                ("deletionGracePeriodSeconds", Type::Int),
                ("deletionTimestamp", Type::Timestamp),
                ("generation", Type::Int),
                ("resourceVersion", text()),
                ("finalizers", texts()),
            ],
        ),
        (
            NAMESPACE,
            vec![
                ("metadata", object("kubernetes.NamespaceMetadata")),
                ("spec", object("kubernetes.NamespaceSpec")),
                ("status", object("kubernetes.NamespaceStatus")),
            ],
        ),
    ]
}
