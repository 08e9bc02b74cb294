//! What a cluster is born with. Objects are data (`data/bootstrap.yaml`), roles and bindings a table made from upstream's
//! (`data/roles.tsv`, `cargo xtask api-roles`); those that exist are left as they are.

use std::sync::Arc;

use druse_object::yaml::{self, Dialect};
use druse_object::{Gvk, Map, Value};

use crate::handlers::{Call, Mode, change, insert};
use crate::server::Shared;
use crate::store::Stored;

const OBJECTS: &str = include_str!("../data/bootstrap.yaml");
const ROLES: &str = include_str!("../data/roles.tsv");
const RBAC: &str = "rbac.authorization.k8s.io";

/// Makes what is missing: namespaces first, then everything else side by side, so that it shares commits.
pub async fn run(shared: &Arc<Shared>) {
    let mut rest = Vec::new();
    for document in yaml::documents(OBJECTS, Dialect::Sigs) {
        match document {
            Ok(d) if d.value.str_at(["kind"]) == Some("Namespace") => make(shared, d.value).await,
            Ok(d) => rest.push(make(shared, d.value)),
            Err(e) => tracing::error!(error = %e, "the bootstrap objects cannot be read"),
        }
    }
    rest.extend(roles().into_iter().map(|r| make(shared, r)));
    futures::future::join_all(rest).await;
    for ns in shared.objects("namespaces", "") {
        if let Some(name) = ns.str_at(["metadata", "name"]) {
            crate::controllers::furnish(shared, name).await;
        }
    }
    crate::controllers::settle_roles(shared).await;
    crate::controllers::flow::maintain(shared).await;
    service_range(shared).await;
    authentication(shared).await;
    token_tracking(shared).await;
}

/// A column's words; `""` is the empty one.
fn words(column: &str) -> Value {
    let word = |w: &str| Value::from(if w == "\"\"" { "" } else { w });
    column.split(',').filter(|w| *w != "-").map(word).collect()
}

fn pairs(column: &str) -> Map {
    column.split(',').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.to_owned(), Value::from(v))).collect()
}

fn object(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let mut m = Map::new();
    for (k, v) in entries {
        let absent = v.is_null() || v.as_str() == Some("-") || matches!(&v, Value::Array(a) if a.is_empty());
        if !absent {
            m.insert(k, v);
        }
    }
    Value::Map(m)
}

/// A role or binding, all but its rules and subjects.
fn rbac(kind: &'static str, namespace: &str, name: &str, labels: &str) -> Map {
    let kind = if namespace == "-" { format!("Cluster{kind}") } else { kind.to_owned() };
    let mut all = pairs(labels);
    all.insert("kubernetes.io/bootstrapping", "rbac-defaults");
    let annotations = object([("rbac.authorization.kubernetes.io/autoupdate", "true".into())]);
    let meta = [
        ("name", name.into()),
        ("namespace", namespace.into()),
        ("labels", Value::Map(all)),
        ("annotations", annotations),
    ];
    let mut m = Map::new();
    m.insert("apiVersion", format!("{RBAC}/v1"));
    m.insert("kind", kind);
    m.insert("metadata", object(meta));
    m
}

