//! Markdown for the comment under a pull request: dangers first, tables, then every unit's objects folded in, as much
//! as a comment holds.

use std::fmt::Write as _;

use super::words;
use crate::fields::flat::{FieldChange, FieldChangeKind};
use crate::model::{Danger, Diff, ObjectChange, Severity, UnitChange};

/// GitHub refuses longer comments (characters); some room is left for what a bot adds around it.
const LIMIT: usize = 65_536 - 2_048;
/// Dangers of one severity are written out up to so many.
const DANGERS: usize = 25;
/// Rows of one table.
const ROWS: usize = 40;
/// Fields of one object.
const FIELDS: usize = 60;
/// Lines of one field's value.
const LINES: usize = 60;

/// The diff as GitHub-flavoured Markdown that fits one comment.
#[must_use]
pub fn markdown(diff: &Diff) -> String {
    let mut out = String::from("## druse diff\n\n");
    let _ = writeln!(out, "{} → {}", code(&diff.base.to_string()), code(&diff.head.to_string()));
    if diff.is_empty() {
        out.push_str("\nNo differences.\n");
        return out;
    }
    let _ = writeln!(out, "\n**{}**", super::text::summary(diff));
    dangers(&mut out, diff);
    not_rendered(&mut out, diff);
    charts(&mut out, diff);
    images(&mut out, diff);
    units(&mut out, diff);
    details(&mut out, diff);
    out
}

/// Text that Markdown and HTML leave as it is, and that mentions nobody.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '|' | '#' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("&#64;"),
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A code span, whatever backticks the text holds.
fn code(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ").replace('|', "\\|");
    let fence = "`".repeat(longest_run(&text) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('@', "&#64;")
}

fn dangers(out: &mut String, diff: &Diff) {
    for (severity, alert) in [(Severity::Danger, "CAUTION"), (Severity::Warning, "WARNING"), (Severity::Notice, "NOTE")]
    {
        let of: Vec<&Danger> = diff.dangers.iter().filter(|d| d.severity == severity).collect();
        if of.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n> [!{alert}]\n> **{}**", words::count(of.len(), severity.word()));
        for (i, d) in of.iter().enumerate().take(DANGERS) {
            let _ = writeln!(out, ">\n> - **{}** ({})", plain(&d.title), code(d.code));
            let object = d.object.as_ref().map(|o| format!("{} in ", code(o))).unwrap_or_default();
            let _ = writeln!(out, ">   {object}{} at {}", code(&d.unit), code(&d.place.to_string()));
            // Why and what to do are the same for all of a kind, and said once.
            let said_below = i + 1 < DANGERS && of.get(i + 1).is_some_and(|n| n.why == d.why && n.remedy == d.remedy);
            if severity > Severity::Notice && !said_below {
                let _ = writeln!(out, ">\n>   {} **Do:** {}", plain(&d.why), plain(&d.remedy));
            }
        }
        if of.len() > DANGERS {
            let _ =
                writeln!(out, ">\n> and {}", words::count(of.len() - DANGERS, &format!("more {}", severity.word())));
        }
    }
}

fn not_rendered(out: &mut String, diff: &Diff) {
    if diff.not_rendered.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n<details><summary>Not rendered, and so not compared: {}</summary>\n",
        words::count(diff.not_rendered.len(), "unit")
    );
    for n in diff.not_rendered.iter().filter(|n| !n.both).take(ROWS) {
        let reason = n.reasons.first().map(|r| plain(r)).unwrap_or_default();
        let _ = writeln!(out, "- {} {} in {}: {reason}", code(&n.unit), plain(&n.state), words::sides(n));
    }
    let both: Vec<String> = diff.not_rendered.iter().filter(|n| n.both).map(|n| code(&n.unit)).take(ROWS).collect();
    if !both.is_empty() {
        let _ = writeln!(out, "- on neither side: {}", both.join(", "));
    }
    left_out(out, diff.not_rendered.len(), "unit");
    out.push_str("\n</details>\n");
}

fn left_out(out: &mut String, many: usize, what: &str) {
    if many > ROWS {
        let _ = writeln!(out, "\nand {}", words::count(many - ROWS, &format!("more {what}")));
    }
}

fn charts(out: &mut String, diff: &Diff) {
    if diff.charts.is_empty() {
        return;
    }
    out.push_str("\n### Charts\n\n| chart | from | to | application | release |\n| --- | --- | --- | --- | --- |\n");
    for c in diff.charts.iter().take(ROWS) {
        let app = if c.app_from == c.app_to { c.app_to.clone() } else { format!("{} → {}", c.app_from, c.app_to) };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            plain(&c.chart),
            plain(&c.from),
            plain(&c.to),
            plain(&app),
            code(&c.unit)
        );
    }
    left_out(out, diff.charts.len(), "chart");
}

fn images(out: &mut String, diff: &Diff) {
    if diff.images.is_empty() {
        return;
    }
    out.push_str("\n### Images\n\n| image | change | used by |\n| --- | --- | --- |\n");
    for i in diff.images.iter().take(ROWS) {
        let (name, versions) = words::image(i);
        let first = i.used_by.first().map(|u| code(&u.object)).unwrap_or_default();
        let more = if i.used_by.len() > 1 { format!(" and {} more", i.used_by.len() - 1) } else { String::new() };
        let _ = writeln!(out, "| {} | {} | {first}{more} |", plain(&name), plain(&versions));
    }
    left_out(out, diff.images.len(), "image");
}

