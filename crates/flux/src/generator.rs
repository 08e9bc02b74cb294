//! The kustomization that a Flux Kustomization really builds: the folder's own or one made of all its YAML, with the
//! Kustomization's spec merged in.
//!
//! Source of behaviour: `Generator` of fluxcd/pkg/kustomize and `build` of fluxcd/kustomize-controller.

use druse_kustomize::tree::{FileTree, Kind, MemoryTree, OverlayTree, join};
use druse_object::{Map, Object, Value, json, yaml};

use crate::api::{Image, KustomizationSpec, Patch, Selector};
use crate::decrypt::{self, Decryption};
use crate::error::FluxError;
use crate::sourceignore::path_in;

/// The names kustomize looks for.
pub const KUSTOMIZATION_FILES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// How deep folders are searched for manifests.
const MAX_DEPTH: usize = 64;

/// A kustomization to build in place of a folder's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Its path in the tree.
    pub file: String,
    /// What it says.
    pub value: Value,
    /// Whether the folder had none.
    pub created: bool,
}

/// The folder that a `spec.path` names: relative to the source's root however it is written, never above it.
#[must_use]
pub fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The kustomization file of a folder, if it has one.
#[must_use]
pub fn kustomization_file(tree: &dyn FileTree, dir: &str) -> Option<String> {
    KUSTOMIZATION_FILES.iter().map(|name| path_in(dir, name)).find(|path| tree.kind(path) == Some(Kind::File))
}

/// Makes the kustomization of folder `dir` (as [`clean_path`] gives it) under a Kustomization's spec.
///
/// # Errors
/// When the folder or its kustomization cannot be read, or a component is not local.
pub fn generate(tree: &dyn FileTree, dir: &str, spec: &KustomizationSpec) -> Result<Generated, FluxError> {
    if tree.kind(dir) != Some(Kind::Dir) {
        return Err(FluxError::PathNotFound(format!("/{dir}")));
    }
    let (file, mut kus, created) = match kustomization_file(tree, dir) {
        Some(file) => {
            let located = |line, message| {
                FluxError::Build(Box::new(druse_kustomize::KustomizeError::new(message).at(&file, line)))
            };
            let bytes = tree.read(&file).map_err(|e| located(0, e.to_string()))?;
            let text = std::str::from_utf8(&bytes).map_err(|e| located(0, format!("invalid Kustomization: {e}")))?;
            let value = yaml::parse(text, yaml::Dialect::Sigs).map_err(|e| FluxError::Kustomization {
                file: file.clone(),
                line: e.line,
                message: format!("error converting YAML to JSON: {}", e.go_text_v3()),
            })?;
            let map = match value {
                Value::Map(map) => map,
                Value::Null => Map::new(),
                other => {
                    return Err(located(
                        1,
                        format!("invalid Kustomization: expected a map, found {}", other.kind_name()),
                    ));
                }
            };
            (file, map, false)
        }
        None => {
            let mut found = Vec::new();
            scan(tree, dir, ".", 0, &mut found)?;
            let mut map = Map::new();
            if found.is_empty() {
                // kustomize refuses an empty kustomization; Flux gives it something to say.
                map.insert("namespace", "_placeholder");
            } else {
                map.insert("resources", found.into_iter().collect::<Value>());
            }
            (path_in(dir, KUSTOMIZATION_FILES[0]), map, true)
        }
    };
    for (field, default) in [("apiVersion", "kustomize.config.k8s.io/v1beta1"), ("kind", "Kustomization")] {
        if !kus.contains_key(field) {
            kus.insert(field, default);
        }
    }
    if !created && kus.get("resources").is_none_or(|r| r.items().is_empty()) {
        kus.insert("buildMetadata", ["originAnnotations"].into_iter().collect::<Value>());
    }
    merge(&mut kus, tree, dir, spec)?;
    Ok(Generated { file, value: Value::Map(kus), created })
}

