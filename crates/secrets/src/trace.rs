//! The way of one pod to its secrets, walked live: what was asked at each step, what was answered, and where it stopped.
//!
//! The same code as the provider's asks, one step at a time and for one object at a time; no value is kept, and neither
//! a value nor a token is in what it tells. The pod identity webhook is not on this way.

use druse_aws::endpoint::Endpoints;
use druse_csi::class::{classes, pods, statuses};
use druse_csi::kubelet::{drivers, volumes};
use druse_object::Value;
use druse_runtime::{Api, ListOptions, Resource};
use druse_terraform::Declared;
use serde::Serialize;

use crate::cause::{self, Cause, Reason};
use crate::class::Class;
use crate::proof::DRIVER;
use crate::provider::{ApiCluster, Known, Pod, Problem, Provider, Request, Settings, Step};
use crate::token::{ALGORITHM, AUDIENCE, Facts};
use crate::trust;

const OTHER_ALGORITHM: &str = "STS takes RS256 only: give the cluster an RSA key with `druse identity rotate`";

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// As it should.
    Ok,
    /// It goes on, and something should be looked at.
    Warning,
    /// Here it stops.
    Failed,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traced {
    /// Which.
    pub step: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// What was asked.
    pub asked: String,
    /// What was answered.
    pub answered: String,
    /// The likely cause's short name, where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The likely cause.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What would help.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// The whole way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// `namespace/name` of the pod.
    pub pod: String,
    /// The steps, in the order they were taken.
    pub steps: Vec<Traced>,
    /// Where STS let the pod into no role: the step, the role and what the token says of itself.
    #[serde(skip)]
    refused: Vec<(usize, String, Facts)>,
}

impl Trace {
    /// Whether it came to its end.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.steps.iter().all(|s| s.outcome != Outcome::Failed)
    }

    /// The first role that STS let the pod not into, without saying why. What the tree declares may tell: see
    /// [`Self::compare`].
    #[must_use]
    pub fn refused_role(&self) -> Option<&str> {
        self.refused.first().map(|(_, role, _)| role.as_str())
    }

    /// Says of roles that STS let the pod not into, why the trust policy that the tree declares would not.
    pub fn compare(&mut self, declared: &Declared) {
        for (step, role, token) in &self.refused {
            if let (Some(step), Some((code, text))) = (self.steps.get_mut(*step), trust::explain(declared, role, token))
            {
                step.reason = Some(code);
                step.cause = text;
                if code == "not-applied" {
                    step.remedy = "apply the Terraform, and compare the account and the role's ARN".into();
                }
            }
        }
    }

    fn say(&mut self, step: &'static str, outcome: Outcome, asked: impl Into<String>, answered: impl Into<String>) {
        self.steps.push(Traced {
            step,
            outcome,
            asked: asked.into(),
            answered: answered.into(),
            reason: None,
            cause: String::new(),
            remedy: String::new(),
        });
    }

    fn ok(&mut self, step: &'static str, asked: impl Into<String>, answered: impl Into<String>) {
        self.say(step, Outcome::Ok, asked, answered);
    }

    fn help(&mut self, remedy: &str) {
        if let Some(last) = self.steps.last_mut() {
            last.remedy = remedy.into();
        }
    }

    fn failed(&mut self, step: &'static str, asked: &str, problems: &[Problem]) {
        for p in problems {
            self.say(step, Outcome::Failed, asked, p.what.clone());
            if let Some(last) = self.steps.last_mut() {
                last.remedy.clone_from(&p.remedy);
                if let Some(Cause { reason, text, remedy }) = &p.cause {
                    last.reason = Some(reason.code());
                    last.cause.clone_from(text);
                    last.remedy.clone_from(remedy);
                }
            }
        }
    }
}

/// Walks the way of pods.
pub struct Tracer {
    api: Api,
    provider: Provider<ApiCluster>,
    http: reqwest::Client,
    endpoints: Endpoints,
    prefix: String,
}

impl Tracer {
    /// With a cluster, and the way to AWS from here.
    #[must_use]
    pub fn new(api: Api, settings: Settings) -> Self {
        let (http, prefix) = (settings.http.clone(), settings.annotation_prefix.clone());
        let endpoints = settings.endpoints.clone();
        Self { provider: Provider::new(ApiCluster(api.clone()), settings), api, http, endpoints, prefix }
    }

