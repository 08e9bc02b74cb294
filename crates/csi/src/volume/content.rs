//! What a provider wants in a volume, checked before anything of it touches the disk.

use std::collections::BTreeMap;

use crate::wire::provider::File;

/// The longest path and the longest name, as Linux and the kubelet's writer have them.
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;

/// Why a provider's files cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The path does not stay below the mount, or cannot be a path.
    #[error("the provider names a file {path:?}: {why}")]
    Path {
        /// The path, as the provider gave it.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two files want one place.
    #[error("the provider names {0:?} twice; give one of the objects another objectAlias")]
    Twice(String),
    /// A file where another file's folder has to be.
    #[error("the provider names a file {file:?} and another below it, {below:?}; give one of them another objectAlias")]
    FileAndFolder {
        /// The file.
        file: String,
        /// The one that needs it to be a folder.
        below: String,
    },
    /// Not permission bits.
    #[error("the provider gives {path:?} the mode {mode}, which is not between 0 and 511 (0777)")]
    Mode {
        /// The file.
        path: String,
        /// The mode.
        mode: i32,
    },
}

/// A volume's whole content: files by path, none outside the mount, none in another's way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    files: BTreeMap<String, File>,
}

impl Content {
    /// Checks a provider's files.
    ///
    /// # Errors
    /// The first file that cannot be written; nothing is dropped silently.
    pub fn new(files: Vec<File>) -> Result<Self, ContentError> {
        let mut by_path = BTreeMap::new();
        for file in files {
            check_path(&file.path).map_err(|why| ContentError::Path { path: file.path.clone(), why })?;
            if !(0..=0o777).contains(&file.mode) {
                return Err(ContentError::Mode { path: file.path.clone(), mode: file.mode });
            }
            if let Some(first) = by_path.insert(file.path.clone(), file) {
                return Err(ContentError::Twice(first.path.clone()));
            }
        }
        for path in by_path.keys() {
            for (at, _) in path.match_indices('/') {
                if let Some((file, _)) = by_path.get_key_value(&path[..at]) {
                    return Err(ContentError::FileAndFolder { file: file.clone(), below: path.clone() });
                }
            }
        }
        Ok(Self { files: by_path })
    }

    /// The files in path order.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.files.values()
    }

    /// How many files there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The names at the top of the mount, in order and once each.
    pub fn tops(&self) -> impl Iterator<Item = &str> {
        let mut last = "";
        self.files.keys().filter_map(move |path| {
            let top = path.split('/').next().unwrap_or(path);
            (top != last).then(|| {
                last = top;
                top
            })
        })
    }

    /// Whether a file or folder of this name is at the top of the mount.
    #[must_use]
    pub fn has_top(&self, name: &str) -> bool {
        self.files.contains_key(name) || {
            let folder = format!("{name}/");
            self.files.range(folder.clone()..).next().is_some_and(|(p, _)| p.starts_with(&folder))
        }
    }
}

/// Says what is wrong with a path that is to lie below a mount.
///
/// # Errors
/// When it is empty, absolute, goes up, is not in its shortest form, or is too long; names at the top that begin with
/// `..` are the writer's own.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("it is empty");
    }
    if path.starts_with('/') {
        return Err("it is absolute; files lie below the mount");
    }
    if path.len() > MAX_PATH {
        return Err("it is longer than 4096 bytes");
    }
    if path.contains('\0') {
        return Err("it holds a zero byte");
    }
    for name in path.split('/') {
        match name {
            "" => return Err("it has an empty part (`//`, or `/` at the end)"),
            "." => return Err("it has a part `.`"),
            ".." => return Err("it goes up with `..`"),
            n if n.len() > MAX_NAME => return Err("a part of it is longer than 255 bytes"),
            _ => {}
        }
    }
    if path.starts_with("..") {
        return Err("names that begin with `..` are reserved for the atomic update");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> File {
        File { path: path.into(), mode: 0o644, contents: Vec::new() }
    }

    #[test]
    fn paths_stay_below_the_mount() {
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../../x",
            "a/..",
            "./a",
            "a//b",
            "a/",
            "a/./b",
            "..data/x",
            "..x",
            "a\0b",
        ] {
            let refused = Content::new(vec![file(bad)]).unwrap_err();
            assert!(matches!(refused, ContentError::Path { .. }), "{bad:?}: {refused}");
        }
        assert!(Content::new(vec![file(&"n".repeat(256))]).is_err());
        assert!(Content::new(vec![file(&vec!["n"; 2050].join("/"))]).is_err());
        for good in ["a", "a/b/c", ".hidden", "a..b", "a/..b", "...", "ümlaut", "a b", "back\\slash"] {
            // Only `...` begins with the reserved `..`.
            assert_eq!(Content::new(vec![file(good)]).is_ok(), good != "...", "{good:?}");
        }
    }

    #[test]
    fn names_that_collide_are_refused_and_not_overwritten() {
        assert_eq!(Content::new(vec![file("a"), file("a")]).unwrap_err(), ContentError::Twice("a".into()));
        let refused = Content::new(vec![file("a/b/c"), file("a-b"), file("a/b")]).unwrap_err();
        assert_eq!(refused, ContentError::FileAndFolder { file: "a/b".into(), below: "a/b/c".into() });
    }

    #[test]
    fn modes_are_permission_bits() {
        for mode in [-1, 0o1000, 0o4755] {
            let bad = File { path: "a".into(), mode, contents: Vec::new() };
            assert!(matches!(Content::new(vec![bad]), Err(ContentError::Mode { .. })));
        }
    }

    #[test]
    fn tops_are_what_a_reader_sees_first() {
        let c = Content::new(["b/x", "a", "b/y", "b-c", "c/d/e"].map(file).to_vec()).unwrap();
        let mut tops: Vec<_> = c.tops().collect();
        tops.sort_unstable();
        assert_eq!(tops, ["a", "b", "b-c", "c"]);
        assert!(c.has_top("b") && c.has_top("b-c") && c.has_top("c"));
        assert!(!c.has_top("b-") && !c.has_top("d") && !c.has_top("x"));
    }
}
