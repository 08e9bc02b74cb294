//! What the pod identity webhook does to a pod, as a function.
//!
//! Follows aws/amazon-eks-pod-identity-webhook: annotations of the ServiceAccount and the pod, their precedence over
//! the webhook's own settings, the environment and its order, the projected token, containers left out. Not done here:
//! EKS Pod Identity (container credentials), whose agent only EKS nodes have, and ServiceAccounts configured in a
//! ConfigMap.

mod review;
pub mod serve;

use druse_object::{Map, Value};

pub use review::{ReviewError, review};

/// The longest token, and the default, in seconds.
pub const DEFAULT_EXPIRATION: i64 = 86400;
/// The shortest token kube-apiserver makes.
pub const MIN_EXPIRATION: i64 = 600;
/// The name of the volume that holds the token.
pub const VOLUME: &str = "aws-iam-token";
const TOKEN: &str = "token";

/// The webhook's settings; the defaults are upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What annotations start with.
    pub annotation_prefix: String,
    /// The audience of tokens, unless the ServiceAccount names one.
    pub audience: String,
    /// Where the token is mounted.
    pub mount_path: String,
    /// The region set in containers; empty for none.
    pub region: String,
    /// Whether SDKs shall use the region's STS, unless the ServiceAccount says.
    pub regional_sts: bool,
    /// How long tokens live, unless the ServiceAccount or the pod says.
    pub expiration: i64,
    /// The account and partition with which a bare role name becomes an ARN; none refuses bare names to be composed.
    pub compose: Option<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            annotation_prefix: "eks.amazonaws.com".into(),
            audience: "sts.amazonaws.com".into(),
            mount_path: "/var/run/secrets/eks.amazonaws.com/serviceaccount".into(),
            region: String::new(),
            regional_sts: false,
            expiration: DEFAULT_EXPIRATION,
            compose: None,
        }
    }
}

/// What a ServiceAccount's annotations ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The role.
    pub role_arn: String,
    /// The audience of its tokens.
    pub audience: String,
    /// Whether SDKs shall use the region's STS.
    pub regional_sts: bool,
    /// How long its tokens live.
    pub expiration: i64,
}

impl Settings {
    fn annotation<'a>(&self, object: &'a Value, name: &str) -> Option<&'a str> {
        object.at(["metadata", "annotations"])?.get(&format!("{}/{name}", self.annotation_prefix))?.as_str()
    }

    /// What a ServiceAccount asks for; `None` when it names no role.
    #[must_use]
    pub fn account(&self, account: &Value) -> Option<Account> {
        let role = self.annotation(account, "role-arn").filter(|r| !r.is_empty())?;
        let role_arn = match &self.compose {
            Some((partition, id)) if !role.contains("arn:") => format!("arn:{partition}:iam::{id}:role/{role}"),
            _ => role.to_string(),
        };
        let name = || account.str_at(["metadata", "name"]).unwrap_or_default().to_string();
        if !is_role_arn(&role_arn) {
            tracing::warn!(service_account = name(), role = role_arn, "this is no role's ARN");
        }
        let regional_sts = match self.annotation(account, "sts-regional-endpoints").map(go_bool) {
            Some(Some(b)) => b,
            Some(None) => {
                tracing::warn!(service_account = name(), "sts-regional-endpoints is neither true nor false; ignored");
                self.regional_sts
            }
            None => self.regional_sts,
        };
        Some(Account {
            role_arn,
            audience: self.annotation(account, "audience").unwrap_or(&self.audience).to_string(),
            regional_sts,
            expiration: expiration(self.annotation(account, "token-expiration"), self.expiration),
        })
    }

    /// Changes a pod for its ServiceAccount. Returns whether anything changed.
    pub fn mutate(&self, pod: &mut Value, account: &Account) -> bool {
        let skip = self.annotation(pod, "skip-containers").map(csv_record).unwrap_or_default();
        let expiration = expiration(self.annotation(pod, "token-expiration"), account.expiration);
        let Some(spec) = pod.make_map_at(["spec"]) else { return false };
        let mut token_file = format!("{}/{TOKEN}", self.mount_path.trim_end_matches('/'));
        let os = |spec: &Map, label: &str| {
            spec.get("nodeSelector").and_then(|s| s.get(label)).and_then(Value::as_str).map(str::to_string)
        };
        let windows = Some("windows".to_string());
        if os(spec, "kubernetes.io/os") == windows || os(spec, "beta.kubernetes.io/os") == windows {
            token_file = format!("C:{}", token_file.replace('/', "\\"));
        }
        let mut changed = false;
        for list in ["initContainers", "containers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let name = container.str_at(["name"]).unwrap_or_default();
                if !skip.iter().any(|s| s == name) {
                    changed |= self.container(container, account, &token_file);
                }
            }
        }
        let volumes = spec.get("volumes").map(Value::items).unwrap_or_default();
        if volumes.iter().all(|v| v.str_at(["name"]) != Some(VOLUME)) {
            let mut all = vec![volume(&account.audience, expiration)];
            all.extend_from_slice(volumes);
            spec.insert("volumes", all);
            changed = true;
        }
        changed
    }

    fn container(&self, container: &mut Value, account: &Account, token_file: &str) -> bool {
        let env = container.get("env").map(Value::items).unwrap_or_default();
        let has = |names: &[&str]| env.iter().any(|e| e.str_at(["name"]).is_some_and(|n| names.contains(&n)));
        let identity = has(&["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"]);
        let region = has(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
        let regional = has(&["AWS_STS_REGIONAL_ENDPOINTS"]);
        if identity && region && regional {
            // All is there: then the mount is the container's own affair too.
            return false;
        }
        let mut new = Vec::new();
        if !regional && account.regional_sts {
            new.push(("AWS_STS_REGIONAL_ENDPOINTS", "regional"));
        }
        if !region && !self.region.is_empty() {
            new.push(("AWS_DEFAULT_REGION", &self.region));
            new.push(("AWS_REGION", &self.region));
        }
        if !identity {
            new.push(("AWS_ROLE_ARN", &account.role_arn));
            new.push(("AWS_WEB_IDENTITY_TOKEN_FILE", token_file));
        }
        let mut changed = !new.is_empty();
        let new = new.into_iter().map(|(name, value)| entry([("name", name.into()), ("value", value.into())]));
        let Some(container) = container.as_map_mut() else { return false };
        if changed {
            push(container, "env", new);
        }
        let mounts = container.get("volumeMounts").map(Value::items).unwrap_or_default();
        if mounts.iter().all(|m| m.str_at(["name"]) != Some(VOLUME)) {
            let mount = entry([
                ("name", VOLUME.into()),
                ("readOnly", true.into()),
                ("mountPath", self.mount_path.as_str().into()),
            ]);
            push(container, "volumeMounts", [mount]);
            changed = true;
        }
        changed
    }
}

