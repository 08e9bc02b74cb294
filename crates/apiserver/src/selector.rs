//! Label and field selectors, read and worded as `k8s.io/apimachinery` `labels` and `fields` do.

use druse_object::{Str, Value};

use crate::registry::Resource;
use crate::status::Status;
use crate::store::Stored;

/// One requirement on labels.
#[derive(Clone, Debug, PartialEq)]
enum Op {
    Exists,
    Absent,
    In(Vec<Str>),
    NotIn(Vec<Str>),
    Greater(i64),
    Less(i64),
}

/// A label selector; all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSelector(Vec<(Str, Op)>);

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Sign(&'static str),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(w) => w,
            Token::Sign(s) => s,
            Token::End => "",
        }
    }
}

struct Lexer<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    ahead: Option<Token>,
}

impl Lexer<'_> {
    fn read(&mut self) -> Token {
        while self.chars.next_if(|c| matches!(c, ' ' | '\t' | '\r' | '\n')).is_some() {}
        let Some(c) = self.chars.peek().copied() else { return Token::End };
        if matches!(c, '=' | '!' | '(' | ')' | ',' | '<' | '>') {
            self.chars.next();
            let follows = self.chars.peek() == Some(&'=');
            return Token::Sign(match (c, follows) {
                ('=', true) | ('!', true) => {
                    self.chars.next();
                    if c == '=' { "==" } else { "!=" }
                }
                ('=', _) => "=",
                ('!', _) => "!",
                ('(', _) => "(",
                (')', _) => ")",
                (',', _) => ",",
                ('<', _) => "<",
                _ => ">",
            });
        }
        let mut word = String::new();
        while let Some(c) =
            self.chars.next_if(|c| !matches!(c, '=' | '!' | '(' | ')' | ',' | '<' | '>' | ' ' | '\t' | '\r' | '\n'))
        {
            word.push(c);
        }
        Token::Word(word)
    }

    fn peek(&mut self) -> Token {
        let t = match self.ahead.take() {
            Some(t) => t,
            None => self.read(),
        };
        self.ahead = Some(t.clone());
        t
    }

    fn next(&mut self) -> Token {
        match self.ahead.take() {
            Some(t) => t,
            None => self.read(),
        }
    }
}

impl LabelSelector {
    /// Reads `a=b,c in (d,e),!f`.
    ///
    /// # Errors
    /// 400 with the parser's words.
    pub fn parse(text: &str) -> Result<Self, Status> {
        parse_labels(text).map_err(Status::bad_request)
    }

    /// A selector object: `matchLabels` and `matchExpressions`. An absent or empty one matches everything.
    #[must_use]
    pub fn from_object(v: &Value) -> Self {
        let mut out = Vec::new();
        for (k, v) in v.get("matchLabels").and_then(Value::as_map).into_iter().flat_map(|m| m.iter()) {
            out.push((k.clone(), Op::In(vec![v.as_str().unwrap_or_default().into()])));
        }
        for e in v["matchExpressions"].items() {
            let key: Str = e["key"].as_str().unwrap_or_default().into();
            let values = e["values"].items().iter().filter_map(Value::as_str).map(Str::from).collect();
            out.push((
                key,
                match e["operator"].as_str().unwrap_or_default() {
                    "In" => Op::In(values),
                    "NotIn" => Op::NotIn(values),
                    "Exists" => Op::Exists,
                    _ => Op::Absent,
                },
            ));
        }
        Self(out)
    }

    /// Whether it matches everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels match.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|(key, op)| {
            let v = label(key);
            match op {
                Op::Exists => v.is_some(),
                Op::Absent => v.is_none(),
                Op::In(list) => v.is_some_and(|v| list.iter().any(|x| x == v)),
                Op::NotIn(list) => v.is_none_or(|v| !list.iter().any(|x| x == v)),
                Op::Greater(n) => v.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *n),
                Op::Less(n) => v.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *n),
            }
        })
    }
}

fn parse_labels(text: &str) -> Result<LabelSelector, String> {
    let mut lexer = Lexer { chars: text.chars().peekable(), ahead: None };
    let mut out = Vec::new();
    loop {
        match lexer.peek() {
            Token::End => break,
            Token::Word(_) | Token::Sign("!") => {
                out.push(requirement(&mut lexer).map_err(|e| format!("unable to parse requirement: {e}"))?);
                match lexer.next() {
                    Token::End => break,
                    Token::Sign(",") => match lexer.peek() {
                        Token::Word(_) | Token::Sign("!") => {}
                        t => return Err(format!("found '{}', expected: identifier after ','", t.text())),
                    },
                    t => return Err(format!("found '{}', expected: ',' or 'end of string'", t.text())),
                }
            }
            t => return Err(format!("found '{}', expected: !, identifier, or 'end of string'", t.text())),
        }
    }
    Ok(LabelSelector(out))
}

