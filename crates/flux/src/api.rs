//! Typed views of Flux' custom resources, as they are written in a repository.
//!
//! One view serves all served versions of a kind (`Kustomization` v1beta2 and v1, `HelmRelease` v2beta1, v2beta2, v2):
//! later versions only added and dropped fields. Unknown fields are left alone, `null` counts as absent.
//! Source: the API packages of fluxcd/kustomize-controller, helm-controller and source-controller.

mod sources;

use druse_object::{Object, Str, Value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::error::FluxError;
pub use sources::{
    BucketSpec, GitRef, GitRepositorySpec, HelmChartSpec, HelmRepositorySpec, LayerSelector, OciRef, OciRepositorySpec,
};

/// The group of Kustomizations.
pub const KUSTOMIZE_GROUP: &str = "kustomize.toolkit.fluxcd.io";
/// The group of HelmReleases.
pub const HELM_GROUP: &str = "helm.toolkit.fluxcd.io";
/// The group of sources.
pub const SOURCE_GROUP: &str = "source.toolkit.fluxcd.io";

/// A Flux object: what names it, and its spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource<S> {
    /// Its namespace; empty when it names none.
    pub namespace: Str,
    /// Its name.
    pub name: Str,
    /// What it declares.
    pub spec: S,
}

/// The spec of a Flux kind, and where it is found.
pub trait FluxSpec: DeserializeOwned {
    /// The API group.
    const GROUP: &'static str;
    /// The kind.
    const KIND: &'static str;
    /// The versions understood.
    const VERSIONS: &'static [&'static str];
    /// Fields that hold a user's own data, in which `null` means something.
    const RAW_FIELDS: &'static [&'static str] = &[];
}

impl<S: FluxSpec> Resource<S> {
    /// Whether `object` is of this kind (of any version).
    #[must_use]
    pub fn is(object: &Object) -> bool {
        object.kind() == S::KIND && object.gvk().group == S::GROUP
    }

    /// Reads an object of this kind.
    ///
    /// # Errors
    /// When the version is not known or the spec does not have the kind's shape; the error says which field.
    pub fn read(object: &Object) -> Result<Self, FluxError> {
        let gvk = object.gvk();
        if !S::VERSIONS.contains(&gvk.version.as_str()) {
            return Err(FluxError::Version {
                kind: S::KIND.to_string(),
                version: gvk.version.to_string(),
                known: S::VERSIONS.join(", "),
            });
        }
        let spec = object
            .value
            .get("spec")
            .map_or_else(|| Value::Map(druse_object::Map::new()), |s| without_nulls(s, S::RAW_FIELDS));
        let spec = spec.to_typed().map_err(|e| FluxError::Shape {
            kind: S::KIND.to_string(),
            namespace: object.namespace().to_string(),
            name: object.name().to_string(),
            message: format!("spec: {e}"),
        })?;
        Ok(Self { namespace: object.namespace().into(), name: object.name().into(), spec })
    }
}

/// A copy without null map entries, except inside the named fields of the top map.
fn without_nulls(value: &Value, raw: &[&str]) -> Value {
    match value {
        Value::Map(m) => m
            .iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k.clone(), if raw.contains(&k.as_str()) { v.clone() } else { without_nulls(v, &[]) }))
            .collect::<druse_object::Map>()
            .into(),
        Value::Array(a) => a.iter().map(|v| without_nulls(v, &[])).collect(),
        other => other.clone(),
    }
}

/// A Flux Kustomization.
pub type Kustomization = Resource<KustomizationSpec>;
/// A HelmRelease.
pub type HelmRelease = Resource<HelmReleaseSpec>;
/// A GitRepository.
pub type GitRepository = Resource<GitRepositorySpec>;
/// An OCIRepository.
pub type OciRepository = Resource<OciRepositorySpec>;
/// A HelmRepository, of type `default` or `oci`.
pub type HelmRepository = Resource<HelmRepositorySpec>;
/// A HelmChart.
pub type HelmChart = Resource<HelmChartSpec>;
/// A Bucket.
pub type Bucket = Resource<BucketSpec>;

