//! The kustomization file as data, read as kustomize reads it: unknown fields are errors, keys match in any case,
//! null is absent, and the names of old fields still count.

use std::collections::BTreeMap;

use druse_object::{Value, yaml};
use serde::{Deserialize, Serialize};

use crate::error::{KustomizeError, Result, fail};
use crate::fieldspec::FieldSpec;
use crate::helm::{HelmChart, HelmGlobals, OldHelmChart};
use crate::ids::Gvk;
use crate::typed::{self, How};

/// The names a kustomization file may have, in the order they are looked for.
pub const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A map of texts, in key order.
pub type Texts = BTreeMap<String, String>;

/// A kustomization file. Fields are kustomize's own, documented at
/// <https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/>.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Kustomization {
    pub api_version: String,
    pub kind: String,
    pub metadata: Option<Value>,
    pub openapi: Texts,
    pub name_prefix: String,
    pub name_suffix: String,
    pub namespace: String,
    pub common_labels: Texts,
    pub labels: Vec<Label>,
    pub common_annotations: Texts,
    pub patches_strategic_merge: Vec<String>,
    #[serde(rename = "patchesJson6902")]
    pub patches_json6902: Vec<Patch>,
    pub patches: Vec<Patch>,
    pub images: Vec<Image>,
    pub image_tags: Vec<Image>,
    pub replacements: Vec<ReplacementField>,
    pub replicas: Vec<Replica>,
    pub vars: Vec<Var>,
    pub sort_options: Option<SortOptions>,
    pub resources: Vec<String>,
    pub components: Vec<String>,
    pub crds: Vec<String>,
    pub bases: Vec<String>,
    pub config_map_generator: Vec<GeneratorArgs>,
    pub secret_generator: Vec<GeneratorArgs>,
    pub helm_globals: Option<HelmGlobals>,
    pub helm_charts: Vec<HelmChart>,
    pub helm_chart_inflation_generator: Vec<OldHelmChart>,
    pub generator_options: Option<GeneratorOptions>,
    pub configurations: Vec<String>,
    pub generators: Vec<String>,
    pub transformers: Vec<String>,
    pub validators: Vec<String>,
    pub build_metadata: Vec<String>,
}

/// An entry of `labels`.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Label {
    pub pairs: Texts,
    pub include_selectors: bool,
    pub include_templates: bool,
    pub fields: Vec<FieldSpec>,
}

/// An entry of `patches` or `patchesJson6902`.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Patch {
    pub path: String,
    pub patch: String,
    pub target: Option<Selector>,
    pub options: Option<PatchOptions>,
}

/// What a patch may change besides content.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchOptions {
    pub allow_name_change: bool,
    pub allow_kind_change: bool,
}

/// Selects objects: regular expressions for the parts of the identity, and selectors for labels and annotations.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub annotation_selector: String,
    pub label_selector: String,
}

/// An entry of `images`.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    pub name: String,
    pub new_name: String,
    pub tag_suffix: String,
    pub new_tag: String,
    pub digest: String,
}

/// An entry of `replicas`.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replica {
    pub name: String,
    pub count: i64,
}

/// An entry of `replacements`: a file with replacements, or one replacement.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplacementField {
    pub path: String,
    pub source: Option<Source>,
    pub targets: Option<Vec<Target>>,
    pub source_value: Option<String>,
}

/// Where a replacement's value is read.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub field_path: String,
    pub options: Option<FieldOptions>,
}

impl Source {
    pub(crate) fn gvk(&self) -> Gvk {
        Gvk {
            group: self.group.as_str().into(),
            version: self.version.as_str().into(),
            kind: self.kind.as_str().into(),
        }
    }
}

/// Where a replacement's value is written.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    pub select: Option<Selector>,
    pub reject: Vec<Selector>,
    pub field_paths: Vec<String>,
    pub options: Option<FieldOptions>,
}

/// How a field is cut and joined.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldOptions {
    pub delimiter: String,
    pub index: i64,
    pub encoding: String,
    pub create: bool,
}

/// An entry of `vars`.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Var {
    pub name: String,
    pub objref: VarTarget,
    pub fieldref: VarField,
}

/// The object a variable reads.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct VarTarget {
    pub api_version: String,
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
}

/// The field a variable reads.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct VarField {
    pub field_path: String,
}

/// The order of the result.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SortOptions {
    pub order: String,
    pub legacy_sort_options: Option<LegacySortOptions>,
}

/// Kinds that come first and last.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LegacySortOptions {
    pub order_first: Vec<String>,
    pub order_last: Vec<String>,
}

/// An entry of `configMapGenerator` or `secretGenerator`.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct GeneratorArgs {
    pub namespace: String,
    pub name: String,
    pub behavior: String,
    pub literals: Vec<String>,
    pub files: Vec<String>,
    pub envs: Vec<String>,
    pub env: String,
    pub options: Option<GeneratorOptions>,
    /// Secrets only.
    #[serde(rename = "type")]
    pub secret_type: String,
}

/// What generated objects carry besides data.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct GeneratorOptions {
    pub labels: Texts,
    pub annotations: Texts,
    pub disable_name_suffix_hash: bool,
    pub immutable: bool,
}

/// The kind of a component's file.
pub const COMPONENT: &str = "Component";

/// Warnings kustomize prints for fields that have newer names.
const DEPRECATED: [(&str, &str, &str); 6] = [
    ("bases", "resources", ""),
    ("commonLabels", "labels", ""),
    ("imageTags", "images", ""),
    ("patchesJson6902", "patches", ""),
    ("patchesStrategicMerge", "patches", ""),
    ("vars", "replacements", "[EXPERIMENTAL] "),
];