fn requirement(lexer: &mut Lexer<'_>) -> Result<(Str, Op), String> {
    let mut token = lexer.next();
    let absent = token == Token::Sign("!");
    if absent {
        token = lexer.next();
    }
    let Token::Word(key) = token else { return Err(format!("found '{}', expected: identifier", token.text())) };
    if let Some(why) = crate::validate::is_qualified_name(&key).first() {
        let quoted = crate::field::go_quote(&key);
        return Err(format!("<nil>: Invalid value: {quoted}: {why}"));
    }
    let key = Str::from(key);
    if absent {
        return Ok((key, Op::Absent));
    }
    if matches!(lexer.peek(), Token::End | Token::Sign(",")) {
        return Ok((key, Op::Exists));
    }
    let op = lexer.next();
    let value = |lexer: &mut Lexer<'_>| -> Result<Str, String> {
        match lexer.peek() {
            Token::End | Token::Sign(",") => Ok(Str::default()),
            Token::Word(w) => {
                lexer.next();
                Ok(w.into())
            }
            t => Err(format!("found '{}', expected: identifier", t.text())),
        }
    };
    let check = |v: Str| -> Result<Str, String> {
        match crate::validate::label_value_errors(&v).first() {
            Some(why) => Err(format!("values[0][{key}]: Invalid value: {}: {why}", crate::field::go_quote(&v))),
            None => Ok(v),
        }
    };
    let parsed = match &op {
        Token::Sign("=" | "==") => Op::In(vec![check(value(lexer)?)?]),
        Token::Sign("!=") => Op::NotIn(vec![check(value(lexer)?)?]),
        Token::Sign(s @ (">" | "<")) => {
            let text = value(lexer)?;
            let n = text.parse().map_err(|_| {
                format!(
                    "values[0]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                    crate::field::go_quote(&text)
                )
            })?;
            if *s == ">" { Op::Greater(n) } else { Op::Less(n) }
        }
        Token::Word(w) if w == "in" || w == "notin" => {
            let open = lexer.next();
            if open != Token::Sign("(") {
                return Err(format!("found '{}' expected: '('", open.text()));
            }
            let mut list = Vec::new();
            loop {
                match lexer.next() {
                    Token::Word(v) => list.push(check(v.into())?),
                    Token::Sign(",") => {}
                    Token::Sign(")") => break,
                    t => return Err(format!("found '{}', expected: ',', ')' or identifier", t.text())),
                }
            }
            if list.is_empty() {
                list.push(Str::default());
            }
            if w == "in" { Op::In(list) } else { Op::NotIn(list) }
        }
        t => {
            return Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", t.text()));
        }
    };
    Ok((key, parsed))
}

/// A field selector: equality on a few fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSelector(Vec<(Str, bool, Str)>);

/// Fields beyond name and namespace that built-in types can be selected by.
const FIELDS: &[(&str, &[&str])] = &[
    (
        "pods",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
    ),
    ("nodes", &["spec.unschedulable"]),
    ("namespaces", &["status.phase"]),
    ("secrets", &["type"]),
    ("services", &["spec.clusterIP", "spec.type"]),
    ("replicationcontrollers", &["status.replicas"]),
    ("jobs.batch", &["status.successful"]),
    ("certificatesigningrequests.certificates.k8s.io", &["spec.signerName"]),
    ("resourceslices.resource.k8s.io", &["spec.nodeName", "spec.driver"]),
    (
        "events",
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
    ),
];

