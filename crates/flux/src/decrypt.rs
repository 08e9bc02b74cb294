//! `spec.decryption`: SOPS documents among a Kustomization's objects and among the files that its kustomizations
//! generate Secrets from or patch with.
//!
//! Source of behaviour: the decryptor of fluxcd/kustomize-controller. Objects are decrypted after the build, entries of
//! Secrets that hold a whole SOPS document too; files before it. MACs of objects are not compared, as a build changes
//! objects, and not those of files either; a file's that does not hold is said.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use druse_kustomize::tree::{FileTree, Kind, MemoryTree, join};
use druse_object::{Object, Value, yaml};
use druse_sops::{Format, Identities, Integrity, Recipients, SopsError};

use crate::api::KustomizationSpec;
use crate::config::ConfigData;
use crate::error::FluxError;
use crate::generator::kustomization_file;

/// The largest encrypted file that is decrypted, as in Flux.
const MAX_FILE: usize = 5 << 20;
/// Key files in the Secret of `spec.decryption.secretRef` end so.
const AGE_KEYS: &str = ".agekey";
/// How deep kustomizations may lie in kustomizations.
const MAX_DEPTH: usize = 64;

/// The keys of a unit, and what becomes of what they do not open.
#[derive(Clone, Debug, Default)]
pub struct Decryption {
    /// The keys.
    pub keys: Identities,
    /// Whether values that no key opens get placeholders; an error otherwise.
    pub mask: bool,
}

/// Something encrypted that no key at hand opens; its values are placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The object or file.
    pub what: String,
    /// Whom it is encrypted for.
    pub recipients: Recipients,
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is SOPS encrypted for {} and no key at hand opens it: its values are placeholders",
            self.what, self.recipients
        )
    }
}

/// What decrypting had to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// What stayed closed.
    pub sealed: Vec<Sealed>,
    /// Files that were changed after they were encrypted.
    pub changed: Vec<String>,
    /// Whether anything was decrypted: the objects may hold values that are not in the tree in the clear.
    pub opened: bool,
}

/// The age keys in the Secret that `spec.decryption.secretRef` names: its entries that end in `.agekey`.
///
/// # Errors
/// When such an entry is no key file; the message names the entry and never what it holds.
pub fn keys_of_secret(data: &ConfigData) -> Result<Identities, FluxError> {
    let mut out = Identities::default();
    for (name, value) in data.iter().filter(|(name, _)| name.ends_with(AGE_KEYS)) {
        let text = String::from_utf8_lossy(value);
        let keys = Identities::parse(&text).map_err(|source| FluxError::Decryption {
            what: format!("the key '{name}' of the decryption Secret"),
            source,
        })?;
        out.extend(&keys);
    }
    Ok(out)
}

/// Whether a spec asks for decryption.
#[must_use]
pub fn is_wanted(spec: &KustomizationSpec) -> bool {
    spec.decryption.as_ref().is_some_and(|d| d.provider.is_empty() || d.provider == "sops")
}

fn is_disabled(object: &Object) -> bool {
    object.annotation("kustomize.toolkit.fluxcd.io/decrypt").is_some_and(|v| v.eq_ignore_ascii_case("disabled"))
}

/// Decrypts the objects of a build in their places.
///
/// # Errors
/// When a key opens an object but a value is not what was encrypted, or no key does and `mask` is off.
pub fn objects(objects: &mut [Object], decryption: &Decryption, notes: &mut Notes) -> Result<(), FluxError> {
    for o in objects.iter_mut().filter(|o| !is_disabled(o)) {
        if druse_sops::is_encrypted(&o.value) {
            whole(o, decryption, notes)?;
        } else if o.kind() == "Secret" {
            entries(o, decryption, notes)?;
        }
    }
    Ok(())
}

fn whole(o: &mut Object, decryption: &Decryption, notes: &mut Notes) -> Result<(), FluxError> {
    match druse_sops::open_value(&o.value, &decryption.keys) {
        Ok(opened) => {
            notes.opened = true;
            o.value = opened.content;
            Ok(())
        }
        Err(SopsError::NoKey { recipients }) if decryption.mask => {
            notes.sealed.push(Sealed { what: o.key().to_string(), recipients });
            let secret = o.kind() == "Secret";
            druse_sops::mask_value(&mut o.value, &|path| {
                let text = druse_sops::placeholder(path.last().map_or("value", |k| k.as_str()));
                if secret && path.first().is_some_and(|k| k == "data") { STANDARD.encode(text) } else { text }
            });
            Ok(())
        }
        Err(source) => Err(FluxError::Decryption { what: o.key().to_string(), source }),
    }
}

