//! Release records in the cluster, as Helm's Secrets driver keeps them: `helm list` and `helm get` read them.

use druse_helm::ReleaseRecord;
use druse_object::Value;
use druse_runtime::{Api, ApiError, DeleteOptions, ListOptions, Patch, Resource};

/// The records of one release.
pub(crate) struct Storage {
    api: Api,
    namespace: String,
    name: String,
}

impl Storage {
    pub fn new(api: Api, namespace: &str, name: &str) -> Self {
        Self { api, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn secrets() -> Resource {
        Resource::new("", "v1", "Secret", "secrets", true)
    }

    /// The Secrets of the release, oldest revision first.
    async fn all(&self) -> Result<Vec<(i64, Value)>, ApiError> {
        let options = ListOptions { labels: format!("name={},owner=helm", self.name), ..ListOptions::default() };
        let (items, _) = self.api.list(&Self::secrets(), &self.namespace, &options).await?;
        let mut all: Vec<_> = items
            .into_iter()
            .map(|s| (s["metadata"]["labels"]["version"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0), s))
            .collect();
        all.sort_by_key(|(version, _)| *version);
        Ok(all)
    }

    /// All records that can be read, oldest revision first.
    pub async fn records(&self) -> Result<Vec<ReleaseRecord>, ApiError> {
        Ok(self.all().await?.iter().filter_map(|(_, s)| ReleaseRecord::from_secret(s).ok()).collect())
    }

    /// The record of one revision.
    pub async fn get(&self, version: i64) -> Result<Option<ReleaseRecord>, ApiError> {
        let name = ReleaseRecord::secret_name(&self.name, version);
        let secret = self.api.get(&Self::secrets(), &self.namespace, &name).await?;
        Ok(secret.and_then(|s| ReleaseRecord::from_secret(&s).ok()))
    }

    /// Writes a record that is there anew.
    pub async fn update(&self, record: &ReleaseRecord) -> Result<(), ApiError> {
        let new = record.to_secret(None, None).map_err(|e| ApiError::Transport(e.to_string()))?;
        let mut patch = Value::default();
        if let Some(m) = patch.make_map() {
            m.insert("data", new.value["data"].clone());
        }
        let modified = (druse_runtime::clock::unix_nanos() / 1_000_000_000).to_string();
        if let Some(m) = patch.make_map_at(["metadata", "labels"]) {
            m.insert("status", record.status.as_str());
            m.insert("modifiedAt", modified);
        }
        let name = ReleaseRecord::secret_name(&self.name, record.version);
        self.api.patch(&Self::secrets(), &self.namespace, &name, "", Patch::Merge, &patch).await.map(|_| ())
    }

    /// The newest record; one that cannot be read counts as absent.
    pub async fn last(&self) -> Result<Option<ReleaseRecord>, ApiError> {
        Ok(self.all().await?.pop().and_then(|(_, s)| ReleaseRecord::from_secret(&s).ok()))
    }

    /// Stores a record. When it is deployed the one before is superseded; only `keep` records stay (0: all).
    pub async fn store(&self, record: &ReleaseRecord, deployed: bool, keep: i64) -> Result<(), ApiError> {
        let now = druse_runtime::clock::unix_nanos() / 1_000_000_000;
        let mut secret =
            record.to_secret(i64::try_from(now).ok(), None).map_err(|e| ApiError::Transport(e.to_string()))?;
        if let Some(m) = secret.metadata_mut() {
            m.insert("namespace", self.namespace.as_str());
        }
        self.api.create(&Self::secrets(), &self.namespace, &secret.value).await?;
        let all = self.all().await?;
        if deployed {
            for (version, s) in &all {
                if *version < record.version && s["metadata"]["labels"]["status"].as_str() == Some("deployed") {
                    self.supersede(s).await?;
                }
            }
        }
        let keep = usize::try_from(keep).unwrap_or(0);
        if keep > 0 && all.len() > keep {
            // What is deployed stays, however old it is.
            let live = |s: &Value| !deployed && s["metadata"]["labels"]["status"].as_str() == Some("deployed");
            for (_, s) in all.iter().take(all.len() - keep).filter(|(_, s)| !live(s)) {
                self.delete(s).await?;
            }
        }
        Ok(())
    }

    async fn supersede(&self, secret: &Value) -> Result<(), ApiError> {
        let Ok(mut record) = ReleaseRecord::from_secret(secret) else { return Ok(()) };
        "superseded".clone_into(&mut record.status);
        self.update(&record).await
    }

    async fn delete(&self, secret: &Value) -> Result<(), ApiError> {
        let name = secret.str_at(["metadata", "name"]).unwrap_or_default();
        self.api.delete(&Self::secrets(), &self.namespace, name, &DeleteOptions::default()).await.map(|_| ())
    }

    /// Removes all records.
    pub async fn purge(&self) -> Result<(), ApiError> {
        for (_, s) in self.all().await? {
            self.delete(&s).await?;
        }
        Ok(())
    }
}
