//! The record of a release, as Helm stores it: a Secret `sh.helm.release.v1.NAME.vN` whose `release` entry is the
//! base64 of gzipped JSON (and, as all Secret data, base64 once more). `helm list` and `helm get` read it.

use std::io::{Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use druse_object::{Map, Object, Value, json};

use crate::chart::{Chart, File};
use crate::error::HelmError;
use crate::manifest::Hook;

/// The type of a release Secret.
pub const SECRET_TYPE: &str = "helm.sh/release.v1";
/// How hard records are compressed. Helm takes the best level, 9; readers take any, and this one is much quicker for
/// little more space.
const LEVEL: u32 = 4;
/// How much a record may unpack to, in bytes.
const MAX_RECORD: u64 = 256 * 1024 * 1024;

/// A release's record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReleaseRecord {
    /// The release's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its revision, from 1.
    pub version: i64,
    /// `deployed`, `superseded`, `failed`, `uninstalled`, `uninstalling`, `pending-install`, `pending-upgrade`,
    /// `pending-rollback` or `unknown`.
    pub status: String,
    /// What happened last, in words (`Install complete`).
    pub description: String,
    /// When revision 1 was installed, RFC 3339; empty when unknown.
    pub first_deployed: String,
    /// When this revision was applied, RFC 3339; empty when unknown.
    pub last_deployed: String,
    /// When it was uninstalled, RFC 3339; empty when it was not.
    pub deleted: String,
    /// The rendered `NOTES.txt`.
    pub notes: String,
    /// The chart, as [`chart_value`] makes it.
    pub chart: Value,
    /// The values given to the chart.
    pub config: Value,
    /// All manifests, each headed by `---` and `# Source: …`.
    pub manifest: String,
    /// Hooks, as [`hook_value`] makes them.
    pub hooks: Vec<Value>,
    /// `ssa` or `csa`; empty counts as `csa`.
    pub apply_method: String,
    /// Labels of the Secret besides Helm's own.
    pub labels: Vec<(String, String)>,
}

/// The JSON form of a chart in a record: of the chart itself without its subcharts, as Helm stores it; `values` are the
/// defaults after dependency processing.
#[must_use]
pub fn chart_value(chart: &Chart, values: &Value) -> Value {
    let files = |list: &[File]| -> Value {
        if list.is_empty() {
            return Value::Null;
        }
        list.iter()
            .map(|f| {
                [("name", Value::from(&f.name)), ("data", Value::from(STANDARD.encode(&f.data)))]
                    .into_iter()
                    .collect::<Map>()
            })
            .collect()
    };
    let mut out = Map::new();
    out.insert("metadata", chart.metadata.to_value());
    out.insert("lock", chart.lock.clone());
    out.insert("templates", files(&chart.templates));
    let mut values = values.clone();
    values.sort_keys();
    out.insert("values", values);
    out.insert("schema", chart.schema.as_ref().map(|s| STANDARD.encode(s)));
    out.insert("schemamodtime", "0001-01-01T00:00:00Z");
    out.insert("files", files(&chart.files));
    Value::Map(out)
}

/// The JSON form of a hook in a record; `last_run` is its last execution (`started_at`, `completed_at`, `phase`), if any.
#[must_use]
pub fn hook_value(hook: &Hook, last_run: Option<Value>) -> Value {
    let mut out = Map::new();
    let list = |l: &[String]| -> Value { l.iter().map(String::as_str).collect() };
    out.insert("name", hook.name.as_str());
    out.insert("kind", hook.kind.as_str());
    out.insert("path", hook.manifest.template.as_ref());
    out.insert("manifest", hook.manifest.text.as_str());
    out.insert("events", list(&hook.events));
    out.insert("last_run", last_run.unwrap_or_else(|| Value::Map([("phase", "")].into_iter().collect())));
    if hook.weight != 0 {
        out.insert("weight", hook.weight);
    }
    if !hook.delete_policies.is_empty() {
        out.insert("delete_policies", list(&hook.delete_policies));
    }
    if !hook.output_log_policies.is_empty() {
        out.insert("output_log_policies", list(&hook.output_log_policies));
    }
    Value::Map(out)
}

impl ReleaseRecord {
    /// The name of the Secret that holds a revision.
    #[must_use]
    pub fn secret_name(name: &str, version: i64) -> String {
        format!("sh.helm.release.v1.{name}.v{version}")
    }