/// Entries of a Secret that hold SOPS documents, as a generator puts them there.
fn entries(o: &mut Object, decryption: &Decryption, notes: &mut Notes) -> Result<(), FluxError> {
    let name = o.key().to_string();
    let Some(data) = o.value.get_mut("data").and_then(Value::as_map_mut) else { return Ok(()) };
    for (key, value) in data.iter_mut() {
        // kustomize breaks long entries into lines.
        let text: String = value.as_str().unwrap_or_default().split_ascii_whitespace().collect();
        let Ok(bytes) = STANDARD.decode(text) else { continue };
        let Some(input) = Format::detect(&bytes) else { continue };
        let what = format!("{name} entry '{key}'");
        let plain = open_or_mask(&bytes, input, Format::for_path(key), &what, key, decryption, notes)?;
        *value = STANDARD.encode(plain).into();
    }
    Ok(())
}

fn open_or_mask(
    bytes: &[u8],
    input: Format,
    output: Format,
    what: &str,
    name: &str,
    decryption: &Decryption,
    notes: &mut Notes,
) -> Result<Vec<u8>, FluxError> {
    let failed = |source| FluxError::Decryption { what: what.to_string(), source };
    match druse_sops::open_file(bytes, input, output, &decryption.keys) {
        Ok(opened) => {
            notes.opened = true;
            if opened.integrity == Integrity::Mismatch {
                notes.changed.push(format!("{what} was changed after it was encrypted: its MAC does not hold"));
            }
            Ok(opened.content)
        }
        Err(SopsError::NoKey { recipients }) if decryption.mask => {
            notes.sealed.push(Sealed { what: what.to_string(), recipients });
            druse_sops::mask_file(bytes, input, output, name).map_err(failed)
        }
        Err(source) => Err(failed(source)),
    }
}

/// The files of a folder's kustomizations that are encrypted, decrypted: those that Secrets are generated from and
/// those that patches are read from. Put them over the tree for the build.
///
/// # Errors
/// As [`objects`].
pub fn files(
    tree: &dyn FileTree,
    dir: &str,
    decryption: &Decryption,
    notes: &mut Notes,
) -> Result<MemoryTree, FluxError> {
    let mut walk =
        Walk { tree, decryption, notes, out: MemoryTree::new(), seen: BTreeSet::new(), done: BTreeSet::new() };
    walk.kustomization(dir, 0)?;
    Ok(walk.out)
}

struct Walk<'a> {
    tree: &'a dyn FileTree,
    decryption: &'a Decryption,
    notes: &'a mut Notes,
    out: MemoryTree,
    seen: BTreeSet<String>,
    done: BTreeSet<String>,
}

