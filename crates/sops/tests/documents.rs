//! Documents that the real sops encrypted (`data/`), opened as the real sops opens them, and what happens to those that
//! were changed. With `DRUSE_SOPS` naming a sops binary, further documents are encrypted and compared on the spot.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::Command;

use druse_object::{Value, yaml};
use druse_sops::{Format, Identities, Integrity, SopsError, mask_file, mask_value, open_file, open_value, placeholder};

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

fn text(name: &str) -> String {
    String::from_utf8(data(name)).unwrap()
}

fn keys() -> Identities {
    Identities::parse(&text("keys.txt")).unwrap()
}

fn all_keys() -> Identities {
    let mut keys = keys();
    keys.extend(&Identities::parse(&text("other.txt")).unwrap());
    keys
}

#[test]
fn files_open_to_the_bytes_that_sops_prints() {
    for name in [
        "secret.yaml",
        "maconly.yaml",
        "types.yaml",
        "suffix.yaml",
        "unencrypted.yaml",
        "documents.yaml",
        "comments.yaml",
        "shamir.yaml",
        "file.json",
        "file.env",
        "file.bin",
    ] {
        let (stem, extension) = name.split_once('.').unwrap();
        let encrypted = data(&format!("{stem}.sops.{extension}"));
        let format = Format::for_path(name);
        assert!(format.marks(&encrypted), "{name}");
        let opened = open_file(&encrypted, format, format, &all_keys()).unwrap();
        assert_eq!(String::from_utf8_lossy(&opened.content), String::from_utf8_lossy(&data(name)), "{name}");
        assert_eq!(opened.integrity, Integrity::Verified, "{name}");
    }
}

#[test]
fn objects_open_with_their_types_and_without_metadata() {
    let value = yaml::parse(&text("types.sops.yaml"), yaml::Dialect::Kyaml).unwrap();
    let opened = open_value(&value, &keys()).unwrap();
    assert_eq!(opened.content, yaml::parse(&text("types.yaml"), yaml::Dialect::Kyaml).unwrap());
    assert_eq!(opened.content["big"], Value::Int(9_007_199_254_740_993));
    assert_eq!(opened.integrity, Integrity::Verified);
}

#[test]
fn labels_added_to_a_secret_only_break_its_mac() {
    let mut value = yaml::parse(&text("secret.sops.yaml"), yaml::Dialect::Kyaml).unwrap();
    value.make_map_at(["metadata", "labels"]).unwrap().insert("team", "home");
    let opened = open_value(&value, &keys()).unwrap();
    assert_eq!(opened.content.str_at(["stringData", "password"]), Some("correct horse"));
    assert_eq!(opened.integrity, Integrity::Mismatch);
    // Only encrypted values count where the document says so.
    let mut value = yaml::parse(&text("maconly.sops.yaml"), yaml::Dialect::Kyaml).unwrap();
    value.make_map_at(["metadata", "labels"]).unwrap().insert("team", "home");
    assert_eq!(open_value(&value, &keys()).unwrap().integrity, Integrity::Verified);
}

#[test]
fn a_value_that_was_changed_or_moved_is_refused_by_its_path() {
    let original = yaml::parse(&text("secret.sops.yaml"), yaml::Dialect::Kyaml).unwrap();
    let password = original.at(["stringData", "password"]).unwrap().clone();
    let refused = |value: &Value, path: &str| match open_value(value, &keys()) {
        Err(SopsError::Value { path: at, .. }) => assert_eq!(at, path),
        other => panic!("{:?}", other.map(|_| ())),
    };
    let mut moved = original.clone();
    moved.make_map_at(["stringData"]).unwrap().insert("token", password.clone());
    refused(&moved, "stringData.token");
    let mut changed = original.clone();
    let flipped = password.as_str().unwrap().replacen("data:8", "data:9", 1);
    assert_ne!(Some(flipped.as_str()), password.as_str());
    changed.make_map_at(["stringData"]).unwrap().insert("password", flipped);
    refused(&changed, "stringData.password");
    let mut plain = original;
    plain.make_map_at(["stringData"]).unwrap().insert("password", "in the clear");
    refused(&plain, "stringData.password");
}

