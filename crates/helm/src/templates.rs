//! A chart's templates, parsed once: shared by all releases of the chart that enable the same subcharts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use druse_gotemplate::exec::{FuncMap, TemplateError, TemplateSet};
use druse_gotemplate::funcs;
use druse_gotemplate::parse::{self, Tree};

use crate::chart::Chart;
use crate::error::HelmError;
use crate::node::Node;

static FUNCS: LazyLock<FuncMap> = LazyLock::new(|| FuncMap::go().with(funcs::helm_funcs()));

/// How many different sets of subcharts a chart keeps parsed templates for.
const MAX_SETS: usize = 16;

/// One template of a render.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// `chart/charts/sub/templates/x.yaml`
    pub(crate) name: Arc<str>,
    /// The path of the chart it belongs to (`chart/charts/sub`).
    pub(crate) chart_path: Arc<str>,
}

/// All templates of a chart and its enabled subcharts, in the order Helm parses and runs them.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) set: TemplateSet,
    pub(crate) order: Vec<Entry>,
}

/// The parsed files of one chart under one path; a file that does not parse fails only renders that enable it.
type Parsed = Arc<Vec<(Arc<str>, Result<Vec<Arc<Tree>>, TemplateError>)>>;

/// What a chart keeps of its parsed templates.
#[derive(Default)]
pub(crate) struct TemplateCache {
    /// This chart's own files, by the path they were parsed under (aliases give the same chart several).
    own: Mutex<HashMap<String, Parsed>>,
    /// Sets rooted at this chart, by the paths of all charts in them.
    sets: Mutex<HashMap<String, Arc<Compiled>>>,
}

impl std::fmt::Debug for TemplateCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TemplateCache")
    }
}

fn parsed(chart: &Chart, path: &str) -> Parsed {
    let mut own = chart.cache.own.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = own.get(path) {
        return Arc::clone(found);
    }
    let library = chart.metadata.is_library();
    let all: Parsed = Arc::new(
        chart
            .templates
            .iter()
            .filter(|f| !library || f.name.rsplit('/').next().is_some_and(|n| n.starts_with('_')))
            .map(|f| {
                let name = format!("{path}/{}", f.name);
                let trees = parse::parse(&name, &f.text(), &FUNCS);
                (Arc::from(name), trees)
            })
            .collect(),
    );
    own.insert(path.to_owned(), Arc::clone(&all));
    all
}

/// The templates of a render, from the cache when a render with the same charts was made before.
///
/// # Errors
/// The first syntax error, in Helm's words.
pub(crate) fn compile(root: &Node) -> Result<Arc<Compiled>, HelmError> {
    let mut charts = Vec::new();
    collect(root, root.name().to_owned(), &mut charts);
    let key: String = charts.iter().map(|(path, _)| format!("{path}\n")).collect();
    let cache = &root.chart.cache.sets;
    if let Some(found) = cache.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(Arc::clone(found));
    }
    let mut files: BTreeMap<Arc<str>, (Arc<str>, Parsed, usize)> = BTreeMap::new();
    for (path, chart) in &charts {
        let all = parsed(chart, path);
        let chart_path: Arc<str> = Arc::from(path.as_str());
        for (i, (name, _)) in all.iter().enumerate() {
            files.insert(Arc::clone(name), (Arc::clone(&chart_path), Arc::clone(&all), i));
        }
    }
    // Deeper files first, so that what a parent defines replaces what its subcharts define.
    let mut order: Vec<_> = files.into_iter().collect();
    let depth = |name: &str| name.bytes().filter(|b| *b == b'/').count();
    order.sort_by(|(a, _), (b, _)| depth(b).cmp(&depth(a)).then_with(|| b.cmp(a)));
    let mut set = TemplateSet::new(&FUNCS);
    let mut entries = Vec::with_capacity(order.len());
    for (name, (chart_path, all, i)) in order {
        match all.get(i).map(|(_, trees)| trees) {
            Some(Ok(trees)) => set.add(trees.iter().cloned()),
            Some(Err(e)) => return Err(HelmError::Template(parse_error(&name, &e.to_string()))),
            None => {}
        }
        entries.push(Entry { name, chart_path });
    }
    let compiled = Arc::new(Compiled { set, order: entries });
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= MAX_SETS {
        cache.clear();
    }
    cache.insert(key, Arc::clone(&compiled));
    Ok(compiled)
}

