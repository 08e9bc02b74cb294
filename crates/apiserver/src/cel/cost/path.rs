//! The path from a variable to a part of its value.
//!
//! Upstream's paths are Go slices, which share what they are appended to while there is room: a path that is appended
//! to twice has the last step in both. Estimates depend on it, so paths here share the same way.

use std::cell::RefCell;
use std::rc::Rc;

use druse_object::value::Str;

#[derive(Clone, Debug)]
pub(super) struct Path {
    shared: Rc<RefCell<Vec<Str>>>,
    room: usize,
    length: usize,
}

impl Path {
    /// A path with one step more.
    pub(super) fn append(path: Option<&Path>, step: &str) -> Self {
        let (length, room) = path.map_or((0, 0), |p| (p.length, p.room));
        if let Some(p) = path.filter(|_| length < room) {
            let mut steps = p.shared.borrow_mut();
            match steps.get_mut(length) {
                Some(there) => *there = step.into(),
                None => steps.push(step.into()),
            }
            drop(steps);
            return Self { shared: Rc::clone(&p.shared), room, length: length + 1 };
        }
        let mut steps = path.map(Path::steps).unwrap_or_default();
        steps.push(step.into());
        Self { shared: Rc::new(RefCell::new(steps)), room: (room * 2).max(1), length: length + 1 }
    }

    /// A path of its own with one step more.
    pub(super) fn copy(&self, step: &str) -> Self {
        let mut steps = self.steps();
        steps.push(step.into());
        let length = steps.len();
        Self { shared: Rc::new(RefCell::new(steps)), room: length, length }
    }

    pub(super) fn steps(&self) -> Vec<Str> {
        self.shared.borrow().iter().take(self.length).cloned().collect()
    }

    pub(super) fn starts_with(&self, step: &str) -> bool {
        self.shared.borrow().first().is_some_and(|s| s == step)
    }
}
