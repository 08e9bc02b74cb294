//! A mount request, as the driver passes it on.

use druse_aws::sealed::Json;
use druse_object::{Map, Value};
use zeroize::Zeroizing;

use super::ProviderError;

/// The pod that a mount is for, as the driver says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its ServiceAccount.
    pub account: String,
}

impl std::fmt::Display for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is to be mounted, and for whom.
#[derive(Clone)]
pub struct Request {
    /// For whom.
    pub pod: Pod,
    /// The class' parameters.
    pub parameters: Value,
    /// The tokens that the kubelet passes, as JSON.
    pub tokens: Option<Zeroizing<String>>,
    /// The permissions of files whose object names none.
    pub mode: u32,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("pod", &self.pod).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// What the attributes about the pod start with.
const POD: &str = "csi.storage.k8s.io/";
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

impl Request {
    /// From the JSON of a `MountRequest`: its `attributes` (the class' parameters and what the kubelet tells of the pod)
    /// and its `permission` (a number, in decimal).
    ///
    /// # Errors
    /// What is missing or malformed; no attribute's value is shown.
    pub fn of_driver(attributes: &str, permission: &str) -> Result<Self, ProviderError> {
        let wrong = |what: String| ProviderError::request("(unknown)", what);
        let all = Json::parse(attributes.as_bytes()).map_err(|e| wrong(format!("its attributes are {e}")))?;
        let Json::Map(entries) = &all else { return Err(wrong("its attributes are no map".into())) };
        let (mut parameters, mut tokens) = (Map::new(), None);
        for (key, value) in entries {
            let Some(value) = value.text() else { return Err(wrong(format!("its attribute {:?} is no text", **key))) };
            match key.as_str() {
                TOKENS => tokens = Some(value).filter(|t| !t.is_empty()).map(|t| Zeroizing::new(t.to_string())),
                key if key.starts_with(POD) => {}
                key => drop(parameters.insert(key, value)),
            }
        }
        let need = |name: &str| {
            let value = all.text_at(&format!("{POD}{name}")).filter(|v| !v.is_empty()).map(str::to_string);
            value.ok_or_else(|| {
                wrong(format!("its attribute {POD}{name} is missing: the CSIDriver needs spec.podInfoOnMount: true"))
            })
        };
        // They become parts of a path.
        let need = |name: &str| {
            let fits = |v: &String| v.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)) && v != "..";
            need(name).and_then(|v| {
                Some(v).filter(fits).ok_or_else(|| wrong(format!("its attribute {POD}{name} is no name")))
            })
        };
        let pod = Pod {
            namespace: need("pod.namespace")?,
            name: need("pod.name")?,
            uid: need("pod.uid")?,
            account: need("serviceAccount.name")?,
        };
        let mode = permission.trim().parse().ok().filter(|m| *m <= 0o7777);
        let mode =
            mode.ok_or_else(|| ProviderError::request(&pod.to_string(), "its permission is no mode in decimal"))?;
        Ok(Self { pod, parameters: Value::Map(parameters), tokens, mode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_sends_is_read() {
        let attributes = r#"{"csi.storage.k8s.io/pod.name":"p","csi.storage.k8s.io/pod.namespace":"ns",
            "csi.storage.k8s.io/pod.uid":"u","csi.storage.k8s.io/serviceAccount.name":"app",
            "csi.storage.k8s.io/serviceAccount.tokens":"{\"a\":{\"token\":\"geheim\"}}","csi.storage.k8s.io/ephemeral":"true",
            "objects":"- objectName: a","region":"us-west-2"}"#;
        let r = Request::of_driver(attributes, "420").unwrap();
        assert_eq!((r.pod.to_string().as_str(), r.pod.uid.as_str(), r.mode), ("ns/p", "u", 0o644));
        assert_eq!(r.parameters.as_map().unwrap().keys().collect::<Vec<_>>(), ["objects", "region"]);
        assert_eq!(r.tokens.as_ref().map(|t| t.as_str()), Some(r#"{"a":{"token":"geheim"}}"#));
        assert!(!format!("{r:?}").contains("geheim"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let e =
            |attributes: &str, permission: &str| Request::of_driver(attributes, permission).unwrap_err().to_string();
        assert!(e("{", "420").contains("no JSON"));
        assert!(e(r#"{"a": 1}"#, "420").contains("\"a\" is no text"));
        assert!(e("{}", "420").contains("podInfoOnMount"));
        let all = r#"{"csi.storage.k8s.io/pod.name":"p","csi.storage.k8s.io/pod.namespace":"ns",
            "csi.storage.k8s.io/pod.uid":"u","csi.storage.k8s.io/serviceAccount.name":"app"}"#;
        assert!(e(&all.replace("\"ns\"", "\"../ns\""), "420").contains("pod.namespace is no name"));
        assert_eq!(e(all, "rw"), "pod ns/p: reading the request: its permission is no mode in decimal");
    }
}
