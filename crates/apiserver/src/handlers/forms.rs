//! Bodies that are not the resource itself: the forms that subresources take (a `Binding`, an `Eviction`, a
//! `TokenRequest`, a `Scale`), and the options of deletions.

use druse_object::{Gvk, Map, Value};

use super::Call;
use super::call::FieldValidation;
use crate::field::go_quote;
use crate::schema::TypeSchema;
use crate::status::Status;

/// What a value is in JSON, as Go calls it.
pub(super) fn is(v: &Value) -> &'static str {
    if v.as_f64().is_some() { "number" } else { v.kind_name() }
}

/// What Go says of a value that is no object, where a type is looked for.
pub(super) fn no_type(v: &Value) -> String {
    let into = "Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";
    format!("couldn't get version/kind; json parse error: json: cannot unmarshal {} into {into}", is(v))
}

impl Call {
    /// Reads the body as a form; `also` are versions of it that are read alike. The body may say no type.
    ///
    /// # Errors
    /// 400 when it is no such form, or of another namespace.
    pub fn body_as(&self, form: &Gvk, also: &[&str]) -> Result<Value, Status> {
        let mut v = self.body_value(&form.kind)?;
        if v.is_null() {
            v = Value::Map(Map::new());
        }
        if v.as_map().is_none() {
            return Err(self.unrecognized(&form.kind, &no_type(&v)));
        }
        self.check_form(form, also, &mut v)?;
        let schema = self.shared.schema(form)?;
        let unknown = decode_form(&schema, form, &mut v)?;
        let problems = unknown.iter().map(|p| format!("unknown field {}", go_quote(p)));
        match self.field_validation()? {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => self.warnings.lock().extend(problems),
            FieldValidation::Strict if unknown.is_empty() => {}
            FieldValidation::Strict => {
                let all: Vec<String> = problems.collect();
                return Err(refused(
                    form,
                    &form.kind,
                    &form.version,
                    &format!("strict decoding error: {}", all.join(", ")),
                ));
            }
        }
        let given = v.str_at(["metadata", "namespace"]).unwrap_or_default();
        if !given.is_empty() && given != self.info.namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Ok(v)
    }

    fn check_form(&self, form: &Gvk, also: &[&str], v: &mut Value) -> Result<(), Status> {
        let text = |key: &str| v.str_at([key]).filter(|t| !t.is_empty()).map(str::to_owned);
        let kind = text("kind").unwrap_or_else(|| form.kind.to_string());
        let said = text("apiVersion").unwrap_or_else(|| form.api_version());
        let ours = kind == form.kind.as_str() && (said == form.api_version() || also.contains(&said.as_str()));
        if ours {
            if let Some(m) = v.as_map_mut() {
                m.insert("apiVersion", form.api_version());
                m.insert("kind", form.kind.clone());
            }
            return Ok(());
        }
        let gvk = Gvk::from_api_version(&said, &kind);
        let known = self.table.for_kind(&gvk.group, &kind).is_some_and(|r| r.version(&gvk.version).is_some());
        let why = if known {
            let package = if form.group.is_empty() { "core" } else { form.group.split('.').next().unwrap_or_default() };
            format!("converting ({}.{kind}) to ({package}.{}): unknown conversion", gvk.version, form.kind)
        } else {
            format!("no kind \"{kind}\" is registered for version \"{said}\" in scheme \"pkg/runtime/scheme.go:111\"")
        };
        Err(refused(form, &kind, &gvk.version, &why))
    }
}

fn refused(form: &Gvk, kind: &str, version: &str, why: &str) -> Status {
    Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {}: {why}", form.kind))
}

fn decode_form(schema: &TypeSchema, form: &Gvk, v: &mut Value) -> Result<Vec<String>, Status> {
    schema.decode(v).map_err(|e| refused(form, &form.kind, &form.version, &e.to_string()))
}
