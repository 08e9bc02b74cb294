//! The providers of secrets on this node: found as `NAME.sock` in the providers' folders, or in this process.
//!
//! As upstream: a provider that is away is tried three times; an answer may be 4 MiB large. Unlike there, one that does
//! not answer is given up after [`TIMEOUT`], before the kubelet gives the driver up, so that the reason gets through.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::wire::provider::{self, Client, MountRequest, MountResponse, Provider, VersionRequest};
use crate::wire::{Code, Status};

/// The folder providers use now.
pub const FOLDER: &str = "/var/run/secrets-store-csi-providers";
/// The folder older providers use.
pub const OLD_FOLDER: &str = "/etc/kubernetes/secrets-store-csi-providers";
/// The largest answer of a provider, in bytes.
pub const MAX_RESPONSE: usize = 4 << 20;
/// How long a provider may take. The kubelet waits two minutes for the driver.
pub const TIMEOUT: Duration = Duration::from_secs(90);
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
const MAX_NAME: usize = 30;

/// Why a provider gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProviderError {
    /// A name that cannot be a socket's.
    #[error("provider {0:?} is not a provider's name: up to 30 letters, digits, `-` and `_`")]
    Name(String),
    /// No socket.
    #[error("provider {name:?} is not on this node: there is no {name}.sock in {}. Is its DaemonSet running here?", folders.join(", "))]
    Missing {
        /// The provider.
        name: String,
        /// Where it was looked for.
        folders: Vec<String>,
    },
    /// It listens, and says nothing.
    #[error("provider {name:?} did not answer within {after:?}")]
    Silent {
        /// The provider.
        name: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// There is a socket, but nobody behind it, or it went away in the middle.
    #[error("provider {name:?} is away, {attempts} attempts: {why}")]
    Away {
        /// The provider.
        name: String,
        /// How often it was tried.
        attempts: u32,
        /// What the connection said.
        why: String,
    },
    /// Its answer is too large to take.
    #[error(
        "the answer of provider {name:?} is too large: {why}. Raise --max-call-recv-msg-size, or mount fewer objects"
    )]
    TooLarge {
        /// The provider.
        name: String,
        /// The sizes.
        why: String,
    },
    /// It refused.
    #[error("provider {name:?}: {message}")]
    Refused {
        /// The provider.
        name: String,
        /// The gRPC status it gave.
        code: Code,
        /// Its own words.
        message: String,
    },
    /// It failed with a code of its own.
    #[error("provider {name:?} failed with code {code}")]
    Failed {
        /// The provider.
        name: String,
        /// Its code.
        code: String,
    },
    /// Its answer says not what was read.
    #[error("provider {0:?} answered without object versions")]
    NoVersions(String),
}

impl ProviderError {
    /// The kind of error, as upstream's metrics name it.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Name(_) | Self::Missing { .. } => "FailedToLookupProviderGRPCClient",
            Self::Failed { code, .. } => code,
            _ => "GRPCProviderError",
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<MountResponse, Status>> + Send>>;
type Local = Arc<dyn Fn(MountRequest) -> Answer + Send + Sync>;

enum Reached {
    Here(Local),
    Socket(Client),
}

/// The providers of a node.
pub struct Providers {
    folders: Vec<PathBuf>,
    timeout: Duration,
    max_response: usize,
    here: BTreeMap<String, Local>,
    clients: Mutex<BTreeMap<PathBuf, (String, Client)>>,
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Providers")
            .field("folders", &self.folders)
            .field("here", &self.here.keys())
            .finish_non_exhaustive()
    }
}

