//! Errors about one field of an object, worded as the upstream API words them (`k8s.io/apimachinery` `field.Error`).

use druse_object::{Value, json};

/// What kind of rule a field breaks; decides the reason and the first words of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldErrorKind {
    /// The value breaks a rule.
    Invalid,
    /// The field must be set.
    Required,
    /// The value is not one of an enumeration.
    NotSupported,
    /// The value occurs twice where it may occur once.
    Duplicate,
    /// What the value names does not exist.
    NotFound,
    /// The field may not be set (or changed) here.
    Forbidden,
    /// Text, or a list, is longer than allowed.
    TooLong,
    /// A list or map has too many entries.
    TooMany,
    /// The value has the wrong type.
    TypeInvalid,
    /// The check itself failed.
    Internal,
}

impl FieldErrorKind {
    /// The `reason` of a status cause.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotFound => "FieldValueNotFound",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    /// The first words of the message.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::Required => "Required value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::NotFound => "Not found",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One field that breaks a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// The path: `spec.ports[0].port`, `data[key]`.
    pub field: String,
    /// Which kind of rule.
    pub kind: FieldErrorKind,
    /// The value at fault; `None` leaves it out of the message (upstream's `omitValue`).
    pub bad_value: Option<Value>,
    /// What is wrong; may be empty.
    pub detail: String,
}

impl FieldError {
    /// An error of any kind.
    pub fn new(
        kind: FieldErrorKind,
        field: impl Into<String>,
        bad_value: Option<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self { field: field.into(), kind, bad_value, detail: detail.into() }
    }

    /// A value that breaks a rule.
    pub fn invalid(field: impl Into<String>, bad_value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, field, Some(bad_value.into()), detail)
    }

    /// A field that must be set.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, field, None, detail)
    }

    /// A field that may not be set or changed here.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, field, None, detail)
    }

    /// A value that occurs twice.
    pub fn duplicate(field: impl Into<String>, bad_value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::Duplicate, field, Some(bad_value.into()), "")
    }

    /// A value outside an enumeration.
    pub fn not_supported(field: impl Into<String>, bad_value: impl Into<Value>, allowed: &[&str]) -> Self {
        let list: Vec<String> = allowed.iter().map(|a| go_quote(a)).collect();
        let detail = if list.is_empty() { String::new() } else { format!("supported values: {}", list.join(", ")) };
        Self::new(FieldErrorKind::NotSupported, field, Some(bad_value.into()), detail)
    }

    /// The message without the field's path: `Invalid value: "x": why`.
    #[must_use]
    pub fn message(&self) -> String {
        use FieldErrorKind as K;
        let mut out = self.kind.title().to_owned();
        let shows_value = !matches!(self.kind, K::Required | K::Forbidden | K::TooLong | K::Internal);
        if let (true, Some(v)) = (shows_value, &self.bad_value) {
            out.push_str(": ");
            match v {
                Value::String(s) => out.push_str(&go_quote(s)),
                other => out.push_str(&json::to_string(other)),
            }
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl std::fmt::Display for FieldError {
    /// `spec.x: Invalid value: …`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message())
    }
}

/// A string as Go's `%q` writes it.
pub use druse_object::go::quote as go_quote;
