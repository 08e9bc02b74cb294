//! One self-contained HTML page: no request leaves it, everything from objects is escaped, and nothing but its own
//! script can run (a content security policy names the script's digest). Without scripts all of it can be read.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::markup::{
    attr, badge, danger_data, danger_id, danger_what, danger_where, digest, esc, id, name_html, place_html, signs_html,
    step, versions,
};
use super::words;
use crate::fields::flat::{FieldChange, FieldChangeKind};
use crate::model::{ChangeKind, Danger, Diff, NotRendered, ObjectChange, Severity, UnitChange};

const CSS: &str = include_str!("../../data/report.css");
const JS: &str = include_str!("../../data/report.js");

/// Fields of one object.
const FIELDS: usize = 150;
/// Lines of one field's value.
const LINES: usize = 240;
/// Above so many bytes, whole objects that came or went are named only.
const ENOUGH: usize = 4 * 1024 * 1024;
/// Above so many bytes, fields are counted only.
const FULL: usize = 16 * 1024 * 1024;
/// Lines of a whole object.
const WHOLE: usize = 120;

/// The diff as a page.
#[must_use]
pub fn html(diff: &Diff) -> String {
    let mut page = Page { out: String::with_capacity(64 * 1024), dangers: HashMap::new() };
    for d in &diff.dangers {
        let key = (d.unit.as_str(), d.object.as_deref());
        for key in [key, (key.0, None)] {
            let worst = page.dangers.entry(key).or_insert((d.severity, 0));
            worst.0 = worst.0.max(d.severity);
            worst.1 += 1;
        }
    }
    page.write(diff);
    page.out
}

struct Page<'a> {
    out: String,
    /// The worst danger of each object of a unit, and of each unit.
    dangers: HashMap<(&'a str, Option<&'a str>), (Severity, usize)>,
}

impl<'a> Page<'a> {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn write(&mut self, diff: &'a Diff) {
        let title = format!("{} → {}", diff.base, diff.head);
        let _ = write!(
            self.out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n<title>druse diff · {}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<div class=\"page\">\n",
            digest(CSS),
            digest(JS),
            attr(&title)
        );
        self.nav(diff);
        self.put("<main>\n");
        self.header(diff);
        if diff.is_empty() && diff.not_rendered.is_empty() {
            self.put("<p class=\"empty\">No differences.</p>\n");
        }
        self.dangers(diff);
        self.not_rendered(diff);
        self.charts(diff);
        self.images(diff);
        self.units(diff);
        let _ = write!(
            self.out,
            "<footer>Made by druse {}. Values of Secrets are not in this page.</footer>\n</main>\n</div>\n",
            env!("CARGO_PKG_VERSION")
        );
        self.help();
        let _ = write!(self.out, "<script>{JS}</script>\n</body>\n</html>\n");
    }

    fn nav(&mut self, diff: &Diff) {
        self.put("<nav aria-label=\"Sections\">\n<div class=\"brand\">druse <span>diff</span></div>\n<ul>\n");
        let worst = diff.dangers.first().map_or("", |d| d.severity.word());
        for (id, what, many, class) in [
            ("dangers", "Dangers", diff.dangers.len(), worst),
            ("not-rendered", "Not rendered", diff.not_rendered.len(), ""),
            ("charts", "Charts", diff.charts.len(), ""),
            ("images", "Images", diff.images.len(), ""),
            ("units", "Units", diff.units.len(), ""),
        ] {
            if many > 0 {
                let _ = writeln!(
                    self.out,
                    "<li><a href=\"#{id}\"><span>{what}</span><span class=\"n {class}\">{many}</span></a></li>"
                );
            }
        }
        self.put("</ul>\n");
        let mut group = "";
        for u in &diff.units {
            let (kind, rest) = u.unit.split_once('/').unwrap_or(("", &u.unit));
            if kind != group {
                if !group.is_empty() {
                    self.put("</ul>\n");
                }
                let _ = write!(self.out, "<div class=\"head\">{}s</div>\n<ul>\n", esc(kind));
                group = kind;
            }
            let shown = rest.rsplit('/').next().unwrap_or(rest);
            let danger = self.dangers.get(&(u.unit.as_str(), None)).map(|d| d.0.word());
            let dot = danger.map(|d| format!("<span class=\"dot {d}\"></span>")).unwrap_or_default();
            let _ = writeln!(
                self.out,
                "<li><a href=\"#{}\" title=\"{}\"><span>{}</span>{dot}<span class=\"n\">{}</span></a></li>",
                id('u', &[&u.unit]),
                attr(&u.unit),
                esc(shown),
                u.objects.len()
            );
        }
        if !group.is_empty() {
            self.put("</ul>\n");
        }
        self.put("</nav>\n");
    }

