//! Replays exchanges recorded with a real API server (`tests/recordings/*.json`) and tells where another answers
//! differently.
//!
//! A recording is a list of steps: `method`, `path`, and optionally `body`, `type` (the content type, JSON when not
//! given), `accept`, `token`, with the `status` and `answer` of the recorded server. `WAIT` asks until its path is
//! served, `WATCH` collects a watch's events until its `timeoutSeconds`. `save` keeps a field of the answer (a dotted
//! path) under a name for which `{name}` stands in later paths and bodies; `"keep": "status"` compares the status only;
//! `warnings` are the texts of the `Warning` headers; `"eventually": true` asks again until the answer is the recorded
//! one.
//! Values that no two servers share are masked on both sides.

use std::collections::BTreeMap;
use std::time::Duration;

use druse_object::{Map, Value, json};
use regex::Regex;

/// Fields whose values no two servers share.
const MASKED: [&str; 16] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "time",
    "token",
    "expirationTimestamp",
    "continue",
    "clusterIP",
    "clusterIPs",
    "nodePort",
    "timestamp",
    "lastTransitionTime",
    "lastPhaseTransitionTime",
    "selfLink",
    "remainingItemCount",
];

/// The name that recordings were made under: it is in the managed fields.
const AGENT: &str = "Python-urllib/3.11";
const TRIES: usize = 100;

