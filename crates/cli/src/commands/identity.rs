//! `druse identity`: the cluster's issuer key, its published documents, and the pod identity webhook.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use druse_identity::documents::{PublishedKey, documents, read_jwks};
use druse_identity::publish::{Outcome, publish};
use druse_identity::rotate::{ControlPlane, Next, Rotation, STEPS, Step};
use druse_identity::verify::{Severity, compare, jwks_uri};
use druse_identity::webhook::{self, Settings};
use druse_identity::{IssuerUrl, PublicKey, SigningKey};
use druse_runtime::{Api, Caches, Resource};

use crate::cloud_place::place;
use crate::cluster::ClusterArgs;
use crate::error::CliError;
use crate::globals::Globals;
use crate::keys::{signing_key, wrong};

/// Make, publish, compare and replace the key that a cluster signs ServiceAccount tokens with
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    Keygen(Keygen),
    Documents(Documents),
    Publish(Publish),
    Rotate(Rotate),
    Verify(Verify),
    Webhook(Webhook),
}

/// Make an RSA key for Talos' cluster.serviceAccount.key
///
/// The file holds the key as PKCS#1 PEM, base64-encoded, and can be read by its owner only. AWS accepts tokens signed
/// with RS256 only, so the elliptic keys that Talos makes by itself do not do.
#[derive(clap::Args, Clone, Debug)]
pub struct Keygen {
    /// Where the key goes; an existing file is not written over
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The key's size: 2048 to 4096 bits
    #[arg(long, value_name = "BITS", default_value_t = 2048)]
    pub bits: usize,
}

/// An issuer and its keys.
#[derive(clap::Args, Clone, Debug)]
pub struct IssuerArgs {
    /// The issuer's URL, as kube-apiserver's --service-account-issuer has it
    #[arg(long, value_name = "URL")]
    pub issuer: String,
    /// A key to publish, private or public (repeatable): PEM, or base64 of it as in Talos' machine configuration
    #[arg(long, value_name = "FILE", required = true)]
    pub key: Vec<PathBuf>,
}

impl IssuerArgs {
    fn documents(&self) -> Result<Vec<druse_identity::documents::Document>, CliError> {
        let issuer = IssuerUrl::parse(&self.issuer).map_err(wrong)?;
        let keys = self.key.iter().map(|p| read_public(p)).collect::<Result<Vec<_>, _>>()?;
        Ok(documents(&issuer, &keys))
    }
}

/// Print the discovery document and the key set of an issuer
#[derive(clap::Args, Clone, Debug)]
pub struct Documents {
    #[command(flatten)]
    pub issuer: IssuerArgs,
}

/// Publish an issuer's documents in a folder or a bucket
///
/// Publishing what is there already changes nothing. Credentials, region and endpoint of a bucket come from the
/// standard AWS environment.
#[derive(clap::Args, Clone, Debug)]
pub struct Publish {
    #[command(flatten)]
    pub issuer: IssuerArgs,
    /// A folder, or s3://BUCKET[/PREFIX]
    #[arg(long, value_name = "PLACE")]
    pub to: String,
    /// The bucket's region
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
}

/// How API servers are configured.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Control {
    /// Talos' machine configuration
    Talos,
    /// Flags of kube-apiserver and kube-controller-manager
    Flags,
}

/// Replace a cluster's key, in the only order in which no token is refused by AWS
///
/// Takes the steps that can be taken now, prints what a person does next, and ends; run it again to go on. The state is
/// kept in a file.
#[derive(clap::Args, Clone, Debug)]
pub struct Rotate {
    /// Where the rotation's state is kept
    #[arg(long, value_name = "FILE", default_value = "identity-rotation.json")]
    pub state: PathBuf,
    /// To begin: the issuer's URL
    #[arg(long, value_name = "URL", requires_all = ["old_key", "new_key"])]
    pub issuer: Option<String>,
    /// To begin: the key in use, private or public
    #[arg(long, value_name = "FILE")]
    pub old_key: Option<PathBuf>,
    /// To begin: the new private key, of `druse identity keygen`
    #[arg(long, value_name = "FILE")]
    pub new_key: Option<PathBuf>,
    /// To begin: how the API servers are configured
    #[arg(long, value_enum, default_value = "talos")]
    pub control_plane: Control,
    /// To begin: for how many seconds the longest token lives
    #[arg(long, value_name = "SECONDS", default_value_t = webhook::DEFAULT_EXPIRATION)]
    pub token_lifetime: i64,
    /// Where the documents are published: a folder, or s3://BUCKET[/PREFIX]
    #[arg(long, value_name = "PLACE")]
    pub to: String,
    /// The bucket's region
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// A step that was taken on the cluster: accept-both or sign-new
    #[arg(long, value_name = "STEP")]
    pub done: Option<String>,
}

