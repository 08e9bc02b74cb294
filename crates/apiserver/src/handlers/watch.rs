//! Watch: changes as they come, one JSON document a line, or one protobuf frame each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use druse_object::{Map, Value};
use futures::stream;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use tokio::time::Instant;

use super::read::{parse_rv, selector, too_large};
use super::{Answer, Call};
use crate::body::Body;
use crate::field::FieldError;
use crate::negotiate::Format;
use crate::response::View;
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{ChangeKind, Store, Stored, Watch};

/// How long a watch lasts when the client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How often a bookmark is sent to those who want them.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How many changes are taken from the history at a time.
const BATCH: usize = 256;

struct State {
    view: View,
    selector: Selector,
    namespace: String,
    store: Arc<dyn Store>,
    watch: Watch,
    closing: tokio::sync::watch::Receiver<bool>,
    ready: VecDeque<Bytes>,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    done: bool,
    columns: bool,
}

/// GET with `watch`.
pub fn watch(call: &Call) -> Answer {
    let query = &call.info.query;
    let selector = selector(call)?;
    let rv_text = query.get("resourceVersion").unwrap_or_default();
    let rv = parse_rv(rv_text)?;
    let initial = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
    let bookmarks = query.flag("allowWatchBookmarks");
    let matching = query.get("resourceVersionMatch").unwrap_or_default();
    let mut errors = Vec::new();
    if initial.is_some() && matching != "NotOlderThan" {
        errors.push(FieldError::forbidden(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    if initial.is_none() && !matching.is_empty() {
        errors.push(FieldError::forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ));
    }
    if !matching.is_empty() && matching != "NotOlderThan" {
        errors.push(FieldError::not_supported("resourceVersionMatch", matching, &["NotOlderThan"]));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors));
    }
    let timeout = match query.get("timeoutSeconds").and_then(|t| t.parse::<u64>().ok()) {
        Some(s) if s > 0 => Duration::from_secs(s.min(24 * 3600)),
        _ => DEFAULT_TIMEOUT,
    };
    let store = call.shared.store.clone();
    let now = Instant::now();
    let mut ready = VecDeque::new();
    let mut done = false;
    let mut columns = true;
    let current = store.revision();
    let resource = call.resource.stored_as.as_str();
    // Without a resource version, or with 0, the present state comes first.
    let from_state = initial.unwrap_or(rv == 0);
    let start = if rv > current {
        ready.push_back(error(&call.view, &too_large(rv, current)));
        done = true;
        current
    } else if from_state {
        let page = store
            .list(resource, call.namespace(), None, usize::MAX, None)
            .map_err(|e| Status::expired(e.to_string()))?;
        for o in page.items.iter().filter(|o| selector.matches(o)) {
            ready.push_back(event(&call.view, "ADDED", &call.view.object_bytes(o, columns)?));
            columns = false;
        }
        if initial == Some(true) {
            ready.push_back(bookmark(&call.view, page.rv, true));
        }
        page.rv
    } else if rv == 0 {
        current
    } else {
        rv
    };
    let watch = match store.watch(resource, start) {
        Ok(w) => w,
        Err(e) => {
            // Upstream tells so inside the watch.
            ready.push_back(error(&call.view, &Status::expired(e.to_string())));
            done = true;
            store.watch(resource, u64::MAX).map_err(|e| Status::expired(e.to_string()))?
        }
    };
    let state = State {
        view: call.view.clone(),
        selector,
        namespace: call.namespace().to_owned(),
        store,
        watch,
        closing: call.shared.closing.subscribe(),
        ready,
        bookmarks,
        next_bookmark: now + BOOKMARK_EVERY.min(timeout.saturating_sub(Duration::from_secs(2))),
        end: now + timeout,
        done,
        columns,
    };
    let lines = stream::unfold(state, |mut s| async move { s.next().await.map(|b| (b, s)) });
    let mut r = Response::new(Body::Stream(Box::pin(lines)));
    let kind = match call.view.accepted.format {
        Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    r.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    r.headers_mut().insert(CACHE_CONTROL, http::HeaderValue::from_static("no-cache, private"));
    Ok(r)
}

impl State {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(b) = self.take_ready() {
                return Some(b);
            }
            if self.done {
                return None;
            }
            // Read before the changes: everything up to it has been seen when they are.
            let revision = self.store.revision();
            match self.watch.poll(BATCH) {
                Err(e) => {
                    self.done = true;
                    self.ready.push_back(error(&self.view, &Status::expired(e.to_string())));
                    continue;
                }
                Ok(changes) if !changes.is_empty() => {
                    for c in changes {
                        self.push(c.kind, &c.object, c.previous.as_deref());
                    }
                    continue;
                }
                Ok(_) => {}
            }
            let now = Instant::now();
            if self.bookmarks && now >= self.next_bookmark {
                self.next_bookmark = now + BOOKMARK_EVERY;
                self.ready.push_back(bookmark(&self.view, revision, false));
                continue;
            }
            if now >= self.end {
                return None;
            }
            let wake = if self.bookmarks { self.end.min(self.next_bookmark) } else { self.end };
            tokio::select! {
                alive = self.watch.changed() => if !alive { return None; },
                () = tokio::time::sleep_until(wake) => {}
                _ = self.closing.wait_for(|c| *c) => return None,
            }
        }
    }

    /// Joins what is ready into one piece.
    fn take_ready(&mut self) -> Option<Bytes> {
        if self.ready.len() <= 1 {
            return self.ready.pop_front();
        }
        let mut out = BytesMut::new();
        while let Some(b) = self.ready.front() {
            if !out.is_empty() && out.len() + b.len() > 64 * 1024 {
                break;
            }
            out.put_slice(b);
            self.ready.pop_front();
        }
        Some(out.freeze())
    }

    /// What a change means to this watcher: an object that comes to match is added, one that ceases to is deleted.
    fn push(&mut self, kind: ChangeKind, object: &Stored, previous: Option<&Stored>) {
        if !self.namespace.is_empty() && object.namespace != self.namespace {
            return;
        }
        let was = previous.is_some_and(|p| self.selector.matches(p));
        let is = kind != ChangeKind::Deleted && self.selector.matches(object);
        let word = match (was, is) {
            (false, false) => return,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        // One that left the selection is shown as it last matched, at the new resource version.
        let shown = match (word, kind, previous) {
            ("DELETED", ChangeKind::Modified, Some(p)) => at_version(p, object.rv),
            _ => None,
        };
        let shown = shown.as_ref().unwrap_or(object);
        match self.view.object_bytes(shown, self.columns) {
            Ok(b) => {
                self.columns = false;
                self.ready.push_back(event(&self.view, word, &b));
            }
            Err(e) => {
                self.done = true;
                self.ready.push_back(error(&self.view, &e));
            }
        }
    }
}

