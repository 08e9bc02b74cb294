//! A rendering as bytes: what it read, to know whether it holds here, and what it gave.
//!
//! No value of a Secret is among the bytes. A chart's own Secrets are kept without their values, and marked so; a unit
//! that read a Secret, that decrypted something or whose files hold a Secret is not kept at all: its values could be
//! anywhere in what it gave.

use std::collections::BTreeMap;
use std::sync::Arc;

use druse_flux::release::ReleaseHook;
use druse_kustomize::tree::{ContentId, FileTree};
use druse_object::object::{has_secrets, withhold_secrets};
use druse_object::{Object, Value};

use crate::codec::{Reader, Writer};
use crate::finish::Head;
use crate::model::{ChartInfo, ServedKind, UnitKind};
use crate::render::Output;
use crate::shared::Objects;
use crate::trace::{Ask, Trace};
use crate::world::{Name, Reads, World};

/// What names an object in everything it says, its place included.
fn digest(o: &Object) -> ContentId {
    let mut w = Writer::default();
    w.object(o);
    ContentId::of(&w.0)
}

fn digest_of_all(world: &World) -> ContentId {
    let mut w = Writer::default();
    world.api_versions.iter().for_each(|v| w.text(v.as_ref()));
    ContentId::of(&w.0)
}

/// The bytes of a rendering; `None` where it must not be kept.
pub(crate) fn write(kind: UnitKind, output: &Output, trace: &Trace, world: &World) -> Option<Vec<u8>> {
    let reads = &output.reads;
    // What failed is tried again.
    if !output.errors.is_empty()
        || reads.secret
        || reads.named.iter().any(|(name, found)| name.0 == "Secret" && found.is_some())
    {
        return None;
    }
    let all = || output.objects.iter().chain(output.hooks.iter().map(|h| &h.object));
    let withheld = all().any(|o| has_secrets(&o.value));
    if withheld && kind == UnitKind::Kustomization {
        return None;
    }
    let mut w = Writer::default();
    w.list(reads.named.iter(), |w, (name, found)| {
        name_to(w, name);
        w.optional(found.as_ref(), |w, o| w.0.extend(digest(o).0));
    });
    w.list(reads.api.iter(), |w, (version, served)| {
        w.text(version);
        w.flag(*served);
    });
    w.optional(reads.all_api.as_ref().map(|_| digest_of_all(world)), |w, id| w.0.extend(id.0));
    w.list(trace.0.iter(), |w, (ask, path, answer)| {
        w.0.push(ask.code());
        w.text(path);
        w.0.extend(answer.0);
    });
    w.flag(withheld);
    w.text(output.chart.as_ref().map_or("", |c| &c.app_version));
    w.texts(output.warnings.iter());
    w.texts(output.unresolved.iter());
    w.list(output.kinds.iter(), served_to);
    w.list(output.heads.iter(), |w, head| {
        w.text(&head.gvk.group);
        w.text(&head.gvk.version);
        w.text(&head.gvk.kind);
        w.text(&head.namespace);
        w.text(&head.name);
        w.provenance(&head.provenance);
    });
    w.list(output.hooks.iter(), |w, hook| {
        object_to(w, &hook.object);
        w.texts(hook.events.iter());
        w.number(hook.weight.cast_unsigned());
        w.texts(hook.delete_policies.iter());
    });
    let mut body = Writer::default();
    w.list(output.objects.iter(), |w, o| {
        w.number(body.0.len() as u64);
        object_to(&mut body, o);
    });
    w.0.extend(body.0);
    Some(w.0)
}

/// The rendering, if it would be the same here.
pub(crate) fn read(bytes: Vec<u8>, tree: Option<&dyn FileTree>, world: &World, clear: bool) -> Option<(Trace, Output)> {
    let mut r = Reader::new(&bytes);
    let mut reads = Reads::default();
    for (name, found) in r.list(|r| Some((name_from(r)?, r.optional(id)?)))? {
        let here = world.get(&name.0, &name.1, &name.2).cloned();
        if here.as_deref().map(digest) != found {
            return None;
        }
        reads.named.insert(name, here);
    }
    let asked = r.list(|r| Some((r.text()?.to_string(), r.flag()?)))?;
    if asked.iter().any(|(version, served)| world.api_versions.has(version) != *served) {
        return None;
    }
    reads.api = BTreeMap::from_iter(asked);
    if let Some(all) = r.optional(id)? {
        if all != digest_of_all(world) {
            return None;
        }
        reads.all_api = Some(Arc::clone(&world.api_versions));
    }
    let trace = Trace(r.list(|r| {
        let [code] = r.bytes::<1>()?;
        Some((Ask::from_code(code)?, r.text()?.into(), id(r)?))
    })?);
    if !tree.is_none_or(|tree| trace.holds_in(tree)) {
        return None;
    }
    let withheld = r.flag()?;
    if withheld && clear {
        return None;
    }
    let app_version = r.text()?.to_string();
    let (warnings, unresolved) = (r.texts()?, r.texts()?);
    let kinds = r.list(served_from)?;
    let heads = r.list(|r| {
        Some(Head {
            gvk: druse_object::Gvk::new(r.text()?, r.text()?, r.text()?),
            namespace: r.text()?.into(),
            name: r.text()?.into(),
            provenance: r.provenance()?,
        })
    })?;
    let hooks = r.list(|r| {
        Some(ReleaseHook {
            object: r.object()?,
            events: r.texts()?,
            weight: r.number()?.cast_signed(),
            delete_policies: r.texts()?,
        })
    })?;
    let offsets = r.list(Reader::number)?;
    let start = bytes.len() - r.left();
    // As a vector: a slice of its own would be a copy.
    let bytes = Arc::new(bytes);
    let at = move |i: usize| -> Object {
        let offset = offsets.get(i).and_then(|o| usize::try_from(*o).ok()).unwrap_or(usize::MAX);
        let body = bytes.get(start.saturating_add(offset)..).unwrap_or_default();
        // The digest of the bytes was right: this is what was written.
        Reader::new(body).object().unwrap_or_else(|| Object::new(Value::default()))
    };
    let count = heads.len() - hooks.len().min(heads.len());
    let chart = Some(ChartInfo { app_version, ..ChartInfo::default() });
    let mut out = Output { reads, chart, warnings, unresolved, kinds, heads, hooks, withheld, ..Output::default() };
    out.objects = Objects::lazy(count, at);
    Some((trace, out))
}

fn id(r: &mut Reader<'_>) -> Option<ContentId> {
    r.bytes::<20>().map(ContentId)
}

fn name_to(w: &mut Writer, name: &Name) {
    [&name.0, &name.1, &name.2].into_iter().for_each(|part| w.text(part));
}

fn name_from(r: &mut Reader<'_>) -> Option<Name> {
    Some((r.text()?.to_string(), r.text()?.to_string(), r.text()?.to_string()))
}

pub(crate) fn served_to(w: &mut Writer, kind: &ServedKind) {
    w.text(&kind.group);
    w.texts(kind.versions.iter());
    w.text(&kind.kind);
    w.flag(kind.namespaced);
}

pub(crate) fn served_from(r: &mut Reader<'_>) -> Option<ServedKind> {
    Some(ServedKind {
        group: r.text()?.to_string(),
        versions: r.texts()?,
        kind: r.text()?.to_string(),
        namespaced: r.flag()?,
    })
}

/// Writes an object without the values of Secrets.
fn object_to(w: &mut Writer, o: &Object) {
    if !has_secrets(&o.value) {
        return w.object(o);
    }
    let mut without = o.clone();
    withhold_secrets(&mut without.value, "");
    w.object(&without);
}
