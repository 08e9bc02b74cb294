//! Shell patterns as Go's `path.Match` reads them: `*`, `?`, `[a-z]`, `[^a]`, `\x`. Nothing is special about `/` here:
//! callers match one path element, or text that is no path.

/// Whether `pattern` matches all of `text`; `None` when the pattern is malformed.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> Option<bool> {
    // Nearly all are names, or endings: of every path of a tree each is asked for.
    let plain = |p: &str| !p.bytes().any(|b| matches!(b, b'*' | b'?' | b'[' | b'\\'));
    if plain(pattern) {
        return Some(pattern == text);
    }
    if let Some(ending) = pattern.strip_prefix('*').filter(|rest| plain(rest)) {
        return Some(text.ends_with(ending));
    }
    let pattern = parse(pattern)?;
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // The last star seen and where in the text it is currently taken to end.
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), text.get(t)) {
            (None, None) => return Some(true),
            (Some(Part::Star), _) => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            (Some(part), Some(c)) if part.takes(*c) => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        match &mut star {
            Some((after, end)) if *end < text.len() => {
                *end += 1;
                p = *after;
                t = *end;
            }
            _ => return Some(false),
        }
    }
}

enum Part {
    Star,
    Any,
    One(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Part::Star => false,
            Part::Any => true,
            Part::One(x) => *x == c,
            Part::Class { negated, ranges } => ranges.iter().any(|(lo, hi)| (*lo..=*hi).contains(&c)) != *negated,
        }
    }
}

fn parse(pattern: &str) -> Option<Vec<Part>> {
    let mut out = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' => {
                if matches!(out.last(), Some(Part::Star)) {
                    continue;
                }
                Part::Star
            }
            '?' => Part::Any,
            '\\' => Part::One(chars.next()?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    let one = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match chars.next()? {
                        '\\' => chars.next(),
                        '-' => None,
                        c => Some(c),
                    };
                    if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
                        break;
                    }
                    let lo = one(&mut chars)?;
                    let hi = if chars.next_if_eq(&'-').is_some() { one(&mut chars)? } else { lo };
                    ranges.push((lo, hi));
                }
                Part::Class { negated, ranges }
            }
            c => Part::One(c),
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn reads_patterns_as_go_does() {
        for (pattern, text, want) in [
            ("*.yaml", "a.yaml", Some(true)),
            ("*.yaml", "a.yml", Some(false)),
            ("name", "name", Some(true)),
            ("name", "names", Some(false)),
            ("*", "anything", Some(true)),
            ("*.a*", "x.abc", Some(true)),
            ("*[", "a", None),
            ("a*b*c", "aXbYc", Some(true)),
            ("a*b*c", "aXbY", Some(false)),
            ("[a-c]?", "bz", Some(true)),
            ("[^a-c]?", "bz", Some(false)),
            ("\\*", "*", Some(true)),
            ("[", "a", None),
            ("", "", Some(true)),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} against {text}");
        }
    }
}
