//! Text for a terminal: what matters first and short, then every object with its fields.

use std::fmt::Write as _;

use druse_object::Value;

use super::words;
use crate::dangers;
use crate::fields::flat::{FieldChange, FieldChangeKind};
use crate::model::{ChangeKind, Danger, Diff, ObjectChange, Severity, UnitChange};

/// How text is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// With terminal colours.
    pub color: bool,
    /// Everything: echoes of other changes, whole objects that came or went, every notice.
    pub all: bool,
}

/// Stands for the escape character until all text from objects is harmless.
const ESCAPE: char = '\u{f8ff}';
/// The colour codes this module writes.
const CODES: [&str; 8] = ["0", "1", "2", "31", "32", "33", "36", "1;31"];

/// Makes text from objects harmless to a terminal, and then colours what is this module's own: of all that could move a
/// cursor, hide text or turn its direction nothing is left but these few colours.
fn to_terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            ESCAPE => {
                let code = rest.strip_prefix('[').and_then(|r| r.split_once('m')).map(|(code, _)| code);
                if let Some(code) = code.filter(|code| CODES.contains(code)) {
                    let _ = write!(out, "\x1b[{code}m");
                    rest = rest.get(code.len() + 2..).unwrap_or_default();
                }
            }
            '\n' | '\t' => out.push(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("{ESCAPE}[{code}m{text}{ESCAPE}[0m") } else { text.to_string() }
    }
    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }
    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
    fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }
    fn sign(self, change: ChangeKind, text: &str) -> String {
        self.paint(
            match change {
                ChangeKind::Added => "32",
                ChangeKind::Removed => "31",
                ChangeKind::Changed => "33",
            },
            text,
        )
    }
    fn line(self, line: &str) -> String {
        match line.as_bytes().first() {
            Some(b'+') => self.paint("32", line),
            Some(b'-') => self.paint("31", line),
            _ => self.dim(line),
        }
    }
    fn severity(self, severity: Severity, text: &str) -> String {
        self.paint(
            match severity {
                Severity::Danger => "1;31",
                Severity::Warning => "33",
                Severity::Notice => "36",
            },
            text,
        )
    }
}

/// Notices beyond so many are counted, unless all is asked for.
const NOTICES: usize = 8;
/// Objects of a unit that came or went as a whole are listed up to so many, unless all is asked for.
const WHOLE_UNIT: usize = 12;
/// Fields of one object, unless all is asked for.
const FIELDS: usize = 40;
/// Lines of one field's value, unless all is asked for.
const LINES: usize = 40;

/// The diff as text; nothing when nothing differs.
#[must_use]
pub fn text(diff: &Diff, style: Style) -> String {
    let mut out = String::new();
    if diff.is_empty() {
        return out;
    }
    let _ = writeln!(out, "{}", style.bold(&format!("{} → {}", diff.base, diff.head)));
    all_dangers(&mut out, diff, style);
    not_rendered(&mut out, diff, style);
    charts(&mut out, diff, style);
    images(&mut out, diff, style);
    units(&mut out, diff, style);
    for unit in diff.units.iter().filter(|u| !u.objects.is_empty()) {
        objects(&mut out, unit, style);
    }
    let _ = writeln!(out, "\n{}", style.bold(&summary(diff)));
    to_terminal(&out)
}

/// All kinds of dangers, one a line.
#[must_use]
pub fn list(style: Style) -> String {
    let mut out = String::new();
    for kind in dangers::kinds() {
        let severity = style.severity(kind.severity, &format!("{:8}", kind.severity.word()));
        let _ = writeln!(out, "{:26} {severity} {:14} {}", kind.code, kind.category, style.dim(kind.why));
    }
    to_terminal(&out)
}

/// What a kind of danger means and what to do; nothing when there is no such kind.
#[must_use]
pub fn explain(code: &str, style: Style) -> Option<String> {
    let kind = dangers::kinds().into_iter().find(|k| k.code == code)?;
    let head = format!("{} [{}]", kind.severity.word(), kind.code);
    let text = format!(
        "{} {}: {}\n\n{}\n\n{} {}\n",
        style.severity(kind.severity, &head),
        kind.category,
        dangers::label(kind.code),
        kind.why,
        style.cyan("do:"),
        kind.remedy
    );
    Some(to_terminal(&text))
}

fn heading(out: &mut String, style: Style, text: &str) {
    let _ = writeln!(out, "\n{}", style.bold(text));
}

