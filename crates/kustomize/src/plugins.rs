//! `generators`, `transformers` and `validators`: only the plugins kustomize has built in, configured by objects.

use druse_object::Value;
use serde::Deserialize;

use crate::error::{Result, fail};
use crate::fieldspec::FieldSpecs;
use crate::generators::{self, Made};
use crate::kustomization::{GeneratorArgs, Image, Patch, PatchOptions, ReplacementField, Replica, Selector, Texts};
use crate::loader::Loader;
use crate::resource::Resource;
use crate::transform::{Subjects, Transformer, ValueTarget, patches};

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    labels: Texts,
    annotations: Texts,
    prefix: String,
    suffix: String,
    field_specs: Option<FieldSpecs>,
    unset_only: bool,
    set_role_binding_subjects: String,
    image_tag: Image,
    replica: Replica,
    path: String,
    patch: String,
    json_op: String,
    target: Option<Selector>,
    options: Option<PatchOptions>,
    paths: Vec<String>,
    patches: String,
    replacements: Vec<ReplacementField>,
    value: String,
    targets: Vec<ValueTarget>,
    target_file_path: String,
}

fn check_builtin(object: &Resource) -> Result<()> {
    let id = object.id();
    if id.gvk.group.is_empty() && id.gvk.version == "builtin" {
        return Ok(());
    }
    Err(fail!("external plugins disabled; unable to load external plugin '{}'", id.gvk.kind)
        .at(object.provenance.file.as_deref().unwrap_or_default(), object.provenance.line)
        .help("only the plugins built into kustomize (apiVersion: builtin) run here"))
}

/// The config without what every object has.
fn bare(object: &Resource) -> Value {
    let mut value = object.value.clone();
    if let Some(map) = value.as_map_mut() {
        for field in ["apiVersion", "kind", "metadata"] {
            map.remove(field);
        }
        map.retain(|_, v| !v.is_null());
    }
    value
}

/// What a generator makes.
pub(crate) fn generate(object: &Resource, loader: &Loader<'_>) -> Result<Resource> {
    check_builtin(object).map_err(|e| e.wrap("failed to load generator"))?;
    let kind = object.kind();
    let made = match kind.as_str() {
        "ConfigMapGenerator" => Made::ConfigMap,
        "SecretGenerator" => Made::Secret,
        "HelmChartInflationGenerator" => return Err(helm_is_off()),
        _ => return Err(fail!("failed to load generator: unable to load builtin {}", object.id().gvk)),
    };
    let mut args: GeneratorArgs = bare(object).to_typed().map_err(|e| config_error(object, &e.to_string()))?;
    if args.name.is_empty() {
        args.name = object.name().to_string();
    }
    if args.namespace.is_empty() {
        args.namespace = crate::ids::meta_text(&object.value, "namespace").to_string();
    }
    generators::generate(made, &args, loader, object.provenance.file.as_deref().unwrap_or_default())
}

/// The error for Helm charts, which are rendered by Helm's own part and not from here.
pub(crate) fn helm_is_off() -> crate::KustomizeError {
    fail!("must specify --enable-helm").help("helmCharts is off here, as it is in Flux: use a HelmRelease")
}

fn config_error(object: &Resource, message: &str) -> crate::KustomizeError {
    fail!("plugin {} fails configuration: {message}", object.id())
        .at(object.provenance.file.as_deref().unwrap_or_default(), object.provenance.line)
}

