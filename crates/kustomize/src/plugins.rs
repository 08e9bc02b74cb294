//! `generators`, `transformers` and `validators`: only the plugins kustomize has built in, configured by objects.

use druse_object::{Map, Value, yaml};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{KustomizeError, Result, fail, go_quote};
use crate::fieldspec::FieldSpecs;
use crate::generators::{self, Made};
use crate::helm::{self, Helm, HelmChart, HelmGlobals, Inflation};
use crate::kustomization::{GeneratorArgs, Image, Patch, PatchOptions, ReplacementField, Replica, Selector, Texts};
use crate::loader::Loader;
use crate::resource::Resource;
use crate::transform::{Subjects, Transformer, ValueTarget, patches};
use crate::typed::{self, How};

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

/// Whether an object configures a plugin that is built in; the others are programs.
fn check_builtin(object: &Resource) -> Result<()> {
    let id = object.id();
    let placed = |e: KustomizeError| {
        e.at(object.provenance.file.as_deref().unwrap_or_default(), object.provenance.line)
            .help("only the plugins built into kustomize (apiVersion: builtin) run here")
    };
    if !id.gvk.group.is_empty() || id.gvk.version != "builtin" {
        return Err(placed(fail!("external plugins disabled; unable to load external plugin '{}'", id.gvk.kind)));
    }
    if !GENERATORS.contains(&id.gvk.kind.as_str()) && !TRANSFORMERS.contains(&id.gvk.kind.as_str()) {
        return Err(placed(fail!("unable to load builtin {}", id.gvk)));
    }
    Ok(())
}

const GENERATORS: [&str; 4] =
    ["ConfigMapGenerator", "SecretGenerator", "IAMPolicyGenerator", "HelmChartInflationGenerator"];
const TRANSFORMERS: [&str; 14] = [
    "AnnotationsTransformer",
    "HashTransformer",
    "ImageTagTransformer",
    "LabelTransformer",
    "NamespaceTransformer",
    "PatchJson6902Transformer",
    "PatchStrategicMergeTransformer",
    "PatchTransformer",
    "PrefixSuffixTransformer",
    "PrefixTransformer",
    "SuffixTransformer",
    "ReplacementTransformer",
    "ReplicaCountTransformer",
    "ValueAddTransformer",
];

/// The words of `sigs.k8s.io/yaml` around a mistake in a configuration.
fn unmarshaling(message: &str) -> KustomizeError {
    fail!("error unmarshaling JSON: while decoding JSON: {message}")
}

/// An object's configuration as one of the plugins' types.
fn config<T: DeserializeOwned>(object: &Resource, plugin: &str) -> Result<T> {
    let mut value =
        typed::read(&object.value, &format!("{plugin}Plugin"), How::Config).map_err(|e| unmarshaling(&e))?;
    if let Some(map) = value.as_map_mut() {
        map.remove("metadata");
    }
    value.to_typed().map_err(|e| unmarshaling(&e.0))
}

/// What makes objects, configured.
pub(crate) enum Generator<'h> {
    Data { made: Made, args: Box<GeneratorArgs>, file: String },
    Iam { object: Box<Resource> },
    Helm(Box<Inflation<'h>>),
}

impl Generator<'_> {
    /// Makes the objects.
    pub(crate) fn run(&self, loader: &Loader<'_>) -> Result<Vec<Resource>> {
        match self {
            Self::Data { made, args, file } => Ok(vec![generators::generate(*made, args, loader, file)?]),
            Self::Iam { object } => Ok(vec![(**object).clone()]),
            Self::Helm(inflation) => inflation.run(loader),
        }
    }
}

/// The generator that an object configures.
pub(crate) fn generator<'h>(
    object: &Resource,
    loader: &Loader<'_>,
    helm: Option<&'h dyn Helm>,
) -> Result<Generator<'h>> {
    load_generator(object, loader, helm).map_err(|e| e.wrap("failed to load generator"))
}

