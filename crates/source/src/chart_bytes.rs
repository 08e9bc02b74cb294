//! A chart's archive: at hand, or in a file of a mirror or the cache that is read only when the chart is rendered.
//!
//! Most commands need no more of most charts than their digests: what they render to is kept. A file's digest is made
//! without holding it, and a file that was written since is not taken for it.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::error::SourceError;

/// The largest archive of a chart, in bytes.
const MAX_ARCHIVE: u64 = 128 * 1024 * 1024;
/// How much of a file is read at once, in bytes.
const PIECE: usize = 64 * 1024;

/// The bytes of a `.tgz`.
#[derive(Clone, Debug)]
pub struct ChartBytes(Place);

#[derive(Clone, Debug)]
enum Place {
    Here(Arc<Vec<u8>>),
    File(Arc<Digested>),
}

#[derive(Debug)]
struct Digested {
    path: PathBuf,
    stamp: Stamp,
    /// Of its content, in hex.
    digest: String,
}

/// What changes of a file when it is written.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(m: &Metadata) -> Self {
        Self {
            inode: m.ino(),
            length: m.len(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        }
    }
}

impl From<Vec<u8>> for ChartBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Place::Here(Arc::new(bytes)))
    }
}

impl ChartBytes {
    /// Those of a file, and their SHA-256 digest in hex.
    ///
    /// # Errors
    /// When it cannot be read, or is larger than any chart.
    pub(crate) fn of_file(path: &Path) -> Result<(Self, String), SourceError> {
        let io = |e: std::io::Error| SourceError::io(path, &e);
        let mut file = File::open(path).map_err(io)?;
        let stamp = Stamp::of(&file.metadata().map_err(io)?);
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE];
        let mut length = 0;
        loop {
            let read = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(io(e)),
            };
            length += read as u64;
            if length > MAX_ARCHIVE {
                return Err(too_large(path));
            }
            hash.update(piece.get(..read).unwrap_or_default());
        }
        let digest = hex::encode(hash.finalize());
        let bytes = Self(Place::File(Arc::new(Digested { path: path.into(), stamp, digest: digest.clone() })));
        Ok((bytes, digest))
    }

    /// The bytes themselves.
    ///
    /// # Errors
    /// When their file cannot be read, or is another by now.
    pub fn read(&self) -> Result<Arc<Vec<u8>>, SourceError> {
        let known = match &self.0 {
            Place::Here(bytes) => return Ok(Arc::clone(bytes)),
            Place::File(known) => known,
        };
        let io = |e: std::io::Error| SourceError::io(&known.path, &e);
        let file = File::open(&known.path).map_err(io)?;
        let stamp = Stamp::of(&file.metadata().map_err(io)?);
        // Room for all of it, and for the read that finds its end: what grows is copied again and again.
        let mut bytes = Vec::with_capacity(usize::try_from(stamp.length.min(MAX_ARCHIVE) + 1).unwrap_or(0));
        file.take(MAX_ARCHIVE + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > MAX_ARCHIVE {
            return Err(too_large(&known.path));
        }
        if stamp != known.stamp || bytes.len() as u64 != stamp.length {
            let got = hex::encode(Sha256::digest(&bytes));
            if got != known.digest {
                let what = known.path.display().to_string();
                return Err(SourceError::Digest { what, wanted: known.digest.clone(), got });
            }
        }
        Ok(Arc::new(bytes))
    }
}

fn too_large(path: &Path) -> SourceError {
    SourceError::Broken {
        what: path.display().to_string(),
        message: format!("more than {MAX_ARCHIVE} bytes is no chart archive"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_late_and_never_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tgz");
        let content = vec![7; PIECE + 1];
        std::fs::write(&path, &content).unwrap();
        let (bytes, digest) = ChartBytes::of_file(&path).unwrap();
        assert_eq!(digest, hex::encode(Sha256::digest(&content)));
        assert_eq!(*bytes.read().unwrap(), content);
        // Another file with the same content is as good; one with other content is not.
        let beside = dir.path().join("b.tgz");
        std::fs::write(&beside, &content).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        assert_eq!(*bytes.read().unwrap(), content);
        std::fs::write(&path, vec![8; PIECE + 1]).unwrap();
        let error = bytes.read().unwrap_err();
        assert!(matches!(&error, SourceError::Digest { wanted, .. } if *wanted == digest), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(bytes.read().unwrap_err().to_string().contains("a.tgz"));
        assert!(ChartBytes::of_file(&path).is_err());
        assert_eq!(*ChartBytes::from(vec![1]).read().unwrap(), [1]);
    }
}
