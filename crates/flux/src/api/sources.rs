//! What the kinds of source-controller declare: where trees and charts come from.

use druse_object::{Str, Value};
use serde::{Deserialize, Serialize};

use super::{LocalRef, SourceRef};
use crate::duration::GoDuration;

/// What a HelmChart declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HelmChartSpec {
    /// The chart's name in a Helm repository, or its folder in another source.
    pub chart: Str,
    /// A version or range; `*` when absent.
    pub version: Option<Str>,
    /// Where it comes from: HelmRepository, GitRepository, Bucket.
    pub source_ref: SourceRef,
    /// How often it is looked up.
    pub interval: Option<GoDuration>,
    /// `ChartVersion` or `Revision`.
    pub reconcile_strategy: Option<Str>,
    /// Values files in the chart, merged in this order.
    pub values_files: Vec<Str>,
    /// One values file (v1beta1, v2beta1).
    pub values_file: Option<Str>,
    /// Whether values files may be missing.
    pub ignore_missing_values_files: bool,
    /// Whether it is left alone.
    pub suspend: bool,
}

/// Which commit of a Git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GitRef {
    /// A branch; `master` when nothing else is said.
    pub branch: Option<Str>,
    /// A tag; wins over the branch.
    pub tag: Option<Str>,
    /// A range of tags; wins over the tag.
    pub semver: Option<Str>,
    /// A full reference; wins over the range.
    pub name: Option<Str>,
    /// A commit; wins over all.
    pub commit: Option<Str>,
}

/// What a GitRepository declares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GitRepositorySpec {
    /// Where it is.
    pub url: Str,
    /// Which commit.
    #[serde(rename = "ref")]
    pub reference: Option<GitRef>,
    /// The Secret with credentials.
    pub secret_ref: Option<LocalRef>,
    /// How often it is looked up.
    pub interval: Option<GoDuration>,
    /// How long one fetch may take.
    pub timeout: Option<GoDuration>,
    /// Files left out, in `.gitignore` notation.
    pub ignore: Option<Str>,
    /// Whether it is left alone.
    pub suspend: bool,
    /// Whether submodules are fetched.
    pub recurse_submodules: bool,
    /// Artifacts of other sources put into this one.
    pub include: Vec<Value>,
    /// Folders fetched; all when empty.
    pub sparse_checkout: Vec<Str>,
}

/// Which artifact of an OCI repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OciRef {
    /// A tag; `latest` when nothing else is said.
    pub tag: Option<Str>,
    /// A range of tags; wins over the tag.
    pub semver: Option<Str>,
    /// Which tags the range is about.
    pub semver_filter: Option<Str>,
    /// A digest; wins over all.
    pub digest: Option<Str>,
}

/// Which layer of an OCI artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LayerSelector {
    /// The layer's media type.
    pub media_type: Option<Str>,
    /// `extract` or `copy`.
    pub operation: Option<Str>,
}

/// What an OCIRepository declares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OciRepositorySpec {
    /// Where it is: `oci://host/path`.
    pub url: Str,
    /// Which artifact.
    #[serde(rename = "ref")]
    pub reference: Option<OciRef>,
    /// Which layer.
    pub layer_selector: Option<LayerSelector>,
    /// The Secret with credentials.
    pub secret_ref: Option<LocalRef>,
    /// How often it is looked up.
    pub interval: Option<GoDuration>,
    /// How long one fetch may take.
    pub timeout: Option<GoDuration>,
    /// Files left out, in `.gitignore` notation.
    pub ignore: Option<Str>,
    /// Whether plain HTTP is allowed.
    pub insecure: bool,
    /// Whether it is left alone.
    pub suspend: bool,
}

/// What a HelmRepository declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HelmRepositorySpec {
    /// Where it is.
    pub url: Str,
    /// `default` or `oci`.
    #[serde(rename = "type")]
    pub kind: Option<Str>,
    /// The Secret with credentials.
    pub secret_ref: Option<LocalRef>,
    /// Whether credentials go to other hosts too.
    pub pass_credentials: bool,
    /// How often it is looked up.
    pub interval: Option<GoDuration>,
    /// How long one fetch may take.
    pub timeout: Option<GoDuration>,
    /// Whether plain HTTP is allowed (oci).
    pub insecure: bool,
    /// Whether it is left alone.
    pub suspend: bool,
}

impl HelmRepositorySpec {
    /// Whether charts come from an OCI registry.
    #[must_use]
    pub fn is_oci(&self) -> bool {
        self.kind.as_deref() == Some("oci") || self.url.starts_with("oci://")
    }
}

/// What a Bucket declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BucketSpec {
    /// The provider.
    pub provider: Option<Str>,
    /// The bucket's name.
    pub bucket_name: Str,
    /// The host.
    pub endpoint: Str,
    /// The region.
    pub region: Option<Str>,
    /// Only objects under this prefix.
    pub prefix: Option<Str>,
    /// Files left out, in `.gitignore` notation.
    pub ignore: Option<Str>,
    /// Whether it is left alone.
    pub suspend: bool,
}