    /// The record as JSON.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let put = |m: &mut Map, key: &str, text: &str| {
            if !text.is_empty() {
                m.insert(key, text);
            }
        };
        let mut info = Map::new();
        put(&mut info, "first_deployed", &self.first_deployed);
        put(&mut info, "last_deployed", &self.last_deployed);
        put(&mut info, "deleted", &self.deleted);
        put(&mut info, "description", &self.description);
        put(&mut info, "status", &self.status);
        put(&mut info, "notes", &self.notes);
        let mut out = Map::new();
        put(&mut out, "name", &self.name);
        out.insert("info", info);
        if !self.chart.is_null() {
            out.insert("chart", self.chart.clone());
        }
        if self.config.as_map().is_some_and(|m| !m.is_empty()) {
            let mut config = self.config.clone();
            config.sort_keys();
            out.insert("config", config);
        }
        put(&mut out, "manifest", &self.manifest);
        if !self.hooks.is_empty() {
            out.insert("hooks", self.hooks.clone());
        }
        if self.version != 0 {
            out.insert("version", self.version);
        }
        put(&mut out, "namespace", &self.namespace);
        put(&mut out, "apply_method", &self.apply_method);
        Value::Map(out)
    }

    /// Reads a record's JSON.
    #[must_use]
    pub fn from_value(v: &Value) -> Self {
        let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or("").to_owned();
        let info = |key: &str| text(v.at(["info", key]));
        Self {
            name: text(v.get("name")),
            namespace: text(v.get("namespace")),
            version: v.get("version").and_then(Value::as_i64).unwrap_or(0),
            status: info("status"),
            description: info("description"),
            first_deployed: info("first_deployed"),
            last_deployed: info("last_deployed"),
            deleted: info("deleted"),
            notes: info("notes"),
            chart: v["chart"].clone(),
            config: v["config"].clone(),
            manifest: text(v.get("manifest")),
            hooks: v["hooks"].items().to_vec(),
            apply_method: text(v.get("apply_method")),
            labels: Vec::new(),
        }
    }

    /// The text of the Secret's `release` entry (before the base64 that all Secret data has).
    ///
    /// # Errors
    /// Never in practice: compressing in memory does not fail.
    pub fn encode(&self) -> Result<String, HelmError> {
        let text = json::to_string(&self.to_value());
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(LEVEL));
        gz.write_all(text.as_bytes())
            .and_then(|()| gz.finish())
            .map(|bytes| STANDARD.encode(bytes))
            .map_err(|e| HelmError::Record(format!("cannot encode release {}: {e}", self.name)))
    }

    /// Reads the text of a Secret's `release` entry; records from before compression too.
    ///
    /// # Errors
    /// When it is not base64, gzip or JSON.
    pub fn decode(text: &str) -> Result<Self, HelmError> {
        let fail = |e: String| HelmError::Record(format!("cannot decode release: {e}"));
        let mut bytes = STANDARD.decode(text.trim()).map_err(|e| fail(e.to_string()))?;
        if bytes.starts_with(&[0x1f, 0x8b, 0x08]) {
            let mut out = Vec::new();
            flate2::read::GzDecoder::new(bytes.as_slice())
                .take(MAX_RECORD)
                .read_to_end(&mut out)
                .map_err(|e| fail(e.to_string()))?;
            bytes = out;
        }
        let value = json::parse(&bytes).map_err(|e| fail(e.to_string()))?;
        Ok(Self::from_value(&value))
    }

    /// The Secret that stores this record; `created` and `modified` are Unix times in seconds for Helm's labels.
    ///
    /// # Errors
    /// As [`ReleaseRecord::encode`].
    pub fn to_secret(&self, created: Option<i64>, modified: Option<i64>) -> Result<Object, HelmError> {
        let mut labels: Vec<(String, String)> = self.labels.clone();
        labels.extend(created.map(|t| ("createdAt".into(), t.to_string())));
        labels.extend(modified.map(|t| ("modifiedAt".into(), t.to_string())));
        labels.push(("name".into(), self.name.clone()));
        labels.push(("owner".into(), "helm".into()));
        labels.push(("status".into(), self.status.clone()));
        labels.push(("version".into(), self.version.to_string()));
        labels.sort();
        let mut meta = Map::new();
        meta.insert("name", Self::secret_name(&self.name, self.version));
        meta.insert("namespace", self.namespace.as_str());
        meta.insert("labels", labels.into_iter().collect::<Map>());
        let mut out = Map::new();
        out.insert("apiVersion", "v1");
        out.insert("kind", "Secret");
        out.insert("metadata", meta);
        out.insert("type", SECRET_TYPE);
        let data = STANDARD.encode(self.encode()?);
        out.insert("data", [("release", data)].into_iter().collect::<Map>());
        Ok(Object::new(Value::Map(out)))
    }

    /// Reads the record a release Secret holds.
    ///
    /// # Errors
    /// When the Secret has no `release` entry or it does not decode.
    pub fn from_secret(secret: &Value) -> Result<Self, HelmError> {
        let data = secret
            .str_at(["data", "release"])
            .ok_or_else(|| HelmError::Record("the Secret has no data.release".into()))?;
        let inner = STANDARD.decode(data).map_err(|e| HelmError::Record(format!("cannot decode release: {e}")))?;
        let mut record = Self::decode(&String::from_utf8_lossy(&inner))?;
        let own = ["name", "owner", "status", "version", "createdAt", "modifiedAt"];
        if let Some(labels) = secret.at(["metadata", "labels"]).and_then(Value::as_map) {
            record.labels = labels
                .iter()
                .filter(|(k, _)| !own.contains(&k.as_str()))
                .map(|(k, v)| (k.to_string(), v.as_str().unwrap_or("").to_owned()))
                .collect();
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_secret() {
        let record = ReleaseRecord {
            name: "web".into(),
            namespace: "apps".into(),
            version: 3,
            status: "deployed".into(),
            description: "Upgrade complete".into(),
            first_deployed: "2026-01-01T00:00:00Z".into(),
            manifest: "---\n# Source: a/b.yaml\nkind: X\n".into(),
            config: Value::Map([("a", 1_i64)].into_iter().collect()),
            labels: vec![("team".into(), "x".into())],
            ..ReleaseRecord::default()
        };
        let secret = record.to_secret(Some(5), None).expect("encodes");
        assert_eq!(secret.name(), "sh.helm.release.v1.web.v3");
        assert_eq!(secret.label("status"), Some("deployed"));
        assert_eq!(ReleaseRecord::from_secret(&secret.value).expect("decodes"), record);
        assert!(ReleaseRecord::decode("%%%").is_err());
    }
}
