//! What a volume's files lie on: a tmpfs of its own, or, where this process may not mount, a folder that only its owner
//! enters (*simulated*: it is on the disk).

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

/// The right to mount, as a bit of `CapEff`.
const CAP_SYS_ADMIN: u32 = 21;
/// The root of a volume: everyone in the pod may enter, nobody but us writes.
const OPTIONS: [&std::ffi::CStr; 2] = [c"mode=0755,noswap", c"mode=0755"];

/// How volumes are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounts {
    /// A tmpfs for each volume: values are only in memory, and never swapped out where the kernel can promise that (6.3).
    Tmpfs,
    /// A folder of mode 0700 for each volume. Simulated: it is no mount, and values are on the disk until it is unpublished.
    Folder,
}

/// Why a target cannot be a volume's.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Not a path the kubelet would name.
    #[error("the target path {0:?} is not absolute, or goes up with `..`")]
    Target(PathBuf),
    /// Somebody put a link there.
    #[error("the target path {0:?} is a symbolic link; it is not followed. Remove it")]
    Link(PathBuf),
    /// Something other than a folder is there.
    #[error("the target path {0:?} is not a folder; remove it")]
    NotAFolder(PathBuf),
    /// The system refused.
    #[error("cannot {doing} {}: {source}", .target.display())]
    System {
        /// What was tried.
        doing: &'static str,
        /// The target.
        target: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Mounts {
    /// What this process may do: tmpfs with the right to mount (root has it, unless it was taken away), folders without.
    #[must_use]
    pub fn detect() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = status
            .lines()
            .find_map(|l| l.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        if effective >> CAP_SYS_ADMIN & 1 == 1 { Self::Tmpfs } else { Self::Folder }
    }

    /// Whether a volume is mounted at `target`. A mount that can no longer be read is taken down, and counts as none.
    ///
    /// # Errors
    /// When the target is not a volume's, or the mounts cannot be read.
    pub fn is_mounted(self, target: &Path) -> Result<bool, MountError> {
        let Some(target) = resolve(target)? else { return Ok(false) };
        let mounted = match self {
            Self::Tmpfs => mounted_at(&target)? > 0,
            Self::Folder => std::fs::symlink_metadata(target.join("..data")).is_ok(),
        };
        if !mounted {
            return Ok(false);
        }
        if std::fs::read_dir(&target).is_ok() {
            return Ok(true);
        }
        unmount(&target)?;
        Ok(false)
    }

    /// Mounts an empty volume at `target`, where none is; makes the folder, and those above it.
    ///
    /// # Errors
    /// When the target is not a volume's, or the system refuses.
    pub fn mount(self, target: &Path) -> Result<(), MountError> {
        check(target)?;
        let failed = |doing, source| MountError::System { doing, target: target.into(), source };
        if let Some(parent) = target.parent() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(parent);
            made.map_err(|e| failed("make the folder above", e))?;
        }
        let mode = if self == Self::Folder { 0o700 } else { 0o750 };
        match std::fs::DirBuilder::new().mode(mode).create(target) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(|e| failed("make the folder", e))?,
        }
        let target = resolve(target)?.unwrap_or_else(|| target.into());
        match self {
            Self::Folder => {
                use std::os::unix::fs::PermissionsExt as _;
                let private = std::fs::Permissions::from_mode(0o700);
                std::fs::set_permissions(&target, private).map_err(|e| failed("close to others the folder", e))
            }
            Self::Tmpfs => {
                let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                let mut tried = Ok(());
                for options in OPTIONS {
                    tried = rustix::mount::mount(c"tmpfs", &target, c"tmpfs", flags, options);
                    // Kernels that do not know an option say so with EINVAL.
                    if tried != Err(rustix::io::Errno::INVAL) {
                        break;
                    }
                }
                tried.map_err(|e| failed("mount a tmpfs at", e.into()))
            }
        }
    }

    /// Takes a volume down and removes everything at `target`. Where nothing is, that is done already.
    ///
    /// # Errors
    /// When the target is not a volume's, or the system refuses.
    pub fn unmount(self, target: &Path) -> Result<(), MountError> {
        check(target)?;
        let failed = |doing, e| MountError::System { doing, target: target.into(), source: e };
        match std::fs::symlink_metadata(target) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A mount whose server is gone cannot be looked at, but can be taken down.
            Err(_) => {}
            Ok(m) if !m.is_dir() => {
                return std::fs::remove_file(target).map_err(|e| failed("remove", e));
            }
            Ok(_) => {}
        }
        let real = resolve(target)?.unwrap_or_else(|| target.into());
        // The values go first, so that they are gone even where something keeps the mount busy.
        empty(&real).map_err(|e| failed("empty", e))?;
        unmount(&real)?;
        empty(&real).map_err(|e| failed("empty", e))?;
        match std::fs::remove_dir(&real) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|e| failed("remove", e)),
        }
    }
}

/// A target is absolute and in its plain form.
fn check(target: &Path) -> Result<(), MountError> {
    let plain = target.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    let named = target.file_name().is_some();
    if plain && named && target.is_absolute() { Ok(()) } else { Err(MountError::Target(target.into())) }
}

