//! `buildMetadata`: where objects come from and what changed them, as annotations say it.

use crate::repospec::RepoSpec;
use crate::resource::{Resource, Resources};

/// Where an object or a transformer comes from, for `buildMetadata`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    path: String,
    repo: String,
    reference: String,
}

impl Origin {
    pub(crate) fn append(&self, path: &str) -> Self {
        match RepoSpec::parse(path) {
            Some(spec) => Self { path: clean("", &spec.dir), repo: spec.url, reference: spec.reference },
            None => Self { path: clean(&self.path, path), ..self.clone() },
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        if !self.path.is_empty() {
            out.push_str(&format!("path: {}\n", self.path));
        }
        out.push_str(&self.place());
        out
    }

    /// The repository, where it is another one.
    fn place(&self) -> String {
        let mut out = String::new();
        for (field, text) in [("repo", &self.repo), ("ref", &self.reference)] {
            if !text.is_empty() {
                out.push_str(&format!("{field}: {text}\n"));
            }
        }
        out
    }

    /// The text for what a plugin of a file makes or changes.
    pub(crate) fn configured(&self, file_name: &str, api_version: &str, kind: &str, name: &str) -> String {
        let mut out = self.place();
        out.push_str(&format!("configuredIn: {}\n", clean(&self.path, file_name)));
        out.push_str(&format!("configuredBy:\n  apiVersion: {api_version}\n  kind: {kind}\n"));
        if !name.is_empty() {
            out.push_str(&format!("  name: {name}\n"));
        }
        out
    }
}

/// Go's `filepath.Join`: `..` at the start stays.
fn clean(dir: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The text for what an object that configures a plugin makes or changes.
pub(crate) fn plugin_origin(object: &Resource, origin: Option<&Origin>, file_name: &str) -> Option<String> {
    let origin = origin?;
    let id = object.id();
    let written = object.origin.as_deref().and_then(|o| o.strip_prefix("path: ")).map(str::trim_end);
    let at = Origin { path: String::new(), ..origin.clone() };
    match written {
        Some(path) => Some(at.configured(path, &id.gvk.version, &id.gvk.kind, &id.name)),
        None => Some(origin.configured(file_name, &id.gvk.version, &id.gvk.kind, &id.name)),
    }
}

/// Notes at every object that a transformer has run.
pub(crate) fn trace(resources: &mut Resources, origin: &str) {
    for resource in resources.contents_mut() {
        if resource.origin.is_none() {
            resource.origin = Some(origin.into());
            continue;
        }
        for (i, line) in origin.lines().enumerate() {
            resource.transformations.push_str(if i == 0 { "- " } else { "  " });
            resource.transformations.push_str(line);
            resource.transformations.push('\n');
        }
    }
}
