//! A node of a real cluster: `druse csi`, `druse secrets provider` and `druse identity webhook` as processes against
//! `druse api` and `druse cloud`, each as the ServiceAccount and with the rights that `druse secrets manifests` declares,
//! and no others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::field_reassign_with_default)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Lab, Running};
use druse_csi::kubelet::{DRIVER, drivers, publish_request, volumes};
use druse_csi::wire::channel::Channel;
use druse_csi::wire::csi::{NodePublishVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse};
use druse_object::{Gvk, Value, json, yaml};
use druse_runtime::{Api, ApiError, DeleteOptions, Resource};
use http::Method;

const NODE: &str = "node-a";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const LONG: Duration = Duration::from_secs(60);
const TERRAFORM: &str =
    concat!(include_str!("../../terraform/tests/identity.tf.txt"), include_str!("../../terraform/tests/reads.tf.txt"));
const APP: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: node-a, labels: {topology.kubernetes.io/region: us-west-2}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: app, namespace: default, annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::111122223333:role/app"}}
---
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: app, namespace: default}
spec:
  provider: aws
  parameters: {objects: "- {objectName: /home/app/db, objectType: ssmparameter, objectAlias: db}"}
  secretObjects: [{secretName: app-db, type: Opaque, data: [{objectName: db, key: password}]}]
"#;
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default}
spec:
  nodeName: node-a
  serviceAccountName: app
  containers: [{name: main, image: "example.org/app:1"}]
  volumes:
    - {name: s, csi: {driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {secretProviderClass: app}}}
"#;

/// The API and the cloud, and how to reach them.
struct World {
    lab: Lab,
    api: Api,
    admin: PathBuf,
    runtime: tokio::runtime::Runtime,
    running: Vec<Running>,
}

fn kubeconfig(path: &Path) -> kube::config::Kubeconfig {
    kube::config::Kubeconfig::read_from(path).unwrap()
}

impl World {
    fn new() -> Self {
        let lab = Lab::bare();
        let admin = lab.path("kubeconfig");
        let mut api = Running::start(
            &lab,
            lab.druse(&["api", "--furnish", "--listen", "127.0.0.1:0", "--kubeconfig"]).arg(&admin),
        );
        api.until("the API is served", |_| admin.exists());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let client = runtime.block_on(client(&admin));
        Self { lab, api: client, admin, runtime, running: vec![api] }
    }

    /// Creates every object of a stream, those apart whose kind the API does not serve (cert-manager's).
    fn create(&self, text: &str) {
        self.runtime.block_on(async {
            for document in yaml::documents(text, yaml::Dialect::Sigs) {
                let object = document.unwrap().value;
                let gvk = Gvk::of(&object).unwrap();
                if &*gvk.group == "cert-manager.io" {
                    continue;
                }
                let resource = until(async || {
                    self.api.forget_group(&gvk.group);
                    self.api.resource(&gvk).await
                });
                let resource = resource.await;
                let namespace = object.str_at(["metadata", "namespace"]).unwrap_or_default();
                // A definition takes effect a moment after it is written.
                until(async || match self.api.create(&resource, namespace, &object).await {
                    Err(e) if e.reason() == "AlreadyExists" => Ok(()),
                    made => made.map(drop),
                })
                .await;
            }
        });
    }

    /// A kubeconfig that is a ServiceAccount of kube-system.
    fn account(&self, name: &str) -> PathBuf {
        let accounts = Resource::new("", "v1", "ServiceAccount", "serviceaccounts", true);
        let request = json::parse(
            br#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":[],"expirationSeconds":3600}}"#,
        );
        let path = accounts.path("kube-system", name, "token");
        let request = request.unwrap();
        let answer = self.api.request(Method::POST, &path, Some("application/json"), Some(&request));
        let answer = self.runtime.block_on(answer).unwrap();
        let mut config = kubeconfig(&self.admin);
        for user in &mut config.auth_infos {
            let token = answer.str_at(["status", "token"]).unwrap().to_owned();
            user.auth_info = Some(kube::config::AuthInfo { token: Some(token.into()), ..Default::default() });
        }
        let path = self.lab.path(name);
        std::fs::write(&path, serde_json::to_string(&config).unwrap()).unwrap();
        path
    }

    fn start(&mut self, command: &mut Command, what: &str, ready: impl FnMut(&Running) -> bool) -> usize {
        let mut running = Running::start(&self.lab, command);
        running.until(what, ready);
        self.running.push(running);
        self.running.len() - 1
    }

