//! Selecting objects: anchored regular expressions for identities, Kubernetes selectors for labels and annotations.

use std::borrow::Cow;

use druse_object::Value;
use regex::Regex;

use crate::error::{Result, fail};
use crate::ids::{Gvk, text};
use crate::kustomization::Selector;

/// Why a pattern is none, in the words of Go's package.
fn go_reason(ours: &str) -> &'static str {
    const REASONS: [(&str, &str); 6] = [
        ("unclosed group", "missing closing )"),
        ("unopened group", "unexpected )"),
        ("unclosed character class", "missing closing ]"),
        ("repetition operator missing expression", "missing argument to repetition operator"),
        ("unrecognized escape sequence", "invalid escape sequence"),
        ("look-around", "invalid or unsupported Perl syntax"),
    ];
    REASONS.iter().find(|(our, _)| ours.contains(our)).map_or("invalid pattern", |(_, go)| go)
}

/// A [`Selector`] made ready.
pub(crate) struct Matcher {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    labels: LabelSelector,
    annotations: LabelSelector,
}

fn anchored(pattern: &str) -> Result<Option<Regex>> {
    if pattern.is_empty() {
        return Ok(None);
    }
    match Regex::new(&format!("^(?:{pattern})$")) {
        Ok(regex) => Ok(Some(regex)),
        Err(e) => Err(fail!("error parsing regexp: {}: `^(?:{pattern})$`", go_reason(&e.to_string()))),
    }
}

impl Matcher {
    pub(crate) fn new(selector: &Selector) -> Result<Self> {
        Ok(Self {
            group: anchored(&selector.group)?,
            version: anchored(&selector.version)?,
            kind: anchored(&selector.kind)?,
            name: anchored(&selector.name)?,
            namespace: anchored(&selector.namespace)?,
            labels: LabelSelector::parse(&selector.label_selector)?,
            annotations: LabelSelector::parse(&selector.annotation_selector)?,
        })
    }

    pub(crate) fn gvk(&self, gvk: &Gvk) -> bool {
        let is = |regex: &Option<Regex>, text: &str| regex.as_ref().is_none_or(|r| r.is_match(text));
        is(&self.group, &gvk.group) && is(&self.version, &gvk.version) && is(&self.kind, &gvk.kind)
    }

    pub(crate) fn name(&self, name: &str) -> bool {
        self.name.as_ref().is_none_or(|r| r.is_match(name))
    }

    pub(crate) fn namespace(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|r| r.is_match(namespace))
    }

    /// Whether labels and annotations are as asked.
    pub(crate) fn metadata(&self, object: &Value) -> bool {
        self.labels.matches(object.at(["metadata", "labels"]))
            && self.annotations.matches(object.at(["metadata", "annotations"]))
    }
}

/// A Kubernetes label selector: `a=b,c!=d,e in (f,g),!h,i`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LabelSelector(Vec<Requirement>);

#[derive(Debug, PartialEq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    In,
    NotIn,
    Exists,
    Absent,
    Greater,
    Less,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Sign(&'static str),
    End,
}

