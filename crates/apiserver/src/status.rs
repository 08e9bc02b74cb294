//! The API's error answers: `Status` objects with the codes, reasons, messages and details of the upstream server
//! (`k8s.io/apimachinery/pkg/api/errors`).

use druse_object::{Map, Value};

use crate::field::FieldError;

/// A `Status` answer, failure or success.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// The HTTP code.
    pub code: u16,
    /// `NotFound`, `Invalid`, …; empty when upstream gives none.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// `details`, when there are any.
    pub details: Option<Map>,
    /// Answer this text as it is instead of a `Status` (upstream does for paths no group serves).
    pub plain: bool,
    /// The whole object, when somebody else has worded it (a webhook).
    pub whole: Option<Box<Value>>,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Status {}

/// How a resource is named in errors: group and plural (or kind), and the object's name.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The API group; empty for core.
    pub group: &'a str,
    /// The resource (`configmaps`) or, where upstream does so, the kind.
    pub resource: &'a str,
    /// The object's name; may be empty.
    pub name: &'a str,
}

impl Named<'_> {
    fn qualified(&self) -> String {
        if self.group.is_empty() { self.resource.to_owned() } else { format!("{}.{}", self.resource, self.group) }
    }

    /// As `details`.
    #[must_use]
    pub fn details(&self) -> Map {
        let mut m = Map::new();
        if !self.name.is_empty() {
            m.insert("name", self.name);
        }
        if !self.group.is_empty() {
            m.insert("group", self.group);
        }
        if !self.resource.is_empty() {
            m.insert("kind", self.resource);
        }
        m
    }
}

impl Status {
    /// A failure with no details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), ..Self::default() }
    }

    /// 404 for an object.
    #[must_use]
    pub fn not_found(n: Named<'_>) -> Self {
        let message = format!("{} \"{}\" not found", n.qualified(), n.name);
        Self { details: Some(n.details()), ..Self::new(404, "NotFound", message) }
    }

    /// 404 for a path inside a served group.
    #[must_use]
    pub fn no_resource() -> Self {
        Self {
            details: Some(Map::new()),
            ..Self::new(404, "NotFound", "the server could not find the requested resource")
        }
    }

    /// 404 in plain text, for a path nothing serves.
    #[must_use]
    pub fn no_path() -> Self {
        Self { plain: true, ..Self::new(404, "NotFound", "404 page not found\n") }
    }

    /// 409 on create.
    #[must_use]
    pub fn already_exists(n: Named<'_>) -> Self {
        let message = format!("{} \"{}\" already exists", n.qualified(), n.name);
        Self { details: Some(n.details()), ..Self::new(409, "AlreadyExists", message) }
    }

    /// 409 on a write that lost against another.
    pub fn conflict(n: Named<'_>, why: impl std::fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{}\": {why}", n.qualified(), n.name);
        Self { details: Some(n.details()), ..Self::new(409, "Conflict", message) }
    }

    /// 409: the object changed since the client read it.
    #[must_use]
    pub fn modified(n: Named<'_>) -> Self {
        Self::conflict(n, "the object has been modified; please apply your changes to the latest version and try again")
    }

    /// 403.
    pub fn forbidden(n: Named<'_>, why: impl std::fmt::Display) -> Self {
        let message = if n.name.is_empty() {
            format!("{} is forbidden: {why}", n.qualified())
        } else {
            format!("{} \"{}\" is forbidden: {why}", n.qualified(), n.name)
        };
        Self { details: Some(n.details()), ..Self::new(403, "Forbidden", message) }
    }

    /// 401.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 405 for a verb the resource does not have.
    #[must_use]
    pub fn method_not_supported() -> Self {
        Self {
            details: Some(Map::new()),
            ..Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        }
    }

    /// 415.
    #[must_use]
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 406.
    #[must_use]
    pub fn not_acceptable(accepted: &str) -> Self {
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {accepted}"))
    }

    /// 410: the resource version asked for is no longer kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 500.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let mut details = Map::new();
        let mut cause = Map::new();
        cause.insert("message", message.to_string());
        details.insert("causes", Value::Array(vec![Value::Map(cause)]));
        Self {
            details: Some(details),
            ..Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
        }
    }

    /// 422 with one cause a field; `kind` is the kind, not the resource.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let n = Named { group, resource: kind, name };
        // Upstream's aggregate names an equal message once, but lists every cause.
        let mut texts: Vec<String> = Vec::with_capacity(errors.len());
        for e in errors {
            let t = e.to_string();
            if !texts.contains(&t) {
                texts.push(t);
            }
        }
        let list = if texts.len() == 1 { texts.join("") } else { format!("[{}]", texts.join(", ")) };
        let causes: Vec<Value> = errors
            .iter()
            .map(|e| {
                let mut m = Map::new();
                m.insert("reason", e.kind.reason());
                m.insert("message", e.message());
                m.insert("field", e.field.as_str());
                Value::Map(m)
            })
            .collect();
        let mut details = n.details();
        details.insert("causes", Value::Array(causes));
        let message = format!("{} \"{name}\" is invalid: {list}", n.qualified());
        Self { details: Some(details), ..Self::new(422, "Invalid", message) }
    }

    /// A list of causes given as (reason, message, field) on top of what is there.
    #[must_use]
    pub fn with_causes(mut self, causes: Vec<Value>) -> Self {
        self.details.get_or_insert_with(Map::new).insert("causes", Value::Array(causes));
        self
    }

    /// The answer to a write whose result is no object: 200 or 201 with `status: Success`.
    #[must_use]
    pub fn success(code: u16, details: Option<Map>) -> Self {
        Self { code, details, ..Self::default() }
    }

    /// The object as it is sent.
    #[must_use]
    pub fn to_value(&self) -> Value {
        if let Some(whole) = &self.whole {
            return (**whole).clone();
        }
        let failure = self.code >= 400;
        let mut m = Map::new();
        m.insert("kind", "Status");
        m.insert("apiVersion", "v1");
        m.insert("metadata", Map::new());
        m.insert("status", if failure { "Failure" } else { "Success" });
        if !self.message.is_empty() {
            m.insert("message", self.message.as_str());
        }
        if !self.reason.is_empty() {
            m.insert("reason", self.reason);
        }
        if let Some(d) = &self.details {
            m.insert("details", d.clone());
        }
        // A deletion's success carries no code.
        if failure || self.code == 201 {
            m.insert("code", i64::from(self.code));
        }
        Value::Map(m)
    }
}
