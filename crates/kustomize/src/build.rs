//! The build: accumulates the objects of a kustomization and all it refers to, and runs the transformers.

use std::sync::Arc;

use druse_object::{Object, yaml};

use crate::config::{self, TransformerConfig};
use crate::docs::{self, DocCache};
use crate::error::{KustomizeError, Result, fail, go_quote};
use crate::fieldspec::{FieldSpec, FieldSpecs};
use crate::generators::{self, Made};
use crate::helm::{self, Helm, Inflation};
use crate::kustomization::{COMPONENT, FILE_NAMES, Kustomization};
use crate::loader::{self, LoadRestriction, Loader, Remote, RemoteContent};
use crate::origin::{Origin, plugin_origin, trace};
use crate::plugins::{self, Generator};
use crate::resource::{Resource, Resources};
use crate::schema::{Known, Schemas};
use crate::sort;
use crate::transform::vars::{self, VarSet};
use crate::transform::{self, Subjects, Transformer, nameref, patches};
use crate::tree::{self, FileTree, Kind};

/// How a build is done.
#[derive(Clone, Copy, Default)]
pub struct BuildOptions<'a> {
    /// Which files a kustomization may read.
    pub restriction: LoadRestriction,
    /// The absolute path that stands for the tree's root in messages; empty for paths relative to it.
    pub shown_root: &'a str,
    /// Gets remote resources; without it they are an error.
    pub remote: Option<&'a dyn Remote>,
    /// Renders the charts of `helmCharts`; without it they are an error, as without kustomize's `--enable-helm`.
    pub helm: Option<&'a dyn Helm>,
    /// Files parsed before; share one between builds of a tree.
    pub cache: Option<&'a DocCache>,
    /// Called with each warning that kustomize prints on standard error, in its order.
    pub warn: Option<&'a (dyn Fn(&str) + Sync)>,
    /// What `buildMetadata: [managedByLabel]` says the version of kustomize is; `v5.8.1` when empty.
    pub version: &'a str,
}

/// Builds the kustomization in a folder of a tree: the objects in the order `kubectl kustomize` prints them.
///
/// # Errors
/// When kustomize would fail, with its message; [`KustomizeError::file`] says where.
pub fn build(tree: &dyn FileTree, dir: &str, options: &BuildOptions<'_>) -> Result<Vec<Object>> {
    let loader = Loader::new(tree, dir, options.restriction, options.shown_root, options.remote)?;
    let target = load_target(loader, options)?;
    run(&target, options)
}

/// Builds a kustomization that no file holds, as if it stood in a folder of the tree.
///
/// # Errors
/// As [`build`].
pub fn build_with(
    tree: &dyn FileTree,
    dir: &str,
    kustomization: &Kustomization,
    options: &BuildOptions<'_>,
) -> Result<Vec<Object>> {
    let loader = Loader::new(tree, dir, options.restriction, options.shown_root, options.remote)?;
    let file = tree::join(&loader.dir, FILE_NAMES[0]).unwrap_or_default();
    let target = Target {
        loader,
        file_name: FILE_NAMES[0].to_string(),
        file,
        text: String::new(),
        k: kustomization.clone(),
        helm_namespace: String::new(),
    };
    run(&target, options)
}

/// The path of a folder's kustomization file, when it has one.
#[must_use]
pub fn kustomization_file(tree: &dyn FileTree, dir: &str) -> Option<String> {
    FILE_NAMES.iter().filter_map(|name| tree::join(dir, name)).find(|path| tree.kind(path) == Some(Kind::File))
}

/// Writes objects as `kubectl kustomize` prints them.
#[must_use]
pub fn to_yaml(objects: &[Object]) -> String {
    let mut out = String::new();
    for object in objects {
        if !out.is_empty() {
            out.push_str("---\n");
        }
        out.push_str(&yaml::to_string(&object.value));
    }
    out
}