macro_rules! flux_spec {
    ($t:ty, $group:expr, $kind:literal, [$($v:literal),*] $(, raw: [$($r:literal),*])?) => {
        impl FluxSpec for $t {
            const GROUP: &'static str = $group;
            const KIND: &'static str = $kind;
            const VERSIONS: &'static [&'static str] = &[$($v),*];
            $(const RAW_FIELDS: &'static [&'static str] = &[$($r),*];)?
        }
    };
}
flux_spec!(KustomizationSpec, KUSTOMIZE_GROUP, "Kustomization", ["v1", "v1beta2", "v1beta1"], raw: ["patchesStrategicMerge", "patchesJson6902"]);
flux_spec!(HelmReleaseSpec, HELM_GROUP, "HelmRelease", ["v2", "v2beta2", "v2beta1"], raw: ["values"]);
flux_spec!(GitRepositorySpec, SOURCE_GROUP, "GitRepository", ["v1", "v1beta2", "v1beta1"]);
flux_spec!(OciRepositorySpec, SOURCE_GROUP, "OCIRepository", ["v1", "v1beta2"]);
flux_spec!(HelmRepositorySpec, SOURCE_GROUP, "HelmRepository", ["v1", "v1beta2", "v1beta1"]);
flux_spec!(HelmChartSpec, SOURCE_GROUP, "HelmChart", ["v1", "v1beta2", "v1beta1"]);
flux_spec!(BucketSpec, SOURCE_GROUP, "Bucket", ["v1", "v1beta2", "v1beta1"]);

/// A reference to an object by name in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalRef {
    /// The name.
    pub name: Str,
}

/// A reference to a source or chart, possibly in another namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceRef {
    /// The API version; empty for Flux' own.
    pub api_version: Str,
    /// The kind.
    pub kind: Str,
    /// The name.
    pub name: Str,
    /// The namespace; that of the referring object when absent.
    pub namespace: Option<Str>,
}

/// An object this one waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DependencyRef {
    /// The name.
    pub name: Str,
    /// The namespace; that of the referring object when absent.
    pub namespace: Option<Str>,
    /// A CEL expression that says when it counts as ready.
    pub ready_expr: Option<Str>,
}

/// Labels and annotations for every applied object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommonMetadata {
    /// Labels.
    #[serde(skip_serializing_if = "druse_object::Map::is_empty")]
    pub labels: druse_object::Map,
    /// Annotations.
    #[serde(skip_serializing_if = "druse_object::Map::is_empty")]
    pub annotations: druse_object::Map,
}

/// Which objects a patch changes; all parts are regular expressions or selectors, empty parts match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selector {
    /// API group.
    #[serde(skip_serializing_if = "Str::is_empty")]
    pub group: Str,
    /// API version.
    #[serde(skip_serializing_if = "Str::is_empty")]
    pub version: Str,
    /// Kind.
    #[serde(skip_serializing_if = "Str::is_empty")]
    pub kind: Str,
    /// Namespace.
    #[serde(skip_serializing_if = "Str::is_empty")]
    pub namespace: Str,
    /// Name.
    #[serde(skip_serializing_if = "Str::is_empty")]
    pub name: Str,
    /// Annotation selector.
    #[serde(skip_serializing_if = "Str::is_empty")]
    pub annotation_selector: Str,
    /// Label selector.
    #[serde(skip_serializing_if = "Str::is_empty")]
    pub label_selector: Str,
}

/// A strategic merge or JSON patch as text, with its target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Patch {
    /// The patch, YAML or JSON.
    pub patch: Str,
    /// What it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Selector>,
}

/// An image to replace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Image {
    /// The image's name, without tag.
    pub name: Str,
    /// The name to put instead.
    #[serde(skip_serializing_if = "Str::is_empty")]
    pub new_name: Str,
    /// The tag to put instead.
    #[serde(skip_serializing_if = "Str::is_empty")]
    pub new_tag: Str,
    /// The digest to put instead; wins over the tag.
    #[serde(skip_serializing_if = "Str::is_empty")]
    pub digest: Str,
}

/// A ConfigMap or Secret with variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubstituteRef {
    /// `ConfigMap` or `Secret`.
    pub kind: Str,
    /// The name, in the Kustomization's namespace.
    pub name: Str,
    /// Whether it may be missing.
    pub optional: bool,
}

/// Variables to substitute in the built objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PostBuild {
    /// Inline variables; they win.
    pub substitute: druse_object::Map,
    /// Variables from elsewhere; later ones win.
    pub substitute_from: Vec<SubstituteRef>,
}

/// An object whose health decides on the Kustomization's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheckRef {
    /// API version.
    pub api_version: Str,
    /// Kind.
    pub kind: Str,
    /// Name.
    pub name: Str,
    /// Namespace.
    pub namespace: Str,
}

/// How encrypted objects are decrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Decryption {
    /// The provider: `sops`.
    pub provider: Str,
    /// The Secret with the keys.
    pub secret_ref: Option<LocalRef>,
}