/// The roles and bindings of the table.
fn roles() -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for line in ROLES.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        match columns.as_slice() {
            ["role", namespace, name, labels, aggregate] => {
                let mut m = rbac("Role", namespace, name, labels);
                if *aggregate != "-" {
                    let selector = object([("matchLabels", Value::Map(pairs(aggregate)))]);
                    m.insert("aggregationRule", object([("clusterRoleSelectors", Value::Array(vec![selector]))]));
                }
                out.push(Value::Map(m));
            }
            ["rule", groups, resources, names, paths, verbs] => {
                let rule = object([
                    ("apiGroups", words(groups)),
                    ("resources", words(resources)),
                    ("resourceNames", words(names)),
                    ("nonResourceURLs", words(paths)),
                    ("verbs", words(verbs)),
                ]);
                let Some(role) = out.last_mut().and_then(Value::as_map_mut) else { continue };
                let rules = role.entry_or_null("rules");
                if rules.is_null() {
                    *rules = Value::Array(Vec::new());
                }
                if let Some(rules) = rules.as_array_mut() {
                    rules.push(rule);
                }
            }
            ["binding", namespace, name, kind, role, subjects] => {
                let subject = |s: &str| {
                    let mut parts = s.splitn(3, ':');
                    let mut next = || parts.next().unwrap_or("-");
                    let (kind, namespace, name) = (next(), next(), next());
                    let group = if kind == "ServiceAccount" { "-" } else { RBAC };
                    object([
                        ("apiGroup", group.into()),
                        ("kind", kind.into()),
                        ("namespace", namespace.into()),
                        ("name", name.into()),
                    ])
                };
                let mut m = rbac("RoleBinding", namespace, name, "-");
                let role = object([("apiGroup", RBAC.into()), ("kind", (*kind).into()), ("name", (*role).into())]);
                m.insert("roleRef", role);
                let subjects: Value = subjects.split(',').filter(|s| *s != "-").map(subject).collect();
                if !subjects.items().is_empty() {
                    m.insert("subjects", subjects);
                }
                out.push(Value::Map(m));
            }
            _ => tracing::error!(line, "a line of the roles cannot be read"),
        }
    }
    out
}

async fn make(shared: &Arc<Shared>, mut object: Value) {
    let table = shared.registry.table();
    let Some(gvk) = Gvk::of(&object) else { return };
    let Some(resource) = table.for_kind(&gvk.group, &gvk.kind) else { return };
    let name = object.str_at(["metadata", "name"]).unwrap_or_default().to_owned();
    let namespace = object.str_at(["metadata", "namespace"]).unwrap_or_default().to_owned();
    if shared.stored(resource, &namespace, &name).is_some() {
        return;
    }
    let call = Call::internal(shared, "kube-apiserver", resource, &namespace, &name);
    if let Ok(schema) = shared.schema(&gvk) {
        if let Err(e) = schema.decode(&mut object) {
            tracing::error!(%gvk, name, error = %e, "a bootstrap object cannot be read");
        }
        schema.default(&mut object);
    }
    if let Err(e) = insert(&call, object, Some("kube-apiserver"), false).await
        && e.reason != "AlreadyExists"
    {
        tracing::error!(%gvk, name, error = %e, "a bootstrap object cannot be made");
    }
}

/// Where extension API servers look up whom they trust.
const AUTHENTICATION: &str = "extension-apiserver-authentication";

