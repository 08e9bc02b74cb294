//! Publishing against a real (embedded) API: what providers are told, what pods see, what is left when something fails.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use common::{Answer, NODE, World, versions};
use druse_csi::mount::Mounts;
use druse_csi::node::{Node, PublishError, Published, Settings};
use druse_csi::providers::{ProviderError, Providers};
use druse_csi::wire::csi::{AccessType, BlockVolume, MountVolume, TOKENS, VolumeCapability};
use druse_csi::wire::server::{Socket, serve};
use druse_csi::wire::{Code, Status, provider};
use druse_object::Value;
use druse_runtime::Api;

/// Renews whenever it is asked to.
const ALWAYS: Option<Duration> = Some(Duration::ZERO);

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_its_files_and_the_provider_is_told_for_whom() {
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    let node = world.node(world.settings());
    let mut request = pod.publish();
    request.volume_context.insert("shared".into(), "volume".into());
    request.secrets.insert("user".into(), "u\"1".into());
    let published = node.publish(request).await.unwrap();
    assert!(matches!(published, Published::Mounted(o) if o == versions(&[("id/password", "1")])));
    assert_eq!(pod.file("password"), "old");

    let seen = world.fake.last();
    for (key, value) in [
        ("objects", "- objectName: password"),
        ("shared", "volume"), // the volume's attributes go over the class' parameters
        ("secretProviderClass", "app"),
        ("csi.storage.k8s.io/pod.name", "web"),
        ("csi.storage.k8s.io/pod.namespace", "default"),
        ("csi.storage.k8s.io/pod.uid", &pod.uid),
        ("csi.storage.k8s.io/serviceAccount.name", "default"),
        (TOKENS, "{\"sts.amazonaws.com\":{\"token\":\"TOKEN\"}}"),
    ] {
        assert_eq!(seen.attributes[key].as_str(), Some(value), "{key}");
    }
    assert_eq!(seen.secrets["user"].as_str(), Some("u\"1"));
    assert_eq!(seen.target, pod.target.to_str().unwrap());
    assert_eq!(seen.permission, "420");
    assert!(seen.current.is_empty());

    let status = world.status("web").await.unwrap();
    assert_eq!(status.str_at(["metadata", "labels", "internal.secrets-store.csi.k8s.io/node-name"]), Some(NODE));
    let owner = &status["metadata"]["ownerReferences"].items()[0];
    assert_eq!((owner["kind"].as_str(), owner["uid"].as_str()), (Some("Pod"), Some(pod.uid.as_str())));
    assert_eq!(status["status"]["mounted"].as_bool(), Some(true));
    assert_eq!(status["status"]["targetPath"].as_str(), pod.target.to_str());
    assert_eq!(status["status"]["objects"].items()[0]["version"].as_str(), Some("1"));

    node.unpublish(pod.unpublish()).await.unwrap();
    assert!(!pod.target.exists());
    node.unpublish(pod.unpublish()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_come_from_the_secrets_of_newer_kubelets_too() {
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    let mut request = pod.publish();
    request.volume_context.remove(TOKENS);
    request.secrets.insert(TOKENS.into(), "{\"a\":1}".into());
    world.node(world.settings()).publish(request).await.unwrap();
    assert_eq!(world.fake.last().attributes[TOKENS].as_str(), Some("{\"a\":1}"));
    assert_eq!(world.fake.last().secrets, Value::Null, "tokens are no secrets of the volume's");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_refused_with_the_reason() {
    let world = World::new().await;
    for class in [
        "{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {name: bare, namespace: default}, spec: {parameters: {a: b}}}",
        "{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {name: empty, namespace: default}, spec: {provider: fake}}",
        "{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {name: away, namespace: default}, spec: {provider: gone, parameters: {a: b}}}",
        "{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {name: odd, namespace: default}, spec: {provider: ../../etc/x, parameters: {a: b}}}",
    ] {
        world.create(class).await;
    }
    let folder = world.dir.path().join("providers");
    let node = Node::new(world.settings(), world.api.clone(), Providers::new([folder.clone()]));
    let pod = world.pod("web", "").await;
    type Change = fn(&mut druse_csi::wire::csi::NodePublishVolumeRequest);
    let cases: [(Change, Code, &str); 15] = [
        (|r| r.volume_capability = None, Code::InvalidArgument, "Volume capability missing"),
        (|r| r.volume_id.clear(), Code::InvalidArgument, "Volume ID missing"),
        (|r| r.target_path.clear(), Code::InvalidArgument, "Target path missing"),
        (|r| r.volume_context.clear(), Code::InvalidArgument, "Volume attributes missing"),
        (|r| r.readonly = false, Code::InvalidArgument, "readOnly: true"),
        (|r| r.target_path = "relative/mount".into(), Code::InvalidArgument, "not absolute"),
        (|r| r.target_path.push_str("/../../x"), Code::InvalidArgument, "`..`"),
        (
            |r| {
                r.volume_capability =
                    Some(VolumeCapability { access_type: Some(AccessType::Block(BlockVolume {})), access_mode: None });
            },
            Code::InvalidArgument,
            "block device",
        ),
        (
            |r| drop(r.volume_context.remove("secretProviderClass")),
            Code::InvalidArgument,
            "no attribute secretProviderClass",
        ),
        (
            |r| drop(r.volume_context.remove("csi.storage.k8s.io/pod.name")),
            Code::FailedPrecondition,
            "podInfoOnMount: true",
        ),
        (
            |r| drop(r.volume_context.insert("csi.storage.k8s.io/pod.uid".into(), "another".into())),
            Code::FailedPrecondition,
            "another pod",
        ),
        (
            |r| drop(r.volume_context.insert("secretProviderClass".into(), "none".into())),
            Code::NotFound,
            "default/none does not exist",
        ),
        (
            |r| drop(r.volume_context.insert("secretProviderClass".into(), "bare".into())),
            Code::FailedPrecondition,
            "spec.provider",
        ),
        (
            |r| drop(r.volume_context.insert("secretProviderClass".into(), "empty".into())),
            Code::FailedPrecondition,
            "spec.parameters",
        ),
        (
            |r| drop(r.volume_context.insert("secretProviderClass".into(), "odd".into())),
            Code::Unavailable,
            "is not a provider's name",
        ),
    ];
    for (change, code, text) in cases {
        let mut request = pod.publish();
        change(&mut request);
        let status = Status::from(node.publish(request).await.unwrap_err());
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{text}: {status}");
        assert!(!pod.target.exists(), "{text}: nothing is left");
    }
    let mut request = pod.publish();
    request.volume_context.insert("secretProviderClass".into(), "away".into());
    let refused = node.publish(request).await.unwrap_err().to_string();
    assert!(refused.contains("gone.sock") && refused.contains(folder.to_str().unwrap()), "{refused}");
    let text = node.metrics().text();
    assert!(text.contains("node_publish_error_total{os_type=\"linux\",provider=\"gone\",error_type=\"FailedToLookupProviderGRPCClient\"} 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_volume_is_left_alone_without_rotation() {
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    let node = world.node(world.settings());
    node.publish(pod.publish()).await.unwrap();
    world.fake.gives(&[("password", "new")], "2");
    for node in [node, world.node(world.settings())] {
        // Also by a driver that was restarted meanwhile.
        assert!(matches!(node.publish(pod.publish()).await.unwrap(), Published::Already));
        assert_eq!((pod.file("password").as_str(), world.fake.asked()), ("old", 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_renews_when_due_and_tells_the_provider_what_is_there() {
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    let node = world.node(Settings { rotation: ALWAYS, ..world.settings() });
    node.publish(pod.publish()).await.unwrap();
    assert!(matches!(node.publish(pod.publish()).await.unwrap(), Published::Renewed(false)));
    assert_eq!(world.fake.last().current, versions(&[("id/password", "1")]));
    world.fake.gives(&[("password", "new"), ("more/file", "x")], "2");
    assert!(matches!(node.publish(pod.publish()).await.unwrap(), Published::Renewed(true)));
    assert_eq!((pod.file("password").as_str(), pod.file("more/file").as_str()), ("new", "x"));
    assert_eq!(world.status("web").await.unwrap()["status"]["objects"].items().len(), 2);
    // A driver that was restarted reads what is mounted from the status object.
    let restarted = world.node(Settings { rotation: ALWAYS, ..world.settings() });
    assert!(matches!(restarted.publish(pod.publish()).await.unwrap(), Published::Renewed(false)));
    assert_eq!(world.fake.last().current, versions(&[("id/more/file", "2"), ("id/password", "2")]));
    // Not due: nobody is asked, restarted or not.
    let asked = world.fake.asked();
    let slow = world.node(Settings { rotation: Some(Duration::from_secs(3600)), ..world.settings() });
    assert!(matches!(slow.publish(pod.publish()).await.unwrap(), Published::Already));
    assert_eq!(world.fake.asked(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_renewal_keeps_the_old_files_and_says_so_on_the_pod() {
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    let node = world.node(Settings { rotation: ALWAYS, ..world.settings() });
    node.publish(pod.publish()).await.unwrap();
    let bad_path = |path: &str| {
        Answer::Files(vec![("fine".into(), b"CANARY".to_vec(), 0o644), (path.into(), vec![], 0o644)], "2".into())
    };
    for (answer, text) in [
        (Answer::Refuse(Status::permission_denied("role r may not read")), "role r may not read"),
        (Answer::Code("Throttled".into()), "Throttled"),
        (Answer::NoVersions, "object versions"),
        (bad_path("../../escape"), "escape"),
        (bad_path("/etc/passwd"), "absolute"),
        (bad_path("fine"), "twice"),
        (bad_path("fine/below"), "below"),
        (bad_path("..data"), "reserved"),
    ] {
        world.fake.does(answer);
        match node.publish(pod.publish()).await.unwrap() {
            Published::Kept(e) => assert!(e.to_string().contains(text) && !e.to_string().contains("CANARY"), "{e}"),
            other => panic!("{text}: {other:?}"),
        }
        assert_eq!(pod.file("password"), "old", "{text}");
        assert_eq!(pod.names(), ["password"], "{text}");
        assert_eq!(common::names(world.dir.path()), ["pods"], "{text}");
    }
    let events = druse_runtime::Resource::new("", "v1", "Event", "events", true);
    let (events, _) = world.api.list(&events, "default", &druse_runtime::ListOptions::default()).await.unwrap();
    let about = events.iter().find(|e| e["reason"].as_str() == Some("MountRotationFailed")).unwrap();
    assert_eq!(about["involvedObject"]["uid"].as_str(), Some(pod.uid.as_str()));
    // And when the provider is well again, so is the volume.
    world.fake.gives(&[("password", "new")], "2");
    assert!(matches!(node.publish(pod.publish()).await.unwrap(), Published::Renewed(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_first_publish_leaves_nothing_and_can_be_tried_again() {
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    for mounts in [Mounts::Folder, Mounts::Tmpfs] {
        if mounts == Mounts::Tmpfs && !common::root() {
            continue;
        }
        let node = world.node(Settings { mounts, ..world.settings() });
        world.fake.does(Answer::Refuse(Status::permission_denied("no")));
        let refused = node.publish(pod.publish()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(!pod.target.exists());
        world.fake.gives(&[("password", "new")], "1");
        assert!(matches!(node.publish(pod.publish()).await.unwrap(), Published::Mounted(_)));
        assert_eq!(pod.file("password"), "new");
        node.unpublish(pod.unpublish()).await.unwrap();
        assert!(!pod.target.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_a_killed_driver_never_filled_is_filled() {
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    let mounts = if common::root() { Mounts::Tmpfs } else { Mounts::Folder };
    mounts.mount(&pod.target).unwrap();
    let node = world.node(Settings { mounts, ..world.settings() });
    assert!(matches!(node.publish(pod.publish()).await.unwrap(), Published::Mounted(_)));
    assert_eq!(pod.file("password"), "old");
    // Mounted once, and so taken down at once.
    mounts.unmount(&pod.target).unwrap();
    assert!(!pod.target.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_group_reads_what_only_owners_may() {
    if !common::root() {
        return;
    }
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    world.fake.does(Answer::Files(vec![("key".into(), vec![1], 0o400)], "1".into()));
    let node = world.node(Settings { mounts: Mounts::Tmpfs, ..world.settings() });
    let mut request = pod.publish();
    let mount = MountVolume { volume_mount_group: "2000".into(), ..MountVolume::default() };
    request.volume_capability =
        Some(VolumeCapability { access_type: Some(AccessType::Mount(mount)), access_mode: None });
    node.publish(request).await.unwrap();
    let meta = std::fs::metadata(pod.target.join("key")).unwrap();
    assert_eq!((meta.gid(), meta.mode() & 0o7777), (2000, 0o440));
    node.unpublish(pod.unpublish()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_is_given_up_and_named_and_holds_up_nobody() {
    let world = World::new().await;
    world.create("{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {name: stuck, namespace: default}, spec: {provider: stuck, parameters: {a: b}}}").await;
    let folder = world.dir.path().join("providers");
    std::fs::create_dir(&folder).unwrap();
    let stuck = common::Fake::new();
    stuck.does(Answer::Hang);
    let socket = Socket::bind(&folder.join("stuck.sock"), 0o600).unwrap();
    let served = tokio::spawn(serve(socket, vec![provider::service(stuck.clone(), 1 << 20)], std::future::pending()));
    let providers =
        Providers::new([folder.clone()]).with("fake", world.fake.clone()).with_timeout(Duration::from_millis(300));
    let node = Node::new(world.settings(), world.api.clone(), providers);
    let (stuck_pod, pod) = (world.pod("stuck", "").await, world.pod("web", "").await);
    let mut request = stuck_pod.publish();
    request.volume_context.insert("secretProviderClass".into(), "stuck".into());
    let (late, fine) = tokio::join!(node.publish(request), node.publish(pod.publish()));
    fine.unwrap();
    match late.unwrap_err() {
        e @ PublishError::Provider(ProviderError::Silent { .. }) => {
            assert!(e.to_string().contains("\"stuck\"") && e.to_string().contains("300ms"), "{e}");
            assert_eq!(e.code(), Code::Unavailable);
        }
        other => panic!("{other}"),
    }
    assert!(!stuck_pod.target.exists());
    served.abort();

    // A socket that nobody listens on any more.
    let providers = Providers::new([folder]).with_timeout(Duration::from_secs(20));
    let node = Node::new(world.settings(), world.api.clone(), providers);
    served.await.unwrap_err();
    let mut request = stuck_pod.publish();
    request.volume_context.insert("secretProviderClass".into(), "stuck".into());
    let dead = std::os::unix::net::UnixListener::bind(world.dir.path().join("providers/stuck.sock"));
    drop(dead.unwrap());
    match node.publish(request).await.unwrap_err() {
        e @ PublishError::Provider(ProviderError::Away { .. }) => assert!(e.to_string().contains("3 attempts"), "{e}"),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unpublishing_needs_neither_api_nor_provider() {
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    let mounts = if common::root() { Mounts::Tmpfs } else { Mounts::Folder };
    let settings = Settings { mounts, ..world.settings() };
    world.node(settings.clone()).publish(pod.publish()).await.unwrap();
    let gone = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("the API is gone"))
    });
    let node = Node::new(settings, Api::new(kube::Client::new(gone, "default")), Providers::new([]));
    // Meanwhile the kubelet may still republish; the files stay.
    assert!(matches!(node.publish(pod.publish()).await.unwrap(), Published::Already));
    node.unpublish(pod.unpublish()).await.unwrap();
    assert!(!pod.target.exists());
    let refused = node.publish(pod.publish()).await.unwrap_err();
    assert!(matches!(refused.code(), Code::Unavailable), "{refused}");
    assert!(refused.to_string().contains("the API is gone"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_an_earlier_pod_of_this_name_is_taken_over() {
    let world = World::new().await;
    world.create("{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClassPodStatus, metadata: {name: db-0-default-app, namespace: default}, status: {podName: db-0, secretProviderClassName: app, targetPath: /old}}").await;
    let pod = world.pod("db-0", "").await;
    world.node(world.settings()).publish(pod.publish()).await.unwrap();
    let status = world.status("db-0").await.unwrap();
    assert_eq!(status["status"]["targetPath"].as_str(), pod.target.to_str());
    assert_eq!(status["metadata"]["ownerReferences"].items()[0]["uid"].as_str(), Some(pod.uid.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_any_more_goes_on_to_its_end() {
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    let node = world.node(world.settings());
    let call = tokio::spawn({
        let (node, request) = (node.clone(), pod.publish());
        async move { node.publish(request).await }
    });
    world.until("the provider is asked", async |w| (w.fake.asked() > 0).then_some(())).await;
    call.abort();
    // The next call of the same volume waits for it.
    assert!(matches!(node.publish(pod.publish()).await.unwrap(), Published::Already));
    assert_eq!((pod.file("password").as_str(), world.fake.asked()), ("old", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_binary_and_empty_values_arrive_through_a_socket() {
    let world = World::new().await;
    let folder = world.dir.path().join("providers");
    std::fs::create_dir(&folder).unwrap();
    let socket = Socket::bind(&folder.join("fake.sock"), 0o600).unwrap();
    let served =
        tokio::spawn(serve(socket, vec![provider::service(Arc::clone(&world.fake), 1 << 20)], std::future::pending()));
    let pod = world.pod("web", "").await;
    let huge = vec![0xfe; 6 << 20];
    let mut files = vec![("huge".to_owned(), huge.clone(), 0o644), ("empty".into(), vec![], 0o644)];
    files.extend((0..10_000).map(|i| (format!("n/{i}"), vec![0, 255, 10], 0o600)));
    world.fake.does(Answer::Files(files, "1".into()));
    let small = Node::new(world.settings(), world.api.clone(), Providers::new([folder.clone()]));
    let refused = small.publish(pod.publish()).await.unwrap_err();
    assert!(refused.to_string().contains("--max-call-recv-msg-size"), "{refused}");
    let large = Providers::new([folder]).with_max_response(64 << 20);
    let node = Node::new(world.settings(), world.api.clone(), large);
    node.publish(pod.publish()).await.unwrap();
    assert_eq!(std::fs::read(pod.target.join("huge")).unwrap(), huge);
    assert_eq!(std::fs::read(pod.target.join("empty")).unwrap(), b"");
    assert_eq!(std::fs::read(pod.target.join("n/9999")).unwrap(), [0, 255, 10]);
    served.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_dies_in_the_middle_leaves_every_volume_as_it_was() {
    use tokio::io::AsyncReadExt as _;
    let world = World::new().await;
    let folder = world.dir.path().join("providers");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("fake.sock");
    let socket = Socket::bind(&path, 0o600).unwrap();
    let contract = provider::service(Arc::clone(&world.fake), 1 << 20);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(serve(socket, vec![contract], async { drop(stopped.await) }));
    let settings = Settings { rotation: ALWAYS, ..world.settings() };
    let node = Node::new(settings, world.api.clone(), Providers::new([folder]));
    let pod = world.pod("web", "").await;
    node.publish(pod.publish()).await.unwrap();
    stop.send(()).unwrap();
    served.await.unwrap();

    // Whoever comes is listened to, and then cut off.
    let dying = tokio::net::UnixListener::bind(&path).unwrap();
    let (came, mut comes) = tokio::sync::mpsc::unbounded_channel();
    let deaths = tokio::spawn(async move {
        loop {
            let (mut stream, _) = dying.accept().await.unwrap();
            let read = stream.read(&mut [0; 4096]).await.unwrap();
            came.send(read).unwrap();
        }
    });
    world.fake.gives(&[("password", "new")], "2");
    match node.publish(pod.publish()).await.unwrap() {
        Published::Kept(e @ PublishError::Provider(ProviderError::Away { attempts: 3, .. })) => {
            assert_eq!(e.code(), Code::Unavailable);
        }
        other => panic!("{other:?}"),
    }
    for _ in 0..3 {
        assert!(comes.recv().await.unwrap() > 0, "it had begun to listen");
    }
    assert_eq!((pod.file("password").as_str(), pod.names()), ("old", vec!["password".to_owned()]));
    let first = world.pod("first", "").await;
    node.publish(first.publish()).await.unwrap_err();
    assert!(!first.target.exists(), "nothing is left of a volume that never was");
    deaths.abort();

    // It comes back, and so does what it gives.
    deaths.await.unwrap_err();
    std::fs::remove_file(&path).unwrap();
    let socket = Socket::bind(&path, 0o600).unwrap();
    let contract = provider::service(Arc::clone(&world.fake), 1 << 20);
    let served = tokio::spawn(serve(socket, vec![contract], std::future::pending()));
    assert!(matches!(node.publish(pod.publish()).await.unwrap(), Published::Renewed(true)));
    assert_eq!(pod.file("password"), "new");
    served.abort();
}
