//! Which repository, folder and revision a URL of `resources` or `components` means, by kustomize's rules:
//! `https://host/owner/name//folder?ref=v1`, `github.com/owner/name/folder`, `git@host:owner/name.git`.

/// A folder of a Git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepoSpec {
    /// What Git clones.
    pub url: String,
    /// The folder in it; empty for the repository's root.
    pub dir: String,
    /// The branch, tag or commit; empty for the default branch.
    pub reference: String,
}

impl RepoSpec {
    /// Reads a URL; `None` when it names no Git repository.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return None;
        }
        let (text, query) = text.split_once('?').unwrap_or((text, ""));
        let (host, path) = host(text)?;
        let (repository, dir) = split(path, host.starts_with("file://"))?;
        let dir = dir.trim_start_matches('/');
        if repository.is_empty() || dir.split('/').next() == Some("..") || crate::tree::join("", dir).is_none() {
            return None;
        }
        Some(Self { url: format!("{host}{repository}"), dir: dir.to_string(), reference: reference(query) })
    }
}

fn starts_with_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| text.get(prefix.len()..).unwrap_or_default())
}

/// Scheme, user and host as Git wants them, and the path after them.
fn host(text: &str) -> Option<(String, &str)> {
    let text = starts_with_ignoring_case(text, "git::").unwrap_or(text);
    let found = ["ssh://", "https://", "http://", "file://"]
        .into_iter()
        .find_map(|scheme| Some((scheme, starts_with_ignoring_case(text, scheme)?)));
    let (scheme, rest) = found.unwrap_or(("", text));
    if scheme == "file://" {
        return Some((scheme.to_string(), rest));
    }
    // The user ends before the first slash.
    let (user, rest) = match rest.split_once('@') {
        Some((user, after)) if !user.is_empty() && !user.contains('/') => {
            (rest.get(..=user.len()).unwrap_or_default(), after)
        }
        _ => ("", rest),
    };
    let github = ["github.com/", "github.com:"].iter().find_map(|host| starts_with_ignoring_case(rest, host));
    let scp = scheme.is_empty() && (!user.is_empty() || github.is_some());
    if scheme.is_empty() && !scp {
        return None;
    }
    if let Some(path) = github {
        let host = match (scheme, user) {
            ("ssh://" | "", user) if !user.is_empty() => format!("{user}github.com:"),
            ("ssh://", _) => "git@github.com:".to_string(),
            _ => "https://github.com/".to_string(),
        };
        return Some((host, path));
    }
    let slash = rest.find('/');
    let end = match rest.find(':').filter(|_| scp) {
        Some(colon) if slash.is_none_or(|s| colon < s) => colon,
        _ => slash?,
    };
    let (name, path) = rest.split_at(end + 1);
    (name.len() > 1).then(|| (format!("{scheme}{user}{name}"), path))
}

/// The repository and the folder in it: where the URL marks it, else after owner and name.
fn split(path: &str, whole: bool) -> Option<(&str, &str)> {
    if let Some(i) = path.find("_git/") {
        let start = i + "_git/".len();
        let end = path.get(start..)?.find('/').map_or(path.len(), |j| start + j);
        return Some((path.get(..end)?, path.get(end..)?));
    }
    if let Some((repository, dir)) = path.split_once("//") {
        return Some((repository, dir));
    }
    if let Some(i) = path.find(".git") {
        return Some(path.split_at(i + ".git".len()));
    }
    if whole {
        return Some((path, ""));
    }
    let slash = path.find('/')?;
    let end = path.get(slash + 1..)?.find('/').map_or(path.len(), |i| slash + 1 + i);
    Some(path.split_at(end))
}

fn reference(query: &str) -> String {
    let value = |name: &str| {
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(k, v)| *k == name && !v.is_empty())
    };
    let found = value("ref").or_else(|| value("version")).map_or("", |(_, v)| v);
    percent_decoded(found)
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = match (first, after) {
            (b'%', [a, b, ..]) => std::str::from_utf8(&[*a, *b]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        out.push(code.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = after.get(if code.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_as_kustomize_cuts_them() {
        for (text, url, dir, reference) in [
            ("https://github.com/o/r?ref=v1", "https://github.com/o/r", "", "v1"),
            ("github.com/o/r//a/b?ref=v1", "https://github.com/o/r", "a/b", "v1"),
            ("github.com/o/r/a/b?version=v2&timeout=90s", "https://github.com/o/r", "a/b", "v2"),
            ("https://github.com/o/r.git/a?ref=feature%2Fx", "https://github.com/o/r.git", "a", "feature/x"),
            ("git@github.com:o/r.git//a", "git@github.com:o/r.git", "a", ""),
            ("ssh://git@github.com/o/r", "git@github.com:o/r", "", ""),
            ("git::https://gitlab.com/o/r.git//a", "https://gitlab.com/o/r.git", "a", ""),
            ("git@gitlab.com:o/r/a", "git@gitlab.com:o/r", "a", ""),
            ("https://u@dev.azure.com/o/p/_git/r/a/b", "https://u@dev.azure.com/o/p/_git/r", "a/b", ""),
            ("file:///srv/r//a", "file:///srv/r", "a", ""),
        ] {
            let found = RepoSpec::parse(text).unwrap();
            assert_eq!(
                (found.url.as_str(), found.dir.as_str(), found.reference.as_str()),
                (url, dir, reference),
                "{text}"
            );
        }
        for text in ["base", "../base", "/srv/base", "https://github.com/o", "host/a/b", "github.com/o/r//../x"] {
            assert_eq!(RepoSpec::parse(text), None, "{text}");
        }
    }
}