fn all_dangers(out: &mut String, diff: &Diff, style: Style) {
    if diff.dangers.is_empty() {
        return;
    }
    heading(out, style, "Dangers");
    let mut shown = 0;
    for (i, d) in diff.dangers.iter().enumerate() {
        if d.severity == Severity::Notice {
            shown += 1;
            if !style.all && shown > NOTICES {
                continue;
            }
        }
        danger(out, d, style);
        // Why and what to do are the same for all of a kind, and said once.
        let next = diff.dangers.get(i + 1);
        let said_below = next.is_some_and(|n| n.severity == d.severity && n.why == d.why && n.remedy == d.remedy);
        if !said_below && (d.severity > Severity::Notice || style.all) {
            let _ = writeln!(out, "    {} {}", style.dim("why:"), d.why);
            let _ = writeln!(out, "    {}  {}", style.cyan("do:"), d.remedy);
        }
    }
    if !style.all && shown > NOTICES {
        let more = format!("  and {} (--all shows them)", words::count(shown - NOTICES, "more notice"));
        let _ = writeln!(out, "{}", style.dim(&more));
    }
}

fn danger(out: &mut String, d: &Danger, style: Style) {
    let head = format!("{} [{}]", d.severity.word(), d.code);
    let _ = writeln!(out, "  {} {}", style.severity(d.severity, &head), style.bold(&d.title));
    let what = d.object.as_ref().map(|o| format!("{o} in ")).unwrap_or_default();
    let _ = writeln!(out, "    {what}{} {}", d.unit, style.dim(&format!("at {}", d.place)));
}

fn not_rendered(out: &mut String, diff: &Diff, style: Style) {
    if diff.not_rendered.is_empty() {
        return;
    }
    heading(out, style, "Not rendered, and so not compared");
    for n in diff.not_rendered.iter().filter(|n| style.all || !n.both) {
        let _ = writeln!(out, "  {} {} in {}", style.paint("33", &n.state), n.unit, words::sides(n));
        for reason in n.reasons.iter().flat_map(|r| r.lines()) {
            let _ = writeln!(out, "    {}", style.dim(reason));
        }
    }
    let both: Vec<String> = diff.not_rendered.iter().filter(|n| n.both).map(|n| n.unit.clone()).collect();
    if !both.is_empty() && !style.all {
        let text = format!("  on neither side: {} (--all says why)", words::list(&both));
        let _ = writeln!(out, "{}", style.dim(&text));
    }
}

fn charts(out: &mut String, diff: &Diff, style: Style) {
    if diff.charts.is_empty() {
        return;
    }
    heading(out, style, "Charts");
    for c in &diff.charts {
        let chart = c.chart_from.as_ref().map_or_else(|| c.chart.clone(), |old| format!("{old} → {}", c.chart));
        let app = match (c.app_from.as_str(), c.app_to.as_str()) {
            (a, b) if a == b || a.is_empty() || b.is_empty() => String::new(),
            (a, b) => format!(", application {a} → {b}"),
        };
        let line = format!("  {chart} {} → {}{app}  {}", c.from, c.to, style.dim(&c.unit));
        let _ = writeln!(out, "{line}");
    }
}

fn images(out: &mut String, diff: &Diff, style: Style) {
    if diff.images.is_empty() {
        return;
    }
    heading(out, style, "Images");
    for i in &diff.images {
        let (name, versions) = words::image(i);
        let mut users: Vec<&str> = i.used_by.iter().map(|u| u.object.as_str()).collect();
        users.dedup();
        let by = match users.as_slice() {
            [one] => (*one).to_string(),
            many => words::count(many.len(), "workload"),
        };
        let _ = writeln!(out, "  {name} {versions}  {}", style.dim(&by));
    }
}

fn units(out: &mut String, diff: &Diff, style: Style) {
    heading(out, style, "Units");
    for u in &diff.units {
        let counts = words::signs(u.counts());
        let not_compared = u.not_compared.as_ref().map(|n| format!("not compared: {n}"));
        let rest: Vec<String> = [counts].into_iter().filter(|c| !c.is_empty()).chain(not_compared).collect();
        let sign = style.sign(u.change, &format!("{} {}", u.change.sign(), u.unit));
        let _ = writeln!(out, "  {sign}  {}", rest.join("  "));
        for cause in words::causes(u) {
            let _ = writeln!(out, "      {}", style.dim(&cause));
        }
    }
}

fn objects(out: &mut String, unit: &UnitChange, style: Style) {
    let name = style.sign(unit.change, &format!("{} {}", unit.change.sign(), unit.unit));
    let fate = words::common_fate(unit);
    heading(out, style, &fate.map_or_else(|| name.clone(), |fate| format!("{name}  (each object {fate})")));
    if unit.change != ChangeKind::Changed && unit.objects.len() > WHOLE_UNIT && !style.all {
        for o in unit.objects.iter().take(WHOLE_UNIT) {
            let _ = writeln!(out, "  {}", style.sign(o.change, &format!("{} {}", o.change.sign(), o.object)));
        }
        let more = format!("  and {} (--all shows them)", words::count(unit.objects.len() - WHOLE_UNIT, "more object"));
        let _ = writeln!(out, "{}", style.dim(&more));
        return;
    }
    let mut echoes = Vec::new();
    for o in &unit.objects {
        if o.is_mechanical() && !style.all {
            echoes.push(o);
        } else {
            object(out, o, fate, style);
        }
    }
    if let Some(sums) = words::mechanical(echoes.iter().flat_map(|o| &o.fields)) {
        let text = format!("  ~ {} with nothing but {sums}", words::count(echoes.len(), "object"));
        let _ = writeln!(out, "{}", style.dim(&text));
    }
}

