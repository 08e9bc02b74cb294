//! DR001: YAML that no unit fails for: files that none reads (machine configurations, workflows), and a key of a
//! kustomization that is there twice, of which kustomize takes the last without a word.

use druse_kustomize::tree::parent;
use druse_object::yaml;

use crate::context::Context;
use crate::files::{File, is_kustomization, is_put_aside};
use crate::finding::{Finding, Place, Severity};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    for file in cx.files.iter() {
        match (cx.files.was_read(&file.path), is_kustomization(&file.path)) {
            (true, true) => twice(file, out),
            (false, _) => unread(cx, file, out),
            _ => {}
        }
    }
}

/// A key that is there twice.
fn twice(file: &File, out: &mut Vec<Finding>) {
    let Err(error) = yaml::parse_strict(file.text()) else { return };
    if yaml::parse(file.text(), yaml::Dialect::Sigs).is_err() {
        // What cannot be read at all fails the unit.
        return;
    }
    let message = format!("{}; kustomize takes the last and drops what came before", error.message);
    let place = Place::new(&file.path, error.line.max(1));
    out.push(Finding::new("DR001", place, message).severity(Severity::Warning).help("put both into one"));
}

/// A file that no unit reads.
fn unread(cx: &Context<'_>, file: &File, out: &mut Vec<Finding>) {
    let text = file.text();
    let folders = parent(&file.path);
    let of_others = folders.split('/').any(|d| matches!(d, "templates" | "charts" | "tests" | "testdata" | "fixtures"));
    // Only `.github` is looked into of the folders that begin with a dot.
    let hidden = is_put_aside(&file.path) && !file.path.starts_with(".github/");
    // What is a template is YAML only once it is filled in.
    let template = ["{{", "{%", "<%", "#{", "%{"].iter().any(|mark| text.contains(mark));
    let workflow = file.path.starts_with(".github/workflows/");
    if of_others || hidden || template && !workflow || is_read_as_another(cx, file) {
        return;
    }
    let Some(error) = yaml::documents(text, yaml::Dialect::Sigs).into_iter().find_map(Result::err) else { return };
    let message = format!("{}; no unit reads this file", error.message);
    out.push(Finding::new("DR001", Place::new(&file.path, error.line.max(1)), message).severity(Severity::Warning));
}

/// Whether a file is read by another path: a link to it, or one that it is.
fn is_read_as_another(cx: &Context<'_>, file: &File) -> bool {
    let canonical = cx.files.tree().canonical(&file.path);
    canonical != file.path && cx.files.was_read(&canonical)
}
