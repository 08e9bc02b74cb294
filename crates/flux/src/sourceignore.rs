//! Which files of a source become part of its artifact: Flux' default exclusions, `.sourceignore` files, `spec.ignore`.
//!
//! Source of behaviour: fluxcd/pkg/sourceignore and its `gitignore`. Unlike git, each file is judged by itself against
//! all rules, the last rule that matches decides, and a rule for a folder covers what is in it without hiding it from
//! later rules.

use std::sync::Arc;

use druse_kustomize::tree::{ContentId, FileTree, Kind, TreeError};

use crate::glob;

/// How deep folders are looked into.
const MAX_DEPTH: usize = 64;

/// The file that holds further rules for its folder.
pub const IGNORE_FILE: &str = ".sourceignore";

const DEFAULTS: &[&str] = &[
    ".git/",
    ".gitignore",
    ".gitmodules",
    ".gitattributes",
    "*.jpg",
    "*.jpeg",
    "*.gif",
    "*.png",
    "*.wmv",
    "*.flv",
    "*.tar.gz",
    "*.zip",
    ".github/",
    ".circleci/",
    ".travis.yml",
    ".gitlab-ci.yml",
    "appveyor.yml",
    ".drone.yml",
    "cloudbuild.yaml",
    "codeship-services.yml",
    "codeship-steps.yml",
    "**/.goreleaser.yml",
    "**/.sops.yaml",
    "**/.flux.yaml",
];

#[derive(Clone, Debug)]
struct Rule {
    domain: Vec<String>,
    parts: Vec<String>,
    include: bool,
    only_folders: bool,
    anchored: bool,
}

impl Rule {
    fn parse(text: &str, domain: &[String]) -> Self {
        let (include, mut text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if !text.ends_with("\\ ") {
            text = text.trim_end_matches(' ');
        }
        let only_folders = text.ends_with('/');
        if only_folders {
            text = text.strip_suffix('/').unwrap_or(text);
        }
        Self {
            domain: domain.to_vec(),
            parts: text.split('/').map(str::to_string).collect(),
            include,
            only_folders,
            anchored: text.contains('/'),
        }
    }

    /// Whether the rule is about this path at all.
    fn matches(&self, path: &[&str], is_folder: bool) -> bool {
        if path.len() <= self.domain.len() || !self.domain.iter().zip(path).all(|(d, p)| d == p) {
            return false;
        }
        let path = path.get(self.domain.len()..).unwrap_or_default();
        if self.anchored { self.matches_path(path, is_folder) } else { self.matches_name(path, is_folder) }
    }

    fn matches_name(&self, path: &[&str], is_folder: bool) -> bool {
        let Some(pattern) = self.parts.first() else { return false };
        for (i, name) in path.iter().enumerate() {
            match glob::matches(pattern, name) {
                None => return false,
                Some(false) => {}
                Some(true) => return !(self.only_folders && !is_folder && i + 1 == path.len()),
            }
        }
        false
    }

    fn matches_path(&self, mut path: &[&str], is_folder: bool) -> bool {
        let mut matched = false;
        let mut anywhere = false;
        for (i, pattern) in self.parts.iter().enumerate() {
            if pattern.is_empty() {
                anywhere = false;
                continue;
            }
            if pattern == "**" {
                if i + 1 == self.parts.len() {
                    break;
                }
                anywhere = true;
                continue;
            }
            if pattern.contains("**") {
                return false;
            }
            if path.is_empty() {
                return false;
            }
            if anywhere {
                anywhere = false;
                while let Some((first, rest)) = path.split_first() {
                    path = rest;
                    match glob::matches(pattern, first) {
                        None => return false,
                        Some(true) => {
                            matched = true;
                            break;
                        }
                        Some(false) if path.is_empty() => matched = false,
                        Some(false) => {}
                    }
                }
            } else {
                let Some((first, rest)) = path.split_first() else { return false };
                if glob::matches(pattern, first) != Some(true) {
                    return false;
                }
                matched = true;
                path = rest;
            }
        }
        matched && !(self.only_folders && !is_folder && path.is_empty())
    }
}

/// The rules of one source.
#[derive(Clone, Debug)]
pub struct Matcher {
    rules: Vec<Rule>,
}

impl Default for Matcher {
    /// Flux' default exclusions only.
    fn default() -> Self {
        Self { rules: DEFAULTS.iter().map(|p| Rule::parse(p, &[])).collect() }
    }
}

impl Matcher {
    /// Adds the rules of a `.sourceignore` file in `folder` (relative to the source's root, empty for the root), or of
    /// a `spec.ignore`. Later rules win over earlier ones.
    pub fn add(&mut self, text: &str, folder: &str) {
        let domain: Vec<String> = folder.split('/').filter(|p| !p.is_empty()).map(str::to_string).collect();
        for line in text.lines() {
            if !line.starts_with('#') && !line.trim().is_empty() {
                self.rules.push(Rule::parse(line, &domain));
            }
        }
    }