fn load_generator<'h>(object: &Resource, loader: &Loader<'_>, helm: Option<&'h dyn Helm>) -> Result<Generator<'h>> {
    check_builtin(object)?;
    let kind = object.kind();
    let made = match kind.as_str() {
        "ConfigMapGenerator" => Made::ConfigMap,
        "SecretGenerator" => Made::Secret,
        "HelmChartInflationGenerator" => {
            let chart = helm::enabled(helm).and_then(|helm| {
                let (globals, chart): (HelmGlobals, HelmChart) = (config(object, &kind)?, config(object, &kind)?);
                Inflation::new(helm, globals, chart, loader)
            });
            return Ok(Generator::Helm(Box::new(configured(object, chart)?)));
        }
        "IAMPolicyGenerator" => return Ok(Generator::Iam { object: Box::new(configured(object, iam(object))?) }),
        _ => {
            transformers(object, loader)?;
            return Err(fail!("plugin {} not a generator", object.original_id()));
        }
    };
    let mut args: GeneratorArgs = configured(object, config(object, &kind))?;
    if args.name.is_empty() {
        args.name = object.name().to_string();
    }
    if args.namespace.is_empty() {
        args.namespace = crate::ids::meta_text(&object.value, "namespace").to_string();
    }
    let file = object.provenance.file.as_deref().unwrap_or_default().to_string();
    Ok(Generator::Data { made, args: Box::new(args), file })
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Iam {
    cloud: String,
    kubernetes_service: Account,
    service_account: Account,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Account {
    name: String,
    namespace: String,
    project_id: String,
}

/// The service account that `IAMPolicyGenerator` makes.
fn iam(object: &Resource) -> Result<Resource> {
    let iam: Iam = config(object, "IAMPolicyGenerator")?;
    if iam.cloud != "gke" {
        return Err(fail!("cloud provider {} not supported yet", iam.cloud));
    }
    let account = format!("{}@{}.iam.gserviceaccount.com", iam.service_account.name, iam.service_account.project_id);
    let annotations: Map = [("iam.gke.io/gcp-service-account", account)].into_iter().collect();
    let mut metadata: Map = [("annotations", Value::Map(annotations))].into_iter().collect();
    metadata.insert("name", iam.kubernetes_service.name);
    if !iam.kubernetes_service.namespace.is_empty() {
        metadata.insert("namespace", iam.kubernetes_service.namespace);
    }
    let value: Map = [
        ("apiVersion", Value::from("v1")),
        ("kind", Value::from("ServiceAccount")),
        ("metadata", Value::Map(metadata)),
    ]
    .into_iter()
    .collect();
    Ok(Resource::new(Value::Map(value), object.provenance.clone()))
}

fn configured<T>(object: &Resource, result: Result<T>) -> Result<T> {
    result.map_err(|e| {
        e.wrap(format_args!("plugin {} fails configuration", object.original_id()))
            .at(object.provenance.file.as_deref().unwrap_or_default(), object.provenance.line)
    })
}

/// The transformers that an object configures.
pub(crate) fn transformers(object: &Resource, loader: &Loader<'_>) -> Result<Vec<Transformer>> {
    check_builtin(object)?;
    if GENERATORS.contains(&object.kind().as_str()) {
        generator(object, loader, None)?;
        return Err(fail!("plugin {} not a transformer", object.original_id()));
    }
    configured(object, load_transformers(object, loader))
}

fn load_transformers(object: &Resource, loader: &Loader<'_>) -> Result<Vec<Transformer>> {
    let kind = object.kind();
    let file = object.provenance.file.as_deref().unwrap_or_default();
    if kind == "PrefixSuffixTransformer" {
        return ["PrefixTransformer", "SuffixTransformer"]
            .into_iter()
            .map(|plugin| affix(plugin, config(object, plugin)?))
            .collect();
    }
    let c: Config = config(object, &kind).map_err(|e| match kind.as_str() {
        "NamespaceTransformer" => e.wrap("unmarshalling NamespaceTransformer config"),
        _ => e,
    })?;
    let specs = c.field_specs.clone().unwrap_or_default();
    let entry = Patch { path: c.path.clone(), patch: c.patch.clone(), target: c.target.clone(), options: c.options };
    Ok(vec![match kind.as_str() {
        "AnnotationsTransformer" => Transformer::Annotations { annotations: c.annotations, specs },
        "LabelTransformer" => Transformer::Labels { labels: c.labels, specs },
        "PrefixTransformer" | "SuffixTransformer" => affix(&kind, c)?,
        "NamespaceTransformer" => {
            let subjects = match c.set_role_binding_subjects.as_str() {
                "" | "defaultOnly" => Subjects::NamedDefault,
                "allServiceAccounts" => Subjects::ServiceAccounts,
                "none" => Subjects::Nobody,
                other => {
                    return Err(fail!(
                        "invalid value {} for setRoleBindingSubjects: must be one of \"defaultOnly\", \"none\" or \
                         \"allServiceAccounts\"",
                        go_quote(other)
                    ));
                }
            };
            let namespace = crate::ids::meta_text(&object.value, "namespace").to_string();
            Transformer::Namespace { namespace, specs, unset_only: c.unset_only, subjects }
        }
        "ImageTagTransformer" => Transformer::Image { image: c.image_tag, specs },
        "ReplicaCountTransformer" => Transformer::Replicas { replica: c.replica, specs },
        "PatchTransformer" => {
            Transformer::Patches(vec![patches::load(&entry, &yaml::to_string(&object.value), loader, file)?])
        }
        "PatchJson6902Transformer" => {
            let entry = Patch { patch: c.json_op, ..entry };
            Transformer::Patches(vec![patches::load_json(&entry, loader, file)?])
        }
        "PatchStrategicMergeTransformer" => {
            if c.paths.is_empty() && c.patches.is_empty() {
                return Err(fail!("empty file path and empty patch content"));
            }
            Transformer::Patches(vec![patches::load_legacy(&c.paths, &c.patches, loader, file)?])
        }
        "ReplacementTransformer" => Transformer::Replacements(load_replacements(&c.replacements, loader)?),
        "ValueAddTransformer" => value_add(c, loader)?,
        _ => Transformer::Hash,
    }])
}

fn affix(plugin: &str, c: Config) -> Result<Transformer> {
    let Some(specs) = c.field_specs else { return Err(fail!("fieldSpecs is not expected to be nil")) };
    Ok(match plugin {
        "PrefixTransformer" => Transformer::Prefix { prefix: c.prefix, specs },
        _ => Transformer::Suffix { suffix: c.suffix, specs },
    })
}

fn value_add(c: Config, loader: &Loader<'_>) -> Result<Transformer> {
    let mut targets = c.targets;
    if !c.target_file_path.is_empty() {
        let (_, bytes) = loader.load(&c.target_file_path)?;
        let value = parse(&bytes, &c.target_file_path)?;
        let value = typed::read(&value, "ValueTargets", How::Config).map_err(|e| unmarshaling(&e))?;
        let more: Config = value.to_typed().map_err(|e| unmarshaling(&e.0))?;
        targets.extend(more.targets);
    }
    if targets.is_empty() {
        return Err(fail!("must specify at least one target"));
    }
    for target in &targets {
        if target.field_path.is_empty() {
            return Err(fail!("fieldPath cannot be empty"));
        }
        if target.file_path_position < 0 {
            let position = target.file_path_position;
            return Err(fail!("value of FilePathPosition ({position}) cannot be negative"));
        }
    }
    let mut value = c.value.trim().to_string();
    if value.is_empty() {
        value = loader.shown_dir().rsplit('/').next().unwrap_or_default().to_string();
    }
    Ok(Transformer::ValueAdd { value, targets })
}

fn parse(bytes: &[u8], path: &str) -> Result<Value> {
    let text = String::from_utf8_lossy(bytes);
    yaml::parse(&text, yaml::Dialect::Sigs)
        .map_err(|e| fail!("error converting YAML to JSON: {}", e.go_text_v3()).at(path, e.line))
}

/// The replacements of a kustomization file.
pub(crate) fn replacements_field(list: &[ReplacementField], loader: &Loader<'_>) -> Result<Vec<ReplacementField>> {
    load_replacements(list, loader).map_err(|e| {
        let mut items = Value::from_typed(&list).unwrap_or_default();
        typed::omit_empty(&mut items);
        let config: Map = [("Replacements", items)].into_iter().collect();
        patches::configuring(e, "ReplacementTransformer", &yaml::to_string(&Value::Map(config)))
    })
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
            let value = typed::read(value, "Replacement", How::Config).map_err(|e| unmarshaling(&e).at(&file, 0))?;
            value.to_typed::<ReplacementField>().map_err(|e| unmarshaling(&e.0).at(&file, 0))
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