impl Kustomization {
    /// Reads a kustomization file's text; `warn` is called with what kustomize says of old fields.
    ///
    /// # Errors
    /// When it is no YAML, has fields kustomize does not know or values of the wrong type.
    pub fn parse(text: &str, warn: &mut dyn FnMut(&str)) -> Result<Self> {
        let value = yaml::parse(text, yaml::Dialect::Sigs)
            .map_err(|e| KustomizeError { line: e.line, ..fail!("invalid Kustomization: {}", e.go_text_v3()) })?;
        Self::read(&value, warn)
    }

    /// Reads a kustomization from a value.
    ///
    /// # Errors
    /// As [`Self::parse`], and when it is empty.
    pub fn from_value(value: &Value) -> Result<Self> {
        Self::read(value, &mut |_| {})
    }

    fn read(value: &Value, warn: &mut dyn FnMut(&str)) -> Result<Self> {
        let invalid = |message: String| fail!("invalid Kustomization: {message}");
        if value.is_null() {
            return Err(fail!("kustomization.yaml is empty"));
        }
        let value = typed::read(value, "Kustomization", How::Strict).map_err(|message| {
            let of_word = message.contains("cannot unmarshal bool");
            let e = invalid(message);
            if of_word {
                e.help("put the value in quotes: y, n, yes, no, on and off are booleans in YAML 1.1")
            } else {
                e
            }
        })?;
        for (old, new, note) in DEPRECATED {
            if value.get(old).is_some() {
                warn(&format!(
                    "# Warning: '{old}' is deprecated. Please use '{new}' instead. {note}Run 'kustomize edit fix' to \
                     update your Kustomization automatically."
                ));
            }
        }
        let nothing = |(key, value): (&druse_object::Str, &Value)| match key.as_str() {
            "apiVersion" | "kind" => true,
            "bases" | "imageTags" | "helmChartInflationGenerator" => value.items().is_empty(),
            _ => value.as_str() == Some(""),
        };
        if value.as_map().is_none_or(|map| map.iter().all(nothing)) {
            return Err(fail!("kustomization.yaml is empty"));
        }
        let mut k: Self = value.to_typed().map_err(|e| invalid(e.0))?;
        k.fix();
        Ok(k)
    }

    /// Fills in what old files leave out and moves old fields to where new ones are.
    fn fix(&mut self) {
        if self.kind.is_empty() {
            self.kind = "Kustomization".to_string();
        }
        if self.api_version.is_empty() {
            self.api_version = self.required_version().to_string();
        }
        self.resources.append(&mut self.bases);
        self.images.append(&mut self.image_tags);
        for generator in self.config_map_generator.iter_mut().chain(&mut self.secret_generator) {
            if !generator.env.is_empty() {
                generator.envs.push(std::mem::take(&mut generator.env));
            }
        }
        self.fix_charts();
    }

    /// Turns the old way to name charts into the new one; the last home named counts.
    fn fix_charts(&mut self) {
        let mut globals = HelmGlobals::default();
        for old in std::mem::take(&mut self.helm_chart_inflation_generator) {
            if !old.chart_home.is_empty() {
                globals.chart_home.clone_from(&old.chart_home);
            }
            if !old.helm_home.is_empty() {
                globals.config_home.clone_from(&old.helm_home);
            }
            self.helm_charts.push(old.renewed());
        }
        if self.helm_globals.is_none() && globals != HelmGlobals::default() {
            self.helm_globals = Some(globals);
        }
    }

    fn required_version(&self) -> &'static str {
        if self.kind == COMPONENT { "kustomize.config.k8s.io/v1alpha1" } else { "kustomize.config.k8s.io/v1beta1" }
    }

    /// What is wrong with kind and version; empty when nothing is.
    pub(crate) fn type_errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if self.kind != "Kustomization" && self.kind != COMPONENT {
            errors.push("kind should be Kustomization or Component".to_string());
        }
        if self.api_version != self.required_version() {
            errors.push(format!("apiVersion for {} should be {}", self.kind, self.required_version()));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        druse_object::json::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn unknown_fields_are_errors_and_case_does_not_matter() {
        let err = Kustomization::from_value(&value(r#"{"foo": 1}"#)).unwrap_err();
        assert_eq!(err.message, "invalid Kustomization: json: unknown field \"foo\"");
        let err = Kustomization::from_value(&value(r#"{"patches": [{"foo": 1}]}"#)).unwrap_err();
        assert_eq!(err.message, "invalid Kustomization: json: unknown field \"foo\"");
        let k = Kustomization::from_value(&value(r#"{"NamePrefix": "a-", "resources": null}"#)).unwrap();
        assert_eq!(k.name_prefix, "a-");
    }

    #[test]
    fn a_file_with_nothing_but_its_kind_is_empty() {
        let err = Kustomization::from_value(&value(r#"{"kind": "Kustomization"}"#)).unwrap_err();
        assert_eq!(err.message, "kustomization.yaml is empty");
        assert!(Kustomization::from_value(&value(r#"{"resources": []}"#)).is_ok());
    }

    #[test]
    fn old_fields_move_to_new_ones() {
        let k = Kustomization::from_value(&value(r#"{"bases": ["b"], "resources": ["a"]}"#)).unwrap();
        assert_eq!(k.resources, ["a", "b"]);
    }
}