/// A kustomization with its place.
struct Target<'a> {
    loader: Loader<'a>,
    file_name: String,
    /// The file's path in the tree.
    file: String,
    text: String,
    k: Kustomization,
    /// The namespace of the kustomization this one is a base of, for its charts.
    helm_namespace: String,
}

impl Target<'_> {
    /// The namespace that the charts of its bases get when they have none.
    fn for_bases(&self) -> &str {
        if self.k.namespace.is_empty() { &self.helm_namespace } else { &self.k.namespace }
    }

    /// Places an error at the line of the file that has a word.
    fn place(&self, e: KustomizeError, word: &str) -> KustomizeError {
        let line = self.text.lines().position(|l| l.contains(word)).map_or(0, |i| i + 1);
        e.at(&self.file, u32::try_from(line).unwrap_or(0))
    }
}

fn load_target<'t>(loader: Loader<'t>, options: &BuildOptions<'_>) -> Result<Target<'t>> {
    let mut found: Vec<(&str, String, Arc<[u8]>)> = Vec::new();
    for name in FILE_NAMES {
        match loader.load(name) {
            Ok((file, bytes)) => found.push((name, file, bytes)),
            // A file that is there but cannot be read is an error of its own.
            Err(e) if e.file.is_some() => return Err(e),
            Err(_) => {}
        }
    }
    let shown = loader.shown_dir();
    let (name, file, bytes) = match (found.pop(), found.is_empty()) {
        (Some(one), true) => one,
        (None, _) => {
            return Err(fail!(
                "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory \
                 '{shown}'"
            )
            .help("add a kustomization.yaml that lists the folder's manifests under resources"));
        }
        _ => {
            return Err(fail!("Found multiple kustomization files under: {shown}\n")
                .help("keep one of them")
                .at(&loader.dir, 0));
        }
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let k = Kustomization::parse(&text, &mut |warning| {
        if let Some(warn) = options.warn {
            warn(warning);
        }
    })
    .map_err(|e| {
        let line = e.line;
        e.at(&file, line)
    })?;
    let errors = k.type_errors();
    if !errors.is_empty() {
        return Err(fail!("Failed to read kustomization file under {shown}:\n{}", errors.join("\n")).at(&file, 0));
    }
    Ok(Target { loader, file_name: name.to_string(), file, text, k, helm_namespace: String::new() })
}

fn run(target: &Target<'_>, options: &BuildOptions<'_>) -> Result<Vec<Object>> {
    let local_cache;
    let cache = match options.cache {
        Some(cache) => cache,
        None => {
            local_cache = DocCache::new();
            &local_cache
        }
    };
    let mut build = Build { options, cache, schemas: Known::default(), metadata: &target.k.build_metadata };
    build.set_schema(target)?;
    let origin = (!build.metadata.is_empty()).then(Origin::default);
    let mut all = build.accumulate(target, Accumulated::default(), origin.as_ref())?;
    transform::add_hashes(&mut all.resources);
    nameref::apply(&mut all.resources, &all.config.name_reference)?;
    all.vars.resolve(&mut all.resources, &all.config.var_reference)?;
    drop_local(&mut all.resources);
    sort::apply(&mut all.resources, target.k.sort_options.as_ref())?;
    let wants = |word: &str| target.k.build_metadata.iter().any(|w| w == word);
    if wants("managedByLabel") {
        let version = if options.version.is_empty() { "v5.8.1" } else { options.version };
        let labels = [("app.kubernetes.io/managed-by".to_string(), format!("kustomize-{version}"))].into();
        let specs = FieldSpecs(vec![FieldSpec::any("metadata/labels", true)]);
        Transformer::Labels { labels, specs }.apply(&mut all.resources, &build.schemas)?;
    }
    let (origins, transformations) = (wants("originAnnotations"), wants("transformerAnnotations"));
    all.resources.into_list().into_iter().map(|r| r.finish(origins, transformations)).collect()
}

fn drop_local(resources: &mut Resources) {
    let is_local = |r: &Resource| {
        r.value
            .at(["metadata", "annotations"])
            .and_then(|a| a.get("config.kubernetes.io/local-config"))
            .is_some_and(|v| crate::ids::text(v) != "false")
    };
    if resources.iter().any(|r| is_local(r) || r.is_empty()) {
        resources.list_mut().retain(|r| !is_local(r) && !r.is_empty());
    }
}

/// What a kustomization has gathered so far.
#[derive(Clone, Default)]
struct Accumulated {
    resources: Resources,
    config: Arc<TransformerConfig>,
    vars: VarSet,
}

impl Accumulated {
    fn merge_config(&mut self, other: &Arc<TransformerConfig>) -> Result<()> {
        // The defaults merged with nothing or with themselves are the defaults. Others change even then: of two specs
        // of a field only the first stays when it is for some kinds and the second for all.
        let builtin = TransformerConfig::builtin();
        if Arc::ptr_eq(other, &builtin) {
            if Arc::ptr_eq(&self.config, &builtin) {
                return Ok(());
            }
            if *self.config == TransformerConfig::default() {
                self.config = builtin;
                return Ok(());
            }
        }
        Arc::make_mut(&mut self.config).merge(other)
    }

    fn merge(&mut self, other: Accumulated) -> Result<()> {
        self.resources.append_all(other.resources.into_list())?;
        self.merge_config(&other.config)?;
        self.vars.merge(other.vars)
    }
}

struct Build<'a> {
    options: &'a BuildOptions<'a>,
    cache: &'a DocCache,
    schemas: Known,
    metadata: &'a [String],
}