    /// Walks the way of a pod.
    pub async fn trace(&self, namespace: &str, name: &str) -> Trace {
        let mut t = Trace { pod: format!("{namespace}/{name}"), ..Trace::default() };
        let Some((pod, live)) = self.pod(&mut t, namespace, name).await else { return t };
        self.driver(&mut t, &live).await;
        if let Some((known, token, facts)) = self.identity(&mut t, &pod).await {
            for volume in volumes(&live) {
                self.volume(&mut t, &pod, &known, (token.as_str(), &facts), volume).await;
            }
        }
        self.told(&mut t, &pod).await;
        t
    }

    async fn pod(&self, t: &mut Trace, namespace: &str, name: &str) -> Option<(Pod, Value)> {
        let asked = format!("the API for pod {namespace}/{name}");
        let live = match self.api.get(&pods(), namespace, name).await {
            Ok(Some(live)) => live,
            Ok(None) => {
                t.say("pod", Outcome::Failed, asked, "there is no such pod");
                return None;
            }
            Err(e) => {
                t.say("pod", Outcome::Failed, asked, e.to_string());
                return None;
            }
        };
        let text = |path: [&str; 2]| live.str_at(path).unwrap_or_default().to_string();
        let account = Some(text(["spec", "serviceAccountName"])).filter(|a| !a.is_empty());
        let pod = Pod {
            namespace: namespace.into(),
            name: name.into(),
            uid: text(["metadata", "uid"]),
            account: account.unwrap_or_else(|| "default".into()),
        };
        let (node, count) = (text(["spec", "nodeName"]), volumes(&live).count());
        let answered = format!("ServiceAccount {}, node {node:?}, {count} secrets volumes", pod.account);
        let outcome = if node.is_empty() || count == 0 { Outcome::Warning } else { Outcome::Ok };
        t.say("pod", outcome, asked, answered);
        if node.is_empty() {
            t.help("the pod is on no node yet: nothing is mounted before it is scheduled");
        } else if count == 0 {
            t.help(&format!("the pod has no volume of the driver {DRIVER}"));
        }
        Some((pod, live))
    }

    /// Whether the driver is installed, on the pod's node too, and asks the kubelet for what providers need.
    async fn driver(&self, t: &mut Trace, live: &Value) {
        let asked = format!("the API for CSIDriver {DRIVER}");
        match self.api.get(&drivers(), "", DRIVER).await {
            Err(e) => t.say("driver", Outcome::Warning, asked, e.to_string()),
            Ok(None) => {
                t.say("driver", Outcome::Failed, asked, "there is none");
                t.help("install the Secrets Store CSI driver");
            }
            Ok(Some(driver)) => {
                let info = driver["spec"]["podInfoOnMount"].as_bool() == Some(true);
                let audiences: Vec<&str> =
                    driver["spec"]["tokenRequests"].items().iter().filter_map(|r| r.str_at(["audience"])).collect();
                let again = driver["spec"]["requiresRepublish"].as_bool() == Some(true);
                let answered =
                    format!("podInfoOnMount {info}, tokenRequests for {audiences:?}, requiresRepublish {again}");
                let outcome = match (info, audiences.contains(&AUDIENCE)) {
                    (false, _) => Outcome::Failed,
                    (true, false) => Outcome::Warning,
                    (true, true) => Outcome::Ok,
                };
                t.say("driver", outcome, asked, answered);
                match outcome {
                    Outcome::Failed => t.help("set spec.podInfoOnMount: true, or providers do not learn of the pod"),
                    Outcome::Warning => t.help(&format!(
                        "without a tokenRequest for {AUDIENCE} the provider must ask for tokens itself; upstream's cannot \
                         from 2.0 on"
                    )),
                    Outcome::Ok => {}
                }
            }
        }
        let node = live.str_at(["spec", "nodeName"]).unwrap_or_default();
        let nodes = Resource::new("storage.k8s.io", "v1", "CSINode", "csinodes", false);
        if let Ok(Some(found)) = self.api.get(&nodes, "", node).await {
            let there = found["spec"]["drivers"].items().iter().any(|d| d.str_at(["name"]) == Some(DRIVER));
            let (outcome, answered) = match there {
                true => (Outcome::Ok, "the driver is registered there"),
                false => (Outcome::Warning, "the driver is not registered there"),
            };
            t.say("driver", outcome, format!("the API for CSINode {node}"), answered);
            if !there {
                t.help("does the driver's DaemonSet run on this node?");
            }
        }
    }

