//! ConfigMaps and Secrets that other objects read: where they come from and what they hold.

use std::collections::BTreeMap;

use base64::Engine as _;
use druse_object::Value;

/// The decoded entries of a ConfigMap or Secret.
pub type ConfigData = BTreeMap<String, Vec<u8>>;

/// The entry that says of a Secret which something makes in a cluster that it may have entries beyond those known.
/// No real entry can be called so.
pub const ANY_ENTRY: &str = "*";

/// Whether an entry is only a placeholder for a value that is not known here.
#[must_use]
pub fn is_placeholder(value: &[u8]) -> bool {
    let prefix = druse_sops::PLACEHOLDER_PREFIX.as_bytes();
    value.windows(prefix.len()).any(|w| w == prefix)
}

/// Where ConfigMaps and Secrets are looked up: the plan's own objects, or what a controller fetched beforehand.
pub trait ConfigSource {
    /// The entries of a `ConfigMap` or `Secret`; `None` when there is no such object.
    fn config(&self, kind: &str, namespace: &str, name: &str) -> Option<ConfigData>;
}

/// A source that holds nothing.
pub struct NoConfig;

impl ConfigSource for NoConfig {
    fn config(&self, _: &str, _: &str, _: &str) -> Option<ConfigData> {
        None
    }
}

/// Objects fetched beforehand, by kind, namespace and name.
impl ConfigSource for BTreeMap<(String, String, String), ConfigData> {
    fn config(&self, kind: &str, namespace: &str, name: &str) -> Option<ConfigData> {
        self.get(&(kind.to_string(), namespace.to_string(), name.to_string())).cloned()
    }
}

/// The entries of a ConfigMap (`data`, `binaryData`) or Secret (`data`, over which `stringData` goes).
/// Entries that are not base64 where they must be are left out, as no API server would have taken them.
#[must_use]
pub fn config_data(object: &Value) -> ConfigData {
    let secret = object.str_at(["kind"]) == Some("Secret");
    let mut out = ConfigData::new();
    let encoded = |field: &str, out: &mut ConfigData| {
        for (k, v) in object.get(field).and_then(Value::as_map).into_iter().flat_map(|m| m.iter()) {
            let text: String = v.as_str().unwrap_or_default().split_ascii_whitespace().collect();
            if let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) {
                out.insert(k.to_string(), bytes);
            }
        }
    };
    encoded(if secret { "data" } else { "binaryData" }, &mut out);
    for (k, v) in object
        .get(if secret { "stringData" } else { "data" })
        .and_then(Value::as_map)
        .into_iter()
        .flat_map(|m| m.iter())
    {
        out.insert(k.to_string(), v.as_str().unwrap_or_default().as_bytes().to_vec());
    }
    out
}
