//! Components as a plan sees them: what they can stand in for and the kinds they bring.

use druse_component::Component;
use druse_plan::{ServedKind, StandIn, StandIns};

/// All components, as stand-ins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Components;

fn kinds(c: &Component) -> Vec<ServedKind> {
    c.crds
        .iter()
        .map(|crd| ServedKind {
            group: crd.group.clone(),
            versions: crd.versions.clone(),
            kind: crd.kind.clone(),
            namespaced: crd.scope == "Namespaced",
        })
        .collect()
}

fn stand_in(c: &Component) -> StandIn {
    StandIn { component: c.name.clone(), kinds: kinds(c) }
}

impl StandIns for Components {
    fn for_chart(&self, chart: &str) -> Option<StandIn> {
        druse_component::for_chart(chart).map(stand_in)
    }
    fn for_source(&self, url: &str) -> Option<StandIn> {
        druse_component::for_source(url).map(stand_in)
    }
    fn registered_by(&self, chart: &str) -> Vec<ServedKind> {
        druse_component::for_chart(chart).filter(|c| c.registers_its_own_crds).map(kinds).unwrap_or_default()
    }
    fn always_served(&self) -> Vec<ServedKind> {
        druse_component::all().iter().filter(|c| c.always_present).flat_map(kinds).collect()
    }
}
