//! DR001, DR002, DR004–DR008, DR019, DR033–DR035, DR040, DR044: why units do not render, or are not applied.

use druse_flux::api::HelmRelease;
use druse_kustomize::Kind;
use druse_object::Value;
use druse_plan::{Fault, Unit, UnitError, UnitId, UnitKind, UnitState};

use crate::context::Context;
use crate::files::{File, is_kustomization, is_put_aside};
use crate::finding::{Finding, Place, Severity};
use crate::index::Existence;
use crate::position::Step;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    for unit in &cx.plan.units {
        match &unit.state {
            UnitState::Suspended => {
                let path = ["spec", "suspend"].map(Step::from);
                out.push(cx.unit(unit, &path, "DR044", format!("{} is suspended: nothing applies it", unit.id)));
            }
            UnitState::StandIn { reason, .. } => {
                out.push(cx.unit(unit, &source_path(unit), "DR008", reason.clone()).severity(Severity::Info));
            }
            _ => {}
        }
        if unit.definition.value.at(["spec", "upgrade", "preserveValues"]).and_then(Value::as_bool) == Some(true) {
            let path = ["spec", "upgrade", "preserveValues"].map(Step::from);
            let message =
                format!("{} keeps the values of earlier revisions; only those in the tree are known here", unit.id);
            out.push(cx.unit(unit, &path, "DR019", message));
        }
        // Of what is put aside, and applied by nobody, nothing is expected.
        if unit.is_root && is_put_aside(unit.definition.provenance.file.as_deref().unwrap_or_default()) {
            continue;
        }
        for e in &unit.errors {
            fault(cx, unit, e, out);
        }
    }
}

fn steps(path: &[&str]) -> Vec<Step> {
    path.iter().map(|k| Step::from(*k)).collect()
}

/// The field of a unit that says where its files or its chart come from.
fn source_path(unit: &Unit) -> Vec<Step> {
    let spec = &unit.definition.value["spec"];
    let paths: &[&[&str]] =
        &[&["chart", "spec", "version"], &["chart", "spec", "chart"], &["chartRef", "name"], &["sourceRef", "name"]];
    let found = paths.iter().find(|p| p.iter().try_fold(spec, |v, k| v.get(k)).is_some());
    steps(&["spec"]).into_iter().chain(steps(found.copied().unwrap_or_default())).collect()
}

