//! What kustomizations name by URL, where what nobody has may be left out: a plan goes on without it and says so.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use druse_kustomize::tree::MemoryTree;
use druse_kustomize::{Remote, RemoteContent};
use druse_source::Fetcher;

/// Remote resources of one unit, through the fetcher, so that mirrors stand in for the network.
pub struct Remotes<'a> {
    fetcher: &'a Fetcher,
    lenient: bool,
    missing: Mutex<BTreeSet<String>>,
    asked: Mutex<bool>,
}

impl<'a> Remotes<'a> {
    /// Remote resources through a fetcher. When `lenient`, one that cannot be had counts as empty.
    #[must_use]
    pub fn new(fetcher: &'a Fetcher, lenient: bool) -> Self {
        Self { fetcher, lenient, missing: Mutex::default(), asked: Mutex::default() }
    }

    /// What was left out, each with why.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Whether anything was asked for.
    #[must_use]
    pub fn were_asked(&self) -> bool {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remote for Remotes<'_> {
    fn get(&self, url: &str) -> Result<RemoteContent, String> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let failed = match self.fetcher.get(url) {
            Err(e) if self.lenient => e,
            other => return other,
        };
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("remote resource {url}: {failed}"));
        let last = url.split('?').next().and_then(|u| u.rsplit('/').next()).unwrap_or_default();
        if url.starts_with("http") && last.contains('.') && !last.ends_with(".git") {
            return Ok(RemoteContent::File(Arc::from(&b""[..])));
        }
        let empty = [("kustomization.yaml", "resources: [empty.yaml]\n"), ("empty.yaml", "")];
        let tree: MemoryTree = empty.into_iter().collect();
        Ok(RemoteContent::Tree { tree: Arc::new(tree), dir: String::new() })
    }
}
