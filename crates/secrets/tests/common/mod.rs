//! A cluster in memory, and a cloud to read from: the local one in this process, or moto.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

pub mod regions;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use druse_aws::Client;
use druse_aws::endpoint::{Endpoints, Service};
use druse_identity::{SigningKey, jwt};
use druse_localcloud::{Cloud, Config};
use druse_object::{Map, Value, json};
use druse_secrets::provider::{Cluster, Mounted, Pod, Provider, ProviderError, Request, Settings};
use parking_lot::Mutex;
use zeroize::Zeroizing;

pub const ISSUER: &str = "https://home-oidc.s3.us-west-2.amazonaws.com";
pub const REGION: &str = "us-west-2";
pub const NODE: &str = "node-1";
pub const TERRAFORM: &str = include_str!("cloud.tf.txt");

/// What a configuration declares.
pub fn declared(terraform: &str) -> druse_terraform::Declared {
    let mut tree = druse_kustomize::tree::MemoryTree::new();
    tree.insert("main.tf", terraform.as_bytes().to_vec());
    let declared = druse_terraform::declared(&tree, &druse_terraform::Options::default());
    assert_eq!(declared.errors, []);
    declared
}

/// An API in memory.
pub struct Api {
    objects: Mutex<HashMap<(String, String, String), Value>>,
    pub key: SigningKey,
    pub tokens_asked: AtomicUsize,
    /// What tokens are asked for with; changed by those who forge.
    pub change: Mutex<Option<fn(&mut Value)>>,
    /// What the header of tokens says they are signed with, where it is not what they are.
    pub algorithm: Mutex<Option<&'static str>>,
}

impl Api {
    fn new() -> Self {
        let key = SigningKey::parse(include_str!("../../../identity/tests/data/rsa.pem"), "test").unwrap();
        Self {
            objects: Mutex::default(),
            key,
            tokens_asked: AtomicUsize::new(0),
            change: Mutex::default(),
            algorithm: Mutex::default(),
        }
    }

    pub fn add(&self, plural: &str, namespace: &str, name: &str, more: &str) {
        let mut v = json::parse(more.as_bytes()).unwrap();
        let m = v.make_map_at(["metadata"]).unwrap();
        m.insert("name", name);
        m.insert("namespace", namespace);
        if !m.contains_key("uid") {
            m.insert("uid", format!("uid-of-{name}"));
        }
        self.objects.lock().insert((plural.into(), namespace.into(), name.into()), v);
    }

    pub fn remove(&self, plural: &str, namespace: &str, name: &str) {
        self.objects.lock().remove(&(plural.into(), namespace.into(), name.into()));
    }

    /// A ServiceAccount with a role, and a pod of it on this node.
    pub fn add_pod(&self, namespace: &str, pod: &str, account: &str, role: &str) -> Pod {
        let account_json = format!(r#"{{"metadata":{{"annotations":{{"eks.amazonaws.com/role-arn":"{role}"}}}}}}"#);
        self.add("serviceaccounts", namespace, account, &account_json);
        let spec = format!(r#"{{"spec":{{"nodeName":"{NODE}","serviceAccountName":"{account}"}}}}"#);
        self.add("pods", namespace, pod, &spec);
        Pod { namespace: namespace.into(), name: pod.into(), uid: format!("uid-of-{pod}"), account: account.into() }
    }

    /// The pod `app-1` of an account, as tokens are bound to it.
    pub fn pod_of(&self, namespace: &str, account: &str) -> Pod {
        Pod { namespace: namespace.into(), name: "app-1".into(), uid: "uid-of-app-1".into(), account: account.into() }
    }

    /// The claims of a pod's token.
    pub fn claims(&self, pod: &Pod, audience: &str) -> Value {
        let now = jiff::Timestamp::now().as_second();
        let text = format!(
            r#"{{"iss":"{ISSUER}","aud":["{audience}"],"sub":"system:serviceaccount:{ns}:{sa}","exp":{},"iat":{now},"nbf":{now},
            "jti":"{}","kubernetes.io":{{"namespace":"{ns}","serviceaccount":{{"name":"{sa}","uid":"uid-of-{sa}"}},
            "pod":{{"name":"{}","uid":"{}"}}}}}}"#,
            now + 3600,
            self.tokens_asked.load(Ordering::Relaxed),
            pod.name,
            pod.uid,
            ns = pod.namespace,
            sa = pod.account,
        );
        json::parse(text.as_bytes()).unwrap()
    }
}