fn fault(cx: &Context<'_>, unit: &Unit, e: &UnitError, out: &mut Vec<Finding>) {
    let at_file = |code: &str| {
        let place = Place::new(e.file.clone().unwrap_or_default(), e.line);
        let place = match e.file.as_deref() {
            None => of_release(cx, unit, &e.message),
            // What cannot be an object is named with its place.
            Some(_) if is_definition(unit, e) => {
                named_place(cx, &e.message).unwrap_or_else(|| of_release(cx, unit, &e.message))
            }
            // Flux builds a kustomization that it makes of the file: its lines are none of the file's.
            Some(file) if is_kustomization(file) || e.line == 0 => {
                Place::new(file, named_in(cx, file, &e.message).unwrap_or(e.line.max(1)))
            }
            // What cannot be substituted is in the object somewhere.
            Some(file) => {
                let text = e.message.split_once("(in `").and_then(|(_, rest)| rest.split_once('`'));
                let from = usize::try_from(e.line.saturating_sub(1)).unwrap_or(0);
                let lines = cx.files.get(file).into_iter().flat_map(|f| f.text().lines().enumerate()).skip(from);
                let found = text.and_then(|(text, _)| lines.into_iter().find(|(_, l)| l.contains(text)));
                found.map_or(place, |(i, _)| Place::new(file, u32::try_from(i + 1).unwrap_or(0)))
            }
        };
        // A chart in the tree is mended there.
        let place = in_own_chart(cx, unit, &e.message).unwrap_or(place);
        finished(Finding::new(code, place, e.message.clone()).unit(&unit.id), e)
    };
    let spec = &unit.definition.value["spec"];
    match &e.fault {
        Fault::Yaml => out.push(at_file("DR001")),
        Fault::Build => {
            let mut finding = at_file(build_code(&e.message));
            if let Some(place) = own_component(cx, unit, &e.message).or_else(|| own_patch(cx, unit, &e.message)) {
                finding.place = place;
            }
            out.push(build(cx, unit, finding, &e.message));
        }
        Fault::Path => {
            let message = format!("the tree has no folder {}", spec.str_at(["path"]).unwrap_or("/"));
            let finding = finished(cx.unit(unit, &steps(&["spec", "path"]), "DR004", message), e);
            // One of several that nobody is known to apply may be left over.
            let others = cx.plan.units.iter().filter(|u| u.is_root && u.id != unit.id && !u.objects.is_empty()).count();
            let left_over = unit.is_root && unit.made_by.is_empty() && others > 0;
            out.push(if left_over { finding.severity(Severity::Warning) } else { finding });
        }
        Fault::Source if e.message.contains(" has no chart ") => {
            out.push(
                finished(cx.unit(unit, &steps(&["spec", "chart", "spec", "chart"]), "DR008", e.message.clone()), e)
                    .severity(Severity::Error),
            );
        }
        Fault::Source => {
            let path: &[&str] =
                match (spec.get("chartRef"), spec.at(["chart", "spec", "sourceRef"]), spec.get("sourceRef")) {
                    (Some(_), ..) => &["spec", "chartRef", "name"],
                    (_, Some(_), _) => &["spec", "chart", "spec", "sourceRef", "name"],
                    _ => &["spec", "sourceRef", "name"],
                };
            let finding = finished(cx.unit(unit, &steps(path), "DR033", e.message.clone()), e);
            if e.message.contains(" ExternalArtifact/") {
                out.push(finding.severity(Severity::Info).help("it is made in the cluster; this unit is not checked"));
                return;
            }
            // What a Kustomization that does not render would have brought is not known.
            let known = !cx
                .index
                .opaque
                .iter()
                .any(|o| o.unit.id.kind == UnitKind::Kustomization && o.unit.id != unit.id && !o.is_partial());
            out.push(if known { finding } else { finding.severity(Severity::Warning) });
        }
        Fault::NotAtHand => {
            let finding = finished(cx.unit(unit, &source_path(unit), "DR008", e.message.clone()), e);
            // Nobody who could have it was asked.
            let unasked = e.message.contains("(offline)")
                && (!e.message.contains("(has ") || e.message.contains("has no chart of that name"));
            out.push(if unasked { finding.severity(Severity::Info) } else { finding });
        }
        Fault::Variable(name) => out.push(finished(variable(cx, unit, e, name), e)),
        Fault::Config { field, name } => out.extend(config(cx, unit, e, field, name)),
        Fault::ValuesSchema => values_schema(cx, unit, e, out),
        Fault::Dependency(on) => {
            let path = dependency_path(spec, unit, on);
            let finding = finished(cx.unit(unit, &path, "DR035", e.message.clone()), e);
            let known = !cx
                .index
                .opaque
                .iter()
                .any(|o| o.unit.id.kind == UnitKind::Kustomization && o.unit.id != unit.id && !o.is_partial());
            out.push(if known { finding } else { finding.severity(Severity::Warning) });
        }
        Fault::Cycle(ids) => {
            let at = ids.iter().position(|id| *id == unit.id).unwrap_or(0);
            let on = ids.iter().find(|id| unit.depends_on.contains(id)).or(ids.get(at));
            let path = on.map(|on| dependency_path(spec, unit, on)).unwrap_or_default();
            out.push(finished(cx.unit(unit, &path, "DR040", e.message.clone()), e));
        }
        Fault::NoNamespace => out.push(at_file("DR012")),
        Fault::Encrypted | Fault::Other => out.push(at_file(other_code(&e.message))),
    }
}

