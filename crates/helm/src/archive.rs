//! Chart archives (`.tgz`) read into files, with the refusals Helm makes and a few more: no way out of the
//! chart's folder, links never followed, and a bound on what a small archive may unpack to.

use std::io::{Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;

use crate::chart::File;
use crate::error::HelmError;

/// How much one chart archive may unpack to, in bytes; Helm's own limit.
pub const MAX_CHART_SIZE: u64 = 100 * 1024 * 1024;
/// How much all archives nested in one chart may unpack to together, in bytes.
const MAX_TOTAL_SIZE: u64 = 4 * MAX_CHART_SIZE;
/// Headers and padding allowed on top of the files themselves.
const HEADER_SLACK: u64 = 16 * 1024 * 1024;
/// Deflate packs no more than so many bytes into one.
const MAX_RATIO: u64 = 1032;

/// What is left of the bound on everything that one chart unpacks to.
pub(crate) struct Budget {
    total: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { total: MAX_TOTAL_SIZE }
    }
}

impl Budget {
    /// Counts bytes read from a folder.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<(), HelmError> {
        self.total = self.total.checked_sub(bytes).ok_or_else(too_large)?;
        Ok(())
    }
}

fn too_large() -> HelmError {
    HelmError::Load(format!("decompressed chart is larger than the maximum size {MAX_CHART_SIZE}"))
}

fn refuse<T>(message: impl Into<String>) -> Result<T, HelmError> {
    Err(HelmError::Load(message.into()))
}

/// What a gzipped archive unpacks to, and why it ends where it does when that is not its end. Unpacked at once it takes
/// half the time that it takes by the piece; what comes after the archive's own end is not looked at.
struct Unpacked {
    data: std::io::Cursor<Vec<u8>>,
    broken: Option<std::io::Error>,
}

impl Unpacked {
    fn new(archive: &[u8]) -> Self {
        // The length that it says itself, as far as it can be true.
        let most = MAX_CHART_SIZE + HEADER_SLACK;
        let said = archive.last_chunk().map_or(0, |said| u64::from(u32::from_le_bytes(*said)));
        let possible = said.min(most).min(archive.len() as u64 * MAX_RATIO);
        let mut data = Vec::with_capacity(usize::try_from(possible).unwrap_or(0));
        let mut broken = MultiGzDecoder::new(archive).take(most).read_to_end(&mut data).err();
        if data.len() as u64 >= most {
            broken = Some(std::io::Error::other(too_large().to_string()));
        }
        Self { data: std::io::Cursor::new(data), broken }
    }
}

impl Read for Unpacked {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self.data.read(buf) {
            Ok(0) if !buf.is_empty() => self.broken.take().map_or(Ok(0), Err),
            read => read,
        }
    }
}

impl Seek for Unpacked {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = self.data.seek(to)?;
        if at > self.data.get_ref().len() as u64 {
            return Err(self.broken.take().unwrap_or_else(|| std::io::Error::other("unexpected EOF during skip")));
        }
        Ok(at)
    }
}

/// The files of an archive, named relative to the chart's folder.
pub(crate) fn read(archive: &[u8], budget: &mut Budget) -> Result<Vec<File>, HelmError> {
    if !archive.starts_with(&[0x1f, 0x8b, 0x08]) {
        return refuse("gzip: invalid header: the chart does not appear to be a gzipped archive");
    }
    let mut tar = tar::Archive::new(Unpacked::new(archive));
    let mut files = Vec::new();
    let mut remaining = MAX_CHART_SIZE;
    let broken = |e: std::io::Error| {
        let text = e.to_string();
        if text.contains("larger than the maximum size") {
            too_large()
        } else {
            HelmError::Load(format!("chart archive: {text}"))
        }
    };
    for entry in tar.entries_with_seek().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
            continue;
        }
        let raw = entry.path_bytes().into_owned();
        let Ok(path) = std::str::from_utf8(&raw) else {
            return refuse("chart contains illegally named files");
        };
        if path.ends_with('/') {
            continue;
        }
        let name = inner_name(path)?;
        if kind.is_symlink() || kind.is_hard_link() {
            // Nothing is followed: a link is a file without contents, as it is to Helm.
            files.push(File::new(name, Vec::new()));
            continue;
        }
        if !(kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse()) {
            return refuse(format!("chart illegally contains something that is not a file: {path:?}"));
        }
        let size = entry.size();
        if size > remaining {
            return Err(too_large());
        }
        let mut data = Vec::with_capacity(usize::try_from(size.min(1 << 20)).unwrap_or(0));
        let read = entry.take(remaining).read_to_end(&mut data).map_err(broken)? as u64;
        if read < size {
            return refuse(format!("chart archive: {path:?} is truncated"));
        }
        remaining -= read;
        if remaining == 0 {
            return Err(too_large());
        }
        budget.take(read)?;
        files.push(File::new(name, data));
    }
    if files.is_empty() {
        return refuse("no files in chart archive");
    }
    Ok(files)
}