    /// Whether a path (relative to the source's root, `/` between parts) is left out of the artifact.
    #[must_use]
    pub fn ignores(&self, path: &str, is_folder: bool) -> bool {
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
        self.rules.iter().rev().find(|r| r.matches(&parts, is_folder)).is_some_and(|r| !r.include)
    }
}

impl Matcher {
    /// The rules of a tree: the defaults, all its `.sourceignore` files, then `spec.ignore`.
    #[must_use]
    pub fn of(tree: &dyn FileTree, spec_ignore: Option<&str>) -> Self {
        let mut matcher = Self::default();
        matcher.load(tree, "", 0);
        if let Some(text) = spec_ignore {
            matcher.add(text, "");
        }
        matcher
    }

    fn load(&mut self, tree: &dyn FileTree, dir: &str, depth: usize) {
        let Ok(names) = tree.list(dir) else { return };
        if names.iter().any(|n| n == IGNORE_FILE)
            && let Ok(bytes) = tree.read(&path_in(dir, IGNORE_FILE))
        {
            self.add(&String::from_utf8_lossy(&bytes), dir);
        }
        for name in names.iter().filter(|n| *n != ".git") {
            let path = path_in(dir, name);
            // A link is no folder of the artifact; following it could go round for ever.
            if depth < MAX_DEPTH && tree.kind(&path) == Some(Kind::Dir) && tree.canonical(&path) == path {
                self.load(tree, &path, depth + 1);
            }
        }
    }

    fn has_includes(&self) -> bool {
        self.rules.iter().any(|r| r.include)
    }
}

/// The path of an entry of a folder.
pub(crate) fn path_in(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_string() } else { format!("{dir}/{name}") }
}

/// A source's artifact: a tree without what its rules leave out.
pub struct ArtifactTree<T> {
    inner: T,
    matcher: Matcher,
    has_includes: bool,
}

impl<T: FileTree> ArtifactTree<T> {
    /// The artifact of a tree under the tree's own rules and `spec.ignore`.
    pub fn new(tree: T, spec_ignore: Option<&str>) -> Self {
        let matcher = Matcher::of(&tree, spec_ignore);
        let has_includes = matcher.has_includes();
        Self { inner: tree, matcher, has_includes }
    }

    /// Whether a folder is in the artifact: not left out, or holding a file that is not.
    fn shows_dir(&self, dir: &str, depth: usize) -> bool {
        if !self.matcher.ignores(dir, true) {
            return true;
        }
        if !self.has_includes || depth > MAX_DEPTH || dir == ".git" || dir.ends_with("/.git") {
            return false;
        }
        self.inner.list(dir).unwrap_or_default().iter().any(|name| {
            let path = path_in(dir, name);
            match self.inner.kind(&path) {
                Some(Kind::File) => !self.matcher.ignores(&path, false),
                Some(Kind::Dir) => self.shows_dir(&path, depth + 1),
                None => false,
            }
        })
    }
}

