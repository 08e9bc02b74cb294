//! How findings are written: for people, for programs, for code hosts.

mod github;
mod json;
mod sarif;
mod text;

pub use github::annotations;
pub use json::json;
pub use sarif::sarif;
pub use text::{Paint, explain, list, text};

/// A tree's file as a path from the repository's root, where the tree is only a part of it.
fn in_repository(prefix: &str, file: &str) -> String {
    if prefix.is_empty() { file.to_string() } else { format!("{}/{file}", prefix.trim_end_matches('/')) }
}