    /// The local cloud, which trusts what the API publishes of its keys.
    fn cloud(&mut self) -> String {
        // The API signs as itself, and not as the issuer in the bucket.
        let bucket = "https://${aws_s3_bucket.oidc.bucket_regional_domain_name}";
        self.lab.file("terraform/main.tf", TERRAFORM.replace(bucket, ISSUER));
        std::fs::write(self.lab.path("values.yaml"), "parameters: {/home/app/db: canary-of-db}\n").unwrap();
        for path in ["/.well-known/openid-configuration", "/openid/v1/jwks"] {
            let mut document = self.runtime.block_on(self.api.request(Method::GET, path, None, None)).unwrap();
            // The API names its keys by its own address; STS asks the issuer for everything.
            if let Some(m) = document.make_map()
                && m.contains_key("jwks_uri")
            {
                m.insert("jwks_uri", format!("{ISSUER}/openid/v1/jwks"));
            }
            common::write(&self.lab.path(&format!("documents{path}")), json::to_string(&document).as_bytes());
        }
        let documents = format!("{ISSUER}={}", self.lab.path("documents").display());
        let values = self.lab.path("values.yaml");
        let (cloud, url) = self.lab.cloud(&["--documents", &documents, "--values", values.to_str().unwrap()]);
        self.running.push(cloud);
        url
    }
}

async fn client(path: &Path) -> Api {
    let config = kube::Config::from_custom_kubeconfig(kubeconfig(path), &Default::default()).await.unwrap();
    Api::new(kube::Client::try_from(config).unwrap())
}

