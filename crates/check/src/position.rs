//! Where in a YAML text a field is: the line of a path of keys and indexes.
//!
//! The reader of `druse-object` keeps no positions, and needs none but for the few fields that findings are about.
//! This finds the line by the text's layout: block maps and lists by their indent, flow collections by their brackets.
//! It never fails; where the text says less than the path, the answer is the deepest part that is there.

use std::borrow::Cow;
use std::fmt::Write as _;

use druse_object::Value;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Into a map.
    Key(String),
    /// Into a list.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.into())
    }
}

impl From<usize> for Step {
    fn from(i: usize) -> Self {
        Self::Index(i)
    }
}

/// A path as messages show it: `spec.ports[0].name`, keys with dots in brackets.
#[must_use]
pub fn show(path: &[Step]) -> String {
    let mut out = String::new();
    for step in path {
        let _ = match step {
            Step::Index(i) => write!(out, "[{i}]"),
            Step::Key(k) if k.contains(['.', '[', '/']) => write!(out, "[{k}]"),
            Step::Key(k) if out.is_empty() => write!(out, "{k}"),
            Step::Key(k) => write!(out, ".{k}"),
        };
    }
    out
}

/// The value at a path.
#[must_use]
pub fn at<'v>(value: &'v Value, path: &[Step]) -> Option<&'v Value> {
    path.iter().try_fold(value, |v, step| match step {
        Step::Key(k) => v.get(k),
        Step::Index(i) => v.items().get(*i),
    })
}

/// Reads a path that was written as text (`spec.a[0].b`, `data[key]`), with the value it is a path in: a key of it that
/// holds dots is taken as a whole.
#[must_use]
pub fn parse(value: &Value, text: &str) -> Vec<Step> {
    let mut out = Vec::new();
    let mut at = Some(value);
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (key, more) = inner.split_once(']').unwrap_or((inner, ""));
            rest = more;
            let list = at.is_some_and(|v| matches!(v, Value::Array(_)));
            let step = match key.parse::<usize>() {
                Ok(i) if list => Step::Index(i),
                _ => Step::Key(key.to_string()),
            };
            at = at.and_then(|v| self::at(v, std::slice::from_ref(&step)));
            out.push(step);
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let ends = |k: &str| rest.strip_prefix(k).is_some_and(|r| r.is_empty() || r.starts_with(['.', '[']));
        let known = at
            .and_then(Value::as_map)
            .and_then(|m| m.keys().filter(|k| ends(k)).max_by_key(|k| k.len()))
            .map(ToString::to_string);
        let key = known.unwrap_or_else(|| rest.split(['.', '[']).next().unwrap_or_default().to_string());
        if key.is_empty() {
            break;
        }
        rest = rest.get(key.len()..).unwrap_or_default();
        at = at.and_then(|v| v.get(&key));
        out.push(Step::Key(key));
    }
    out
}

/// How far a path could be followed, and to which line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The line, from 1.
    pub line: u32,
    /// How many steps lead there.
    pub depth: usize,
}

/// The line of a path in the document that starts at a line of a text.
#[must_use]
pub fn locate(text: &str, first_line: u32, path: &[Step]) -> Found {
    let lines: Vec<&str> = text.lines().collect();
    let start = usize::try_from(first_line.max(1) - 1).unwrap_or(0);
    let mut finder = Finder { lines, path, found: Found { line: first_line.max(1), depth: 0 } };
    if let Some(line) = finder.lines.get(start) {
        // Content behind the marker of the document.
        let skip = if line.starts_with("---") { 3 } else { 0 };
        finder.node(start, skip, 0, false);
    }
    finder.found
}

struct Finder<'t> {
    lines: Vec<&'t str>,
    path: &'t [Step],
    found: Found,
}

/// Text without the anchors and tags in front of it.
fn bare(text: &str) -> &str {
    let mut text = text.trim_start();
    while text.starts_with(['&', '!']) {
        text = text.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
    }
    text
}

/// The key that a line starts with, and the offset of what follows the colon.
fn key_of(text: &str) -> Option<(Cow<'_, str>, usize)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote {
        let end = text.get(1..)?.find(quote)? + 1;
        let after = text.get(end + 1..)?;
        let colon = after.len() - after.trim_start().len();
        return after
            .get(colon..)?
            .starts_with(':')
            .then(|| (Cow::Borrowed(text.get(1..end).unwrap_or_default()), end + 2 + colon));
    }
    let mut from = 0;
    loop {
        let i = from + text.get(from..)?.find(':')?;
        let after = text.get(i + 1..)?;
        if after.is_empty() || after.starts_with([' ', '\t']) {
            return Some((Cow::Borrowed(text.get(..i)?.trim_end()), i + 1));
        }
        from = i + 1;
    }
}

