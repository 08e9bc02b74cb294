//! A rehearsal: a plan brought up on the embedded API, with the simulated cluster, the components and the real
//! controllers, all in this process.
//!
//! [`Rehearsal::start`] makes the plan, opens the API, installs what the components bring, and applies the tree's roots
//! as a person would when bootstrapping; the controllers do the rest. [`Rehearsal::settled`] returns when there is
//! nothing left to do, with a report of every unit. Prints nothing; what is simulated is named in the report.

mod bootstrap;
mod identity;
mod report;
mod secrets;
mod stand_ins;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use druse_apiserver::ApiServer;
use druse_controllers::Randomness;
use druse_helm::Capabilities;
use druse_identity::SigningKey;
use druse_object::Value;
use druse_plan::model::NoStandIns;
use druse_plan::sources::Sources;
use druse_plan::{Plan, PlanOptions, StandIns, TreeInput};
use druse_runtime::{Api, Cache, Caches, Manager};
use druse_source::Fetcher;

pub use druse_csi::mount::Mounts;
pub use report::{Report, StandInReport, UnitReport, UnitState};
pub use secrets::{VolumeReport, VolumeState};
pub use stand_ins::Components;

/// What to rehearse, and how.
pub struct Options {
    /// The tree.
    pub input: TreeInput,
    /// Where charts and sources come from.
    pub fetcher: Arc<Fetcher>,
    /// Whether components may stand in for what is not fetched.
    pub stand_ins: bool,
    /// The age keys that SOPS documents are opened with.
    pub keys: Arc<druse_sops::Identities>,
    /// The key that the cluster signs ServiceAccount tokens with; one of its own when absent.
    pub signing_key: Option<SigningKey>,
    /// Where the API keeps its state; in memory when absent.
    pub data_dir: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The simulated nodes.
    pub nodes: Vec<druse_simulate::nodes::Node>,
    /// What the files of secrets volumes lie on, below the API's state.
    pub mounts: Mounts,
}

