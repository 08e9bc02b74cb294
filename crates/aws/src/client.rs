//! Calls to the services of the secrets path: JSON (SSM, Secrets Manager), query (STS), S3 objects.
//!
//! The HTTP client is given from outside, so that there is one. What passes (throttling, 5xx, broken connections) is
//! tried again, with growing pauses and jitter.

use std::time::Duration;

use druse_object::{Value, json};
use zeroize::Zeroizing;

use crate::Credentials;
use crate::encoding::{encode, form};
use crate::endpoint::{Endpoints, Service};
use crate::error::{AwsError, TransportKind};
use crate::sealed::Json;
use crate::sigv4::{Request, sha256_hex, sign};
use crate::xml;

/// A client for one region.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    endpoints: Endpoints,
    region: String,
    retries: u32,
}

/// An answer.
#[derive(Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; it may hold a secret.
    pub body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }
}

/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The largest answer taken: an S3 object of the path is small, a page of parameters is below a megabyte.
const MAX_BODY: usize = 16 << 20;

struct Call<'a> {
    service: Service,
    operation: &'a str,
    method: &'a str,
    path: &'a str,
    query: &'a str,
    headers: Vec<(String, String)>,
    body: &'a [u8],
}

impl Client {
    /// A client.
    #[must_use]
    pub fn new(http: reqwest::Client, endpoints: Endpoints, region: impl Into<String>) -> Self {
        Self { http, endpoints, region: region.into(), retries: 3 }
    }

    /// The same client with another number of retries.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The same client in another region.
    #[must_use]
    pub fn in_region(&self, region: impl Into<String>) -> Self {
        Self { region: region.into(), ..self.clone() }
    }

    /// A call of a JSON service; `target` as `AmazonSSM.GetParameters`.
    ///
    /// # Errors
    /// What the service or the network answers.
    pub async fn json(
        &self,
        service: Service,
        target: &str,
        input: &Value,
        credentials: &Credentials,
    ) -> Result<Value, AwsError> {
        let answer = self.call_json(service, target, input, credentials).await?;
        json::parse(&answer.body).map_err(|e| unreadable(service, target, &e))
    }

    /// As [`Self::json`], for answers that hold secrets: no text of the answer outlives it.
    ///
    /// # Errors
    /// What the service or the network answers.
    pub async fn sealed(
        &self,
        service: Service,
        target: &str,
        input: &Value,
        credentials: &Credentials,
    ) -> Result<Json, AwsError> {
        let answer = self.call_json(service, target, input, credentials).await?;
        Json::parse(&answer.body).map_err(|e| unreadable(service, target, &e))
    }

    async fn call_json(
        &self,
        service: Service,
        target: &str,
        input: &Value,
        credentials: &Credentials,
    ) -> Result<Answer, AwsError> {
        let body = Zeroizing::new(json::to_string(input));
        self.send_json(service, target, &body, credentials).await
    }

    /// As [`Self::json`], for what is sent holding a secret: no text of it outlives the call.
    ///
    /// # Errors
    /// What the service or the network answers.
    pub async fn put_sealed(
        &self,
        service: Service,
        target: &str,
        input: &Json,
        credentials: &Credentials,
    ) -> Result<Value, AwsError> {
        let answer = self.send_json(service, target, &input.to_json(), credentials).await?;
        json::parse(&answer.body).map_err(|e| unreadable(service, target, &e))
    }

    async fn send_json(
        &self,
        service: Service,
        target: &str,
        body: &str,
        credentials: &Credentials,
    ) -> Result<Answer, AwsError> {
        let headers = vec![
            ("content-type".to_string(), "application/x-amz-json-1.1".to_string()),
            ("x-amz-target".to_string(), target.to_string()),
        ];
        let operation = operation(target);
        let call = Call { service, operation, method: "POST", path: "/", query: "", headers, body: body.as_bytes() };
        self.send(&call, Some(credentials)).await
    }

