//! Keys: the age keys that SOPS documents are opened with, from where `sops` takes them; the key that tokens are signed
//! with, from the file that is named, and from nowhere else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use druse_identity::{IdentityError, SigningKey};
use druse_sops::Identities;

use crate::error::CliError;

/// The key of a file that signs ServiceAccount tokens.
///
/// # Errors
/// When the file cannot be read, or the key is of a kind that AWS refuses.
pub fn signing_key(path: &Path) -> Result<SigningKey, CliError> {
    SigningKey::read(path).map_err(wrong)
}

/// An identity operation's failure, with what would help.
pub fn wrong(e: IdentityError) -> CliError {
    let help = e.help();
    let error = CliError::new(e);
    match help {
        Some(h) => error.help(h),
        None => error,
    }
}

/// The keys of `SOPS_AGE_KEY` and `SOPS_AGE_KEY_FILE`; where neither is set, those of sops' own key file, if there is
/// one.
///
/// # Errors
/// When a named file cannot be read, or what is there is no key. What is wrong never shows the key.
pub fn age_keys() -> Result<Arc<Identities>, CliError> {
    let mut keys = Identities::default();
    let mut add = |text: &str, from: &str| {
        let found = Identities::parse(text).map_err(|e| {
            CliError::new(format!("{from}: {e}")).help("one AGE-SECRET-KEY-1… a line, as age-keygen writes them")
        })?;
        keys.extend(&found);
        Ok::<_, CliError>(())
    };
    let inline = std::env::var("SOPS_AGE_KEY").ok().filter(|k| !k.is_empty());
    let file = std::env::var_os("SOPS_AGE_KEY_FILE").filter(|k| !k.is_empty()).map(PathBuf::from);
    if let Some(text) = &inline {
        add(text, "SOPS_AGE_KEY")?;
    }
    if let Some(path) = &file {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| CliError::new(format!("SOPS_AGE_KEY_FILE names {shown}, which cannot be read: {e}")))?;
        add(&text, &shown.to_string())?;
    }
    if inline.is_none()
        && file.is_none()
        && let Some(path) = default_file()
        && let Ok(text) = std::fs::read_to_string(&path)
    {
        // Not asked for by name: a file of other kinds of keys is passed over.
        let _ = add(&text, "");
    }
    Ok(Arc::new(keys))
}

fn default_file() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(PathBuf::from);
    let base = match std::env::var_os("XDG_CONFIG_HOME").filter(|d| !d.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None if cfg!(target_os = "macos") => home()?.join("Library/Application Support"),
        None => home()?.join(".config"),
    };
    Some(base.join("sops/age/keys.txt"))
}
