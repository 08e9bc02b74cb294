//! Says on a webhook's configuration (or a CRD that converts by one) that nobody is called, and takes it back when
//! somebody is.

use std::sync::Arc;

use crate::callout::SIMULATED;
use crate::handlers::{Call, Mode, change};
use crate::server::Shared;

const WHAT: &str = "webhooks: not called, the pods behind them are simulated";

/// Follows what the calls find out.
pub async fn run(shared: Arc<Shared>) {
    let Some(mut changes) = shared.callouts.changes() else { return };
    let mut closing = shared.closing.subscribe();
    loop {
        let next = tokio::select! {
            c = changes.recv() => c,
            _ = closing.wait_for(|c| *c) => return,
        };
        let Some(((stored_as, name), simulated)) = next else { return };
        let table = shared.registry.table();
        let Some(resource) = table.resources.iter().find(|r| r.stored_as == stored_as).cloned() else { continue };
        let call = Call::internal(&shared, "druse", &resource, "", &name);
        let done = change(&call, &name, "", Mode::System, false, &mut |old, _| {
            let mut new = old.clone();
            if let Some(annotations) = new.make_map_at(["metadata", "annotations"]) {
                if simulated {
                    annotations.insert(SIMULATED, WHAT);
                } else {
                    annotations.remove(SIMULATED);
                }
            }
            Ok(new)
        })
        .await;
        if let Err(e) = done {
            tracing::debug!(configuration = name, error = %e, "not marked as simulated");
        }
    }
}
