//! From a pack that a Git server sent to an archive of one commit's files.
//!
//! gix indexes the pack (which checks every object's hash) in a folder that lives as long as that takes. The archive
//! has the files in path order and nothing that differs from time to time, so that it is the same for the same commit.
//! Content is taken as it is stored; submodules are left out.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::archive::MAX_TREE;

/// How deep folders may be.
const MAX_DEPTH: usize = 128;

/// The commit that an object means (an annotated tag means one), and the archive of its files.
pub(crate) fn to_archive(pack: &[u8], object: &str, scratch: Option<&Path>) -> Result<(String, Vec<u8>), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let dir = match scratch {
        Some(dir) => std::fs::create_dir_all(dir).and_then(|()| tempfile::tempdir_in(dir)),
        None => tempfile::tempdir(),
    }
    .map_err(|e| format!("no scratch folder for the pack: {e}"))?;
    let place = dir.path().join("r.git");
    let options = gix::create::Options { destination_must_be_empty: Some(true), ..Default::default() };
    let repository =
        gix::ThreadSafeRepository::init_opts(&place, gix::create::Kind::Bare, options, gix::open::Options::isolated())
            .map_err(|e| text(&e))?;
    let packs = place.join("objects/pack");
    std::fs::create_dir_all(&packs).map_err(|e| text(&e))?;
    let mut reader = pack;
    gix_pack::Bundle::write_to_directory(
        &mut reader,
        Some(&packs),
        &mut gix::progress::Discard,
        &AtomicBool::new(false),
        None::<gix::objs::find::Never>,
        gix::hash::Kind::Sha1,
        gix_pack::bundle::write::Options {
            alloc_limit_bytes: usize::try_from(MAX_TREE).ok(),
            thread_limit: Some(2),
            ..Default::default()
        },
    )
    .map_err(|e| format!("the pack cannot be read: {e}"))?;
    let repository = repository.to_thread_local();
    let id = gix::ObjectId::from_hex(object.as_bytes()).map_err(|e| text(&e))?;
    let commit = repository
        .find_object(id)
        .map_err(|e| text(&e))?
        .peel_to_commit()
        .map_err(|e| format!("it is no commit: {e}"))?;
    let tree = commit.tree().map_err(|e| text(&e))?;
    let mut builder = tar::Builder::new(Vec::new());
    let mut left = MAX_TREE;
    append(&mut builder, &tree, "", 0, &mut left)?;
    let archive = builder.into_inner().map_err(|e| text(&e))?;
    Ok((commit.id.to_string(), archive))
}

fn append(
    out: &mut tar::Builder<Vec<u8>>,
    tree: &gix::Tree<'_>,
    dir: &str,
    depth: usize,
    left: &mut u64,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("{dir}: folders are nested more than {MAX_DEPTH} deep"));
    }
    for entry in tree.iter() {
        let entry = entry.map_err(|e| e.to_string())?;
        let Ok(name) = std::str::from_utf8(entry.filename()) else { continue };
        if matches!(name, "" | "." | ".." | ".git") || name.contains('/') {
            return Err(format!("{dir} has an entry named {name:?}, which no folder can have"));
        }
        let path = if dir.is_empty() { name.to_string() } else { format!("{dir}/{name}") };
        let mode = entry.mode();
        let fail = |e: &dyn std::fmt::Display| format!("{path}: {e}");
        if mode.is_tree() {
            let sub = entry.object().map_err(|e| fail(&e))?.try_into_tree().map_err(|e| fail(&e))?;
            append(out, &sub, &path, depth + 1, left)?;
            continue;
        }
        if !mode.is_blob() && !mode.is_link() {
            continue;
        }
        let object = entry.object().map_err(|e| fail(&e))?;
        let size = object.data.len() as u64;
        *left =
            left.checked_sub(size + 1024).ok_or_else(|| format!("its files are more than {} MiB", MAX_TREE >> 20))?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(if mode.is_executable() { 0o755 } else { 0o644 });
        if mode.is_link() {
            let Ok(target) = std::str::from_utf8(&object.data) else { continue };
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            out.append_link(&mut header, &path, target).map_err(|e| fail(&e))?;
        } else {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(size);
            out.append_data(&mut header, &path, object.data.as_slice()).map_err(|e| fail(&e))?;
        }
    }
    Ok(())
}