/// Compare what an issuer publishes with what the cluster signs with
///
/// Exits with 1 when tokens would be refused.
#[derive(clap::Args, Clone, Debug)]
pub struct Verify {
    /// The issuer's URL
    #[arg(value_name = "ISSUER")]
    pub issuer: String,
    /// A key that the cluster signs with (repeatable); without one the cluster is asked
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Serve the pod identity webhook: pods of annotated ServiceAccounts get a token and AWS' environment
///
/// Takes the flags of amazon-eks-pod-identity-webhook. Certificates are read again when their files change.
#[derive(clap::Args, Clone, Debug)]
pub struct Webhook {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// The serving certificate
    #[arg(long, value_name = "FILE", default_value = "/etc/webhook/certs/tls.crt")]
    pub tls_cert: PathBuf,
    /// Its key
    #[arg(long, value_name = "FILE", default_value = "/etc/webhook/certs/tls.key")]
    pub tls_key: PathBuf,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What annotations start with
    #[arg(long, value_name = "PREFIX", default_value = "eks.amazonaws.com")]
    pub annotation_prefix: String,
    /// The audience of tokens, unless the ServiceAccount names one
    #[arg(long, value_name = "AUDIENCE", default_value = "sts.amazonaws.com")]
    pub token_audience: String,
    /// Where tokens are mounted
    #[arg(long, value_name = "PATH", default_value = "/var/run/secrets/eks.amazonaws.com/serviceaccount")]
    pub token_mount_path: String,
    /// How long tokens live, in seconds, unless the ServiceAccount or pod says
    #[arg(long, value_name = "SECONDS", default_value_t = webhook::DEFAULT_EXPIRATION)]
    pub token_expiration: i64,
    /// Set AWS_REGION and AWS_DEFAULT_REGION to this
    #[arg(long, value_name = "REGION", default_value = "")]
    pub aws_default_region: String,
    /// Let SDKs use the region's STS, unless the ServiceAccount says
    #[arg(long)]
    pub sts_regional_endpoint: bool,
    /// Complete role names in annotations to ARNs of this account
    #[arg(long, value_name = "ACCOUNT")]
    pub compose_role_account: Option<String>,
}

fn read_public(path: &Path) -> Result<PublicKey, CliError> {
    let text = std::fs::read_to_string(path).map_err(|e| CliError::new(format!("{}: {e}", path.display())))?;
    PublicKey::parse(&zeroize::Zeroizing::new(text), &path.display().to_string()).map_err(wrong)
}

/// Runs the command.
pub fn run(command: &Command, globals: &Globals) -> Result<ExitCode, CliError> {
    match command {
        Command::Keygen(args) => keygen(args, globals),
        Command::Documents(args) => {
            let mut out = String::new();
            for d in args.issuer.documents()? {
                out.push_str(&format!("# {}\n{}\n", d.path, d.text));
            }
            crate::say::print(&out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Publish(args) => {
            let place = place(&args.to, args.region.as_deref())?;
            for (path, outcome) in publish(place.as_ref(), &args.issuer.documents()?).map_err(wrong)? {
                crate::say::print(&format!("{path}: {}\n", shown(outcome)))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Rotate(args) => rotate(args, globals),
        Command::Verify(args) => verify(args, globals),
        Command::Webhook(args) => serve(args, globals),
    }
}

fn shown(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Created => "created",
        Outcome::Updated => "updated",
        Outcome::Unchanged => "unchanged",
    }
}

fn keygen(args: &Keygen, globals: &Globals) -> Result<ExitCode, CliError> {
    let key = SigningKey::generate(args.bits).map_err(wrong)?;
    key.write_new(&args.out).map_err(wrong)?;
    crate::say::print(&format!("{}\n", key.public().id()))?;
    if !globals.quiet {
        crate::say::say!(
            "a key of {} bits is in {}: set its content as cluster.serviceAccount.key, and never commit it",
            args.bits,
            args.out.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn rotate(args: &Rotate, globals: &Globals) -> Result<ExitCode, CliError> {
    let begun = match (&args.issuer, &args.old_key, &args.new_key) {
        (Some(issuer), Some(old), Some(new)) => {
            let issuer = IssuerUrl::parse(issuer).map_err(wrong)?;
            let new_public = signing_key(new)?.public().clone();
            let control = match args.control_plane {
                Control::Talos => ControlPlane::Talos,
                Control::Flags => ControlPlane::Flags,
            };
            let old = read_public(old)?;
            Some(Rotation::begin(issuer, old, new_public, new, control, args.token_lifetime).map_err(wrong)?)
        }
        _ => None,
    };
    let under_way = args.state.exists().then(|| Rotation::load(&args.state).map_err(wrong)).transpose()?;
    let mut rotation = match (begun, under_way) {
        (Some(begun), Some(r)) if (&begun.issuer, &begun.old, &begun.new) != (&r.issuer, &r.old, &r.new) => {
            let (state, issuer, new) = (args.state.display(), &r.issuer, r.new.id());
            return Err(CliError::new(format!(
                "another rotation is under way in {state}: of {issuer} to the key {new}"
            ))
            .help("end it first, or keep this one in another file with --state"));
        }
        (_, Some(r)) | (Some(r), None) => r,
        (None, None) => {
            return Err(CliError::new(format!("no rotation is under way in {}", args.state.display()))
                .help("begin one with --issuer, --old-key and --new-key"));
        }
    };
    if let Some(done) = &args.done {
        let step = Step::by_name(done).filter(|s| matches!(s, Step::AcceptBoth | Step::SignNew)).ok_or_else(|| {
            CliError::new(format!("{done:?} is no step that a person takes: accept-both and sign-new are"))
        })?;
        rotation.complete(step, now()).map_err(wrong)?;
        rotation.save(&args.state).map_err(wrong)?;
    }
    let place = place(&args.to, args.region.as_deref())?;
    let paint = globals.paint_stderr();
    let report = |step: Step| crate::say::say!("{} {}", paint.green("done:"), step.name());
    match rotation.run(place.as_ref(), &args.state, now(), report).map_err(wrong)? {
        Next::Person(step, text) => {
            let n = STEPS.iter().position(|s| *s == step).unwrap_or_default() + 1;
            crate::say::print(&format!("Step {n} of {}: {}\n\n{text}", STEPS.len(), step.name()))?;
        }
        Next::Wait(step, until) => {
            let when = jiff::Timestamp::from_second(until).map(|t| t.to_string()).unwrap_or_default();
            crate::say::print(&format!("{}: nothing to do before {when}; run this again then\n", step.name()))?;
        }
        Next::Done | Next::Do(_) => {
            crate::say::print(&format!(
                "the rotation is complete: {} is the only key that is published; {} can be deleted\n{}",
                rotation.new.id(),
                args.state.display(),
                rotation.instructions(Step::Retire)
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(args: &Verify, globals: &Globals) -> Result<ExitCode, CliError> {
    let issuer = IssuerUrl::parse(&args.issuer).map_err(wrong)?;
    let runtime = crate::threads::few()?;
    let http = druse_source::net::plain_client(&crate::network::options()).map_err(CliError::new)?;
    let endpoints = crate::cloud_place::endpoints();
    let get = |url: String| -> Result<Vec<u8>, CliError> {
        runtime.block_on(async {
            let fail = |e: String| {
                CliError::new(format!("{url}: {e}"))
                    .help("STS reads this address from the internet: the documents must be there for everybody")
            };
            let broken = |e: reqwest::Error| fail(druse_source::net::chain(&e.without_url()));
            let answer = http.get(endpoints.public_url(&url)).send().await.map_err(broken)?;
            if !answer.status().is_success() {
                return Err(fail(format!("HTTP {}", answer.status())));
            }
            Ok(answer.bytes().await.map_err(broken)?.to_vec())
        })
    };
    let discovery = get(issuer.join(druse_identity::documents::DISCOVERY_PATH))?;
    let uri = jwks_uri(&issuer, &discovery).map_err(wrong)?;
    let published = get(uri.clone())?;
    let signing = if args.key.is_empty() {
        let text = runtime.block_on(async {
            let client = args.cluster.client().await?;
            let request = http::Request::get("/openid/v1/jwks").body(Vec::new()).map_err(CliError::new)?;
            client.request_text(request).await.map_err(|e| {
                CliError::new(format!("the cluster does not tell its keys: {e}"))
                    .help("name the key with --key, or the cluster with --kubeconfig")
            })
        })?;
        read_jwks(text.as_bytes(), "the cluster's key set").map_err(wrong)?
    } else {
        let keys = args.key.iter().map(|p| read_public(p).map(|k| PublishedKey { id: k.id().into(), key: Ok(k) }));
        keys.collect::<Result<_, _>>()?
    };
    let findings = compare(&published, &signing, &uri).map_err(wrong)?;
    let paint = globals.paint_stdout();
    let mut out = String::new();
    for f in &findings {
        let word = if f.severity == Severity::Error { paint.red("error:") } else { paint.yellow("warning:") };
        out.push_str(&format!("{word} {}\n  {} {}\n", f.message, paint.cyan("help:"), f.remedy));
    }
    let bad = findings.iter().any(|f| f.severity == Severity::Error);
    if !bad {
        let ids: Vec<&str> = signing.iter().map(|k| k.id.as_str()).collect();
        out.push_str(&format!(
            "{} {issuer} publishes what the cluster signs with: {}\n",
            paint.green("ok:"),
            ids.join(", ")
        ));
    }
    crate::say::print(&out)?;
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn serve(args: &Webhook, globals: &Globals) -> Result<ExitCode, CliError> {
    let settings = Settings {
        annotation_prefix: args.annotation_prefix.clone(),
        audience: args.token_audience.clone(),
        mount_path: args.token_mount_path.clone(),
        region: args.aws_default_region.clone(),
        regional_sts: args.sts_regional_endpoint,
        expiration: args.token_expiration,
        compose: args
            .compose_role_account
            .as_ref()
            .map(|id| (druse_aws::endpoint::partition(&args.aws_default_region).to_string(), id.clone())),
    };
    let certificate = webhook::serve::Certificate::open(&args.tls_cert, &args.tls_key).map_err(wrong)?;
    let runtime = crate::threads::all()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen)
            .await
            .map_err(|e| CliError::new(format!("cannot listen on {}: {e}", args.listen)))?;
        let client = args.cluster.client().await?;
        let caches = Caches::new(Api::new(client));
        let accounts = caches.of(&Resource::new("", "v1", "ServiceAccount", "serviceaccounts", true));
        let mut interrupt = crate::signals::Interrupt::listen();
        tokio::select! {
            () = accounts.synced() => {}
            _ = interrupt.wait() => return Ok(ExitCode::SUCCESS),
        }
        if !globals.quiet {
            let at = listener.local_addr().map_err(CliError::new)?;
            crate::say::say!("serving https://{at}/mutate");
        }
        let find: webhook::serve::Accounts = Arc::new(move |namespace, name| {
            accounts.get(&druse_runtime::cache::Key::new(namespace, name)).map(|a| (*a).clone())
        });
        let stop = async move {
            interrupt.wait().await;
        };
        webhook::serve::serve(listener, certificate, settings, find, stop).await.map_err(wrong)?;
        caches.stop();
        Ok(ExitCode::SUCCESS)
    })
}
