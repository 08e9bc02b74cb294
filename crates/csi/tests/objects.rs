//! What the driver does with objects of the API beside mounting: Secrets made of volumes, and volumes renewed without the
//! kubelet.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::{Answer, NODE, TestPod, World};
use druse_csi::node::{Published, Settings};
use druse_csi::wire::Status;
use druse_csi::{kubelet, rotate, sync};
use druse_object::{Map, Value, json};
use druse_runtime::{Caches, DeleteOptions, ListOptions, Manager, Patch, Resource};

const SYNCED: &str = "[{secretName: login, type: Opaque, labels: {app: web}, annotations: {note: x}, data: [{objectName: password, key: pw}]}]";

/// Makes the class ask for Secrets; `objects` is YAML.
async fn ask_for(world: &World, objects: &str) {
    let text = format!("{{spec: {{secretObjects: {objects}}}}}");
    let patch = druse_object::yaml::parse_strict(&text).unwrap();
    world.api.patch(&druse_csi::class::classes(), "default", "app", "", Patch::Merge, &patch).await.unwrap();
}

fn decoded(secret: &Value, key: &str) -> String {
    let text = secret["data"][key].as_str().unwrap();
    String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap()
}

async fn delete_pod(world: &World, pod: &TestPod) {
    let now = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    world.api.delete(&druse_csi::class::pods(), "default", &pod.name, &now).await.unwrap();
}