fn collect<'a>(node: &'a Node, path: String, out: &mut Vec<(String, &'a Chart)>) {
    for sub in &node.dependencies {
        collect(sub, format!("{path}/charts/{}", sub.name()), out);
    }
    out.push((path, &node.chart));
}

/// A set of functions for templates outside charts (`--name-template`).
pub(crate) fn functions() -> &'static FuncMap {
    &FUNCS
}

/// Helm's words for a syntax error: where, and the last part of the message.
fn parse_error(file: &str, text: &str) -> String {
    let parts: Vec<&str> = text.split(": ").collect();
    match parts.as_slice() {
        [_, location, .., last] => format!("parse error at ({location}): {last}"),
        [_, last] => format!("parse error at ({last}): {last}"),
        _ => format!("parse error in ({file}): {text}"),
    }
}

/// Helm's words for a failed template: the message of `fail` and `required` alone with its place, otherwise every level
/// of the failure on lines of its own.
pub(crate) fn exec_error(e: &TemplateError) -> String {
    let full = e.to_string();
    if e.line == 0 {
        return full;
    }
    let mut tokens = full.splitn(3, ": ");
    let (Some(_), Some(location), Some(rest)) = (tokens.next(), tokens.next(), tokens.next()) else {
        return format!("execution error in ({}): {full}", e.file);
    };
    if let Some(start) = rest.find("HELM_ERR_START")
        && let Some(end) = rest.rfind("HELM_ERR_END")
        && let Some(message) = rest.get(start + "HELM_ERR_START".len()..end)
    {
        return format!("execution error at ({location}): {message}");
    }
    let mut levels: Vec<Level<'_>> = Vec::new();
    let chain = e.chain();
    for text in &chain {
        let Some(level) = Level::read(text) else { return full };
        if levels.last() != Some(&level) {
            levels.push(level);
        }
    }
    let mut out = String::new();
    for level in levels {
        level.write(&mut out);
    }
    out.trim().to_owned()
}

/// One level of a failure: `template: LOCATION: executing "NAME" at <WHAT>: MESSAGE`.
#[derive(PartialEq, Eq)]
struct Level<'a> {
    location: &'a str,
    executed: Option<(&'a str, &'a str)>,
    message: &'a str,
}

impl<'a> Level<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("template: ")?;
        if rest.starts_with("no template ") {
            return Some(Self { location: "", executed: None, message: text });
        }
        let cut = |m: &'a str| m.find(" template:").and_then(|i| m.get(..i)).unwrap_or(m);
        if let Some((location, after)) = rest.split_once(": executing ") {
            let inner = after.strip_prefix('"')?;
            let (name, after) = inner.split_once('"')?;
            let (what, message) = after.strip_prefix(" at <")?.split_once(">: ")?;
            return Some(Self { location, executed: Some((name, what)), message: cut(message) });
        }
        let (location, message) = rest.rsplit_once(": ")?;
        Some(Self { location, executed: None, message: cut(message) })
    }

    fn write(&self, out: &mut String) {
        use std::fmt::Write as _;
        if !self.location.is_empty() {
            let _ = write!(out, "{}\n  ", self.location);
        }
        if let Some((name, what)) = self.executed {
            let _ = write!(out, "executing \"{name}\" at <{what}>:\n    ");
        }
        if !self.message.is_empty() {
            let _ = writeln!(out, "{}", self.message);
        }
    }
}
