//! `.Files` in templates, and the glob language it matches with (gobwas/glob with `/` as separator).

use std::any::Any;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use druse_gotemplate::funcs::bytes::from_bytes;
use druse_gotemplate::{Env, FuncError, GoObject, Val};
use druse_object::{Map, Str, Value, yaml};

use crate::chart::Chart;

/// A chart's files, or those of them that a glob chose: name to position in the chart's list.
pub(crate) struct Files {
    chart: Arc<Chart>,
    names: BTreeMap<Str, usize>,
}

impl Files {
    pub(crate) fn new(chart: &Arc<Chart>) -> Self {
        let names = chart.files.iter().enumerate().map(|(i, f)| (Str::from(f.name.as_str()), i)).collect();
        Self { chart: Arc::clone(chart), names }
    }

    fn bytes(&self, name: &str) -> &[u8] {
        self.names.get(name).and_then(|i| self.chart.files.get(*i)).map_or(&[], |f| f.data.as_slice())
    }

    fn text(&self, name: &str) -> Str {
        from_bytes(self.bytes(name))
    }

    fn glob(&self, pattern: &str) -> Self {
        let glob = Glob::parse(pattern).or_else(|| Glob::parse("**"));
        let names = self
            .names
            .iter()
            .filter(|(n, _)| glob.as_ref().is_none_or(|g| g.matches(n)))
            .map(|(n, i)| (n.clone(), *i))
            .collect();
        Self { chart: Arc::clone(&self.chart), names }
    }

    /// Base names with contents, as YAML without its last newline.
    fn yaml(&self, contents: impl Fn(&[u8]) -> String) -> Val {
        let mut map: BTreeMap<&str, String> = BTreeMap::new();
        for name in self.names.keys() {
            let base = name.rsplit('/').next().unwrap_or(name);
            map.insert(base, contents(self.bytes(name)));
        }
        let value = Value::Map(map.into_iter().collect::<Map>());
        Val::str(yaml::to_string(&value).trim_end_matches('\n'))
    }
}

/// Standard base64 with padding.
pub(crate) fn base64(data: &[u8]) -> String {
    STANDARD.encode(data)
}

fn argument<'a>(args: &'a [Val], method: &str) -> Result<&'a str, FuncError> {
    match args {
        [Val::Str(s)] => Ok(s),
        [Val::Nil | Val::Missing] => Err(FuncError::new("invalid value; expected string")),
        [_] => Err(FuncError::new(format!("wrong type for value; expected string as argument of {method}"))),
        other => Err(FuncError::new(format!("wrong number of args for {method}: want 1 got {}", other.len()))),
    }
}

