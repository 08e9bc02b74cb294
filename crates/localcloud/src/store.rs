//! What the local cloud keeps: parameters with their versions, secrets, objects. Values are sealed; names are not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use druse_identity::file::write_private;
use druse_identity::seal::Sealer;
use druse_object::{Map, Value, json};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::CloudError;

/// One version of a parameter or secret.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Version {
    pub(crate) number: i64,
    pub(crate) sealed: String,
    pub(crate) labels: Vec<String>,
    pub(crate) at: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameter {
    pub(crate) kind: String,
    pub(crate) key_id: Option<String>,
    pub(crate) description: String,
    pub(crate) tier: String,
    pub(crate) versions: Vec<Version>,
}

impl Parameter {
    pub(crate) fn latest(&self) -> Option<&Version> {
        self.versions.last()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Secret {
    pub(crate) suffix: String,
    pub(crate) key_id: Option<String>,
    pub(crate) binary: bool,
    pub(crate) description: String,
    pub(crate) versions: Vec<Version>,
}

impl Secret {
    /// One without a value.
    pub(crate) fn new(key_id: Option<String>, description: &str) -> Self {
        let suffix = crate::auth::random_text(6, crate::secretsmanager::SUFFIX);
        Self { suffix, key_id, binary: false, description: description.into(), versions: Vec::new() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) body: Vec<u8>,
    pub(crate) content_type: String,
    pub(crate) cache_control: String,
    pub(crate) at: i64,
}

#[derive(Debug)]
pub(crate) struct Store {
    path: Option<PathBuf>,
    sealer: Sealer,
    pub(crate) parameters: BTreeMap<String, Parameter>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) objects: BTreeMap<(String, String), Stored>,
    /// How often it was kept.
    pub(crate) kept: watch::Sender<u64>,
}

impl Store {
    pub(crate) fn open(dir: Option<&Path>) -> Result<Self, CloudError> {
        let Some(dir) = dir else {
            return Ok(Self::empty(None, Sealer::ephemeral()?));
        };
        std::fs::create_dir_all(dir).map_err(|e| CloudError::file(dir, e))?;
        let sealer = Sealer::open(&dir.join("store.key"))?;
        let path = dir.join("store.json");
        let mut store = Self::empty(Some(path.clone()), sealer);
        match std::fs::read(&path) {
            Ok(text) => store.read(&text).map_err(|e| CloudError::file(&path, e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(CloudError::file(&path, e)),
        }
        // Found now rather than at the first request.
        if let Some((name, v)) = store.parameters.iter().find_map(|(n, p)| Some((n, p.latest()?))) {
            store.open_version("parameter", name, v)?;
        }
        Ok(store)
    }

    fn empty(path: Option<PathBuf>, sealer: Sealer) -> Self {
        Self {
            path,
            sealer,
            parameters: BTreeMap::new(),
            secrets: BTreeMap::new(),
            objects: BTreeMap::new(),
            kept: watch::Sender::new(0),
        }
    }

    pub(crate) fn seal(&self, kind: &str, name: &str, number: i64, value: &[u8]) -> Result<String, CloudError> {
        Ok(STANDARD.encode(self.sealer.seal(value, format!("{kind} {name}:{number}").as_bytes())?))
    }

    pub(crate) fn open_version(&self, kind: &str, name: &str, v: &Version) -> Result<Zeroizing<Vec<u8>>, CloudError> {
        let name = format!("{kind} {name}:{}", v.number);
        let sealed = STANDARD.decode(&v.sealed).ok();
        let opened = sealed.and_then(|s| self.sealer.open_sealed(&s, name.as_bytes()).ok());
        opened.ok_or(CloudError::Seal(name))
    }

    /// Whether a secret has a value: one that is declared is there before it has.
    pub(crate) fn has_secret(&self, name: &str) -> bool {
        self.secrets.get(name).is_some_and(|s| !s.versions.is_empty())
    }

    /// Makes a value the current one of a secret; returns the version.
    pub(crate) fn put_secret(
        &mut self,
        name: &str,
        mut secret: Secret,
        value: &[u8],
        now: i64,
    ) -> Result<Version, CloudError> {
        let number = secret.versions.last().map_or(1, |v| v.number + 1);
        let sealed = self.seal("secret", name, number, value)?;
        for v in &mut secret.versions {
            v.labels = match v.labels.iter().any(|l| l == "AWSCURRENT") {
                true => vec!["AWSPREVIOUS".into()],
                false => Vec::new(),
            };
        }
        let version = Version { number, sealed, labels: vec!["AWSCURRENT".into()], at: now };
        secret.versions.push(version.clone());
        self.secrets.insert(name.to_string(), secret);
        Ok(version)
    }

    fn read(&mut self, text: &[u8]) -> Result<(), String> {
        let v = json::parse(text).map_err(|e| e.to_string())?;
        let entries = |name: &str| v.get(name).and_then(Value::as_map).cloned().unwrap_or_default();
        let string = |v: &Value, name: &str| v.str_at([name]).unwrap_or_default().to_string();
        let versions = |v: &Value| -> Result<Vec<Version>, String> {
            let read = |x: &Value| {
                Some(Version {
                    number: x.get("number")?.as_i64()?,
                    sealed: x.str_at(["sealed"])?.to_string(),
                    labels: x.get("labels")?.items().iter().filter_map(Value::as_str).map(str::to_string).collect(),
                    at: x.get("at")?.as_i64()?,
                })
            };
            v.get("versions")
                .map(Value::items)
                .unwrap_or_default()
                .iter()
                .map(read)
                .collect::<Option<_>>()
                .ok_or_else(|| "a version in it is damaged".to_string())
        };
        for (name, p) in entries("parameters").iter() {
            let parameter = Parameter {
                kind: string(p, "type"),
                key_id: p.str_at(["keyId"]).map(str::to_string),
                description: string(p, "description"),
                tier: string(p, "tier"),
                versions: versions(p)?,
            };
            self.parameters.insert(name.to_string(), parameter);
        }
        for (name, s) in entries("secrets").iter() {
            let secret = Secret {
                suffix: string(s, "suffix"),
                key_id: s.str_at(["keyId"]).map(str::to_string),
                binary: s.get("binary").and_then(Value::as_bool).unwrap_or_default(),
                description: string(s, "description"),
                versions: versions(s)?,
            };
            self.secrets.insert(name.to_string(), secret);
        }
        for o in v.get("objects").map(Value::items).unwrap_or_default() {
            let stored = Stored {
                body: STANDARD.decode(string(o, "body")).map_err(|e| e.to_string())?,
                content_type: string(o, "contentType"),
                cache_control: string(o, "cacheControl"),
                at: o.get("at").and_then(Value::as_i64).unwrap_or_default(),
            };
            self.objects.insert((string(o, "bucket"), string(o, "key")), stored);
        }
        Ok(())
    }

    /// Keeps everything, whole or not at all, and tells who waits for changes.
    pub(crate) fn save(&self) -> Result<(), CloudError> {
        if let Some(path) = &self.path {
            self.write(path)?;
        }
        self.kept.send_modify(|times| *times += 1);
        Ok(())
    }

    fn write(&self, path: &Path) -> Result<(), CloudError> {
        let versions = |all: &[Version]| {
            let one = |v: &Version| {
                let mut m = Map::new();
                m.insert("number", v.number);
                m.insert("sealed", v.sealed.as_str());
                m.insert("labels", v.labels.iter().map(String::as_str).collect::<Value>());
                m.insert("at", v.at);
                Value::Map(m)
            };
            all.iter().map(one).collect::<Value>()
        };
        let mut parameters = Map::new();
        for (name, p) in &self.parameters {
            let mut m = Map::new();
            m.insert("type", p.kind.as_str());
            m.insert("keyId", p.key_id.as_deref().map(Value::from));
            m.insert("description", p.description.as_str());
            m.insert("tier", p.tier.as_str());
            m.insert("versions", versions(&p.versions));
            parameters.insert(name.as_str(), m);
        }
        let mut secrets = Map::new();
        for (name, s) in &self.secrets {
            let mut m = Map::new();
            m.insert("suffix", s.suffix.as_str());
            m.insert("keyId", s.key_id.as_deref().map(Value::from));
            m.insert("binary", s.binary);
            m.insert("description", s.description.as_str());
            m.insert("versions", versions(&s.versions));
            secrets.insert(name.as_str(), m);
        }
        let objects = self.objects.iter().map(|((bucket, key), o)| {
            let mut m = Map::new();
            m.insert("bucket", bucket.as_str());
            m.insert("key", key.as_str());
            m.insert("body", STANDARD.encode(&o.body));
            m.insert("contentType", o.content_type.as_str());
            m.insert("cacheControl", o.cache_control.as_str());
            m.insert("at", o.at);
            Value::Map(m)
        });
        let mut all = Map::new();
        all.insert("parameters", parameters);
        all.insert("secrets", secrets);
        all.insert("objects", objects.collect::<Value>());
        write_private(path, json::to_string(&Value::Map(all)).as_bytes()).map_err(|e| CloudError::file(path, e))
    }
}
