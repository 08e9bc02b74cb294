//! Volumes on a real file system: all of the old or all of the new version, whatever happens; nothing outside, nothing
//! left behind. Tests of tmpfs run as root and say so when they cannot.
#![allow(clippy::unwrap_used, clippy::print_stderr)] // helpers of tests

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use druse_csi::mount::{MountError, Mounts};
use druse_csi::volume::{Content, Volume};
use druse_csi::wire::provider::File;

fn content(files: &[(&str, &[u8])]) -> Content {
    Content::new(files.iter().map(|(p, c)| File { path: (*p).into(), mode: 0o644, contents: c.to_vec() }).collect())
        .unwrap()
}

/// What a pod sees: files by path through the links at the top.
fn seen(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for e in std::fs::read_dir(folder).unwrap() {
            let path = e.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if name.starts_with("..") {
                continue;
            }
            match std::fs::metadata(&path) {
                Ok(m) if m.is_dir() => walk(root, &path, out),
                Ok(_) => drop(out.insert(name, std::fs::read(&path).unwrap())),
                Err(e) => panic!("{name}: {e}"),
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

/// Names at the top of the mount.
fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn expected(files: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(p, c)| ((*p).to_owned(), c.to_vec())).collect()
}

#[test]
fn files_show_up_as_links_into_the_current_version() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::open(dir.path(), None).unwrap();
    assert!(!volume.is_written());
    let files: &[(&str, &[u8])] =
        &[("password", b"one"), ("tls/key.pem", b"k"), ("tls/deep/er", b""), ("bin", b"\0\xff\n")];
    assert!(volume.write(&content(files)).unwrap());
    assert!(volume.is_written());
    assert_eq!(seen(dir.path()), expected(files));
    assert_eq!(std::fs::read_link(dir.path().join("password")).unwrap(), Path::new("..data/password"));
    assert_eq!(std::fs::read_link(dir.path().join("tls")).unwrap(), Path::new("..data/tls"));
    let version = std::fs::read_link(dir.path().join("..data")).unwrap().into_os_string().into_string().unwrap();
    assert!(version.starts_with("..20") && version.matches('_').count() == 5, "{version}");
    assert_eq!(*volume.read("tls/key.pem").unwrap(), b"k");
    assert!(volume.read("../x").is_err() && volume.read("none").is_err());
}

#[test]
fn a_new_version_replaces_all_and_leaves_nothing_of_the_old() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::open(dir.path(), None).unwrap();
    volume.write(&content(&[("a", b"1"), ("b/c", b"1"), ("gone", b"1"), ("turns", b"file")])).unwrap();
    let new: &[(&str, &[u8])] = &[("a", b"2"), ("b/d", b"2"), ("new", b"2"), ("turns/folder", b"x")];
    assert!(volume.write(&content(new)).unwrap());
    assert_eq!(seen(dir.path()), expected(new));
    let names = names(dir.path());
    assert_eq!(names.len(), 6, "{names:?}"); // four links, ..data, one version
    assert!(volume.write(&content(&[])).unwrap());
    assert_eq!(seen(dir.path()), BTreeMap::new());
}

#[test]
fn what_did_not_change_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::open(dir.path(), None).unwrap();
    let files: &[(&str, &[u8])] = &[("a", b"1"), ("b/c", b"1")];
    volume.write(&content(files)).unwrap();
    let before = std::fs::read_link(dir.path().join("..data")).unwrap();
    assert!(!volume.write(&content(files)).unwrap());
    assert_eq!(std::fs::read_link(dir.path().join("..data")).unwrap(), before);
    // A mode is a change, as is a name.
    let mode = Content::new(vec![
        File { path: "a".into(), mode: 0o600, contents: b"1".to_vec() },
        File { path: "b/c".into(), mode: 0o644, contents: b"1".to_vec() },
    ])
    .unwrap();
    assert!(volume.write(&mode).unwrap());
    assert_eq!(std::fs::metadata(dir.path().join("a")).unwrap().mode() & 0o7777, 0o600);
    assert!(volume.write(&content(&[("a", b"1"), ("b/e", b"1")])).unwrap());
}