impl Walk<'_> {
    fn kustomization(&mut self, dir: &str, depth: usize) -> Result<(), FluxError> {
        if depth > MAX_DEPTH || self.tree.kind(dir) != Some(Kind::Dir) || !self.seen.insert(dir.to_string()) {
            return Ok(());
        }
        // What cannot be read is the build's to complain about.
        let Some(file) = kustomization_file(self.tree, dir) else { return Ok(()) };
        let Ok(bytes) = self.tree.read(&file) else { return Ok(()) };
        let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(()) };
        let Ok(kus) = yaml::parse(text, yaml::Dialect::Sigs) else { return Ok(()) };
        for generator in kus["secretGenerator"].items() {
            for source in generator["files"].items().iter().filter_map(Value::as_str) {
                let (key, path) = source.split_once('=').unwrap_or((source, source));
                self.file(dir, path, Format::for_path(key))?;
            }
            let envs = generator["envs"].items().iter().chain(generator.get("env"));
            for path in envs.filter_map(Value::as_str) {
                let format = match Format::for_path(path) {
                    Format::Binary => Format::Dotenv,
                    other => other,
                };
                self.file(dir, path, format)?;
            }
        }
        for path in kus["patches"].items().iter().filter_map(|p| p.str_at(["path"])) {
            self.file(dir, path, Format::for_path(path))?;
        }
        for next in kus["resources"].items().iter().chain(kus["components"].items()).filter_map(Value::as_str) {
            if let Some(next) = join(dir, next) {
                self.kustomization(&next, depth + 1)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, dir: &str, path: &str, format: Format) -> Result<(), FluxError> {
        let Some(path) = join(dir, path).filter(|p| self.tree.kind(p) == Some(Kind::File)) else { return Ok(()) };
        if !self.done.insert(path.clone()) {
            return Ok(());
        }
        let Ok(bytes) = self.tree.read(&path) else { return Ok(()) };
        if !format.marks(&bytes) {
            return Ok(());
        }
        if bytes.len() > MAX_FILE {
            return Err(FluxError::Generator(format!(
                "cannot decrypt file {path} with size ({} bytes) exceeding limit ({MAX_FILE})",
                bytes.len()
            )));
        }
        let name = path.rsplit('/').next().unwrap_or(&path).to_string();
        let plain = open_or_mask(&bytes, format, format, &path, &name, self.decryption, self.notes)?;
        self.out.insert(&path, plain);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use druse_object::json;

    use super::*;
    use crate::generator;

    /// Made with sops and the key below for these tests.
    const KEY: &str = include_str!("../../sops/tests/data/keys.txt");
    const SECRET: &str = include_str!("../../sops/tests/data/secret.sops.yaml");
    const ENV: &str = include_str!("../../sops/tests/data/file.sops.env");
    const VALUES: &str = include_str!("../../sops/tests/data/types.sops.yaml");

    fn tree() -> MemoryTree {
        [
            (
                "app/kustomization.yaml",
                "resources: [secret.yaml, sub]\n\
                 secretGenerator: [{name: gen, namespace: default, envs: [file.env], files: [values.yaml=types.yaml]}]\n\
                 generatorOptions: {disableNameSuffixHash: true}\n",
            ),
            ("app/secret.yaml", SECRET),
            ("app/file.env", ENV),
            ("app/types.yaml", VALUES),
            ("app/sub/kustomization.yaml", "secretGenerator: [{name: deep, namespace: x, envs: [../file.env]}]\n"),
        ]
        .into_iter()
        .collect()
    }

    fn spec() -> KustomizationSpec {
        json::parse(br#"{"path":"app","decryption":{"provider":"sops"}}"#).unwrap().to_typed().unwrap()
    }

    fn build(decryption: &Decryption) -> Result<(Vec<Object>, Notes), FluxError> {
        let settings = generator::BuildSettings { decryption: Some(decryption), ..Default::default() };
        generator::build_with(&tree(), &spec(), &settings)
    }

    fn decoded(o: &Object, key: &str) -> String {
        String::from_utf8(crate::config::config_data(&o.value)[key].clone()).unwrap()
    }

    #[test]
    fn objects_and_generator_inputs_are_decrypted() {
        let decryption = Decryption { keys: Identities::parse(KEY).unwrap(), mask: false };
        let (built, notes) = build(&decryption).unwrap();
        let find = |name: &str| built.iter().find(|o| o.name().starts_with(name)).unwrap();
        assert_eq!(find("app").value.str_at(["stringData", "password"]), Some("correct horse"));
        assert!(find("app").value.get("sops").is_none());
        assert_eq!(decoded(find("gen"), "HOST"), "example.org");
        assert!(decoded(find("gen"), "values.yaml").starts_with("text: hello\n"));
        assert_eq!(decoded(find("deep"), "EQ"), "a=b=c");
        assert!(notes.opened && notes.sealed.is_empty() && notes.changed.is_empty());
    }

    #[test]
    fn without_a_key_there_are_placeholders_and_nothing_encrypted() {
        let decryption = Decryption { keys: Identities::default(), mask: true };
        let (built, notes) = build(&decryption).unwrap();
        let find = |name: &str| built.iter().find(|o| o.name().starts_with(name)).unwrap();
        assert_eq!(find("app").value.str_at(["stringData", "password"]), Some("..PLACEHOLDER_password.."));
        assert_eq!(decoded(find("gen"), "HOST"), "..PLACEHOLDER_HOST..");
        assert!(built.iter().all(|o| !json::to_string(&o.value).contains("ENC[")));
        assert_eq!(notes.sealed.len(), 3);
        let refused = Decryption { mask: false, ..decryption };
        let e = build(&refused).unwrap_err().to_string();
        assert!(e.contains("no key at hand opens it"), "{e}");
    }

    #[test]
    fn key_entries_of_a_secret_are_read_by_their_ending() {
        let data = ConfigData::from([
            ("home.agekey".to_string(), KEY.as_bytes().to_vec()),
            ("identity.asc".to_string(), b"PGP".to_vec()),
        ]);
        assert_eq!(keys_of_secret(&data).unwrap().recipients().len(), 1);
        let bad = ConfigData::from([("home.agekey".to_string(), b"hunter2".to_vec())]);
        let e = keys_of_secret(&bad).unwrap_err().to_string();
        assert!(e.contains("'home.agekey'") && !e.contains("hunter2"), "{e}");
    }
}
