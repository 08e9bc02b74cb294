//! The two outer Tower layers: authenticate, then authorize.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use druse_object::{Map, Str};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use tower::Service;

use super::token::TokenError;
use super::{Attributes, Decision, User};
use crate::body::Body;
use crate::request::RequestInfo;
use crate::server::Shared;
use crate::status::{Named, Status};
use crate::store::Key;

/// The user a TLS client certificate stands for; put into a request's extensions by the TLS server.
#[derive(Clone, Debug)]
pub struct PeerUser(pub User);

type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

fn refuse(status: &Status) -> Answer {
    futures::future::ready(Ok(crate::response::status(status))).boxed()
}

/// Finds out who asks; puts a [`User`] into the request's extensions.
#[derive(Clone, Debug)]
pub struct Authenticate<S> {
    inner: S,
    shared: Arc<Shared>,
    /// Who a request without credentials comes from.
    default: User,
}

impl<S> Authenticate<S> {
    /// Around a service; requests without credentials come from `default`.
    pub fn new(inner: S, shared: Arc<Shared>, default: User) -> Self {
        Self { inner, shared, default }
    }
}

impl<S> Service<Request<Bytes>> for Authenticate<S>
where
    S: Service<Request<Bytes>, Response = Response<Body>, Error = Infallible, Future = Answer>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Bytes>) -> Answer {
        let user = match bearer(request.headers()) {
            Some(token) => match self.shared.authenticate(token, &[]).ok() {
                Some((user, _)) => user,
                None => return refuse(&Status::unauthorized()),
            },
            None => match request.extensions().get::<PeerUser>() {
                Some(p) => p.0.clone(),
                None => self.default.clone(),
            },
        };
        let user = match self.impersonate(user, request.headers()) {
            Ok(user) => user,
            Err(status) => return refuse(&status),
        };
        request.extensions_mut().insert(user);
        self.inner.call(request)
    }
}

/// The bearer token of a request; `None` when no `Authorization` is sent.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().unwrap_or_default().trim();
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    Some(if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" })
}

impl<S> Authenticate<S> {
    fn impersonate(&self, user: User, headers: &HeaderMap) -> Result<User, Status> {
        let text = |v: &http::HeaderValue| Str::from(v.to_str().unwrap_or_default());
        let Some(name) = headers.get("impersonate-user").map(text) else {
            let other = headers.keys().find(|k| k.as_str().starts_with("impersonate-"));
            return match other {
                Some(_) => Err(Status::internal("requested impersonation of groups, uid or extra without a user")),
                None => Ok(user),
            };
        };
        let mut as_user = User { name: name.clone(), ..User::default() };
        as_user.groups = headers.get_all("impersonate-group").iter().map(text).collect();
        as_user.uid = headers.get("impersonate-uid").map(text).unwrap_or_default();
        let mut asked = Vec::new();
        let account = name.strip_prefix("system:serviceaccount:").and_then(|r| r.split_once(':'));
        match account {
            Some((ns, account)) => asked.push(("serviceaccounts", Str::from(ns), Str::from(account), "")),
            None => asked.push(("users", Str::default(), name.clone(), "")),
        }
        for g in &as_user.groups {
            asked.push(("groups", Str::default(), g.clone(), ""));
        }
        if !as_user.uid.is_empty() {
            asked.push(("uids", Str::default(), as_user.uid.clone(), "authentication.k8s.io"));
        }
        for key in headers.keys() {
            if let Some(k) = key.as_str().strip_prefix("impersonate-extra-") {
                let k = crate::request::decode(k, false);
                let values: Vec<Str> = headers.get_all(key).iter().map(text).collect();
                for v in &values {
                    asked.push(("userextras", Str::default(), v.clone(), "authentication.k8s.io"));
                }
                as_user.extra.push((k.into(), values));
            }
        }
        for (resource, namespace, name, group) in asked {
            let a = Attributes {
                verb: "impersonate".into(),
                namespace,
                group: group.into(),
                resource: resource.into(),
                name,
                ..Attributes::default()
            };
            if self.shared.authorizer.decide(&user, &a) == Decision::NoOpinion {
                return Err(denied(&user, &a));
            }
        }
        if let (Some((ns, _)), true) = (account, as_user.groups.is_empty()) {
            as_user.groups.push("system:serviceaccounts".into());
            as_user.groups.push(format!("system:serviceaccounts:{ns}").into());
        }
        let group = if as_user.name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
        if !as_user.groups.iter().any(|g| g == group) {
            as_user.groups.push(group.into());
        }
        Ok(as_user)
    }
}

/// Refuses what the user may not do.
#[derive(Clone, Debug)]
pub struct Authorize<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Authorize<S> {
    /// Around a service.
    pub fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

/// What a request does, for authorization.
#[must_use]
pub fn attributes(info: &RequestInfo) -> Attributes {
    if info.is_resource {
        Attributes {
            verb: info.verb.into(),
            namespace: info.namespace.clone(),
            group: info.group.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            name: info.name.clone(),
            path: Str::default(),
        }
    } else {
        Attributes { verb: info.verb.into(), path: info.path.as_str().into(), ..Attributes::default() }
    }
}

/// The refusal in upstream's words.
#[must_use]
pub fn denied(user: &User, a: &Attributes) -> Status {
    if a.resource.is_empty() {
        let message = format!("forbidden: User \"{}\" cannot {} path \"{}\"", user.name, a.verb, a.path);
        return Status { details: Some(Map::new()), ..Status::new(403, "Forbidden", message) };
    }
    let resource =
        if a.subresource.is_empty() { a.resource.to_string() } else { format!("{}/{}", a.resource, a.subresource) };
    let scope = if a.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", a.namespace)
    };
    let why = format!(
        "User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {scope}",
        user.name, a.verb, a.group
    );
    Status::forbidden(Named { group: &a.group, resource: &a.resource, name: &a.name }, why)
}

