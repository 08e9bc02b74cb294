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
    /// What the client is to be told beside the answer, be it a refusal.
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

/// The longest name of a field manager, in bytes.
const LONGEST_MANAGER: usize = 128;
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
        let asked = match resource.custom {
            true => negotiate::Asked::Custom,
            false => negotiate::Asked::BuiltIn { streams: method == Method::GET && info.name.is_empty() },
        };
        let accepted = negotiate::accept(&headers, info.query.flag("pretty"), asked)?;
        // Upstream shows these by no table.
        const NO_TABLE: [&str; 3] = ["apiservices", "customresourcedefinitions", "resourceclaims"];
        if accepted.shape == negotiate::Shape::Table
            && info.subresource == "status"
            && !resource.custom
            && NO_TABLE.contains(&resource.plural.as_str())
        {
            return Err(Status::not_acceptable(negotiate::ACCEPTED));
        }
        let include = match info.query.get("includeObject") {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            None | Some("" | "Metadata") => Include::Metadata,
            Some(_) if accepted.shape != negotiate::Shape::Table => Include::Metadata,
            Some(other) => {
                let why = "must be 'Metadata', 'Object', 'None', or empty";
                let e = crate::FieldError::invalid("includeObject", other, why);
                return Err(Status::bad_request(format!("Unable to convert to Table as requested: {e}")));
            }
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

    /// 422 for an object of this kind. Events of both groups are core's in errors.
    #[must_use]
    pub fn invalid(&self, name: &str, errors: &[crate::FieldError]) -> Status {
        let group = if self.resource.stored_as == "events" { "" } else { self.resource.group.as_str() };
        Status::invalid(group, &self.resource.kind, name, errors)
    }

    /// How errors name the object.
    #[must_use]
    pub fn named<'a>(&'a self, name: &'a str) -> Named<'a> {
        Named { group: &self.resource.group, resource: &self.resource.plural, name }
    }

    /// Whether nothing is to be kept.
    ///
    /// # Errors
    /// 422 for any other value than `All`.
    pub fn dry_run(&self) -> Result<bool, Status> {
        let given: Vec<Value> = self.info.query.all("dryRun").map(Value::from).collect();
        check_dry_run(self.options_kind(), &given)
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

    fn options_kind(&self) -> &'static str {
        match self.method {
            Method::POST => "CreateOptions",
            Method::PATCH => "PatchOptions",
            Method::DELETE => "DeleteOptions",
            _ => "UpdateOptions",
        }
    }

    /// Checks the options every write may have.
    ///
    /// # Errors
    /// 422 for a field manager that is none, 400 for a timeout that is none.
    pub fn check_options(&self) -> Result<(), Status> {
        let manager = self.info.query.get("fieldManager").unwrap_or_default();
        let mut errors = Vec::new();
        if manager.len() > LONGEST_MANAGER {
            let why = format!("may not be more than {LONGEST_MANAGER} bytes");
            errors.push(crate::FieldError::new(crate::FieldErrorKind::TooLong, "fieldManager", None, why));
        }
        if let Some((i, c)) = manager.char_indices().find(|(_, c)| c.is_control()) {
            let why = format!("invalid character U+{:04X} (at position {i})", u32::from(c));
            errors.push(crate::FieldError::invalid("fieldManager", manager, why));
        }
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", self.options_kind(), "", &errors));
        }
        let timeout = self.info.query.get("timeout").filter(|t| !t.is_empty());
        match timeout {
            Some(t) if crate::cel::parse_duration(t).is_none() => Err(Status::bad_request(format!(
                "invalid timeout specified in the request URL - time: invalid duration {}",
                go_quote(t)
            ))),
            _ => Ok(()),
        }
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
                let e = crate::FieldError::not_supported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"]);
                return Err(Status::invalid("meta.k8s.io", self.options_kind(), "", &[e]));
            }
        })
    }

    /// Reads the body as some object, without looking at its type.
    ///
    /// # Errors
    /// 415 for an encoding that is not spoken, 400 for text that is none.
    pub fn body_value(&self, kind: &str) -> Result<Value, Status> {
        match negotiate::content(&self.headers)? {
            Content::Json => parse_json(&self.body)
                .map_err(|why| self.unrecognized(kind, &format!("couldn't get version/kind; json parse error: {why}"))),
            Content::Protobuf => crate::protobuf::decode(&self.body).map_err(|why| self.unrecognized(kind, &why)),
            Content::Yaml => parse_yaml(&self.body).map_err(|why| self.unrecognized(kind, &why)),
        }
    }

    /// 400 for a body that says too little of itself, with its beginning.
    pub(super) fn unrecognized(&self, kind: &str, why: &str) -> Status {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({})",
            summary(&self.body)
        ))
    }

    /// Reads the body as the kind asked for: checks its type, drops unknown fields (with warnings, or an error when
    /// strict), fills in defaults.
    ///
    /// # Errors
    /// 400 when it is no such object.
    pub fn body_object(&self) -> Result<Value, Status> {
        let v = self.body_value(&self.resource.kind)?;
        let twice = if negotiate::content(&self.headers)? == Content::Json && keys_in(&self.body) != entries(&v) {
            json::repeated_keys(&self.body)
        } else {
            Vec::new()
        };
        self.read_object(v, twice.iter().map(|p| format!("duplicate field {}", go_quote(p))).collect())
    }

    /// As [`Self::body_object`] for an object that is to be stored.
    ///
    /// # Errors
    /// 400 when it is no such object.
    pub fn body_to_store(&self) -> Result<Value, Status> {
        let mut object = self.body_object()?;
        self.warnings.lock().extend(crate::warnings::one_of_each_owner(&mut object, false));
        Ok(object)
    }

    /// As [`Self::body_object`] for a value already parsed.
    ///
    /// # Errors
    /// 400 when it is no such object.
    pub fn read_object(&self, mut v: Value, mut problems: Vec<String>) -> Result<Value, Status> {
        let kind = &self.resource.kind;
        if v.is_null() && !self.resource.custom {
            // Go leaves what it reads into as it is.
            v = Value::Map(druse_object::Map::new());
        }
        if v.as_map().is_none() {
            return Err(self.unrecognized(kind, &super::forms::no_type(&v)));
        }
        self.check_type(&mut v)?;
        // An empty list resets the managers, as a list of one empty entry does; decoding would take it for nothing.
        let managers = v.at(["metadata", "managedFields"]).and_then(Value::as_array);
        if !self.resource.custom
            && managers.is_some_and(Vec::is_empty)
            && let Some(m) = v.make_map_at(["metadata"])
        {
            m.insert("managedFields", vec![Value::Map(druse_object::Map::new())]);
        }
        let schema = self.schema()?;
        let mut unknown = schema.decode(&mut v).map_err(|e| {
            Status::bad_request(format!("{kind} in version \"{}\" cannot be handled as a {kind}: {e}", self.version))
        })?;
        if self.resource.custom {
            unknown.sort_unstable();
        }
        problems.extend(unknown.iter().map(|p| format!("unknown field {}", go_quote(p))));
        match self.field_validation()? {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => self.warnings.lock().extend(problems),
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
        if self.resource.stored_as == crate::autoscalers::STORED {
            crate::autoscalers::normalize(&self.version, &mut v);
        }
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
        if given.matches('/').count() > 1 {
            return Err(self.unrecognized(kind, &format!("unexpected GroupVersion string: {given}")));
        }
        if given_kind.is_empty() {
            m.insert("kind", kind.as_str());
        }
        let said = if given_kind.is_empty() { kind.as_str() } else { given_kind.as_str() };
        let gvk = Gvk::from_api_version(if given.is_empty() { &api_version } else { &given }, said);
        let of_list = gvk.kind.strip_suffix("List").unwrap_or(&gvk.kind);
        let known =
            |kind: &str| self.table.for_kind(&gvk.group, kind).is_some_and(|r| r.version(&gvk.version).is_some());
        let registered = known(&gvk.kind) || known(of_list) || gvk.group.is_empty() && gvk.kind == "List";
        if !registered && !self.resource.custom {
            return Err(Status::bad_request(format!(
                "{said} in version \"{}\" cannot be handled as a {kind}: no kind \"{said}\" is registered for version \"{}\" in scheme \"pkg/runtime/scheme.go:111\"",
                gvk.version,
                gvk.api_version()
            )));
        }
        if said != kind.as_str() && self.resource.custom {
            let e = crate::FieldError::invalid("kind", said, format!("must be {kind}"));
            let name = v.str_at(["metadata", "name"]).unwrap_or_default();
            return Err(Status::invalid(&self.resource.group, said, name, &[e]));
        }
        if said != kind.as_str() {
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

    /// Checks that the name which an object gives is the request's.
    ///
    /// # Errors
    /// 400 when they differ, or there is none.
    pub fn fits_name(&self, object: &Value) -> Result<(), Status> {
        let given = object.str_at(["metadata", "name"]).unwrap_or_default();
        let name = self.info.name.as_str();
        if given == name {
            return Ok(());
        }
        if given.is_empty() {
            return Err(Status::bad_request(format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )));
        }
        Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )))
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
}

