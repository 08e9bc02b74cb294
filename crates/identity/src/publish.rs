//! Puts the documents where STS reads them. What is there already is left alone, so publishing twice changes nothing.

use std::path::{Path, PathBuf};

use crate::IdentityError;
use crate::documents::Document;
use crate::file::write_public;

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was there with another content or other headers.
    Updated,
    /// It was there already.
    Unchanged,
}

/// Somewhere documents can be put: a folder, a bucket.
pub trait Place {
    /// Puts a document there, unless the same is there with the same headers.
    ///
    /// # Errors
    /// What kept it from being put.
    fn put(&self, document: &Document) -> Result<Outcome, IdentityError>;
    /// What is there at a document's path.
    ///
    /// # Errors
    /// When the place cannot be read. What is not there is no error.
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, IdentityError>;
}

/// A folder, to be served by something else. It keeps no headers: whatever serves it must send them.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl Place for Folder {
    fn put(&self, document: &Document) -> Result<Outcome, IdentityError> {
        let path = self.path(&document.path);
        let before = read(&path)?;
        if before.as_deref() == Some(document.text.as_bytes()) {
            return Ok(Outcome::Unchanged);
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| IdentityError::file(parent, e))?;
        }
        write_public(&path, document.text.as_bytes()).map_err(|e| IdentityError::file(&path, e))?;
        Ok(if before.is_some() { Outcome::Updated } else { Outcome::Created })
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, IdentityError> {
        read(&self.path(path))
    }
}

impl Folder {
    fn path(&self, path: &str) -> PathBuf {
        path.split('/').fold(self.0.clone(), |p, part| p.join(part))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(IdentityError::file(path, e)),
    }
}

/// Puts all documents, in their order.
///
/// # Errors
/// The first that could not be put; those before it are there.
pub fn publish(place: &dyn Place, documents: &[Document]) -> Result<Vec<(String, Outcome)>, IdentityError> {
    documents.iter().map(|d| Ok((d.path.clone(), place.put(d)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::documents;
    use crate::{IssuerUrl, SigningKey};

    #[test]
    fn publishing_twice_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder(dir.path().join("site"));
        let issuer = IssuerUrl::parse("https://oidc.example").unwrap();
        let key = SigningKey::parse(include_str!("../tests/data/rsa.pem"), "test").unwrap();
        let documents = documents(&issuer, &[key.public().clone()]);
        let outcomes = |r: Vec<(String, Outcome)>| r.into_iter().map(|(_, o)| o).collect::<Vec<_>>();
        assert_eq!(outcomes(publish(&folder, &documents).unwrap()), [Outcome::Created, Outcome::Created]);
        assert_eq!(outcomes(publish(&folder, &documents).unwrap()), [Outcome::Unchanged, Outcome::Unchanged]);
        std::fs::write(dir.path().join("site/openid/v1/jwks"), "{}").unwrap();
        assert_eq!(outcomes(publish(&folder, &documents).unwrap()), [Outcome::Updated, Outcome::Unchanged]);
        assert_eq!(folder.get("openid/v1/jwks").unwrap().unwrap(), documents[0].text.as_bytes());
        assert_eq!(folder.get("nothing").unwrap(), None);
    }
}