impl Token {
    fn shown(&self) -> &str {
        match self {
            Token::Word(w) => w,
            Token::Sign(s) => s,
            Token::End => "",
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    const SIGNS: [&str; 9] = ["==", "!=", "=", "!", ",", "(", ")", ">", "<"];
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(sign) = SIGNS.iter().find(|s| rest.starts_with(**s)) {
            out.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else {
            let end = rest.find(|c: char| c.is_ascii_whitespace() || "=!,()><".contains(c)).unwrap_or(rest.len());
            out.push(Token::Word(rest[..end].to_string()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    out.push(Token::End);
    out
}

impl LabelSelector {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let tokens = tokens(text);
        let mut parser = Parser { tokens: &tokens, at: 0 };
        let mut out = Vec::new();
        loop {
            match parser.peek() {
                Token::End => return Ok(Self(out)),
                Token::Word(_) | Token::Sign("!") => {
                    out.push(parser.requirement().map_err(|e| e.wrap("unable to parse requirement"))?);
                    match parser.next() {
                        Token::End => return Ok(Self(out)),
                        Token::Sign(",") => {
                            if !matches!(parser.peek(), Token::Word(_) | Token::Sign("!")) {
                                let found = parser.peek();
                                return Err(fail!("found '{}', expected: identifier after ','", found.shown()));
                            }
                        }
                        other => {
                            return Err(fail!("found '{}', expected: ',' or 'end of string'", other.shown()));
                        }
                    }
                }
                other => {
                    return Err(fail!("found '{}', expected: !, identifier, or 'end of string'", other.shown()));
                }
            }
        }
    }

    /// Whether a map of labels satisfies all requirements.
    pub(crate) fn matches(&self, labels: Option<&Value>) -> bool {
        self.0.iter().all(|r| {
            let value = labels.and_then(|l| l.get(&r.key)).map(text);
            let value: Option<Cow<str>> = value.map(|v| Cow::Owned(v.to_string()));
            let listed = |v: &str| r.values.iter().any(|x| x == v);
            let compare = |v: &str| -> Option<std::cmp::Ordering> {
                Some(v.parse::<i64>().ok()?.cmp(&r.values.first()?.parse::<i64>().ok()?))
            };
            match (r.operator, value.as_deref()) {
                (Operator::Exists, v) => v.is_some(),
                (Operator::Absent, v) => v.is_none(),
                (Operator::In, v) => v.is_some_and(listed),
                (Operator::NotIn, v) => !v.is_some_and(listed),
                (Operator::Greater, v) => v.and_then(compare) == Some(std::cmp::Ordering::Greater),
                (Operator::Less, v) => v.and_then(compare) == Some(std::cmp::Ordering::Less),
            }
        })
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Token {
        self.tokens.get(self.at).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement> {
        let absent = self.peek() == Token::Sign("!");
        if absent {
            self.at += 1;
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => return Err(fail!("found '{}', expected: identifier", other.shown())),
        };
        if absent || matches!(self.peek(), Token::End | Token::Sign(",")) {
            let operator = if absent { Operator::Absent } else { Operator::Exists };
            return Ok(Requirement { key, operator, values: Vec::new() });
        }
        let (operator, set) = match self.next() {
            Token::Sign("=" | "==") => (Operator::In, false),
            Token::Sign("!=") => (Operator::NotIn, false),
            Token::Sign(">") => (Operator::Greater, false),
            Token::Sign("<") => (Operator::Less, false),
            Token::Word(word) if word == "in" => (Operator::In, true),
            Token::Word(word) if word == "notin" => (Operator::NotIn, true),
            other => {
                return Err(fail!("found '{}', expected: '=', '!=', '==', 'in', notin'", other.shown()));
            }
        };
        let values = if set { self.set()? } else { vec![self.value()?] };
        Ok(Requirement { key, operator, values })
    }

    fn value(&mut self) -> Result<String> {
        match self.peek() {
            Token::End | Token::Sign(",") => Ok(String::new()),
            Token::Word(word) => {
                self.at += 1;
                Ok(word)
            }
            other => Err(fail!("found '{}', expected: identifier", other.shown())),
        }
    }

    fn set(&mut self) -> Result<Vec<String>> {
        if self.next() != Token::Sign("(") {
            return Err(fail!(
                "found '{}' expected: '('",
                self.tokens.get(self.at.saturating_sub(1)).map_or("", Token::shown)
            ));
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.push(word);
                    match self.next() {
                        Token::Sign(",") => {}
                        Token::Sign(")") => return Ok(values),
                        other => return Err(fail!("found '{}', expected: ',' or ')'", other.shown())),
                    }
                }
                Token::Sign(")") => {
                    values.push(String::new());
                    return Ok(values);
                }
                Token::Sign(",") => values.push(String::new()),
                other => return Err(fail!("found '{}', expected: ',', or identifier", other.shown())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(json: &str) -> Value {
        druse_object::json::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn label_selectors_match_as_kubernetes_reads_them() {
        let l = labels(r#"{"a": "b", "n": "5"}"#);
        for (selector, expected) in [
            ("", true),
            ("a=b", true),
            ("a==c", false),
            ("a!=c,n", true),
            ("x!=c", true),
            ("!a", false),
            ("!x", true),
            ("a in (b, c)", true),
            ("a notin (b,c)", false),
            ("n>4", true),
            ("n<4", false),
            ("x in ()", false),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap().matches(Some(&l)), expected, "{selector}");
        }
        assert!(LabelSelector::parse("a=b,").is_err());
        assert!(LabelSelector::parse("a in b").is_err());
    }
}
