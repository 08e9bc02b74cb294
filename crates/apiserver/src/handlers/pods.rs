//! Subresources of pods. Containers are simulated: what needs a running process says so.

use std::sync::LazyLock;

use druse_object::{Gvk, Map, Value};

use super::update::{Mode, change};
use super::{Answer, Call};
use crate::admission::Operation;
use crate::field::FieldError;
use crate::response;
use crate::server::now;
use crate::status::{Named, Status};

static BINDING: LazyLock<Gvk> = LazyLock::new(|| Gvk::new("", "v1", "Binding"));

/// A binding made by itself: that of the pod it names.
pub async fn bind_directly(call: &Call) -> Answer {
    let dry = call.dry_run()?;
    let body = call.body_as(&BINDING, &[])?;
    let pods = call.table.for_kind("", "Pod").ok_or_else(Status::no_resource)?.clone();
    let name = body.str_at(["metadata", "name"]).unwrap_or_default().to_owned();
    let info = crate::request::RequestInfo {
        name: name.as_str().into(),
        subresource: "binding".into(),
        ..(*call.info).clone()
    };
    let pod = Call { resource: pods, info: std::sync::Arc::new(info), ..call.for_namespace(call.namespace()) };
    if name.is_empty() && body["target"]["name"].as_str().is_some_and(|n| !n.is_empty()) {
        return Err(Status::bad_request("Name parameter required."));
    }
    bind_to(&pod, body, dry).await
}