    async fn identity(&self, t: &mut Trace, pod: &Pod) -> Option<(Known, zeroize::Zeroizing<String>, Facts)> {
        let account = format!("ServiceAccount {}/{}", pod.namespace, pod.account);
        let asked = format!("the API for {account} and its annotation {}/role-arn", self.prefix);
        let known = match self.provider.known(pod).await {
            Ok(known) => known,
            Err(problems) => {
                t.failed("role", &asked, &problems);
                return None;
            }
        };
        t.ok("role", asked, known.role.clone());
        let request = Request { pod: pod.clone(), parameters: Value::default(), tokens: None, mode: 0o644 };
        let asked = format!("the API for a token of {account} for {AUDIENCE}, bound to the pod");
        let token = match self.provider.token(&request, &known).await {
            Ok(token) => token,
            Err(problems) => {
                t.failed("token", &asked, &problems);
                t.help("you need the right to create serviceaccounts/token in this namespace");
                return None;
            }
        };
        let facts = match self.provider.check_token(&token, pod, &known) {
            Ok(facts) => facts,
            Err(mut problems) => {
                for cause in problems.iter_mut().filter_map(|p| p.cause.as_mut()) {
                    if cause.reason == Reason::TokenExpired {
                        *cause = cause::of_born_expired();
                    }
                }
                t.failed("token", &asked, &problems);
                return None;
            }
        };
        let answered = format!(
            "issuer {}, subject {}, audience {}, {} with key {}",
            facts.issuer,
            facts.subject,
            facts.audiences.join(", "),
            facts.algorithm,
            facts.key_id
        );
        let taken = facts.algorithm == ALGORITHM;
        t.say("token", if taken { Outcome::Ok } else { Outcome::Warning }, asked, answered);
        if !taken {
            t.help(OTHER_ALGORITHM);
        }
        self.issuer(t, &facts).await;
        Some((known, token, facts))
    }

    /// Whether the issuer's documents have the key, and as one that STS takes, as seen from here: STS reads them for itself.
    async fn issuer(&self, t: &mut Trace, facts: &Facts) {
        let discovery = format!("{}/{}", facts.issuer.trim_end_matches('/'), druse_identity::documents::DISCOVERY_PATH);
        let outcome = async {
            let (_, uri) = druse_identity::documents::read_discovery(&self.document(&discovery).await?, &discovery)
                .map_err(|e| e.to_string())?;
            let keys =
                druse_identity::documents::read_jwks(&self.document(&uri).await?, &uri).map_err(|e| e.to_string())?;
            let (id, count) = (&facts.key_id, keys.len());
            match keys.iter().find(|k| k.id == *id).map(|k| &k.key) {
                Some(Ok(_)) => Ok(format!("the key {id} is among the {count} published")),
                Some(Err(kind)) => Err(format!("the key {id} is published as {kind}")),
                None if facts.algorithm != ALGORITHM => Err(format!(
                    "the key {id} is not among the {count} published: it signs {}, which no key set for STS holds",
                    facts.algorithm
                )),
                None => Err(format!("the key {id} is not among the {count} published")),
            }
        };
        match outcome.await {
            Ok(answered) => t.ok("issuer", discovery.clone(), answered),
            Err(e) => {
                t.say("issuer", Outcome::Warning, discovery.clone(), e);
                match facts.algorithm == ALGORITHM {
                    true => t.help(&format!("STS reads it too: compare with `druse identity verify {}`", facts.issuer)),
                    false => t.help(OTHER_ALGORITHM),
                }
            }
        }
    }

    async fn document(&self, url: &str) -> Result<Vec<u8>, String> {
        const LARGEST: usize = 1 << 20;
        let url: reqwest::Url =
            self.endpoints.public_url(url).parse().map_err(|_| "the issuer is no URL".to_string())?;
        let answer = self.http.get(url).send().await.map_err(|_| "it cannot be reached from here".to_string())?;
        if !answer.status().is_success() {
            return Err(format!("HTTP {}", answer.status().as_u16()));
        }
        let body = answer.bytes().await.map_err(|_| "it breaks off".to_string())?;
        if body.len() > LARGEST { Err("it is too large".into()) } else { Ok(body.to_vec()) }
    }