/// The target's path without links above it, as the kernel lists mounts; `None` when it does not exist.
fn resolve(target: &Path) -> Result<Option<PathBuf>, MountError> {
    check(target)?;
    match std::fs::symlink_metadata(target) {
        Ok(m) if m.is_symlink() => return Err(MountError::Link(target.into())),
        Ok(m) if !m.is_dir() => return Err(MountError::NotAFolder(target.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else { return Ok(None) };
    let parent = std::fs::canonicalize(parent).map_err(|source| MountError::System {
        doing: "look at the folder above",
        target: target.into(),
        source,
    })?;
    Ok(Some(parent.join(name)))
}

/// How many file systems are mounted at exactly this path, one over the other.
fn mounted_at(target: &Path) -> Result<usize, MountError> {
    Ok(mounts(target)?.iter().filter(|p| *p == target).count())
}

/// Where something is mounted that this process sees; `target` is what for, in errors.
fn mounts(target: &Path) -> Result<Vec<PathBuf>, MountError> {
    let table = std::fs::read("/proc/self/mountinfo").map_err(|source| MountError::System {
        doing: "read the mounts for",
        target: target.into(),
        source,
    })?;
    Ok(mount_points(&table).collect())
}

/// The mount points of a `mountinfo` table (proc(5)), in order.
fn mount_points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    table.split(|b| *b == b'\n').filter_map(|line| {
        let field = line.split(|b| *b == b' ').nth(4)?;
        Some(PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
    })
}

/// Spaces, tabs, line ends and backslashes are octal in `mountinfo` (`\040`).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&b, tail)) = rest.split_first() {
        let octal = (b == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(b);
                rest = tail;
            }
        }
    }
    out
}

/// Takes down every mount at the path.
fn unmount(target: &Path) -> Result<(), MountError> {
    for _ in 0..mounted_at(target)? {
        let taken = match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
            // Somebody still has a file of it open: it goes with the last of them, and is out of sight now.
            Err(rustix::io::Errno::BUSY) => {
                tracing::warn!(target_path = %target.display(), "the volume is busy; it is detached");
                rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
            }
            taken => taken,
        };
        taken.map_err(|e| MountError::System { doing: "unmount", target: target.into(), source: e.into() })?;
    }
    Ok(())
}

/// Takes down the volumes that are mounted anywhere below a folder: those of a driver that was killed.
///
/// # Errors
/// When the mounts cannot be read, or the system refuses.
pub fn unmount_below(folder: &Path) -> Result<(), MountError> {
    let Ok(folder) = std::fs::canonicalize(folder) else { return Ok(()) };
    let volumes = mounts(&folder)?.into_iter().filter(|p| p.starts_with(&folder) && pod_and_volume(p).is_some());
    // What is mounted twice at one place is listed twice.
    volumes.collect::<BTreeSet<_>>().iter().try_for_each(|volume| unmount(volume))
}

/// Removes what is in a folder. Links are removed, not followed.
fn empty(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let removed =
            if entry.file_type()?.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        match removed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// The pod's UID and the volume's name in a target path of the kubelet's
/// (`…/pods/UID/volumes/kubernetes.io~csi/NAME/mount`).
#[must_use]
pub fn pod_and_volume(target: &Path) -> Option<(&str, &str)> {
    let parts: Vec<&[u8]> = target.as_os_str().as_bytes().split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
    let [.., b"pods", uid, b"volumes", b"kubernetes.io~csi", volume, b"mount"] = parts.as_slice() else { return None };
    Some((std::str::from_utf8(uid).ok()?, std::str::from_utf8(volume).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_escapes_them() {
        let table = b"22 1 0:20 / / rw - ext4 /dev/root rw\n\
            35 22 0:33 / /var/lib/a\\040b\\134c rw,nosuid shared:7 - tmpfs tmpfs rw\n\n\
            36 22 0:34 / /plain\\9 rw - tmpfs tmpfs rw\n";
        let points: Vec<_> = mount_points(table).collect();
        assert_eq!(points, [Path::new("/"), Path::new("/var/lib/a b\\c"), Path::new("/plain\\9")]);
    }

    #[test]
    fn targets_that_are_no_volumes_are_refused() {
        for bad in ["", "relative/mount", "/", "/a/../b", "/a/.."] {
            assert!(matches!(Mounts::Folder.mount(Path::new(bad)), Err(MountError::Target(_))), "{bad}");
            assert!(matches!(Mounts::Folder.unmount(Path::new(bad)), Err(MountError::Target(_))), "{bad}");
        }
    }

    #[test]
    fn the_kubelets_paths_name_pod_and_volume() {
        let path = Path::new("/var/lib/kubelet/pods/6a9f/volumes/kubernetes.io~csi/secrets/mount");
        assert_eq!(pod_and_volume(path), Some(("6a9f", "secrets")));
        for other in ["/var/lib/kubelet/pods/6a9f/volumes/kubernetes.io~secret/x/mount", "/x/mount", ""] {
            assert_eq!(pod_and_volume(Path::new(other)), None, "{other}");
        }
    }
}
