//! Writing a new version of a volume, and reading the current one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use zeroize::Zeroizing;

use super::content::{Content, check_path};

/// The link to the current version.
const DATA: &str = "..data";
/// Its successor, before it is renamed.
const NEXT: &str = "..data_tmp";
/// Folders can be entered by every user of the pod; what is in them has modes of its own.
const FOLDER: u32 = 0o755;

/// A mounted volume, opened for writing and reading.
#[derive(Debug)]
pub struct Volume {
    root: PathBuf,
    dir: OwnedFd,
    /// The group that files belong to, and that may read them.
    group: Option<u32>,
}

impl Volume {
    /// Opens the volume mounted at `root`. Files will belong to `group`, who may read them whatever their mode says: what
    /// the kubelet does for read-only volumes of pods with an fsGroup.
    ///
    /// # Errors
    /// When `root` is not a folder (a link to one is none).
    pub fn open(root: &Path, group: Option<u32>) -> io::Result<Self> {
        let dir = rustix::fs::open(
            root,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self { root: root.into(), dir, group })
    }

    /// Whether a version was ever written to it.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.current().is_some()
    }

    /// Whether anything is in it, whoever wrote it.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn holds_anything(&self) -> io::Result<bool> {
        Ok(self.is_written() || self.entries()?.iter().any(|(name, _)| !name.starts_with("..")))
    }

    /// Makes `content` the volume's whole content; returns whether anything had to be changed. When it fails, the old
    /// content stays.
    ///
    /// # Errors
    /// What the file system answered, with the path it answered for.
    pub fn write(&self, content: &Content) -> io::Result<bool> {
        let current = self.current();
        self.remove_leftovers(current.as_deref())?;
        if let Some(current) = &current
            && self.is(current, content)?
        {
            self.link_tops(content)?;
            self.remove_stale_links(content)?;
            return Ok(false);
        }
        let next = self.make_version()?;
        let made = self.fill(&next, content).and_then(|()| {
            self.link_tops_where_free(content)?;
            rustix::fs::symlinkat(next.as_str(), &self.dir, NEXT).map_err(|e| at(NEXT, e))?;
            rustix::fs::renameat(&self.dir, NEXT, &self.dir, DATA).map_err(|e| at(DATA, e))
        });
        if let Err(e) = made {
            // The old version is still the current one; what was made beside it goes, as far as it can.
            let _already_failing = rustix::fs::unlinkat(&self.dir, NEXT, AtFlags::empty());
            let _already_failing = std::fs::remove_dir_all(self.root.join(&next));
            let _already_failing = self.remove_dangling_links();
            return Err(e);
        }
        // From here on the new version is the current one; what is left is to tidy up.
        self.link_tops(content)?;
        self.remove_stale_links(content)?;
        if let Some(old) = current {
            self.remove(&old)?;
        }
        Ok(true)
    }

    /// One file's content, whoever wrote it: also providers that write into the mount themselves.
    ///
    /// # Errors
    /// When the path does not lie below the mount, or there is no such file.
    pub fn read(&self, path: &str) -> io::Result<Zeroizing<Vec<u8>>> {
        check_path(path).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?}: {why}")))?;
        let fd =
            rustix::fs::openat(&self.dir, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
        let mut file = File::from(fd.map_err(|e| at(path, e))?);
        read_all(&mut file).map_err(|e| io::Error::new(e.kind(), format!("{path:?}: {e}")))
    }

    /// The folder of the current version.
    fn current(&self) -> Option<String> {
        let link = rustix::fs::readlinkat(&self.dir, DATA, Vec::new()).ok()?;
        let name = link.into_string().ok()?;
        (is_version(&name)).then_some(name)
    }

    /// Removes what a writer left that was killed: versions that are not the current one, and the link to one.
    fn remove_leftovers(&self, current: Option<&str>) -> io::Result<()> {
        for (name, _) in self.entries()? {
            if name == NEXT || (is_version(&name) && Some(name.as_str()) != current) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Whether version `name` is exactly `content`, modes and group included.
    fn is(&self, name: &str, content: &Content) -> io::Result<bool> {
        let root = self.root.join(name);
        let mut on_disk = BTreeSet::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let listed = match std::fs::read_dir(&folder) {
                // The link points nowhere: this is not a version.
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
                other => other?,
            };
            for entry in listed {
                let entry = entry?;
                let path = entry.path();
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                } else {
                    on_disk.insert(path);
                }
            }
        }
        if on_disk.len() != content.len() {
            return Ok(false);
        }
        for file in content.files() {
            let path = root.join(&file.path);
            if !on_disk.contains(&path) {
                return Ok(false);
            }
            let meta = std::fs::symlink_metadata(&path)?;
            let same = meta.is_file()
                && meta.len() == file.contents.len() as u64
                && meta.mode() & 0o7777 == self.mode_of(file.mode)
                && self.group.is_none_or(|g| g == meta.gid());
            let same = same
                && match File::open(&path) {
                    // A mode that not even its owner may read with: written again.
                    Err(e) if e.kind() == io::ErrorKind::PermissionDenied => false,
                    opened => *read_all(&mut opened?)? == file.contents,
                };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the folder of a new version.
    fn make_version(&self) -> io::Result<String> {
        let now = jiff::Timestamp::now();
        let seconds = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
        let mut nanos = now.subsec_nanosecond();
        loop {
            let name = format!("{seconds}.{nanos:09}");
            match self.make_folder(&name) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => nanos += 1,
                made => return made.map(|()| name),
            }
        }
    }

    /// A folder of ours: with its mode whatever the umask, and its group.
    fn make_folder(&self, path: &str) -> io::Result<()> {
        rustix::fs::mkdirat(&self.dir, path, Mode::from_raw_mode(0o700)).map_err(|e| at(path, e))?;
        self.own(&rustix::fs::openat(
            &self.dir,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
        .and_then(|()| rustix::fs::chmodat(&self.dir, path, Mode::from_raw_mode(FOLDER), AtFlags::empty()))
        .map_err(|e| at(path, e))
    }

    fn own(&self, fd: &OwnedFd) -> rustix::io::Result<()> {
        match self.group {
            Some(group) => rustix::fs::fchown(fd, None, Some(rustix::fs::Gid::from_raw(group))),
            None => Ok(()),
        }
    }

    fn mode_of(&self, mode: i32) -> u32 {
        let mode = u32::try_from(mode).unwrap_or(0) & 0o777;
        if self.group.is_some() { mode | 0o440 } else { mode }
    }

    /// Writes the files of a version. Everything in it is new: no link of anybody's is followed.
    fn fill(&self, version: &str, content: &Content) -> io::Result<()> {
        let mut made = BTreeSet::new();
        for file in content.files() {
            for (end, _) in file.path.match_indices('/') {
                let folder = &file.path[..end];
                if made.insert(folder) {
                    self.make_folder(&format!("{version}/{folder}"))?;
                }
            }
            let path = format!("{version}/{}", file.path);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&self.dir, path.as_str(), flags, Mode::from_raw_mode(0o600))
                .map_err(|e| at(&file.path, e))?;
            self.own(&fd).map_err(|e| at(&file.path, e))?;
            let mut out = File::from(fd);
            out.write_all(&file.contents).map_err(|e| io::Error::new(e.kind(), format!("{:?}: {e}", file.path)))?;
            rustix::fs::fchmod(&out, Mode::from_raw_mode(self.mode_of(file.mode))).map_err(|e| at(&file.path, e))?;
        }
        Ok(())
    }

    /// Links the names at the top that nothing has yet. They point nowhere until the version is the current one.
    fn link_tops_where_free(&self, content: &Content) -> io::Result<()> {
        for top in content.tops() {
            match rustix::fs::symlinkat(format!("{DATA}/{top}"), &self.dir, top) {
                Err(rustix::io::Errno::EXIST) => {}
                made => made.map_err(|e| at(top, e))?,
            }
        }
        Ok(())
    }

    /// Links every name at the top, in place of whatever else is there (files that a provider wrote itself).
    fn link_tops(&self, content: &Content) -> io::Result<()> {
        for top in content.tops() {
            let target = format!("{DATA}/{top}");
            let there = rustix::fs::readlinkat(&self.dir, top, Vec::new());
            match there {
                Ok(link) if link.as_bytes() == target.as_bytes() => continue,
                Err(rustix::io::Errno::NOENT) => {}
                _ => self.remove(top)?,
            }
            rustix::fs::symlinkat(target.as_str(), &self.dir, top).map_err(|e| at(top, e))?;
        }
        Ok(())
    }

    /// Removes our links to what `content` does not have.
    fn remove_stale_links(&self, content: &Content) -> io::Result<()> {
        self.remove_links(|name| !content.has_top(name))
    }

    /// Removes our links that point nowhere.
    fn remove_dangling_links(&self) -> io::Result<()> {
        self.remove_links(|name| {
            rustix::fs::statat(&self.dir, name, AtFlags::empty()).is_err_and(|e| e == rustix::io::Errno::NOENT)
        })
    }

    fn remove_links(&self, which: impl Fn(&str) -> bool) -> io::Result<()> {
        for (name, kind) in self.entries()? {
            if kind != FileType::Symlink || name.starts_with("..") || !which(&name) {
                continue;
            }
            let link = rustix::fs::readlinkat(&self.dir, name.as_str(), Vec::new()).map_err(|e| at(&name, e))?;
            if link.as_bytes() == format!("{DATA}/{name}").as_bytes() {
                rustix::fs::unlinkat(&self.dir, name.as_str(), AtFlags::empty()).map_err(|e| at(&name, e))?;
            }
        }
        Ok(())
    }

    /// Removes a name at the top, whatever it is; links are not followed.
    fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => std::fs::remove_dir_all(self.root.join(name)),
            Err(e) => Err(at(name, e)),
        }
    }

    /// The names at the top and what they are. Names that are not UTF-8 are nobody's here and left alone.
    fn entries(&self) -> io::Result<Vec<(String, FileType)>> {
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.dir)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => {
                    let kind = match entry.file_type() {
                        FileType::Unknown => {
                            let stat = rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                            FileType::from_raw_mode(stat.st_mode)
                        }
                        known => known,
                    };
                    entries.push((name.to_owned(), kind));
                }
            }
        }
        Ok(entries)
    }
}

/// Whether a name is that of a version's folder: `..` and a digit, as all writers of this scheme name them.
fn is_version(name: &str) -> bool {
    name.strip_prefix("..").is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()) && !n.contains('/'))
}

fn at(path: &str, e: rustix::io::Errno) -> io::Error {
    let e = io::Error::from(e);
    io::Error::new(e.kind(), format!("{path:?}: {e}"))
}

/// Reads a file into a buffer that never grows, so that no copy of a value is left behind.
fn read_all(file: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = Zeroizing::new(vec![0; size]);
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