async fn events(world: &World, reason: &str) -> Vec<String> {
    let events = Resource::new("", "v1", "Event", "events", true);
    let (all, _) = world.api.list(&events, "default", &ListOptions::default()).await.unwrap();
    let of = all.iter().filter(|e| e["reason"].as_str() == Some(reason));
    of.map(|e| e["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_appears_after_the_mount_follows_it_and_goes_with_the_last_pod() {
    let world = World::new().await;
    ask_for(&world, SYNCED).await;
    let node = world.node(Settings { rotation: Some(Duration::ZERO), ..world.settings() });
    let manager = Manager::new();
    sync::start(&manager, &Caches::new(world.api.clone()), &node);
    let (one, two) = (world.pod("one", "").await, world.pod("two", "").await);
    assert!(world.secret("login").await.is_none(), "nothing is mounted yet");
    node.publish(one.publish()).await.unwrap();
    let made = world.until("the Secret is made", async |w| w.secret("login").await).await;
    assert_eq!(decoded(&made, "pw"), "old");
    assert_eq!(made.str_at(["metadata", "labels", sync::MANAGED_LABEL]), Some("true"));
    assert_eq!(made.str_at(["metadata", "labels", "app"]), Some("web"));
    assert_eq!(made.str_at(["metadata", "annotations", "note"]), Some("x"));
    assert_eq!(made["metadata"]["ownerReferences"].items()[0]["kind"].as_str(), Some("SecretProviderClassPodStatus"));
    // What the driver itself sees of it, when it asks and when it writes, holds no value.
    let secrets = Resource::new("", "v1", "Secret", "secrets", true);
    let seen = world.api.metadata(&secrets, "default", "login").await.unwrap().unwrap();
    let text = zeroize::Zeroizing::new(druse_object::json::to_string(&made).into_bytes());
    let path = secrets.path("default", "login", "");
    let told = world.api.write_sealed(http::Method::PUT, &path, text).await.unwrap();
    for v in [&seen, &told] {
        assert!(v["data"].is_null() && v.str_at(["metadata", "name"]) == Some("login"), "{v:?}");
    }
    assert_eq!(seen["metadata"]["resourceVersion"], told["metadata"]["resourceVersion"], "nothing has changed");

    node.publish(two.publish()).await.unwrap();
    world
        .until("both keep it alive", async |w| {
            (w.secret("login").await?["metadata"]["ownerReferences"].items().len() == 2).then_some(())
        })
        .await;
    world.fake.gives(&[("password", "new")], "2");
    node.publish(one.publish()).await.unwrap();
    world
        .until("it follows the mount", async |w| (decoded(&w.secret("login").await?, "pw") == "new").then_some(()))
        .await;

    delete_pod(&world, &one).await;
    world.until("the status object goes with its pod", async |w| w.status("one").await.is_none().then_some(())).await;
    assert!(world.secret("login").await.is_some(), "the other pod is still there");
    delete_pod(&world, &two).await;
    world.until("the Secret goes with the last", async |w| w.secret("login").await.is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_owns_the_pod_owns_the_secret() {
    let world = World::new().await;
    ask_for(&world, SYNCED).await;
    let set = world
        .create("{apiVersion: v1, kind: ConfigMap, metadata: {name: stands-for-a-replicaset, namespace: default}}")
        .await;
    let uid = set.str_at(["metadata", "uid"]).unwrap();
    let owner =
        format!("{{apiVersion: v1, kind: ConfigMap, name: stands-for-a-replicaset, uid: {uid}, controller: true}}");
    let pod = world.pod("web", &owner).await;
    let node = world.node(world.settings());
    let manager = Manager::new();
    sync::start(&manager, &Caches::new(world.api.clone()), &node);
    node.publish(pod.publish()).await.unwrap();
    let made = world.until("the Secret is made", async |w| w.secret("login").await).await;
    let owner = &made["metadata"]["ownerReferences"].items()[0];
    assert_eq!((owner["kind"].as_str(), owner["uid"].as_str()), (Some("ConfigMap"), Some(uid)));
    assert!(owner["controller"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_cannot_or_must_not_be_made_are_told_on_the_pod() {
    let world = World::new().await;
    world
        .create("{apiVersion: v1, kind: Secret, metadata: {name: mine, namespace: default}, data: {pw: aGFuZA==}}")
        .await;
    ask_for(
        &world,
        "[{secretName: mine, type: Opaque, data: [{objectName: password, key: pw}]},
          {secretName: absent, type: Opaque, data: [{objectName: nothing, key: pw}]},
          {secretName: outside, type: Opaque, data: [{objectName: ../../../../../../etc/hostname, key: pw}]},
          {secretName: tls, type: kubernetes.io/tls, data: [{objectName: password, key: tls.key}]},
          {secretName: login, type: Opaque, data: [{objectName: password, key: pw}]}]",
    )
    .await;
    let pod = world.pod("web", "").await;
    let node = world.node(world.settings());
    let manager = Manager::new();
    sync::start(&manager, &Caches::new(world.api.clone()), &node);
    world.fake.gives(&[("password", "CANARY")], "1");
    node.publish(pod.publish()).await.unwrap();
    // The one that can be made is made.
    world.until("the good one is made", async |w| w.secret("login").await).await;
    let told = world
        .until("events", async |w| {
            let told = events(w, "FailedToCreateSecret").await;
            (told.len() >= 4).then_some(told)
        })
        .await;
    for text in ["driver did not make", "\"nothing\"", "goes up with `..`", "no private key"] {
        assert!(told.iter().any(|m| m.contains(text)), "{text}: {told:?}");
    }
    assert!(!told.iter().any(|m| m.contains("CANARY")));
    assert_eq!(decoded(&world.secret("mine").await.unwrap(), "pw"), "hand");
    for none in ["absent", "outside", "tls"] {
        assert!(world.secret(none).await.is_none(), "{none}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_that_asks_for_no_secret_gets_none() {
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    let node = world.node(world.settings());
    let manager = Manager::new();
    let caches = Caches::new(world.api.clone());
    sync::start(&manager, &caches, &node);
    node.publish(pod.publish()).await.unwrap();
    caches.of(&druse_csi::class::statuses()).synced().await;
    manager.idle(Duration::from_millis(300)).await;
    let secrets = Resource::new("", "v1", "Secret", "secrets", true);
    assert_eq!(world.api.list(&secrets, "default", &ListOptions::default()).await.unwrap().0, Vec::<Value>::new());
}

/// The CSIDriver object; `spec` is YAML.
async fn csi_driver(world: &World, spec: &str) {
    let name = kubelet::DRIVER;
    let text = format!("{{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {{name: {name}}}, spec: {spec}}}");
    let drivers = Resource::new("storage.k8s.io", "v1", "CSIDriver", "csidrivers", false);
    world.api.delete(&drivers, "", name, &DeleteOptions::default()).await.unwrap();
    world.create(&text).await;
}

/// What a JWT claims.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    json::parse(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_renewed_by_the_driver_only_where_the_kubelet_does_not() {
    let world = World::new().await;
    let pod = world.pod("web", "").await;
    let node = world.node(Settings { rotation: Some(Duration::ZERO), ..world.settings() });
    node.publish(pod.publish()).await.unwrap();
    assert!(rotate::round(&node).await.unwrap_err().contains("no CSIDriver"));
    csi_driver(&world, "{podInfoOnMount: true, attachRequired: false, requiresRepublish: true}").await;
    assert_eq!(rotate::round(&node).await.unwrap(), 0);

    csi_driver(&world, "{podInfoOnMount: true, attachRequired: false, tokenRequests: [{audience: sts.amazonaws.com}, {audience: x, expirationSeconds: 900}]}").await;
    world.fake.gives(&[("password", "new")], "2");
    assert_eq!(rotate::round(&node).await.unwrap(), 1);
    assert_eq!(pod.file("password"), "new");
    let seen = world.fake.last();
    for (key, value) in [
        ("csi.storage.k8s.io/pod.name", "web"),
        ("csi.storage.k8s.io/pod.uid", pod.uid.as_str()),
        ("csi.storage.k8s.io/serviceAccount.name", "default"),
        ("secretProviderClass", "app"),
    ] {
        assert_eq!(seen.attributes[key].as_str(), Some(value), "{key}");
    }
    let tokens = seen.attributes[druse_csi::wire::csi::TOKENS].as_str().unwrap();
    let tokens = json::parse(tokens.as_bytes()).unwrap();
    for audience in ["sts.amazonaws.com", "x"] {
        let claims = claims(tokens[audience]["token"].as_str().unwrap());
        assert_eq!(claims["aud"].items()[0].as_str(), Some(audience));
        assert_eq!(claims["kubernetes.io"]["pod"]["uid"].as_str(), Some(pod.uid.as_str()), "bound to the pod");
        assert!(tokens[audience]["expirationTimestamp"].as_str().is_some());
    }

    // Volumes of other nodes, of pods that have ended, and those not due are not asked about.
    let elsewhere = world.node(Settings { node: "node-b".into(), rotation: Some(Duration::ZERO), ..world.settings() });
    assert_eq!(rotate::round(&elsewhere).await.unwrap(), 0);
    let slow = world.node(Settings { rotation: Some(Duration::from_secs(3600)), ..world.settings() });
    assert_eq!(rotate::round(&slow).await.unwrap(), 0);
    let asked = world.fake.asked();
    let done: Map = [("phase", "Succeeded")].into_iter().collect();
    let patch = Value::Map([("status", done)].into_iter().collect());
    world.api.patch(&druse_csi::class::pods(), "default", "web", "status", Patch::Merge, &patch).await.unwrap();
    rotate::round(&node).await.unwrap();
    assert_eq!(world.fake.asked(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_names_a_secret_is_renewed_with_what_is_in_it() {
    let world = World::new().await;
    let pod = world.pod_with("web", "", ", nodePublishSecretRef: {name: login}").await;
    let node = world.node(Settings { rotation: Some(Duration::ZERO), ..world.settings() });
    node.publish(pod.publish()).await.unwrap();
    csi_driver(&world, "{podInfoOnMount: true, attachRequired: false}").await;
    let asked = world.fake.asked();
    rotate::round(&node).await.unwrap();
    assert_eq!(world.fake.asked(), asked, "not without it");
    world
        .create("{apiVersion: v1, kind: Secret, metadata: {name: login, namespace: default}, data: {user: bWU=}}")
        .await;
    rotate::round(&node).await.unwrap();
    assert_eq!(world.fake.last().secrets["user"].as_str(), Some("me"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_object_cannot_have_another_pods_volume_renewed_or_read() {
    let world = World::new().await;
    ask_for(&world, SYNCED).await;
    csi_driver(&world, "{podInfoOnMount: true, attachRequired: false}").await;
    let (victim, thief) = (world.pod("victim", "").await, world.pod("thief", "").await);
    let node = world.node(Settings { rotation: Some(Duration::ZERO), ..world.settings() });
    assert!(matches!(node.publish(victim.publish()).await.unwrap(), Published::Mounted(_)));
    // Let the victim's class not ask for Secrets; the thief's status points at the victim's mount.
    world
        .create(&format!(
            "{{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClassPodStatus,
               metadata: {{name: thief-default-app, namespace: default,
                 labels: {{internal.secrets-store.csi.k8s.io/node-name: {NODE}}},
                 ownerReferences: [{{apiVersion: v1, kind: Pod, name: thief, uid: {}}}]}},
               status: {{podName: thief, secretProviderClassName: app, mounted: true, targetPath: {}}}}}",
            thief.uid,
            victim.target.display()
        ))
        .await;
    let statuses = druse_csi::class::statuses();
    let none = DeleteOptions::default();
    assert!(world.api.delete(&statuses, "default", "victim-default-app", &none).await.unwrap());
    let manager = Manager::new();
    let caches = Caches::new(world.api.clone());
    world.fake.does(Answer::Refuse(Status::permission_denied("must not be asked")));
    let asked = world.fake.asked();
    sync::start(&manager, &caches, &node);
    rotate::round(&node).await.unwrap();
    caches.of(&statuses).synced().await;
    world.until("the sync has looked at it", async |_| (manager.busy() == 0).then_some(())).await;
    assert!(world.secret("login").await.is_none());
    assert_eq!(world.fake.asked(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_statuses_only_this_nodes_own_are_kept() {
    let world = World::new().await;
    let caches = Caches::new(world.api.clone());
    let label = "internal.secrets-store.csi.k8s.io/node-name";
    let own = caches.labelled(&druse_csi::class::statuses(), &format!("{label}=node-a"));
    let status = |name: &str, node: &str| {
        format!(
            "{{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClassPodStatus, metadata: {{name: {name}, \
             namespace: default, labels: {{{label}: {node}}}}}, status: {{podName: p}}}}"
        )
    };
    world.create(&status("theirs", "node-b")).await;
    world.create(&status("ours", "node-a")).await;
    let found = world.until("ours is seen", async |_| own.all().first().cloned()).await;
    assert_eq!(found.str_at(["metadata", "name"]), Some("ours"));
    assert_eq!(
        (own.len(), caches.of(&druse_csi::class::statuses()).resource().plural.as_str()),
        (1, "secretproviderclasspodstatuses")
    );
}