    fn header(&mut self, diff: &Diff) {
        let (units, objects) = (diff.unit_counts(), diff.object_counts());
        let _ = write!(
            self.out,
            "<header>\n<h1>What changes</h1>\n<p class=\"revisions\"><b>{}</b> <span class=\"arrow\">→</span> <b>{}</b></p>\n<div class=\"sums\">",
            esc(&diff.base.to_string()),
            esc(&diff.head.to_string())
        );
        for severity in [Severity::Danger, Severity::Warning, Severity::Notice] {
            let n = diff.count(severity);
            if n > 0 {
                let word = words::count(n, severity.word());
                let word = word.split_once(' ').map_or("", |(_, w)| w);
                let _ = write!(self.out, "<span class=\"sum {}\"><b>{n}</b> {word}</span>", severity.word());
            }
        }
        for (counts, what) in [(units, "unit"), (objects, "object")] {
            if counts.total() > 0 {
                let word = if counts.total() == 1 { what.to_string() } else { format!("{what}s") };
                let _ = write!(
                    self.out,
                    "<span class=\"sum\"><b>{}</b> {word} {}</span>",
                    counts.total(),
                    signs_html(counts)
                );
            }
        }
        self.put("</div>\n</header>\n");
        self.put(concat!(
            "<div class=\"bar\" role=\"search\">\n",
            "<input type=\"search\" id=\"filter\" placeholder=\"Filter\" aria-label=\"Filter\" autocomplete=\"off\" spellcheck=\"false\">\n",
            "<button type=\"button\" data-change=\"added\" aria-pressed=\"false\">Added</button>",
            "<button type=\"button\" data-change=\"changed\" aria-pressed=\"false\">Changed</button>",
            "<button type=\"button\" data-change=\"removed\" aria-pressed=\"false\">Removed</button>",
            "<button type=\"button\" id=\"only-dangers\" aria-pressed=\"false\">With dangers</button>",
            "<button type=\"button\" id=\"echoes\" aria-pressed=\"false\" title=\"Objects in which only checksums, version labels and references to renamed objects differ\">Hide echoes</button>",
            "<button type=\"button\" id=\"theme\" aria-label=\"Light or dark\" title=\"Light or dark (t)\">◐</button>",
            "<button type=\"button\" id=\"help-button\" aria-label=\"Keys\" title=\"Keys (?)\">?</button>\n",
            "<div class=\"found\" id=\"found\" aria-live=\"polite\"></div>\n</div>\n",
        ));
    }

    fn heading(&mut self, id: &str, text: &str, many: usize) {
        let _ = writeln!(self.out, "<h2 id=\"{id}\">{text}<span class=\"n\">{many}</span></h2>");
    }

    fn dangers(&mut self, diff: &'a Diff) {
        if diff.dangers.is_empty() {
            return;
        }
        self.heading("dangers", "Dangers", diff.dangers.len());
        let serious = diff.dangers.iter().any(|d| d.severity > Severity::Notice);
        let mut ids: HashMap<String, usize> = HashMap::new();
        let mut folded = false;
        // Dangers of a kind stand together, with what they mean said once.
        for group in diff.dangers.chunk_by(|a, b| (a.code, a.severity, &a.remedy) == (b.code, b.severity, &b.remedy)) {
            let Some(first) = group.first() else { continue };
            // Notices are folded in behind what is worse.
            if serious && first.severity == Severity::Notice && !folded {
                let rest = words::count(diff.count(Severity::Notice), "notice");
                let _ = writeln!(self.out, "<details class=\"more\"><summary>{rest}</summary>");
                folded = true;
            }
            self.card(first, group, &mut ids);
        }
        if folded {
            self.put("</details>\n");
        }
    }

