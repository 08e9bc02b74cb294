//! The secrets path of a rehearsal: files in a pod's own mount, read with its own token of the cloud that the tree's
//! Terraform describes; and where the path is broken, a pod that waits and says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use druse_identity::SigningKey;
use druse_object::Value;
use druse_rehearsal::{Rehearsal, Report, UnitState, VolumeState};
use druse_runtime::{Api, Resource};
use support::whole::{SYNC, app, client, rehearse, rehearse_signed, release};

const DRIVER: &str = "apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: secrets-store.csi.k8s.io}
spec: {podInfoOnMount: true, attachRequired: false, volumeLifecycleModes: [Ephemeral], tokenRequests: [{audience: sts.amazonaws.com}]}
";
const CLASS: &str = "apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: app, namespace: default}
spec:
  provider: aws
  parameters:
    objects: |
      - {objectName: /home/app/db, objectType: ssmparameter, objectAlias: db, filePermission: '0400'}
      - {objectName: /home/app/parts, objectType: ssmparameter, jmesPath: [{path: a.b, objectAlias: part}]}
";
const POD: &str = "      containers: [{name: main, image: 'example.org/app:1', volumeMounts: [{name: s, mountPath: /s, readOnly: true}]}]
      volumes:
        - name: s
          csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: app}}
";
const TERRAFORM: &str =
    concat!(include_str!("../../terraform/tests/identity.tf.txt"), include_str!("../../terraform/tests/reads.tf.txt"));

async fn start(data: Option<&Path>, files: &[(&str, &str)]) -> (Rehearsal, Report, Api) {
    let chart = release("driver", "secrets-store-csi-driver", "1.6.0", "");
    let app = app(POD);
    let sync = [
        ("cluster/sync.yaml", SYNC),
        ("cluster/chart.yaml", chart.as_str()),
        ("cluster/class.yaml", CLASS),
        ("cluster/app.yaml", app.as_str()),
    ];
    let (rehearsal, report) = rehearse(data, &[&sync, files].concat()).await;
    for unit in &report.units {
        assert!(matches!(unit.state, UnitState::Ready | UnitState::StandIn), "{}: {}", unit.unit, unit.message);
    }
    let api = client(&rehearsal).await;
    (rehearsal, report, api)
}

async fn list(api: &Api, group: &str, kind: &str, plural: &str) -> Vec<Value> {
    api.list(&Resource::new(group, "v1", kind, plural, true), "default", &Default::default()).await.unwrap().0
}

async fn pod(api: &Api) -> Value {
    let mut pods = list(api, "", "Pod", "pods").await;
    assert_eq!(pods.len(), 1);
    pods.remove(0)
}

