//! What an expression may cost at most: `checker/cost.go` of cel-go with the estimates of Kubernetes' functions
//! (`k8s.io/apiserver` `pkg/cel/library/cost.go`) and of cel-go's list and set libraries (`ext/lists.go`,
//! `ext/sets.go`). These figures decide which rules a CRD may have, so each is upstream's, oddities included.

mod calls;
mod path;
mod size;

use std::collections::HashMap;

use druse_object::value::Str;

use super::check::Checked;
use super::core::{Core, Fold, Id};
use super::parse::Lit;
use super::types::Type;
use path::Path;
pub(crate) use size::Range;

/// How large values at a path of the variables may be.
pub(crate) trait Sizes {
    /// The most elements or characters; nothing where the path leads nowhere.
    fn most(&self, path: &[Str]) -> Option<u64>;
}

/// The size of a container's keys and values.
#[derive(Clone, Copy)]
struct Entries {
    list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn union(self, other: Self) -> Self {
        Self { list: self.list, key: self.key.union(other.key), value: self.value.union(other.value) }
    }
}

/// What is known of a variable that a fold declares.
struct Local {
    path: Option<Path>,
    size: Option<Range>,
    entries: Option<Entries>,
}

/// A part of an expression as the estimates of functions see it.
struct Part<'a> {
    id: Option<Id>,
    path: Option<Path>,
    ty: &'a Type,
    size: Option<Range>,
}

struct Coster<'a> {
    checked: &'a Checked,
    sizes: &'a dyn Sizes,
    paths: Vec<Option<Path>>,
    locals: HashMap<Str, Vec<Local>>,
    known: Vec<Option<Range>>,
    entries: Vec<Option<Entries>>,
}

/// The least and the most an expression may cost.
pub(super) fn estimate(checked: &Checked, sizes: &dyn Sizes) -> Range {
    let n = checked.tree.nodes.len();
    let mut c = Coster {
        checked,
        sizes,
        paths: vec![None; n],
        locals: HashMap::new(),
        known: vec![None; n],
        entries: vec![None; n],
    };
    c.cost(checked.tree.root)
}

const LIST: Range = Range::exactly(10);
const MAP: Range = Range::exactly(30);
const MESSAGE: Range = Range::exactly(40);
const ONE: Range = Range::exactly(1);

