//! Secrets made of what volumes hold: only for classes with `secretObjects`, only once something is mounted, and gone with
//! the last that owns them.
//!
//! As upstream's SecretProviderClassPodStatus controller, with one difference on purpose: a Secret of that name that no
//! driver made (it lacks the label [`MANAGED_LABEL`]) is left as it is, and an Event on the pod says so.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use druse_object::{Map, Value, json};
use druse_runtime::{Api, Caches, Key, Manager, Next, Reconciler, Resource};
use http::Method;
use zeroize::Zeroizing;

use crate::class::{NODE_LABEL, PodStatus, classes, pods, statuses, strings};
use crate::kubelet::volume_of;
use crate::mount::pod_and_volume;
use crate::node::Node;
use crate::sealed::to_json;
use crate::volume::Volume;

/// On Secrets that the driver made.
pub const MANAGED_LABEL: &str = "secrets-store.csi.k8s.io/managed";
/// How often a Secret is looked at again that nothing seems to have happened to.
const AGAIN: Duration = Duration::from_secs(300);
/// How soon, where something it needs is not there.
const SOON: Duration = Duration::from_secs(5);

struct Sync {
    node: Node,
    /// With the rights to make Secrets.
    api: Api,
    secrets: Resource,
    /// Watches end with the last who holds them.
    _caches: Caches,
}

/// Keeps the Secrets of this node's volumes, until `manager` is dropped.
pub fn start(manager: &Manager, caches: &Caches, node: &Node) {
    // Of this node alone: what others mount is theirs, and would only take memory.
    let own = format!("{NODE_LABEL}={}", node.settings().node);
    start_as(manager, caches, node, &own, node.api());
}

/// As [`start`], for the volumes whose status objects a label selector selects, and with the rights that `api` has.
pub fn start_as(manager: &Manager, caches: &Caches, node: &Node, selected: &str, api: &Api) {
    let queue = manager.queue();
    manager.watch_mapped(&queue, &caches.labelled(&statuses(), selected), |change| {
        change.new.as_ref().map(|_| change.key.clone()).into_iter().collect()
    });
    let secrets = Resource::new("", "v1", "Secret", "secrets", true);
    manager.run(
        "secret-sync",
        &queue,
        Arc::new(Sync { node: node.clone(), api: api.clone(), secrets, _caches: caches.clone() }),
        4,
    );
}

impl Reconciler for Sync {
    async fn reconcile(&self, key: Key) -> Next {
        match self.sync(&key).await {
            Ok(next) => next,
            Err(e) => {
                tracing::warn!(%key, "{e}");
                Next::Retry
            }
        }
    }
}

impl Sync {
    async fn sync(&self, key: &Key) -> Result<Next, String> {
        let api = self.node.api();
        let get = async |r: &Resource, name: &str| {
            let got = api.get(r, &key.namespace, name).await;
            got.map_err(|e| format!("{} {}/{name} cannot be read: {e}", r.gvk.kind, key.namespace))
        };
        let Some(object) = get(&statuses(), &key.name).await? else { return Ok(Next::Wait) };
        let Some(status) = PodStatus::of(&object) else { return Ok(Next::Wait) };
        let Some(class) = get(&classes(), &status.class).await? else { return Ok(Next::After(SOON)) };
        if class["spec"]["secretObjects"].items().is_empty() {
            return Ok(Next::Wait);
        }
        let Some(pod) = get(&pods(), &status.pod.name).await? else { return Ok(Next::After(SOON)) };
        let ended = matches!(pod.str_at(["status", "phase"]), Some("Succeeded" | "Failed"));
        if ended || pod.at(["metadata", "deletionTimestamp"]).is_some_and(|t| !t.is_null()) {
            return Ok(Next::Wait);
        }
        // Status objects can be written by others than drivers: what is read must be this pod's own volume.
        let Some(volume) = volume_of(&pod, &status.class) else {
            return Err(format!("{key}: pod {} has no volume of class {:?}", status.pod, status.class));
        };
        let uid = pod.str_at(["metadata", "uid"]).unwrap_or_default();
        let target = Path::new(&status.target_path);
        if pod_and_volume(target) != Some((uid, volume["name"].as_str().unwrap_or_default())) {
            return Err(format!("{key}: {} is not the volume's path of pod {}", target.display(), status.pod));
        }
        let owners = owners(&pod, &object);
        let provider = class.str_at(["spec", "provider"]).unwrap_or_default();
        let mut next = Next::After(AGAIN);
        for wanted in class["spec"]["secretObjects"].items() {
            let begun = Instant::now();
            match self.one(&key.namespace, wanted, target, &owners).await {
                Ok(true) => self.node.metrics().synced(provider, begun.elapsed()),
                Ok(false) => {}
                Err(why) => {
                    let name = wanted["secretName"].as_str().unwrap_or_default();
                    let message =
                        format!("Secret {name:?} of SecretProviderClass {}/{}: {why}", key.namespace, status.class);
                    tracing::warn!("{message}");
                    self.node.events().event(&pod, true, "FailedToCreateSecret", &message, &[]).await;
                    next = Next::Retry;
                }
            }
        }
        Ok(next)
    }