/// A transformer with the text of its origin.
type Traced = (Transformer, Option<String>);

impl Build<'_> {
    /// Takes over the schema of a kustomization's `openapi` field; the first one counts.
    fn set_schema(&mut self, target: &Target<'_>) -> Result<()> {
        let openapi = &target.k.openapi;
        let bytes = match openapi.get("path") {
            Some(path) => Some((path, target.loader.load(path).map_err(|e| target.place(e, path))?.1)),
            None => None,
        };
        if self.schemas.is_given() {
            return Ok(());
        }
        let version = openapi.get("version");
        match (bytes, version) {
            (Some(_), Some(_)) => Err(fail!("builtin version and custom schema provided, cannot use both")),
            (Some((path, bytes)), None) => {
                let text = String::from_utf8_lossy(&bytes);
                let document = yaml::parse(&text, yaml::Dialect::Sigs)
                    .map_err(|e| fail!("invalid schema file: yaml: line {}: {}", e.line, e.message).at(path, e.line))?;
                self.schemas = Known::from(Schemas::from_openapi(&document)?);
                Ok(())
            }
            (None, Some(version)) if version == "v1.21.2" => Ok(()),
            (None, Some(_)) => Err(target.place(fail!("the specified OpenAPI version is not built in"), "openapi")),
            (None, None) => Ok(()),
        }
    }

    fn accumulate(&mut self, target: &Target<'_>, so_far: Accumulated, origin: Option<&Origin>) -> Result<Accumulated> {
        let mut all = so_far;
        self.add_resources(target, &mut all, &target.k.resources, origin)
            .map_err(|e| e.wrap("accumulating resources"))?;
        all.merge_config(&self.config(target)?)?;
        if !target.k.crds.is_empty() {
            let mut config = TransformerConfig::default();
            for path in &target.k.crds {
                let (_, bytes) = target.loader.load(path).map_err(|e| {
                    target.place(e.wrap(format_args!("loading CRDs [{}]", target.k.crds.join(" "))), path)
                })?;
                config.merge(&config::from_crds(&String::from_utf8_lossy(&bytes), path)?)?;
            }
            if config != TransformerConfig::default() {
                all.merge_config(&Arc::new(config))?;
            }
        }
        self.generate(target, &mut all, origin)?;
        for path in &target.k.components {
            let inner = self
                .enter(target, path)
                .map_err(|e| e.message(|m| format!("loader.New {}", go_quote(&m))))
                .and_then(|loader| {
                    let origin = origin.map(|o| o.append(path));
                    self.add_directory(loader, std::mem::take(&mut all), true, origin.as_ref(), target.for_bases())
                        .map_err(|e| e.message(|m| format!("accumulateDirectory: {}", go_quote(&m))))
                });
            all = inner.map_err(|e| target.place(e.wrap("accumulating components"), path))?;
        }
        for (transformer, origin) in self.transformers(target, &all.config, origin)? {
            transformer.apply(&mut all.resources, &self.schemas).map_err(|e| target.place(e, transformer.field()))?;
            if let Some(origin) = origin {
                trace(&mut all.resources, &origin);
            }
            all.resources.drop_empty();
        }
        self.validate(target, &mut all, origin)?;
        let Accumulated { vars: declared, resources, .. } = &mut all;
        declared.declare(&target.k.vars, resources).map_err(|e| {
            let e = e.wrap(format_args!("merging vars {}", vars::shown_unread(&target.k.vars)));
            target.place(e, "vars")
        })?;
        Ok(all)
    }

    fn config(&self, target: &Target<'_>) -> Result<Arc<TransformerConfig>> {
        let builtin = TransformerConfig::builtin();
        if target.k.configurations.is_empty() {
            return Ok(builtin);
        }
        let mut own = TransformerConfig::default();
        for path in &target.k.configurations {
            let (file, bytes) = target.loader.load(path).map_err(|e| target.place(e, path))?;
            let config = TransformerConfig::parse(&String::from_utf8_lossy(&bytes)).map_err(|e| e.at(&file, 0))?;
            own.merge(&config)?;
        }
        let mut config = (*builtin).clone();
        config.merge(&own).map_err(|e| target.place(e, "configurations"))?;
        Ok(Arc::new(config))
    }

    fn add_resources(
        &mut self,
        target: &Target<'_>,
        all: &mut Accumulated,
        paths: &[String],
        origin: Option<&Origin>,
    ) -> Result<()> {
        for path in paths {
            let as_file = match self.add_file(target, all, path, origin) {
                Ok(()) => continue,
                Err(e) => e,
            };
            let loader = match self.enter(target, path) {
                Ok(loader) => loader,
                Err(_) if as_file.message.contains("MalformedYAMLError") => {
                    return Err(target.place(as_file, path));
                }
                Err(e) => {
                    let mut e = e.wrap(format_args!("accumulation err='{}'", as_file.message));
                    // What the file's own error knows of its place and of a remedy is better.
                    if as_file.file.is_some() {
                        (e.file, e.line) = (as_file.file, as_file.line);
                    }
                    e.remedy = as_file.remedy.or(e.remedy);
                    return Err(target.place(e, path));
                }
            };
            let inner_origin = origin.map(|o| o.append(path));
            let inner =
                self.add_directory(loader, Accumulated::default(), false, inner_origin.as_ref(), target.for_bases());
            let merged = inner.and_then(|inner| {
                all.merge(inner).map_err(|e| {
                    let dir = tree::join(&target.loader.dir, path).unwrap_or_default();
                    e.wrap(format_args!("recursed merging from path '{}'", target.loader.shown(&dir)))
                })
            });
            merged.map_err(|e| target.place(e.wrap(format_args!("accumulation err='{}'", as_file.message)), path))?;
        }
        Ok(())
    }

    fn enter<'t>(&self, target: &Target<'t>, path: &str) -> Result<Loader<'t>> {
        if target.loader.tree.get().kind(&tree::join(&target.loader.dir, path).unwrap_or_default()).is_none()
            && loader::is_remote(path)
        {
            return match target.loader.get(path)? {
                RemoteContent::Tree { tree, dir } => target.loader.enter_remote(path, tree, &dir),
                RemoteContent::File(_) => Err(fail!("'{path}' is a file, not a directory")),
            };
        }
        target.loader.enter(path)
    }

    fn add_file(&self, target: &Target<'_>, all: &mut Accumulated, path: &str, origin: Option<&Origin>) -> Result<()> {
        let found = target
            .loader
            .load(path)
            .and_then(|(file, bytes)| {
                docs::from_file(self.cache, &file, &bytes).map_err(|e| patches::malformed(e, path))
            })
            .and_then(|list| {
                let mut own = Resources::default();
                own.append_all(list)?;
                Ok(own)
            });
        let mut list = found.map_err(|e| e.wrap(format_args!("accumulating resources from '{path}'")))?.into_list();
        if let Some(origin) = origin {
            let text: Arc<str> = origin.append(path).text().into();
            list.iter_mut().for_each(|r| r.origin = Some(text.clone()));
        }
        all.resources.append_all(list).map_err(|e| e.wrap(format_args!("merging resources from '{path}'")))
    }

    fn add_directory(
        &mut self,
        loader: Loader<'_>,
        so_far: Accumulated,
        component: bool,
        origin: Option<&Origin>,
        helm_namespace: &str,
    ) -> Result<Accumulated> {
        let shown = loader.shown_dir();
        let mut inner = load_target(loader, self.options)
            .map_err(|e| e.wrap(format_args!("couldn't make target for path '{shown}'")))?;
        inner.helm_namespace = helm_namespace.to_string();
        self.set_schema(&inner)?;
        let is_component = inner.k.kind == COMPONENT;
        if component && !is_component {
            return Err(fail!("expected kind '{COMPONENT}' for path '{shown}' but got '{}'", inner.k.kind)
                .at(&inner.file, 0)
                .help("list it under resources, or make it a component"));
        }
        if !component && is_component {
            return Err(fail!("expected kind != '{COMPONENT}' for path '{shown}'")
                .at(&inner.file, 0)
                .help("list it under components"));
        }
        self.accumulate(&inner, so_far, origin)
            .map_err(|e| e.wrap(format_args!("recursed accumulation of path '{shown}'")))
    }

    fn generate(&mut self, target: &Target<'_>, all: &mut Accumulated, origin: Option<&Origin>) -> Result<()> {
        let k = &target.k;
        // A generator with its origin and a word to place errors by.
        let mut list: Vec<(Generator<'_>, Option<Arc<str>>, String)> = Vec::new();
        let built_in = |kind| origin.map(|o| o.configured(&target.file_name, "builtin", kind, "").into());
        let entries = k
            .config_map_generator
            .iter()
            .map(|a| (Made::ConfigMap, a))
            .chain(k.secret_generator.iter().map(|a| (Made::Secret, a)));
        for (made, args) in entries {
            let (field, kind) = match made {
                Made::ConfigMap => ("configMapGenerator", "ConfigMapGenerator"),
                Made::Secret => ("secretGenerator", "SecretGenerator"),
            };
            let mut args = args.clone();
            args.options = generators::with_global(args.options, k.generator_options.as_ref());
            let word = if args.name.is_empty() { field.to_string() } else { args.name.clone() };
            let generator = Generator::Data { made, args: Box::new(args), file: target.file.clone() };
            list.push((generator, built_in(kind), word));
        }
        for chart in &k.helm_charts {
            let mut chart = chart.clone();
            if chart.namespace.is_empty() {
                chart.namespace =
                    if k.namespace.is_empty() { target.helm_namespace.clone() } else { k.namespace.clone() };
            }
            let globals = k.helm_globals.clone().unwrap_or_default();
            let config = helm::shown(&globals, &chart);
            let inflation = helm::enabled(self.options.helm)
                .and_then(|helm| Inflation::new(helm, globals, chart, &target.loader))
                .map_err(|e| patches::configuring(e, "HelmChartInflationGenerator", &config))
                .map_err(|e| target.place(e, "helmChart"))?;
            let origin = built_in("HelmChartInflationGenerator");
            list.push((Generator::Helm(Box::new(inflation)), origin, "helmChart".to_string()));
        }
        for object in self
            .plugin_objects(target, &k.generators, origin)
            .map_err(|e| target.place(e.wrap("loading generator plugins"), "generators"))?
        {
            let generator = plugins::generator(&object, &target.loader, self.options.helm)
                .map_err(|e| target.place(e.wrap("loading generator plugins"), "generators"))?;
            let origin = plugin_origin(&object, origin, &target.file_name).map(Into::into);
            list.push((generator, origin, "generators".to_string()));
        }
        for (generator, origin, word) in list {
            let made = generator.run(&target.loader).map_err(|e| target.place(e, &word))?;
            for mut resource in made {
                resource.origin.clone_from(&origin);
                all.resources.absorb(resource).map_err(|e| target.place(e.wrap("merging from generator"), &word))?;
            }
        }
        Ok(())
    }

    /// The objects that configure plugins: written in line, or in files and folders.
    fn plugin_objects(
        &mut self,
        target: &Target<'_>,
        entries: &[String],
        origin: Option<&Origin>,
    ) -> Result<Vec<Resource>> {
        let mut all = Accumulated::default();
        let mut paths = Vec::new();
        for entry in entries {
            match docs::from_text(entry, &target.file) {
                Ok(objects) => all.resources.append_all(objects)?,
                Err(_) => paths.push(entry.clone()),
            }
        }
        self.add_resources(target, &mut all, &paths, origin)?;
        Ok(all.resources.into_list())
    }

    fn transformers(
        &mut self,
        target: &Target<'_>,
        config: &TransformerConfig,
        origin: Option<&Origin>,
    ) -> Result<Vec<Traced>> {
        let k = &target.k;
        let mut list: Vec<(Transformer, &str)> = Vec::new();
        if !k.patches_strategic_merge.is_empty() {
            let patches = patches::from_legacy_entries(&k.patches_strategic_merge, &target.loader, &target.file)
                .map_err(|e| target.place(e, "patchesStrategicMerge"))?;
            list.push((Transformer::Patches(vec![patches]), "PatchStrategicMergeTransformer"));
        }
        for entry in &k.patches {
            let word = if entry.path.is_empty() { "patches" } else { &entry.path };
            let patches =
                patches::from_entry(entry, &target.loader, &target.file).map_err(|e| target.place(e, word))?;
            list.push((Transformer::Patches(vec![patches]), "PatchTransformer"));
        }
        if !k.namespace.is_empty() {
            let transformer = Transformer::Namespace {
                namespace: k.namespace.clone(),
                specs: config.namespace.clone(),
                unset_only: false,
                subjects: Subjects::default(),
            };
            list.push((transformer, "NamespaceTransformer"));
        }
        if !k.name_prefix.is_empty() {
            let transformer = Transformer::Prefix { prefix: k.name_prefix.clone(), specs: config.name_prefix.clone() };
            list.push((transformer, "PrefixTransformer"));
        }
        if !k.name_suffix.is_empty() {
            let transformer = Transformer::Suffix { suffix: k.name_suffix.clone(), specs: config.name_suffix.clone() };
            list.push((transformer, "SuffixTransformer"));
        }
        for transformer in label_transformers(k, config).map_err(|e| target.place(e, "labels"))? {
            list.push((transformer, "LabelTransformer"));
        }
        if !k.common_annotations.is_empty() {
            let transformer = Transformer::Annotations {
                annotations: k.common_annotations.clone(),
                specs: config.common_annotations.clone(),
            };
            list.push((transformer, "AnnotationsTransformer"));
        }
        for entry in &k.patches_json6902 {
            let patches = patches::from_json_entry(entry, &target.loader, &target.file)
                .map_err(|e| target.place(e, "patchesJson6902"))?;
            list.push((Transformer::Patches(vec![patches]), "PatchJson6902Transformer"));
        }
        for replica in &k.replicas {
            let transformer = Transformer::Replicas { replica: replica.clone(), specs: config.replicas.clone() };
            list.push((transformer, "ReplicaCountTransformer"));
        }
        for image in &k.images {
            let transformer = Transformer::Image { image: image.clone(), specs: config.images.clone() };
            list.push((transformer, "ImageTagTransformer"));
        }
        if !k.replacements.is_empty() {
            let replacements = plugins::replacements_field(&k.replacements, &target.loader)
                .map_err(|e| target.place(e, "replacements"))?;
            list.push((Transformer::Replacements(replacements), "ReplacementTransformer"));
        }
        let mut traced: Vec<Traced> = list
            .into_iter()
            .map(|(t, kind)| (t, origin.map(|o| o.configured(&target.file_name, "builtin", kind, ""))))
            .collect();
        for object in self.plugin_objects(target, &k.transformers, origin)? {
            let origin = plugin_origin(&object, origin, &target.file_name);
            for transformer in
                plugins::transformers(&object, &target.loader).map_err(|e| target.place(e, "transformers"))?
            {
                traced.push((transformer, origin.clone()));
            }
        }
        Ok(traced)
    }

    fn validate(&mut self, target: &Target<'_>, all: &mut Accumulated, origin: Option<&Origin>) -> Result<()> {
        for object in self.plugin_objects(target, &target.k.validators, origin)? {
            let mut copy = all.resources.clone();
            for transformer in
                plugins::transformers(&object, &target.loader).map_err(|e| target.place(e, "validators"))?
            {
                transformer.apply(&mut copy, &self.schemas).map_err(|e| target.place(e, "validators"))?;
            }
            let unlabelled = |r: &Resource| {
                let mut value = r.value.clone();
                if let Some(labels) = value.make_map_at(["metadata", "labels"]) {
                    labels.remove("validated-by");
                }
                value
            };
            let same = copy.len() == all.resources.len()
                && copy.iter().zip(all.resources.iter()).all(|(a, b)| unlabelled(a) == unlabelled(b));
            if !same {
                let gone = all.resources.iter().map(Resource::id).find(|id| !copy.iter().any(|r| r.id().same(id)));
                let why = match gone {
                    Some(id) => format!("id in self missing from other; id: {id}"),
                    None => "nodes unequal".to_string(),
                };
                return Err(target.place(fail!("validator shouldn't modify the resource map: {why}"), "validators"));
            }
        }
        Ok(())
    }
}

