//! `.helmignore` rules and Go's `filepath.Match`.

use crate::error::HelmError;

/// The rules of one `.helmignore`, with Helm's own (`templates/.?*`) at the end.
#[derive(Clone, Debug)]
pub struct Rules {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    glob: String,
    negate: bool,
    only_dirs: bool,
    /// Match the whole path, not only the last part.
    whole_path: bool,
}

impl Rules {
    /// Reads rules, one a line. Blank lines and `#` comments are skipped.
    ///
    /// # Errors
    /// When a rule holds `**`, which Helm does not support, or is not a valid pattern.
    pub fn parse(text: &str) -> Result<Self, HelmError> {
        let mut rules = Self { patterns: Vec::new() };
        for line in text.trim_start_matches('\u{feff}').lines() {
            rules.add(line)?;
        }
        rules.add("templates/.?*")?;
        Ok(rules)
    }

    fn add(&mut self, line: &str) -> Result<(), HelmError> {
        let rule = line.trim();
        if rule.is_empty() || rule.starts_with('#') {
            return Ok(());
        }
        if rule.contains("**") {
            return Err(HelmError::Load("double-star (**) syntax is not supported".into()));
        }
        path_match(rule, "abc").ok_or_else(|| HelmError::Load("syntax error in pattern".into()))?;
        let (negate, rule) = rule.strip_prefix('!').map_or((false, rule), |r| (true, r));
        let (only_dirs, rule) = rule.strip_suffix('/').map_or((false, rule), |r| (true, r));
        let (whole_path, glob) = match rule.strip_prefix('/') {
            Some(r) => (true, r),
            None => (rule.contains('/'), rule),
        };
        self.patterns.push(Pattern { glob: glob.into(), negate, only_dirs, whole_path });
        Ok(())
    }

    /// Whether a file or folder (path relative to the chart, `/` separated) is left out.
    #[must_use]
    pub fn ignores(&self, path: &str, is_dir: bool) -> bool {
        if path.is_empty() || path == "." || path == "./" {
            return false;
        }
        let base = path.rsplit('/').next().unwrap_or(path);
        for p in &self.patterns {
            let matched = || path_match(&p.glob, if p.whole_path { path } else { base }).unwrap_or(false);
            if p.negate {
                if (p.only_dirs && !is_dir) || !matched() {
                    return true;
                }
            } else if (!p.only_dirs || is_dir) && matched() {
                return true;
            }
        }
        false
    }
}

/// Go's `filepath.Match`: `*`, `?`, `[a-z]`, `\` escapes; `*` and `?` do not match `/`.
/// `None` when the pattern is malformed.
#[must_use]
pub fn path_match(pattern: &str, name: &str) -> Option<bool> {
    let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Positions to fall back to: pattern just after the last star, and the next name position to try.
    let mut star: Option<(usize, usize)> = None;
    let (mut i, mut j) = (0, 0);
    loop {
        if i < p.len() && p.get(i) == Some(&'*') {
            while p.get(i) == Some(&'*') {
                i += 1;
            }
            star = Some((i, j));
            continue;
        }
        let step = if i < p.len() {
            match_one(&p, i, n.get(j).copied())?
        } else if j == n.len() {
            return Some(true);
        } else {
            None
        };
        match step {
            Some(next) => {
                i = next;
                j += 1;
            }
            None => match star {
                Some((si, sj)) if sj < n.len() && n.get(sj) != Some(&'/') => {
                    star = Some((si, sj + 1));
                    i = si;
                    j = sj + 1;
                }
                _ => {
                    check_rest(&p, i)?;
                    return Some(false);
                }
            },
        }
    }
}

/// Malformed patterns are refused even where matching failed before the fault.
fn check_rest(p: &[char], mut i: usize) -> Option<()> {
    while i < p.len() {
        i = match p.get(i) {
            Some('[') => class_end(p, i)?,
            Some('\\') if i + 1 >= p.len() => return None,
            Some('\\') => i + 2,
            _ => i + 1,
        };
    }
    Some(())
}

fn match_one(p: &[char], i: usize, c: Option<char>) -> Option<Option<usize>> {
    match p.get(i) {
        Some('?') => Some((c.is_some() && c != Some('/')).then_some(i + 1)),
        Some('[') => {
            let end = class_end(p, i)?;
            let Some(c) = c else { return Some(None) };
            let mut k = i + 1;
            let negated = p.get(k) == Some(&'^');
            if negated {
                k += 1;
            }
            let mut hit = false;
            while k < end - 1 {
                let (lo, next) = class_char(p, k)?;
                let (hi, next) = if p.get(next) == Some(&'-') { class_char(p, next + 1)? } else { (lo, next) };
                hit |= (lo..=hi).contains(&c);
                k = next;
            }
            Some((hit != negated).then_some(end))
        }
        Some('\\') => {
            let want = p.get(i + 1)?;
            Some((c == Some(*want)).then_some(i + 2))
        }
        Some(want) => Some((c == Some(*want)).then_some(i + 1)),
        None => Some(None),
    }
}

fn class_char(p: &[char], k: usize) -> Option<(char, usize)> {
    match p.get(k) {
        None | Some('-' | ']') => None,
        Some('\\') => p.get(k + 1).map(|c| (*c, k + 2)),
        Some(c) => Some((*c, k + 1)),
    }
}

/// The position after the class that opens at `i`.
fn class_end(p: &[char], i: usize) -> Option<usize> {
    let mut k = i + 1;
    if p.get(k) == Some(&'^') {
        k += 1;
    }
    let mut any = false;
    loop {
        if p.get(k) == Some(&']') && any {
            return Some(k + 1);
        }
        let (_, next) = class_char(p, k)?;
        k = if p.get(next) == Some(&'-') { class_char(p, next + 1)?.1 } else { next };
        any = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_match_as_helms_own_tests_do() {
        for (rule, path, dir, yes) in [
            ("helm.txt", "helm.txt", false, true),
            ("helm.*", "cargo/helm.txt", false, true),
            ("*.txt", "a/b/c.txt", false, true),
            ("/a.txt", "a.txt", false, true),
            ("/a.txt", "b/a.txt", false, false),
            ("cargo/a.txt", "cargo/a.txt", false, true),
            ("cargo/*.txt", "mast/a.txt", false, false),
            ("cargo/", "cargo", true, true),
            ("cargo/", "cargo", false, false),
            ("!helm.txt", "tiller.txt", false, true),
            ("!helm.txt", "helm.txt", false, false),
            ("ru[c-e]?er.txt", "rudder.txt", false, true),
            ("templates/.?*", "templates/.dotfile", false, true),
            (".helmignore", ".helmignore", false, true),
            ("# comment", "comment", false, false),
        ] {
            let rules = Rules::parse(rule).unwrap_or(Rules { patterns: vec![] });
            assert_eq!(rules.ignores(path, dir), yes, "{rule} {path}");
        }
        assert!(Rules::parse("a/**/b").is_err() && Rules::parse("[").is_err());
        assert_eq!(Rules::parse("").map(|r| r.ignores("templates/.x", false)), Ok(true));
    }
}