fn scan(tree: &dyn FileTree, dir: &str, shown: &str, depth: usize, out: &mut Vec<String>) -> Result<(), FluxError> {
    if depth > MAX_DEPTH {
        return Err(FluxError::Generator(format!("{dir}: folders are nested more than {MAX_DEPTH} deep")));
    }
    for name in tree.list(dir).map_err(|e| FluxError::Generator(e.to_string()))? {
        let path = path_in(dir, &name);
        // Artifacts hold no links.
        if tree.canonical(&path) != path {
            continue;
        }
        match tree.kind(&path) {
            Some(Kind::Dir) if kustomization_file(tree, &path).is_some() => out.push(format!("{shown}/{name}")),
            Some(Kind::Dir) => scan(tree, &path, &format!("{shown}/{name}"), depth + 1, out)?,
            Some(Kind::File) if name.ends_with(".yaml") || name.ends_with(".yml") => {
                out.push(format!("{shown}/{name}"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn merge(kus: &mut Map, tree: &dyn FileTree, dir: &str, spec: &KustomizationSpec) -> Result<(), FluxError> {
    for (field, value) in
        [("namespace", &spec.target_namespace), ("namePrefix", &spec.name_prefix), ("nameSuffix", &spec.name_suffix)]
    {
        if let Some(value) = value {
            kus.insert(field, value.clone());
        }
    }
    append(kus, "patches", spec.patches.iter().map(patch_value));
    let mut components = Vec::new();
    for component in &spec.components {
        if !is_local(component) {
            return Err(FluxError::Generator(format!("component path '{component}' must be local and relative")));
        }
        let present = join(dir, component).is_some_and(|path| tree.kind(&path).is_some());
        if present || !spec.ignore_missing_components {
            components.push(Value::String(component.clone()));
        }
    }
    append(kus, "components", components.into_iter());
    append(kus, "patchesStrategicMerge", spec.patches_strategic_merge.iter().map(|p| Value::from(json::to_string(p))));
    append(kus, "patchesJson6902", spec.patches_json6902.iter().map(json6902));
    merge_images(kus, &spec.images);
    if !spec.build_metadata.is_empty() {
        kus.insert("buildMetadata", spec.build_metadata.iter().cloned().collect::<Value>());
    }
    Ok(())
}

fn append(kus: &mut Map, field: &str, values: impl ExactSizeIterator<Item = Value>) {
    if values.len() == 0 {
        return;
    }
    let list = kus.entry_or_null(field);
    match list {
        Value::Array(a) => a.extend(values),
        other => *other = values.collect(),
    }
}

/// A patch as a kustomization has it.
pub(crate) fn patch_value(patch: &Patch) -> Value {
    let mut out = Map::new();
    out.insert("patch", patch.patch.clone());
    if let Some(target) = &patch.target {
        out.insert("target", selector_value(target));
    }
    out.into()
}

fn selector_value(s: &Selector) -> Value {
    let fields = [
        ("group", &s.group),
        ("version", &s.version),
        ("kind", &s.kind),
        ("name", &s.name),
        ("namespace", &s.namespace),
        ("labelSelector", &s.label_selector),
        ("annotationSelector", &s.annotation_selector),
    ];
    fields.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k, v.clone())).collect::<Map>().into()
}

/// A JSON patch of the older APIs (operations as data) as a kustomization has it (operations as text).
pub(crate) fn json6902(patch: &Value) -> Value {
    let mut out = Map::new();
    if let Some(target) = patch.get("target") {
        out.insert("target", target.clone());
    }
    out.insert("patch", json::to_string(&patch["patch"]));
    out.into()
}

/// An image as a kustomization has it.
pub(crate) fn image_value(image: &Image) -> Value {
    let fields =
        [("name", &image.name), ("newName", &image.new_name), ("newTag", &image.new_tag), ("digest", &image.digest)];
    fields.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k, v.clone())).collect::<Map>().into()
}

/// Puts images over those of the kustomization: name by name, tag and digest together, as one selects the version.
fn merge_images(kus: &mut Map, images: &[Image]) {
    if images.is_empty() {
        return;
    }
    let list = kus.entry_or_null("images");
    if list.as_array().is_none() {
        *list = Value::Array(Vec::new());
    }
    let Some(list) = list.as_array_mut() else { return };
    for image in images {
        let found = list.iter_mut().find(|i| i.str_at(["name"]) == Some(&image.name)).and_then(Value::as_map_mut);
        let Some(entry) = found else {
            list.push(image_value(image));
            continue;
        };
        if !image.new_name.is_empty() {
            entry.insert("newName", image.new_name.clone());
        }
        if !image.new_tag.is_empty() || !image.digest.is_empty() {
            for (field, value) in [("newTag", &image.new_tag), ("digest", &image.digest)] {
                if value.is_empty() {
                    entry.remove(field);
                } else {
                    entry.insert(field, value.clone());
                }
            }
        }
    }
}

fn is_local(path: &str) -> bool {
    let lower = path.to_lowercase();
    let remote = ["git::", "gh:", "ssh://", "https://", "http://", "git@", "github.com:", "github.com/"];
    !remote.iter().any(|p| lower.starts_with(p)) && !lower.strip_prefix("file://").unwrap_or(&lower).starts_with('/')
}

/// Builds a Kustomization's folder: [`generate`], then kustomize. Every result has a name, kind and API version.
/// Nothing is decrypted, variables are not substituted and origin labels not set yet.
///
/// # Errors
/// When the kustomization cannot be made or built.
pub fn build(tree: &dyn FileTree, spec: &KustomizationSpec) -> Result<Vec<Object>, FluxError> {
    // Flux keeps the order in which kustomize meets the objects, where the kustomization does not ask for another.
    build_in_order(tree, spec, &BuildSettings { as_met: true, ..BuildSettings::default() })
}

/// How a unit's folder is built.
#[derive(Clone, Copy, Default)]
pub struct BuildSettings<'a> {
    /// Parsed files shared by several builds.
    pub cache: Option<&'a druse_kustomize::DocCache>,
    /// Whether objects stay in the order in which kustomize meets them, as in Flux; by kind otherwise.
    pub as_met: bool,
    /// The keys, where the spec asks for decryption.
    pub decryption: Option<&'a Decryption>,
    /// Gets what kustomizations name by URL.
    pub remote: Option<&'a dyn druse_kustomize::Remote>,
}

/// As [`build`], with decryption and remote resources.
///
/// # Errors
/// As [`build`], and when something encrypted does not open and may not be masked.
pub fn build_with(
    tree: &dyn FileTree,
    spec: &KustomizationSpec,
    settings: &BuildSettings<'_>,
) -> Result<(Vec<Object>, decrypt::Notes), FluxError> {
    let mut notes = decrypt::Notes::default();
    let Some(decryption) = settings.decryption.filter(|_| decrypt::is_wanted(spec)) else {
        return Ok((build_in_order(tree, spec, settings)?, notes));
    };
    let files = decrypt::files(tree, &clean_path(&spec.path), decryption, &mut notes)?;
    let tree = OverlayTree::new(files, tree);
    let mut objects = build_in_order(&tree, spec, settings)?;
    decrypt::objects(&mut objects, decryption, &mut notes)?;
    Ok((objects, notes))
}

fn build_in_order(
    tree: &dyn FileTree,
    spec: &KustomizationSpec,
    settings: &BuildSettings<'_>,
) -> Result<Vec<Object>, FluxError> {
    let dir = clean_path(&spec.path);
    let mut generated = generate(tree, &dir, spec)?;
    if let Some(kus) = generated.value.as_map_mut().filter(|k| settings.as_met && !k.contains_key("sortOptions")) {
        kus.insert("sortOptions", [("order", "fifo")].into_iter().collect::<Map>());
    }
    let mut upper = MemoryTree::new();
    upper.insert(&generated.file, json::to_string(&generated.value).into_bytes());
    let tree = OverlayTree::new(upper, tree);
    let options = druse_kustomize::BuildOptions {
        restriction: druse_kustomize::LoadRestriction::None,
        cache: settings.cache,
        remote: settings.remote,
        ..Default::default()
    };
    let objects = druse_kustomize::build(&tree, &dir, &options).map_err(|e| match undecoded(&e) {
        // Where there is no kustomization, Flux reads the manifests itself and says so.
        Some(error) if generated.created => error,
        _ => FluxError::Build(Box::new(e)),
    })?;
    for o in &objects {
        if o.name().is_empty() || o.kind().is_empty() || o.api_version().is_empty() {
            return Err(FluxError::NotAnObject(format!("{}", o.provenance)));
        }
    }
    Ok(objects)
}

/// The error of a manifest that is not YAML, unless it is one of another kustomization's.
fn undecoded(e: &druse_kustomize::KustomizeError) -> Option<FluxError> {
    let rest = e.message.strip_prefix("accumulating resources: accumulating resources from './")?;
    let (_, message) = rest.split_once("': ")?;
    let message = message.strip_prefix("MalformedYAMLError: ")?;
    let message = message.rsplit_once(" in File: ").map_or(message, |(m, _)| m);
    Some(FluxError::Decode { file: e.file.clone()?, line: e.line, message: format!("MalformedYAMLError: {message}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> KustomizationSpec {
        json::parse(json.as_bytes()).unwrap().to_typed().unwrap()
    }

    #[test]
    fn a_folder_without_kustomization_gets_one_of_all_its_yaml() {
        let tree: MemoryTree = [
            ("app/b.yaml", ""),
            ("app/a/c.yml", ""),
            ("app/a/notes.txt", ""),
            ("app/own/kustomization.yaml", "resources: []"),
            ("app/own/x.yaml", ""),
        ]
        .into_iter()
        .collect();
        let g = generate(&tree, "app", &spec("{}")).unwrap();
        assert!(g.created);
        assert_eq!(g.file, "app/kustomization.yaml");
        assert_eq!(json::to_string(&g.value["resources"]), r#"["./a/c.yml","./b.yaml","./own"]"#);
        assert_eq!(
            generate(&tree, "none", &spec("{}")).unwrap_err().to_string(),
            "kustomization path not found: stat /none: no such file or directory"
        );
    }

    #[test]
    fn the_spec_is_merged_over_the_folders_own() {
        let text = "resources: [a.yaml]\nnamespace: old\nimages: [{name: x, newTag: '1', digest: d}]\npatches: [{path: p.yaml}]\n";
        let tree: MemoryTree = [("Kustomization", text)].into_iter().collect();
        let g = generate(
            &tree,
            "",
            &spec(
                r#"{"targetNamespace":"new","patches":[{"patch":"x","target":{"kind":"Deployment"}}],
                "images":[{"name":"x","newTag":"2"},{"name":"y","newName":"z"}]}"#,
            ),
        )
        .unwrap();
        assert_eq!(g.file, "Kustomization");
        assert_eq!(g.value.str_at(["namespace"]), Some("new"));
        assert_eq!(
            json::to_string(&g.value["patches"]),
            r#"[{"path":"p.yaml"},{"patch":"x","target":{"kind":"Deployment"}}]"#
        );
        assert_eq!(json::to_string(&g.value["images"]), r#"[{"name":"x","newTag":"2"},{"name":"y","newName":"z"}]"#);
    }

    #[test]
    fn paths_never_leave_the_source() {
        assert_eq!(clean_path("./a/../../b/"), "b");
        assert_eq!(clean_path("/kubernetes/x"), "kubernetes/x");
        assert_eq!(clean_path(""), "");
    }
}
