//! A place in an object: a value and the way to it. Rules read the one and name the other in their errors; the way is
//! only put into words when there is something to say.

use druse_object::{Map, Quantity, Value};

use super::names::{is_dns1123_label, is_dns1123_subdomain, is_qualified_name};
use crate::field::{FieldError, FieldErrorKind};

/// What the rules have found so far.
pub(crate) type Errors = Vec<FieldError>;

static NULL: Value = Value::Null;

#[derive(Clone, Copy, Debug)]
enum Step<'p> {
    Key(&'p str),
    Index(usize),
    Entry(&'p str),
}

/// The text of a field; empty where there is none.
pub(super) fn text<'v>(v: &'v Value, key: &str) -> &'v str {
    v[key].as_str().unwrap_or_default()
}

/// The texts in the list of a field.
pub(super) fn words<'v>(v: &'v Value, key: &str) -> Vec<&'v str> {
    v[key].items().iter().filter_map(Value::as_str).collect()
}

/// Each of these is wrong with what stands at a path.
pub(super) fn each(wrong: Vec<String>, path: &str, value: &str, out: &mut Errors) {
    out.extend(wrong.into_iter().map(|why| FieldError::invalid(path, value, why)));
}

/// A value and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'v, 'p> {
    value: &'v Value,
    parent: Option<&'p At<'v, 'p>>,
    step: Step<'p>,
}

impl<'v, 'p> At<'v, 'p> {
    /// Where a walk begins: a value at a path that is known already (empty at the top of an object).
    pub(crate) fn new(value: &'v Value, path: &'p str) -> Self {
        Self { value, parent: None, step: Step::Key(path) }
    }

    /// The path: `spec.ports[0].port`, `data[key]`.
    pub(crate) fn path(&self) -> String {
        let mut out = self.parent.map(At::path).unwrap_or_default();
        match self.step {
            Step::Key(key) => {
                if !out.is_empty() && !key.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
            Step::Index(i) => out.push_str(&format!("[{i}]")),
            Step::Entry(key) => out.push_str(&format!("[{key}]")),
        }
        out
    }

    /// The value; null where there is none.
    pub(crate) fn value(&self) -> &'v Value {
        self.value
    }