fn object(out: &mut String, o: &ObjectChange, told: Option<&str>, style: Style) {
    let notes = words::object_notes(o, told);
    let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) };
    let name = style.sign(o.change, &format!("{} {}", o.change.sign(), o.object));
    let _ = writeln!(out, "  {name}{notes}  {}", style.dim(&o.place.to_string()));
    if let Some(yaml) = o.yaml.as_ref().filter(|_| style.all) {
        for line in yaml.lines() {
            let _ = writeln!(out, "      {}", style.line(&format!("{} {line}", o.change.sign())));
        }
    }
    let readable: Vec<&FieldChange> = o.fields.iter().filter(|f| style.all || f.mechanical.is_none()).collect();
    let shown = if style.all { readable.len() } else { FIELDS };
    for f in readable.iter().take(shown) {
        field(out, f, style);
    }
    if readable.len() > shown {
        let more = format!("and {} (--all shows them)", words::count(readable.len() - shown, "more field"));
        let _ = writeln!(out, "      {}", style.dim(&more));
    }
    if !style.all
        && let Some(sums) = words::mechanical(o.fields.iter())
    {
        let _ = writeln!(out, "      {}", style.dim(&format!("and {sums}")));
    }
}

fn field(out: &mut String, f: &FieldChange, style: Style) {
    let path = style.cyan(&f.path);
    if f.hidden {
        let _ = writeln!(out, "      {path}: {}", words::hidden(f));
        return;
    }
    if !f.lines.is_empty() {
        let _ = writeln!(out, "      {path}:");
        for (i, hunk) in f.lines.iter().enumerate() {
            if i > 0 {
                let _ = writeln!(out, "        {}", style.dim("…"));
            }
            capped(out, hunk.lines.iter().map(|l| style.line(l)).collect(), style);
        }
        return;
    }
    let one_line = (f.from.as_ref().map(words::inline), f.to.as_ref().map(words::inline));
    match (f.change, one_line) {
        (FieldChangeKind::Changed | FieldChangeKind::Reordered, (Some(Some(from)), Some(Some(to)))) => {
            let word = if f.change == FieldChangeKind::Reordered { " (order)" } else { "" };
            let _ = writeln!(out, "      {path}{word}: {} → {}", style.paint("31", &from), style.paint("32", &to));
        }
        (FieldChangeKind::Added, (_, Some(Some(to)))) => {
            let _ = writeln!(out, "      {} {path}: {}", style.paint("32", "+"), style.paint("32", &to));
        }
        (FieldChangeKind::Removed, (Some(Some(from)), _)) => {
            let _ = writeln!(out, "      {} {path}: {}", style.paint("31", "-"), style.paint("31", &from));
        }
        _ => {
            let _ = writeln!(out, "      {path}:");
            let lines = |v: &Option<Value>, sign: char| -> Vec<String> {
                let lines = v.as_ref().map(words::block).unwrap_or_default();
                lines.into_iter().map(|l| style.line(&format!("{sign} {l}"))).collect()
            };
            capped(out, lines(&f.from, '-'), style);
            capped(out, lines(&f.to, '+'), style);
        }
    }
}

fn capped(out: &mut String, lines: Vec<String>, style: Style) {
    let many = lines.len();
    let shown = if style.all { many } else { LINES };
    for line in lines.into_iter().take(shown) {
        let _ = writeln!(out, "        {line}");
    }
    if many > shown {
        let more = format!("and {} (--all shows them)", words::count(many - shown, "more line"));
        let _ = writeln!(out, "        {}", style.dim(&more));
    }
}

/// One line of sums.
pub(super) fn summary(diff: &Diff) -> String {
    let (units, objects) = (diff.unit_counts(), diff.object_counts());
    let of = |counts: crate::model::Counts, what: &str| {
        let kinds: Vec<String> = [(counts.added, "added"), (counts.changed, "changed"), (counts.removed, "removed")]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| format!("{n} {word}"))
            .collect();
        match kinds.as_slice() {
            [one] => format!("{} {}", words::count(counts.total(), what), one.split_once(' ').map_or("", |(_, w)| w)),
            all => format!("{} ({})", words::count(counts.total(), what), all.join(", ")),
        }
    };
    let mut parts = Vec::new();
    if units.total() > 0 {
        parts.push(of(units, "unit"));
    }
    if objects.total() > 0 {
        parts.push(of(objects, "object"));
    }
    for severity in [Severity::Danger, Severity::Warning, Severity::Notice] {
        let n = diff.count(severity);
        if n > 0 {
            parts.push(words::count(n, severity.word()));
        }
    }
    parts.join("; ")
}
