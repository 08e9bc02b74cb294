//! One request on a resource, resolved: which resource and version, who asks, what is sent and wanted.

use std::sync::Arc;

use bytes::Bytes;
use druse_object::{Gvk, Str, Value, json, yaml};
use http::{HeaderMap, HeaderValue, Method, Response};
use parking_lot::Mutex;

use crate::admission::{Operation, Review};
use crate::auth::User;
use crate::body::Body;
use crate::field::go_quote;
use crate::negotiate::{self, Content};
use crate::registry::{Resource, Table, Version};
use crate::request::RequestInfo;
use crate::response::{Include, View};
use crate::schema::TypeSchema;
use crate::server::Shared;
use crate::status::{Named, Status};

/// A request on a resource.
#[derive(Debug)]
pub struct Call {
    /// The server.
    pub shared: Arc<Shared>,
    /// The target and options.
    pub info: Arc<RequestInfo>,
    /// Who asks.
    pub user: User,
    /// The method.
    pub method: Method,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The resource.
    pub resource: Arc<Resource>,
    /// The version in the path.
    pub version: Str,
    /// The table the resource is from.
    pub table: Arc<Table>,
    /// How to answer.
    pub view: View,
    /// What admission has to say to the client beside its verdict.
    pub warnings: Mutex<Vec<String>>,
    /// Whether a new object comes with its status: one the server makes itself.
    pub keep_status: bool,
}

/// How strictly unknown fields are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped with a warning.
    Warn,
    /// Refused.
    Strict,
}

/// How deeply a body may nest; deeper ones are refused before they are read.
const MAX_DEPTH: usize = 128;

