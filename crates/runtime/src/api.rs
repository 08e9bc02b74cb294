//! Requests to a Kubernetes API with plain values, and discovery of how kinds are served.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use druse_object::{Gvk, Object, Str, Value};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::RwLock;

/// How a kind is served: what a URL needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Group, version and kind.
    pub gvk: Gvk,
    /// The path segment (`deployments`).
    pub plural: Str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// A resource known without asking discovery.
    pub fn new(group: &str, version: &str, kind: &str, plural: &str, namespaced: bool) -> Self {
        Self { gvk: Gvk::new(group, version, kind), plural: plural.into(), namespaced }
    }

    /// The path of the collection, or of one object, or of its subresource. Empty parts are left out.
    #[must_use]
    pub fn path(&self, namespace: &str, name: &str, subresource: &str) -> String {
        let mut p = String::with_capacity(96);
        if self.gvk.group.is_empty() {
            p.push_str("/api/");
        } else {
            let _infallible = write!(p, "/apis/{}/", self.gvk.group);
        }
        p.push_str(&self.gvk.version);
        if self.namespaced && !namespace.is_empty() {
            let _infallible = write!(p, "/namespaces/{namespace}");
        }
        let _infallible = write!(p, "/{}", self.plural);
        for part in [name, subresource] {
            if !part.is_empty() {
                let _infallible = write!(p, "/{part}");
            }
        }
        p
    }
}

/// Why a request failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// The API answered with a failure.
    #[error("{message}")]
    Status {
        /// HTTP status code.
        code: u16,
        /// `NotFound`, `Conflict`, `Invalid`, …; empty when the API gave none.
        reason: String,
        /// The API's own words.
        message: String,
        /// The whole `Status` object, when the answer was one.
        status: Box<Value>,
    },
    /// The kind is not served.
    #[error("no matches for kind \"{}\" in version \"{}\"", .0.kind, .0.api_version())]
    NoMatch(Gvk),
    /// The API could not be reached, or the answer could not be read.
    #[error("{0}")]
    Transport(String),
}

impl ApiError {
    /// The HTTP status code, 0 when there was no answer.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Status { code, .. } => *code,
            Self::NoMatch(_) => 404,
            Self::Transport(_) => 0,
        }
    }
    /// The status reason (`AlreadyExists`, …); empty when there is none.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Status { reason, .. } => reason,
            _ => "",
        }
    }
    /// Whether the object, or its kind, does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }
    /// Whether somebody else changed the object meanwhile, or owns a field.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code() == 409
    }
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Label selector.
    pub labels: String,
    /// Field selector.
    pub fields: String,
}

/// How to change an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch<'a> {
    /// JSON patch.
    Json,
    /// JSON merge patch.
    Merge,
    /// Strategic merge patch.
    Strategic,
    /// Server-side apply.
    Apply {
        /// Field manager.
        manager: &'a str,
        /// Take fields others own.
        force: bool,
        /// Only say what would happen.
        dry_run: bool,
    },
}

/// How to delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// `Background` (the default), `Foreground`, `Orphan`.
    pub propagation: Option<&'static str>,
    /// Only when the object still has this UID.
    pub uid: Option<String>,
    /// Grace period in seconds.
    pub grace_seconds: Option<u32>,
}

/// The resources of each group and version asked for so far.
type Discovered = HashMap<(Str, Str), Vec<Resource>>;

/// A client of a Kubernetes API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    /// Per group and version, the resources served.
    discovered: Arc<RwLock<Discovered>>,
    /// Whose rights count instead of the client's own.
    acts_as: Option<Str>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

