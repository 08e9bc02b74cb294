//! The fields that transformers change: kustomize's defaults (a data file) and what `configurations` and `crds` add.

use std::sync::{Arc, LazyLock};

use druse_object::{Value, yaml};
use serde::Deserialize;

use crate::error::{KustomizeError, Result, fail};
use crate::fieldspec::{FieldSpec, FieldSpecs};
use crate::ids::Gvk;
use crate::typed::{self, How};

/// Fields that name objects of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NameReference {
    /// The kind that is named.
    #[serde(flatten)]
    pub gvk: Gvk,
    /// The fields that name it.
    pub field_specs: FieldSpecs,
}

/// All field specs of one kustomization.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TransformerConfig {
    /// Fields that get the name prefix.
    pub name_prefix: FieldSpecs,
    /// Fields that get the name suffix.
    pub name_suffix: FieldSpecs,
    /// Fields that get the namespace, besides the object's own.
    pub namespace: FieldSpecs,
    /// Fields that get `commonLabels`.
    pub common_labels: FieldSpecs,
    /// Fields that get every entry of `labels`.
    pub labels: FieldSpecs,
    /// Fields that get labels with `includeTemplates`.
    pub template_labels: FieldSpecs,
    /// Fields that get `commonAnnotations`.
    pub common_annotations: FieldSpecs,
    /// Fields that name other objects.
    pub name_reference: Vec<NameReference>,
    /// Fields in which variables are expanded.
    pub var_reference: FieldSpecs,
    /// Fields that hold an image.
    pub images: FieldSpecs,
    /// Fields that hold a number of replicas.
    pub replicas: FieldSpecs,
}

static DEFAULT: LazyLock<Arc<TransformerConfig>> = LazyLock::new(|| {
    let mut config = TransformerConfig::default();
    for line in include_str!("../data/field-specs.tsv").lines().filter(|l| !l.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').map(|c| if c == "-" { "" } else { c }).collect();
        let [section, group, version, kind, create, path, named @ ..] = columns.as_slice() else { continue };
        let spec = FieldSpec {
            gvk: Gvk { group: (*group).into(), version: (*version).into(), kind: (*kind).into() },
            path: (*path).to_string(),
            create: *create == "create",
        };
        match (config.section(section), named) {
            (Some(specs), _) => specs.0.push(spec),
            (None, [group, version, kind]) => {
                let gvk = Gvk { group: (*group).into(), version: (*version).into(), kind: (*kind).into() };
                match config.name_reference.iter_mut().find(|r| r.gvk == gvk) {
                    Some(reference) => reference.field_specs.0.push(spec),
                    None => config.name_reference.push(NameReference { gvk, field_specs: FieldSpecs(vec![spec]) }),
                }
            }
            _ => {}
        }
    }
    config.sort();
    Arc::new(config)
});

impl TransformerConfig {
    /// kustomize's defaults.
    #[must_use]
    pub fn builtin() -> Arc<Self> {
        DEFAULT.clone()
    }

    /// Reads a file of `configurations`.
    ///
    /// # Errors
    /// When it is no YAML or has fields that no transformer knows.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let value = yaml::parse_strict(text).map_err(|e| KustomizeError {
            line: e.line,
            ..fail!("error converting YAML to JSON: {}", e.go_text_v3())
        })?;
        if value.is_null() {
            return Ok(Self::default());
        }
        let failed = |message: String| fail!("error unmarshaling JSON: while decoding JSON: {message}");
        let value = typed::read(&value, "TransformerConfig", How::StrictConfig).map_err(failed)?;
        let mut config: Self = value.to_typed().map_err(|e| failed(e.0))?;
        config.sort();
        Ok(config)
    }

    fn section(&mut self, name: &str) -> Option<&mut FieldSpecs> {
        Some(match name {
            "namePrefix" => &mut self.name_prefix,
            "nameSuffix" => &mut self.name_suffix,
            "namespace" => &mut self.namespace,
            "commonLabels" => &mut self.common_labels,
            "labels" => &mut self.labels,
            "templateLabels" => &mut self.template_labels,
            "commonAnnotations" => &mut self.common_annotations,
            "varReference" => &mut self.var_reference,
            "images" => &mut self.images,
            "replicas" => &mut self.replicas,
            _ => return None,
        })
    }

    fn sort(&mut self) {
        for name in SECTIONS {
            if let Some(specs) = self.section(name) {
                specs.sort();
            }
        }
        self.name_reference.sort_by_cached_key(|r| r.gvk.sort_key());
    }

    /// Adds what another config has.
    ///
    /// # Errors
    /// When both name a field and disagree on whether it is created.
    pub(crate) fn merge(&mut self, other: &TransformerConfig) -> Result<()> {
        let pairs: [(&mut FieldSpecs, &FieldSpecs, &str); 10] = [
            (&mut self.name_prefix, &other.name_prefix, "NamePrefix"),
            (&mut self.name_suffix, &other.name_suffix, "NameSuffix"),
            (&mut self.namespace, &other.namespace, "NameSpace"),
            (&mut self.common_annotations, &other.common_annotations, "CommonAnnotations"),
            (&mut self.common_labels, &other.common_labels, "CommonLabels"),
            (&mut self.labels, &other.labels, "Labels"),
            (&mut self.template_labels, &other.template_labels, "TemplateLabels"),
            (&mut self.var_reference, &other.var_reference, "VarReference"),
            (&mut self.images, &other.images, "Images"),
            (&mut self.replicas, &other.replicas, "Replicas"),
        ];
        for (mine, theirs, name) in pairs {
            mine.merge(theirs).map_err(|e| e.wrap(format_args!("failed to merge {name} fieldSpec")))?;
        }
        for reference in &other.name_reference {
            match self.name_reference.iter_mut().find(|r| r.gvk == reference.gvk) {
                Some(mine) => mine
                    .field_specs
                    .merge(&reference.field_specs)
                    .map_err(|e| e.wrap("failed to merge NameReference fieldSpec"))?,
                None => self.name_reference.push(reference.clone()),
            }
        }
        self.sort();
        Ok(())
    }
}