/// The transformers that an object configures.
pub(crate) fn transformers(object: &Resource, loader: &Loader<'_>) -> Result<Vec<Transformer>> {
    check_builtin(object)?;
    let kind = object.kind();
    let file = object.provenance.file.as_deref().unwrap_or_default();
    let c: Config = bare(object).to_typed().map_err(|e| config_error(object, &e.to_string()))?;
    let specs = c.field_specs.clone().unwrap_or_default();
    let need_specs = || match &c.field_specs {
        Some(specs) => Ok(specs.clone()),
        None => Err(config_error(object, "fieldSpecs is not expected to be nil")),
    };
    let entry = Patch { path: c.path.clone(), patch: c.patch.clone(), target: c.target.clone(), options: c.options };
    let one = match kind.as_str() {
        "AnnotationsTransformer" => Transformer::Annotations { annotations: c.annotations, specs },
        "LabelTransformer" => Transformer::Labels { labels: c.labels, specs },
        "PrefixTransformer" => Transformer::Prefix { specs: need_specs()?, prefix: c.prefix },
        "SuffixTransformer" => Transformer::Suffix { specs: need_specs()?, suffix: c.suffix },
        "PrefixSuffixTransformer" => {
            let specs = need_specs()?;
            return Ok(vec![
                Transformer::Prefix { prefix: c.prefix, specs: specs.clone() },
                Transformer::Suffix { suffix: c.suffix, specs },
            ]);
        }
        "NamespaceTransformer" => {
            let subjects = match c.set_role_binding_subjects.as_str() {
                "" | "defaultOnly" => Subjects::NamedDefault,
                "allServiceAccounts" => Subjects::ServiceAccounts,
                "none" => Subjects::Nobody,
                other => {
                    return Err(config_error(
                        object,
                        &format!(
                            "invalid value {other:?} for setRoleBindingSubjects: must be one of \"defaultOnly\", \
                             \"none\" or \"allServiceAccounts\""
                        ),
                    ));
                }
            };
            let namespace = crate::ids::meta_text(&object.value, "namespace").to_string();
            Transformer::Namespace { namespace, specs, unset_only: c.unset_only, subjects }
        }
        "ImageTagTransformer" => Transformer::Image { image: c.image_tag, specs },
        "ReplicaCountTransformer" => Transformer::Replicas { replica: c.replica, specs },
        "PatchTransformer" => {
            Transformer::Patches(vec![configured(object, patches::load_plugin(&entry, loader, file))?])
        }
        "PatchJson6902Transformer" => {
            let entry = Patch { patch: c.json_op, ..entry };
            Transformer::Patches(vec![configured(object, patches::load_json(&entry, loader, file))?])
        }
        "PatchStrategicMergeTransformer" => {
            if c.paths.is_empty() && c.patches.is_empty() {
                return Err(config_error(object, "empty file path and empty patch content"));
            }
            let patches = patches::load_legacy(&c.paths, &c.patches, loader, file);
            Transformer::Patches(vec![configured(object, patches)?])
        }
        "ReplacementTransformer" => Transformer::Replacements(load_replacements(&c.replacements, loader)?),
        "ValueAddTransformer" => value_add(object, c, loader)?,
        "HashTransformer" => Transformer::Hash,
        _ => return Err(fail!("unable to load builtin {}", object.id().gvk)),
    };
    Ok(vec![one])
}

fn configured<T>(object: &Resource, result: Result<T>) -> Result<T> {
    result.map_err(|e| e.wrap(format_args!("plugin {} fails configuration", object.id())))
}

fn value_add(object: &Resource, c: Config, loader: &Loader<'_>) -> Result<Transformer> {
    let mut targets = c.targets;
    if !c.target_file_path.is_empty() {
        let (_, bytes) = loader.load(&c.target_file_path)?;
        let value = parse(&bytes, &c.target_file_path)?;
        let more: Config = value.to_typed().map_err(|e| config_error(object, &e.to_string()))?;
        targets.extend(more.targets);
    }
    if targets.is_empty() {
        return Err(config_error(object, "must specify at least one target"));
    }
    for target in &targets {
        if target.field_path.is_empty() {
            return Err(config_error(object, "fieldPath cannot be empty"));
        }
        if target.file_path_position < 0 {
            let position = target.file_path_position;
            return Err(config_error(object, &format!("value of FilePathPosition ({position}) cannot be negative")));
        }
    }
    let mut value = c.value.trim().to_string();
    if value.is_empty() {
        value = loader.shown_dir().rsplit('/').next().unwrap_or_default().to_string();
    }
    Ok(Transformer::ValueAdd { value, targets })
}

fn parse(bytes: &[u8], path: &str) -> Result<Value> {
    use druse_object::yaml;
    let text = String::from_utf8_lossy(bytes);
    yaml::parse(&text, yaml::Dialect::Sigs)
        .map_err(|e| fail!("error converting YAML to JSON: yaml: line {}: {}", e.line, e.message).at(path, e.line))
}

/// Replaces entries that name a file by what the file holds.
pub(crate) fn load_replacements(list: &[ReplacementField], loader: &Loader<'_>) -> Result<Vec<ReplacementField>> {
    let mut out = Vec::new();
    for entry in list {
        if entry.path.is_empty() {
            out.push(entry.clone());
            continue;
        }
        if entry.source.is_some() || entry.targets.as_ref().is_some_and(|t| !t.is_empty()) {
            return Err(fail!("cannot specify both path and inline replacement"));
        }
        let (file, bytes) = loader.load(&entry.path)?;
        let value = parse(&bytes, &file)?;
        let typed = |value: &Value| {
            value
                .to_typed::<ReplacementField>()
                .map_err(|e| fail!("error unmarshaling JSON: while decoding JSON: {e}").at(&file, 0))
        };
        match &value {
            Value::Array(items) => {
                for item in items {
                    out.push(typed(item)?);
                }
            }
            Value::Map(_) => out.push(typed(&value)?),
            other => {
                return Err(fail!(
                    "unsupported replacement type encountered within replacement path: {}",
                    other.kind_name()
                )
                .at(&file, 0));
            }
        }
    }
    Ok(out)
}
