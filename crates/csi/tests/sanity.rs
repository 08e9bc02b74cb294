//! csi-sanity, the CSI project's own tests of drivers, against Identity and Node of the driver on its socket; and what the kubelet sees when it
//! registers it. csi-sanity is named by `DRUSE_CSI_SANITY` (`cargo xtask test` sets it); skipped without.
#![allow(clippy::unwrap_used, clippy::print_stderr)] // helpers of tests

mod common;

use std::process::Command;
use std::time::Duration;

use common::World;
use druse_csi::driver::{self, Identity, Registrar};
use druse_csi::wire::channel::Channel;
use druse_csi::wire::csi::{NodePublishVolumeResponse, NodeUnpublishVolumeResponse};
use druse_csi::wire::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use tokio::sync::watch;

const LONG: Duration = Duration::from_secs(20);

fn identity() -> Identity {
    Identity { name: druse_csi::kubelet::DRIVER.into(), version: "1.2.3".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn csi_sanity_finds_nothing() {
    let Some(sanity) = std::env::var_os("DRUSE_CSI_SANITY") else {
        eprintln!("SKIPPED: DRUSE_CSI_SANITY names no csi-sanity; cargo xtask test brings it");
        return;
    };
    let world = World::new().await;
    let socket = world.dir.path().join("csi.sock");
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn({
        let (node, socket) = (world.node(world.settings()), socket.clone());
        async move { driver::run(identity(), node, &socket, stopped).await }
    });
    let folder = world.dir.path().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        Command::new(sanity)
            .arg(format!("--csi.endpoint=unix://{}", socket.display()))
            .arg(format!("--csi.mountdir={}", folder.join("mount").display()))
            .arg(format!("--csi.stagingdir={}", folder.join("stage").display()))
            .args(["--ginkgo.no-color", "--ginkgo.v", "--ginkgo.focus=Identity Service|Node Service"])
            // It makes its volume with a controller's CreateVolume; ephemeral volumes have no controller.
            .arg("--ginkgo.skip=should remove target path")
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(" 0 Failed") && !text.contains(" 0 Passed"), "{text}");
    stop.send_replace(true);
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubelet_registers_the_driver_and_publishes_through_its_socket() {
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    let (socket, registry) = (world.dir.path().join("csi.sock"), world.dir.path().join("plugins_registry"));
    std::fs::create_dir(&registry).unwrap();
    let (stop, stopped) = watch::channel(false);
    let registrar = Registrar { driver: druse_csi::kubelet::DRIVER.into(), registry, endpoint: socket.clone() };
    let offered = registrar.socket();
    let tasks = [
        tokio::spawn({
            let (node, socket, stopped) = (world.node(world.settings()), socket.clone(), stopped.clone());
            async move { driver::run(identity(), node, &socket, stopped).await }
        }),
        tokio::spawn(registrar.run(stopped)),
    ];
    world.until("both sockets are there", async |_| (socket.exists() && offered.exists()).then_some(())).await;
    let kubelet = Channel::new(&offered, 1 << 20);
    let info: PluginInfo =
        kubelet.unary("/pluginregistration.Registration/GetInfo", InfoRequest {}, LONG).await.unwrap();
    assert_eq!((info.kind.as_str(), info.name.as_str()), ("CSIPlugin", "secrets-store.csi.k8s.io"));
    assert_eq!((info.endpoint.as_str(), info.supported_versions), (socket.to_str().unwrap(), vec!["1.0.0".to_owned()]));
    let status = RegistrationStatus { plugin_registered: true, error: String::new() };
    let path = "/pluginregistration.Registration/NotifyRegistrationStatus";
    let _taken: RegistrationStatusResponse = kubelet.unary(path, status, LONG).await.unwrap();

    let kubelet = Channel::new(&socket, 1 << 20);
    let published = kubelet.unary("/csi.v1.Node/NodePublishVolume", pod.publish(), LONG).await;
    let _published: NodePublishVolumeResponse = published.unwrap();
    assert_eq!(pod.file("password"), "old");
    let unpublished = kubelet.unary("/csi.v1.Node/NodeUnpublishVolume", pod.unpublish(), LONG).await;
    let _unpublished: NodeUnpublishVolumeResponse = unpublished.unwrap();
    assert!(!pod.target.exists());
    let mut missing = pod.publish();
    missing.volume_context.insert("secretProviderClass".into(), "none".into());
    let refused = kubelet.unary::<_, NodePublishVolumeResponse>("/csi.v1.Node/NodePublishVolume", missing, LONG).await;
    let refused = refused.unwrap_err();
    assert!(refused.message().contains("pod default/web") && refused.message().contains("default/none"), "{refused}");

    stop.send_replace(true);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(!socket.exists() && !offered.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_health_are_served_over_http() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    let node = world.node(world.settings());
    node.publish(pod.publish()).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(driver::metrics(listener, node, stopped));
    let get = async |path: &str| {
        let mut c = tokio::net::TcpStream::connect(at).await.unwrap();
        c.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        c.read_to_string(&mut text).await.unwrap();
        text
    };
    assert!(get("/metrics").await.contains("node_publish_total{os_type=\"linux\",provider=\"fake\"} 1"));
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/debug/pprof").await.starts_with("HTTP/1.1 404"));
    stop.send_replace(true);
    serving.await.unwrap();
}