/// What is wrong with an object that cannot be read, by the words of the error.
fn other_code(message: &str) -> &'static str {
    if message.starts_with("failed to decode Kubernetes apiVersion") {
        return "DR012";
    }
    if message.contains(" has no version ") { "DR015" } else { "DR002" }
}

/// The file and line of the tree at the end of a message.
fn named_place(cx: &Context<'_>, message: &str) -> Option<Place> {
    let (file, line) = message.rsplit(' ').next()?.rsplit_once(':')?;
    cx.files.get(file)?;
    Some(Place::new(file, line.parse().ok()?))
}

/// Whether an error's place is only that of the unit's definition.
fn is_definition(unit: &Unit, e: &UnitError) -> bool {
    let at = &unit.definition.provenance;
    e.file.as_deref() == at.file.as_deref() && e.line == at.line
}

/// Where a release's values have what a chart's error is about, or else where the unit is defined.
fn of_release(cx: &Context<'_>, unit: &Unit, message: &str) -> Place {
    let path = message.split_once("<.Values.").and_then(|(_, rest)| rest.split_once('>'));
    if let Some((path, _)) = path
        && !path.contains([' ', '('])
    {
        let steps: Vec<Step> = path.split('.').map(Step::from).collect();
        return cx.values_path(unit, &steps);
    }
    let quoted = message.split(['\'', '"', '`', '(', ')']).skip(1).step_by(2);
    let words = quoted.filter(|w| w.len() > 2 && !w.contains([' ', ':', '/']) && !w.ends_with(".yaml"));
    let texts: Vec<&str> = words.collect();
    cx.value_in(unit, &texts).unwrap_or_else(|| cx.of_unit(unit, &[]))
}

/// Where a unit names a component of its own that is not there.
fn own_component(cx: &Context<'_>, unit: &Unit, message: &str) -> Option<Place> {
    let spec = &unit.definition.value["spec"];
    let dir = druse_flux::generator::clean_path(spec.str_at(["path"]).unwrap_or_default());
    let missing = |path: &str| {
        message.contains("accumulating components") && cx.files.tree().kind(path).is_none() && message.contains(path)
    };
    let i = spec["components"].items().iter().position(|c| {
        c.as_str().and_then(|c| druse_kustomize::tree::join(&dir, c)).is_some_and(|path| missing(&path))
    })?;
    Some(cx.of_unit(unit, &[Step::from("spec"), Step::from("components"), Step::Index(i)]))
}

/// Where a unit has a patch that kustomize cannot read.
fn own_patch(cx: &Context<'_>, unit: &Unit, message: &str) -> Option<Place> {
    let patches = unit.definition.value["spec"]["patches"].items();
    let first = |p: &Value| {
        p.str_at(["patch"]).and_then(|t| t.lines().map(str::trim).find(|l| l.len() > 3)).map(str::to_string)
    };
    let i = patches.iter().position(|p| {
        message.contains("unable to parse SM or JSON patch") && first(p).is_some_and(|line| message.contains(&line))
    })?;
    Some(
        cx.of_unit(
            unit,
            &["spec", "patches"]
                .map(Step::from)
                .into_iter()
                .chain([Step::Index(i), Step::from("patch")])
                .collect::<Vec<_>>(),
        ),
    )
}

/// The place that an error names in a chart which is a folder of the tree: `(NAME/templates/x.yaml:4)`.
fn in_own_chart(cx: &Context<'_>, unit: &Unit, message: &str) -> Option<Place> {
    let spec = &unit.definition.value["spec"]["chart"]["spec"];
    let folder = druse_flux::generator::clean_path(spec.str_at(["chart"])?);
    if let Some(rest) = message.strip_prefix("cannot load values.yaml: ") {
        let line = rest.split_once("line ").and_then(|(_, n)| n.split(':').next()?.parse().ok()).unwrap_or(1);
        let path = format!("{folder}/values.yaml");
        return cx.files.tree().kind(&path).map(|_| Place::new(path, line));
    }
    // What a template makes of values may be the values' fault.
    if !message.contains("parse error") {
        return None;
    }
    message.split(['(', ')', ' ', '"', '<', '>']).find_map(|word| {
        let (file, rest) = word.split_once(':')?;
        let (_, inner) = file.split_once("/templates/")?;
        let line = rest.split(':').next()?.parse().ok()?;
        let path = format!("{folder}/templates/{inner}");
        cx.files.tree().kind(&path).map(|_| Place::new(path, line))
    })
}

