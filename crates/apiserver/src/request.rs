//! What a request asks for, read from its method, path and query: the upstream server's `RequestInfo`.

use druse_object::Str;
use http::Method;

/// A request's target and options.
#[derive(Clone, Debug, Default)]
pub struct RequestInfo {
    /// Whether the path names a resource of the API.
    pub is_resource: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for other paths the
    /// lower-case method.
    pub verb: &'static str,
    /// The path as sent.
    pub path: String,
    /// The API group; empty for core.
    pub group: Str,
    /// The version.
    pub version: Str,
    /// The namespace, empty when none is named.
    pub namespace: Str,
    /// The plural.
    pub resource: Str,
    /// The object's name.
    pub name: Str,
    /// `status`, …
    pub subresource: Str,
    /// What follows the subresource (`proxy/…`).
    pub rest: Vec<String>,
    /// The decoded query.
    pub query: Query,
}

/// A decoded query string.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=b&c=d`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|p| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (decode(k, true), decode(v, true))
        });
        Self(pairs.collect())
    }

    /// The first value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Whether a flag is set (`watch=1`, `watch=true`, `watch`).
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        // Conversion from a query takes anything but "false" and "0" as true.
        self.get(key).is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }
}

/// Percent-decodes; in a query `+` is a space.
#[must_use]
pub fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        let hex = |j: usize| bytes.get(j).and_then(|b| (*b as char).to_digit(16));
        match (b, hex(i + 1), hex(i + 2)) {
            #[allow(clippy::cast_possible_truncation)]
            (b'%', Some(h), Some(l)) => {
                out.push((h * 16 + l) as u8);
                i += 3;
                continue;
            }
            (b'+', _, _) if plus => out.push(b' '),
            _ => out.push(b),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn method_word(m: &Method) -> &'static str {
    match *m {
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::HEAD => "head",
        Method::OPTIONS => "options",
        _ => "",
    }
}

/// Subresources of namespaces (anything else after a namespace's name is a resource in it).
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads a request line.
    #[must_use]
    pub fn of(method: &Method, path: &str, query: Option<&str>) -> Self {
        let query = Query::parse(query.unwrap_or_default());
        let mut info = Self { verb: method_word(method), path: path.to_owned(), query, ..Self::default() };
        let parts: Vec<String> = path.split('/').filter(|p| !p.is_empty()).map(|p| decode(p, false)).collect();
        let mut rest: &[String] = match parts.split_first() {
            Some((p, [version, rest @ ..])) if p == "api" => {
                info.version = version.into();
                rest
            }
            Some((p, [group, version, rest @ ..])) if p == "apis" => {
                info.group = group.into();
                info.version = version.into();
                rest
            }
            _ => return info,
        };
        if rest.is_empty() {
            return info;
        }
        info.is_resource = true;
        let mut watch_path = false;
        if let [w, more @ ..] = rest
            && w == "watch"
            && !more.is_empty()
        {
            watch_path = true;
            rest = more;
        }
        if let [n, ns, more @ ..] = rest
            && n == "namespaces"
            && !matches!(more.first(), Some(s) if NAMESPACE_SUBRESOURCES.contains(&s.as_str()))
            && !more.is_empty()
        {
            info.namespace = ns.into();
            rest = more;
        }
        let mut it = rest.iter();
        info.resource = it.next().map(Into::into).unwrap_or_default();
        info.name = it.next().map(Into::into).unwrap_or_default();
        info.subresource = it.next().map(Into::into).unwrap_or_default();
        info.rest = it.cloned().collect();
        if info.resource == "namespaces" && info.namespace.is_empty() {
            // A namespace's own namespace, for authorization, is itself.
            info.namespace = info.name.clone();
        }
        info.verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if info.name.is_empty() => "deletecollection",
            Method::DELETE => "delete",
            Method::GET | Method::HEAD if watch_path => "watch",
            Method::GET | Method::HEAD if info.name.is_empty() => {
                if info.query.flag("watch") {
                    "watch"
                } else {
                    "list"
                }
            }
            Method::GET | Method::HEAD => "get",
            _ => info.verb,
        };
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: &str, path: &str, query: &str) -> RequestInfo {
        RequestInfo::of(&method.parse().unwrap(), path, Some(query))
    }

    #[test]
    fn paths_and_methods_become_verbs_on_resources() {
        let i = info("GET", "/api/v1/namespaces/a/pods/p/log", "container=c%20d");
        assert_eq!((i.verb, &*i.namespace, &*i.resource, &*i.name, &*i.subresource), ("get", "a", "pods", "p", "log"));
        assert_eq!(i.query.get("container"), Some("c d"));
        assert_eq!(info("GET", "/apis/apps/v1/deployments", "watch=1").verb, "watch");
        assert_eq!(info("DELETE", "/apis/apps/v1/namespaces/a/deployments", "").verb, "deletecollection");
        let n = info("PUT", "/api/v1/namespaces/a/finalize", "");
        assert_eq!((&*n.resource, &*n.name, &*n.subresource), ("namespaces", "a", "finalize"));
        assert!(!info("GET", "/apis/apps/v1", "").is_resource);
        assert!(!info("GET", "/version", "").is_resource);
    }
}