impl Finder<'_> {
    /// A line's indent and its content without it; none for lines without content, an end for markers.
    fn content(&self, i: usize, skip: usize) -> Option<(usize, &str)> {
        let rest = self.lines.get(i)?.get(skip..)?;
        let text = rest.trim_start();
        (!text.is_empty() && !text.starts_with('#')).then(|| (skip + rest.len() - text.len(), text))
    }

    fn is_end(&self, i: usize) -> bool {
        self.lines.get(i).is_none_or(|l| l.starts_with("---") || l.starts_with("..."))
    }

    fn hit(&mut self, i: usize, depth: usize) {
        self.found = Found { line: u32::try_from(i + 1).unwrap_or(u32::MAX), depth };
    }

    /// Looks for the rest of the path in the node that starts on line `i`, after `skip` bytes, or on a later line.
    /// `same` allows a list at the indent of its key.
    fn node(&mut self, mut i: usize, skip: usize, depth: usize, same: bool) {
        let Some(step) = self.path.get(depth).cloned() else { return };
        let mut skip = skip;
        let outer = if same { skip } else { 0 };
        let (indent, text) = loop {
            match self.content(i, if same { 0 } else { skip }) {
                Some((indent, text)) if !bare(text).is_empty() => break (indent, text.to_string()),
                _ => {}
            }
            i += 1;
            skip = if same { skip } else { 0 };
            if self.is_end(i) {
                return;
            }
        };
        if same && (indent < outer || indent == outer && !text.starts_with('-')) {
            return;
        }
        let content = bare(&text).to_string();
        if content.starts_with(['{', '[']) {
            let column = indent + text.len() - content.len();
            self.flow(i, column, depth);
            return;
        }
        match step {
            Step::Key(key) => self.key(i, indent, &key, depth),
            Step::Index(n) => self.index(i, indent, n, depth),
        }
    }

    fn key(&mut self, start: usize, indent: usize, key: &str, depth: usize) {
        let mut i = start;
        loop {
            let here = if i == start { self.content(i, indent) } else { self.content(i, 0) };
            if let Some((at, text)) = here {
                if at < indent {
                    return;
                }
                if at == indent
                    && let Some((name, value)) = key_of(bare(text))
                    && name == key
                {
                    let rest = bare(text).get(value..).unwrap_or_default();
                    let value_text = bare(rest);
                    let column = at + text.len() - value_text.len();
                    let (inline, empty) =
                        (value_text.starts_with(['{', '[']), value_text.is_empty() || value_text.starts_with('#'));
                    self.hit(i, depth + 1);
                    if inline {
                        self.flow(i, column, depth + 1);
                    } else if empty && i + 1 < self.lines.len() && !self.is_end(i + 1) {
                        self.node(i + 1, indent, depth + 1, true);
                    }
                    return;
                }
            }
            i += 1;
            if self.is_end(i) {
                return;
            }
        }
    }

    fn index(&mut self, start: usize, indent: usize, wanted: usize, depth: usize) {
        let (mut i, mut n) = (start, 0);
        loop {
            let here = if i == start { self.content(i, indent) } else { self.content(i, 0) };
            if let Some((at, text)) = here {
                if at < indent {
                    return;
                }
                if at == indent && (text == "-" || text.starts_with("- ")) {
                    if n == wanted {
                        self.hit(i, depth + 1);
                        self.node(i, at + 1, depth + 1, false);
                        return;
                    }
                    n += 1;
                } else if at == indent {
                    return;
                }
            }
            i += 1;
            if self.is_end(i) {
                return;
            }
        }
    }

    /// Looks in a flow collection that starts at a column of line `i`.
    fn flow(&mut self, i: usize, column: usize, depth: usize) {
        let mut lines = Vec::new();
        for (n, line) in self.lines.iter().enumerate().skip(i) {
            let from = if n == i { column } else { 0 };
            lines.push((n, line.get(from..).unwrap_or_default().to_string()));
            if n > i && (line.starts_with("---") || lines.len() > 10_000) {
                break;
            }
        }
        let chars: Vec<(usize, char)> =
            lines.iter().flat_map(|(n, l)| l.chars().chain(['\n']).map(move |c| (*n, c))).collect();
        let mut at = 0;
        self.flow_node(&chars, &mut at, Some(depth));
    }

    /// Passes over one node; with a depth, its parts that lie on the path are noted.
    fn flow_node(&mut self, chars: &[(usize, char)], at: &mut usize, depth: Option<usize>) {
        let peek = |at: usize| chars.get(at).map(|c| c.1);
        let skip_space = |at: &mut usize| {
            while let Some(c) = peek(*at) {
                if c == '#' {
                    while peek(*at).is_some_and(|c| c != '\n') {
                        *at += 1;
                    }
                } else if c.is_whitespace() {
                    *at += 1;
                } else {
                    break;
                }
            }
        };
        skip_space(at);
        match peek(*at) {
            Some(open @ ('{' | '[')) => {
                let close = if open == '{' { '}' } else { ']' };
                *at += 1;
                let mut n = 0;
                loop {
                    skip_space(at);
                    match peek(*at) {
                        None => return,
                        Some(c) if c == close => {
                            *at += 1;
                            return;
                        }
                        Some(',') => {
                            *at += 1;
                            n += 1;
                            continue;
                        }
                        _ => {}
                    }
                    let line = chars.get(*at).map_or(0, |c| c.0);
                    let step = depth.and_then(|d| self.path.get(d)).cloned();
                    if open == '[' {
                        let on = step == Some(Step::Index(n));
                        if on && let Some(d) = depth {
                            self.hit(line, d + 1);
                        }
                        self.flow_node(chars, at, depth.filter(|_| on).map(|d| d + 1));
                    } else {
                        let key = flow_scalar(chars, at);
                        skip_space(at);
                        let on = step == Some(Step::Key(key));
                        if on && let Some(d) = depth {
                            self.hit(line, d + 1);
                        }
                        if peek(*at) == Some(':') {
                            *at += 1;
                            self.flow_node(chars, at, depth.filter(|_| on).map(|d| d + 1));
                        }
                    }
                }
            }
            Some(_) => {
                let before = *at;
                flow_scalar(chars, at);
                if *at == before {
                    *at += 1;
                }
            }
            None => {}
        }
    }
}