    /// Makes or updates one Secret; whether anything had to be done.
    async fn one(&self, namespace: &str, wanted: &Value, target: &Path, owners: &[Value]) -> Result<bool, String> {
        let api = &self.api;
        let text = |field: &str| wanted[field].as_str().unwrap_or_default().trim();
        let (name, kind) = (text("secretName"), text("type"));
        if name.is_empty() {
            return Err("secretName is not set".into());
        }
        if kind.is_empty() {
            return Err("type is not set; Opaque is the usual one".into());
        }
        let data = read(wanted, kind, target)?;
        // Somebody else may change the Secret meanwhile, another node's driver above all. Its data is never asked for: what
        // it should be is written, and the API keeps an object's version where nothing changes.
        for _ in 0..5 {
            let current = api.metadata(&self.secrets, namespace, name).await.map_err(|e| explain(&e))?;
            let managed = |c: &Value| c.str_at(["metadata", "labels", MANAGED_LABEL]) == Some("true");
            if current.as_ref().is_some_and(|c| !managed(c)) {
                return Err(format!(
                    "there is a Secret of this name that the driver did not make; it is left alone. Rename either, or \
                     label it {MANAGED_LABEL}=true"
                ));
            }
            let object = secret(namespace, name, kind, wanted, owners, current.as_ref());
            let json = with_data(&object, &data).ok_or("it cannot be written as JSON")?;
            let (method, path) = match current {
                None => (Method::POST, self.secrets.path(namespace, "", "")),
                Some(_) => (Method::PUT, self.secrets.path(namespace, name, "")),
            };
            match api.write_sealed(method, &path, json).await {
                Err(e) if e.is_conflict() => {}
                Err(e) => return Err(explain(&e)),
                Ok(now) => {
                    let version = |o: &Value| o.str_at(["metadata", "resourceVersion"]).map(str::to_owned);
                    return Ok(current.as_ref().and_then(version) != version(&now));
                }
            }
        }
        Err("others keep changing it".into())
    }
}

/// An object as JSON, with a Secret's data: in text that is zeroed.
fn with_data(object: &Value, data: &BTreeMap<String, Zeroizing<String>>) -> Option<Zeroizing<Vec<u8>>> {
    let data: BTreeMap<&str, &str> = data.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let (head, data) = (json::to_string(object), to_json(&data).ok()?);
    let head = head.strip_suffix('}')?;
    let key = ",\"data\":";
    let mut out = Zeroizing::new(Vec::with_capacity(head.len() + key.len() + data.len() + 1));
    for part in [head.as_bytes(), key.as_bytes(), &data, b"}"] {
        out.extend_from_slice(part);
    }
    Some(out)
}

/// Who keeps the Secret alive: what owns the pod, so that it outlives a pod that is replaced; of a pod nobody owns, its
/// status object.
fn owners(pod: &Value, status: &Value) -> Vec<Value> {
    let fields = ["apiVersion", "kind", "name", "uid"];
    let of_pod = pod["metadata"]["ownerReferences"].items();
    if !of_pod.is_empty() {
        let plain = |o: &Value| Value::Map(fields.iter().map(|f| (*f, o[*f].clone())).collect());
        return of_pod.iter().map(plain).collect();
    }
    let mut owner = Map::new();
    owner.insert("apiVersion", status["apiVersion"].clone());
    owner.insert("kind", status["kind"].clone());
    owner.insert("name", status["metadata"]["name"].clone());
    owner.insert("uid", status["metadata"]["uid"].clone());
    vec![Value::Map(owner)]
}