#[test]
fn without_the_right_key_the_recipients_are_named() {
    let recipients = keys().recipients().join("");
    for ids in [Identities::default(), Identities::parse(&text("other.txt")).unwrap()] {
        let e = open_file(&data("types.sops.yaml"), Format::Yaml, Format::Yaml, &ids).map(|_| ()).unwrap_err();
        assert!(e.is_no_key());
        assert!(e.to_string().contains(&recipients), "{e}");
    }
    // One of three parts is not enough where two are asked for.
    let e = open_file(&data("shamir.sops.yaml"), Format::Yaml, Format::Yaml, &keys()).map(|_| ()).unwrap_err();
    assert!(e.is_no_key(), "{e}");
    let pgp = yaml::parse(
        "stringData: {a: 'ENC[AES256_GCM,data:8A==,iv:aa==,tag:aa==,type:str]'}\n\
         sops: {mac: 'ENC[x]', lastmodified: '', pgp: [{fp: 'ABCD', enc: x}]}\n",
        yaml::Dialect::Kyaml,
    );
    let e = open_value(&pgp.unwrap(), &keys()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(e, "no key at hand opens it: it is encrypted for PGP key ABCD (only age keys are supported)");
}

#[test]
fn a_damaged_data_key_is_told_apart_from_a_missing_one() {
    let damaged = text("types.sops.yaml").replacen("YWdlLWVuY3J5cHRpb24", "YWdlLWVuY3J5cHRpb2A", 1);
    let e = open_file(damaged.as_bytes(), Format::Yaml, Format::Yaml, &keys()).map(|_| ()).unwrap_err();
    assert!(matches!(e, SopsError::DataKey { .. }), "{e}");
    let bad =
        "a: b\nsops: {mac: 'mac: ENC[', encrypted_suffix: x, encrypted_regex: y, age: [{recipient: r, enc: e}]}\n";
    let e = open_file(bad.as_bytes(), Format::Yaml, Format::Yaml, &keys()).map(|_| ()).unwrap_err();
    assert_eq!(e.to_string(), "sops metadata: encrypted_suffix and encrypted_regex cannot be used together");
}

#[test]
fn masked_documents_hold_no_ciphertext() {
    let mut value = yaml::parse(&text("secret.sops.yaml"), yaml::Dialect::Kyaml).unwrap();
    mask_value(&mut value, &|path| placeholder(path.last().unwrap()));
    assert_eq!(value.str_at(["stringData", "password"]), Some("..PLACEHOLDER_password.."));
    assert_eq!(value.str_at(["stringData", "empty"]), Some(""));
    assert!(value.get("sops").is_none());
    for (name, format) in
        [("secret.sops.yaml", Format::Yaml), ("file.sops.json", Format::Json), ("file.sops.env", Format::Dotenv)]
    {
        let masked = String::from_utf8(mask_file(&data(name), format, format, name).unwrap()).unwrap();
        assert!(masked.contains("..PLACEHOLDER_") && !masked.contains("ENC[") && !masked.contains("sops_"), "{masked}");
    }
    assert_eq!(mask_file(&data("file.sops.bin"), Format::Binary, Format::Binary, "x").unwrap(), b"..PLACEHOLDER_x..");
}

#[test]
fn broken_files_are_errors_and_never_panics() {
    let cases: [(&str, Format); 8] = [
        ("", Format::Yaml),
        ("a: [", Format::Yaml),
        ("sops: 1\n", Format::Yaml),
        ("sops: {age: [{recipient: x, enc: y}], mac: m}\n", Format::Yaml),
        ("[]", Format::Json),
        ("{\"sops\": {\"age\": 3}}", Format::Json),
        ("A=b\nsops_age__list_99999__map_enc=x\n", Format::Dotenv),
        ("no equals sign", Format::Dotenv),
    ];
    for (text, format) in cases {
        assert!(open_file(text.as_bytes(), format, format, &keys()).is_err(), "{text}");
    }
}

/// A sops binary to compare with.
fn sops() -> Option<PathBuf> {
    let found = std::env::var_os("DRUSE_SOPS").map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: DRUSE_SOPS names no sops binary");
    }
    found
}

#[test]
fn what_sops_encrypts_now_opens_as_it_prints_it() {
    let Some(sops) = sops() else { return };
    let dir = tempfile::tempdir().unwrap();
    let keyfile = dir.path().join("keys.txt");
    std::fs::write(&keyfile, text("keys.txt")).unwrap();
    let recipient = keys().recipients().join(",");
    let long = "x ".repeat(200);
    let cases = [
        (
            "a.yaml",
            "deep:\n  - - 1\n    - [two, {three: \"4\\n5\\n\"}]\n  - |+\n    keep\n\n  - '  lead\n\n    x'\n"
                .to_string(),
        ),
        ("b.yaml", format!("# top\na: {long}\n\n# between\nb:\n    # inner\n    - x\n    # tail\nc: \"tab\\t\"\n")),
        ("c.json", r#"{"k":"é \u2028 <>","n":-0.5,"big":12345678901234567890,"o":{},"l":[]}"#.to_string()),
        ("d.env", "A=1\n#c\nB= spaced \nC='q'\n".to_string()),
        ("e.txt", "any\r\nthing\n".to_string()),
    ];
    for (name, plain) in cases {
        std::fs::write(dir.path().join(name), plain).unwrap();
        let run = |args: &[&str]| {
            let out = Command::new(&sops)
                .args(args)
                .current_dir(dir.path())
                .env("SOPS_AGE_KEY_FILE", &keyfile)
                .output()
                .unwrap();
            assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
            out.stdout
        };
        let encrypted = run(&["encrypt", "--age", &recipient, name]);
        let file = format!("encrypted-{name}");
        std::fs::write(dir.path().join(&file), &encrypted).unwrap();
        let want = run(&["decrypt", &file]);
        let format = Format::for_path(name);
        let opened = open_file(&encrypted, format, format, &keys()).unwrap();
        assert_eq!(String::from_utf8_lossy(&opened.content), String::from_utf8_lossy(&want), "{name}");
        assert_eq!(opened.integrity, Integrity::Verified, "{name}");
    }
}