/// What extension API servers (metrics servers, webhooks that check client certificates) trust: this server's
/// authority. They cannot do without a front proxy's authority, so that of nobody is named: there is no front proxy.
async fn authentication(shared: &Arc<Shared>) {
    const PROXY: &str = "requestheader-client-ca-file";
    let known = shared.object("configmaps", "kube-system", AUTHENTICATION).unwrap_or_default();
    let ours = known.str_at(["data", "client-ca-file"]) == Some(shared.ca_pem.as_str());
    if ours && known.str_at(["data", PROXY]).is_some() {
        return;
    }
    let proxy = match crate::serve::keyless_authority("front-proxy") {
        Ok(pem) => pem,
        Err(e) => return tracing::error!(error = %e, "no authority of front proxies can be named"),
    };
    let data = object([
        ("client-ca-file", shared.ca_pem.as_str().into()),
        (PROXY, proxy.into()),
        ("requestheader-allowed-names", r#"["front-proxy-client"]"#.into()),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#.into()),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#.into()),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#.into()),
    ]);
    publish(shared, config_map(AUTHENTICATION, data)).await;
}

/// Since when tokens of Secrets are followed, as cleaners of unused ones want to know.
async fn token_tracking(shared: &Arc<Shared>) {
    let now = crate::server::now();
    let today = now.split('T').next().unwrap_or_default();
    let since = object([("since", today.into())]);
    make(shared, config_map("kube-apiserver-legacy-service-account-token-tracking", since)).await;
}

/// The range of the addresses of Services is ready.
async fn service_range(shared: &Arc<Shared>) {
    const NAME: &str = "kubernetes";
    let table = shared.registry.table();
    let Some(resource) = table.for_kind("networking.k8s.io", "ServiceCIDR") else { return };
    let range = shared.object(&resource.stored_as, "", NAME).unwrap_or_default();
    if !range["status"]["conditions"].items().is_empty() {
        return;
    }
    let mut condition = Map::new();
    condition.insert("type", "Ready");
    condition.insert("status", "True");
    condition.insert("lastTransitionTime", crate::server::now());
    condition.insert("reason", "");
    condition.insert("message", "Kubernetes default Service CIDR is ready");
    let call = Call::internal(shared, "kube-apiserver", resource, "", NAME);
    let manager = "kubernetes-service-cidr-controller";
    if let Err(e) = crate::controllers::flow::apply_condition(&call, NAME, condition, manager).await {
        tracing::error!(error = %e, "the range of Services is not said to be ready");
    }
}

fn config_map(name: &str, data: Value) -> Value {
    object([
        ("apiVersion", "v1".into()),
        ("kind", "ConfigMap".into()),
        ("metadata", object([("name", name.into()), ("namespace", "kube-system".into())])),
        ("data", data),
    ])
}

/// Makes an object, or gives the one that is there what this says beside metadata.
async fn publish(shared: &Arc<Shared>, object: Value) {
    let table = shared.registry.table();
    let Some(gvk) = Gvk::of(&object) else { return };
    let Some(resource) = table.for_kind(&gvk.group, &gvk.kind) else { return };
    let text = |key: &str| object.str_at(["metadata", key]).unwrap_or_default().to_owned();
    let (namespace, name) = (text("namespace"), text("name"));
    if shared.stored(resource, &namespace, &name).is_none() {
        return make(shared, object).await;
    }
    let call = Call::internal(shared, "kube-apiserver", resource, &namespace, &name);
    let mut step = |old: &Value, _: &Arc<Stored>| {
        let mut new = old.clone();
        if let (Some(to), Some(from)) = (new.as_map_mut(), object.as_map()) {
            for (k, v) in from.iter().filter(|(k, _)| *k != "metadata") {
                to.insert(k.clone(), v.clone());
            }
        }
        Ok(new)
    };
    if let Err(e) = change(&call, &name, "", Mode::System, false, &mut step).await {
        tracing::error!(%gvk, name, error = %e, "an object of this server cannot be published");
    }
}

/// The `kubernetes` Service's endpoint is this server: says where it listens, whenever that is known anew. On a machine's
/// loopback address only processes of this machine get there, which is as it should be.
pub async fn endpoints(shared: &Arc<Shared>) {
    let address = shared.address.read().clone();
    let Ok(address) = address.parse::<std::net::SocketAddr>() else { return };
    let (ip, port) = (address.ip(), address.port());
    if ip.is_unspecified() {
        return;
    }
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let meta =
        |labels: &str| format!(r#""metadata":{{"name":"kubernetes","namespace":"default","labels":{{{labels}}}}}"#);
    let ports = format!(r#""ports":[{{"name":"https","port":{port},"protocol":"TCP"}}]"#);
    let objects = [
        format!(
            r#"{{"apiVersion":"v1","kind":"Endpoints",{},"subsets":[{{"addresses":[{{"ip":"{ip}"}}],{ports}}}]}}"#,
            meta(r#""endpointslice.kubernetes.io/skip-mirror":"true""#)
        ),
        format!(
            r#"{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice",{},"addressType":"{family}","endpoints":[{{"addresses":["{ip}"],"conditions":{{"ready":true}}}}],{ports}}}"#,
            meta(r#""kubernetes.io/service-name":"kubernetes""#)
        ),
    ];
    for object in objects.iter().filter_map(|text| druse_object::json::parse(text.as_bytes()).ok()) {
        publish(shared, object).await;
    }
}