impl<S> Service<Request<Bytes>> for Authorize<S>
where
    S: Service<Request<Bytes>, Response = Response<Body>, Error = Infallible, Future = Answer>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Bytes>) -> Answer {
        let nobody = User::anonymous();
        let user = request.extensions().get::<User>().unwrap_or(&nobody);
        let Some(info) = request.extensions().get::<Arc<RequestInfo>>() else {
            return refuse(&Status::internal("request without target"));
        };
        let attributes = attributes(info);
        match self.shared.authorizer.decide(user, &attributes) {
            Decision::Allow(_) => self.inner.call(request),
            Decision::NoOpinion => refuse(&denied(user, &attributes)),
        }
    }
}

impl Shared {
    /// Who a bearer token stands for, and for which of the wanted audiences (this API's when none is named).
    ///
    /// # Errors
    /// Why a token of this issuer stands for nobody (`k8s.io/kubernetes/pkg/serviceaccount`); nothing of any other.
    pub fn authenticate(&self, token: &str, audiences: &[&str]) -> Result<(User, Vec<Str>), Option<String>> {
        if self.admin_token.as_ref().is_some_and(|t| same(t.as_bytes(), token.as_bytes())) {
            // The administrator's token is for this API alone.
            let ours = audiences.is_empty() || audiences.contains(&self.issuer.audience());
            let granted = audiences.iter().filter(|a| **a == self.issuer.audience()).map(|a| Str::from(*a)).collect();
            return if ours { Ok((User::admin(), granted)) } else { Err(None) };
        }
        let now = jiff::Timestamp::now().as_second();
        let (claims, granted) = self.issuer.verify(token, audiences, now).map_err(|e| match e {
            TokenError::Foreign => None,
            TokenError::Audience => Some(self.other_audience(token, audiences)),
            e => Some(e.to_string()),
        })?;
        let invalidated = || Some("service account token has been invalidated".to_owned());
        let (ns, name) = (claims.namespace(), claims.account());
        let uid_of = |resource: &str, ns: &str, name: &str| {
            let o = self.store.get(&Key::new(resource, ns, name))?.value().ok()?;
            o.str_at(["metadata", "uid"]).map(Str::from)
        };
        // A token dies with its ServiceAccount and with the object it is bound to.
        let uid = uid_of("serviceaccounts", ns, name);
        let uid = uid.ok_or_else(|| Some(format!("serviceaccounts \"{name}\" not found")))?;
        if uid != claims.account_uid() {
            let why = format!("service account UID ({uid}) does not match claim ({})", claims.account_uid());
            return Err(Some(why));
        }
        let mut extra = Vec::new();
        if let Some(id) = claims.all.str_at(["jti"]) {
            extra.push((Str::from("authentication.kubernetes.io/credential-id"), vec![format!("JTI={id}").into()]));
        }
        for (kind, resource, namespace) in [("pod", "pods", ns), ("secret", "secrets", ns), ("node", "nodes", "")] {
            let Some((bound, uid)) = claims.bound(kind) else { continue };
            if kind == "secret" && claims.kept_in_secret() {
                use base64::Engine as _;
                let kept = self.object("secrets", ns, bound).ok_or_else(invalidated)?;
                let kept = kept["data"].str_at(["token"]).unwrap_or_default();
                let kept = base64::engine::general_purpose::STANDARD.decode(kept).map_err(|_| invalidated())?;
                if !same(&kept, token.as_bytes()) {
                    return Err(invalidated());
                }
                continue;
            }
            let current = uid_of(resource, namespace, bound);
            match current.as_deref() {
                // With a pod, the node is only told.
                _ if kind == "node" && claims.bound("pod").is_some() => {}
                None => return Err(invalidated()),
                Some(is) if is != uid => {
                    return Err(Some(format!(
                        "{kind} UID ({is}) does not match service account {kind} ref claim ({uid})"
                    )));
                }
                Some(_) => {}
            }
            if kind != "secret" {
                extra.push((format!("authentication.kubernetes.io/{kind}-name").into(), vec![bound.into()]));
                extra.push((format!("authentication.kubernetes.io/{kind}-uid").into(), vec![uid.into()]));
            }
        }
        let groups =
            ["system:serviceaccounts", &format!("system:serviceaccounts:{ns}"), "system:authenticated"].map(Str::from);
        let user = User {
            name: format!("system:serviceaccount:{ns}:{name}").into(),
            uid: claims.account_uid().into(),
            groups: groups.to_vec(),
            extra,
        };
        Ok((user, granted))
    }

    /// What is said of a token that is for somebody else.
    fn other_audience(&self, token: &str, wanted: &[&str]) -> String {
        let quoted = |l: &[&str]| l.iter().map(|a| crate::field::go_quote(a)).collect::<Vec<_>>().join(" ");
        let parsed = druse_identity::jwt::Unverified::parse(token).ok();
        let named = parsed.as_ref().map(|p| p.audiences()).unwrap_or_default();
        let ours = [self.issuer.audience()];
        let (named, wanted) =
            (if named.is_empty() { &ours[..] } else { &named }, if wanted.is_empty() { &ours[..] } else { wanted });
        format!("token audiences [{}] is invalid for the target audiences [{}]", quoted(named), quoted(wanted))
    }
}

/// Compares without telling by time where two texts differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}