    fn card(&mut self, first: &'a Danger, group: &'a [Danger], ids: &mut HashMap<String, usize>) {
        let severity = first.severity.word();
        let single = group.len() == 1;
        let own = if single { danger_id(first, ids) } else { id('k', &[first.code, severity, &first.remedy]) };
        let title = if single { first.title.clone() } else { crate::dangers::label(first.code) };
        let many = if single { String::new() } else { format!(" <span class=\"many\">{}</span>", group.len()) };
        let what = if single { danger_what(first) } else { String::new() };
        let _ = write!(
            self.out,
            "<details class=\"card {severity}\" id=\"{own}\"{}{}>\n<summary><span class=\"tag {severity}\">{}</span><span class=\"title\">{}{many}<a class=\"anchor\" href=\"#{own}\" aria-label=\"Link\">#</a>{what}</span><span class=\"code\">{}</span></summary>\n<div class=\"body\">\n",
            if single { danger_data(first) } else { format!(" data-code=\"{}\"", attr(first.code)) },
            if first.severity == Severity::Danger { " open" } else { "" },
            esc(first.category),
            esc(&title),
            esc(first.code)
        );
        let _ =
            write!(self.out, "<p class=\"why\">{}</p>\n<p class=\"do\">{}</p>\n", esc(&first.why), esc(&first.remedy));
        if single {
            let _ = writeln!(self.out, "<p class=\"where\">{}</p>", danger_where(first));
        } else {
            self.put("<ul class=\"items\">\n");
            for d in group {
                let _ = writeln!(
                    self.out,
                    "<li class=\"item\" id=\"{}\"{}><div>{}</div><div class=\"where\">{}</div></li>",
                    danger_id(d, ids),
                    danger_data(d),
                    esc(&d.title),
                    danger_where(d)
                );
            }
            self.put("</ul>\n");
        }
        self.put("</div></details>\n");
    }

    fn not_rendered(&mut self, diff: &Diff) {
        if diff.not_rendered.is_empty() {
            return;
        }
        self.heading("not-rendered", "Not rendered, and so not compared", diff.not_rendered.len());
        let (both, one): (Vec<&NotRendered>, Vec<&NotRendered>) = diff.not_rendered.iter().partition(|n| n.both);
        self.unrendered(&one);
        if !both.is_empty() {
            let _ = writeln!(
                self.out,
                "<details class=\"more\"><summary>{} on neither side</summary>",
                words::count(both.len(), "unit")
            );
            self.unrendered(&both);
            self.put("</details>\n");
        }
    }

    fn unrendered(&mut self, units: &[&NotRendered]) {
        if units.is_empty() {
            return;
        }
        self.put("<div class=\"scroll\"><ul class=\"plain\">\n");
        for n in units {
            let reasons: Vec<String> = n.reasons.iter().map(|r| esc(r)).collect();
            let _ = writeln!(
                self.out,
                "<li><span class=\"name\">{}</span> <span class=\"tag warning\">{} in {}</span><div class=\"why\">{}</div></li>",
                name_html(&n.unit),
                esc(&n.state),
                words::sides(n),
                reasons.join("<br>")
            );
        }
        self.put("</ul></div>\n");
    }

    fn charts(&mut self, diff: &Diff) {
        if diff.charts.is_empty() {
            return;
        }
        self.heading("charts", "Charts", diff.charts.len());
        self.put("<div class=\"scroll\"><table><thead><tr><th>chart</th><th>version</th><th></th><th>application</th><th>release</th></tr></thead><tbody>\n");
        for c in &diff.charts {
            let chart = match &c.chart_from {
                Some(old) => {
                    format!("<span class=\"old\">{}</span> <span class=\"arrow\">→</span> {}", esc(old), esc(&c.chart))
                }
                None => esc(&c.chart),
            };
            let app = if c.app_from == c.app_to { esc(&c.app_to) } else { versions(&c.app_from, &c.app_to) };
            let _ = writeln!(
                self.out,
                "<tr><td><b>{chart}</b></td><td class=\"mono\">{}</td><td>{}</td><td class=\"mono\">{app}</td><td class=\"name\"><a href=\"#{}\">{}</a></td></tr>",
                versions(&c.from, &c.to),
                step(c.step),
                id('u', &[&c.unit]),
                esc(c.unit.split_once('/').map_or(c.unit.as_str(), |(_, rest)| rest))
            );
        }
        self.put("</tbody></table></div>\n");
    }