fn units(out: &mut String, diff: &Diff) {
    if diff.units.is_empty() {
        return;
    }
    out.push_str("\n### Units\n\n| | unit | objects | why |\n| --- | --- | --- | --- |\n");
    for u in diff.units.iter().take(ROWS) {
        let counts = u.not_compared.as_ref().map_or_else(|| words::signs(u.counts()), |n| format!("not compared: {n}"));
        let why: Vec<String> = words::causes(u).iter().map(|c| plain(c)).collect();
        let _ = writeln!(out, "| {} | {} | {} | {} |", u.change.sign(), code(&u.unit), plain(&counts), why.join("; "));
    }
    left_out(out, diff.units.len(), "unit");
}

/// Every unit's objects, folded in, until the comment is full.
fn details(out: &mut String, diff: &Diff) {
    let mut length = out.chars().count();
    let mut left = 0;
    let touched: Vec<&UnitChange> = diff.units.iter().filter(|u| !u.objects.is_empty()).collect();
    for (i, unit) in touched.iter().enumerate() {
        let (text, whole) = unit_details(unit, LIMIT.saturating_sub(length + 400));
        if text.is_empty() {
            left = touched.len() - i;
            break;
        }
        length += text.chars().count();
        out.push_str(&text);
        if !whole {
            left = touched.len() - i - 1;
            break;
        }
    }
    if left > 0 {
        let units = if left == 1 { "one more unit".to_string() } else { format!("{left} more units") };
        let _ = writeln!(
            out,
            "\n*The objects of {units} are left out: a comment holds no more. `druse diff -o html` shows everything.*"
        );
    }
}

/// One unit's objects in at most `room` characters, and whether that is all of them. Nothing when not even the first
/// fits.
fn unit_details(unit: &UnitChange, room: usize) -> (String, bool) {
    let mut body = String::new();
    let mut shown = 0;
    let mut echoes = Vec::new();
    let fate = words::common_fate(unit);
    if let Some(fate) = fate {
        let _ = writeln!(body, "# each removed object {fate}");
    }
    let mut length = body.chars().count();
    for o in &unit.objects {
        if o.is_mechanical() {
            echoes.push(o);
            continue;
        }
        let text = object(o, fate);
        let more = text.chars().count();
        if length + more > room {
            break;
        }
        length += more;
        body.push_str(&text);
        shown += 1;
    }
    let readable = unit.objects.len() - unit.objects.iter().filter(|o| o.is_mechanical()).count();
    let whole = shown == readable;
    if shown == 0 && readable > 0 {
        return (String::new(), false);
    }
    if whole && let Some(sums) = words::mechanical(echoes.iter().flat_map(|o| &o.fields)) {
        let _ = writeln!(body, "# {} with nothing but {sums}", words::count(echoes.len(), "object"));
    }
    if !whole {
        let _ = writeln!(body, "# {} left out: a comment holds no more", words::count(readable - shown, "more object"));
    }
    let fence = "`".repeat(longest_run(&body).max(2) + 1);
    let summary = format!("{} {} ({})", unit.change.sign(), escape_html(&unit.unit), words::signs(unit.counts()));
    (format!("\n<details><summary>{summary}</summary>\n\n{fence}diff\n{body}{fence}\n\n</details>\n"), whole)
}

fn object(o: &ObjectChange, told: Option<&str>) -> String {
    let mut out = String::new();
    let notes = words::object_notes(o, told);
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
    let sign = match o.change.sign() {
        '~' => '!',
        sign => sign,
    };
    let _ = writeln!(out, "{sign} {}{notes} {}", o.object, o.place);
    let readable: Vec<&FieldChange> = o.fields.iter().filter(|f| f.mechanical.is_none()).collect();
    for f in readable.iter().take(FIELDS) {
        field(&mut out, f);
    }
    if readable.len() > FIELDS {
        let _ = writeln!(out, "#   and {}", words::count(readable.len() - FIELDS, "more field"));
    }
    if let Some(sums) = words::mechanical(o.fields.iter()) {
        let _ = writeln!(out, "#   and {sums}");
    }
    out
}

fn field(out: &mut String, f: &FieldChange) {
    if f.hidden {
        let _ = writeln!(out, "    {}: {}", f.path, words::hidden(f));
        return;
    }
    if !f.lines.is_empty() {
        let _ = writeln!(out, "    {}:", f.path);
        let lines: Vec<&String> = f.lines.iter().flat_map(|h| &h.lines).collect();
        for line in lines.iter().take(LINES) {
            let (sign, rest) = line.split_at_checked(1).unwrap_or((line, ""));
            let _ = writeln!(out, "{sign}       {rest}");
        }
        if lines.len() > LINES {
            let _ = writeln!(out, "#       and {}", words::count(lines.len() - LINES, "more line"));
        }
        return;
    }
    let order = if f.change == FieldChangeKind::Reordered { " (order)" } else { "" };
    for (sign, value) in [('-', &f.from), ('+', &f.to)] {
        let Some(value) = value else { continue };
        match words::inline(value) {
            Some(text) => {
                let _ = writeln!(out, "{sign}   {}{order}: {text}", f.path);
            }
            None => {
                let _ = writeln!(out, "{sign}   {}{order}:", f.path);
                let lines = words::block(value);
                for line in lines.iter().take(LINES) {
                    let _ = writeln!(out, "{sign}     {line}");
                }
                if lines.len() > LINES {
                    let _ = writeln!(out, "#     and {}", words::count(lines.len() - LINES, "more line"));
                }
            }
        }
    }
}