/// The Secret's data: of each file that is asked for, its content; of TLS Secrets, the part that belongs under the key.
fn read(wanted: &Value, kind: &str, target: &Path) -> Result<BTreeMap<String, Zeroizing<String>>, String> {
    let entries = wanted["data"].items();
    if entries.is_empty() {
        return Err("data is empty".into());
    }
    let volume = Volume::open(target, None).map_err(|e| format!("the volume cannot be read: {e}"))?;
    let mut data = BTreeMap::new();
    for entry in entries {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().trim();
        let (file, key) = (text("objectName"), text("key"));
        if file.is_empty() || key.is_empty() {
            return Err("an entry of data lacks objectName or key".into());
        }
        let content = volume.read(file).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                format!("no file {file:?} is mounted; objectName is the file's name in the volume")
            }
            _ => e.to_string(),
        })?;
        let content = if kind == "kubernetes.io/tls" { tls_part(&content, file, key)? } else { content };
        data.insert(key.to_owned(), Zeroizing::new(BASE64_STANDARD.encode(&*content)));
    }
    Ok(data)
}

/// The certificates or the key in a PEM file. Keys stay in the encoding they have.
fn tls_part(content: &[u8], file: &str, key: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let certificates = match key {
        "tls.crt" => true,
        "tls.key" => false,
        _ => return Err(format!("a Secret of type kubernetes.io/tls has keys tls.crt and tls.key, not {key:?}")),
    };
    let text = std::str::from_utf8(content).map_err(|_| format!("file {file:?} is not PEM; PKCS#12 is not read"))?;
    let mut out = Zeroizing::new(Vec::with_capacity(content.len() + 1));
    let mut inside = None;
    for line in text.lines().map(str::trim_end) {
        if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----")) {
            inside = Some((label == "CERTIFICATE") == certificates);
        }
        if inside == Some(true) {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        if line.starts_with("-----END ") {
            inside = None;
        }
    }
    if out.is_empty() {
        let what = if certificates { "certificate" } else { "private key" };
        return Err(format!("there is no {what} in PEM form in file {file:?}"));
    }
    Ok(out)
}

/// The Secret as it should be but for its data, over what its metadata is now: type, labels and annotations are the class's,
/// owners are only added.
fn secret(namespace: &str, name: &str, kind: &str, wanted: &Value, owners: &[Value], current: Option<&Value>) -> Value {
    let mut object = current.cloned().unwrap_or_default();
    if let Some(m) = object.make_map() {
        m.insert("apiVersion", "v1");
        m.insert("kind", "Secret");
        m.insert("type", kind);
    }
    let mut all = object["metadata"]["ownerReferences"].items().to_vec();
    for owner in owners {
        if !all.iter().any(|o| o["uid"] == owner["uid"]) {
            all.push(owner.clone());
        }
    }
    if let Some(m) = object.make_map_at(["metadata"]) {
        m.insert("name", name);
        m.insert("namespace", namespace);
        m.insert("ownerReferences", Value::Array(all));
    }
    let mut labels = strings(&wanted["labels"]);
    labels.insert(MANAGED_LABEL.into(), "true".into());
    for (field, wanted) in [("labels", labels), ("annotations", strings(&wanted["annotations"]))] {
        if !wanted.is_empty()
            && let Some(m) = object.make_map_at(["metadata", field])
        {
            wanted.into_iter().for_each(|(k, v)| drop(m.insert(k, v)));
        }
    }
    object
}

fn explain(e: &druse_runtime::ApiError) -> String {
    match e.code() {
        403 => format!("{e}. With upstream's chart, set syncSecret.enabled=true"),
        _ => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pem_file_gives_its_certificates_or_its_key() {
        let pem =
            b"junk\n-----BEGIN PRIVATE KEY-----\nKEY\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\r\nA\n\
            -----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nB\n-----END CERTIFICATE-----";
        let part = |key| tls_part(pem, "f", key).map(|p| String::from_utf8(p.to_vec()).unwrap());
        assert_eq!(part("tls.key").unwrap(), "-----BEGIN PRIVATE KEY-----\nKEY\n-----END PRIVATE KEY-----\n");
        let certificates = part("tls.crt").unwrap();
        assert_eq!(certificates.matches("BEGIN CERTIFICATE").count(), 2);
        assert!(!certificates.contains("KEY") && !certificates.contains("junk") && !certificates.contains('\r'));
        assert!(part("ca.crt").unwrap_err().contains("tls.crt and tls.key"));
        assert!(tls_part(b"nothing", "f", "tls.key").unwrap_err().contains("no private key"));
        assert!(tls_part(b"\xff\x00", "f", "tls.key").unwrap_err().contains("PKCS#12"));
    }
}