    fn images(&mut self, diff: &Diff) {
        if diff.images.is_empty() {
            return;
        }
        self.heading("images", "Images", diff.images.len());
        self.put("<div class=\"scroll\"><table><thead><tr><th>image</th><th>version</th><th></th><th>used by</th></tr></thead><tbody>\n");
        for i in &diff.images {
            let name = match &i.image_from {
                Some(old) => {
                    format!("<span class=\"old\">{}</span> <span class=\"arrow\">→</span> {}", esc(old), esc(&i.image))
                }
                None => esc(&i.image),
            };
            let mut users: Vec<String> = i
                .used_by
                .iter()
                .take(4)
                .map(|u| {
                    let short = u.object.split_once('/').map_or(u.object.as_str(), |(_, rest)| rest);
                    format!(
                        "<a href=\"#{}\" title=\"{}\">{}</a>",
                        id('o', &[&u.unit, &u.object]),
                        attr(&u.object),
                        esc(short)
                    )
                })
                .collect();
            users.dedup();
            let more = i.used_by.len().saturating_sub(4);
            if more > 0 {
                users.push(format!("{more} more"));
            }
            let _ = writeln!(
                self.out,
                "<tr><td class=\"mono\">{name}</td><td class=\"mono\">{}</td><td>{}</td><td>{}</td></tr>",
                versions(&i.from, &i.to),
                step(i.step),
                users.join(", ")
            );
        }
        self.put("</tbody></table></div>\n");
    }

    fn units(&mut self, diff: &'a Diff) {
        if diff.units.is_empty() {
            return;
        }
        self.heading("units", "Units", diff.units.len());
        // A small diff is read from top to bottom, so all of it is open.
        let open = diff.units.iter().flat_map(|u| &u.objects).filter(|o| !o.is_mechanical()).count() <= 12;
        for u in &diff.units {
            self.unit(u, open);
        }
    }

    fn unit(&mut self, u: &'a UnitChange, open: bool) {
        let own = id('u', &[&u.unit]);
        let danger = self.dangers.get(&(u.unit.as_str(), None)).copied();
        let causes = words::causes(u);
        let text = format!("{} {} {}", u.unit, u.change.word(), causes.join(" ")).to_lowercase();
        let _ = write!(
            self.out,
            "<details class=\"unit\" id=\"{own}\" data-text=\"{}\" data-change=\"{}\" data-kind=\"{}\" data-file=\"{}\" data-danger=\"{}\"{}>\n<summary>{}<span class=\"name\">{}<a class=\"anchor\" href=\"#{own}\" aria-label=\"Link\">#</a></span><span class=\"right\">",
            attr(&text),
            u.change.word(),
            attr(&u.unit.split('/').next().unwrap_or_default().to_lowercase()),
            attr(&u.place.file.to_lowercase()),
            danger.map(|d| d.0.word()).unwrap_or_default(),
            if open { " open" } else { "" },
            badge(u.change),
            name_html(&u.unit)
        );
        self.dot(danger);
        let _ = write!(self.out, "{}</span>", signs_html(u.counts()));
        if !causes.is_empty() {
            self.put("<span class=\"causes\">");
            let lines: Vec<String> = causes.iter().map(|c| esc(c)).collect();
            self.put(&lines.join("<br>"));
            self.put("</span>");
        }
        self.put("</summary>\n");
        if let Some(not_compared) = &u.not_compared {
            let _ = writeln!(self.out, "<p class=\"note\">Its objects are not compared: {}.</p>", esc(not_compared));
        } else if u.objects.is_empty() {
            self.put("<p class=\"note\">Its objects stay as they are.</p>\n");
        }
        let told = words::common_fate(u);
        if let Some(fate) = told {
            let _ = writeln!(self.out, "<p class=\"note\">Each removed object {}.</p>", esc(fate));
        }
        for o in &u.objects {
            self.object(u, o, told, open);
        }
        self.put("</details>\n");
    }