/// What a Flux Kustomization declares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KustomizationSpec {
    /// Where its files come from.
    pub source_ref: SourceRef,
    /// The folder in the source; its root when empty.
    pub path: Str,
    /// Objects it waits for: Kustomizations.
    pub depends_on: Vec<DependencyRef>,
    /// How often it is reconciled.
    pub interval: Option<GoDuration>,
    /// How soon after a failure.
    pub retry_interval: Option<GoDuration>,
    /// How long one apply and wait may take; the interval when absent.
    pub timeout: Option<GoDuration>,
    /// Whether what it no longer renders is deleted.
    pub prune: bool,
    /// What becomes of its objects when it is deleted: `MirrorPrune`, `Delete`, `WaitForTermination`, `Orphan`.
    pub deletion_policy: Option<Str>,
    /// Whether it is left alone.
    pub suspend: bool,
    /// Whether it is ready only when all its objects are.
    pub wait: bool,
    /// Whether objects that cannot be changed are recreated.
    pub force: bool,
    /// Objects whose health decides on its own.
    pub health_checks: Vec<HealthCheckRef>,
    /// CEL expressions for the health of custom resources.
    pub health_check_exprs: Vec<Value>,
    /// The namespace of all its objects.
    pub target_namespace: Option<Str>,
    /// Put before every name.
    pub name_prefix: Option<Str>,
    /// Put after every name.
    pub name_suffix: Option<Str>,
    /// Labels and annotations for all its objects.
    pub common_metadata: Option<CommonMetadata>,
    /// Patches.
    pub patches: Vec<Patch>,
    /// Strategic merge patches (v1beta2 and before).
    pub patches_strategic_merge: Vec<Value>,
    /// JSON patches (v1beta2 and before).
    #[serde(rename = "patchesJson6902")]
    pub patches_json6902: Vec<Value>,
    /// Images.
    pub images: Vec<Image>,
    /// Kustomize components, relative to the path.
    pub components: Vec<Str>,
    /// Whether components may be missing.
    pub ignore_missing_components: bool,
    /// Kustomize build metadata options.
    pub build_metadata: Vec<Str>,
    /// Variables.
    pub post_build: Option<PostBuild>,
    /// When variables are substituted: `WithVariables` (the default) or `Always`.
    pub substitute_strategy: Option<Str>,
    /// Decryption.
    pub decryption: Option<Decryption>,
    /// The account it acts as.
    pub service_account_name: Option<Str>,
    /// Another cluster to act on.
    pub kube_config: Option<Value>,
}

/// A ConfigMap or Secret with chart values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ValuesRef {
    /// `ConfigMap` or `Secret`.
    pub kind: Str,
    /// The name, in the HelmRelease's namespace.
    pub name: Str,
    /// The key; `values.yaml` when absent.
    pub values_key: Option<Str>,
    /// The dotted path at which the entry is put; the entry is a whole values file when absent.
    pub target_path: Option<Str>,
    /// Whether the entry is text as it stands, not `--set` syntax.
    pub literal: bool,
    /// Whether it may be missing.
    pub optional: bool,
}

impl ValuesRef {
    /// The key to read.
    #[must_use]
    pub fn key(&self) -> &str {
        self.values_key.as_deref().filter(|k| !k.is_empty()).unwrap_or("values.yaml")
    }
}

/// The chart of a HelmRelease, from which the controller makes a HelmChart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChartTemplate {
    /// Its spec.
    pub spec: HelmChartSpec,
}

/// Kustomize changes after rendering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KustomizeRenderer {
    /// Patches.
    pub patches: Vec<Patch>,
    /// Strategic merge patches (v2beta1).
    pub patches_strategic_merge: Vec<Value>,
    /// JSON patches (v2beta1).
    #[serde(rename = "patchesJson6902")]
    pub patches_json6902: Vec<Value>,
    /// Images.
    pub images: Vec<Image>,
}

/// One step of changes after rendering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PostRenderer {
    /// With kustomize.
    pub kustomize: Option<KustomizeRenderer>,
}

/// How a failed install or upgrade is retried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Remediation {
    /// How often; negative for ever.
    pub retries: i64,
    /// Whether failed tests count as success.
    pub ignore_test_failures: Option<bool>,
    /// Whether the last failure is remediated too.
    pub remediate_last_failure: Option<bool>,
    /// `rollback` or `uninstall` (upgrades).
    pub strategy: Option<Str>,
}

