//! The AWS provider: the files of a SecretProviderClass, for one pod, with that pod's own token.
//!
//! Behaves as aws/secrets-store-csi-driver-provider-aws does: pod → ServiceAccount → role → token → STS → values, in the
//! class' region and in its failover region. The whole is an asynchronous function of the request, a [`Cluster`], an
//! HTTP client and a clock; it writes nothing, logs no value, and holds values in buffers that are zeroed when dropped.
//!
//! Where it goes further: it serves a pod only on its own node and only with a token bound to that very pod (names and
//! UIDs compared with the API, since a provider's socket tells nobody apart); credentials are kept for one token and
//! never served to another; a failure names every object it is about, the role, the step and the likely cause.
//! Where it does less: no EKS Pod Identity, and no reading back of secrets that have not changed.

mod cluster;
mod problem;
mod read;
mod request;
pub mod serve;
mod sessions;

use std::sync::Arc;

use druse_aws::endpoint::Endpoints;
use druse_aws::{AwsError, Client, Credentials};
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

pub use cluster::{ApiCluster, Cluster};
pub use problem::{Problem, ProviderError, Step};
pub use request::{Pod, Request};

use crate::cause;
use crate::class::Class;
use crate::token::{self, AUDIENCE, Facts};
use sessions::{Key, Sessions};

/// How the provider reaches AWS, and whom it serves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The HTTP client.
    pub http: reqwest::Client,
    /// AWS' endpoints.
    pub endpoints: Endpoints,
    /// How often what may pass is tried again.
    pub retries: u32,
    /// The region of classes that name none, before that of the pod's node.
    pub region: Option<String>,
    /// The node that this provider runs on; pods of others are refused. Any, when absent.
    pub node: Option<String>,
    /// What ServiceAccount annotations start with.
    pub annotation_prefix: String,
    /// Whether tokens may be asked for where the kubelet passes none.
    pub token_requests: bool,
}

impl Settings {
    /// The usual ones.
    #[must_use]
    pub fn new(http: reqwest::Client, endpoints: Endpoints) -> Self {
        Self {
            http,
            endpoints,
            retries: 3,
            region: None,
            node: None,
            annotation_prefix: "eks.amazonaws.com".into(),
            token_requests: true,
        }
    }
}

/// Seconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// One file of a mount.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Where in the mount.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub contents: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.path).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// What a mount holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounted {
    /// The files, in the class' order.
    pub files: Vec<File>,
    /// The version of each file's value, by the file's name.
    pub versions: Vec<(String, String)>,
}

/// The provider.
pub struct Provider<C> {
    cluster: C,
    settings: Settings,
    clock: Clock,
    sessions: Sessions,
    /// Tokens asked for, by pod UID.
    tokens: sessions::Tokens,
}

/// What is known of a pod once it has been compared with the API.
pub(crate) struct Known {
    pub(crate) account_uid: String,
    pub(crate) role: String,
    pub(crate) node: String,
}

/// How long a token that is asked for lasts, in seconds.
const TOKEN_SECONDS: i64 = 3600;

impl<C: Cluster> Provider<C> {
    /// A provider.
    #[must_use]
    pub fn new(cluster: C, settings: Settings) -> Self {
        Self::at(cluster, settings, Arc::new(|| jiff::Timestamp::now().as_second()))
    }

    /// As [`Self::new`], with another clock.
    #[must_use]
    pub fn at(cluster: C, settings: Settings, clock: Clock) -> Self {
        Self { cluster, settings, clock, sessions: Sessions::default(), tokens: sessions::Tokens::default() }
    }

    /// The files that a request asks for: all of them, or none and why.
    ///
    /// # Errors
    /// Everything that is wrong with the first step that fails; never a value or a token.
    pub async fn mount(&self, request: &Request) -> Result<Mounted, ProviderError> {
        let pod = &request.pod;
        self.mount_unnamed(request).await.map_err(|problems| ProviderError { pod: pod.to_string(), problems })
    }

    async fn mount_unnamed(&self, request: &Request) -> Result<Mounted, Vec<Problem>> {
        let known = self.known(&request.pod).await?;
        let class = self.class(request, &known).await?;
        let token = self.token(request, &known).await?;
        let facts = self.check_token(&token, &request.pod, &known)?;
        let reader = read::Reader { class: &class, role: &known.role, mode: request.mode };
        let primary = class.region.as_deref().unwrap_or_default();
        let in_region = async |region: &str, failover: bool| {
            let client = self.client(region);
            let credentials = self.credentials(&client, &request.pod, &known, &token, &facts).await?;
            reader.all(&client, &credentials, failover).await
        };
        let Some(other) = class.failover_region.as_deref() else { return in_region(primary, false).await };
        // Both regions are asked, as upstream does: a failover that is misconfigured must show before it is needed.
        let (first, second) = futures::join!(in_region(primary, false), in_region(other, true));
        match (first, second) {
            (Ok(mounted), Ok(_)) => Ok(mounted),
            (Ok(found), Err(e)) | (Err(e), Ok(found)) if e.iter().all(Problem::is_passing) => {
                for problem in e {
                    tracing::warn!("{}: {problem}; the other region answered", request.pod);
                }
                Ok(found)
            }
            (Ok(_), Err(e)) | (Err(e), Ok(_)) => Err(e),
            (Err(mut a), Err(b)) => {
                a.extend(b);
                Err(a)
            }
        }
    }