impl Api {
    /// On any client: of a real cluster, or built straight on the embedded API's service.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self { client, discovered: Arc::default(), acts_as: None }
    }

    /// The same API with the rights of another user (`system:serviceaccount:NAMESPACE:NAME`), who is named in each request.
    #[must_use]
    pub fn acting_as(&self, user: &str) -> Self {
        Self { acts_as: Some(user.into()), ..self.clone() }
    }

    /// The client underneath.
    #[must_use]
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// How a kind is served; asks discovery once per group and version, and again when the kind is missing there.
    ///
    /// # Errors
    /// [`ApiError::NoMatch`] when the kind is not served (yet); otherwise what the API answered.
    pub async fn resource(&self, gvk: &Gvk) -> Result<Resource, ApiError> {
        let gv = (gvk.group.clone(), gvk.version.clone());
        if let Some(r) = self.discovered.read().get(&gv).and_then(|l| l.iter().find(|r| r.gvk.kind == gvk.kind)) {
            return Ok(r.clone());
        }
        let path = if gvk.group.is_empty() {
            format!("/api/{}", gvk.version)
        } else {
            format!("/apis/{}/{}", gvk.group, gvk.version)
        };
        let list = match self.request(Method::GET, &path, None, None).await {
            Ok(v) => v,
            Err(e) if e.is_not_found() => return Err(ApiError::NoMatch(gvk.clone())),
            Err(e) => return Err(e),
        };
        let found: Vec<Resource> = list["resources"]
            .items()
            .iter()
            .filter_map(|r| {
                let plural = r["name"].as_str()?;
                if plural.contains('/') {
                    return None;
                }
                Some(Resource {
                    gvk: Gvk::new(gvk.group.clone(), gvk.version.clone(), r["kind"].as_str()?),
                    plural: plural.into(),
                    namespaced: r["namespaced"].as_bool().unwrap_or(false),
                })
            })
            .collect();
        let hit = found.iter().find(|r| r.gvk.kind == gvk.kind).cloned();
        self.discovered.write().insert(gv, found);
        hit.ok_or_else(|| ApiError::NoMatch(gvk.clone()))
    }

    /// Forgets what discovery said about a group (after its CRDs changed).
    pub fn forget_group(&self, group: &str) {
        self.discovered.write().retain(|(g, _), _| g != group);
    }

    /// One object; `None` when it does not exist.
    ///
    /// # Errors
    /// What the API answered, other than not found.
    pub async fn get(&self, r: &Resource, namespace: &str, name: &str) -> Result<Option<Value>, ApiError> {
        match self.request(Method::GET, &r.path(namespace, name, ""), None, None).await {
            Ok(v) => Ok(Some(v)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The objects of a kind (of one namespace, or of all when it is empty) and the list's resourceVersion.
    ///
    /// # Errors
    /// What the API answered.
    pub async fn list(&self, r: &Resource, namespace: &str, o: &ListOptions) -> Result<(Vec<Value>, String), ApiError> {
        let path = format!("{}?{}", r.path(namespace, "", ""), selectors(o));
        let mut list = self.request(Method::GET, &path, None, None).await?;
        let version = list.str_at(["metadata", "resourceVersion"]).unwrap_or_default().to_owned();
        let items = match list.get_mut("items") {
            Some(Value::Array(items)) => std::mem::take(items),
            _ => Vec::new(),
        };
        let api_version = r.gvk.api_version();
        let items = items
            .into_iter()
            .map(|mut v| {
                // Lists of built-in kinds leave these out of the items.
                if let Some(m) = v.as_map_mut() {
                    if !m.contains_key("kind") {
                        m.insert("kind", r.gvk.kind.clone());
                    }
                    if !m.contains_key("apiVersion") {
                        m.insert("apiVersion", api_version.as_str());
                    }
                }
                v
            })
            .collect();
        Ok((items, version))
    }

    /// Creates an object.
    ///
    /// # Errors
    /// What the API answered; `AlreadyExists` (409) when it exists.
    pub async fn create(&self, r: &Resource, namespace: &str, object: &Value) -> Result<Value, ApiError> {
        self.request(Method::POST, &r.path(namespace, "", ""), Some("application/json"), Some(object)).await
    }

    /// Replaces an object, or its `status` when `subresource` says so; with a resourceVersion in it, only that one.
    ///
    /// # Errors
    /// What the API answered; 409 when the object changed meanwhile.
    pub async fn replace(&self, r: &Resource, subresource: &str, object: &Value) -> Result<Value, ApiError> {
        let namespace = object.str_at(["metadata", "namespace"]).unwrap_or_default();
        let name = object.str_at(["metadata", "name"]).unwrap_or_default();
        let path = r.path(namespace, name, subresource);
        self.request(Method::PUT, &path, Some("application/json"), Some(object)).await
    }

    /// Patches an object or a subresource of it.
    ///
    /// # Errors
    /// What the API answered.
    pub async fn patch(
        &self,
        r: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        how: Patch<'_>,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let (path, content_type) = patch_request(r, namespace, name, subresource, how);
        self.request(Method::PATCH, &path, Some(content_type), Some(body)).await
    }

    /// Server-side applies an object under its own name and namespace, taking fields others own.
    ///
    /// # Errors
    /// [`ApiError::NoMatch`] when its kind is not served; otherwise what the API answered.
    pub async fn apply(&self, object: &Object, manager: &str, dry_run: bool) -> Result<Value, ApiError> {
        let r = self.resource(&object.gvk()).await?;
        let how = Patch::Apply { manager, force: true, dry_run };
        self.patch(&r, object.namespace(), object.name(), "", how, &object.value).await
    }

    /// As [`Api::apply`], for those who do not look at the result: a large answer is not even read.
    ///
    /// # Errors
    /// As [`Api::apply`].
    pub async fn apply_blindly(&self, object: &Object, manager: &str) -> Result<(), ApiError> {
        let r = self.resource(&object.gvk()).await?;
        let how = Patch::Apply { manager, force: true, dry_run: false };
        let (path, content_type) = patch_request(&r, object.namespace(), object.name(), "", how);
        let response = self.send(Method::PATCH, &path, Some(content_type), Some(&object.value)).await?;
        if response.status().is_success() { Ok(()) } else { Err(failure(response).await) }
    }

    /// Deletes an object. Returns false when it did not exist.
    ///
    /// # Errors
    /// What the API answered, other than not found.
    pub async fn delete(&self, r: &Resource, namespace: &str, name: &str, o: &DeleteOptions) -> Result<bool, ApiError> {
        let mut body = Value::default();
        if let Some(m) = body.make_map() {
            m.insert("apiVersion", "v1");
            m.insert("kind", "DeleteOptions");
            if let Some(p) = o.propagation {
                m.insert("propagationPolicy", p);
            }
            if let Some(g) = o.grace_seconds {
                m.insert("gracePeriodSeconds", g);
            }
        }
        if let (Some(uid), Some(p)) = (&o.uid, body.make_map_at(["preconditions"])) {
            p.insert("uid", uid);
        }
        let path = r.path(namespace, name, "");
        match self.request(Method::DELETE, &path, Some("application/json"), Some(&body)).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Opens a watch from a resourceVersion; the body is a stream of JSON events, one a line.
    ///
    /// # Errors
    /// What the API answered: 410 when the version is too old.
    pub async fn watch(&self, r: &Resource, o: &ListOptions, from: &str) -> Result<Response<Body>, ApiError> {
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&resourceVersion={from}&{}",
            r.path("", "", ""),
            selectors(o)
        );
        let response = self.send(Method::GET, &path, None, None).await?;
        if response.status().is_success() { Ok(response) } else { Err(failure(response).await) }
    }

    /// Any request whose answer is JSON.
    ///
    /// # Errors
    /// [`ApiError::Status`] for answers of 400 and above, [`ApiError::Transport`] when there was none.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let response = self.send(method, path, content_type, body).await?;
        if !response.status().is_success() {
            return Err(failure(response).await);
        }
        let bytes = collect(response).await?;
        druse_object::json::parse(&bytes).map_err(|e| ApiError::Transport(format!("answer to {path} is not JSON: {e}")))
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Response<Body>, ApiError> {
        let body = match body {
            Some(v) => serde_json::to_vec(v).map_err(|e| ApiError::Transport(e.to_string()))?,
            None => Vec::new(),
        };
        self.send_as(method, path, "application/json, */*", content_type, body.into()).await
    }

    pub(crate) async fn send_as(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Response<Body>, ApiError> {
        let mut request = Request::builder().method(method).uri(path).header("accept", accept);
        if let Some(t) = content_type {
            request = request.header("content-type", t);
        }
        if let Some(user) = &self.acts_as {
            request = request.header("impersonate-user", user.as_str());
        }
        let request = request
            .body(Body::from(body))
            .map_err(|e| ApiError::Transport(format!("request to {path} cannot be made: {e}")))?;
        self.client.send(request).await.map_err(|e| ApiError::Transport(format!("{path}: {e}")))
    }
}

/// The path and content type of a patch.
fn patch_request(
    r: &Resource,
    namespace: &str,
    name: &str,
    subresource: &str,
    how: Patch<'_>,
) -> (String, &'static str) {
    let mut path = r.path(namespace, name, subresource);
    let content_type = match how {
        Patch::Json => "application/json-patch+json",
        Patch::Merge => "application/merge-patch+json",
        Patch::Strategic => "application/strategic-merge-patch+json",
        Patch::Apply { manager, force, dry_run } => {
            let _infallible = write!(path, "?fieldManager={}&force={force}", percent(manager));
            if dry_run {
                path.push_str("&dryRun=All");
            }
            "application/apply-patch+yaml"
        }
    };
    (path, content_type)
}

fn selectors(o: &ListOptions) -> String {
    let mut q = String::new();
    if !o.labels.is_empty() {
        let _infallible = write!(q, "labelSelector={}&", percent(&o.labels));
    }
    if !o.fields.is_empty() {
        let _infallible = write!(q, "fieldSelector={}&", percent(&o.fields));
    }
    q
}

/// Percent-encodes all but RFC 3986 unreserved characters.
fn percent(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for b in s.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            let _infallible = write!(out, "%{b:02X}");
        }
    }
    out
}

pub(crate) async fn collect(response: Response<Body>) -> Result<Bytes, ApiError> {
    let body = response.into_body().collect().await.map_err(|e| ApiError::Transport(e.to_string()))?;
    Ok(body.to_bytes())
}

pub(crate) async fn failure(response: Response<Body>) -> ApiError {
    let code = response.status().as_u16();
    let bytes = match collect(response).await {
        Ok(b) => b,
        Err(e) => return e,
    };
    let status = druse_object::json::parse(&bytes).unwrap_or_default();
    ApiError::Status {
        code,
        reason: status["reason"].as_str().unwrap_or_default().to_owned(),
        message: status["message"]
            .as_str()
            .map_or_else(|| String::from_utf8_lossy(&bytes).trim().to_owned(), str::to_owned),
        status: Box::new(status),
    }
}