    fn dot(&mut self, danger: Option<(Severity, usize)>) {
        if let Some((severity, many)) = danger {
            let title = format!("{} here, the worst a {}", words::count(many, "danger"), severity.word());
            let _ = write!(
                self.out,
                "<span class=\"dot {0}\" role=\"img\" aria-label=\"{title}\" title=\"{title}\"></span>",
                severity.word()
            );
        }
    }

    fn object(&mut self, u: &'a UnitChange, o: &'a ObjectChange, told: Option<&str>, open: bool) {
        let own = if o.hook { id('o', &[&u.unit, &o.object, "hook"]) } else { id('o', &[&u.unit, &o.object]) };
        let danger = self.dangers.get(&(u.unit.as_str(), Some(o.object.as_str()))).copied();
        let echo = o.is_mechanical();
        let open = open && !echo && o.change == ChangeKind::Changed;
        let _ = write!(
            self.out,
            "<details class=\"object{}\" id=\"{own}\" data-text=\"{}\" data-change=\"{}\" data-kind=\"{}\" data-file=\"{}\" data-danger=\"{}\"{}{}>\n<summary>{}<span class=\"name\">{}",
            if echo { " echo" } else { "" },
            attr(&o.object.to_lowercase()),
            o.change.word(),
            attr(&o.object.split('/').next().unwrap_or_default().to_lowercase()),
            attr(&o.place.file.to_lowercase()),
            danger.map(|d| d.0.word()).unwrap_or_default(),
            if echo { " data-echo" } else { "" },
            if open { " open" } else { "" },
            badge(o.change),
            name_html(&o.object)
        );
        let mut notes = words::object_notes(o, told);
        if echo {
            notes.extend(words::mechanical(o.fields.iter()));
        }
        if !notes.is_empty() {
            let _ = write!(self.out, "<span class=\"notes\">{}</span>", esc(&notes.join("; ")));
        }
        let _ = write!(
            self.out,
            "<a class=\"anchor\" href=\"#{own}\" aria-label=\"Link\">#</a></span><span class=\"right\">"
        );
        self.dot(danger);
        let _ = write!(
            self.out,
            "</span><span class=\"at\">{}</span></summary>\n<div class=\"fields\">\n",
            place_html(&o.place)
        );
        if self.out.len() > FULL {
            let _ = writeln!(
                self.out,
                "<p class=\"echo-note\">{} left out: this page is full.</p>",
                words::count(o.fields.len(), "field")
            );
        } else {
            self.fields(o);
        }
        self.put("</div></details>\n");
    }

    fn fields(&mut self, o: &ObjectChange) {
        if let Some(yaml) = &o.yaml {
            if self.out.len() > ENOUGH {
                self.put("<p class=\"echo-note\">Not written out: this page is full. <code>druse render</code> shows it.</p>\n");
            } else {
                let class = if o.change == ChangeKind::Added { 'p' } else { 'm' };
                self.lines(yaml.lines().map(|l| (class, l)), WHOLE);
            }
        }
        let (echoes, own): (Vec<&FieldChange>, Vec<&FieldChange>) =
            o.fields.iter().partition(|f| f.mechanical.is_some());
        for f in own.iter().chain(&echoes).take(FIELDS) {
            self.field(f);
        }
        if o.fields.len() > FIELDS {
            let _ = writeln!(
                self.out,
                "<p class=\"echo-note\">and {}</p>",
                words::count(o.fields.len() - FIELDS, "more field")
            );
        }
    }