/// How a release is installed or upgraded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseAction {
    /// What becomes of the chart's `crds/`: `Skip`, `Create`, `CreateReplace`.
    pub crds: Option<Str>,
    /// Whether the target namespace is made.
    pub create_namespace: bool,
    /// Whether hooks are left out.
    pub disable_hooks: bool,
    /// Whether manifests are not checked against the API's schema.
    #[serde(rename = "disableOpenAPIValidation")]
    pub disable_openapi_validation: bool,
    /// Whether values are not checked against the chart's schema.
    pub disable_schema_validation: bool,
    /// Whether objects of others are refused instead of taken over.
    pub disable_take_ownership: bool,
    /// Whether readiness is not waited for.
    pub disable_wait: bool,
    /// Whether jobs are not waited for.
    pub disable_wait_for_jobs: bool,
    /// Whether objects that cannot be changed are recreated.
    pub force: bool,
    /// Whether a failed upgrade removes what it made.
    pub cleanup_on_fail: bool,
    /// Whether the former values are kept.
    pub preserve_values: bool,
    /// Whether an earlier release of that name may be replaced.
    pub replace: bool,
    /// How long it may take.
    pub timeout: Option<GoDuration>,
    /// What happens on failure.
    pub remediation: Option<Remediation>,
}

/// Whether and how drift is looked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DriftDetection {
    /// `enabled`, `warn`, `disabled`.
    pub mode: Option<Str>,
    /// Exceptions.
    pub ignore: Vec<Value>,
}

/// Whether the chart's tests are run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseTest {
    /// Whether they are.
    pub enable: bool,
    /// How long one may take.
    pub timeout: Option<GoDuration>,
    /// Whether a failure is none.
    pub ignore_failures: bool,
}

/// What a HelmRelease declares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HelmReleaseSpec {
    /// The chart.
    pub chart: Option<ChartTemplate>,
    /// An existing chart source: HelmChart, OCIRepository or ExternalArtifact.
    pub chart_ref: Option<SourceRef>,
    /// How often it is reconciled.
    pub interval: Option<GoDuration>,
    /// How long one operation may take; 5 minutes when absent.
    pub timeout: Option<GoDuration>,
    /// Whether it is left alone.
    pub suspend: bool,
    /// The release's name.
    pub release_name: Option<Str>,
    /// Where the release's objects go.
    pub target_namespace: Option<Str>,
    /// Where the release's records are kept.
    pub storage_namespace: Option<Str>,
    /// HelmReleases it waits for.
    pub depends_on: Vec<DependencyRef>,
    /// How many records are kept; 5 when absent.
    pub max_history: Option<i64>,
    /// The account it acts as.
    pub service_account_name: Option<Str>,
    /// Another cluster to act on.
    pub kube_config: Option<Value>,
    /// Drift.
    pub drift_detection: Option<DriftDetection>,
    /// Installing.
    pub install: Option<ReleaseAction>,
    /// Upgrading.
    pub upgrade: Option<ReleaseAction>,
    /// Testing.
    pub test: Option<ReleaseTest>,
    /// Rolling back.
    pub rollback: Option<ReleaseAction>,
    /// Uninstalling.
    pub uninstall: Option<Value>,
    /// Values from elsewhere; later ones win.
    pub values_from: Vec<ValuesRef>,
    /// Inline values; they win, except over entries with a target path.
    pub values: Option<Value>,
    /// Labels and annotations for all its objects.
    pub common_metadata: Option<CommonMetadata>,
    /// Changes after rendering.
    pub post_renderers: Vec<PostRenderer>,
    /// What post-rendering covers: `nohooks`, `combined`, `separate`.
    pub post_render_strategy: Option<Str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Object {
        Object::new(druse_object::json::parse(json.as_bytes()).unwrap())
    }

    #[test]
    fn reads_a_release_with_nulls_and_unknown_fields() {
        let hr = HelmRelease::read(&object(
            r#"{"apiVersion":"helm.toolkit.fluxcd.io/v2beta1","kind":"HelmRelease",
            "metadata":{"name":"a","namespace":"b"},
            "spec":{"interval":"1h","suspend":null,"novel":1,"values":{"x":null},
              "chart":{"spec":{"chart":"c","version":"1.x","sourceRef":{"kind":"HelmRepository","name":"r"}}}}}"#,
        ))
        .unwrap();
        assert!(!hr.spec.suspend);
        assert_eq!(hr.spec.values.unwrap().get("x"), Some(&Value::Null));
        assert_eq!(hr.spec.chart.unwrap().spec.source_ref.namespace, None);
    }

    #[test]
    fn refuses_wrong_shapes_and_versions_by_name() {
        let bad = |v: &str, interval: &str| {
            Kustomization::read(&object(&format!(
                r#"{{"apiVersion":"kustomize.toolkit.fluxcd.io/{v}","kind":"Kustomization",
                "metadata":{{"name":"a","namespace":"b"}},"spec":{{"interval":"{interval}"}}}}"#
            )))
            .unwrap_err()
            .to_string()
        };
        assert!(bad("v1", "soon").contains("\"soon\" is not a duration"), "{}", bad("v1", "soon"));
        assert!(bad("v9", "1m").contains("no version \"v9\""));
    }
}