#[test]
fn modes_are_the_ones_asked_for_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::open(dir.path(), None).unwrap();
    let files = [0o777, 0o666, 0o400, 0o000].map(|mode| File { path: format!("{mode:o}"), mode, contents: vec![1] });
    volume.write(&Content::new(files.to_vec()).unwrap()).unwrap();
    for mode in [0o777, 0o666, 0o400, 0o000_u32] {
        assert_eq!(std::fs::metadata(dir.path().join(format!("{mode:o}"))).unwrap().mode() & 0o7777, mode);
    }
    volume.write(&content(&[("x/y/z", b"")])).unwrap();
    assert_eq!(std::fs::metadata(dir.path().join("x/y")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn the_pods_group_owns_and_may_read_every_file() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::open(dir.path(), Some(4321)).unwrap();
    let file = || vec![File { path: "d/f".into(), mode: 0o600, contents: vec![] }];
    assert!(volume.write(&Content::new(file()).unwrap()).unwrap());
    let f = std::fs::metadata(dir.path().join("d/f")).unwrap();
    assert_eq!((f.gid(), f.mode() & 0o7777), (4321, 0o640));
    assert_eq!(std::fs::metadata(dir.path().join("d")).unwrap().gid(), 4321);
    assert!(!volume.write(&Content::new(file()).unwrap()).unwrap());
    // Another pod's group, a new version.
    let other = Volume::open(dir.path(), Some(99)).unwrap();
    assert!(other.write(&Content::new(file()).unwrap()).unwrap());
    assert_eq!(std::fs::metadata(dir.path().join("d/f")).unwrap().gid(), 99);
}

#[test]
fn ten_thousand_objects_and_huge_values_fit() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::open(dir.path(), None).unwrap();
    let mut files: Vec<_> = (0..10_000)
        .map(|i| File { path: format!("app/{}/{i}", i % 100), mode: 0o644, contents: i.to_string().into_bytes() })
        .collect();
    files.push(File { path: "huge".into(), mode: 0o644, contents: vec![0xa5; 64 << 20] });
    assert!(volume.write(&Content::new(files.clone()).unwrap()).unwrap());
    assert!(!volume.write(&Content::new(files).unwrap()).unwrap());
    assert_eq!(*volume.read("app/99/9999").unwrap(), b"9999");
    assert_eq!(volume.read("huge").unwrap().len(), 64 << 20);
}

#[test]
fn what_a_killed_writer_left_is_removed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let volume = Volume::open(root, None).unwrap();
    volume.write(&content(&[("a", b"old")])).unwrap();
    // Half a version, the link to it, a link to what only it would have had: what a kill leaves behind.
    std::fs::create_dir(root.join("..2020_01_01_00_00_00.000000001")).unwrap();
    std::fs::write(root.join("..2020_01_01_00_00_00.000000001/half"), "ha").unwrap();
    symlink("..2020_01_01_00_00_00.000000001", root.join("..data_tmp")).unwrap();
    symlink("..data/half", root.join("half")).unwrap();
    for (files, changed) in [(&[("a", b"old" as &[u8])], false), (&[("a", b"new")], true)] {
        assert_eq!(volume.write(&content(files)).unwrap(), changed);
        assert_eq!(seen(root), expected(files));
        assert_eq!(names(root).len(), 3, "{:?}", names(root));
    }
}

#[test]
fn files_a_provider_wrote_itself_are_replaced_or_left() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "by the provider").unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    std::fs::write(dir.path().join("d/x"), "by the provider").unwrap();
    std::fs::write(dir.path().join("own"), "by the provider").unwrap();
    let volume = Volume::open(dir.path(), None).unwrap();
    assert_eq!(*volume.read("own").unwrap(), b"by the provider");
    volume.write(&content(&[("a", b"1"), ("d/y", b"2")])).unwrap();
    assert_eq!(seen(dir.path()), expected(&[("a", b"1"), ("d/y", b"2"), ("own", b"by the provider")]));
}

#[test]
fn links_planted_in_the_mount_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("victim"), "untouched").unwrap();
    let root = dir.path().join("mount");
    std::fs::create_dir(&root).unwrap();
    symlink(outside.path(), root.join("sub")).unwrap();
    symlink(outside.path().join("victim"), root.join("victim")).unwrap();
    symlink(outside.path(), root.join("..data")).unwrap();
    let volume = Volume::open(&root, None).unwrap();
    let files: &[(&str, &[u8])] = &[("sub/victim", b"mine"), ("victim", b"mine")];
    volume.write(&content(files)).unwrap();
    assert_eq!(seen(&root), expected(files));
    assert_eq!(std::fs::read(outside.path().join("victim")).unwrap(), b"untouched");
    assert_eq!(names(outside.path()), ["victim"]);
    // Nor is the mount itself a link.
    symlink(outside.path(), dir.path().join("link")).unwrap();
    assert!(Volume::open(&dir.path().join("link"), None).is_err());
    assert!(matches!(Mounts::Folder.mount(&dir.path().join("link")), Err(MountError::Link(_))));
    assert!(matches!(Mounts::Folder.is_mounted(&dir.path().join("link")), Err(MountError::Link(_))));
    Mounts::Folder.unmount(&dir.path().join("link")).unwrap();
    assert_eq!(names(outside.path()), ["victim"], "the link went, what it points to did not");
}

#[test]
fn a_folder_stands_in_for_a_mount_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("pods/uid/volumes/kubernetes.io~csi/s/mount");
    let mounts = Mounts::Folder;
    assert!(!mounts.is_mounted(&target).unwrap());
    mounts.unmount(&target).unwrap();
    mounts.mount(&target).unwrap();
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o700);
    assert!(!mounts.is_mounted(&target).unwrap(), "nothing was written yet");
    Volume::open(&target, None).unwrap().write(&content(&[("a/b", b"1")])).unwrap();
    assert!(mounts.is_mounted(&target).unwrap());
    for _ in 0..2 {
        mounts.unmount(&target).unwrap();
        assert!(!target.exists());
    }
}

