//! A [`Diff`](crate::Diff) written down: text for a terminal, Markdown for a comment, JSON for scripts, one HTML page.

mod html;
mod json;
mod markdown;
mod markup;
mod text;
mod words;

pub use html::html;
pub use json::json;
pub use markdown::markdown;
pub use text::{Style, explain, list, text};
