//! The local cloud as a whole: its configuration, its state, and where a request goes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use druse_aws::Credentials;
use druse_aws::iam::{HOLE, Policy, provider_name};
use druse_identity::file::write_private;
use druse_identity::{IssuerUrl, PublicKey};
use druse_terraform::{Declared, Document};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::answer::{Fault, Form, Response};
use crate::auth::{Session, random_text};
use crate::request::{Request, Target};
use crate::store::{Parameter, Secret, Store, Stored, Version};
use crate::{CloudError, s3, secretsmanager, ssm, sts};

/// What the local cloud is made of.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where state is kept; in memory when absent.
    pub data_dir: Option<PathBuf>,
    /// The account's id.
    pub account_id: String,
    /// The region.
    pub region: String,
    /// Roles, policies, providers, buckets and names of parameters.
    pub declared: Declared,
    /// Folders with published documents, by the issuer's host and path.
    pub documents: Vec<(String, PathBuf)>,
    /// The administrator's keys; made (and kept in the data folder) when absent.
    pub administrator: Option<Credentials>,
}

/// What was made up for a rehearsal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// Parameters and secrets that got a made-up value, by name.
    pub names: Vec<String>,
}

pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) arn: String,
    pub(crate) trust: Option<Policy>,
    pub(crate) policies: Vec<Policy>,
}

#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) issuer: String,
    pub(crate) arn: String,
    pub(crate) client_ids: Vec<String>,
}

pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) sessions: BTreeMap<String, Session>,
}

type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The local cloud. It answers requests; [`crate::serve()`] listens for them.
pub struct Cloud {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) roles: Vec<Role>,
    pub(crate) providers: Vec<Provider>,
    pub(crate) buckets: Vec<(String, String)>,
    pub(crate) aliases: Vec<druse_terraform::kms::Alias>,
    documents: Vec<(String, PathBuf)>,
    keys: Mutex<BTreeMap<String, Vec<PublicKey>>>,
    pub(crate) administrator: Credentials,
    pub(crate) state: Mutex<State>,
    clock: Clock,
    /// What the configuration leaves open, for the log and the command's output.
    pub notes: Vec<String>,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud").field("account", &self.account).field("region", &self.region).finish_non_exhaustive()
    }
}

/// Fills the account into what the configuration leaves open; anything else open stays.
fn settled(text: &str) -> Option<String> {
    (!text.contains(HOLE)).then(|| text.to_string())
}

fn policy(document: &Document, address: &str, notes: &mut Vec<String>) -> Option<Policy> {
    match document {
        Document::Policy { policy, .. } => Some(policy.clone()),
        Document::Unknown { why, .. } => {
            notes.push(format!("a policy of {address} is not known ({why}); it allows nothing here"));
            None
        }
        Document::Invalid { why, .. } => {
            notes.push(format!("a policy of {address} is no policy ({why}); it allows nothing here"));
            None
        }
    }
}

