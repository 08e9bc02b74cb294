//! DR070–DR072: images, charts and sources whose version is left open.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use druse_flux::api::HelmRelease;
use druse_object::Value;
use regex::Regex;

use crate::context::Context;
use crate::files::{File, is_kustomization};
use crate::finding::{Finding, Place, Severity};
use crate::index::{Entry, Origin};
use crate::pods;
use crate::position::{Step, locate};

/// What container runtimes take for an image's name.
#[allow(clippy::unwrap_used, reason = "the pattern is a constant; a test compiles it")]
static IMAGE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?/|\[[0-9a-fA-F:]+\](?::[0-9]+)?/)?",
        r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*",
        r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,})?$"
    ))
    .unwrap()
});

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    for entry in cx.own() {
        let Some(pod) = pods::of(entry) else { continue };
        for (mut path, container) in pod.containers() {
            let Some(image) = container.str_at(["image"]).filter(|i| !i.is_empty() && !i.contains("${")) else {
                continue;
            };
            if !seen.insert((entry.key(), image.to_string())) {
                continue;
            }
            path.push(Step::from("image"));
            if !IMAGE.is_match(image) {
                let last = image.rsplit('/').next().unwrap_or(image);
                let tag = last.rsplit_once(':').map_or("", |(_, tag)| tag);
                let message = format!(
                    "image {image:?} is no image's name: small letters, digits, . _ - and /, then :tag or @digest"
                );
                out.push(cx.at(entry, &path, &[image, tag], "DR013", message));
                continue;
            }
            image_findings(cx, entry, &path, image, out);
        }
    }
    for unit in &cx.plan.units {
        if HelmRelease::is(&unit.definition) {
            chart(cx, unit, out);
        }
    }
    for entry in cx.own().filter(|e| e.origin == Origin::Tree && e.gvk.group == "source.toolkit.fluxcd.io") {
        match entry.gvk.kind.as_str() {
            "OCIRepository" => oci(cx, entry, out),
            "GitRepository" => git(cx, entry, out),
            _ => {}
        }
    }
    for file in cx.files.iter().filter(|f| is_kustomization(&f.path) && cx.files.was_read(&f.path)) {
        remote(file, out);
    }
}

/// Sources from elsewhere that follow a branch. What is the tree itself does so on purpose.
fn git(cx: &Context<'_>, entry: &Entry<'_>, out: &mut Vec<Finding>) {
    let spec = &entry.object.value["spec"];
    let text = |k: &str| spec["ref"].get(k).and_then(Value::as_str).filter(|t| !t.is_empty());
    if text("commit").is_some() || text("tag").is_some() || text("name").is_some_and(|n| !n.contains("heads/")) {
        return;
    }
    let (own, url) = (entry.key(), spec.str_at(["url"]).unwrap_or_default());
    let known = cx.sources.tree_sources();
    if known.is_empty() || known.iter().any(|s| s.id == own || !s.url.is_empty() && s.url == url) || url.contains("${")
    {
        return;
    }
    let (last, what) = match (text("semver"), text("branch")) {
        (Some(range), _) if is_version(range) => return,
        (Some(range), _) => ("semver", format!("the range {range}")),
        (None, Some(branch)) => ("branch", format!("the branch {branch}")),
        (None, None) => ("url", "no version: the branch master is taken".to_string()),
    };
    let path: &[&str] = if last == "url" { &["spec", "url"] } else { &["spec", "ref", last] };
    let path: Vec<Step> = path.iter().map(|k| Step::from(*k)).collect();
    out.push(cx.at(entry, &path, &[], "DR071", format!("{} has {what}", entry.key())).help("name a tag or a commit"));
}

/// Files and folders that a kustomization takes from the network.
fn remote(file: &File, out: &mut Vec<Finding>) {
    let Some(document) = file.documents().first() else { return };
    for field in ["resources", "components"] {
        for (i, entry) in document.value[field].items().iter().enumerate() {
            let Some(url) = entry.as_str().filter(|e| !e.contains("${")) else { continue };
            let Some(what) = floating(url) else { continue };
            let line = locate(file.text(), document.line, &[Step::from(field), Step::Index(i)]).line;
            let message = format!("{url} {what}");
            let finding = Finding::new("DR071", Place::new(&file.path, line), message);
            out.push(finding.help("name a tag or a commit (?ref=v1.2.3)"));
        }
    }
}

/// What an address leaves open, if it is one that does.
fn floating(url: &str) -> Option<String> {
    let web = url.starts_with("https://") || url.starts_with("http://");
    let branch = |name: &str| matches!(name, "main" | "master" | "HEAD" | "latest" | "develop");
    if web && [".yaml", ".yml"].iter().any(|end| url.ends_with(end)) {
        let found = url.split('/').find(|part| branch(part))?;
        return Some(format!("follows {found}"));
    }
    if !web && !url.starts_with("github.com/") && !url.starts_with("git@") && !url.starts_with("ssh://") {
        return None;
    }
    let (_, query) = url.split_once('?').unwrap_or((url, ""));
    let reference = query.split('&').find_map(|p| p.strip_prefix("ref=").or_else(|| p.strip_prefix("version=")));
    match reference {
        None => Some("names no version: the default branch is taken".into()),
        Some(name) if branch(name) => Some(format!("follows the branch {name}")),
        Some(_) => None,
    }
}

