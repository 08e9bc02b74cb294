//! Resources that only answer: tokens, and reviews of tokens and identity; those of access are judged in [`access`].

use druse_object::{Gvk, Map, Str, Value};

use super::{Answer, Call, access};
use crate::admission::Operation;
use crate::field::FieldError;
use crate::managed;
use crate::response;
use crate::server::{now, timestamp};
use crate::status::Status;

/// POST on a review resource.
pub async fn create(call: &Call) -> Answer {
    if call.resource.plural == "bindings" {
        return super::pods::bind_directly(call).await;
    }
    if call.info.verb != "create" {
        return Err(Status::method_not_supported());
    }
    let mut object = call.body_object()?;
    let schema = call.schema()?;
    if !call.resource.namespaced
        && let Some(m) = object.make_map_at(["metadata"])
    {
        m.remove("namespace");
    }
    call.fit_namespace(&mut object)?;
    if let Some(m) = object.make_map_at(["metadata"]) {
        m.remove("creationTimestamp");
    }
    managed::record(None, &mut object, &call.manager(), "", &now(), &schema);
    let dry = call.dry_run()?;
    let mut review = call.review(Operation::Create, "", "", Some(&mut object), None, dry);
    call.shared.admission.mutate(&call.shared, &mut review).await?;
    call.shared.admission.validate(&call.shared, &mut review).await?;
    if call.resource.group == access::GROUP {
        access::check(call, &object)?;
    }
    let status = match call.resource.plural.as_str() {
        "tokenreviews" => token_review(call, &object)?,
        "selfsubjectreviews" => {
            // Upstream answers with an object of its own.
            let mut meta = Map::new();
            meta.insert("creationTimestamp", now());
            if let Some(m) = object.as_map_mut() {
                m.insert("metadata", meta);
            }
            let mut s = Map::new();
            s.insert("userInfo", call.user.to_value());
            s
        }
        "selfsubjectaccessreviews" => access::decide(call, &call.user, &object["spec"]),
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            access::decide(call, &access::reviewed_user(&object["spec"]), &object["spec"])
        }
        "selfsubjectrulesreviews" if object.str_at(["spec", "namespace"]).is_none_or(str::is_empty) => {
            return Err(Status::bad_request("no namespace on request"));
        }
        "selfsubjectrulesreviews" => access::rules(call, &object["spec"]),
        _ => return Err(Status::method_not_supported()),
    };
    if let Some(m) = object.as_map_mut() {
        if call.resource.plural == "selfsubjectrulesreviews" {
            // Upstream answers with nothing of the question.
            m.insert("metadata", Map::new());
            m.insert("spec", Map::new());
        }
        m.insert("status", status);
    }
    Ok(response::value(201, &object, call.view.accepted.format))
}

fn token_review(call: &Call, object: &Value) -> Result<Map, Status> {
    let token = object.str_at(["spec", "token"]).unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<&str> = object["spec"]["audiences"].items().iter().filter_map(Value::as_str).collect();
    let mut status = Map::new();
    match call.shared.authenticate(token, &audiences) {
        Ok((user, granted)) => {
            status.insert("authenticated", true);
            status.insert("user", user.to_value());
            let granted: Vec<Str> = if granted.is_empty() && audiences.is_empty() {
                vec![call.shared.issuer.audience().into()]
            } else {
                granted
            };
            if !granted.is_empty() {
                status.insert("audiences", granted.into_iter().collect::<Value>());
            }
        }
        Err(why) => {
            status.insert("user", Map::new());
            const UNKNOWN: &str = "invalid bearer token";
            status.insert("error", why.map_or(UNKNOWN.to_owned(), |why| format!("[{UNKNOWN}, {why}]")));
        }
    }
    Ok(status)
}