/// A handle that the provider owns.
#[derive(Clone)]
pub struct Shared(pub Arc<Api>);

impl Cluster for Shared {
    async fn get(&self, plural: &'static str, namespace: &str, name: &str) -> Result<Option<Value>, String> {
        Ok(self.0.objects.lock().get(&(plural.into(), namespace.into(), name.into())).cloned())
    }

    async fn token(&self, pod: &Pod, audience: &str, _: i64) -> Result<Zeroizing<String>, String> {
        self.0.tokens_asked.fetch_add(1, Ordering::Relaxed);
        let mut claims = self.0.claims(pod, audience);
        if let Some(change) = *self.0.change.lock() {
            change(&mut claims);
        }
        let token = jwt::sign(&self.0.key, &claims).unwrap();
        let Some(algorithm) = *self.0.algorithm.lock() else { return Ok(Zeroizing::new(token)) };
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{}"}}"#, self.0.key.public().id());
        let (_, rest) = token.split_once('.').unwrap();
        Ok(Zeroizing::new(format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))))
    }
}

/// What answers as AWS.
enum Backend {
    Local(Arc<Cloud>),
    Moto(Child),
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Self::Moto(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub struct World {
    pub api: Arc<Api>,
    pub url: String,
    pub account: &'static str,
    pub region: &'static str,
    /// Seconds that the provider's clock is ahead.
    pub ahead: Arc<AtomicI64>,
    /// Seconds that the local cloud's clock is ahead.
    pub cloud_ahead: Arc<AtomicI64>,
    pub admin: druse_aws::Credentials,
    backend: Backend,
}

pub fn http() -> reqwest::Client {
    // Whoever is first decides for the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

impl World {
    /// With the local cloud, its state in a folder when one is given.
    pub async fn local(dir: Option<&std::path::Path>) -> Self {
        Self::local_in(REGION, dir).await
    }

    /// The same in another region: roles are the account's, parameters and keys a region's own.
    pub async fn local_in(region: &'static str, dir: Option<&std::path::Path>) -> Self {
        // The issuer's bucket stays where it is.
        Self::local_of(&TERRAFORM.replace(&format!(":{REGION}:"), &format!(":{region}:")), region, dir).await
    }

    /// The same of another configuration.
    pub async fn local_of(terraform: &str, region: &'static str, dir: Option<&std::path::Path>) -> Self {
        let declared = declared(terraform);
        let api = Arc::new(Api::new());
        let config = Config {
            data_dir: dir.map(Into::into),
            account_id: "111122223333".into(),
            region: region.into(),
            declared: declared.clone(),
            ..Config::default()
        };
        let cloud_ahead = Arc::new(AtomicI64::new(0));
        let by = cloud_ahead.clone();
        let clock = move || jiff::Timestamp::now().as_second() + by.load(Ordering::Relaxed);
        let cloud = Cloud::open_at(config, Arc::new(clock)).unwrap();
        assert_eq!(cloud.notes, Vec::<String>::new());
        cloud.trust(ISSUER, vec![api.key.public().clone()]);
        let secret = |name: &str, value: &str| (name.to_string(), Zeroizing::new(value.to_string()));
        cloud.set_values(&declared, [], [secret("app-secret", r#"{"k":"of the secret"}"#)], "").unwrap();
        let cloud = Arc::new(cloud);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(druse_localcloud::serve(cloud.clone(), listener, std::future::pending()));
        let admin = cloud.administrator().clone();
        let (account, ahead) = ("111122223333", Arc::default());
        let world = Self { api, url, account, region, ahead, cloud_ahead, admin, backend: Backend::Local(cloud) };
        world.set_up().await;
        world
    }

    /// With moto, where `DRUSE_AWS_CLIENTS` names a folder that has it; boto3 makes the parameters.
    pub fn moto() -> Option<Self> {
        let Some(bin) = std::env::var_os("DRUSE_AWS_CLIENTS").map(std::path::PathBuf::from) else {
            eprintln!("skipped: DRUSE_AWS_CLIENTS names no folder with python (boto3, moto)");
            return None;
        };
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/moto/server.py");
        let mut child = Command::new(bin.join("python"))
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.next().and_then(Result::ok).expect("the script tells where moto listens");
        let admin = druse_aws::Credentials::new("testing", "testing");
        let api = Arc::new(Api::new());
        let (account, ahead, cloud_ahead) = ("123456789012", Arc::default(), Arc::default());
        Some(Self { api, url, account, region: REGION, ahead, cloud_ahead, admin, backend: Backend::Moto(child) })
    }

    pub fn cloud(&self) -> &Cloud {
        match &self.backend {
            Backend::Local(cloud) => cloud,
            Backend::Moto(_) => panic!("this is moto"),
        }
    }

    pub fn is_local(&self) -> bool {
        matches!(self.backend, Backend::Local(_))
    }

    /// What `tests/moto/server.py` makes there.
    async fn set_up(&self) {
        self.put("/home/app/db", "first").await;
        self.put("/home/app/db", "second").await;
        self.ssm("LabelParameterVersion", r#"{"Name":"/home/app/db","ParameterVersion":1,"Labels":["old"]}"#).await;
        self.put("/home/app/json", r#"{\"user\":\"u\",\"deep\":{\"list\":[\"x\",\"y\"]},\"n\":3}"#).await;
        self.put("/home/app/base64", "aGkA/w==").await;
        self.put("plain", "of plain").await;
        for n in 0..25 {
            self.put(&format!("/home/app/many/{n}"), &format!("value {n}")).await;
        }
        self.put("/home/other/db", "of another").await;
    }

    /// A client of the cloud.
    pub fn client(&self) -> Client {
        Client::new(http(), Endpoints::all(&self.url), self.region)
    }

    pub async fn ssm(&self, operation: &str, input: &str) {
        let input = json::parse(input.as_bytes()).unwrap();
        self.client().json(Service::Ssm, &format!("AmazonSSM.{operation}"), &input, &self.admin).await.unwrap();
    }

    pub async fn put(&self, name: &str, value: &str) {
        let input = format!(r#"{{"Name":"{name}","Value":"{value}","Type":"SecureString","Overwrite":true}}"#);
        self.ssm("PutParameter", &input).await;
    }

    pub fn role(&self, name: &str) -> String {
        format!("arn:aws:iam::{}:role/{name}", self.account)
    }

    /// The pod that may read `/home/app/*` and `plain`.
    pub fn app(&self) -> Pod {
        self.api.add_pod("ns", "app-1", "app", &self.role("app"))
    }

    pub fn settings(&self) -> Settings {
        let mut s = Settings::new(http(), Endpoints::all(&self.url));
        s.node = Some(NODE.into());
        s.retries = 0;
        s
    }

    pub fn provider(&self) -> Provider<Shared> {
        self.provider_with(|_| {})
    }

    pub fn provider_with(&self, change: impl FnOnce(&mut Settings)) -> Provider<Shared> {
        let mut settings = self.settings();
        change(&mut settings);
        let ahead = self.ahead.clone();
        let clock = Arc::new(move || jiff::Timestamp::now().as_second() + ahead.load(Ordering::Relaxed));
        Provider::at(Shared(self.api.clone()), settings, clock)
    }
}

/// A request for a pod; `parameters` are those of the class.
pub fn request(pod: &Pod, parameters: &[(&str, &str)]) -> Request {
    let parameters: Map = parameters.iter().map(|(k, v)| (*k, Value::from(*v))).collect();
    Request { pod: pod.clone(), parameters: Value::Map(parameters), tokens: None, mode: 0o644 }
}

pub fn objects(pod: &Pod, objects: &str) -> Request {
    request(pod, &[("region", REGION), ("objects", objects)])
}

/// As the kubelet passes tokens.
pub fn with_token(mut request: Request, token: &str) -> Request {
    request.tokens = Some(Zeroizing::new(format!(
        r#"{{"sts.amazonaws.com":{{"token":"{token}","expirationTimestamp":"2100-01-01T00:00:00Z"}}}}"#
    )));
    request
}

/// `path mode content` of each file.
pub fn shown(m: &Mounted) -> Vec<String> {
    let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap_or_else(|_| format!("{b:?}"));
    m.files.iter().map(|f| format!("{} {:04o} {}", f.path, f.mode, text(&f.contents))).collect()
}

pub fn reason(e: &ProviderError) -> Option<druse_secrets::cause::Reason> {
    e.problems[0].cause.as_ref().map(|c| c.reason)
}