fn image_findings(cx: &Context<'_>, entry: &Entry<'_>, path: &[Step], image: &str, out: &mut Vec<Finding>) {
    let (name, digest) = image.split_once('@').map_or((image, ""), |(n, d)| (n, d));
    let last = name.rsplit('/').next().unwrap_or(name);
    let (repository, tag) = match last.rsplit_once(':') {
        Some((_, tag)) => (name.get(..name.len() - tag.len() - 1).unwrap_or(name), tag),
        None => (name, ""),
    };
    let short = repository.split_once('/').map_or(repository, |(_, rest)| rest);
    let texts: Vec<&str> = if tag == "latest" {
        vec![image, name, "latest", repository, short]
    } else {
        vec![image, name, repository, short]
    };
    if digest.is_empty() && (tag.is_empty() || tag == "latest") {
        let what = if tag.is_empty() { "names no version" } else { "is whatever is latest" };
        let mut finding = cx.at(entry, path, &texts, "DR070", format!("image {image} {what}"));
        // What a chart leaves open is the chart's.
        if entry.origin == Origin::Chart && cx.in_values(entry.unit, &texts).is_none() {
            if entry.hook {
                return;
            }
            finding = finding.severity(Severity::Info);
        }
        out.push(finding);
    }
    if digest.is_empty() && (cx.wanted)("DR072") {
        out.push(cx.at(entry, path, &texts, "DR072", format!("image {image} has no digest")));
    }
}

/// Whether a text is one version, not a range of versions.
fn is_version(text: &str) -> bool {
    let text = text.trim().trim_start_matches('v');
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = core.split('.').collect();
    parts.len() == 3 && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn chart(cx: &Context<'_>, unit: &druse_plan::Unit, out: &mut Vec<Finding>) {
    let Some(spec) = unit.definition.value.at(["spec", "chart", "spec"]) else { return };
    // A chart in a folder has the version of its source.
    if spec.str_at(["sourceRef", "kind"]) != Some("HelmRepository") {
        return;
    }
    let name = spec.str_at(["chart"]).unwrap_or_default();
    match spec.str_at(["version"]).unwrap_or_default() {
        "" | "*" => {
            let last = if spec.get("version").is_some() { "version" } else { "chart" };
            let path = ["spec", "chart", "spec", last].map(Step::from);
            out.push(cx.unit(unit, &path, "DR071", format!("chart {name} has no version: the newest is installed")));
        }
        version if !is_version(version) => {
            let path = ["spec", "chart", "spec", "version"].map(Step::from);
            out.push(cx.unit(unit, &path, "DR071", format!("chart {name} has the range {version}, not a version")));
        }
        _ => {}
    }
}

fn oci(cx: &Context<'_>, entry: &Entry<'_>, out: &mut Vec<Finding>) {
    let reference = &entry.object.value["spec"]["ref"];
    let text = |k: &str| reference.get(k).and_then(Value::as_str).filter(|t| !t.is_empty());
    if text("digest").is_some() {
        return;
    }
    let (path, what): (Vec<Step>, String) = match (text("semver"), text("tag")) {
        (Some(range), _) if !is_version(range) => {
            (["spec", "ref", "semver"].map(Step::from).to_vec(), format!("the range {range}"))
        }
        (None, Some("latest")) => (["spec", "ref", "tag"].map(Step::from).to_vec(), "the tag latest".into()),
        (None, None) => (["spec", "url"].map(Step::from).to_vec(), "no version: latest is taken".into()),
        _ => return,
    };
    out.push(cx.at(entry, &path, &[], "DR071", format!("{} has {what}", entry.key())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_follow_a_branch_are_told_from_others() {
        for url in [
            "https://github.com/a/b//config/crd",
            "github.com/a/b/config?ref=main",
            "https://raw.githubusercontent.com/a/b/master/x.yaml",
            "https://github.com/a/b/releases/latest/download/x.yaml",
        ] {
            assert!(floating(url).is_some(), "{url}");
        }
        for url in [
            "../main",
            "app.yaml",
            "https://github.com/a/b//config/crd?ref=v1.2.3",
            "https://github.com/a/b/releases/download/v1/x.yaml",
            "https://raw.githubusercontent.com/a/b/v1.2.3/x.yaml",
        ] {
            assert_eq!(floating(url), None, "{url}");
        }
    }

    #[test]
    fn images_are_told_from_other_text() {
        for image in [
            "nginx",
            "nginx:1.27",
            "ghcr.io/a/b_c/d-e:V1.2",
            "localhost:5000/x:1",
            "[::1]:5000/x",
            "a/b@sha256:0123456789abcdef0123456789abcdef",
        ] {
            assert!(IMAGE.is_match(image), "{image}");
        }
        for text in ["ghcr.io/a/b :1", "ghcr.io/A/B:1", "https://ghcr.io/a/b", "a/b:", "a//b", "a/b:1:2"] {
            assert!(!IMAGE.is_match(text), "{text}");
        }
    }
}