struct Masks {
    age: Regex,
    days: Regex,
    suffix: Regex,
    uid: Regex,
    in_messages: Vec<(Regex, &'static str)>,
}

impl Masks {
    fn new() -> Self {
        let regex = |text: &str| Regex::new(text).unwrap();
        Self {
            age: regex(r"^\d+s$"),
            // Ages of what was dated long ago grow by the day.
            days: regex(r"\b(\d+y)?\d+d\b"),
            suffix: regex(r"^(gen-|kube-api-access-)[a-z0-9]{5}$"),
            uid: regex(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
            in_messages: vec![
                (regex(r"gen-[a-z0-9]{5}"), "gen-<suffix>"),
                (regex(r"kube-api-access-[a-z0-9]{5}"), "kube-api-access-<suffix>"),
                (regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "<time>"),
                (regex(r#"resourceVersion(\\*":\\*")\d+"#), "resourceVersion$1<resourceVersion>"),
                (regex(r"in record \(\d+\)"), "in record (<resourceVersion>)"),
            ],
        }
    }

    fn value(&self, v: &Value, key: &str) -> Value {
        match v {
            // By pod, when each was evicted.
            Value::Map(m) if key == "disruptedPods" => {
                Value::Map(m.keys().map(|k| (k.clone(), Value::from("<time>"))).collect())
            }
            Value::Map(m) => {
                let sorted: BTreeMap<_, _> = m.iter().map(|(k, v)| (k.clone(), self.value(v, k))).collect();
                Value::Map(sorted.into_iter().collect())
            }
            v if MASKED.contains(&key) && !is_plain(v) => format!("<{key}>").into(),
            Value::Array(items) => {
                let mut items: Vec<Value> = items.iter().map(|v| self.value(v, "")).collect();
                if key == "managedFields" {
                    // Their order is that of their times, to the second: two replays need not agree.
                    let text = |v: &Value, key: &str| v.str_at([key]).unwrap_or_default().to_owned();
                    items
                        .sort_by_key(|v| ["operation", "manager", "apiVersion", "subresource"].map(|key| text(v, key)));
                }
                Value::Array(items)
            }
            Value::String(s) => self.text(s, key).into(),
            v => v.clone(),
        }
    }

    fn text(&self, text: &str, key: &str) -> String {
        if self.age.is_match(text) {
            return "<age>".into();
        }
        let mut out = self.suffix.replace(text, "$1<suffix>").into_owned();
        out = self.uid.replace_all(&out, "<uid>").into_owned();
        out = self.days.replace_all(&out, "<age>").into_owned();
        if key == "message" {
            for (regex, with) in &self.in_messages {
                out = regex.replace_all(&out, *with).into_owned();
            }
        }
        out
    }
}

/// The text of a `Warning` header: `299 - "TEXT"` (RFC 7234 section 5.5).
fn warning(header: &str) -> Value {
    let text = header.strip_prefix("299 - \"").and_then(|t| t.strip_suffix('"')).unwrap_or(header);
    text.replace("\\\"", "\"").replace("\\\\", "\\").into()
}

/// What says the same on every server.
fn is_plain(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::String(s) => s.is_empty() || s == "None",
        Value::Array(a) => a.as_slice() == ["None".into()],
        _ => false,
    }
}

/// Where two values differ.
fn differences(expected: &Value, got: &Value, at: &str, out: &mut Vec<String>) {
    let short = |v: &Value| json::to_string(v).chars().take(400).collect::<String>();
    match (expected, got) {
        (Value::Map(e), Value::Map(g)) => {
            let mut keys: Vec<_> = e.keys().chain(g.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for k in keys {
                match (e.get(k), g.get(k)) {
                    (Some(a), Some(b)) => differences(a, b, &format!("{at}.{k}"), out),
                    (Some(a), None) => out.push(format!("{at}.{k}: expected {}, missing", short(a))),
                    (None, Some(b)) => out.push(format!("{at}.{k}: not expected, got {}", short(b))),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(e), Value::Array(g)) => {
            if e.len() != g.len() {
                out.push(format!("{at}: expected {} items, got {}", e.len(), g.len()));
            }
            for (i, (a, b)) in e.iter().zip(g).enumerate() {
                differences(a, b, &format!("{at}[{i}]"), out);
            }
        }
        (e, g) if e != g => out.push(format!("{at}: expected {}\n      got {}", short(e), short(g))),
        _ => {}
    }
}

/// A server to replay at.
pub struct Replay<'a> {
    client: reqwest::Client,
    url: &'a str,
    token: &'a str,
    masks: Masks,
}

impl<'a> Replay<'a> {
    /// `url` is the server's, `token` what steps authenticate with that do not say otherwise.
    pub fn new(url: &'a str, token: &'a str) -> Self {
        let client = reqwest::Client::builder().danger_accept_invalid_certs(true).user_agent(AGENT).no_proxy();
        Self { client: client.build().unwrap(), url, token, masks: Masks::new() }
    }

    /// Replays a recording; answers how many steps it compared, and the differences.
    pub async fn file(&self, name: &str, text: &[u8]) -> (usize, Vec<String>) {
        let steps = json::parse(text).unwrap_or_else(|e| panic!("{name}: {}", e.message));
        let mut saved: BTreeMap<String, String> = BTreeMap::new();
        let (mut compared, mut out) = (0, Vec::new());
        for (i, step) in steps.items().iter().enumerate() {
            let method = step.str_at(["method"]).unwrap();
            if method == "WAIT" {
                self.wait(step, &saved).await;
                continue;
            }
            let (mut answer, mut wrong) = self.compare(step, &saved).await;
            // What takes effect by itself, later.
            let mut tries = if step["eventually"].as_bool() == Some(true) { TRIES } else { 0 };
            while !wrong.is_empty() && tries > 0 {
                tries -= 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
                (answer, wrong) = self.compare(step, &saved).await;
            }
            for (key, path) in step.get("save").and_then(Value::as_map).into_iter().flat_map(Map::iter) {
                let found = path.as_str().unwrap().split('.').try_fold(&answer, |v, k| match k.parse::<usize>() {
                    Ok(n) => v.items().get(n),
                    Err(_) => v.get(k),
                });
                let found = found.unwrap_or_else(|| panic!("{name} step {i}: nothing to save at {path:?}"));
                let text = found.as_str().map_or_else(|| json::to_string(found), str::to_owned);
                saved.insert(key.to_string(), text);
            }
            compared += 1;
            if !wrong.is_empty() {
                let path = step.str_at(["path"]).unwrap();
                out.push(format!("{name} step {i}: {method} {path}\n    {}", wrong.join("\n    ")));
            }
        }
        (compared, out)
    }

    /// Sends a step; what was answered, and where that differs.
    async fn compare(&self, step: &Value, saved: &BTreeMap<String, String>) -> (Value, Vec<String>) {
        let (status, answer, warnings) = self.send(step, saved).await;
        let mut wrong = Vec::new();
        differences(&step["status"], &Value::from(i64::from(status)), "status", &mut wrong);
        if let Some(expected) = step.get("warnings") {
            differences(expected, &warnings, "warnings", &mut wrong);
        }
        if step.str_at(["keep"]) != Some("status") {
            let mask = |v: &Value| self.masks.value(v, "");
            differences(&mask(&step["answer"]), &mask(&answer), "", &mut wrong);
        }
        (answer, wrong)
    }

    async fn wait(&self, step: &Value, saved: &BTreeMap<String, String>) {
        let mut get = step.clone();
        get.make_map().unwrap().insert("method", "GET");
        for _ in 0..TRIES {
            if self.send(&get, saved).await.0 == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} is not served", step.str_at(["path"]).unwrap());
    }

    async fn send(&self, step: &Value, saved: &BTreeMap<String, String>) -> (u16, Value, Value) {
        let fill = |text: &str| saved.iter().fold(text.to_owned(), |t, (k, v)| t.replace(&format!("{{{k}}}"), v));
        let text = |key: &str| step.str_at([key]);
        let watch = text("method") == Some("WATCH");
        let method = if watch { "GET" } else { text("method").unwrap() };
        let url = format!("{}{}", self.url, fill(text("path").unwrap()));
        let mut request = self.client.request(method.parse().unwrap(), url);
        request = request.header("accept", text("accept").unwrap_or("application/json"));
        let token = step.get("token").map_or(Some(self.token), Value::as_str).filter(|t| !t.is_empty());
        if let Some(token) = token {
            request = request.bearer_auth(fill(token));
        }
        if let Some(body) = step.get("body").filter(|b| !b.is_null()) {
            let body = body.as_str().map_or_else(|| json::to_string(body), str::to_owned);
            request = request.header("content-type", text("type").unwrap_or("application/json")).body(fill(&body));
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter().map(|w| warning(w.to_str().unwrap())).collect();
        let bytes = response.bytes().await.unwrap();
        if watch && status == 200 {
            let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
            return (status, Value::Array(lines.map(|l| json::parse(l).unwrap()).collect()), warnings);
        }
        let plain = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
        (status, json::parse(&bytes).unwrap_or_else(|_| plain()), warnings)
    }
}