/// Asks again and again until it is answered.
async fn until<T>(mut ask: impl AsyncFnMut() -> Result<T, ApiError>) -> T {
    let begun = std::time::Instant::now();
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(e) if begun.elapsed() > common::PATIENCE => panic!("{e}"),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[test]
fn driver_provider_and_webhook_do_with_the_rights_of_their_manifests() {
    let mut world = World::new();
    let mut manifests = world.lab.druse(&["secrets", "manifests", "--image", "example.org/druse:1"]);
    manifests.args(["--part=kinds", "--part=driver", "--part=sync", "--part=provider", "--part=webhook"]);
    let printed = world.lab.run(&mut manifests);
    printed.says(0, &[]);
    // The webhook is left out here: no process serves it yet.
    let (webhooks, others): (Vec<&str>, Vec<&str>) =
        printed.stdout.split("---\n").partition(|d| d.contains("kind: MutatingWebhookConfiguration"));
    world.create(&others.join("---\n"));
    world.create(APP);
    let url = world.cloud();

    // The webhook adds the role to pods.
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(world.lab.path("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(world.lab.path("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let account = world.account("druse-identity-webhook");
    let mut command =
        world.lab.druse(&["identity", "webhook", "--listen", "127.0.0.1:0", "--aws-default-region=us-west-2"]);
    command.arg("--tls-cert").arg(world.lab.path("tls.crt")).arg("--tls-key").arg(world.lab.path("tls.key"));
    command.arg("--kubeconfig").arg(&account).env("DRUSE_LOG", "trace");
    let webhook = world.start(&mut command, "the webhook is served", |r| r.stderr().contains("/mutate"));
    let at = world.running[webhook].stderr();
    let at = at.split("/mutate").next().unwrap();
    let port: u16 = at.rsplit(':').next().unwrap().parse().unwrap();
    let mut configuration = yaml::parse_strict(webhooks[0]).unwrap();
    let bundle = {
        use base64::Engine as _;
        base64::prelude::BASE64_STANDARD.encode(made.cert.pem())
    };
    let Some(Value::Array(hooks)) = configuration.get_mut("webhooks") else { panic!("{configuration:?}") };
    let called = format!(r#"{{"url":"https://localhost:{port}/mutate","caBundle":"{bundle}"}}"#);
    hooks[0].make_map().unwrap().insert("clientConfig", json::parse(called.as_bytes()).unwrap());
    world.create(&yaml::to_string(&configuration));

    // Driver and provider, under the names and flags of the manifests.
    let (driver, provider) = (world.account("druse-csi"), world.account("druse-provider-aws"));
    let (socket, providers) = (world.lab.path("csi.sock"), world.lab.path("providers"));
    std::fs::create_dir(&providers).unwrap();
    let mut command = world.lab.druse(&["secrets", "provider", "--no-token-requests", "--provider-volume"]);
    command.arg(&providers).args(["--node", NODE, "--kubeconfig"]).arg(&provider).env("AWS_ENDPOINT_URL", &url);
    command.env("DRUSE_LOG", "trace");
    let provider_at = world.start(&mut command, "the provider is served", |_| providers.join("aws.sock").exists());
    let endpoint = format!("--endpoint=unix://{}", socket.display());
    let mut command = world.lab.druse(&["csi", &endpoint, "--nodeid", NODE, "--metrics-addr=", "--no-tmpfs"]);
    command.args(["--enable-secret-rotation=true", "--rotation-poll-interval=1s", "--provider-volume"]).arg(&providers);
    command.arg("--kubeconfig").arg(&driver).env("DRUSE_LOG", "trace");
    let driver_at = world.start(&mut command, "the driver is served", |_| socket.exists());

    let pods = Resource::new("", "v1", "Pod", "pods", true);
    let secrets = Resource::new("", "v1", "Secret", "secrets", true);
    let mount = world.lab.path("pods/UID/volumes/kubernetes.io~csi/s/mount");
    let api = world.api.clone();
    let target = world.runtime.block_on(async {
        // Where the webhook is not known yet, the pod is made without it: only that is tried again.
        let pod = until(async || {
            let pod = api.create(&pods, "default", &yaml::parse_strict(POD).unwrap()).await?;
            if json::to_string(&pod).contains("AWS_ROLE_ARN") {
                return Ok(pod);
            }
            // Nobody ends pods here: it goes at once.
            let now = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
            api.delete(&pods, "default", "web", &now).await?;
            Err(ApiError::Transport("the webhook was not asked".into()))
        })
        .await;
        let uid = pod.str_at(["metadata", "uid"]).unwrap();
        let target = mount.to_str().unwrap().replace("UID", uid);
        let declared = api.get(&drivers(), "", DRIVER).await.unwrap().unwrap();
        assert_eq!(declared["spec"]["podInfoOnMount"].as_bool(), Some(true));
        let volume = volumes(&pod).next().unwrap();
        let request = publish_request(&api, &declared, &pod, volume, &target, true).await.unwrap();
        let kubelet = Channel::new(&socket, 1 << 20);
        let published = kubelet.unary("/csi.v1.Node/NodePublishVolume", request, LONG).await;
        let _published: NodePublishVolumeResponse = published.unwrap();
        assert_eq!(std::fs::read_to_string(format!("{target}/db")).unwrap(), "canary-of-db");
        until(async || match api.get(&secrets, "default", "app-db").await? {
            Some(_) => Ok(()),
            None => Err(ApiError::Transport("the Secret is not made".into())),
        })
        .await;

        let unpublish = NodeUnpublishVolumeRequest { volume_id: "v".into(), target_path: target.clone() };
        let gone = kubelet.unary("/csi.v1.Node/NodeUnpublishVolume", unpublish, LONG).await;
        let _gone: NodeUnpublishVolumeResponse = gone.unwrap();
        target
    });
    assert!(!Path::new(&target).exists());

    // What none of them may do, whatever the API holds.
    let accounts = Resource::new("", "v1", "ServiceAccount", "serviceaccounts", true);
    let may_not = async |account: &Path, method: Method, path: &str| {
        let body =
            (method != Method::GET).then(|| json::parse(br#"{"spec":{"audiences":["sts.amazonaws.com"]}}"#).unwrap());
        let refused = client(account).await.request(method, path, Some("application/json"), body.as_ref()).await;
        assert_eq!(refused.unwrap_err().code(), 403, "{} {path}", account.display());
    };
    world.runtime.block_on(async {
        for account in [&driver, &provider, &account] {
            may_not(account, Method::POST, &accounts.path("default", "app", "token")).await;
            may_not(account, Method::GET, &secrets.path("default", "", "")).await;
            may_not(account, Method::GET, &pods.path("default", "", "")).await;
        }
        may_not(&provider, Method::GET, &secrets.path("default", "app-db", "")).await;
        may_not(&driver, Method::GET, &accounts.path("default", "app", "")).await;
    });
    for at in [webhook, provider_at, driver_at] {
        let said = world.running[at].stderr() + &world.running[at].stdout();
        assert!(said.contains("TRACE"), "the log is on");
        assert!(!said.contains("is forbidden"), "{said}");
        // Neither the value, as it is or in base64, nor a token; both in no environment, either.
        let environment = std::fs::read(format!("/proc/{}/environ", world.running[at].child.id())).unwrap_or_default();
        let all = said + &String::from_utf8_lossy(&environment);
        for needle in ["canary-of-db", "Y2FuYXJ5LW9mLWRi", "eyJhbGciOi"] {
            assert!(!all.contains(needle), "{needle} is seen");
        }
    }
}

#[test]
fn manifests_are_refused_with_what_would_break_them() {
    let lab = Lab::bare();
    for (args, code, words) in [
        (&["secrets", "manifests"][..], 2, &["--image"][..]),
        (&["secrets", "manifests", "--image", "a b"], 1, &["the image", "a b"]),
        (&["secrets", "manifests", "--image", "a", "--namespace", "x: y"], 1, &["the namespace"]),
    ] {
        lab.run(&mut lab.druse(args)).says(code, words);
    }
}
