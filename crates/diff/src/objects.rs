//! Which object of base is which of head: by key within a unit, then across units, then by a name that only its hash
//! ends differently. What is equal is left out early.

use std::collections::{BTreeMap, HashMap};

use druse_object::{Object, ObjectKey};
use druse_plan::{Unit, UnitId};

use crate::model::ChangeKind;
use crate::side::{Side, Unknown, unknown};

/// An object with its unit.
#[derive(Clone, Copy)]
pub(crate) struct Ref<'a> {
    pub(crate) unit: &'a Unit,
    pub(crate) object: &'a Object,
}

/// An object that differs: at least one side has it.
#[derive(Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) base: Option<Ref<'a>>,
    pub(crate) head: Option<Ref<'a>>,
    pub(crate) hook: bool,
}

impl<'a> Pair<'a> {
    pub(crate) fn change(&self) -> ChangeKind {
        match (self.base, self.head) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            _ => ChangeKind::Changed,
        }
    }

    /// The object in head, or in base when it is removed.
    pub(crate) fn either(&self) -> Option<Ref<'a>> {
        self.head.or(self.base)
    }

    /// Whether only the hash that ends its name differs.
    pub(crate) fn renamed(&self) -> bool {
        matches!((self.base, self.head), (Some(b), Some(h)) if b.object.name() != h.object.name())
    }

    /// Whether it changed from one unit to another.
    pub(crate) fn moved(&self) -> bool {
        matches!((self.base, self.head), (Some(b), Some(h)) if b.unit.id != h.unit.id)
    }
}

/// All objects that differ, by the unit they belong to (in head, if they are there), and the units whose objects cannot
/// be compared.
pub(crate) struct Matched<'a> {
    pub(crate) pairs: BTreeMap<&'a UnitId, Vec<Pair<'a>>>,
    pub(crate) base_unknown: BTreeMap<&'a UnitId, Unknown>,
    pub(crate) head_unknown: BTreeMap<&'a UnitId, Unknown>,
}