    fn field(&mut self, f: &FieldChange) {
        let echo = f.mechanical.map(|m| m.words(1));
        let order = if f.change == FieldChangeKind::Reordered { " (order)" } else { "" };
        let note = echo.as_ref().map(|e| format!(" · {}", e.trim_start_matches("1 "))).unwrap_or_default();
        let _ = write!(
            self.out,
            "<div class=\"field{}\"><div class=\"path\">{}{order}{note}</div>",
            if echo.is_some() { " echo" } else { "" },
            esc(&f.path)
        );
        if f.hidden {
            let _ = write!(self.out, "<div class=\"hidden-value\">{}</div>", esc(&words::hidden(f)));
        } else if !f.lines.is_empty() {
            let mut all: Vec<(char, &str)> = Vec::new();
            for (i, hunk) in f.lines.iter().enumerate() {
                if i > 0 {
                    all.push(('g', "⋯"));
                }
                all.extend(hunk.lines.iter().map(|l| match l.as_bytes().first() {
                    Some(b'+') => ('p', l.as_str()),
                    Some(b'-') => ('m', l.as_str()),
                    _ => (' ', l.as_str()),
                }));
            }
            self.lines(all.into_iter(), LINES);
        } else {
            self.values(f);
        }
        self.put("</div>\n");
    }

    fn values(&mut self, f: &FieldChange) {
        let inline = |v: &Option<druse_object::Value>| v.as_ref().map(words::inline);
        let (from, to) = (inline(&f.from), inline(&f.to));
        if from != Some(None) && to != Some(None) {
            self.put("<div class=\"value\">");
            if let Some(Some(from)) = &from {
                let _ = write!(self.out, "<span class=\"v old\">{}</span>", esc(from));
            }
            if from.is_some() && to.is_some() {
                self.put("<span class=\"arrow\">→</span>");
            }
            if let Some(Some(to)) = &to {
                let _ = write!(self.out, "<span class=\"v new\">{}</span>", esc(to));
            }
            self.put("</div>");
            return;
        }
        let (old, new) = (f.from.as_ref().map(words::block), f.to.as_ref().map(words::block));
        let old = old.iter().flatten().map(|l| ('m', l.as_str()));
        let new = new.iter().flatten().map(|l| ('p', l.as_str()));
        self.lines(old.chain(new), LINES);
    }

    fn lines<'l>(&mut self, lines: impl Iterator<Item = (char, &'l str)>, most: usize) {
        self.put("<pre>");
        let mut left_out = 0;
        for (i, (class, line)) in lines.enumerate() {
            if i >= most {
                left_out += 1;
                continue;
            }
            let class = match class {
                'p' => " class=\"p\"",
                'm' => " class=\"m\"",
                'g' => " class=\"gap\"",
                _ => "",
            };
            let _ = write!(self.out, "<span{class}>{}</span>", esc(line));
        }
        if left_out > 0 {
            let _ = write!(self.out, "<span class=\"gap\">and {}</span>", words::count(left_out, "more line"));
        }
        self.put("</pre>");
    }

    fn help(&mut self) {
        self.put("<dialog id=\"help\" aria-label=\"Keys\">\n<h3>Keys</h3>\n<dl>");
        for (keys, what) in [
            (&["j", "k"][..], "next and previous danger, unit or object"),
            (&["J", "K"], "next and previous unit"),
            (&["n", "p"], "next and previous danger"),
            (&["↓", "↑"], "the same, from what has the focus"),
            (&["→", "←"], "open, close"),
            (&["o", "Enter"], "open or close"),
            (&["e", "c"], "open or close all units"),
            (&["/"], "filter"),
            (&["g"], "to the top"),
            (&["t"], "light or dark"),
            (&["?"], "this help"),
        ] {
            let keys: Vec<String> = keys.iter().map(|k| format!("<kbd>{k}</kbd>")).collect();
            let _ = write!(self.out, "<dt>{}</dt><dd>{what}</dd>", keys.join(" "));
        }
        self.put("</dl>\n<h3>Filter</h3>\n<dl><dt><code>words</code></dt><dd>in names, units and titles</dd><dt><code>kind:deployment</code></dt><dd>objects of a kind</dd><dt><code>unit:media</code></dt><dd>units whose name or cause holds it</dd><dt><code>is:removed</code></dt><dd>added, changed, removed, danger, warning, notice, echo</dd><dt><code>code:pvc</code></dt><dd>kinds of danger</dd><dt><code>file:apps/</code></dt><dd>where it comes from</dd></dl>\n<button type=\"button\" id=\"help-close\">Close</button>\n</dialog>\n");
    }
}