    async fn volume(&self, t: &mut Trace, pod: &Pod, known: &Known, token: (&str, &Facts), volume: &Value) {
        let class = volume.str_at(["csi", "volumeAttributes", "secretProviderClass"]).unwrap_or_default();
        let asked = format!("the API for SecretProviderClass {}/{class}", pod.namespace);
        let object = match self.api.get(&classes(), &pod.namespace, class).await {
            Ok(Some(object)) => object,
            Ok(None) => {
                t.say("class", Outcome::Failed, asked, "there is none of this name in the pod's namespace");
                t.help("declare it there; classes of other namespaces cannot be used");
                return;
            }
            Err(e) => return t.say("class", Outcome::Failed, asked, e.to_string()),
        };
        let provider = object.str_at(["spec", "provider"]).unwrap_or_default();
        if provider != crate::provider::serve::NAME {
            return t.say("class", Outcome::Warning, asked, format!("provider {provider:?} is not followed here"));
        }
        let request =
            Request { pod: pod.clone(), parameters: object["spec"]["parameters"].clone(), tokens: None, mode: 0o644 };
        let class = match self.provider.class(&request, known).await {
            Ok(class) => class,
            Err(problems) => return t.failed("class", &asked, &problems),
        };
        let region = class.region.clone().unwrap_or_default();
        t.ok("class", asked, format!("{} objects, region {region}", class.objects.len()));
        for (region, failover) in [(Some(region), false), (class.failover_region.clone(), true)] {
            if let Some(region) = region {
                self.values(t, pod, known, token, (&class, &region, failover)).await;
            }
        }
    }

    /// The role assumed in a region, and each object read there by itself.
    async fn values(
        &self,
        t: &mut Trace,
        pod: &Pod,
        known: &Known,
        (token, facts): (&str, &Facts),
        (class, region, failover): (&Class, &str, bool),
    ) {
        let asked = format!("STS in {region} to assume {} for {}", known.role, facts.subject);
        let client = self.provider.client(region);
        let credentials = match self.provider.credentials(&client, pod, known, token, facts).await {
            Ok(credentials) => credentials,
            Err(problems) => {
                t.failed("assume", &asked, &problems);
                let denied = |p: &Problem| p.cause.as_ref().is_some_and(|c| c.reason == Reason::TrustDenied);
                if problems.iter().any(denied) {
                    t.refused.push((t.steps.len() - 1, known.role.clone(), facts.clone()));
                }
                return;
            }
        };
        let seconds = credentials.expires.unwrap_or_default() - jiff::Timestamp::now().as_second();
        t.ok("assume", asked, format!("credentials {}, for {} minutes", credentials.access_key_id, seconds / 60));
        for object in &class.objects {
            let asked = format!("{} {} in {region}", object.kind.name(), object.name);
            let one = Class { objects: vec![object.clone()], ..class.clone() };
            match self.provider.read(&one, known, &client, &credentials, failover).await {
                Ok(mounted) => {
                    let files: Vec<String> =
                        mounted.versions.iter().map(|(f, v)| format!("{f} (version {v})")).collect();
                    t.ok("read", asked, files.join(", "));
                }
                Err(problems) => {
                    let step = if problems.iter().any(|p| p.step == Step::Value) { "value" } else { "read" };
                    t.failed(step, &asked, &problems);
                }
            }
        }
    }

    /// What the kubelet and the driver have said of the pod.
    async fn told(&self, t: &mut Trace, pod: &Pod) {
        let events = Resource::new("", "v1", "Event", "events", true);
        let fields = format!("involvedObject.uid={}", pod.uid);
        let asked = "the API for the pod's events";
        let Ok((found, _)) =
            self.api.list(&events, &pod.namespace, &ListOptions { fields, ..ListOptions::default() }).await
        else {
            return;
        };
        let about = |e: &&Value| matches!(e.str_at(["reason"]), Some("FailedMount" | "MountRotationFailed"));
        if let Some(last) =
            found.iter().filter(about).max_by_key(|e| e.str_at(["lastTimestamp"]).unwrap_or_default().to_string())
        {
            let when = last.str_at(["lastTimestamp"]).unwrap_or_default();
            let message = last.str_at(["message"]).unwrap_or_default();
            t.say("events", Outcome::Warning, asked, format!("{when}: {message}"));
        }
        let Ok((found, _)) = self.api.list(&statuses(), &pod.namespace, &ListOptions::default()).await else { return };
        for status in found.iter().filter(|s| s["status"]["podName"].as_str() == Some(pod.name.as_str())) {
            let class = status.str_at(["status", "secretProviderClassName"]).unwrap_or_default();
            let count = status["status"]["objects"].items().len();
            t.ok(
                "mounted",
                "the API for SecretProviderClassPodStatuses",
                format!("class {class} is mounted, {count} objects"),
            );
        }
    }
}