const SECTIONS: [&str; 10] = [
    "namePrefix",
    "nameSuffix",
    "namespace",
    "commonLabels",
    "labels",
    "templateLabels",
    "commonAnnotations",
    "varReference",
    "images",
    "replicas",
];

/// How deep a schema of `crds` is followed; deeper ones refer to themselves.
const MAX_CRD_DEPTH: usize = 32;

/// The config that a file of `crds` asks for: an OpenAPI definitions map whose properties carry
/// `x-kubernetes-annotation`, `-label-selector`, `-identity` and `-object-ref-*`.
pub(crate) fn from_crds(text: &str, path: &str) -> Result<TransformerConfig> {
    let value = yaml::parse(text, yaml::Dialect::Sigs).map_err(|e| {
        fail!("unable to parse open API definition from '{path}': yaml: line {}: {}", e.line, e.message)
    })?;
    let mut config = TransformerConfig::default();
    let Some(types) = value.as_map() else { return Ok(config) };
    for (name, api) in types.iter() {
        let Some(properties) = properties(api) else { continue };
        if !["kind", "apiVersion", "metadata"].iter().all(|f| properties.get(f).is_some()) {
            continue;
        }
        let kind = name.rsplit('.').next().unwrap_or(name);
        let gvk = Gvk { kind: kind.into(), ..Gvk::default() };
        from_crd(&mut config, &gvk, types, name, &mut Vec::new())?;
    }
    Ok(config)
}

fn properties(api: &Value) -> Option<&Value> {
    api.get("Schema").or_else(|| api.get("schema"))?.get("properties")
}

fn from_crd(
    config: &mut TransformerConfig,
    gvk: &Gvk,
    types: &druse_object::Map,
    name: &str,
    path: &mut Vec<String>,
) -> Result<()> {
    if path.len() > MAX_CRD_DEPTH {
        return Ok(());
    }
    let Some(properties) = types.get(name).and_then(properties).and_then(Value::as_map) else { return Ok(()) };
    for (property, schema) in properties.iter() {
        path.push(property.to_string());
        let spec = FieldSpec { gvk: gvk.clone(), path: path.join("/"), create: false };
        let says = |extension: &str| schema.get(extension).and_then(Value::as_str);
        if says("x-kubernetes-annotation").is_some() {
            config.common_annotations.add(&spec)?;
        }
        if says("x-kubernetes-label-selector").is_some() {
            config.common_labels.add(&spec)?;
        }
        if says("x-kubernetes-identity").is_some() {
            config.name_prefix.add(&spec)?;
        }
        if let (Some(version), Some(kind)) =
            (says("x-kubernetes-object-ref-api-version"), says("x-kubernetes-object-ref-kind"))
        {
            let key = says("x-kubernetes-object-ref-name-key").unwrap_or("name");
            let named = Gvk { group: "".into(), version: version.into(), kind: kind.into() };
            let spec = FieldSpec { path: format!("{}/{key}", spec.path), ..spec };
            match config.name_reference.iter_mut().find(|r| r.gvk == named) {
                Some(reference) => reference.field_specs.add(&spec)?,
                None => {
                    config.name_reference.push(NameReference { gvk: named, field_specs: FieldSpecs(vec![spec]) });
                }
            }
        }
        if let Some(reference) = says("$ref") {
            from_crd(config, gvk, types, reference, path)?;
        }
        path.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_config_has_every_section() {
        let config = TransformerConfig::builtin();
        assert_eq!(config.name_prefix.0, [FieldSpec::any("metadata/name", false)]);
        assert_eq!(config.common_labels.0.len(), 32);
        let config_map = config.name_reference.iter().find(|r| r.gvk.kind == "ConfigMap").unwrap();
        assert!(config_map.field_specs.0.iter().any(|s| s.path == "spec/template/spec/volumes/configMap/name"));
    }

    #[test]
    fn specs_that_disagree_on_create_are_an_error() {
        let mut config = (*TransformerConfig::builtin()).clone();
        let other = TransformerConfig {
            name_prefix: FieldSpecs(vec![FieldSpec::any("metadata/name", true)]),
            ..TransformerConfig::default()
        };
        let err = config.merge(&other).unwrap_err();
        assert_eq!(err.message, "failed to merge NamePrefix fieldSpec: conflicting fieldspecs");
    }
}