/// The line of a kustomization that has what a message names: in quotes, brackets or parentheses, behind `name` or
/// `open`; a path or an object's id by its last part, too.
fn named_in(cx: &Context<'_>, file: &str, message: &str) -> Option<u32> {
    let file = cx.files.get(file)?;
    let dir = file.path.rsplit_once('/').map_or(String::new(), |(d, _)| format!("{d}/"));
    let quoted = message.split(['\'', '"', '`', '(', ')', '[', ']']).filter(|w| !w.contains(' '));
    let said = message.split_whitespace().collect::<Vec<_>>();
    let behind = said.windows(2).filter(|w| matches!(w[0], "name" | "open" | "path:")).map(|w| w[1].trim_matches(':'));
    let words: Vec<&str> = quoted.chain(behind).filter(|w| w.len() > 1).collect();
    let whole = words.iter().map(|w| w.strip_prefix(dir.as_str()).unwrap_or(w));
    // `Kind.version.group/name.namespace`, and paths.
    let parts = words.iter().filter_map(|w| w.rsplit_once('/')).flat_map(|(_, last)| {
        let name = last.split('.').next().unwrap_or_default();
        [last, name]
    });
    let has = |word: &str| {
        let end = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '-' && c != '_');
        let on = |line: &str| {
            line.match_indices(word).any(|(i, w)| {
                end(line.get(..i).and_then(|b| b.chars().next_back()))
                    && end(line.get(i + w.len()..).and_then(|a| a.chars().next()))
            })
        };
        let line = file.text().lines().position(|l| !l.trim_start().starts_with('#') && on(l))?;
        u32::try_from(line + 1).ok()
    };
    // A folder beside or above is written with dots, and said without.
    let entry = || {
        let named = |line: &str| {
            let path = line.trim_start().trim_start_matches("- ").trim().trim_matches(['"', '\'']);
            let full =
                if path.contains("../") { druse_kustomize::tree::join(dir.trim_end_matches('/'), path) } else { None };
            full.is_some_and(|full| !full.is_empty() && words.iter().any(|w| *w == full))
        };
        let line = file.text().lines().position(|l| l.trim_start().starts_with("- ") && named(l))?;
        u32::try_from(line + 1).ok()
    };
    whole.chain(parts).filter(|w| w.len() > 1).find_map(has).or_else(entry)
}

fn finished(mut finding: Finding, e: &UnitError) -> Finding {
    finding.remedy = e.remedy.clone().or(finding.remedy);
    if crate::words::is_placeholder(&e.message) {
        return finding
            .severity(Severity::Warning)
            .help("a value is not known here and this stands for it: give the key that opens it (SOPS_AGE_KEY_FILE)");
    }
    finding
}

/// A failed build that may be no fault of the tree is said to be so.
fn build(cx: &Context<'_>, unit: &Unit, finding: Finding, message: &str) -> Finding {
    if message.contains("remote resource") {
        return Finding { code: crate::codes::get("DR008"), ..finding }.severity(Severity::Info);
    }
    let missing = message.rsplit_once("open ").and_then(|(_, rest)| rest.split_once(": no such file"));
    let Some((path, _)) = missing.filter(|(path, _)| cx.files.tree().kind(path) == Some(Kind::File)) else {
        return finding;
    };
    let finding = finding.help(format!(
        "{path} is there, but Flux leaves it out of the source: name it in spec.ignore or .sourceignore (!*.png); \
         images and archives are left out by default"
    ));
    // A source that somebody else makes may have other rules.
    let reference = &unit.definition.value["spec"]["sourceRef"];
    let text = |k: &str| reference.str_at([k]).unwrap_or_default();
    let mut scanned = cx.sources.scanned().iter().filter(|o| !druse_plan::instance::is_made(o));
    let known = scanned.any(|o| o.kind() == text("kind") && o.name() == text("name"));
    if known { finding } else { finding.severity(Severity::Warning) }
}