impl GoObject for Files {
    fn type_name(&self) -> &str {
        "engine.files"
    }
    fn kind(&self) -> &str {
        "map"
    }
    fn field(&self, name: &str, _env: &mut Env<'_>) -> Option<Result<Val, FuncError>> {
        match name {
            "AsConfig" => Some(Ok(self.yaml(|b| String::from_utf8_lossy(b).into_owned()))),
            "AsSecrets" => Some(Ok(self.yaml(base64))),
            "Get" | "GetBytes" | "Glob" | "Lines" => {
                Some(Err(FuncError::new(format!("wrong number of args for {name}: want 1 got 0"))))
            }
            // Otherwise a key of the map.
            other => Some(Ok(if self.names.contains_key(other) { Val::Str(self.text(other)) } else { Val::Missing })),
        }
    }
    fn call(&self, name: &str, args: &[Val], env: &mut Env<'_>) -> Option<Result<Val, FuncError>> {
        if args.is_empty() {
            return self.field(name, env);
        }
        let result = argument(args, name);
        Some(match name {
            "Get" | "GetBytes" => result.map(|a| Val::Str(self.text(a))),
            "Glob" => result.map(|a| Val::Object(Rc::new(self.glob(a)))),
            "Lines" => result.map(|a| {
                let text = self.text(a);
                if text.is_empty() {
                    return Val::list(Vec::new());
                }
                Val::list(text.strip_suffix('\n').unwrap_or(&text).split('\n').map(Val::str).collect())
            }),
            _ => return None,
        })
    }
    fn entries(&self) -> Option<Vec<(Str, Val)>> {
        Some(self.names.keys().map(|n| (n.clone(), Val::Str(self.text(n)))).collect())
    }
    fn display(&self) -> String {
        let all: Vec<String> = self
            .names
            .keys()
            .map(|n| {
                let bytes: Vec<String> = self.bytes(n).iter().map(u8::to_string).collect();
                format!("{n}:[{}]", bytes.join(" "))
            })
            .collect();
        format!("map[{}]", all.join(" "))
    }
    fn to_value(&self) -> Value {
        Value::Map(self.names.keys().map(|n| (n.clone(), base64(self.bytes(n)))).collect())
    }
    fn truth(&self) -> bool {
        !self.names.is_empty()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A parsed glob.
struct Glob(Vec<Part>);

enum Part {
    Text(char),
    /// `?`: any but the separator.
    One,
    /// `*`: any number but the separator.
    Star,
    /// `**`: any number.
    Any,
    /// `[abc]`, `[a-z]`, `[!a]`.
    Class(Vec<(char, char)>, bool),
    /// `{a,b}`
    Choice(Vec<Glob>),
}

impl Glob {
    fn parse(pattern: &str) -> Option<Self> {
        let chars: Vec<char> = pattern.chars().collect();
        let mut at = 0;
        let glob = Self::sequence(&chars, &mut at, 0)?;
        (at == chars.len()).then_some(glob)
    }

    fn sequence(p: &[char], at: &mut usize, depth: usize) -> Option<Self> {
        if depth > 16 {
            return None;
        }
        let mut parts = Vec::new();
        while let Some(&c) = p.get(*at) {
            *at += 1;
            match c {
                '*' if p.get(*at) == Some(&'*') => {
                    while p.get(*at) == Some(&'*') {
                        *at += 1;
                    }
                    parts.push(Part::Any);
                }
                '*' => parts.push(Part::Star),
                '?' => parts.push(Part::One),
                '\\' => {
                    parts.push(Part::Text(*p.get(*at)?));
                    *at += 1;
                }
                '[' => {
                    let negated = p.get(*at) == Some(&'!');
                    if negated {
                        *at += 1;
                    }
                    let mut ranges = Vec::new();
                    loop {
                        let lo = *p.get(*at)?;
                        *at += 1;
                        if lo == ']' && !ranges.is_empty() {
                            break;
                        }
                        if p.get(*at) == Some(&'-') && p.get(*at + 1).is_some_and(|c| *c != ']') {
                            ranges.push((lo, *p.get(*at + 1)?));
                            *at += 2;
                        } else {
                            ranges.push((lo, lo));
                        }
                    }
                    parts.push(Part::Class(ranges, negated));
                }
                '{' => {
                    let mut choices = Vec::new();
                    loop {
                        choices.push(Self::sequence(p, at, depth + 1)?);
                        match p.get(*at)? {
                            ',' => *at += 1,
                            '}' => {
                                *at += 1;
                                break;
                            }
                            _ => return None,
                        }
                    }
                    parts.push(Part::Choice(choices));
                }
                ',' | '}' if depth > 0 => {
                    *at -= 1;
                    return Some(Self(parts));
                }
                c => parts.push(Part::Text(c)),
            }
        }
        (depth == 0).then_some(Self(parts))
    }

    fn matches(&self, name: &str) -> bool {
        let text: Vec<char> = name.chars().collect();
        let mut ends = vec![0];
        self.ends(&text, &mut ends);
        ends.contains(&text.len())
    }

    /// All positions the glob may end at, from any of the given ones: linear in pattern times text.
    fn ends(&self, text: &[char], from: &mut Vec<usize>) {
        for part in &self.0 {
            let mut next = Vec::new();
            for &i in &*from {
                match part {
                    Part::Text(c) => {
                        if text.get(i) == Some(c) {
                            next.push(i + 1);
                        }
                    }
                    Part::One => {
                        if text.get(i).is_some_and(|c| *c != '/') {
                            next.push(i + 1);
                        }
                    }
                    Part::Star => {
                        let stop = text.iter().skip(i).position(|c| *c == '/').map_or(text.len(), |n| i + n);
                        next.extend(i..=stop);
                    }
                    Part::Any => next.extend(i..=text.len()),
                    Part::Class(ranges, negated) => {
                        if text.get(i).is_some_and(|c| ranges.iter().any(|(a, b)| a <= c && c <= b) != *negated) {
                            next.push(i + 1);
                        }
                    }
                    Part::Choice(choices) => {
                        for choice in choices {
                            let mut start = vec![i];
                            choice.ends(text, &mut start);
                            next.extend(start);
                        }
                    }
                }
            }
            next.sort_unstable();
            next.dedup();
            *from = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_treat_the_separator_as_helm_does() {
        for (glob, name, yes) in [
            ("config/*", "config/a.conf", true),
            ("config/*", "config/x/a.conf", false),
            ("config/**", "config/x/a.conf", true),
            ("**.yaml", "a/b.yaml", true),
            ("*.yaml", "a/b.yaml", false),
            ("{a,b}/?.txt", "b/x.txt", true),
            ("{a,b}/?.txt", "c/x.txt", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("dashboards/*.json", "dashboards/one.json", true),
        ] {
            assert_eq!(Glob::parse(glob).is_some_and(|g| g.matches(name)), yes, "{glob} {name}");
        }
    }
}