/// Whether options ask for a dry run.
///
/// # Errors
/// 422 when they ask for anything else.
pub fn check_dry_run(kind: &str, given: &[Value]) -> Result<bool, Status> {
    if given.iter().all(|v| v.as_str() == Some("All")) {
        return Ok(!given.is_empty());
    }
    let e = crate::FieldError::not_supported("dryRun", Value::Array(given.to_vec()), &["All"]);
    Err(Status::invalid("meta.k8s.io", kind, "", &[e]))
}

/// Adds `Warning` headers, each text once.
pub fn warn(r: &mut Response<Body>, warnings: &[String]) {
    for (_, w) in warnings.iter().enumerate().filter(|(i, w)| !warnings.iter().take(*i).any(|o| o == *w)).take(50) {
        if let Ok(v) = HeaderValue::from_str(&format!("299 - {}", go_quote(w))) {
            r.headers_mut().append(http::header::WARNING, v);
        }
    }
}

/// The beginning of a body, as upstream shows it in errors: objects as text, all else in hexadecimal.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let head = body.get(..SHOWN).unwrap_or(body);
    let more = if body.len() > SHOWN { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(head)),
        Some(_) => format!("{}{more}", hex::encode(head)),
    }
}

/// How many entries the maps of a value have together.
fn entries(v: &Value) -> usize {
    match v {
        Value::Map(m) => m.len() + m.iter().map(|(_, v)| entries(v)).sum::<usize>(),
        Value::Array(a) => a.iter().map(entries).sum(),
        _ => 0,
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
    json::parse(text).map_err(|e| crate::json_error::syntax_error(text).unwrap_or(e.message))
}

/// Reads YAML.
///
/// # Errors
/// What is wrong.
pub fn parse_yaml(text: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
    yaml::parse(text, yaml::Dialect::Sigs).map_err(|e| e.go_text())
}

/// How many keys a JSON text sets.
fn keys_in(text: &[u8]) -> usize {
    let (mut keys, mut quoted, mut escaped) = (0usize, false, false);
    for b in text {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b':' if !quoted => keys += 1,
            _ => {}
        }
    }
    keys
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
