//! Pieces of the page: text made harmless, names, badges, links.

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::model::{ChangeKind, Counts, Danger, Place, Step};

/// Text for anywhere in the page, attributes in double quotes included.
pub(super) fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What turns the direction of text around could make it read as something else.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(out, "<code>U+{:04X}</code>", u32::from(c));
            }
            c if c.is_control() && c != '\t' && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Text for an attribute: as [`esc`], without markup.
pub(super) fn attr(text: &str) -> String {
    let plain: String =
        text.chars().filter(|c| !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')).collect();
    esc(&plain)
}

pub(super) fn digest(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes()))
}

/// A name for a deep link that stays the same from one diff to the next.
pub(super) fn id(kind: char, parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\n").as_bytes());
    let hex: String = digest.iter().take(5).map(|b| format!("{b:02x}")).collect();
    format!("{kind}-{hex}")
}

/// `Kind`, namespace and name of `Kind/ns/name`, each marked.
pub(super) fn name_html(name: &str) -> String {
    let mut parts = name.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(kind), Some(ns), Some(name)) => format!(
            "<span class=\"kind\">{}</span><span class=\"ns\">{}/</span><wbr><b>{}</b>",
            esc(kind),
            esc(ns),
            esc(name)
        ),
        (Some(kind), Some(name), None) => format!("<span class=\"kind\">{}</span><b>{}</b>", esc(kind), esc(name)),
        _ => format!("<b>{}</b>", esc(name)),
    }
}

pub(super) fn signs_html(change: Counts) -> String {
    let mut out = String::from("<span class=\"signs\">");
    for (class, sign, n) in
        [("plus", '+', change.added), ("tilde", '~', change.changed), ("minus", '−', change.removed)]
    {
        if n > 0 {
            let _ = write!(out, "<span class=\"{class}\">{sign}{n}</span>");
        }
    }
    out + "</span>"
}

pub(super) fn badge(change: ChangeKind) -> String {
    let sign = if change == ChangeKind::Removed { '−' } else { change.sign() };
    format!("<span class=\"badge {0}\" title=\"{0}\" aria-label=\"{0}\">{sign}</span>", change.word())
}

pub(super) fn place_html(place: &Place) -> String {
    let mut out = esc(&place.file);
    if place.line > 0 {
        let _ = write!(out, ":{}", place.line);
    }
    if let Some(template) = &place.template {
        let _ = write!(out, " · {}", esc(template));
    }
    out
}

/// A name for a danger's deep link, told apart from others that would have the same.
pub(super) fn danger_id(d: &Danger, ids: &mut HashMap<String, usize>) -> String {
    let object = d.object.as_deref().unwrap_or_default();
    let mut own = id('d', &[d.code, &d.unit, object, d.field.as_deref().unwrap_or_default()]);
    let same = ids.entry(own.clone()).or_default();
    *same += 1;
    if *same > 1 {
        let _ = write!(own, "-{same}");
    }
    own
}

/// What filters look at.
pub(super) fn danger_data(d: &Danger) -> String {
    let (severity, object) = (d.severity.word(), d.object.as_deref().unwrap_or_default());
    let text = format!("{} {} {object} {} {} {severity}", d.title, d.code, d.unit, d.category).to_lowercase();
    let kind = object.split('/').next().unwrap_or_default().to_lowercase();
    format!(
        " data-text=\"{}\" data-code=\"{}\" data-danger=\"{severity}\" data-kind=\"{}\" data-file=\"{}\"",
        attr(&text),
        attr(d.code),
        attr(&kind),
        attr(&d.place.file.to_lowercase())
    )
}

/// The object, or the unit, on the line under a title.
pub(super) fn danger_what(d: &Danger) -> String {
    format!("<span class=\"what\">{}</span>", name_html(d.object.as_deref().unwrap_or(&d.unit)))
}

/// Links to object and unit, and the place.
pub(super) fn danger_where(d: &Danger) -> String {
    let mut out = String::new();
    if let Some(object) = &d.object {
        let _ = write!(out, "<a href=\"#{}\">{}</a> in ", id('o', &[&d.unit, object]), esc(object));
    }
    let _ = write!(
        out,
        "<a href=\"#{}\">{}</a> · <code>{}</code>",
        id('u', &[&d.unit]),
        esc(&d.unit),
        place_html(&d.place)
    );
    out
}

pub(super) fn versions(from: &str, to: &str) -> String {
    format!(
        "<span class=\"old\">{}</span> <span class=\"arrow\">→</span> <span class=\"new\">{}</span>",
        esc(from),
        esc(to)
    )
}

pub(super) fn step(step: Step) -> &'static str {
    match step {
        Step::Major => "<span class=\"step major\">major</span>",
        Step::Minor => "<span class=\"step\">minor</span>",
        Step::Patch => "<span class=\"step\">patch</span>",
        Step::Downgrade => "<span class=\"step downgrade\">downgrade</span>",
        Step::Other => "",
    }
}