/// Why a rehearsal cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The API.
    #[error(transparent)]
    Api(#[from] druse_apiserver::Error),
    /// The simulated cluster.
    #[error(transparent)]
    Simulate(#[from] druse_simulate::SimulateError),
    /// An object that everything else needs was refused.
    #[error("cannot apply {object}: {cause}")]
    Apply {
        /// Which.
        object: String,
        /// What the API answered.
        cause: String,
    },
    /// The tree declares nothing to bring up.
    #[error("no Flux Kustomization or HelmRelease in {0}")]
    Empty(String),
    /// A step of this process failed.
    #[error("{0}")]
    Internal(String),
}

/// A running rehearsal. Dropping it stops everything; what the data directory holds stays.
pub struct Rehearsal {
    plan: Arc<Plan>,
    server: Arc<ApiServer>,
    address: SocketAddr,
    manager: Manager,
    kustomizations: Arc<Cache>,
    helm_releases: Arc<Cache>,
    serving: tokio::task::JoinHandle<()>,
    started: Instant,
    caches: Caches,
    secrets: secrets::Path,
}

/// How long nothing may happen before a rehearsal counts as settled: events between queues take microseconds.
const QUIET: Duration = Duration::from_millis(150);

impl Rehearsal {
    /// Starts a rehearsal; returns when the API serves and the controllers run.
    ///
    /// # Errors
    /// When the API cannot open its state or listen, or refuses what everything else needs.
    pub async fn start(options: Options) -> Result<Self, RehearsalError> {
        let started = Instant::now();
        let stand_ins: Arc<dyn StandIns> = if options.stand_ins { Arc::new(Components) } else { Arc::new(NoStandIns) };
        let plan_options =
            PlanOptions { stand_ins: stand_ins.clone(), keys: options.keys.clone(), ..PlanOptions::default() };
        let (root, tree) = (options.input.root.clone(), options.input.tree.clone());
        // One set of sources for the plan and the controllers: what was fetched and parsed once serves both.
        let sources = Arc::new(Sources::new(options.input, options.fetcher));
        let planning = {
            let (sources, plan_options) = (sources.clone(), plan_options.clone());
            tokio::task::spawn_blocking(move || druse_plan::plan_with(&sources, &plan_options))
        };
        // The cluster signs as the issuer that the tree's roles trust.
        let aws = {
            let tree = tree.clone();
            tokio::task::spawn_blocking(move || secrets::Aws::of(&*tree))
        };
        let aws = aws.await.map_err(|e| RehearsalError::Internal(e.to_string()))?;
        // Webhooks behind simulated pods are not called; one that runs on this machine is. The pod identity webhook's work is
        // done in process.
        let webhook = identity::Webhook::default();
        let mut builder =
            ApiServer::builder().addresses([options.listen.ip()]).simulated_pods(true).admission(webhook.plugin());
        if let Some(dir) = &options.data_dir {
            builder = builder.data_dir(dir);
        }
        if let Some(issuer) = &aws.issuer {
            builder = builder.issuer(issuer);
        }
        if let Some(key) = options.signing_key {
            builder = builder.signing_key(key);
        }
        let server = Arc::new(builder.build().await?);
        let listener = server.listen(options.listen).await?;
        let address = listener.local_addr().map_err(|e| RehearsalError::Internal(e.to_string()))?;
        let serving = {
            let server = server.clone();
            tokio::spawn(async move {
                if let Err(e) = server.serve(listener).await {
                    tracing::error!("the API no longer serves: {e}");
                }
            })
        };
        let api = Api::new(kube::Client::new(server.service(), "default"));
        let caches = Caches::new(api.clone());
        let mut plan = planning.await.map_err(|e| RehearsalError::Internal(e.to_string()))?;
        if plan.units.is_empty() {
            return Err(RehearsalError::Empty(root.display().to_string()));
        }
        webhook.configure(&plan);
        let manager = Manager::new();
        let components = bootstrap::components(&plan);
        bootstrap::serve_components(&caches, &plan, &components).await?;
        bootstrap::stand_in_objects(&api, &plan).await?;
        bootstrap::roots(&api, &plan).await?;
        let asked = secrets::Asked::of(&plan);
        forget_contents(&mut plan);
        caches.retry_missing_on(&manager, &crd_resource());
        let mut stages = Vec::new();
        for c in &components {
            stages
                .extend(druse_simulate::stage::parse(&c.name, &c.stages).map_err(druse_simulate::SimulateError::from)?);
        }
        let aws = aws.in_account(&*tree, &asked.accounts);
        let place = (options.data_dir.clone(), options.mounts);
        let secrets = secrets::Path::start(&api, &manager, &caches, aws, asked, place).await?;
        let simulated = druse_simulate::Options {
            nodes: options.nodes,
            stages,
            hold: secrets::hold(),
            clock: druse_runtime::Clock::default(),
        };
        druse_simulate::start(&manager, &caches, simulated).await?;
        let capabilities = Capabilities {
            kube_version: plan_options.kube_version.clone(),
            api_versions: Arc::new(plan.kinds.api_versions(&plan_options.api_versions)),
        };
        druse_controllers::start(
            &manager,
            &caches,
            druse_controllers::Options {
                sources,
                stand_ins: options.stand_ins.then_some(stand_ins),
                capabilities: Some(capabilities),
                strict_substitution: plan_options.strict_substitution,
                lenient: true,
                keys: options.keys.clone(),
                keep_own_kinds: true,
                randomness: Randomness::Seeded,
                concurrency: 4,
                dependency_requeue: Duration::from_secs(5),
            },
        );
        Ok(Self {
            kustomizations: caches.of(&bootstrap::kustomizations()),
            helm_releases: caches.of(&bootstrap::helm_releases()),
            plan: Arc::new(plan),
            server,
            address,
            manager,
            serving,
            started,
            caches,
            secrets,
        })
    }

    /// The plan rehearsed. Its objects keep only what names them and where they come from.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The address the API listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the local cloud of the secrets path answers; nowhere when no pod could ask it.
    #[must_use]
    pub fn cloud_address(&self) -> Option<SocketAddr> {
        self.secrets.cloud()
    }

    /// A kubeconfig of the administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        self.server.kubeconfig(self.address)
    }

    /// How all units stand right now.
    #[must_use]
    pub fn report(&self) -> Report {
        let live: Vec<_> = self.kustomizations.all().into_iter().chain(self.helm_releases.all()).collect();
        Report { secrets: self.secrets.report(), ..Report::new(&self.plan, &live, self.started.elapsed()) }
    }

    /// Waits until there is nothing left to do: every unit is ready or has failed, and no queue moves.
    pub async fn settled(&self) -> Report {
        self.kustomizations.synced().await;
        self.helm_releases.synced().await;
        loop {
            self.manager.idle(QUIET).await;
            let report = self.report();
            if report.is_conclusive() {
                return report;
            }
            // Something waits for a timer: look again when it has moved.
            self.manager.moved().await;
        }
    }

    /// Stops the controllers, lets running requests finish and closes the state.
    pub async fn stop(self) {
        drop(self.manager);
        self.secrets.stop().await;
        self.caches.stop();
        self.server.close();
        if let Err(e) = self.serving.await {
            tracing::debug!("serving ended: {e}");
        }
    }
}

/// Leaves of a plan's objects what reports need. The controllers render on their own: a second copy of everything would
/// only take memory.
fn forget_contents(plan: &mut Plan) {
    for object in plan.units.iter_mut().flat_map(|u| &mut u.objects) {
        let mut named = Value::default();
        if let Some(m) = named.make_map() {
            m.insert("apiVersion", object.api_version());
            m.insert("kind", object.kind());
        }
        if let Some(m) = named.make_map_at(["metadata"]) {
            m.insert("name", object.name());
            if !object.namespace().is_empty() {
                m.insert("namespace", object.namespace());
            }
        }
        object.value = named;
    }
    plan.units.iter_mut().for_each(|u| u.hooks.clear());
}

fn crd_resource() -> druse_runtime::Resource {
    druse_runtime::Resource::new(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
    )
}