impl<T: FileTree> FileTree for ArtifactTree<T> {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        match druse_kustomize::tree::join("", path) {
            Some(clean) if self.matcher.ignores(&clean, false) => Err(TreeError::NotFound { path: path.to_string() }),
            _ => self.inner.read(path),
        }
    }

    fn kind(&self, path: &str) -> Option<Kind> {
        let clean = druse_kustomize::tree::join("", path)?;
        match self.inner.kind(&clean)? {
            Kind::File => (!self.matcher.ignores(&clean, false)).then_some(Kind::File),
            Kind::Dir => (clean.is_empty() || self.shows_dir(&clean, 0)).then_some(Kind::Dir),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError> {
        let clean = druse_kustomize::tree::join("", dir).ok_or_else(|| TreeError::Outside { path: dir.to_string() })?;
        let mut names = self.inner.list(&clean)?;
        names.retain(|name| self.kind(&path_in(&clean, name)).is_some());
        Ok(names)
    }

    fn canonical(&self, path: &str) -> String {
        self.inner.canonical(path)
    }

    fn content_id(&self, path: &str) -> Result<ContentId, TreeError> {
        match druse_kustomize::tree::join("", path) {
            Some(clean) if self.matcher.ignores(&clean, false) => Err(TreeError::NotFound { path: path.to_string() }),
            _ => self.inner.content_id(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_shows_only_what_its_rules_leave_in() {
        let tree: druse_kustomize::tree::MemoryTree = [
            ("README.md", ""),
            ("a/x.yaml", ""),
            ("a/y.txt", ""),
            (".github/ci.yaml", ""),
            ("client/config/crd/c.yaml", ""),
            ("b/.sourceignore", "*.yaml"),
            ("b/z.yaml", ""),
        ]
        .into_iter()
        .collect();
        let artifact = ArtifactTree::new(tree.clone(), None);
        assert_eq!(artifact.list("").unwrap(), ["README.md", "a", "b", "client"]);
        assert!(artifact.read("b/z.yaml").is_err());
        let artifact = ArtifactTree::new(tree, Some("/*\n!/client/config/crd\n"));
        assert_eq!(artifact.list("").unwrap(), ["client"]);
        assert_eq!(artifact.kind("client/config/crd/c.yaml"), Some(Kind::File));
        assert_eq!(artifact.kind("a"), None);
    }

    #[test]
    fn defaults_leave_out_what_flux_leaves_out() {
        let m = Matcher::default();
        for (path, want) in [
            (".git/config", true),
            ("a/.git/config", true),
            (".github/workflows/ci.yaml", true),
            ("docs/logo.png", true),
            ("a/b/.sops.yaml", true),
            (".gitignore", true),
            ("kubernetes/app.yaml", false),
            ("kubernetes/.gitea.yaml", false),
        ] {
            assert_eq!(m.ignores(path, false), want, "{path}");
        }
    }

    #[test]
    fn later_rules_win_and_can_include_again() {
        let mut m = Matcher::default();
        m.add("# comment\n/*\n!/client/config/crd\n!*.png\n", "");
        assert!(m.ignores("README.md", false));
        assert!(m.ignores("client/other/x.yaml", false));
        assert!(!m.ignores("client/config/crd/a.yaml", false));
        assert!(!m.ignores("docs/logo.png", false));
    }

    #[test]
    fn rules_of_a_folder_are_about_that_folder() {
        let mut m = Matcher::default();
        m.add("secret.yaml\nlocal/\n", "a/b");
        assert!(m.ignores("a/b/secret.yaml", false));
        assert!(m.ignores("a/b/c/secret.yaml", false));
        assert!(!m.ignores("a/secret.yaml", false));
        assert!(m.ignores("a/b/local/x.yaml", false));
        assert!(!m.ignores("a/b/local", false));
        assert!(m.ignores("a/b/local", true));
    }

    #[test]
    fn double_stars_span_folders() {
        let mut m = Matcher::default();
        m.add("a/**/z.yaml\n**/tmp/*.yaml\n", "");
        assert!(m.ignores("a/b/c/z.yaml", false));
        assert!(!m.ignores("b/z.yaml", false));
        assert!(m.ignores("x/y/tmp/q.yaml", false));
    }
}