impl<'a> Coster<'a> {
    fn core(&self, id: Id) -> &'a Core {
        &self.checked.tree.nodes[id].core
    }

    fn ty(&self, id: Id) -> &'a Type {
        &self.checked.types[id]
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.get(name).and_then(|l| l.last())
    }

    fn push(&mut self, name: &Str, local: Local) {
        self.locals.entry(name.clone()).or_default().push(local);
    }

    fn pop(&mut self, name: &str) {
        self.locals.get_mut(name).map(Vec::pop);
    }

    fn path(&self, id: Id) -> Option<Path> {
        if let Core::Ident(name) = self.core(id)
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths[id].clone()
    }

    /// The path of a part of what is at `id`.
    fn below(&self, id: Id, step: &str) -> Path {
        Path::append(self.path(id).as_ref(), step)
    }

    fn cost(&mut self, id: Id) -> Range {
        match self.core(id) {
            Core::Lit(_) => Range::exactly(0),
            Core::Ident(name) => {
                let path = match self.local(name) {
                    Some(local) => local.path.clone(),
                    None => Some(Path::append(None, name)),
                };
                self.paths[id] = path;
                ONE
            }
            // A presence test costs nothing of its own in Kubernetes.
            Core::Select { of, test: true, .. } => self.cost(*of),
            Core::Select { of, field, test: false } => {
                let mut sum = self.cost(*of);
                if matches!(self.ty(*of), Type::Map(..) | Type::Struct(_)) {
                    sum = sum.add(ONE);
                }
                self.paths[id] = Some(self.below(*of, field));
                sum
            }
            Core::Call { name, target, args } => self.call(id, name, *target, args),
            Core::List(items) => {
                let (mut sum, mut each) = (Range::exactly(0), Range::nothing(items.is_empty()));
                for (item, _) in items {
                    sum = sum.add(self.cost(*item));
                    each = each.union(self.size_or_unknown(*item));
                }
                self.entries[id] = Some(Entries { list: true, key: ONE, value: each });
                sum.add(LIST)
            }
            Core::Map(items) => {
                let (mut sum, mut key) = (Range::exactly(0), Range::nothing(items.is_empty()));
                let mut value = key;
                for (k, v, _) in items {
                    sum = sum.add(self.cost(*k));
                    sum = sum.add(self.cost(*v));
                    key = key.union(self.size_or_unknown(*k));
                    value = value.union(self.size_or_unknown(*v));
                }
                self.entries[id] = Some(Entries { list: false, key, value });
                sum.add(MAP)
            }
            Core::Message(_, fields) => {
                fields.iter().fold(Range::exactly(0), |sum, f| sum.add(self.cost(*f))).add(MESSAGE)
            }
            Core::Fold(fold) if self.binds(fold) => self.bind(id, fold),
            Core::Fold(fold) => self.fold(id, fold),
        }
    }

    /// Whether a fold only names a value.
    fn binds(&self, fold: &Fold) -> bool {
        matches!(self.core(fold.range), Core::List(items) if items.is_empty())
            && matches!(self.core(fold.condition), Core::Lit(Lit::Bool(false)))
    }

    fn bind(&mut self, id: Id, fold: &Fold) -> Range {
        let mut sum = self.cost(fold.range);
        sum = sum.add(self.cost(fold.init));
        self.push_accumulator(fold);
        sum = sum.add(self.cost(fold.result));
        self.pop(&fold.accu);
        if let Some(size) = self.size(fold.result) {
            self.known[id] = Some(size);
        }
        if let Some(entries) = self.entries_of(fold.result) {
            self.entries[id] = Some(entries);
        }
        sum
    }

    fn push_accumulator(&mut self, fold: &Fold) {
        let path = self.path(fold.init);
        let entries = self.entries_of(fold.init);
        let size = self.size(fold.init);
        self.push(&fold.accu, Local { path, size, entries });
    }

    fn fold(&mut self, id: Id, fold: &Fold) -> Range {
        let mut sum = self.cost(fold.range);
        sum = sum.add(self.cost(fold.init));
        self.push_accumulator(fold);
        let entries = self.entries_of(fold.range);
        let list = entries.map_or(matches!(self.ty(fold.range), Type::List(_)), |e| e.list);
        let (key, value) = (entries.map(|e| e.key), entries.map(|e| e.value));
        match fold.names.as_slice() {
            [first, second] => {
                let path = Some(self.below(fold.range, if list { "@indices" } else { "@keys" }));
                self.push(first, Local { path, size: key, entries: None });
                let path = Some(self.below(fold.range, if list { "@items" } else { "@values" }));
                self.push(second, Local { path, size: value, entries: None });
            }
            names => {
                let path = Some(self.below(fold.range, if list { "@items" } else { "@keys" }));
                for name in names {
                    self.push(name, Local { path: path.clone(), size: if list { value } else { key }, entries: None });
                }
            }
        }
        let condition = self.cost(fold.condition);
        let step = self.cost(fold.step);
        for name in &fold.names {
            self.pop(name);
        }
        sum = sum.add(self.cost(fold.result));
        self.pop(&fold.accu);
        let times = self.size_or_unknown(fold.range);
        sum = sum.add(times.times(step.add(condition)));
        match self.core(fold.init) {
            Core::Lit(_) => {
                if let Some(size) = self.size(fold.init) {
                    self.known[id] = Some(size);
                }
            }
            Core::List(_) | Core::Map(_) => {
                self.known[id] = Some(times);
                if let Some(entries) = self.entries_of(fold.step) {
                    self.entries[id] = Some(entries);
                }
            }
            _ => {}
        }
        sum
    }

    fn call(&mut self, id: Id, name: &str, target: Option<Id>, args: &[Id]) -> Range {
        if let ("dyn", [arg]) = (name, args) {
            let cost = self.cost(*arg);
            if let Some(size) = self.size(*arg) {
                self.known[id] = Some(size);
            }
            if let Some(entries) = self.entries_of(*arg) {
                self.entries[id] = Some(entries);
            }
            return cost.add(ONE);
        }
        let (mut costs, mut parts) = (Vec::new(), Vec::new());
        for a in args {
            costs.push(self.cost(*a));
            parts.push(self.part(*a));
        }
        let overloads = &self.checked.overloads[id];
        if overloads.is_empty() {
            return Range::exactly(0);
        }
        let (mut sum, mut on) = (Range::exactly(0), None);
        if let Some(target) = target {
            sum = self.cost(target);
            on = Some(self.part(target));
        }
        let (mut cost, mut result) = (Range::nothing(false), None);
        for overload in overloads {
            let (c, size) = self.overload(id, name, overload, on.as_ref(), &parts, &costs);
            cost = cost.union(c);
            if let Some(size) = size {
                result = Some(result.map_or(size, |r: Range| r.union(size)));
            }
            if let ("index_list" | "index_map", Some(of)) = (*overload, args.first()) {
                result = self.entries_of(*of).map(|e| e.value);
                let step = if *overload == "index_list" { "@items" } else { "@values" };
                self.paths[id] = Some(self.below(*of, step));
            }
            if result.is_none() {
                result = self.size(id);
            }
        }
        if let Some(size) = result {
            self.known[id] = Some(size);
        }
        sum.add(cost)
    }

    fn part(&mut self, id: Id) -> Part<'a> {
        // What folds collect in is no variable of the expression.
        let path = self.path(id).filter(|p| !p.starts_with(super::core::ACCUMULATOR));
        Part { id: Some(id), path, ty: self.ty(id), size: self.size(id) }
    }

    fn at(&self, path: Option<&Path>) -> Option<Range> {
        let path = path.map(Path::steps).filter(|p| !p.is_empty())?;
        self.sizes.most(&path).map(|max| Range { min: 0, max })
    }

    fn size_or_unknown(&mut self, id: Id) -> Range {
        self.size(id).unwrap_or(Range::UNKNOWN)
    }

    fn size(&mut self, id: Id) -> Option<Range> {
        if let Some(size) = self.known[id] {
            return Some(size);
        }
        let exactly = |n: usize| Some(Range::exactly(n as u64));
        match self.core(id) {
            Core::Lit(Lit::Str(s)) => return exactly(s.chars().count()),
            Core::Lit(Lit::Bytes(b)) => return exactly(b.len()),
            Core::Lit(_) => return exactly(1),
            Core::List(items) => return exactly(items.len()),
            Core::Map(items) => return exactly(items.len()),
            _ => {}
        }
        if let Some(size) = self.at(self.path(id).as_ref()) {
            self.known[id] = Some(size);
            return Some(size);
        }
        if self.ty(id).scalar() {
            return Some(ONE);
        }
        match self.core(id) {
            Core::Ident(name) => self.local(name).and_then(|l| l.size),
            _ => None,
        }
    }

    fn entries_of(&self, id: Id) -> Option<Entries> {
        self.entries[id].or_else(|| match self.core(id) {
            Core::Ident(name) => self.local(name).and_then(|l| l.entries),
            _ => None,
        })
    }
}
