//! The kubelet's calls to a CSI driver, for scripts (`tools/csi_interop.py`, `benches/mounts.py`) that try and measure
//! drivers, druse's and upstream's.
//!
//!   kubelet SOCKET [CONCURRENCY] < CALLS > ANSWERS
//!
//! A call is a line of JSON: `{"target": PATH}` unpublishes; with `context` (the volume context, a map of strings) it
//! publishes, with `secrets` and the fsGroup `group` where they are given. An answer is a line in the call's place:
//! `{"micros": N}`, with `code` and `message` where the driver refused.
#![allow(clippy::print_stdout, clippy::field_reassign_with_default)] // fields are moved out of nothing that zeroes itself

use std::collections::HashMap;
use std::error::Error;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use druse_csi::wire::Status;
use druse_csi::wire::channel::Channel;
use druse_csi::wire::csi::{
    AccessType, MountVolume, NodePublishVolumeRequest, NodePublishVolumeResponse, NodeUnpublishVolumeRequest,
    NodeUnpublishVolumeResponse, VolumeCapability,
};
use serde_json::{Value, json};

/// As long as the kubelet waits.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let socket = args.next().ok_or("usage: kubelet SOCKET [CONCURRENCY] < CALLS")?;
    let concurrency: usize = args.next().map_or(Ok(1), |n| n.parse())?;
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let calls: Arc<Vec<Value>> = Arc::new(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?);
    let next = Arc::new(AtomicUsize::new(0));
    let workers = (0..concurrency).map(|_| {
        let (calls, next, channel) = (calls.clone(), next.clone(), Channel::new(Path::new(&socket), 1 << 20));
        tokio::spawn(async move {
            let mut answers = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(asked) = calls.get(i) else { return answers };
                let begun = Instant::now();
                let said = call(&channel, asked).await;
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                answers.push((
                    i,
                    match said {
                        Ok(()) => json!({ "micros": micros }),
                        Err(e) => {
                            json!({ "micros": micros, "code": format!("{:?}", e.code()), "message": e.message() })
                        }
                    },
                ));
            }
        })
    });
    let mut answers = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        answers.extend(worker.await?);
    }
    answers.sort_by_key(|(i, _)| *i);
    answers.iter().for_each(|(_, a)| println!("{a}"));
    Ok(())
}

async fn call(channel: &Channel, asked: &Value) -> Result<(), Status> {
    let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
    let target = text("target");
    // The kubelet's own name for a pod's volume, of which drivers of ephemeral volumes make nothing.
    let volume_id = format!("csi-{target}");
    if asked.get("context").is_none() {
        let request = NodeUnpublishVolumeRequest { volume_id, target_path: target };
        let done = channel.unary("/csi.v1.Node/NodeUnpublishVolume", request, PATIENCE).await;
        return done.map(|_: NodeUnpublishVolumeResponse| ());
    }
    let map = |field: &str| -> HashMap<String, String> {
        let entries = asked[field].as_object().into_iter().flatten();
        entries.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
    };
    let mount = MountVolume { volume_mount_group: text("group"), ..MountVolume::default() };
    let mut request = NodePublishVolumeRequest::default();
    request.volume_id = volume_id;
    request.target_path = target;
    request.readonly = true;
    request.volume_capability =
        Some(VolumeCapability { access_type: Some(AccessType::Mount(mount)), access_mode: None });
    request.volume_context = map("context").into_iter().collect();
    request.secrets = map("secrets").into_iter().collect();
    let done = channel.unary("/csi.v1.Node/NodePublishVolume", request, PATIENCE).await;
    done.map(|_: NodePublishVolumeResponse| ())
}
