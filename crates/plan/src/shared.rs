//! Lists that several plans hold at once: what did not change between two revisions is there only once, and what comes
//! from the cache is read when somebody looks at it.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use druse_object::Object;

/// A list that is cheap to clone and is shared until one of its holders changes it.
pub struct Shared<T>(Arc<Inner<T>>);

struct Inner<T> {
    items: OnceLock<Vec<T>>,
    count: usize,
    /// Makes an item; absent where all are there.
    make: Option<Box<dyn Fn(usize) -> T + Send + Sync>>,
}

/// A unit's objects.
pub type Objects = Shared<Object>;

impl<T> Shared<T> {
    /// A list of so many items that are made when first looked at.
    pub(crate) fn lazy(count: usize, make: impl Fn(usize) -> T + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { items: OnceLock::new(), count, make: Some(Box::new(make)) }))
    }

    fn items(&self) -> &Vec<T> {
        let Inner { items, count, make } = &*self.0;
        items.get_or_init(|| make.iter().flat_map(|make| (0..*count).map(make)).collect())
    }

    /// Whether the items are there already.
    pub(crate) fn is_made(&self) -> bool {
        self.0.items.get().is_some()
    }

    /// One item, without making all.
    pub(crate) fn one(&self, at: usize) -> Option<T>
    where
        T: Clone,
    {
        match (self.0.items.get(), &self.0.make) {
            (Some(items), _) => items.get(at).cloned(),
            (None, Some(make)) if at < self.0.count => Some(make(at)),
            _ => None,
        }
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// Whether both are the very same list, which no comparing of items was needed for. Two lists with equal items need
    /// not be.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: Clone> Shared<T> {
    /// The items to change; they are copied first when others hold them too.
    pub fn make_mut(&mut self) -> &mut [T] {
        self.items();
        if Arc::get_mut(&mut self.0).is_none() {
            *self = Self::from(self.items().clone());
        }
        match Arc::get_mut(&mut self.0).and_then(|inner| inner.items.get_mut()) {
            Some(items) => items,
            None => &mut [],
        }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl<T> Deref for Shared<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.items()
    }
}

impl<T> From<Vec<T>> for Shared<T> {
    fn from(items: Vec<T>) -> Self {
        Self(Arc::new(Inner { count: items.len(), items: OnceLock::from(items), make: None }))
    }
}

impl<T> FromIterator<T> for Shared<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::from(Vec::from_iter(items))
    }
}

impl<'a, T> IntoIterator for &'a Shared<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T: Clone> IntoIterator for &'a mut Shared<T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.make_mut().iter_mut()
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.items() == other.items()
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_made_when_looked_at_and_copied_when_changed() {
        let lazy = Shared::lazy(3, |i| i * 10);
        assert_eq!((lazy.len(), lazy.one(2), lazy.one(3)), (3, Some(20), None));
        assert!(lazy.0.items.get().is_none(), "one item does not make all");
        let mut changed = lazy.clone();
        assert!(changed.is_same(&lazy));
        changed.make_mut()[0] = 7;
        assert_eq!((&*changed, &*lazy), (&[7, 10, 20][..], &[0, 10, 20][..]));
        assert!(!changed.is_same(&lazy));
        assert_eq!(Shared::from(vec![0, 10, 20]), lazy);
    }
}
