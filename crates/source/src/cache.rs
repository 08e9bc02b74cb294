//! The cache: content by digest, and under which question it was last the answer.
//!
//! `blobs/sha256/AB/CDEF…` holds content, `answers/HASH.json` says what a question was answered with. Files are written
//! beside their place and moved there, so any number of processes can share a cache; content is checked against its
//! digest when read, so a damaged file is fetched anew.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use druse_kustomize::tree::{FileTree, Kind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::chart_bytes::ChartBytes;
use crate::error::SourceError;

/// How deep trees are read.
const MAX_DEPTH: usize = 64;

/// A cache folder; made when first written to.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// What a question was answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The question, to be sure.
    pub question: String,
    /// The artifact's revision.
    pub revision: String,
    /// The content's digest: `sha256:…`.
    pub digest: String,
    /// The server's `ETag`, when it gave one.
    #[serde(default)]
    pub etag: Option<String>,
    /// The server's `Last-Modified`, when it gave one.
    #[serde(default)]
    pub modified: Option<String>,
}

impl Cache {
    /// The cache in a folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn blob_path(&self, digest: &str) -> Option<PathBuf> {
        let hex = digest.strip_prefix("sha256:")?;
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let (head, tail) = hex.split_at(2);
        Some(self.root.join("blobs/sha256").join(head).join(tail))
    }

    /// Content by digest; `None` when it is not there or damaged.
    #[must_use]
    pub fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.blob_path(digest)?).ok()?;
        (sha256(&bytes) == digest).then_some(bytes)
    }

    /// Keeps content and returns its digest.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<String, SourceError> {
        let digest = sha256(bytes);
        if let Some(path) = self.blob_path(&digest) {
            // A file of the same length is taken to be the same content; reading checks it.
            if path.metadata().is_ok_and(|m| m.len() == bytes.len() as u64) && self.blob(&digest).is_some() {
                return Ok(digest);
            }
            write(&path, bytes)?;
        }
        Ok(digest)
    }

    fn answer_path(&self, question: &str) -> PathBuf {
        self.root.join("answers").join(format!("{}.json", hex::encode(Sha256::digest(question.as_bytes()))))
    }

    /// What a question was last answered with, when that content is still there.
    #[must_use]
    pub fn answer(&self, question: &str) -> Option<(Answer, Vec<u8>)> {
        let answer = self.answered(question)?;
        let bytes = self.blob(&answer.digest)?;
        Some((answer, bytes))
    }

    fn answered(&self, question: &str) -> Option<Answer> {
        let text = std::fs::read(self.answer_path(question)).ok()?;
        serde_json::from_slice::<Answer>(&text).ok().filter(|answer| answer.question == question)
    }

    /// As [`Cache::answer`], for a chart: its bytes are read when they are asked for.
    #[must_use]
    pub fn chart(&self, question: &str) -> Option<(Answer, ChartBytes)> {
        let answer = self.answered(question)?;
        let (bytes, digest) = ChartBytes::of_file(&self.blob_path(&answer.digest)?).ok()?;
        (answer.digest.strip_prefix("sha256:") == Some(&digest)).then_some((answer, bytes))
    }

    /// Remembers what a question was answered with.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_answer(
        &self,
        question: &str,
        revision: &str,
        etag: Option<String>,
        bytes: &[u8],
    ) -> Result<Answer, SourceError> {
        self.put_validated(question, revision, etag, None, bytes)
    }

    /// As [`Cache::put_answer`], with what the server needs to say whether it has changed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_validated(
        &self,
        question: &str,
        revision: &str,
        etag: Option<String>,
        modified: Option<String>,
        bytes: &[u8],
    ) -> Result<Answer, SourceError> {
        let digest = self.put_blob(bytes)?;
        let answer = Answer { question: question.to_string(), revision: revision.to_string(), digest, etag, modified };
        let text = serde_json::to_vec(&answer)
            .map_err(|e| SourceError::Broken { what: question.to_string(), message: e.to_string() })?;
        write(&self.answer_path(question), &text)?;
        Ok(answer)
    }
}

/// `sha256:` and hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Writes a file beside its place and moves it there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), SourceError> {
    let dir = path.parent().unwrap_or(path);
    let fail = |e: &std::io::Error| SourceError::io(path, e);
    std::fs::create_dir_all(dir).map_err(|e| fail(&e))?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(|e| fail(&e))?;
    file.write_all(bytes).map_err(|e| fail(&e))?;
    file.persist(path).map_err(|e| fail(&e.error))?;
    Ok(())
}

/// The digest of a tree: over its paths and contents, in order.
///
/// # Errors
/// When a file cannot be read.
pub fn tree_digest(tree: &dyn FileTree) -> Result<String, SourceError> {
    let mut hash = Sha256::new();
    visit(tree, "", 0, &mut |path, bytes| {
        hash.update((path.len() as u64).to_be_bytes());
        hash.update(path);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    })?;
    Ok(format!("sha256:{}", hex::encode(hash.finalize())))
}

/// All files of a tree in path order; links to folders are not followed.
pub(crate) fn visit(
    tree: &dyn FileTree,
    dir: &str,
    depth: usize,
    see: &mut dyn FnMut(&str, &[u8]),
) -> Result<(), SourceError> {
    let broken = |path: &str, message: String| SourceError::Broken { what: path.to_string(), message };
    if depth > MAX_DEPTH {
        return Err(broken(dir, format!("folders are nested more than {MAX_DEPTH} deep")));
    }
    for name in tree.list(dir).map_err(|e| broken(dir, e.to_string()))? {
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        match tree.kind(&path) {
            Some(Kind::File) => see(&path, &tree.read(&path).map_err(|e| broken(&path, e.to_string()))?),
            Some(Kind::Dir) if tree.canonical(&path) == path => visit(tree, &path, depth + 1, see)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("c"));
        assert_eq!(cache.answer("q"), None);
        let answer = cache.put_answer("q", "1.0", Some("e".into()), b"content").unwrap();
        assert_eq!(cache.answer("q"), Some((answer.clone(), b"content".to_vec())));
        std::fs::write(cache.blob_path(&answer.digest).unwrap(), b"CONTENT").unwrap();
        assert_eq!(cache.answer("q"), None);
        cache.put_blob(b"content").unwrap();
        assert!(cache.answer("q").is_some());
        assert_eq!(cache.blob("sha256:../../etc/passwd"), None);
    }

    #[test]
    fn two_writers_do_not_disturb_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for i in 0..20u32 {
                        cache.put_answer(&format!("q{i}"), "1", None, format!("content {i}").as_bytes()).unwrap();
                    }
                });
            }
        });
        for i in 0..20u32 {
            assert_eq!(cache.answer(&format!("q{i}")).unwrap().1, format!("content {i}").into_bytes());
        }
    }
}