/// What a kustomize error is about, by its words.
fn build_code(message: &str) -> &'static str {
    if message.contains("already registered id") {
        return "DR005";
    }
    const MISSING: [&str; 4] =
        ["no such file or directory", "not a valid directory", "must resolve to a file", "unable to find one of"];
    if MISSING.iter().any(|m| message.contains(m)) { "DR004" } else { "DR002" }
}

fn variable(cx: &Context<'_>, unit: &Unit, e: &UnitError, name: &str) -> Finding {
    let message = format!("variable {name} has neither a value nor a default");
    let mut place = Place::new(e.file.clone().unwrap_or_default(), e.line);
    if let Some(file) = e.file.as_deref().and_then(|f| cx.files.get(f)) {
        let uses = |line: &str| {
            line.split("${").skip(1).any(|rest| {
                rest.strip_prefix(name).is_some_and(|r| !r.starts_with(|c: char| c == '_' || c.is_ascii_alphanumeric()))
            })
        };
        let lines = |from: u32, to: u32| {
            let skip = usize::try_from(from.saturating_sub(1)).unwrap_or(0);
            let take = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX).saturating_add(1);
            file.text().lines().enumerate().skip(skip).take(take).find(|(_, l)| uses(l)).map(|(i, _)| i + 1)
        };
        let own = file.document_at(e.line).and_then(|d| lines(d.line, d.end));
        // What a generator read is beside its kustomization, whatever it is; what a patch brought can be anywhere.
        let beside = file.path.rsplit_once('/').map_or(String::new(), |(dir, _)| format!("{dir}/"));
        let place_in = |f: &File| {
            let i = f.text().lines().position(uses)?;
            Some(Place::new(&f.path, u32::try_from(i + 1).unwrap_or(0)))
        };
        let read = || cx.files.iter().filter(|f| cx.files.was_read(&f.path));
        let elsewhere = || {
            let near = read().filter(|f| f.path.starts_with(&beside)).find_map(place_in);
            let other =
                || cx.files.others(|p| p.starts_with(&beside) && cx.files.was_read(p)).find_map(|f| place_in(&f));
            near.or_else(other).or_else(|| read().find_map(place_in))
        };
        match own {
            Some(line) => place.line = u32::try_from(line).unwrap_or(0),
            None => place = elsewhere().unwrap_or(place),
        }
    }
    Finding::new("DR006", place, message).unit(&unit.id)
}

fn config(cx: &Context<'_>, unit: &Unit, e: &UnitError, field: &str, name: &str) -> Option<Finding> {
    let spec = &unit.definition.value["spec"];
    let (list, mut path) = if field == "valuesFrom" {
        (&spec["valuesFrom"], steps(&["spec", "valuesFrom"]))
    } else {
        (&spec["postBuild"]["substituteFrom"], steps(&["spec", "postBuild", "substituteFrom"]))
    };
    let found = list.items().iter().enumerate().find(|(_, r)| r.str_at(["name"]) == Some(name));
    if let Some((i, reference)) = found {
        path.extend([Step::Index(i), Step::from("name")]);
        let kind = reference.str_at(["kind"]).unwrap_or("ConfigMap");
        match cx.index.exists_but_for(Some(&unit.id), "", kind, &unit.id.namespace, name) {
            Existence::Missing => {}
            // The object is there with another key, or what it holds is not known before the cluster runs.
            Existence::Applied if e.message.contains("has no such key") => {
                path.pop();
                path.push(Step::from("valuesKey"));
            }
            _ => {
                let message =
                    format!("{field}: {kind} {name} is only known in the cluster, so this unit is not checked");
                return Some(cx.unit(unit, &path, "DR034", message).severity(Severity::Info));
            }
        }
    }
    Some(finished(cx.unit(unit, &path, "DR034", e.message.clone()), e))
}