/// An entry's name without the chart's folder, cleaned.
fn inner_name(path: &str) -> Result<String, HelmError> {
    let delimiter = if path.contains('\\') { '\\' } else { '/' };
    let (first, rest) = path.split_once(delimiter).unwrap_or((path, ""));
    let rest = rest.replace(delimiter, "/");
    if rest.starts_with('/') || path.starts_with('/') {
        return refuse(format!("chart illegally contains absolute paths: {path:?}"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            p => parts.push(p),
        }
    }
    let name = parts.join("/");
    if name.is_empty() {
        return refuse(format!("chart illegally contains content outside the base directory: {path:?}"));
    }
    if name.starts_with("..") {
        return refuse(format!("chart illegally references parent directory: {path:?}"));
    }
    let b = name.as_bytes();
    if b.len() > 2 && b.first().is_some_and(u8::is_ascii_alphabetic) && b.get(1..3) == Some(b":/") {
        return refuse("chart contains illegally named files");
    }
    if first == "Chart.yaml" {
        return refuse("chart yaml not in base directory");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn tgz(entries: &[(&str, &[u8], tar::EntryType)]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for (name, data, kind) in entries {
            let mut h = tar::Header::new_gnu();
            h.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            h.set_entry_type(*kind);
            h.set_mode(0o644);
            h.set_size(data.len() as u64);
            h.set_cksum();
            out.write_all(h.as_bytes()).expect("header");
            out.write_all(data).expect("data");
            out.write_all(&vec![0; (512 - data.len() % 512) % 512]).expect("padding");
        }
        out.write_all(&[0; 1024]).expect("end");
        out.finish().expect("gzip")
    }

    fn error(entries: &[(&str, &[u8], tar::EntryType)]) -> String {
        read(&tgz(entries), &mut Budget::default()).expect_err("is refused").to_string()
    }

    #[test]
    fn names_lose_the_charts_folder() {
        let files = read(
            &tgz(&[
                ("c/Chart.yaml", b"a", tar::EntryType::Regular),
                ("c/./templates/x.yaml", b"\xef\xbb\xbfb", tar::EntryType::Regular),
            ]),
            &mut Budget::default(),
        )
        .expect("is read");
        let names: Vec<_> = files.iter().map(|f| (f.name.as_str(), f.data.as_slice())).collect();
        assert_eq!(names, [("Chart.yaml", b"a".as_slice()), ("templates/x.yaml", b"b")]);
    }

    #[test]
    fn ways_out_of_the_chart_are_refused() {
        let file = tar::EntryType::Regular;
        assert!(error(&[("c/../../x", b"", file)]).contains("references parent directory"));
        assert!(error(&[("c//etc/passwd", b"", file)]).contains("absolute paths"));
        assert!(error(&[("/etc/passwd", b"", file)]).contains("absolute paths"));
        assert!(error(&[("x", b"", file)]).contains("outside the base directory"));
        assert!(error(&[("c/c:/x", b"", file)]).contains("illegally named"));
        assert!(error(&[]).contains("no files"));
        assert!(read(b"not gzip", &mut Budget::default()).is_err());
    }

    #[test]
    fn links_are_empty_files() {
        let files = read(&tgz(&[("c/l", b"", tar::EntryType::Symlink)]), &mut Budget::default()).expect("is read");
        assert_eq!(files, [File::new("l", Vec::new())]);
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_refused_and_what_follows_the_end_is_not_looked_at() {
        let file = tar::EntryType::Regular;
        let noise: Vec<u8> = (0u32..4000).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let good = tgz(&[("c/a", &noise, file), ("c/b", b"b", file)]);
        let read = |bytes: &[u8]| read(bytes, &mut Budget::default());
        assert_eq!(read(&good).expect("is read").len(), 2);
        for at in [20, good.len() / 2, good.len() - 40] {
            let e = read(&good[..at]).expect_err("is cut off").to_string();
            assert!(e.contains("chart archive"), "{at}: {e}");
        }
        let followed = [good.as_slice(), b"no gzip"].concat();
        assert_eq!(read(&followed).expect("is read").len(), 2);
        let mut wrong_sum = good.clone();
        let sum = wrong_sum.len() - 8;
        wrong_sum[sum] ^= 1;
        assert_eq!(read(&wrong_sum).expect("is read: the archive ended before").len(), 2);
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut h = tar::Header::new_gnu();
        h.as_old_mut().name[..3].copy_from_slice(b"c/a");
        h.set_size(MAX_CHART_SIZE + 1);
        h.set_cksum();
        out.write_all(h.as_bytes()).expect("header");
        let bomb = out.finish().expect("gzip");
        let e = read(&bomb, &mut Budget::default()).expect_err("is refused").to_string();
        assert!(e.contains("larger than the maximum size"), "{e}");
    }
}