fn label_transformers(k: &Kustomization, config: &TransformerConfig) -> Result<Vec<Transformer>> {
    let mut out = Vec::new();
    for label in &k.labels {
        let mut specs = FieldSpecs(label.fields.clone());
        let failed = |e: KustomizeError| e.wrap("failed to merge labels");
        specs.merge(&config.labels).map_err(failed)?;
        if label.include_selectors {
            specs.merge(&config.common_labels).map_err(failed)?;
        } else {
            if label.include_templates {
                specs.merge(&config.template_labels).map_err(|e| e.wrap("failed to merge template fieldSpec"))?;
            }
            specs.add(&FieldSpec::any("metadata/labels", true)).map_err(failed)?;
        }
        out.push(Transformer::Labels { labels: label.pairs.clone(), specs });
    }
    if !k.common_labels.is_empty() {
        out.push(Transformer::Labels { labels: k.common_labels.clone(), specs: config.common_labels.clone() });
    }
    Ok(out)
}

impl KustomizeError {
    fn message(mut self, change: impl FnOnce(String) -> String) -> Self {
        self.message = change(self.message);
        self
    }
}

impl Transformer {
    /// The field of a kustomization file that asks for it, to place errors.
    fn field(&self) -> &'static str {
        match self {
            Self::Patches(_) => "patches",
            Self::Namespace { .. } => "namespace",
            Self::Prefix { .. } => "namePrefix",
            Self::Suffix { .. } => "nameSuffix",
            Self::Labels { .. } => "abels",
            Self::Annotations { .. } => "commonAnnotations",
            Self::Replicas { .. } => "replicas",
            Self::Image { .. } => "images",
            Self::Replacements(_) => "replacements",
            Self::ValueAdd { .. } | Self::Hash => "transformers",
        }
    }
}
