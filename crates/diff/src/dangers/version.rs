//! Versions that go back, or a large step forward.

use std::collections::BTreeMap;

use super::{Found, Subject, some_of};
use crate::images::{self, images};
use crate::model::Step;
use crate::objects::Ref;
use crate::versions::Image;

pub(super) fn check(found: &mut Found<'_>, subjects: &[Subject<'_>]) {
    charts(found);
    image_versions(found, subjects);
}

fn charts(found: &mut Found<'_>) {
    for chart in found.input.charts {
        let code = match chart.step {
            Step::Downgrade => "chart-downgrade",
            Step::Major => "chart-major",
            _ => continue,
        };
        let Some(unit) = found.input.head.plan.units.iter().find(|u| u.id.to_string() == chart.unit) else { continue };
        let app = match (chart.app_from.as_str(), chart.app_to.as_str()) {
            (from, to) if from == to || from.is_empty() || to.is_empty() => String::new(),
            (from, to) => format!(" (application {from} → {to})"),
        };
        let by_reference = unit.definition.value["spec"].get("chartRef").is_some();
        let field = if by_reference { "spec.chartRef.name" } else { "spec.chart.spec.version" };
        found.unit(code, unit, format!("chart {} {} → {}{app}", chart.chart, chart.from, chart.to)).field(field);
    }
}

/// Who runs an image, and the field that names it.
type User<'a> = (Ref<'a>, Option<String>);

/// One image and what it becomes, told once with all that run it.
fn image_versions<'a>(found: &mut Found<'_>, subjects: &[Subject<'a>]) {
    let mut changes: BTreeMap<(Image, Image), Vec<User<'a>>> = BTreeMap::new();
    for pair in subjects.iter().map(|s| &s.pair) {
        let (Some(old), Some(new)) = (pair.base, pair.head) else { continue };
        let before = images(&old.object.value);
        for (container, to) in images(&new.object.value) {
            if let Some(from) = before.get(&container).filter(|f| **f != to) {
                let field = super::path_of(&new.object.value, &to);
                changes.entry((Image::parse(from), Image::parse(&to))).or_default().push((new, field));
            }
        }
    }
    for ((from, to), users) in changes {
        let Some((first, field)) = users.first() else { continue };
        let mut names: Vec<String> = users.iter().map(|(r, _)| r.object.key().to_string()).collect();
        names.dedup();
        let title = format!("image {} {} → {} in {}", to.name, from.version(), to.version(), some_of(&names));
        let code = match images::step(&from, &to) {
            Step::Downgrade => "image-downgrade",
            Step::Major => "image-major",
            _ if !from.digest.is_empty() && to.digest.is_empty() => "digest-removed",
            _ => continue,
        };
        found.object(code, *first, title).field.clone_from(field);
    }
}