fn dependency_path(spec: &Value, unit: &Unit, on: &UnitId) -> Vec<Step> {
    let mut path = steps(&["spec", "dependsOn"]);
    let found = spec["dependsOn"].items().iter().position(|d| {
        let namespace = d.str_at(["namespace"]).filter(|n| !n.is_empty()).unwrap_or(&unit.id.namespace);
        d.str_at(["name"]) == Some(&on.name) && namespace == on.namespace
    });
    if let Some(i) = found {
        path.extend([Step::Index(i), Step::from("name")]);
    }
    path
}

/// One finding for each line that Helm says about the values.
fn values_schema(cx: &Context<'_>, unit: &Unit, e: &UnitError, out: &mut Vec<Finding>) {
    let chart = unit.chart.as_ref().map(|c| c.name.clone()).unwrap_or_default();
    let mut prefix: Vec<Step> = Vec::new();
    let before = out.len();
    let lines: Vec<&str> = e.message.lines().collect();
    // Where the value is, the path that is said to be at fault, and why.
    let mut faults: Vec<(Vec<Step>, Vec<Step>, Vec<String>)> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let Some(rest) = trimmed.strip_prefix("- at '") else {
            if let Some(name) = trimmed.strip_suffix(':').filter(|n| !n.contains(' ')) {
                prefix = if name == chart { Vec::new() } else { vec![Step::from(name)] };
            }
            continue;
        };
        // What has lines below it is only their sum.
        let below = lines
            .get(i + 1)
            .is_some_and(|l| l.trim_start().starts_with("- at") && l.len() - l.trim_start().len() > indent);
        let Some((pointer, text)) = rest.split_once("': ") else { continue };
        if below {
            continue;
        }
        let mut path = prefix.clone();
        path.extend(pointer.split('/').skip(1).map(|part| {
            let part = part.replace("~1", "/").replace("~0", "~");
            part.parse::<usize>().map_or(Step::Key(part), Step::Index)
        }));
        // The value itself may have come from a Secret.
        let text = text
            .find("does not match pattern")
            .and_then(|i| text.get(i..))
            .map_or_else(|| text.to_string(), |rest| format!("the value {rest}"));
        // Each property that is too many is a fault of its own.
        let too_many: Vec<(Vec<Step>, String)> = match text.split_once("additional properties '") {
            Some((_, names)) => names
                .split('\'')
                .step_by(2)
                .map(|name| {
                    let at = path.iter().cloned().chain([Step::from(name)]).collect();
                    (at, format!("additional properties '{name}' not allowed"))
                })
                .collect(),
            None => vec![(path.clone(), text)],
        };
        // Of what may be one of several, each is refused for its own reason.
        for (at, text) in too_many {
            match faults.iter_mut().find(|f| f.0 == at) {
                Some((.., reasons)) if !reasons.contains(&text) => reasons.push(text),
                Some(_) => {}
                None => faults.push((at, path.clone(), vec![text])),
            }
        }
    }
    for (at, path, reasons) in faults {
        let shown = if path.is_empty() { String::from("the values") } else { crate::position::show(&path) };
        let place = cx.values_path(unit, &at);
        let text = reasons.join(", or ");
        let mut finding =
            Finding::new("DR007", place, format!("{shown}: {text}, says the schema of chart {chart}")).unit(&unit.id);
        finding.field = Some(format!("spec.values.{}", crate::position::show(&at)));
        out.push(finding);
    }
    if out.len() == before {
        let path = if HelmRelease::is(&unit.definition) { steps(&["spec", "values"]) } else { Vec::new() };
        out.push(finished(cx.unit(unit, &path, "DR007", e.message.clone()), e));
    }
}
