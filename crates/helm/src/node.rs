//! One chart in a render: the shared chart with what this render changes about it (name, dependencies, values).

use std::collections::BTreeMap;
use std::sync::Arc;

use druse_gotemplate::{MapRef, Val};
use druse_object::Value;

use crate::chart::Chart;
use crate::metadata::Metadata;

/// A chart's default values in this render.
#[derive(Clone)]
enum Defaults {
    /// Those of the chart.
    Loaded,
    /// Those of the chart with imported ones.
    Merged(MapRef),
}

/// A chart with its dependencies as this release enables them.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) chart: Arc<Chart>,
    pub(crate) meta: Metadata,
    pub(crate) dependencies: Vec<Node>,
    defaults: Defaults,
}

impl Node {
    pub(crate) fn new(chart: &Arc<Chart>) -> Self {
        Self {
            chart: Arc::clone(chart),
            meta: chart.metadata.clone(),
            dependencies: chart.dependencies.iter().map(Node::new).collect(),
            defaults: Defaults::Loaded,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.meta.name
    }

    /// A copy of the default values that the caller may change.
    pub(crate) fn values(&self) -> MapRef {
        match &self.defaults {
            Defaults::Loaded => map_of(Val::from_value_with_ints(&self.chart.values)),
            Defaults::Merged(m) => copy_map(m),
        }
    }

    pub(crate) fn set_values(&mut self, values: MapRef) {
        self.defaults = Defaults::Merged(values);
    }

    /// The default values as a plain value.
    pub(crate) fn plain_values(&self) -> Value {
        match &self.defaults {
            Defaults::Loaded => self.chart.values.clone(),
            Defaults::Merged(m) => Val::Map(m.clone()).to_value(),
        }
    }

    /// Files of `crds/`, of this chart and all below it, with the path Helm shows.
    pub(crate) fn crds(&self, path: &str, out: &mut Vec<(String, Arc<Chart>, usize)>) {
        for (i, file) in self.chart.files.iter().enumerate() {
            let extension = file.name.rsplit('/').next().and_then(|n| n.rsplit_once('.')).map_or("", |(_, e)| e);
            let yaml = ["yaml", "yml", "json"].iter().any(|e| extension.eq_ignore_ascii_case(e));
            if file.name.starts_with("crds/") && yaml {
                out.push((format!("{path}/{}", file.name), Arc::clone(&self.chart), i));
            }
        }
        for d in &self.dependencies {
            d.crds(&format!("{path}/charts/{}", d.name()), out);
        }
    }
}

/// A map; anything else becomes an empty one.
pub(crate) fn map_of(v: Val) -> MapRef {
    match v {
        Val::Map(m) => m,
        _ => MapRef::default(),
    }
}

/// A copy that shares nothing changeable with the original.
pub(crate) fn copy(v: &Val) -> Val {
    match v {
        Val::Map(m) => Val::Map(copy_map(m)),
        Val::List(l) if l.iter().any(|i| matches!(i, Val::Map(_) | Val::List(_))) => {
            Val::list(l.iter().map(copy).collect())
        }
        v => v.clone(),
    }
}

/// A copy of a map that shares nothing changeable with the original.
pub(crate) fn copy_map(m: &MapRef) -> MapRef {
    MapRef::new(m.borrow().iter().map(|(k, v)| (k.clone(), copy(v))).collect::<BTreeMap<_, _>>())
}