pub(crate) fn match_all<'a>(base: &Side<'a>, head: &Side<'a>) -> Matched<'a> {
    let mut base_unknown = base.unknown_of(head);
    let mut head_unknown = head.unknown_of(base);
    base_unknown.extend(base.plan.units.iter().filter_map(|u| Some((&u.id, unknown(u)?))));
    head_unknown.extend(head.plan.units.iter().filter_map(|u| Some((&u.id, unknown(u)?))));
    let mut pairs: BTreeMap<&UnitId, Vec<Pair<'_>>> = BTreeMap::new();
    let mut gone: Vec<(Ref<'_>, bool)> = Vec::new();
    let mut new: Vec<(Ref<'_>, bool)> = Vec::new();
    let known = |id: &UnitId| !base_unknown.contains_key(id) && !head_unknown.contains_key(id);
    for unit in &head.plan.units {
        if !known(&unit.id) {
            continue;
        }
        match base.unit(&unit.id) {
            Some(old) => {
                let own = pairs.entry(&unit.id).or_default();
                // What did not have to be rendered twice is there once, and need not be looked at.
                if !old.objects.is_same(&unit.objects) {
                    within(old, unit, old.objects.iter(), unit.objects.iter(), false, own, &mut gone, &mut new);
                }
                let hooks = |u: &'a Unit| u.hooks.iter().map(|h| &h.object);
                within(old, unit, hooks(old), hooks(unit), true, own, &mut gone, &mut new);
            }
            None => new.extend(all(unit)),
        }
    }
    for unit in base.plan.units.iter().filter(|u| head.unit(&u.id).is_none() && known(&u.id)) {
        gone.extend(all(unit));
    }
    across(&mut gone, &mut new, &mut pairs, |b, h| b.object.key() == h.object.key());
    across(&mut gone, &mut new, &mut pairs, |b, h| b.unit.id == h.unit.id && same_but_for_hash(b.object, h.object));
    for (object, hook) in new {
        pairs.entry(&object.unit.id).or_default().push(Pair { base: None, head: Some(object), hook });
    }
    for (object, hook) in gone {
        pairs.entry(&object.unit.id).or_default().push(Pair { base: Some(object), head: None, hook });
    }
    pairs.retain(|_, own| !own.is_empty());
    Matched { pairs, base_unknown, head_unknown }
}

fn all<'a>(unit: &'a Unit) -> impl Iterator<Item = (Ref<'a>, bool)> {
    let hooks = unit.hooks.iter().map(move |h| (Ref { unit, object: &h.object }, true));
    unit.objects.iter().map(move |object| (Ref { unit, object }, false)).chain(hooks)
}

/// Matches the objects of one unit by key. A key that a unit has several times is matched in order.
#[allow(clippy::too_many_arguments, reason = "two sides, two ways out")]
fn within<'a>(
    old_unit: &'a Unit,
    new_unit: &'a Unit,
    old: impl Iterator<Item = &'a Object> + Clone,
    new: impl Iterator<Item = &'a Object> + Clone,
    hook: bool,
    pairs: &mut Vec<Pair<'a>>,
    gone: &mut Vec<(Ref<'a>, bool)>,
    added: &mut Vec<(Ref<'a>, bool)>,
) {
    // Most units are as they were, object by object.
    let mut rest_new = new;
    let mut rest_old = old;
    loop {
        let (mut next_old, mut next_new) = (rest_old.clone(), rest_new.clone());
        match (next_old.next(), next_new.next()) {
            (None, None) => return,
            (Some(b), Some(h)) if std::ptr::eq(b, h) || b.value == h.value => {
                (rest_old, rest_new) = (next_old, next_new);
            }
            _ => break,
        }
    }
    let mut by_key: HashMap<ObjectKey, Vec<&'a Object>> = HashMap::new();
    for object in rest_old {
        by_key.entry(object.key()).or_default().push(object);
    }
    for object in rest_new {
        let Some(before) = by_key.get_mut(&object.key()).filter(|b| !b.is_empty()).map(|b| b.remove(0)) else {
            added.push((Ref { unit: new_unit, object }, hook));
            continue;
        };
        if before.value != object.value {
            let base = Some(Ref { unit: old_unit, object: before });
            pairs.push(Pair { base, head: Some(Ref { unit: new_unit, object }), hook });
        }
    }
    let mut left: Vec<&Object> = by_key.into_values().flatten().collect();
    left.sort_by_key(|o| o.key());
    gone.extend(left.into_iter().map(|object| (Ref { unit: old_unit, object }, hook)));
}

/// Matches what is left over, of whatever units.
fn across<'a>(
    gone: &mut Vec<(Ref<'a>, bool)>,
    new: &mut Vec<(Ref<'a>, bool)>,
    pairs: &mut BTreeMap<&'a UnitId, Vec<Pair<'a>>>,
    same: impl Fn(&Ref<'a>, &Ref<'a>) -> bool,
) {
    let mut by_stem: HashMap<(String, String), Vec<usize>> = HashMap::new();
    let bucket = |o: &Object| (o.kind().to_string(), stem(o).to_string());
    for (i, (object, _)) in new.iter().enumerate() {
        by_stem.entry(bucket(object.object)).or_default().push(i);
    }
    let mut taken = vec![false; new.len()];
    gone.retain(|(old, hook)| {
        let candidates = by_stem.get(&bucket(old.object)).map(Vec::as_slice).unwrap_or_default();
        let found = candidates.iter().copied().find(|i| {
            taken.get(*i) == Some(&false) && new.get(*i).is_some_and(|(h, new_hook)| hook == new_hook && same(old, h))
        });
        let Some((i, (head, _))) = found.and_then(|i| Some((i, new.get(i)?))) else { return true };
        if let Some(place) = taken.get_mut(i) {
            *place = true;
        }
        pairs.entry(&head.unit.id).or_default().push(Pair { base: Some(*old), head: Some(*head), hook: *hook });
        false
    });
    let mut i = 0;
    new.retain(|_| {
        i += 1;
        taken.get(i - 1) == Some(&false)
    });
}

fn stem(object: &Object) -> &str {
    hash_stem(object).unwrap_or_else(|| object.name())
}

/// The name of a ConfigMap or Secret without the hash that kustomize put after it.
pub(crate) fn hash_stem(object: &Object) -> Option<&str> {
    if !matches!(object.kind(), "ConfigMap" | "Secret") || object.api_version() != "v1" {
        return None;
    }
    name_stem(object.name())
}

/// A name without the hash that kustomize put after it.
pub(crate) fn name_stem(name: &str) -> Option<&str> {
    let (stem, hash) = name.rsplit_once('-')?;
    // Ten hexadecimal digits, of which kustomize writes those that could make words as other letters.
    (hash.len() == 10 && hash.bytes().all(|b| b"2456789bcdfghkmt".contains(&b))).then_some(stem)
}

fn same_but_for_hash(base: &Object, head: &Object) -> bool {
    base.gvk() == head.gvk()
        && base.namespace() == head.namespace()
        && hash_stem(base).is_some_and(|stem| hash_stem(head) == Some(stem))
}