impl Providers {
    /// Looks for sockets in these folders, in this order.
    pub fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let folders = folders.into_iter().collect();
        let (timeout, max_response) = (TIMEOUT, MAX_RESPONSE);
        Self { folders, timeout, max_response, here: BTreeMap::new(), clients: Mutex::default() }
    }

    /// How long a provider may take for a volume, attempts included, instead of [`TIMEOUT`].
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The largest answer taken, in bytes, instead of [`MAX_RESPONSE`].
    #[must_use]
    pub fn with_max_response(self, max_response: usize) -> Self {
        Self { max_response, ..self }
    }

    /// A provider in this process; it is preferred to a socket of that name.
    #[must_use]
    pub fn with<P: Provider>(mut self, name: &str, provider: Arc<P>) -> Self {
        let local: Local = Arc::new(move |request| {
            let provider = provider.clone();
            Box::pin(async move { provider.mount(request).await })
        });
        self.here.insert(name.into(), local);
        self
    }

    /// Asks a provider for a volume's content.
    ///
    /// # Errors
    /// When there is no such provider, it hangs, dies or refuses; each names it.
    pub async fn mount(&self, name: &str, request: MountRequest) -> Result<MountResponse, ProviderError> {
        let reached = self.find(name)?;
        let attempts = self.attempts(name, &reached, request);
        let response = match tokio::time::timeout(self.timeout, attempts).await {
            Ok(answer) => answer?,
            Err(_) => return Err(ProviderError::Silent { name: name.into(), after: self.timeout }),
        };
        match &response.error {
            Some(e) if !e.code.is_empty() => Err(ProviderError::Failed { name: name.into(), code: e.code.clone() }),
            _ if response.object_version.is_empty() => Err(ProviderError::NoVersions(name.into())),
            _ => Ok(response),
        }
    }

    async fn attempts(
        &self,
        name: &str,
        reached: &Reached,
        request: MountRequest,
    ) -> Result<MountResponse, ProviderError> {
        let mut attempt = 1;
        loop {
            let answer = match reached {
                Reached::Here(local) => local(request.clone()).await,
                Reached::Socket(client) => client.mount(request.clone(), self.timeout).await,
            };
            match answer {
                Err(e) if e.code() == Code::Unavailable && attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other.map_err(|e| self.explain(name, attempt, &e)),
            }
        }
    }

    fn explain(&self, name: &str, attempts: u32, status: &Status) -> ProviderError {
        let (name, message) = (name.to_owned(), status.message().to_owned());
        match status.code() {
            Code::Unavailable => ProviderError::Away { name, attempts, why: message },
            Code::DeadlineExceeded => ProviderError::Silent { name, after: self.timeout },
            Code::OutOfRange if message.contains("length") => ProviderError::TooLarge { name, why: message },
            code => ProviderError::Refused { name, code, message },
        }
    }

    fn find(&self, name: &str) -> Result<Reached, ProviderError> {
        if let Some(local) = self.here.get(name) {
            return Ok(Reached::Here(local.clone()));
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) {
            return Err(ProviderError::Name(name.into()));
        }
        let file = format!("{name}.sock");
        let Some(socket) = self.folders.iter().map(|f| f.join(&file)).find(|p| p.exists()) else {
            let folders = self.folders.iter().map(|f| f.display().to_string()).collect();
            return Err(ProviderError::Missing { name: name.into(), folders });
        };
        let mut clients = self.clients.lock();
        let (_, client) =
            clients.entry(socket.clone()).or_insert_with(|| (name.to_owned(), Client::new(&socket, self.max_response)));
        Ok(Reached::Socket(client.clone()))
    }

    /// Asks every provider used so far who it is, and logs those that do not answer within five seconds. Returns the names
    /// of these.
    pub async fn check(&self) -> BTreeSet<String> {
        let used: Vec<(String, Client)> = self.clients.lock().values().cloned().collect();
        let mut unwell = BTreeSet::new();
        for (name, client) in used {
            let request = VersionRequest { version: provider::VERSION.into() };
            match client.version(request, Duration::from_secs(5)).await {
                Ok(v) => tracing::debug!(provider = name, version = v.runtime_version, "the provider is well"),
                Err(e) => {
                    tracing::warn!(provider = name, "the provider does not answer: {}", e.message());
                    unwell.insert(name);
                }
            }
        }
        unwell
    }

    /// The folders looked into.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(PathBuf::as_path)
    }
}