/// Puts a pod on a node.
pub async fn bind(call: &Call) -> Answer {
    let dry = call.dry_run()?;
    let body = call.body_as(&BINDING, &[])?;
    if body.str_at(["metadata", "name"]) != Some(call.info.name.as_str()) {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    bind_to(call, body, dry).await
}

async fn bind_to(call: &Call, mut body: Value, dry: bool) -> Answer {
    let name = call.info.name.as_str();
    call.admit(Operation::Create, &mut body, None, dry).await?;
    let node = body.str_at(["target", "name"]).unwrap_or_default().to_owned();
    let kind = body.str_at(["target", "kind"]).unwrap_or_default();
    let mut errors = Vec::new();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if !errors.is_empty() {
        // Upstream passes its list of errors on as one.
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let text = if let [one] = all.as_slice() { one.clone() } else { format!("[{}]", all.join(", ")) };
        return Err(Status::new(500, "", text));
    }
    let wanted = |key: &str| body.at(["metadata", key]).filter(|v| v.as_str().is_some_and(|t| !t.is_empty())).cloned();
    let (uid, version) = (wanted("uid"), wanted("resourceVersion"));
    change(call, name, "binding", Mode::System, dry, &mut |old, now| {
        // The state that the binding is meant for, if it says so.
        let rv = Value::from(now.rv.to_string());
        for (what, wanted, is) in [("UID", &uid, &old["metadata"]["uid"]), ("ResourceVersion", &version, &rv)] {
            if let Some(wanted) = wanted.as_ref().filter(|w| *w != is) {
                return Err(super::update::precondition(call, name, dry, what, wanted, is));
            }
        }
        let refuse = |why: String| Err(Status::conflict(Named { group: "", resource: "pods/binding", name }, why));
        if old.str_at(["metadata", "deletionTimestamp"]).is_some() {
            return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
        }
        if let Some(is) = old.str_at(["spec", "nodeName"]).filter(|n| !n.is_empty()) {
            return refuse(format!("pod {name} is already assigned to node \"{is}\""));
        }
        if !old["spec"]["schedulingGates"].items().is_empty() {
            return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        let mut new = old.clone();
        if let Some(spec) = new.make_map_at(["spec"]) {
            spec.insert("nodeName", node.as_str());
        }
        // Who is bound needs no place held any more.
        if let Some(status) = new.make_map_at(["status"]) {
            status.remove("nominatedNodeName");
        }
        for key in ["annotations", "labels"] {
            if let (Some(more), Some(m)) =
                (body.at(["metadata", key]).and_then(Value::as_map), new.make_map_at(["metadata", key]))
            {
                for (k, v) in more.iter() {
                    m.insert(k.clone(), v.clone());
                }
            }
        }
        set_condition(&mut new, "PodScheduled", &[]);
        Ok(new)
    })
    .await?;
    Ok(response::status(&Status::success(201, None)))
}

/// Sets a condition of a pod to true; `more` are its reason and message.
pub(super) fn set_condition(pod: &mut Value, kind: &str, more: &[(&str, &str)]) {
    let Some(status) = pod.make_map_at(["status"]) else { return };
    let list = status.entry_or_null("conditions");
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    let Some(list) = list.as_array_mut() else { return };
    let mut c = Map::new();
    c.insert("type", kind);
    c.insert("status", "True");
    c.insert("lastProbeTime", Value::Null);
    c.insert("lastTransitionTime", now());
    for (key, text) in more {
        c.insert(*key, *text);
    }
    list.retain(|c| c.str_at(["type"]) != Some(kind));
    list.push(Value::Map(c));
}

/// Judges what is asked of a log.
fn log_options(call: &Call) -> Result<(), Status> {
    let query = &call.info.query;
    let number = |key: &str| -> Result<Option<i64>, Status> {
        let Some(text) = query.get(key) else { return Ok(None) };
        let invalid = || format!("strconv.ParseInt: parsing {}: invalid syntax", crate::field::go_quote(text));
        text.parse().map(Some).map_err(|_| Status::bad_request(invalid()))
    };
    let (tail, bytes, since) = (number("tailLines")?, number("limitBytes")?, number("sinceSeconds")?);
    let mut errors = Vec::new();
    if let Some(n) = tail.filter(|n| *n < 0) {
        errors.push(FieldError::invalid("tailLines", n, "must be greater than or equal to 0"));
    }
    if let Some(n) = bytes.filter(|n| *n < 1) {
        errors.push(FieldError::invalid("limitBytes", n, "must be greater than 0"));
    }
    if since.is_some() && query.get("sinceTime").is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden("", why));
    } else if let Some(n) = since.filter(|n| *n < 1) {
        errors.push(FieldError::invalid("sinceSeconds", n, "must be greater than 0"));
    }
    if query.get("stream").is_some() {
        errors.push(FieldError::forbidden("stream", "may not be specified"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("", "PodLogOptions", call.info.name.as_str(), &errors))
}

/// The log of a container: there is none.
pub fn log(call: &Call) -> Answer {
    log_options(call)?;
    let name = call.info.name.as_str();
    let pod = call.shared.object("pods", call.namespace(), name).ok_or_else(|| Status::not_found(call.named(name)))?;
    let container = container_of(call, &pod)?;
    if pod.str_at(["spec", "nodeName"]).unwrap_or_default().is_empty() {
        // Nobody has begun to write.
        return Ok(response::text(204, "text/plain", Vec::new()));
    }
    let text = format!(
        "simulated: container \"{container}\" of pod \"{name}\" is not a process on this machine and writes no log\n"
    );
    Ok(response::text(200, "text/plain", text))
}

/// The container a request means: the one it names, or the pod's only one.
fn container_of(call: &Call, pod: &Value) -> Result<String, Status> {
    let name = call.info.name.as_str();
    let containers: Vec<&str> = pod["spec"]["containers"].items().iter().filter_map(|c| c.str_at(["name"])).collect();
    let inits: Vec<&str> = pod["spec"]["initContainers"].items().iter().filter_map(|c| c.str_at(["name"])).collect();
    let ephemeral: Vec<&str> =
        pod["spec"]["ephemeralContainers"].items().iter().filter_map(|c| c.str_at(["name"])).collect();
    match call.info.query.get("container").filter(|c| !c.is_empty()) {
        Some(c) if containers.contains(&c) || inits.contains(&c) || ephemeral.contains(&c) => Ok(c.to_owned()),
        Some(c) => Err(Status::bad_request(format!("container {c} is not valid for pod {name}"))),
        None => match (containers.as_slice(), inits.is_empty()) {
            ([one], true) => Ok((*one).to_owned()),
            (all, none) => {
                let mut choose =
                    format!("a container name must be specified for pod {name}, choose one of: [{}]", all.join(" "));
                if !none {
                    choose.push_str(&format!(" or one of the init containers: [{}]", inits.join(" ")));
                }
                Err(Status::bad_request(choose))
            }
        },
    }
}

/// The options of a connection, as its query gives them and upstream types and defaults them.
fn connect_options(call: &Call, kind: &str) -> Value {
    let query = &call.info.query;
    let mut m = Map::new();
    m.insert("kind", kind);
    m.insert("apiVersion", "v1");
    let streams = matches!(kind, "PodExecOptions" | "PodAttachOptions");
    for key in ["stdin", "stdout", "stderr", "tty"] {
        let given = query.get(key).map(|_| query.flag(key));
        // Output is wanted unless it is refused.
        if streams && given.unwrap_or(matches!(key, "stdout" | "stderr")) {
            m.insert(key, true);
        }
    }
    if let Some(c) = query.get("container").filter(|c| streams && !c.is_empty()) {
        m.insert("container", c);
    }
    if kind == "PodExecOptions" {
        m.insert("command", query.all("command").map(Value::from).collect::<Value>());
    }
    if kind == "PodPortForwardOptions" {
        let ports = query.all("ports").flat_map(|p| p.split(',')).filter_map(|p| p.parse::<i64>().ok());
        let ports: Vec<Value> = ports.map(Value::Int).collect();
        if !ports.is_empty() {
            m.insert("ports", ports);
        }
    }
    if kind.ends_with("ProxyOptions") && !call.info.rest.is_empty() {
        m.insert("path", format!("/{}", call.info.rest.join("/")));
    }
    Value::Map(m)
}

/// What needs a running container or a network to it: judged as upstream judges a connection, then refused.
pub async fn connect(call: &Call, sub: &str) -> Answer {
    let name = call.info.name.as_str();
    let kind = call.version()?.subresources.iter().find(|s| s.name == sub).map(|s| s.kind.kind.clone());
    let mut options = connect_options(call, &kind.unwrap_or_default());
    call.admit(Operation::Connect, &mut options, None, false).await?;
    if call.resource.stored_as == "pods" && sub != "proxy" {
        let pod = call.shared.object("pods", call.namespace(), name);
        let pod = pod.ok_or_else(|| Status::not_found(call.named(name)))?;
        if sub != "portforward" {
            container_of(call, &pod)?;
        }
        if pod.str_at(["spec", "nodeName"]).unwrap_or_default().is_empty() {
            return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
        }
    }
    if call.shared.stored(&call.resource, call.namespace(), name).is_none() {
        return Err(Status::not_found(call.named(name)));
    }
    Err(Status::new(
        501,
        "NotImplemented",
        format!("{sub} of {} \"{name}\": simulated, there is no process or network behind it", call.resource.singular),
    ))
}