#[test]
fn a_tmpfs_is_mounted_found_and_taken_down() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real dir"); // mountinfo escapes the space
    std::fs::create_dir(&real).unwrap();
    symlink(&real, dir.path().join("kubelet")).unwrap();
    // The kubelet's folder may be a link; the kernel lists the real path.
    let target = dir.path().join("kubelet/pods/u/mount");
    let mounts = Mounts::Tmpfs;
    assert!(!mounts.is_mounted(&target).unwrap());
    mounts.mount(&target).unwrap();
    assert!(mounts.is_mounted(&target).unwrap());
    assert_ne!(std::fs::metadata(&target).unwrap().dev(), std::fs::metadata(&real).unwrap().dev());
    assert_eq!(std::fs::metadata(&target).unwrap().mode() & 0o7777, 0o755);
    Volume::open(&target, None).unwrap().write(&content(&[("a", b"1")])).unwrap();
    // Mounted twice, one over the other, and with a file still open.
    mounts.mount(&target).unwrap();
    Volume::open(&target, None).unwrap().write(&content(&[("b", b"2")])).unwrap();
    let held = std::fs::File::open(target.join("b")).unwrap();
    mounts.unmount(&target).unwrap();
    assert!(!target.exists());
    assert_eq!(names(&real.join("pods/u")), Vec::<String>::new());
    drop(held);
    mounts.unmount(&target).unwrap();
}

#[test]
fn a_full_volume_keeps_the_old_version() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("mount");
    std::fs::create_dir(&target).unwrap();
    let (flags, size) = (rustix::mount::MountFlags::empty(), c"size=64k");
    rustix::mount::mount(c"tmpfs", &target, c"tmpfs", flags, size).unwrap();
    let volume = Volume::open(&target, None).unwrap();
    let old: &[(&str, &[u8])] = &[("a", b"old")];
    volume.write(&content(old)).unwrap();
    let refused = volume.write(&content(&[("a", b"new"), ("new", b""), ("z", &[7; 1 << 20])])).unwrap_err();
    assert!(refused.to_string().contains("\"z\""), "{refused}");
    assert_eq!(seen(&target), expected(old));
    assert_eq!(names(&target).len(), 3, "{:?}", names(&target));
    drop(volume);
    Mounts::Tmpfs.unmount(&target).unwrap();
}

/// The child of the next test: writes two versions in turn until it is killed.
#[test]
fn writer_to_be_killed() {
    let Some(root) = std::env::var_os("DRUSE_TEST_VOLUME") else { return };
    let volume = Volume::open(Path::new(&root), None).unwrap();
    loop {
        for version in *b"AB" {
            volume.write(&version_of(version)).unwrap();
        }
    }
}

/// Two versions that differ in every value, and in names.
fn version_of(which: u8) -> Content {
    let name = char::from(which);
    let mut files: Vec<_> =
        (0..100).map(|i| File { path: format!("d{}/f{i}", i % 7), mode: 0o644, contents: vec![which; 100] }).collect();
    files.push(File { path: format!("only-{name}"), mode: 0o644, contents: vec![which] });
    Content::new(files).unwrap()
}

#[test]
fn a_writer_killed_at_any_moment_leaves_all_of_the_old_or_all_of_the_new() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let volume = Volume::open(root, None).unwrap();
    volume.write(&version_of(b'A')).unwrap();
    let mut caught_in_the_middle = 0;
    for round in 0..40_u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_to_be_killed"])
            .env("DRUSE_TEST_VOLUME", root)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Wait until it has written at least once, then a little longer, another while each round.
        let first = std::fs::read_link(root.join("..data")).unwrap();
        let begun = std::time::Instant::now();
        while std::fs::read_link(root.join("..data")).unwrap() == first {
            assert!(begun.elapsed().as_secs() < 60, "the writer does not write");
            std::thread::yield_now();
        }
        let again = std::time::Instant::now();
        while again.elapsed().as_micros() < u128::from(round) * 311 {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let data = root.join("..data");
        let which = std::fs::read(data.join("d0/f0")).unwrap()[0];
        let whole = version_of(which);
        for file in whole.files() {
            assert_eq!(std::fs::read(data.join(&file.path)).unwrap(), file.contents, "{}", file.path);
        }
        if names(root).len() != 10 {
            caught_in_the_middle += 1;
        }
        // The next publish of either version puts everything right.
        volume.write(&version_of(if round % 2 == 0 { b'A' } else { b'B' })).unwrap();
        assert_eq!(names(root).len(), 10, "{:?}", names(root));
        assert_eq!(seen(root).len(), 101);
    }
    assert!(caught_in_the_middle > 0, "no kill met a write");
}

fn root() -> bool {
    let root = Mounts::detect() == Mounts::Tmpfs;
    if !root {
        eprintln!("SKIPPED: this needs the right to mount (root)");
    }
    root
}