/// POST on a ServiceAccount's token.
pub async fn token(call: &Call) -> Answer {
    let name = call.info.name.as_str();
    let ns = call.namespace();
    let dry = call.dry_run()?;
    let gvk = Gvk::new("authentication.k8s.io", "v1", "TokenRequest");
    let schema = call.shared.schema(&gvk)?;
    let mut body = call.body_as(&gvk, &[])?;
    let account = call.shared.object("serviceaccounts", ns, name).ok_or_else(|| Status::not_found(call.named(name)))?;
    if let Some(spec) = body.make_map_at(["spec"])
        && spec.get("expirationSeconds").is_none_or(Value::is_null)
    {
        spec.insert("expirationSeconds", 3600i64);
    }
    let said = body.str_at(["metadata", "name"]).unwrap_or_default();
    if !said.is_empty() && said != name {
        let why = "must match the service account name if specified";
        let e = FieldError::invalid("metadata.name", said, why);
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", name, &[e]));
    }
    managed::record(None, &mut body, &call.manager(), "token", &now(), &schema);
    call.admit(Operation::Create, &mut body, None, dry).await?;
    let spec = &body["spec"];
    let seconds = spec.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
    let mut errors = Vec::new();
    if seconds < 600 {
        let e =
            FieldError::invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes");
        errors.push(e);
    } else if seconds > 1 << 32 {
        let e = FieldError::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
        errors.push(e);
    }
    if !errors.is_empty() {
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &errors));
    }
    let mut audiences: Vec<Str> = spec["audiences"].items().iter().filter_map(Value::as_str).map(Str::from).collect();
    if audiences.is_empty() {
        audiences.push(call.shared.issuer.audience().into());
    }
    let uid = account.str_at(["metadata", "uid"]).unwrap_or_default();
    let mut bound = Map::new();
    bound.insert("namespace", ns);
    let mut sa = Map::new();
    sa.insert("name", name);
    sa.insert("uid", uid);
    bound.insert("serviceaccount", sa);
    if let Some(r) = spec.get("boundObjectRef").filter(|r| !r.is_null()) {
        bind_claims(call, r, &mut bound)?;
    }
    let issued = jiff::Timestamp::now().as_second();
    let mut claims = Map::new();
    claims.insert("aud", audiences.iter().cloned().collect::<Value>());
    claims.insert("exp", issued + seconds);
    claims.insert("iat", issued);
    claims.insert("iss", call.shared.issuer.url());
    claims.insert("jti", uuid::Uuid::new_v4().to_string());
    claims.insert("kubernetes.io", bound);
    claims.insert("nbf", issued);
    claims.insert("sub", format!("system:serviceaccount:{ns}:{name}"));
    let shared = call.shared.clone();
    // Signing may wait for the issuer's key being made.
    let token = tokio::task::spawn_blocking(move || shared.issuer.sign(&Value::Map(claims)))
        .await
        .map_err(Status::internal)?
        .map_err(Status::internal)?;
    let mut meta = Map::new();
    meta.insert("name", name);
    meta.insert("namespace", ns);
    meta.insert("uid", uid);
    meta.insert("creationTimestamp", timestamp(issued));
    if let Some(m) = body.at(["metadata", "managedFields"]).cloned() {
        meta.insert("managedFields", m);
    }
    let mut out_spec = Map::new();
    out_spec.insert("audiences", audiences.into_iter().collect::<Value>());
    out_spec.insert("expirationSeconds", seconds);
    out_spec.insert("boundObjectRef", spec["boundObjectRef"].clone());
    let mut status = Map::new();
    status.insert("token", token);
    status.insert("expirationTimestamp", timestamp(issued + seconds));
    let mut m = Map::new();
    m.insert("kind", "TokenRequest");
    m.insert("apiVersion", "authentication.k8s.io/v1");
    m.insert("metadata", meta);
    m.insert("spec", out_spec);
    m.insert("status", status);
    Ok(response::value(201, &Value::Map(m), call.view.accepted.format))
}

fn bind_claims(call: &Call, r: &Value, bound: &mut Map) -> Result<(), Status> {
    let text = |k: &str| r[k].as_str().unwrap_or_default();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let ns = call.namespace();
    let (claim, stored_as, namespace) = match kind {
        "Pod" => ("pod", "pods", ns),
        "Secret" => ("secret", "secrets", ns),
        "Node" => ("node", "nodes", ""),
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {}, Kind={kind}",
                if text("apiVersion").contains('/') {
                    text("apiVersion").to_owned()
                } else {
                    format!("/{}", text("apiVersion"))
                }
            )));
        }
    };
    let missing = crate::status::Named { group: "", resource: stored_as, name };
    let object = call.shared.object(stored_as, namespace, name).ok_or_else(|| Status::not_found(missing))?;
    let is = object.str_at(["metadata", "uid"]).unwrap_or_default();
    if !uid.is_empty() && uid != is {
        return Err(Status::conflict(
            crate::status::Named { resource: kind, ..missing },
            format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    if kind == "Pod" {
        let account = object.str_at(["spec", "serviceAccountName"]).unwrap_or_default();
        if account != call.info.name {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount \"{}\" to pod running with different serviceaccount name.",
                call.info.name
            )));
        }
        if let Some(node) = object.str_at(["spec", "nodeName"]).filter(|n| !n.is_empty()) {
            let mut m = Map::new();
            m.insert("name", node);
            if let Some(n) = call.shared.object("nodes", "", node) {
                m.insert("uid", n["metadata"]["uid"].clone());
            }
            bound.insert("node", m);
        }
    }
    let mut m = Map::new();
    m.insert("name", name);
    m.insert("uid", is);
    bound.insert(claim, m);
    Ok(())
}
