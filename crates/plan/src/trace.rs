//! What was asked of a tree and what it answered, absences included: as long as another tree answers the same, whatever
//! was made from the answers is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use druse_kustomize::tree::{ContentId, FileTree, Kind, TreeError, join};

/// A question to a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ask {
    Kind,
    List,
    Read,
    Canonical,
}

/// Questions with what names the answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace(pub(crate) Vec<(Ask, Box<str>, ContentId)>);

/// What a unit asked of the tree. It is no part of what the unit is, so that units print the same however they were
/// made.
#[derive(Clone, Default)]
pub struct Asked(pub(crate) Arc<Trace>);

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

impl Asked {
    /// The files that were read, those that were not there included. None where the unit's files are not the tree's.
    #[must_use]
    pub fn files(&self) -> BTreeSet<String> {
        let read = self.0.0.iter().filter(|(ask, ..)| *ask == Ask::Read);
        read.filter_map(|(_, path, _)| join("", path)).collect()
    }
}

impl Trace {
    /// Whether a tree answers all questions as they were answered.
    pub(crate) fn holds_in(&self, tree: &dyn FileTree) -> bool {
        self.0.iter().all(|(ask, path, answer)| ask.of(tree, path) == *answer)
    }
}

impl Ask {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Kind => 0,
            Self::List => 1,
            Self::Read => 2,
            Self::Canonical => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Kind, Self::List, Self::Read, Self::Canonical].into_iter().find(|ask| ask.code() == code)
    }

    fn of(self, tree: &dyn FileTree, path: &str) -> ContentId {
        match self {
            Self::Kind => kind(tree.kind(path)),
            Self::List => list(&tree.list(path)),
            Self::Read => read(tree.content_id(path)),
            Self::Canonical => canonical(path, &tree.canonical(path)),
        }
    }
}

const fn plain(n: u8) -> ContentId {
    let mut id = [0; 20];
    id[19] = n;
    ContentId(id)
}

fn kind(answer: Option<Kind>) -> ContentId {
    match answer {
        None => plain(0),
        Some(Kind::File) => plain(1),
        Some(Kind::Dir) => plain(2),
    }
}

fn fault(e: &TreeError) -> ContentId {
    ContentId::of(format!("fault\n{e:?}").as_bytes())
}

fn list(answer: &Result<Vec<String>, TreeError>) -> ContentId {
    match answer {
        Ok(names) => ContentId::of(format!("list\n{}", names.join("\n")).as_bytes()),
        Err(e) => fault(e),
    }
}

fn read(answer: Result<ContentId, TreeError>) -> ContentId {
    answer.unwrap_or_else(|e| fault(&e))
}

fn canonical(path: &str, answer: &str) -> ContentId {
    if path == answer { plain(0) } else { ContentId::of(answer.as_bytes()) }
}

/// A tree that remembers what it was asked.
pub(crate) struct Watched<'a> {
    tree: &'a dyn FileTree,
    seen: Mutex<BTreeMap<(Ask, Box<str>), ContentId>>,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(tree: &'a dyn FileTree) -> Self {
        Self { tree, seen: Mutex::default() }
    }

    fn saw(&self, ask: Ask, path: &str, answer: impl FnOnce() -> ContentId) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry((ask, path.into())).or_insert_with(answer);
    }

    pub(crate) fn into_trace(self) -> Trace {
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        Trace(seen.into_iter().map(|((ask, path), answer)| (ask, path, answer)).collect())
    }
}

impl FileTree for Watched<'_> {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        let answer = self.tree.read(path);
        self.saw(Ask::Read, path, || match &answer {
            // The tree's own word for it: a link's content may be named otherwise than what was read.
            Ok(_) => read(self.tree.content_id(path)),
            Err(e) => fault(e),
        });
        answer
    }

    fn kind(&self, path: &str) -> Option<Kind> {
        let answer = self.tree.kind(path);
        self.saw(Ask::Kind, path, || kind(answer));
        answer
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError> {
        let answer = self.tree.list(dir);
        self.saw(Ask::List, dir, || list(&answer));
        answer
    }

    fn canonical(&self, path: &str) -> String {
        let answer = self.tree.canonical(path);
        self.saw(Ask::Canonical, path, || canonical(path, &answer));
        answer
    }

    fn content_id(&self, path: &str) -> Result<ContentId, TreeError> {
        let answer = self.tree.content_id(path);
        self.saw(Ask::Read, path, || read(answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_kustomize::tree::MemoryTree;

    #[test]
    fn any_other_answer_is_noticed() {
        let files = [("a/x", "1"), ("a/y", "2"), ("b", "3")];
        let tree: MemoryTree = files.into_iter().collect();
        let watched = Watched::new(&tree);
        assert!(watched.read("a/x").is_ok() && watched.read("a/none").is_err());
        assert_eq!(watched.kind("c"), None);
        assert_eq!(watched.list("a").unwrap(), ["x", "y"]);
        let trace = watched.into_trace();
        assert!(trace.holds_in(&tree));
        let mut same = tree.clone();
        same.insert("b", *b"other, never asked for");
        assert!(trace.holds_in(&same));
        for (path, content) in [("a/x", "changed"), ("a/none", "appeared"), ("a/z", "listed"), ("c", "here now")] {
            let mut other = tree.clone();
            other.insert(path, content.as_bytes());
            assert!(!trace.holds_in(&other), "{path}");
        }
        let without: MemoryTree = files.into_iter().filter(|(p, _)| *p != "a/y").collect();
        assert!(!trace.holds_in(&without), "a file that is gone");
    }
}