impl Cloud {
    /// Counts how often what it keeps was changed.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.state.lock().store.kept.subscribe()
    }

    /// Opens the state and takes over what is declared.
    ///
    /// # Errors
    /// When the state cannot be read or is not this key's.
    pub fn open(config: Config) -> Result<Self, CloudError> {
        Self::open_at(config, Arc::new(|| jiff::Timestamp::now().as_second()))
    }

    /// As [`Self::open`], with another clock.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(config: Config, clock: Clock) -> Result<Self, CloudError> {
        let mut notes = Vec::new();
        let dir = config.data_dir.as_deref();
        let mut store = Store::open(dir)?;
        let administrator = match (config.administrator, dir) {
            (Some(c), _) => c,
            (None, None) => new_keys(),
            (None, Some(dir)) => administrator(&dir.join("administrator.credentials"))?,
        };
        let mut roles = Vec::new();
        for r in &config.declared.roles {
            let (Some(name), Some(arn)) = (settled(&r.name), settled(&r.arn)) else {
                notes.push(format!("{} has a name that is not known; it is left out", r.address));
                continue;
            };
            if let Some(why) = &r.open {
                notes.push(format!("{}: {why}", r.address));
            }
            roles.push(Role {
                name,
                arn,
                trust: policy(&r.trust, &r.address, &mut notes),
                policies: r.policies.iter().filter_map(|p| policy(&p.document, &p.address, &mut notes)).collect(),
            });
        }
        let mut providers = Vec::new();
        for p in &config.declared.providers {
            match (settled(&p.issuer), settled(&p.arn)) {
                (Some(issuer), Some(arn)) => {
                    providers.push(Provider { issuer, arn, client_ids: p.client_ids.clone() });
                }
                _ => notes.push(format!("{} has a URL that is not known; it is left out", p.address)),
            }
        }
        let buckets = config.declared.buckets.iter();
        let buckets = buckets.filter_map(|b| Some((settled(&b.name)?, settled(&b.host)?))).collect();
        // A declared secret is there before it has a value.
        for s in &config.declared.secrets {
            if let Some(name) = settled(&s.name) {
                store.secrets.entry(name).or_insert_with(|| Secret::new(s.key_id.clone(), ""));
            }
        }
        notes.sort();
        notes.dedup();
        Ok(Self {
            account: config.account_id,
            region: config.region,
            roles,
            providers,
            buckets,
            aliases: config.declared.aliases,
            documents: config.documents,
            keys: Mutex::default(),
            administrator,
            state: Mutex::new(State { store, sessions: BTreeMap::new() }),
            clock,
            notes,
        })
    }

    pub(crate) fn now(&self) -> i64 {
        (self.clock)()
    }

    /// The administrator's keys.
    #[must_use]
    pub fn administrator(&self) -> &Credentials {
        &self.administrator
    }

    /// The account's id.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.account
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// How many roles and providers are served.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.roles.len(), self.providers.len())
    }

    /// Takes these keys for an issuer's (host and path) without reading documents: for an API in the same process.
    pub fn trust(&self, issuer: &str, keys: Vec<PublicKey>) {
        self.keys.lock().insert(provider_name(issuer).to_string(), keys);
    }

    /// Publishes an issuer's documents in its bucket, as its administrator would; false where the bucket is none of this cloud's.
    ///
    /// # Errors
    /// When the store fails.
    pub fn publish(&self, issuer: &IssuerUrl, keys: &[PublicKey]) -> Result<bool, CloudError> {
        let (host, prefix) = issuer.host_path().split_once('/').unwrap_or((issuer.host_path(), ""));
        let Some((bucket, _)) = self.buckets.iter().find(|(_, h)| h == host) else { return Ok(false) };
        let mut state = self.state.lock();
        for d in druse_identity::documents::documents(issuer, keys) {
            let key = if prefix.is_empty() { d.path } else { format!("{prefix}/{}", d.path) };
            let (content_type, cache_control) = (d.content_type.to_string(), d.cache_control.to_string());
            let stored = Stored { body: d.text.into_bytes(), content_type, cache_control, at: self.now() };
            state.store.objects.insert((bucket.clone(), key), stored);
        }
        state.store.save()?;
        Ok(true)
    }

    /// The keys of an issuer: those given, else those of its documents in a bucket here or in a folder.
    pub(crate) fn issuer_keys(&self, issuer: &str) -> Result<Vec<PublicKey>, String> {
        use druse_identity::documents::{DISCOVERY_PATH, read_discovery, read_jwks};
        let at = provider_name(issuer);
        if let Some(keys) = self.keys.lock().get(at) {
            return Ok(keys.clone());
        }
        let discovery = self.document(at, DISCOVERY_PATH).ok_or("its discovery document is not published here")?;
        let (found, uri) = read_discovery(&discovery, "the discovery document").map_err(|e| e.to_string())?;
        if found != issuer {
            return Err(format!("its discovery document is of the issuer {found}"));
        }
        let below = provider_name(&uri).strip_prefix(at).map(|p| p.trim_start_matches('/').to_string());
        let path = below.ok_or("its keys are not below the issuer; only that is served here")?;
        let set = self.document(at, &path).ok_or("its key set is not published here")?;
        let keys = read_jwks(&set, "the key set").map_err(|e| e.to_string())?;
        // A key whose id is not its own would let one key pass for another.
        Ok(keys.into_iter().filter_map(|k| k.key.ok().filter(|key| key.id() == k.id)).collect())
    }

    fn document(&self, at: &str, path: &str) -> Option<Vec<u8>> {
        if let Some((_, dir)) = self.documents.iter().find(|(i, _)| provider_name(i) == at) {
            return path.split('/').all(|p| !p.is_empty() && p != "..").then(|| std::fs::read(dir.join(path)).ok())?;
        }
        let (host, prefix) = at.split_once('/').unwrap_or((at, ""));
        let (bucket, _) = self.buckets.iter().find(|(_, h)| h == host)?;
        let key = if prefix.is_empty() { path.to_string() } else { format!("{prefix}/{path}") };
        self.state.lock().store.objects.get(&(bucket.clone(), key)).map(|o| o.body.clone())
    }

    /// Sets values of parameters and secrets by name; a value that is already the latest makes no new version.
    ///
    /// # Errors
    /// When the store fails.
    pub fn set_values(
        &self,
        declared: &Declared,
        parameters: impl IntoIterator<Item = (String, Zeroizing<String>)>,
        secrets: impl IntoIterator<Item = (String, Zeroizing<String>)>,
        description: &str,
    ) -> Result<(), CloudError> {
        let now = self.now();
        let mut state = self.state.lock();
        let store = &mut state.store;
        for (name, value) in parameters {
            let known = declared.parameters.iter().find(|p| p.name == name);
            let old = store.parameters.get(&name).and_then(Parameter::latest);
            if let Some(v) = old
                && *store.open_version("parameter", &name, v)? == value.as_bytes()
            {
                continue;
            }
            let number = old.map_or(1, |v| v.number + 1);
            let sealed = store.seal("parameter", &name, number, value.as_bytes())?;
            let p = store.parameters.entry(name).or_insert_with(|| Parameter {
                kind: known.map_or("SecureString", |p| p.kind.as_str()).into(),
                key_id: known.and_then(|p| p.key_id.clone()),
                description: description.into(),
                tier: "Standard".into(),
                versions: Vec::new(),
            });
            p.versions.push(Version { number, sealed, labels: Vec::new(), at: now });
        }
        for (name, value) in secrets {
            let known = declared.secrets.iter().find(|s| s.name == name);
            let old = store.secrets.get(&name).and_then(|s| s.versions.last());
            if let Some(v) = old
                && *store.open_version("secret", &name, v)? == value.as_bytes()
            {
                continue;
            }
            let key_id = known.and_then(|s| s.key_id.clone());
            let mut secret = store.secrets.get(&name).cloned().unwrap_or_else(|| Secret::new(key_id, ""));
            if secret.versions.is_empty() {
                secret.description = description.into();
            }
            store.put_secret(&name, secret, value.as_bytes(), now)?;
        }
        store.save()
    }

    /// Whether a parameter has a value.
    #[must_use]
    pub fn holds_parameter(&self, name: &str) -> bool {
        self.state.lock().store.parameters.contains_key(name)
    }

    /// Whether a secret has a value.
    #[must_use]
    pub fn holds_secret(&self, name: &str) -> bool {
        self.state.lock().store.has_secret(name)
    }

    /// Makes up a value for every declared parameter and secret that has none, marked in value and description.
    ///
    /// # Errors
    /// When the store fails.
    pub fn generate(&self, declared: &Declared) -> Result<Generated, CloudError> {
        let made_up =
            || Zeroizing::new(format!("rehearsal-{}", random_text(32, b"abcdefghijklmnopqrstuvwxyz0123456789")));
        let (parameters, secrets): (Vec<String>, Vec<String>) = {
            let state = self.state.lock();
            let open = |n: &&String| !n.contains(HOLE);
            let p = declared.parameters.iter().map(|p| &p.name).filter(open);
            let s = declared.secrets.iter().map(|s| &s.name).filter(open);
            (
                p.filter(|n| !state.store.parameters.contains_key(*n)).cloned().collect(),
                s.filter(|n| !state.store.has_secret(n)).cloned().collect(),
            )
        };
        let with = |names: &[String]| names.iter().map(|n| (n.clone(), made_up())).collect::<Vec<_>>();
        self.set_values(declared, with(&parameters), with(&secrets), "made up for a rehearsal: no real value")?;
        Ok(Generated { names: parameters.into_iter().chain(secrets).collect() })
    }

    /// Answers a request.
    #[must_use]
    pub fn handle(&self, request: &Request) -> Response {
        let target = request.target(|name| self.buckets.iter().any(|(b, _)| b == name));
        let (form, result) = match &target {
            Target::Json(t) => (Form::Json, self.json(t, request)),
            Target::Query(p) => (Form::Query, sts::call(self, p, request)),
            Target::Object(bucket, key) => (Form::S3, s3::call(self, bucket, key, request)),
        };
        result.unwrap_or_else(|fault| {
            tracing::info!(target: "druse", code = fault.code, "refused: {}", fault.message);
            Response::fault(&fault, form)
        })
    }

    fn json(&self, target: &str, request: &Request) -> Result<Response, Fault> {
        let input = druse_object::json::parse(&request.body)
            .ok()
            .filter(|v| v.as_map().is_some())
            .ok_or_else(|| Fault::new(400, "SerializationException", "the body is no JSON object"))?;
        let value = match target.split_once('.') {
            Some(("AmazonSSM", operation)) => ssm::call(self, operation, &input, request)?,
            Some(("secretsmanager", operation)) => secretsmanager::call(self, operation, &input, request)?,
            _ => return Err(Fault::new(400, "UnknownOperationException", format!("{target} is not served here"))),
        };
        Ok(Response::json(&value))
    }
}

fn new_keys() -> Credentials {
    Credentials::new(
        format!("AKIA{}", random_text(16, crate::auth::ID)),
        random_text(40, druse_aws::random::ALPHANUMERIC),
    )
}

/// The administrator's keys of a file, as AWS' tools read them; made when missing.
fn administrator(path: &Path) -> Result<Credentials, CloudError> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            Credentials::from_profile(&text, "default")
                .ok_or_else(|| CloudError::file(path, "these are no credentials"))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let keys = new_keys();
            let text = Zeroizing::new(format!(
                "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
                keys.access_key_id, *keys.secret_access_key
            ));
            write_private(path, text.as_bytes()).map_err(|e| CloudError::file(path, e))?;
            Ok(keys)
        }
        Err(e) => Err(CloudError::file(path, e)),
    }
}