impl Call {
    /// Resolves a request.
    ///
    /// # Errors
    /// 404 for what is not served, 406 for what the client cannot read.
    pub fn new(
        shared: Arc<Shared>,
        info: Arc<RequestInfo>,
        user: User,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Self, Status> {
        let table = shared.registry.table();
        let custom_group = table.resources.iter().any(|r| r.custom && r.group == info.group);
        match table.group_versions(&info.group) {
            Some(v) if v.contains(&info.version) => {}
            // A group that is built in answers for itself.
            Some(_) if !custom_group => return Err(Status::no_resource()),
            _ => return Err(Status::no_path()),
        }
        let missing = || if custom_group { Status::no_path() } else { Status::no_resource() };
        let resource = table.get(&info.group, &info.resource).cloned().ok_or_else(missing)?;
        if resource.version(&info.version).is_none() {
            return Err(missing());
        }
        let outside = !resource.namespaced && !info.namespace.is_empty() && info.resource != "namespaces";
        if outside || (resource.namespaced && info.namespace.is_empty() && !info.name.is_empty()) {
            return Err(Status::no_resource());
        }
        let accepted = negotiate::accept(&headers, info.query.flag("pretty"), !resource.custom)?;
        let include = match info.query.get("includeObject") {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        };
        let version = info.version.clone();
        let view =
            View { shared: shared.clone(), resource: resource.clone(), version: version.clone(), accepted, include };
        let warnings = Mutex::default();
        Ok(Self {
            shared,
            info,
            user,
            method,
            headers,
            body,
            resource,
            version,
            table,
            view,
            warnings,
            keep_status: false,
        })
    }

    /// A request the server makes itself, as one of its controllers.
    #[must_use]
    pub fn internal(
        shared: &Arc<Shared>,
        controller: &str,
        resource: &Arc<Resource>,
        namespace: &str,
        name: &str,
    ) -> Self {
        let version = resource.storage_version.clone();
        let info = RequestInfo {
            is_resource: true,
            group: resource.group.clone(),
            version: version.clone(),
            namespace: namespace.into(),
            resource: resource.plural.clone(),
            name: name.into(),
            ..RequestInfo::default()
        };
        let mut headers = HeaderMap::new();
        if let Ok(agent) = HeaderValue::from_str(controller) {
            headers.insert(http::header::USER_AGENT, agent);
        }
        Self {
            shared: shared.clone(),
            info: Arc::new(info),
            user: User::controller(controller),
            method: Method::POST,
            headers,
            body: Bytes::new(),
            resource: resource.clone(),
            version: version.clone(),
            table: shared.registry.table(),
            view: View {
                shared: shared.clone(),
                resource: resource.clone(),
                version,
                accepted: negotiate::Accepted::default(),
                include: Include::Metadata,
            },
            warnings: Mutex::default(),
            keep_status: false,
        }
    }

    /// A write as admission sees it.
    pub fn review<'a>(
        &'a self,
        operation: Operation,
        subresource: &'a str,
        name: &'a str,
        object: Option<&'a mut Value>,
        old: Option<&'a Value>,
        dry_run: bool,
    ) -> Review<'a> {
        Review {
            operation,
            resource: &self.resource,
            version: &self.version,
            subresource,
            namespace: self.namespace(),
            name,
            object,
            old,
            object_is_subresource: false,
            user: &self.user,
            dry_run,
            info: &self.info,
            warnings: &self.warnings,
        }
    }

    /// Admits an object in the form of a subresource (an `Eviction`, a `Scale`, the options of a connection): webhooks
    /// may change it, then everybody may refuse.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn admit(
        &self,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<(), Status> {
        let mut review = self.review(operation, &self.info.subresource, &self.info.name, Some(object), old, dry_run);
        review.object_is_subresource = true;
        self.shared.admission.mutate(&self.shared, &mut review).await?;
        self.shared.admission.validate(&self.shared, &mut review).await
    }

    /// The namespace objects of this request live in; empty for cluster-scoped ones.
    #[must_use]
    pub fn namespace(&self) -> &str {
        if self.resource.namespaced { &self.info.namespace } else { "" }
    }

    /// The kind in the version asked for.
    #[must_use]
    pub fn gvk(&self) -> Gvk {
        self.resource.gvk(&self.version)
    }

    /// The version asked for.
    ///
    /// # Errors
    /// 404, when the table has changed.
    pub fn version(&self) -> Result<&Version, Status> {
        self.resource.version(&self.version).ok_or_else(Status::no_resource)
    }

    /// The type asked for.
    ///
    /// # Errors
    /// 500 when none is known.
    pub fn schema(&self) -> Result<Arc<TypeSchema>, Status> {
        self.shared.schema(&self.gvk())
    }

    /// How errors name the object.
    #[must_use]
    pub fn named<'a>(&'a self, name: &'a str) -> Named<'a> {
        Named { group: &self.resource.group, resource: &self.resource.plural, name }
    }

    /// Whether nothing is to be kept.
    ///
    /// # Errors
    /// 400 for any other value than `All`.
    pub fn dry_run(&self) -> Result<bool, Status> {
        let mut dry = false;
        for v in self.info.query.all("dryRun") {
            if v != "All" {
                return Err(Status::invalid(
                    "meta.k8s.io",
                    "CreateOptions",
                    "",
                    &[crate::FieldError::not_supported("dryRun", Value::Array(vec![v.into()]), &["All"])],
                ));
            }
            dry = true;
        }
        Ok(dry)
    }

    /// Who is recorded as the manager of the fields this request sets.
    #[must_use]
    pub fn manager(&self) -> String {
        if let Some(m) = self.info.query.get("fieldManager").filter(|m| !m.is_empty()) {
            return m.to_owned();
        }
        let agent = self.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let name = agent.split('/').next().unwrap_or_default();
        name.chars().filter(|c| !c.is_control()).take(128).collect()
    }

    /// How unknown fields are taken.
    ///
    /// # Errors
    /// 422 for a value that is none.
    pub fn field_validation(&self) -> Result<FieldValidation, Status> {
        Ok(match self.info.query.get("fieldValidation") {
            None | Some("" | "Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let kind = match *self.method.as_str().as_bytes() {
                    [b'P', b'O', ..] => "CreateOptions",
                    [b'P', b'A', ..] => "PatchOptions",
                    _ => "UpdateOptions",
                };
                let e = crate::FieldError::not_supported("fieldValidation", other, &["Ignore", "Strict", "Warn"]);
                return Err(Status::invalid("meta.k8s.io", kind, "", &[e]));
            }
        })
    }

    /// Reads the body as some object, without looking at its type.
    ///
    /// # Errors
    /// 415 for an encoding that is not spoken, 400 for text that is none.
    pub fn body_value(&self, kind: &str) -> Result<Value, Status> {
        match negotiate::content(&self.headers)? {
            Content::Json => parse_json(&self.body).map_err(|why| {
                let shown = String::from_utf8_lossy(&self.body);
                Status::bad_request(format!(
                    "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why} ({shown})"
                ))
            }),
            Content::Protobuf => crate::protobuf::decode(&self.body).map_err(|why| {
                Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why}"))
            }),
            Content::Yaml => parse_yaml(&self.body).map_err(|why| {
                Status::bad_request(format!("error decoding YAML: {why}"))
            }),
        }
    }

    /// Reads the body as the kind asked for: checks its type, drops unknown fields (with warnings, or an error when
    /// strict), fills in defaults.
    ///
    /// # Errors
    /// 400 when it is no such object.
    pub fn body_object(&self, warnings: &mut Vec<String>) -> Result<Value, Status> {
        let v = self.body_value(&self.resource.kind)?;
        let repeated = Vec::new();
        self.read_object(v, repeated, warnings)
    }

    /// As [`Self::body_object`] for a value already parsed.
    ///
    /// # Errors
    /// 400 when it is no such object.
    pub fn read_object(
        &self,
        mut v: Value,
        mut problems: Vec<String>,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let kind = &self.resource.kind;
        if v.as_map().is_none() {
            return Err(Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }} ({})",
                v.kind_name(),
                hex::encode(self.body.get(..1024).unwrap_or(&self.body))
            )));
        }
        self.check_type(&mut v)?;
        let schema = self.schema()?;
        let unknown = schema.decode(&mut v).map_err(|e| {
            Status::bad_request(format!("{kind} in version \"{}\" cannot be handled as a {kind}: {e}", self.version))
        })?;
        problems.extend(unknown.iter().map(|p| format!("unknown field {}", go_quote(p))));
        match self.field_validation()? {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => warnings.extend(problems),
            FieldValidation::Strict if problems.is_empty() => {}
            FieldValidation::Strict => {
                let list = problems.join(", ");
                return Err(Status::bad_request(format!(
                    "{kind} in version \"{}\" cannot be handled as a {kind}: strict decoding error: {list}",
                    self.version
                )));
            }
        }
        schema.default(&mut v);
        Ok(v)
    }

    fn check_type(&self, v: &mut Value) -> Result<(), Status> {
        let kind = &self.resource.kind;
        let api_version = self.resource.api_version(&self.version);
        let given = v.str_at(["apiVersion"]).unwrap_or_default().to_owned();
        let given_kind = v.str_at(["kind"]).unwrap_or_default().to_owned();
        let Some(m) = v.as_map_mut() else { return Ok(()) };
        if given.is_empty() && !self.resource.custom {
            m.insert("apiVersion", api_version.as_str());
        } else if given.is_empty() {
            return Err(Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind"
            )));
        }
        if given_kind.is_empty() {
            m.insert("kind", kind.as_str());
        } else if given_kind != *kind {
            let gvk = Gvk::from_api_version(if given.is_empty() { &api_version } else { &given }, &given_kind);
            if self.table.for_kind(&gvk.group, &gvk.kind).is_none() {
                return Err(Status::bad_request(format!(
                    "no kind \"{given_kind}\" is registered for version \"{}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
                    gvk.api_version()
                )));
            }
            let package =
                if gvk.group.is_empty() { "core" } else { self.resource.group.split('.').next().unwrap_or_default() };
            return Err(Status::bad_request(format!(
                "{given_kind} in version \"{}\" cannot be handled as a {kind}: converting ({}.{given_kind}) to ({package}.{kind}): unknown conversion",
                gvk.version, gvk.version
            )));
        }
        if !given.is_empty() && given != api_version {
            return Err(Status::bad_request(format!(
                "the API version in the data ({given}) does not match the expected API version ({api_version})"
            )));
        }
        Ok(())
    }

    /// Checks that the object's namespace is the request's, and fills it in.
    ///
    /// # Errors
    /// 400 when they differ.
    pub fn fit_namespace(&self, v: &mut Value) -> Result<(), Status> {
        let given = v.str_at(["metadata", "namespace"]).unwrap_or_default().to_owned();
        let wanted = self.namespace();
        let Some(meta) = v.make_map_at(["metadata"]) else { return Ok(()) };
        if !self.resource.namespaced {
            meta.remove("namespace");
            return Ok(());
        }
        if given.is_empty() {
            meta.insert("namespace", wanted);
        } else if given != wanted {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Ok(())
    }

    /// Adds `Warning` headers.
    #[must_use]
    pub fn warn(&self, mut r: Response<Body>, warnings: &[String]) -> Response<Body> {
        warn(&mut r, warnings);
        r
    }
}

/// Adds `Warning` headers, each text once.
pub fn warn(r: &mut Response<Body>, warnings: &[String]) {
    {
        for (_, w) in warnings.iter().enumerate().filter(|(i, w)| !warnings.iter().take(*i).any(|o| o == *w)).take(50) {
            if let Ok(v) = HeaderValue::from_str(&format!("299 - {}", go_quote(w))) {
                r.headers_mut().append(http::header::WARNING, v);
            }
        }
    }
}

/// Reads JSON, not too deep, with errors as Go words them.
///
/// # Errors
/// What is wrong.
pub fn parse_json(text: &[u8]) -> Result<Value, String> {
    if depth(text) > MAX_DEPTH {
        return Err("exceeded max depth".to_owned());
    }
    json::parse(text)
        .map_err(|e| if e.message.contains("EOF") { "unexpected end of JSON input".to_owned() } else { e.message })
}

/// Reads YAML.
///
/// # Errors
/// What is wrong.
pub fn parse_yaml(text: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
    yaml::parse(text, yaml::Dialect::Sigs).map_err(|e| e.to_string())
}

fn depth(text: &[u8]) -> usize {
    let (mut deepest, mut now, mut quoted, mut escaped) = (0usize, 0usize, false, false);
    for b in text {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