    /// Compares the pod with the API: it must run here, as it says.
    pub(crate) async fn known(&self, pod: &Pod) -> Result<Known, Vec<Problem>> {
        let refuse = |what: String| vec![Problem::new(Step::Pod, what)];
        let (live, account) = futures::join!(
            self.cluster.get("pods", &pod.namespace, &pod.name),
            self.cluster.get("serviceaccounts", &pod.namespace, &pod.account)
        );
        let live = live.map_err(|e| refuse(format!("the API does not answer for the pod: {e}")))?;
        let live = live.ok_or_else(|| refuse("the API knows no such pod".into()))?;
        let uid = live.str_at(["metadata", "uid"]).unwrap_or_default();
        if uid != pod.uid || uid.is_empty() {
            return Err(refuse(format!("the pod of this name has UID {uid}, not {:?}", pod.uid)));
        }
        let node = live.str_at(["spec", "nodeName"]).unwrap_or_default();
        if let Some(own) = self.settings.node.as_deref().filter(|own| *own != node) {
            return Err(refuse(format!("the pod runs on node {node:?}, and this is the provider of node {own}")));
        }
        let runs_as = live.str_at(["spec", "serviceAccountName"]).filter(|a| !a.is_empty()).unwrap_or("default");
        if runs_as != pod.account {
            return Err(refuse(format!("the pod runs as ServiceAccount {runs_as}, not as {:?}", pod.account)));
        }
        let annotation = format!("{}/role-arn", self.settings.annotation_prefix);
        let name = format!("ServiceAccount {}/{}", pod.namespace, pod.account);
        let refuse = |what: String, remedy: &str| vec![Problem::new(Step::Account, what).help(remedy)];
        let account = account.map_err(|e| refuse(format!("the API does not answer for {name}: {e}"), ""))?;
        let account = account.ok_or_else(|| refuse(format!("{name} does not exist"), "declare it"))?;
        let role = account["metadata"]["annotations"][annotation.as_str()].as_str().unwrap_or_default().trim();
        if druse_aws::arn::Arn::parse(role).and_then(|a| a.role_name()).is_none() {
            let what = match role {
                "" => format!("{name} has no annotation {annotation}: it has no role"),
                other => format!("{name} is annotated with {other:?}, which is no role's ARN"),
            };
            return Err(refuse(what, "annotate it with the ARN of its role"));
        }
        Ok(Known {
            account_uid: account.str_at(["metadata", "uid"]).unwrap_or_default().to_string(),
            role: role.to_string(),
            node: node.to_string(),
        })
    }

    /// The class, with its region settled: its own, the environment's, the node's.
    pub(crate) async fn class(&self, request: &Request, known: &Known) -> Result<Class, Vec<Problem>> {
        let mut parameters = request.parameters.clone();
        if parameters.str_at(["region"]).is_none_or(str::is_empty) {
            let region = match &self.settings.region {
                Some(region) => region.clone(),
                None => self.region_of(&known.node).await?,
            };
            if let Some(m) = parameters.make_map() {
                m.insert("region", region);
            }
        }
        let class = Class::parse(&parameters);
        let class =
            class.map_err(|wrong| wrong.into_iter().map(|w| Problem::new(Step::Class, w)).collect::<Vec<_>>())?;
        if class.pod_identity {
            return Err(vec![
                Problem::new(Step::Class, "usePodIdentity asks EKS' Pod Identity agent, which is not served here")
                    .help("take usePodIdentity away, and annotate the ServiceAccount with its role"),
            ]);
        }
        Ok(class)
    }

    /// The region of a node's label.
    pub(crate) async fn region_of(&self, node: &str) -> Result<String, Vec<Problem>> {
        const LABEL: &str = "topology.kubernetes.io/region";
        let refuse = |what: String| {
            vec![Problem::new(Step::Region, what).help(
                "set parameters.region in the SecretProviderClass, AWS_REGION for the provider, or the node's label",
            )]
        };
        let found = self.cluster.get("nodes", "", node).await;
        let found = found.map_err(|e| refuse(format!("the API does not answer for node {node}: {e}")))?;
        let region = found.as_ref().and_then(|n| n["metadata"]["labels"][LABEL].as_str()).filter(|r| !r.is_empty());
        region.map(str::to_string).ok_or_else(|| {
            refuse(format!("the region is not known: the class names none, and node {node} has no label {LABEL}"))
        })
    }