/// What the files of a mount hold, by name.
fn files(mount: &str) -> Vec<(String, String)> {
    let mut all: Vec<_> = std::fs::read_dir(mount)
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|p| !p.file_name().unwrap().to_string_lossy().starts_with(".."))
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&p).unwrap()))
        .collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_its_files_and_they_go_with_it() {
    let data = tempfile::tempdir().unwrap();
    let tree = [("cluster/driver.yaml", DRIVER), ("terraform/main.tf", TERRAFORM)];
    let (rehearsal, report, api) = start(Some(data.path()), &tree).await;
    let [volume] = report.secrets.as_slice() else { panic!("{:?}", report.secrets) };
    assert_eq!((volume.state, volume.objects, volume.message.as_str()), (VolumeState::Mounted, 3, ""));
    assert!(report.all_ready());
    let found = files(&volume.path);
    let names: Vec<&str> = found.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["_home_app_parts", "db", "part"]);
    assert!(found[1].1.starts_with("rehearsal-") && found[0].1.contains(&found[2].1), "{found:?}");
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    let mount = Path::new(&volume.path);
    assert_eq!((mode(mount), mode(&mount.join("db")), mode(&mount.join("part"))), (0o700, 0o400, 0o644));

    let pod = pod(&api).await;
    assert_eq!(pod.str_at(["status", "phase"]), Some("Running"));
    let statuses =
        list(&api, "secrets-store.csi.x-k8s.io", "SecretProviderClassPodStatus", "secretproviderclasspodstatuses")
            .await;
    assert_eq!(statuses[0]["status"]["objects"].items().len(), 3);

    // A value is in the mount, and nowhere else of what the rehearsal keeps.
    let value = found[1].1.clone();
    let mut seen = Vec::new();
    scan(data.path(), value.as_bytes(), &mut seen);
    assert!(!seen.is_empty() && seen.iter().all(|p| p.starts_with(mount)), "{seen:?}");
    assert!(!format!("{report:?} {pod:?}").contains(&value));

    let deployments = Resource::new("apps", "v1", "Deployment", "deployments", true);
    api.delete(&deployments, "default", "app", &Default::default()).await.unwrap();
    let gone = async {
        while mount.exists() {
            rehearsal.settled().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.expect("the files go with the pod");
    assert!(list(&api, "", "Pod", "pods").await.is_empty());
    rehearsal.stop().await;
}

fn scan(dir: &Path, needle: &[u8], seen: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            scan(&path, needle, seen);
        } else if std::fs::read(&path).is_ok_and(|b| b.windows(needle.len()).any(|w| w == needle)) {
            seen.push(path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_signed_with_a_key_of_the_rehearsals_own_unless_one_is_named() {
    let production = || SigningKey::parse(include_str!("../../identity/tests/data/rsa.pem"), "the key").unwrap();
    let (id, text) = (production().public().id().to_owned(), production().to_talos().unwrap());
    let machine = format!("cluster:\n  serviceAccount:\n    key: {}\n", *text);
    let chart = release("driver", "secrets-store-csi-driver", "1.6.0", "");
    let app = app(POD);
    let tree = [
        ("cluster/sync.yaml", SYNC),
        ("cluster/chart.yaml", chart.as_str()),
        ("cluster/class.yaml", CLASS),
        ("cluster/app.yaml", app.as_str()),
        ("cluster/driver.yaml", DRIVER),
        ("terraform/main.tf", TERRAFORM),
        // Where a person may keep it.
        ("sa.key", text.as_str()),
        ("machines/controlplane.yaml", machine.as_str()),
    ];
    for named in [None, Some(production())] {
        let is_named = named.is_some();
        let (rehearsal, report) = rehearse_signed(named, None, &tree).await;
        let keys = client(&rehearsal).await.request(http::Method::GET, "/openid/v1/jwks", None, None).await.unwrap();
        assert_eq!(keys["keys"].items()[0].str_at(["kid"]) == Some(id.as_str()), is_named, "{keys:?}");
        // Whatever it is signed with, STS finds the key.
        assert_eq!(report.secrets[0].state, VolumeState::Mounted, "{}", report.secrets[0].message);
        rehearsal.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_path_leaves_the_pod_waiting_with_the_reason() {
    let broken = TERRAFORM.replace("serviceaccount:default:app", "serviceaccount:default:other");
    let tree = [("terraform/main.tf", broken.as_str())];
    let (rehearsal, report, api) = start(None, &tree).await;
    assert_eq!(report.secrets[0].state, VolumeState::Failed);
    // The driver's chart is stood in for, and with it what others look for of it.
    let drivers = Resource::new("storage.k8s.io", "v1", "CSIDriver", "csidrivers", false);
    let driver = api.get(&drivers, "", "secrets-store.csi.k8s.io").await.unwrap().expect("there is a CSIDriver");
    assert!(driver["metadata"]["annotations"]["druse.dev/simulated"].as_str().unwrap().contains("secrets-store"));
    assert!(report.secrets[0].message.contains("system:serviceaccount:default:app"), "{}", report.secrets[0].message);
    assert!(!report.all_ready());
    let pod = pod(&api).await;
    assert_eq!(pod.str_at(["status", "phase"]), Some("Pending"));
    let waiting = &pod["status"]["containerStatuses"].items()[0]["state"]["waiting"];
    assert_eq!(waiting.str_at(["reason"]), Some("ContainerCreating"));
    let events = list(&api, "", "Event", "events").await;
    let event = events.iter().find(|e| e.str_at(["reason"]) == Some("FailedMount")).expect("an event tells it");
    assert!(event.str_at(["message"]).unwrap().contains("AccessDenied"), "{event:?}");
    rehearsal.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_tree_does_not_say_what_a_role_may_do_files_are_made_up() {
    let (rehearsal, report, api) = start(None, &[]).await;
    let volume = &report.secrets[0];
    assert_eq!(volume.state, VolumeState::Simulated);
    assert!(volume.message.contains("does not declare role arn:aws:iam::111122223333:role/app"), "{}", volume.message);
    assert_eq!(files(&volume.path).len(), 3);
    let pod = pod(&api).await;
    assert_eq!(pod.str_at(["status", "phase"]), Some("Running"));
    assert!(pod["metadata"]["annotations"]["druse.dev/secrets"].as_str().unwrap().contains("simulated"));
    rehearsal.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_a_class_asks_for_are_made_with_the_drivers_rights() {
    let class = format!(
        "{CLASS}  secretObjects: [{{secretName: app-db, type: Opaque, data: [{{objectName: db, key: password}}]}}]\n"
    );
    let driver = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: driver, namespace: default}
spec:
  selector: {matchLabels: {app: driver}}
  template:
    metadata: {labels: {app: driver}}
    spec:
      serviceAccountName: driver
      containers: [{name: secrets-store, image: 'example.org/driver:1'}]
      volumes: [{name: plugin-dir, hostPath: {path: /var/lib/kubelet/plugins/csi-secrets-store/}}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: driver, namespace: default}
";
    let rights = "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: secretprovidersyncing-role}
rules: [{apiGroups: [''], resources: [secrets], verbs: [create, get, list, patch, update, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: secretprovidersyncing-rolebinding}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: secretprovidersyncing-role}
subjects: [{kind: ServiceAccount, name: driver, namespace: default}]
";
    let tree = [
        ("cluster/class.yaml", class.as_str()),
        ("cluster/driver.yaml", DRIVER),
        ("cluster/rights.yaml", rights),
        ("cluster/daemonset.yaml", driver),
        ("terraform/main.tf", TERRAFORM),
    ];
    for (parts, allowed) in [(&tree[..], true), (&[tree[0], tree[1], tree[3], tree[4]], false)] {
        let (rehearsal, report, api) = start(None, parts).await;
        let volume = report.secrets.iter().find(|v| v.pod.contains("/app-")).unwrap();
        assert_eq!(volume.state, VolumeState::Mounted, "{}", volume.message);
        let secrets = Resource::new("", "v1", "Secret", "secrets", true);
        let secret = api.get(&secrets, "default", "app-db").await.unwrap();
        let events = list(&api, "", "Event", "events").await;
        let refused = events.iter().find(|e| e.str_at(["reason"]) == Some("FailedToCreateSecret"));
        if allowed {
            let held = secret.expect("it is made")["data"].str_at(["password"]).unwrap().to_string();
            let held = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, held).unwrap();
            assert!(files(&volume.path).iter().any(|(name, content)| name == "db" && content.as_bytes() == held));
            assert!(refused.is_none(), "{refused:?}");
        } else {
            assert!(secret.is_none());
            let message = refused.expect("an event tells it").str_at(["message"]).unwrap();
            assert!(message.contains("forbidden") && message.contains("syncSecret.enabled=true"), "{message}");
        }
        rehearsal.stop().await;
    }
}