    /// A call of a query service, signed when credentials are given; returns the XML.
    ///
    /// # Errors
    /// What the service or the network answers.
    pub async fn query(
        &self,
        service: Service,
        version: &str,
        action: &str,
        parameters: &[(&str, &str)],
        credentials: Option<&Credentials>,
    ) -> Result<Zeroizing<String>, AwsError> {
        let all = [("Action", action), ("Version", version)].into_iter().chain(parameters.iter().copied());
        let body = Zeroizing::new(form(all));
        let headers =
            vec![("content-type".to_string(), "application/x-www-form-urlencoded; charset=utf-8".to_string())];
        let call =
            Call { service, operation: action, method: "POST", path: "/", query: "", headers, body: body.as_bytes() };
        let answer = self.send(&call, credentials).await?;
        Ok(Zeroizing::new(String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// `AssumeRoleWithWebIdentity`: a token for credentials.
    ///
    /// # Errors
    /// What STS or the network answers.
    pub async fn assume_role_with_web_identity(
        &self,
        role_arn: &str,
        session: &str,
        token: &str,
        seconds: Option<u32>,
    ) -> Result<Credentials, AwsError> {
        let seconds = seconds.map(|s| s.to_string());
        let mut parameters = vec![("RoleArn", role_arn), ("RoleSessionName", session), ("WebIdentityToken", token)];
        if let Some(s) = &seconds {
            parameters.push(("DurationSeconds", s));
        }
        let action = "AssumeRoleWithWebIdentity";
        let answer = self.query(Service::Sts, "2011-06-15", action, &parameters, None).await?;
        let field = |name: &str| {
            xml::text(&answer, name).ok_or_else(|| AwsError::Answer {
                service: "sts",
                operation: action.to_string(),
                cause: format!("there is no {name} in it"),
            })
        };
        let expires: Option<jiff::Timestamp> = field("Expiration")?.parse().ok();
        Ok(Credentials {
            access_key_id: field("AccessKeyId")?,
            secret_access_key: Zeroizing::new(field("SecretAccessKey")?),
            session_token: Some(Zeroizing::new(field("SessionToken")?)),
            expires: expires.map(jiff::Timestamp::as_second),
        })
    }

    /// An object of a bucket; `None` when there is none.
    ///
    /// # Errors
    /// What S3 or the network answers.
    pub async fn get_object(
        &self,
        bucket: &str,
        key: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Option<Answer>, AwsError> {
        let path = object_path(bucket, key);
        let call = Call {
            service: Service::S3,
            operation: "GetObject",
            method: "GET",
            path: &path,
            query: "",
            headers: Vec::new(),
            body: b"",
        };
        match self.send(&call, credentials).await {
            Ok(answer) => Ok(Some(answer)),
            Err(e) if e.code() == Some("NoSuchKey") => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Puts an object into a bucket, with these headers.
    ///
    /// # Errors
    /// What S3 or the network answers.
    pub async fn put_object(
        &self,
        bucket: &str,
        key: &str,
        body: &[u8],
        headers: &[(&str, &str)],
        credentials: &Credentials,
    ) -> Result<(), AwsError> {
        let path = object_path(bucket, key);
        let call = Call {
            service: Service::S3,
            operation: "PutObject",
            method: "PUT",
            path: &path,
            query: "",
            headers: headers.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect(),
            body,
        };
        self.send(&call, Some(credentials)).await.map(|_| ())
    }

    async fn send(&self, call: &Call<'_>, credentials: Option<&Credentials>) -> Result<Answer, AwsError> {
        let mut pause = Duration::from_millis(100);
        let mut tries = 0;
        loop {
            let error = match self.attempt(call, credentials).await {
                Ok(answer) => return Ok(answer),
                Err(e) => e,
            };
            if !error.is_passing() || tries >= self.retries {
                return Err(error);
            }
            tries += 1;
            tracing::debug!("{error}; trying again");
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    async fn attempt(&self, call: &Call<'_>, credentials: Option<&Credentials>) -> Result<Answer, AwsError> {
        let base = self.endpoints.url(call.service, &self.region);
        let url = format!("{base}{}{}{}", call.path, if call.query.is_empty() { "" } else { "?" }, call.query);
        let transport = |kind, cause: String| AwsError::Transport {
            service: call.service.name(),
            operation: call.operation.to_string(),
            url: base.clone(),
            kind,
            cause,
        };
        let parsed: reqwest::Url =
            url.parse().map_err(|_| transport(TransportKind::Other, "the endpoint is no URL".into()))?;
        let host = match (parsed.host_str(), parsed.port()) {
            (Some(h), Some(p)) => format!("{h}:{p}"),
            (Some(h), None) => h.to_string(),
            (None, _) => return Err(transport(TransportKind::Other, "the endpoint names no host".into())),
        };
        let mut headers = call.headers.clone();
        headers.push(("host".into(), host));
        if let Some(credentials) = credentials {
            let hash = sha256_hex(call.body);
            let request = Request {
                method: call.method,
                path: call.path,
                query: call.query,
                headers: &headers,
                payload_hash: &hash,
            };
            let now = jiff::Timestamp::now().as_second();
            headers.extend(sign(&request, credentials, &self.region, call.service.name(), now));
        }
        let method: reqwest::Method = call.method.parse().unwrap_or(reqwest::Method::POST);
        let mut request = self.http.request(method, parsed).body(call.body.to_vec());
        for (k, v) in headers.iter().filter(|(k, _)| k != "host") {
            let mut value = reqwest::header::HeaderValue::from_str(v)
                .map_err(|_| transport(TransportKind::Other, format!("a value for {k} cannot be sent")))?;
            value.set_sensitive(matches!(k.as_str(), "authorization" | "x-amz-security-token"));
            request = request.header(k.as_str(), value);
        }
        let mut response = request.send().await.map_err(|e| transport(kind_of(&e), chain(&e)))?;
        let status = response.status().as_u16();
        let headers: Vec<(String, String)> = response
            .headers()
            .iter()
            .map(|(k, v)| (k.as_str().to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
            .collect();
        let announced = response.content_length().and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
        let mut body = Zeroizing::new(Vec::with_capacity(announced.min(MAX_BODY)));
        while let Some(chunk) = response.chunk().await.map_err(|e| transport(kind_of(&e), chain(&e)))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(transport(TransportKind::Other, "the answer is too large".into()));
            }
            append(&mut body, &chunk);
        }
        let answer = Answer { status, headers, body };
        if (200..300).contains(&status) { Ok(answer) } else { Err(failure(call, &answer)) }
    }
}

/// `GetParameters` of `AmazonSSM.GetParameters`.
fn operation(target: &str) -> &str {
    target.rsplit('.').next().unwrap_or(target)
}

fn unreadable(service: Service, target: &str, cause: &dyn std::fmt::Display) -> AwsError {
    AwsError::Answer { service: service.name(), operation: operation(target).to_string(), cause: cause.to_string() }
}

/// Appends to a body without leaving a copy behind when it grows.
fn append(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    if body.capacity() - body.len() < chunk.len() {
        let mut larger = Zeroizing::new(Vec::with_capacity((body.len() + chunk.len()) * 2));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(chunk);
}

fn object_path(bucket: &str, key: &str) -> String {
    format!("/{}/{}", encode(bucket, false), encode(key, true))
}

/// The error that an answer tells of.
fn failure(call: &Call<'_>, answer: &Answer) -> AwsError {
    let text = String::from_utf8_lossy(&answer.body);
    let (code, message) = if text.trim_start().starts_with('<') {
        (xml::text(&text, "Code"), xml::text(&text, "Message"))
    } else {
        let value = json::parse(&answer.body).unwrap_or_default();
        let message = value.str_at(["message"]).or_else(|| value.str_at(["Message"])).map(str::to_string);
        (value.str_at(["__type"]).map(str::to_string), message)
    };
    let code = code.or_else(|| answer.header("x-amzn-errortype").map(str::to_string)).unwrap_or_default();
    // `com.amazonaws.ssm#ParameterNotFound:http://…`
    let code = code.rsplit('#').next().and_then(|c| c.split(':').next()).unwrap_or_default();
    let code = match (code, answer.status) {
        ("", 404) if call.service == Service::S3 => "NoSuchKey",
        ("", _) => "Unknown",
        (code, _) => code,
    };
    let request_id = ["x-amzn-requestid", "x-amz-request-id"].into_iter().find_map(|h| answer.header(h));
    AwsError::Service {
        service: call.service.name(),
        operation: call.operation.to_string(),
        code: code.to_string(),
        message: message.unwrap_or_else(|| format!("HTTP {}", answer.status)),
        status: answer.status,
        request_id: request_id.unwrap_or_default().to_string(),
    }
}

fn kind_of(e: &reqwest::Error) -> TransportKind {
    let text = chain(e).to_lowercase();
    if e.is_timeout() {
        TransportKind::Timeout
    } else if text.contains("dns") || text.contains("lookup") {
        TransportKind::Dns
    } else if text.contains("certificate") || text.contains("tls") || text.contains("handshake") {
        TransportKind::Tls
    } else if e.is_connect() {
        TransportKind::Connect
    } else {
        TransportKind::Other
    }
}

/// The causes of an error, without the URL (it may hold a query).
fn chain(e: &reqwest::Error) -> String {
    let mut out = Vec::new();
    let mut source: Option<&dyn std::error::Error> = std::error::Error::source(e);
    while let Some(s) = source {
        out.push(s.to_string());
        source = s.source();
    }
    if out.is_empty() { "the connection failed".into() } else { out.join(": ") }
}

fn jittered(pause: Duration) -> Duration {
    let mut byte = [0u8; 1];
    // Without randomness the pause is whole, which is no harm.
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut byte).is_ok();
    if filled { pause.mul_f64(0.5 + f64::from(byte[0]) / 510.0) } else { pause }
}
