//! What holds secrets on its way to and from the API: texts that are zeroed, and answers that leave the secrets out.
//!
//! A `Value` cannot be zeroed (its texts are shared), so that none is made of a token or of a Secret's data here. What the
//! HTTP client keeps of an answer in its own buffers is not ours.

use std::collections::BTreeMap;

use bytes::Bytes;
use druse_object::Value;
use http::Method;
use zeroize::Zeroizing;

use crate::api::{Api, ApiError, Resource, collect, failure};

/// Asks for nothing of an object but its metadata.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// A ServiceAccount's token. It is zeroed when dropped.
#[derive(Clone)]
pub struct PodToken {
    /// The token.
    pub token: Zeroizing<String>,
    /// Until when it is valid, as RFC 3339 has it.
    pub expires: String,
}

impl std::fmt::Debug for PodToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}

#[derive(serde::Deserialize)]
struct SecretAnswer {
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

#[derive(serde::Deserialize)]
struct TokenAnswer {
    status: TokenStatus,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenStatus {
    token: String,
    #[serde(default)]
    expiration_timestamp: String,
}

impl Api {
    /// A token of a ServiceAccount for an audience (the API's own where that is empty), bound to a pod by its name and UID.
    ///
    /// # Errors
    /// What the API answered.
    pub async fn pod_token(
        &self,
        namespace: &str,
        account: &str,
        audience: &str,
        seconds: i64,
        pod: (&str, &str),
    ) -> Result<PodToken, ApiError> {
        let mut request = Value::default();
        if let Some(m) = request.make_map() {
            m.insert("apiVersion", "authentication.k8s.io/v1");
            m.insert("kind", "TokenRequest");
        }
        if let Some(m) = request.make_map_at(["spec"]) {
            m.insert("audiences", [audience].into_iter().filter(|a| !a.is_empty()).collect::<Value>());
            m.insert("expirationSeconds", seconds);
        }
        if let Some(m) = request.make_map_at(["spec", "boundObjectRef"]) {
            m.insert("apiVersion", "v1");
            m.insert("kind", "Pod");
            m.insert("name", pod.0);
            m.insert("uid", pod.1);
        }
        let accounts = Resource::new("", "v1", "ServiceAccount", "serviceaccounts", true);
        let path = accounts.path(namespace, account, "token");
        let response = self.send(Method::POST, &path, Some("application/json"), Some(&request)).await?;
        if !response.status().is_success() {
            return Err(failure(response).await);
        }
        // Not through a `Value`, whose texts cannot be zeroed.
        let answer: TokenAnswer = serde_json::from_slice(&collect(response).await?)
            .map_err(|_| ApiError::Transport(format!("answer to {path} is no TokenRequest")))?;
        Ok(PodToken { token: Zeroizing::new(answer.status.token), expires: answer.status.expiration_timestamp })
    }

    /// A Secret's data by its keys, in base64 as the API has it; `None` when there is no such Secret.
    ///
    /// # Errors
    /// What the API answered, other than not found.
    pub async fn secret_data(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, Zeroizing<String>>>, ApiError> {
        let path = Resource::new("", "v1", "Secret", "secrets", true).path(namespace, name, "");
        let response = self.send(Method::GET, &path, None, None).await?;
        if !response.status().is_success() {
            let e = failure(response).await;
            return if e.is_not_found() { Ok(None) } else { Err(e) };
        }
        let answer: SecretAnswer = serde_json::from_slice(&collect(response).await?)
            .map_err(|_| ApiError::Transport(format!("answer to {path} is no Secret")))?;
        Ok(Some(answer.data.unwrap_or_default().into_iter().map(|(k, v)| (k, Zeroizing::new(v))).collect()))
    }

    /// An object's metadata, without asking for the rest of it; `None` when there is no such object.
    ///
    /// # Errors
    /// What the API answered, other than not found.
    pub async fn metadata(&self, r: &Resource, namespace: &str, name: &str) -> Result<Option<Value>, ApiError> {
        match self.exchange(Method::GET, &r.path(namespace, name, ""), METADATA, None).await {
            Ok(v) => Ok(Some(v)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Creates (POST) or replaces (PUT) an object that holds secrets, given as JSON: the text is zeroed once it is sent, and
    /// only the object's metadata is answered.
    ///
    /// # Errors
    /// What the API answered.
    pub async fn write_sealed(&self, method: Method, path: &str, json: Zeroizing<Vec<u8>>) -> Result<Value, ApiError> {
        self.exchange(method, path, METADATA, Some(json)).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        json: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Value, ApiError> {
        let content_type = json.is_some().then_some("application/json");
        // Whoever sends the text drops it last.
        let body = json.map(Bytes::from_owner).unwrap_or_default();
        let response = self.send_as(method, path, accept, content_type, body).await?;
        if !response.status().is_success() {
            return Err(failure(response).await);
        }
        let bytes = collect(response).await?;
        druse_object::json::parse(&bytes).map_err(|e| ApiError::Transport(format!("answer to {path} is not JSON: {e}")))
    }
}
