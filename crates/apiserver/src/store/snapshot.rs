//! Backups: all objects of one moment as lines of text, and a data directory made of them.
//!
//! A header with the resource version of that moment, a line an object, a last line with how many and their digest. A
//! restored directory goes on at a resource version no client of the old one has seen, and knows nothing of changes
//! before it: older watches and continue tokens are told to start over (410). Keys and tokens are no part of a backup;
//! they are files of the data directory and stay where they are.

use std::io::{BufRead, Write as _};
use std::path::Path;

use bytes::Bytes;
use druse_object::Str;
use sha2::{Digest as _, Sha256};

use super::disk::Disk;
use super::{Store, StoreError, Stored, WatchError};

const HEADER: &str = "druse-snapshot 1";
/// How far resource versions jump: further than any server gets between a backup and its loss.
const JUMP: u64 = 1_000_000_000;

/// The backup of a store as it is now.
///
/// # Errors
/// When the store changes faster than it can be read; try again.
pub fn snapshot(store: &dyn Store) -> Result<Vec<u8>, WatchError> {
    let revision = store.revision();
    let mut out = format!("{HEADER} {revision}\n").into_bytes();
    let mut count = 0usize;
    for resource in store.resources() {
        // A type that changes meanwhile is shown as it was at the revision.
        for o in store.list(&resource, "", None, usize::MAX, Some(revision))?.items {
            count += 1;
            let head = format!("{resource}\t{}\t{}\t{}\t{}\t", o.namespace, o.name, o.rv, o.head);
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(&o.json);
            out.push(b'\n');
        }
    }
    let digest = hex::encode(Sha256::digest(&out));
    // Writing to a vector cannot fail.
    let _ = writeln!(out, "end {count} {digest}");
    Ok(out)
}

/// One object of a backup: its stored type and itself.
pub(super) type Line = (Str, Stored);

fn damaged(line: usize, what: &str) -> StoreError {
    StoreError::Snapshot(format!("line {line}: {what}"))
}

/// Reads a backup: its resource version and its objects. Nothing is believed before the digest has been.
fn read(input: &mut dyn BufRead) -> Result<(u64, Vec<Line>), StoreError> {
    let mut digest = Sha256::new();
    let mut lines = Vec::new();
    let mut revision = None;
    let mut buffer = Vec::new();
    for number in 1.. {
        buffer.clear();
        let n = input.read_until(b'\n', &mut buffer).map_err(|e| damaged(number, &e.to_string()))?;
        if n == 0 {
            return Err(damaged(number, "the backup is cut short: its last line is missing"));
        }
        let text = std::str::from_utf8(&buffer).map_err(|_| damaged(number, "this is no UTF-8 text"))?;
        let text = text.trim_end_matches('\n');
        if number == 1 {
            let rv = text.strip_prefix(HEADER).and_then(|r| r.trim().parse().ok());
            revision = Some(rv.ok_or_else(|| damaged(number, "this is no backup of druse"))?);
        } else if let Some(end) = text.strip_prefix("end ") {
            let (count, hash) = end.split_once(' ').ok_or_else(|| damaged(number, "the last line is malformed"))?;
            if hash != hex::encode(digest.finalize()) || count.parse() != Ok(lines.len()) {
                return Err(damaged(number, "the backup is damaged: its digest does not fit"));
            }
            return Ok((revision.unwrap_or_default(), lines));
        } else {
            lines.push(object(text).ok_or_else(|| damaged(number, "this is no object"))?);
        }
        digest.update(&buffer);
    }
    Err(damaged(0, "the backup does not end"))
}

fn object(text: &str) -> Option<Line> {
    let mut parts = text.splitn(6, '\t');
    let (resource, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    let (rv, head, json) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
    let json = Bytes::copy_from_slice(json.as_bytes());
    Some((resource.into(), Stored::new(namespace.into(), name.into(), rv, head, json)))
}

/// Makes a data directory out of a backup. What the directory's store held is replaced; answers how many objects there
/// are and at which resource version the store goes on.
///
/// # Errors
/// When the backup is damaged (the directory is untouched then), or the directory cannot be used or is in use.
pub fn restore(dir: &Path, input: &mut dyn BufRead) -> Result<(usize, u64), StoreError> {
    let (revision, lines) = read(input)?;
    let newest = lines.iter().map(|(_, o)| o.rv).max().unwrap_or(0);
    let (disk, loaded) = Disk::open(dir)?;
    let next = revision.max(newest).max(loaded.revision).saturating_add(JUMP);
    disk.replace(&lines, next)?;
    Ok((lines.len(), next))
}
