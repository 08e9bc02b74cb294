//! Following one stored type inside the server.

use std::sync::Arc;
use std::time::Duration;

use crate::server::Shared;
use crate::store::{Change, Watch};

/// What following a type yields.
pub enum Event {
    /// Look at everything: the beginning, or changes were missed.
    Reset,
    /// These changed.
    Changes(Vec<Arc<Change>>),
}

/// Follows one type.
pub struct Source {
    shared: Arc<Shared>,
    resource: String,
    watch: Option<Watch>,
    closing: tokio::sync::watch::Receiver<bool>,
}

impl Source {
    /// Follows a stored type.
    pub fn new(shared: &Arc<Shared>, resource: &str) -> Self {
        let closing = shared.closing.subscribe();
        Self { shared: shared.clone(), resource: resource.into(), watch: None, closing }
    }

    /// The next thing to look at; after `retry` everything again, when that is given. `None` when the server closes.
    pub async fn next(&mut self, retry: Option<Duration>) -> Option<Event> {
        loop {
            if *self.closing.borrow() {
                return None;
            }
            let Some(watch) = &mut self.watch else {
                self.watch = self.shared.store.watch(&self.resource, self.shared.store.revision()).ok();
                return Some(Event::Reset);
            };
            match watch.poll(512) {
                Err(_) => {
                    self.watch = None;
                    continue;
                }
                Ok(changes) if !changes.is_empty() => return Some(Event::Changes(changes)),
                Ok(_) => {}
            }
            let wait = async {
                match retry {
                    Some(d) => tokio::time::sleep(d).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                alive = watch.changed() => if !alive { return None; },
                () = wait => return Some(Event::Reset),
                _ = self.closing.wait_for(|c| *c) => return None,
            }
        }
    }
}
