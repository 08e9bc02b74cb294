//! Names, labels and keys, with the words upstream refuses them in (`k8s.io/apimachinery/pkg/util/validation`).

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const UNDERSCORED: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const LABEL1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// How an object's name is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// Labels joined by dots, at most 253 bytes: most kinds.
    Subdomain,
    /// One label, at most 63 bytes: namespaces.
    Label,
    /// One label that starts with a letter: services.
    Label1035,
    /// One path segment: roles and bindings.
    PathSegment,
}

/// What upstream says of labels that are too long.
fn max_bytes(n: usize) -> String {
    format!("must be no more than {n} bytes")
}

/// What upstream says of names that are too long.
fn max_characters(n: usize) -> String {
    format!("must be no more than {n} characters")
}

fn all(s: &str, ok: impl Fn(u8) -> bool) -> bool {
    s.bytes().all(ok)
}

/// Whether this is one label of a DNS name, of any length.
pub(crate) fn is_label_shaped(s: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !s.is_empty()
        && all(s, |b| alnum(b) || b == b'-')
        && s.bytes().next().is_some_and(alnum)
        && s.bytes().last().is_some_and(alnum)
}

fn qualified_shape(s: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_alphanumeric();
    !s.is_empty()
        && all(s, |b| alnum(b) || b"-_.".contains(&b))
        && s.bytes().next().is_some_and(alnum)
        && s.bytes().last().is_some_and(alnum)
}

/// What is wrong with an RFC 1123 label.
#[must_use]
pub fn is_dns1123_label(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > 63 {
        out.push(max_characters(63));
    }
    if !is_label_shaped(s) {
        let dots = s.split('.').all(is_label_shaped);
        out.push(if dots && !s.is_empty() { "must not contain dots".into() } else { LABEL.into() });
    }
    out
}

/// What is wrong with an RFC 1123 subdomain.
#[must_use]
pub fn is_dns1123_subdomain(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > 253 {
        out.push(max_characters(253));
    }
    if !s.split('.').all(is_label_shaped) {
        out.push(SUBDOMAIN.into());
    }
    out
}

/// What is wrong with an RFC 1123 subdomain in which `_` may stand for a letter.
pub(crate) fn is_dns1123_subdomain_with_underscore(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > 253 {
        out.push(max_characters(253));
    }
    let fits = |label: &str| {
        let l = label.strip_prefix('_').unwrap_or(label);
        !l.starts_with('_') && !l.ends_with('_') && is_label_shaped(&l.replace('_', "a"))
    };
    if !s.split('.').all(fits) {
        out.push(UNDERSCORED.into());
    }
    out
}

/// What is wrong with a DNS-1035 label.
pub(crate) fn is_dns1035_label(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > 63 {
        out.push(max_characters(63));
    }
    if !(is_label_shaped(s) && s.bytes().next().is_some_and(|b| b.is_ascii_lowercase())) {
        out.push(LABEL1035.into());
    }
    out
}

/// What is wrong with a name that may have a `prefix/`: label keys, finalizers.
#[must_use]
pub fn is_qualified_name(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    let parts: Vec<&str> = s.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".into());
            } else {
                out.extend(is_dns1123_subdomain(prefix).into_iter().map(|m| format!("prefix part {m}")));
            }
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        out.push(format!("name part {}", max_bytes(63)));
    }
    if !qualified_shape(name) {
        out.push(format!("name part {QUALIFIED}"));
    }
    out
}

/// What is wrong with a label's value.
#[must_use]
pub fn label_value_errors(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > 63 {
        out.push(max_bytes(63));
    }
    if !s.is_empty() && !qualified_shape(s) {
        out.push(LABEL_VALUE.into());
    }
    out
}

/// What is wrong with a key of a ConfigMap or Secret.
pub(crate) fn config_key_errors(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > 253 {
        out.push(max_characters(253));
    }
    if s.is_empty() || !all(s, |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        out.push(CONFIG_KEY.into());
    }
    match s {
        "." => out.push("must not be '.'".into()),
        ".." => out.push("must not be '..'".into()),
        _ if s.starts_with("..") => out.push("must not start with '..'".into()),
        _ => {}
    }
    out
}

/// What is wrong with the name of an environment variable.
pub(crate) fn env_name_errors(s: &str) -> Vec<String> {
    let printable = |b: u8| (0x20..0x7f).contains(&b) && b != b'=';
    if s.is_empty() || all(s, printable) {
        Vec::new()
    } else {
        vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".into()]
    }
}

/// What is wrong with a port's name.
pub(crate) fn port_name_errors(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > 15 {
        out.push("must be no more than 15 characters".into());
    }
    if !all(s, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !s.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".into());
    }
    if s.contains("--") {
        out.push("must not contain consecutive hyphens".into());
    }
    if s.starts_with('-') || s.ends_with('-') {
        out.push("must not begin or end with a hyphen".into());
    }
    out
}

impl NameRule {
    /// What is wrong with a name; a prefix (of `generateName`) may end with a dash.
    #[must_use]
    pub fn errors(self, name: &str, prefix: bool) -> Vec<String> {
        let masked;
        let name = if prefix && name.len() > 1 && name.ends_with('-') {
            masked = format!("{}a", name.get(..name.len() - 2).unwrap_or_default());
            masked.as_str()
        } else {
            name
        };
        match self {
            NameRule::Subdomain => is_dns1123_subdomain(name),
            NameRule::Label => is_dns1123_label(name),
            NameRule::Label1035 => is_dns1035_label(name),
            NameRule::PathSegment => {
                let mut out = Vec::new();
                if !prefix && (name == "." || name == "..") {
                    out.push(format!("may not be '{name}'"));
                }
                for bad in ["/", "%"] {
                    if name.contains(bad) {
                        out.push(format!("may not contain '{bad}'"));
                    }
                }
                out
            }
        }
    }
}
