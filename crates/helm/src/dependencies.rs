//! Which subcharts a release has: conditions, tags, aliases, and values imported from children.

use druse_gotemplate::{MapRef, Val};
use druse_object::Value;

use crate::coalesce::{self, Warnings};
use crate::error::HelmError;
use crate::metadata::Dependency;
use crate::node::{Node, copy_map, map_of};
use crate::version::is_compatible_range;

/// Helm's `ProcessDependencies`.
pub(crate) fn process(node: &mut Node, values: &MapRef, warnings: &mut Warnings) -> Result<(), HelmError> {
    let failed = |e: HelmError| HelmError::Dependencies(format!("chart dependencies processing failed: {e}"));
    enable(node, values, "", warnings).map_err(failed)?;
    import(node, warnings).map_err(failed)
}

/// A table at a dotted path; `None` when something on the way is missing or not a table.
pub(crate) fn table(root: &MapRef, path: &str) -> Option<MapRef> {
    let mut at = root.clone();
    for key in path.split('.') {
        match at.get(key) {
            Some(Val::Map(m)) => at = m,
            _ => return None,
        }
    }
    Some(at)
}

/// A value that is not a table, at a dotted path.
fn path_value(root: &MapRef, path: &str) -> Option<Val> {
    let (map, key) = match path.rsplit_once('.') {
        Some((tables, key)) => (table(root, tables)?, key),
        None => (root.clone(), path),
    };
    map.get(key).filter(|v| !matches!(v, Val::Map(_)))
}

fn enable(node: &mut Node, values: &MapRef, path: &str, warnings: &mut Warnings) -> Result<(), HelmError> {
    let Some(mut wanted) = node.meta.dependencies.take() else {
        return Ok(());
    };
    let packed = std::mem::take(&mut node.dependencies);
    let named = |n: &Node, d: &Dependency| n.chart.name() == d.name && is_compatible_range(&d.version, &n.meta.version);
    // Charts that are packed but not named come first, then the named ones in their order.
    let mut chosen: Vec<Node> = packed.iter().filter(|n| !wanted.iter().any(|d| named(n, d))).cloned().collect();
    for dep in &mut wanted {
        if let Some(found) = packed.iter().find(|n| named(n, dep)) {
            let mut copy = found.clone();
            if !dep.alias.is_empty() {
                copy.meta.name.clone_from(&dep.alias);
            }
            chosen.push(copy);
        }
        if !dep.alias.is_empty() {
            dep.name.clone_from(&dep.alias);
        }
        dep.enabled = true;
    }
    node.dependencies = chosen;
    let all = coalesce::coalesce_values(node, values, false, warnings)?;
    by_tags(&mut wanted, &all, warnings);
    by_conditions(&mut wanted, &all, path, warnings);
    let off: Vec<String> = wanted.iter().filter(|d| !d.enabled).map(|d| d.name.clone()).collect();
    node.dependencies.retain(|n| !off.iter().any(|o| o == n.name()));
    wanted.retain(|d| d.enabled);
    node.meta.dependencies = (!wanted.is_empty()).then_some(wanted);
    for sub in &mut node.dependencies {
        let sub_path = format!("{path}{}.", sub.name());
        enable(sub, &all, &sub_path, warnings)?;
    }
    Ok(())
}

fn by_tags(wanted: &mut [Dependency], values: &MapRef, warnings: &mut Warnings) {
    let Some(tags) = table(values, "tags") else { return };
    for dep in wanted {
        let (mut on, mut off) = (false, false);
        for tag in &dep.tags {
            match tags.get(tag) {
                Some(Val::Bool(true)) => on = true,
                Some(Val::Bool(false)) => off = true,
                Some(_) => warnings.push(format!("returned non-bool value: tag {tag} of chart {}", dep.name)),
                None => {}
            }
        }
        dep.enabled = on || !off;
    }
}

fn by_conditions(wanted: &mut [Dependency], values: &MapRef, path: &str, warnings: &mut Warnings) {
    for dep in wanted {
        for condition in dep.condition.trim().split(',').filter(|c| !c.is_empty()) {
            match path_value(values, &format!("{path}{condition}")) {
                Some(Val::Bool(b)) => {
                    dep.enabled = b;
                    break;
                }
                Some(_) => {
                    warnings.push(format!("returned non-bool value: path {condition} of chart {}", dep.name));
                }
                None => {}
            }
        }
    }
}

/// `import-values`, children first.
fn import(node: &mut Node, warnings: &mut Warnings) -> Result<(), HelmError> {
    for sub in &mut node.dependencies {
        import(sub, warnings)?;
    }
    let Some(mut wanted) = node.meta.dependencies.take() else { return Ok(()) };
    let all = coalesce::coalesce_values(node, &MapRef::default(), true, warnings)?;
    let imported = MapRef::default();
    for dep in &mut wanted {
        for item in &mut dep.import_values {
            let (child, parent) = match &*item {
                Value::Map(m) => (text(m.get("child")), text(m.get("parent"))),
                Value::String(s) => (format!("exports.{s}"), ".".to_owned()),
                _ => continue,
            };
            match table(&all, &format!("{}.{child}", dep.name)) {
                Some(found) => coalesce::tables(&imported, &nested(&parent, found), "", true, warnings),
                None => warnings.push(format!("ImportValues missing table from chart {}: {child}", dep.name)),
            }
            *item = Value::Map([("child", child), ("parent", parent)].into_iter().collect());
        }
    }
    node.meta.dependencies = Some(wanted);
    let values = copy_map(&all);
    coalesce::tables(&values, &imported, "", true, warnings);
    node.set_values(values);
    Ok(())
}

fn text(v: Option<&Value>) -> String {
    v.and_then(crate::metadata::scalar_text).unwrap_or_default()
}

/// A map that holds `data` at a dotted path; `.` is the top.
fn nested(path: &str, data: MapRef) -> MapRef {
    if path == "." {
        return data;
    }
    path.rsplit('.').fold(data, |inner, key| {
        let outer = MapRef::default();
        outer.set(key, Val::Map(inner));
        outer
    })
}

/// The values a release's templates see, as template maps.
pub(crate) fn user_map(values: &crate::values::Values) -> MapRef {
    map_of(Val::from_value_with_ints(&values.to_value()))
}