    /// A field, given or not.
    pub(crate) fn child<'b>(&'b self, key: &'b str) -> At<'v, 'b> {
        At { value: self.value.get(key).unwrap_or(&NULL), parent: Some(self), step: Step::Key(key) }
    }

    /// A field when it is given.
    pub(crate) fn get<'b>(&'b self, key: &'b str) -> Option<At<'v, 'b>> {
        Some(self.child(key)).filter(At::is_given)
    }

    /// This value under a field's name: some messages name a place by another word than the field's.
    pub(crate) fn as_if<'b>(&'b self, key: &'b str) -> At<'v, 'b> {
        At { value: self.value, parent: Some(self), step: Step::Key(key) }
    }

    /// A field of this under another name.
    pub(crate) fn child_as<'b>(&'b self, key: &str, name: &'b str) -> At<'v, 'b> {
        At { value: self.value.get(key).unwrap_or(&NULL), parent: Some(self), step: Step::Key(name) }
    }

    /// A field of one of this list's items, named as if the list had it: some messages leave the index out.
    pub(crate) fn child_of<'b>(&'b self, item: &'v Value, key: &'b str) -> At<'v, 'b> {
        At { value: item.get(key).unwrap_or(&NULL), parent: Some(self), step: Step::Key(key) }
    }

    /// The entry of a map, given or not.
    pub(crate) fn entry<'b>(&'b self, key: &'b str) -> At<'v, 'b> {
        At { value: self.value.get(key).unwrap_or(&NULL), parent: Some(self), step: Step::Entry(key) }
    }

    /// The items of a list.
    pub(crate) fn items<'b>(&'b self) -> impl ExactSizeIterator<Item = At<'v, 'b>> + 'b {
        let each = move |(i, value)| At { value, parent: Some(self), step: Step::Index(i) };
        self.value.items().iter().enumerate().map(each)
    }

    /// The entries of a map.
    pub(crate) fn entries<'b>(&'b self) -> impl Iterator<Item = (&'v str, At<'v, 'b>)> + 'b
    where
        'v: 'b,
    {
        let map = self.value.as_map().into_iter().flat_map(Map::iter);
        map.map(move |(k, value)| (k.as_str(), At { value, parent: Some(self), step: Step::Entry(k.as_str()) }))
    }

    /// How many items or entries this has.
    pub(crate) fn len(&self) -> usize {
        self.value.as_map().map_or_else(|| self.value.items().len(), Map::len)
    }

    /// Whether this is set at all.
    pub(crate) fn is_given(&self) -> bool {
        !self.value.is_null()
    }

    /// The text; empty where there is none.
    pub(crate) fn text(&self) -> &'v str {
        self.value.as_str().unwrap_or_default()
    }

    /// The text of a field; empty where there is none.
    pub(crate) fn text_of(&self, key: &str) -> &'v str {
        text(self.value, key)
    }

    /// The whole number, when this is one.
    pub(crate) fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// The whole number of a field, 0 where there is none.
    pub(crate) fn int_of(&self, key: &str) -> i64 {
        self.value.get(key).and_then(Value::as_i64).unwrap_or(0)
    }

    /// Whether a field is `true`.
    pub(crate) fn is(&self, key: &str) -> bool {
        self.value.get(key).and_then(Value::as_bool) == Some(true)
    }

    /// The amount, when this is one.
    pub(crate) fn quantity(&self) -> Option<Quantity> {
        Quantity::of(self.value)
    }

    /// This value breaks a rule.
    pub(crate) fn invalid(&self, detail: impl Into<String>, out: &mut Errors) {
        self.bad(self.value.clone(), detail, out);
    }

    /// Another value breaks a rule here: where the message shows something else than the field, or its zero.
    pub(crate) fn bad(&self, value: impl Into<Value>, detail: impl Into<String>, out: &mut Errors) {
        out.push(FieldError::invalid(self.path(), value, detail));
    }

    /// A rule is broken here, and the message shows no value.
    pub(crate) fn wrong(&self, detail: &str, out: &mut Errors) {
        out.push(FieldError::new(FieldErrorKind::Invalid, self.path(), None, detail));
    }

    /// This must be set.
    pub(crate) fn required(&self, detail: impl Into<String>, out: &mut Errors) {
        out.push(FieldError::required(self.path(), detail));
    }

    /// This may not be set, or changed, here.
    pub(crate) fn forbidden(&self, detail: impl Into<String>, out: &mut Errors) {
        out.push(FieldError::forbidden(self.path(), detail));
    }

    /// This is outside an enumeration.
    pub(crate) fn unsupported(&self, allowed: &[&str], out: &mut Errors) {
        out.push(FieldError::not_supported(self.path(), self.shown(), allowed));
    }

    /// A value that is there already.
    pub(crate) fn duplicate(&self, value: impl Into<Value>, out: &mut Errors) {
        out.push(FieldError::duplicate(self.path(), value));
    }

    /// Nothing has this name.
    pub(crate) fn not_found(&self, detail: impl Into<String>, out: &mut Errors) {
        out.push(FieldError::new(FieldErrorKind::NotFound, self.path(), Some(self.shown()), detail));
    }

    /// The text or list is longer than allowed.
    pub(crate) fn too_long(&self, bytes: usize, out: &mut Errors) {
        let detail = format!("may not be more than {bytes} bytes");
        out.push(FieldError::new(FieldErrorKind::TooLong, self.path(), None, detail));
    }

    /// A list has too many items.
    pub(crate) fn too_many(&self, most: usize, out: &mut Errors) {
        let detail = format!("must have at most {most} items");
        let count = i64::try_from(self.len()).unwrap_or(i64::MAX);
        out.push(FieldError::new(FieldErrorKind::TooMany, self.path(), Some(Value::Int(count)), detail));
    }

    /// The value as messages show it: text that is not set is empty text.
    fn shown(&self) -> Value {
        if self.value.is_null() { Value::from("") } else { self.value.clone() }
    }

    /// Each of these is wrong with the text here.
    pub(crate) fn each(&self, wrong: Vec<String>, out: &mut Errors) {
        self.each_of(self.text(), wrong, out);
    }

    /// Each of these is wrong with a part of what stands here.
    pub(crate) fn each_of(&self, part: &str, wrong: Vec<String>, out: &mut Errors) {
        if !wrong.is_empty() {
            each(wrong, &self.path(), part, out);
        }
    }

    /// Requires text or a list, `false` when it is missing.
    pub(crate) fn need(&self, out: &mut Errors) -> bool {
        let missing = match self.value {
            Value::Array(a) => a.is_empty(),
            v => v.is_null() || v.as_str() == Some(""),
        };
        if missing {
            self.required("", out);
        }
        !missing
    }

    /// The text must be one of these; an empty one is missing.
    pub(crate) fn one_of(&self, allowed: &[&str], out: &mut Errors) {
        if self.need(out) && !allowed.contains(&self.text()) {
            self.unsupported(allowed, out);
        }
    }

    /// The text, when set, must be one of these.
    pub(crate) fn any_of(&self, allowed: &[&str], out: &mut Errors) {
        if self.is_given() && !allowed.contains(&self.text()) {
            self.unsupported(allowed, out);
        }
    }

    /// The text must be a DNS label.
    pub(crate) fn label(&self, out: &mut Errors) {
        self.each(is_dns1123_label(self.text()), out);
    }

    /// The text must be a DNS subdomain.
    pub(crate) fn subdomain(&self, out: &mut Errors) {
        self.each(is_dns1123_subdomain(self.text()), out);
    }

    /// The text must be a name that may have a `prefix/`.
    pub(crate) fn qualified(&self, out: &mut Errors) {
        self.each(is_qualified_name(self.text()), out);
    }

    /// The text must be a path behind a domain: `example.com/path`.
    pub(crate) fn domain_path(&self, out: &mut Errors) {
        const PATH: &str = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        if !self.need(out) {
            return;
        }
        let parts = self.text().split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty());
        let Some((host, path)) = parts else {
            return self.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")", out);
        };
        self.each_of(host, is_dns1123_subdomain(host), out);
        if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
            self.bad(path, PATH, out);
        }
    }

    /// The number, when set, must lie between these.
    pub(crate) fn within(&self, low: i64, high: i64, out: &mut Errors) {
        if self.int().is_some_and(|n| !(low..=high).contains(&n)) {
            self.invalid(format!("must be between {low} and {high}, inclusive"), out);
        }
    }

    /// The number, when set, may not be negative.
    pub(crate) fn nonnegative(&self, out: &mut Errors) {
        if self.int().is_some_and(|n| n < 0) {
            self.invalid("must be greater than or equal to 0", out);
        }
    }

    /// The value may not differ from what it was.
    pub(crate) fn unchanged(&self, old: &Value, out: &mut Errors) {
        if self.value != old {
            self.invalid("field is immutable", out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::json;

    #[test]
    fn errors_name_the_way_to_the_value() {
        let v = json::parse(br#"{"a":{"b":[{"c":"x"}],"m":{"k":-1}}}"#).unwrap();
        let root = At::new(&v, "");
        let a = root.child("a");
        let b = a.child("b");
        let mut out = Vec::new();
        for item in b.items() {
            item.child("c").invalid("no", &mut out);
            item.child("d").need(&mut out);
        }
        a.child("m").entries().for_each(|(_, e)| e.nonnegative(&mut out));
        let said: Vec<String> = out.iter().map(ToString::to_string).collect();
        let wanted = [
            "a.b[0].c: Invalid value: \"x\": no",
            "a.b[0].d: Required value",
            "a.m[k]: Invalid value: -1: must be greater than or equal to 0",
        ];
        assert_eq!(said, wanted);
    }

    #[test]
    fn a_path_behind_a_domain_has_both_and_each_is_judged() {
        let said = |text: &str| {
            let mut out = Vec::new();
            At::new(&Value::from(text), "spec.controller").domain_path(&mut out);
            out.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(said("example.com/a/b").is_empty());
        assert_eq!(said(""), ["spec.controller: Required value"]);
        let bare = "spec.controller: Invalid value: \"bare\": must be a domain-prefixed path (such as \"acme.io/foo\")";
        assert_eq!(said("bare"), [bare]);
        let wrong = "spec.controller: Invalid value: \"a b\": Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        assert_eq!(said("example.com/a b"), [wrong]);
    }
}
