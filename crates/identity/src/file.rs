//! Files that only their owner may read, written whole or not at all.

use std::fs;
use std::io::Write as _;
use std::path::Path;

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// What the system says.
pub fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    write(path, content, 0o600)
}

/// Writes a file that everybody may read, whole or not at all.
///
/// # Errors
/// What the system says.
pub fn write_public(path: &Path, content: &[u8]) -> std::io::Result<()> {
    write(path, content, 0o644)
}

fn write(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{:08x}.new", rand::random::<u32>()));
    let temporary = path.with_file_name(name);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(mode);
    }
    #[cfg(not(unix))]
    let _ = mode;
    let written = options.open(&temporary).and_then(|mut f| {
        f.write_all(content)?;
        f.sync_all()
    });
    let done = written.and_then(|()| fs::rename(&temporary, path));
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done
}
