//! Which columns a kind has.

use std::collections::HashMap;
use std::sync::LazyLock;

use druse_object::Str;

use crate::registry::{PrinterColumn, Resource};

const TABLE: &str = include_str!("../../data/columns.tsv");
/// Those of the aggregator's kind, whose printer is not among the others, and of scales, which are no resource.
const MORE: &str = include_str!("../../data/columns-more.tsv");

/// By stored type. A line: type, name, kind, format, priority, description (with `\n` written out).
static BUILTIN: LazyLock<HashMap<&'static str, Vec<PrinterColumn>>> = LazyLock::new(|| {
    let mut out: HashMap<&str, Vec<PrinterColumn>> = HashMap::new();
    for line in TABLE.lines().chain(MORE.lines()) {
        let mut cells = line.split('\t');
        let mut next = || cells.next().unwrap_or_default();
        let (resource, name, kind, format, priority, description) = (next(), next(), next(), next(), next(), next());
        out.entry(resource).or_default().push(PrinterColumn {
            name: name.into(),
            kind: kind.into(),
            format: format.into(),
            priority: priority.parse().unwrap_or(0),
            description: description.replace("\\n", "\n").into(),
            json_path: Str::default(),
        });
    }
    out
});

fn plain(name: &str, kind: &str, format: &str, description: &str) -> PrinterColumn {
    PrinterColumn {
        name: name.into(),
        kind: kind.into(),
        format: format.into(),
        description: description.into(),
        priority: 0,
        json_path: Str::default(),
    }
}

/// The columns of a kind, the name first.
pub fn of(resource: &Resource, version: &str) -> Vec<PrinterColumn> {
    let named = |key: &str, name: &str| {
        BUILTIN
            .get(key)
            .into_iter()
            .flatten()
            .find(|c| c.name == name)
            .map(|c| c.description.clone())
            .unwrap_or_default()
    };
    let name = plain("Name", "string", "name", &named("default", "Name"));
    if resource.custom {
        let mut own = resource.version(version).map(|v| v.columns.clone()).unwrap_or_default();
        for c in own.iter_mut().filter(|c| c.description.is_empty()) {
            c.description = format!("Custom resource definition column (in JSONPath format): {}", c.json_path).into();
        }
        let mut out = vec![name];
        if own.is_empty() {
            let age = named("default", "Created At");
            let path = ".metadata.creationTimestamp".into();
            own.push(PrinterColumn { json_path: path, ..plain("Age", "date", "", &age) });
        }
        out.extend(own);
        return out;
    }
    if let Some(c) = BUILTIN.get(resource.stored_as.as_str()) {
        return c.clone();
    }
    vec![name, plain("Created At", "date", "", &named("default", "Created At"))]
}