    /// The pod's token: the one that the kubelet passed, else one that is asked for.
    pub(crate) async fn token(&self, request: &Request, known: &Known) -> Result<Zeroizing<String>, Vec<Problem>> {
        let refuse = |what: String, remedy: &str| vec![Problem::new(Step::Token, what).help(remedy)];
        let passed = match &request.tokens {
            None => None,
            Some(text) => token::of_volume_context(text, AUDIENCE)
                .map_err(|e| refuse(e, "look at spec.tokenRequests of the CSIDriver"))?,
        };
        if let Some(token) = passed {
            return Ok(token);
        }
        if !self.settings.token_requests {
            return Err(refuse(
                format!("the kubelet passes no token for the audience {AUDIENCE}, and none may be asked for"),
                "add the audience to spec.tokenRequests of the CSIDriver secrets-store.csi.k8s.io",
            ));
        }
        let (pod, now) = (&request.pod, (self.clock)());
        if let Some(token) = self.tokens.get(&pod.uid, &known.account_uid, now) {
            return Ok(token);
        }
        let token = self.cluster.token(pod, AUDIENCE, TOKEN_SECONDS).await.map_err(|e| {
            refuse(
                format!("the API gives no token for ServiceAccount {}/{}: {e}", pod.namespace, pod.account),
                "the provider needs the right to create serviceaccounts/token, or the CSIDriver spec.tokenRequests",
            )
        })?;
        // Renewed when a fifth of its time is left, as the kubelet does.
        self.tokens.keep(&pod.uid, &known.account_uid, &token, now, now + TOKEN_SECONDS * 4 / 5);
        Ok(token)
    }

    /// Compares what a token says of itself with the pod that it is used for.
    pub(crate) fn check_token(&self, token: &str, pod: &Pod, known: &Known) -> Result<Facts, Vec<Problem>> {
        let refuse = |what: String| vec![Problem::new(Step::Token, what)];
        let facts = Facts::read(token).map_err(|e| refuse(format!("the pod's token is none: {e}")))?;
        let says = |what: &str, found: &str, wanted: &str| {
            (found != wanted).then(|| refuse(format!("the token is of {what} {found:?}, and the pod's is {wanted:?}")))
        };
        let wrong = says("namespace", &facts.namespace, &pod.namespace)
            .or_else(|| says("ServiceAccount", &facts.account, &pod.account))
            .or_else(|| says("ServiceAccount UID", &facts.account_uid, &known.account_uid))
            .or_else(|| says("pod", &facts.pod, &pod.name))
            .or_else(|| says("pod UID", &facts.pod_uid, &pod.uid));
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        if !facts.audiences.iter().any(|a| a == AUDIENCE) {
            return Err(refuse(format!("the token is for {}, not for {AUDIENCE}", facts.audiences.join(", "))));
        }
        let over = (self.clock)() - facts.expires;
        if over >= 0 {
            let what = "the pod's token is not one to be used any more";
            return Err(vec![Problem { cause: Some(cause::of_expired(over)), ..Problem::new(Step::Token, what) }]);
        }
        Ok(facts)
    }

    pub(crate) fn client(&self, region: &str) -> Client {
        Client::new(self.settings.http.clone(), self.settings.endpoints.clone(), region).retries(self.settings.retries)
    }

    /// The role's credentials for a token: kept ones, else new ones of STS.
    pub(crate) async fn credentials(
        &self,
        client: &Client,
        pod: &Pod,
        known: &Known,
        token: &str,
        facts: &Facts,
    ) -> Result<Credentials, Vec<Problem>> {
        let mut of_token = [0; 32];
        of_token.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let key = Key {
            account_uid: known.account_uid.clone(),
            role: known.role.clone(),
            region: client.region().to_string(),
            token: of_token,
        };
        let now = (self.clock)();
        let name = session_name(pod);
        let assume = client.assume_role_with_web_identity(&known.role, &name, token, None);
        let result = self.sessions.get(key, now, facts.expires, assume).await;
        result.map_err(|e| vec![self.assume_failed(&e, known, facts, client.region(), now)])
    }

    /// The files of a class, read with these credentials.
    pub(crate) async fn read(
        &self,
        class: &Class,
        known: &Known,
        client: &Client,
        credentials: &Credentials,
        failover: bool,
    ) -> Result<Mounted, Vec<Problem>> {
        read::Reader { class, role: &known.role, mode: 0o644 }.all(client, credentials, failover).await
    }

    fn assume_failed(&self, e: &AwsError, known: &Known, facts: &Facts, region: &str, now: i64) -> Problem {
        let cause = cause::of_assume(e, facts, &known.role, now);
        Problem::aws(Step::Assume, e, cause).role(&known.role).region(region)
    }
}

/// Names the session after the pod, for CloudTrail: 64 of the characters that STS takes.
pub(crate) fn session_name(pod: &Pod) -> String {
    let name = format!("{}.{}", pod.namespace, pod.name);
    let fits = |c: &char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(*c);
    name.chars().filter(fits).take(64).collect()
}