/// The terms of a field selector: field, whether it shall be equal, and the value as written.
///
/// # Errors
/// 400 when it is malformed.
pub fn field_terms(text: &str) -> Result<Vec<(&str, bool, &str)>, Status> {
    split_terms(text)
        .into_iter()
        .map(|term| match (term.split_once("!="), term.split_once("=="), term.split_once('=')) {
            (Some((k, v)), _, _) => Ok((k, false, v)),
            (_, Some((k, v)), _) | (_, _, Some((k, v))) => Ok((k, true, v)),
            _ => Err(Status::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'"))),
        })
        .collect()
}

impl FieldSelector {
    /// Reads `metadata.name=a,status.phase!=Running` for a type.
    ///
    /// # Errors
    /// 400 when it is malformed or names a field the type cannot be selected by.
    pub fn parse(text: &str, resource: &Resource, version: &str) -> Result<Self, Status> {
        let mut out = Vec::new();
        for (key, equal, value) in field_terms(text)? {
            // A term about no field is none.
            if key.is_empty() && value.is_empty() {
                continue;
            }
            let known = FIELDS.iter().find(|(r, _)| *r == resource.stored_as).map(|(_, f)| *f);
            // The newer events group names the same fields differently.
            let key: Str = match (resource.group.as_str(), key.strip_prefix("regarding.")) {
                ("events.k8s.io", Some(rest)) => format!("involvedObject.{rest}").into(),
                ("events.k8s.io", None) if key == "reportingController" => "reportingComponent".into(),
                _ => key.into(),
            };
            let selectable = resource.version(version).map(|v| v.selectable.as_slice()).unwrap_or_default();
            let ok = key == "metadata.name"
                || (key == "metadata.namespace" && (resource.namespaced || !resource.custom && known.is_none()))
                || known.is_some_and(|f| f.contains(&key.as_str()))
                || selectable.iter().any(|s| s.trim_start_matches('.') == key);
            if !ok {
                let of = match resource.stored_as.as_str() {
                    "resourceslices.resource.k8s.io" => format!(" for resource.k8s.io/{version}, Kind=ResourceSlice"),
                    _ => String::new(),
                };
                return Err(Status::bad_request(if resource.stored_as == "jobs.batch" {
                    format!("field label {} not supported for Job", crate::field::go_quote(&key))
                } else if known.is_none() && !resource.custom {
                    format!(
                        "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                        crate::field::go_quote(&key)
                    )
                } else {
                    format!("field label not supported{of}: {key}")
                }));
            }
            out.push((key, equal, unescape(value).into()));
        }
        Ok(Self(out))
    }

    /// Whether it matches everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object matches.
    #[must_use]
    pub fn matches(&self, object: &Stored) -> bool {
        let mut parsed: Option<Value> = None;
        self.0.iter().all(|(key, equal, want)| {
            let is = match key.as_str() {
                "metadata.name" => object.name == *want,
                "metadata.namespace" => object.namespace == *want,
                path => {
                    let v = parsed.get_or_insert_with(|| object.value().unwrap_or_default());
                    field_text(v, path) == want.as_str()
                }
            };
            is == *equal
        })
    }
}

fn field_text(object: &Value, path: &str) -> String {
    let path = match path {
        "status.successful" => "status.succeeded",
        "source" => "source.component",
        other => other,
    };
    let mut v = object;
    for key in path.split('.') {
        v = &v[key];
    }
    match v {
        Value::Null if matches!(path, "spec.unschedulable" | "spec.hostNetwork") => "false".into(),
        Value::Null if matches!(path, "status.replicas" | "status.succeeded") => "0".into(),
        Value::Null => String::new(),
        Value::String(s) => s.to_string(),
        other => druse_object::json::to_string(other),
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out.into_iter().filter(|t| !t.is_empty()).collect()
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// Both selectors of a request.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// On labels.
    pub labels: LabelSelector,
    /// On fields.
    pub fields: FieldSelector,
}

impl Selector {
    /// Whether it matches everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object matches.
    #[must_use]
    pub fn matches(&self, o: &Stored) -> bool {
        self.is_empty() || (self.labels.matches(|k| o.label(k)) && self.fields.matches(o))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yes(s: &str, labels: &[(&str, &str)]) -> bool {
        LabelSelector::parse(s).unwrap().matches(|k| labels.iter().find(|(n, _)| *n == k).map(|(_, v)| *v))
    }

    #[test]
    fn label_requirements_hold_as_upstream() {
        let l = [("l", "x"), ("n", "5")];
        assert!(yes("l in (x,z),m!=q", &l));
        assert!(yes("l,!m,n>4,n<6", &l));
        assert!(!yes("l notin (x)", &l));
        assert!(yes("m notin (x)", &l));
        assert!(yes("", &l));
        assert_eq!(
            LabelSelector::parse("!!").unwrap_err().message,
            "unable to parse requirement: found '!', expected: identifier"
        );
    }
}