/// A scalar in a flow collection.
fn flow_scalar(chars: &[(usize, char)], at: &mut usize) -> String {
    let peek = |at: usize| chars.get(at).map(|c| c.1);
    let mut out = String::new();
    if let Some(quote @ ('"' | '\'')) = peek(*at) {
        *at += 1;
        while let Some(c) = peek(*at) {
            *at += 1;
            if c == quote {
                break;
            }
            if c == '\\' && quote == '"' {
                *at += 1;
            }
            out.push(c);
        }
        return out;
    }
    while let Some(c) = peek(*at) {
        let ends_key = c == ':' && peek(*at + 1).is_none_or(|n| n.is_whitespace() || matches!(n, ',' | '}' | ']'));
        if matches!(c, ',' | '}' | ']' | '{' | '[') || ends_key {
            break;
        }
        out.push(c);
        *at += 1;
    }
    out.trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a comment
---
apiVersion: v1
kind: Service # of this kind
metadata: &m
  name: \"web\"
  labels: {a: b,
    c: {d: e}}
spec:
  ports:
  - name: http
    port: 80

  # the second
  - port: 443
    name: https
  script: |
    ports:
      - no
  'quoted key':
    - - 1
      - 2
    - x: [a, b,
        {deep: 1}]
---
kind: Other
spec:
  ports: 1
";

    fn line(first: u32, path: &[Step]) -> (u32, usize) {
        let found = locate(TEXT, first, path);
        (found.line, found.depth)
    }

    #[test]
    fn fields_of_block_and_flow_collections_are_found_by_line() {
        let k = |s: &str| Step::from(s);
        assert_eq!(line(3, &[k("kind")]), (4, 1));
        assert_eq!(line(3, &[k("metadata"), k("name")]), (6, 2));
        assert_eq!(line(3, &[k("metadata"), k("labels"), k("c"), k("d")]), (8, 4));
        assert_eq!(line(3, &[k("spec"), k("ports"), Step::Index(0), k("port")]), (12, 4));
        assert_eq!(line(3, &[k("spec"), k("ports"), Step::Index(1), k("port")]), (15, 4));
        assert_eq!(line(3, &[k("spec"), k("ports"), Step::Index(1), k("name")]), (16, 4));
        assert_eq!(line(3, &[k("spec"), k("quoted key"), Step::Index(0), Step::Index(1)]), (22, 4));
        assert_eq!(line(3, &[k("spec"), k("quoted key"), Step::Index(1), k("x"), Step::Index(2), k("deep")]), (24, 6));
        assert_eq!(line(26, &[k("spec"), k("ports")]), (28, 2));
    }

    #[test]
    fn what_is_not_there_is_the_deepest_part_that_is() {
        let k = |s: &str| Step::from(s);
        assert_eq!(line(3, &[k("spec"), k("ports"), Step::Index(5), k("port")]), (10, 2));
        assert_eq!(line(3, &[k("spec"), k("script"), k("ports")]), (17, 2));
        assert_eq!(line(3, &[k("status")]), (3, 0));
        assert_eq!(locate("", 1, &[k("a")]), Found { line: 1, depth: 0 });
    }

    #[test]
    fn written_paths_are_read_with_the_keys_of_the_value() {
        let value = druse_object::json::parse(br#"{"data":{"a.b/c":1},"l":[{"x":{"p.q":{"z":1}}}]}"#).unwrap();
        assert_eq!(parse(&value, "data[a.b/c]"), [Step::from("data"), Step::from("a.b/c")]);
        assert_eq!(
            parse(&value, "l[0].x.p.q.z"),
            [Step::from("l"), Step::Index(0), Step::from("x"), Step::from("p.q"), Step::from("z")]
        );
        assert_eq!(show(&parse(&value, "l[0].x.new")), "l[0].x.new");
    }
}
