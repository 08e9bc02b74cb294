//! Versions and version constraints of charts: those of [`druse_gotemplate::semver`], which templates use too.

pub use druse_gotemplate::semver::{Constraint, SemverError, Version};

/// Whether `version` lies in `constraint`; false when either cannot be read (as Helm decides for dependencies and
/// `kubeVersion`).
#[must_use]
pub fn is_compatible_range(constraint: &str, version: &str) -> bool {
    match (Version::parse(version), Constraint::parse(constraint)) {
        (Ok(v), Ok(c)) => c.check(&v),
        _ => false,
    }
}