fn entry<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.into_iter().collect())
}

fn push(map: &mut Map, field: &str, items: impl IntoIterator<Item = Value>) {
    let list = map.entry_or_null(field);
    if list.as_array().is_none() {
        *list = Value::Array(Vec::new());
    }
    if let Some(list) = list.as_array_mut() {
        list.extend(items);
    }
}

fn volume(audience: &str, expiration: i64) -> Value {
    let token =
        entry([("audience", audience.into()), ("expirationSeconds", expiration.into()), ("path", TOKEN.into())]);
    let source = entry([("serviceAccountToken", token)]);
    entry([("name", VOLUME.into()), ("projected", entry([("sources", Value::Array(vec![source]))]))])
}

fn expiration(annotation: Option<&str>, default: i64) -> i64 {
    match annotation.map(str::parse::<i64>) {
        Some(Ok(seconds)) => seconds.max(MIN_EXPIRATION),
        Some(Err(_)) => {
            tracing::warn!("token-expiration is no number of seconds; {default} is used");
            default
        }
        None => default,
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The first record of comma-separated values as Go's `encoding/csv` reads it; nothing when it is malformed.
fn csv_record(text: &str) -> Vec<String> {
    let line = text.trim_start_matches(['\r', '\n']);
    let mut fields = Vec::new();
    let mut rest = line;
    if rest.is_empty() {
        return fields;
    }
    loop {
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let Some(end) = rest.find('"') else { return Vec::new() };
                field.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                match rest.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        rest = more;
                    }
                    None => break,
                }
            }
        } else {
            let end = rest.find([',', '\n']).unwrap_or(rest.len());
            field.push_str(rest[..end].trim_end_matches('\r'));
            if field.contains('"') {
                return Vec::new();
            }
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() || rest.starts_with(['\n', '\r']) => return fields,
            None => return Vec::new(),
        }
    }
}

/// Whether a text is the ARN of a role.
#[must_use]
pub fn is_role_arn(text: &str) -> bool {
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (arn, partition, service, region, account, resource) = (next(), next(), next(), next(), next(), next());
    arn == "arn"
        && partition.starts_with("aws")
        && partition.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && service == "iam"
        && region.is_empty()
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && resource.strip_prefix("role/").is_some_and(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-/.@+=,".contains(c))
        })
}

#[cfg(test)]
mod tests;