fn at_version(o: &Stored, rv: u64) -> Option<Stored> {
    let encoded = crate::store::Encoded::of(&o.value().ok()?);
    Some(Stored::new(o.namespace.clone(), o.name.clone(), rv, encoded.head(), encoded.at(rv)))
}

/// One event: a line of JSON, or a protobuf frame.
fn event(view: &View, kind: &str, object: &[u8]) -> Bytes {
    if view.accepted.format == Format::Protobuf {
        return crate::protobuf::event(kind, object).into();
    }
    let mut out = BytesMut::with_capacity(object.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
    out.freeze()
}

fn error(view: &View, status: &Status) -> Bytes {
    event(view, "ERROR", &view.bytes(&status.to_value()))
}

fn bookmark(view: &View, rv: u64, initial_end: bool) -> Bytes {
    let mut meta = Map::new();
    meta.insert("resourceVersion", rv.to_string());
    if initial_end {
        let mut a = Map::new();
        a.insert("k8s.io/initial-events-end", "true");
        meta.insert("annotations", a);
    }
    let mut m = Map::new();
    match view.accepted.shape {
        crate::negotiate::Shape::Table => {
            let table = crate::table::bookmark(meta, view.accepted.meta);
            return event(view, "BOOKMARK", &view.bytes(&table));
        }
        crate::negotiate::Shape::Metadata => {
            m.insert("kind", "PartialObjectMetadata");
            m.insert("apiVersion", view.accepted.meta.api_version());
        }
        _ => {
            m.insert("kind", view.resource.kind.as_str());
            m.insert("apiVersion", view.resource.api_version(&view.version));
        }
    }
    m.insert("metadata", meta);
    event(view, "BOOKMARK", &view.bytes(&Value::Map(m)))
}
