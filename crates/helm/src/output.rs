//! What `helm template` prints.

use crate::error::HelmError;
use crate::ignore::path_match;
use crate::manifest::split;
use crate::render::{Rendered, push_source};

/// What to print of a render.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Show {
    /// Print the files of `crds/` first.
    pub include_crds: bool,
    /// Leave out tests.
    pub skip_tests: bool,
    /// Leave out all hooks.
    pub no_hooks: bool,
    /// Print only these templates (patterns, relative to the chart).
    pub only: Vec<String>,
}

/// A render as `helm template` prints it, byte for byte.
///
/// # Errors
/// When a template of [`Show::only`] is not there.
pub fn template_text(rendered: &Rendered, show: &Show) -> Result<String, HelmError> {
    let mut text = String::new();
    if show.include_crds {
        for crd in &rendered.crds {
            push_source(&mut text, &crd.path, &crd.text);
        }
    }
    text.push_str(&rendered.manifest_text());
    let mut out = format!("{}\n", text.trim());
    if !show.no_hooks {
        for hook in rendered.hooks.iter().filter(|h| !(show.skip_tests && h.is_test())) {
            push_source(&mut out, &hook.manifest.template, &hook.manifest.text);
        }
    }
    if show.only.is_empty() {
        return Ok(out);
    }
    let documents: Vec<(&str, &str)> = split(&out).into_iter().filter_map(|d| Some((source(d)?, d))).collect();
    let mut chosen = String::new();
    for pattern in &show.only {
        let mut missing = true;
        for (_, doc) in documents.iter().filter(|(name, _)| path_match(pattern, name) == Some(true)) {
            chosen.push_str(&format!("---\n{doc}\n"));
            missing = false;
        }
        if missing {
            return Err(HelmError::Template(format!("could not find template {pattern} in chart")));
        }
    }
    Ok(chosen)
}

/// The path in a document's `# Source:` line, without the chart's name.
fn source(doc: &str) -> Option<&str> {
    let rest = doc.get(doc.find("# Source: ")? + "# Source: ".len()..)?;
    let (_, path) = rest.lines().next()?.split_once('/')?;
    Some(path)
}
