//! Patches: strategic merge and JSON patches, found by what they name or by a target.

use druse_object::{Value, patch, yaml};

use crate::docs;
use crate::error::{Result, fail, go_quote};
use crate::generators::go_json;
use crate::kustomization::{Patch, Selector};
use crate::loader::Loader;
use crate::resource::{Resource, Resources};
use crate::schema::Known;
use crate::typed;

/// Patches made ready to apply.
#[derive(Clone, Debug)]
pub(crate) enum Patches {
    /// Each for the object it names.
    Named { patches: Vec<Resource>, legacy: bool },
    /// For all objects that a selector names.
    Merge { patch: Box<Resource>, target: Selector },
    /// A JSON patch for all objects that a selector names.
    Json { patch: Value, target: Selector, remember: bool, place: (String, u32) },
    /// What is wrong is found when the patch is applied.
    Refused(crate::KustomizeError),
}

/// What a text is as a list of JSON patch operations.
fn json_operations(text: &str) -> std::result::Result<Value, String> {
    if text.is_empty() {
        return Err("empty json patch operations".to_string());
    }
    let value = yaml::parse(text, yaml::Dialect::Sigs)
        .map_err(|e| format!("error converting YAML to JSON: yaml: line {}: {}", e.line, e.message))?;
    match &value {
        Value::Array(items) if items.iter().all(|i| i.as_map().is_some()) => Ok(value),
        Value::Null => Ok(Value::Array(Vec::new())),
        other => Err(format!("json: cannot unmarshal {} into Go value of type jsonpatch.Patch", other.kind_name())),
    }
}

/// Reads an entry of `patches` or of a `PatchTransformer`; `config` is the plugin's configuration, for messages.
pub(crate) fn load(entry: &Patch, config: &str, loader: &Loader<'_>, file: &str) -> Result<Patches> {
    let inline = entry.patch.trim();
    let (text, source, place) = match (inline.is_empty(), entry.path.is_empty()) {
        (true, true) => return Err(fail!("must specify one of patch and path in\n{config}")),
        (false, false) => return Err(fail!("patch and path can't be set at the same time\n{config}")),
        (false, true) => (inline.to_string(), format!("[patch: {}]", go_quote(inline)), file.to_string()),
        (true, false) => {
            let (place, bytes) = loader
                .load(&entry.path)
                .map_err(|e| e.wrap(format_args!("failed to get the patch file from path({})", entry.path)))?;
            (String::from_utf8_lossy(&bytes).into_owned(), format!("[path: {}]", go_quote(&entry.path)), place)
        }
    };
    let objects = docs::from_text(&text, &place);
    let operations = json_operations(&text);
    if let (Ok(objects), Ok(operations)) = (&objects, &operations)
        && !objects.is_empty()
        && !operations.items().is_empty()
    {
        return Err(fail!("illegally qualifies as both an SM and JSON patch: {source}"));
    }
    let mut objects = match (objects, operations) {
        (Ok(objects), _) => objects,
        (Err(_), Ok(patch)) => {
            return match &entry.target {
                Some(target) => Ok(Patches::Json { patch, target: target.clone(), remember: true, place: (place, 0) }),
                None => {
                    let e = fail!("must specify a target for JSON patch {source}").at(&place, 0);
                    Ok(Patches::Refused(e.help("a JSON patch does not say what it is for: add a target")))
                }
            };
        }
        (Err(why), Err(_)) => {
            let line = if inline.is_empty() { why.line } else { 0 };
            return Err(fail!("unable to parse SM or JSON patch from {source}").at(&place, line).help(why.message));
        }
    };
    for object in &mut objects {
        object.options = entry.options.unwrap_or_default();
    }
    match &entry.target {
        None => Ok(Patches::Named { patches: objects, legacy: false }),
        Some(_) if objects.len() > 1 => Ok(Patches::Refused(
            fail!(
                "Multiple Strategic-Merge Patches in one `patches` entry is not allowed to set `patches.target` field: \
                 {source}"
            )
            .at(&place, 0)
            .help("give each patch an entry of its own"),
        )),
        Some(target) => match objects.pop() {
            Some(patch) => Ok(Patches::Merge { patch: Box::new(patch), target: target.clone() }),
            None => Ok(Patches::Named { patches: Vec::new(), legacy: false }),
        },
    }
}

/// An entry as kustomize hands it to its plugin, for messages. `text_field` is what the plugin calls the patch itself.
fn shown(entry: &Patch, text_field: &str) -> String {
    let mut value = Value::from_typed(entry).unwrap_or_default();
    typed::omit_empty(&mut value);
    if let Some(map) = value.as_map_mut()
        && let Some(patch) = map.remove("patch")
    {
        map.insert(text_field, patch);
    }
    yaml::to_string(&value)
}

/// An error as kustomize wraps it when a plugin of a kustomization file cannot be configured.
pub(crate) fn configuring(e: crate::KustomizeError, plugin: &str, config: &str) -> crate::KustomizeError {
    e.wrap(format_args!("trouble configuring builtin {plugin} with config: `\n{config}`"))
}

/// Reads an entry of `patches` of a kustomization file.
pub(crate) fn from_entry(entry: &Patch, loader: &Loader<'_>, file: &str) -> Result<Patches> {
    let config = shown(entry, "patch");
    load(entry, &config, loader, file).map_err(|e| configuring(e, "PatchTransformer", &config))
}

/// Reads an entry of `patchesJson6902` of a kustomization file.
pub(crate) fn from_json_entry(entry: &Patch, loader: &Loader<'_>, file: &str) -> Result<Patches> {
    load_json(entry, loader, file).map_err(|e| configuring(e, "PatchJson6902Transformer", &shown(entry, "jsonOp")))
}

/// Reads `patchesStrategicMerge` of a kustomization file.
pub(crate) fn from_legacy_entries(paths: &[String], loader: &Loader<'_>, file: &str) -> Result<Patches> {
    load_legacy(paths, "", loader, file).map_err(|e| {
        let mut map = druse_object::Map::new();
        map.insert("paths", paths.iter().map(String::as_str).collect::<Value>());
        configuring(e, "PatchStrategicMergeTransformer", &yaml::to_string(&Value::Map(map)))
    })
}

/// Reads an entry of `patchesJson6902`.
pub(crate) fn load_json(entry: &Patch, loader: &Loader<'_>, file: &str) -> Result<Patches> {
    let Some(target) = entry.target.clone() else { return Err(fail!("must specify a target for patch")) };
    if target.name.is_empty() {
        return Err(fail!("must specify the target name"));
    }
    let (text, place) = match (entry.path.is_empty(), entry.patch.is_empty()) {
        (true, true) => return Err(fail!("empty file path and empty jsonOp")),
        (false, false) => return Err(fail!("must specify a file path or jsonOp, not both")),
        (true, false) => (entry.patch.clone(), file.to_string()),
        (false, true) => {
            let (place, bytes) = loader.load(&entry.path)?;
            if bytes.is_empty() {
                return Err(fail!("patch file '{}' empty seems to be empty", entry.path).at(&place, 0));
            }
            (String::from_utf8_lossy(&bytes).into_owned(), place)
        }
    };
    let text = if text.starts_with('[') {
        text
    } else {
        // What does not look like JSON is turned into it.
        let mut value = yaml::parse(&text, yaml::Dialect::Sigs)
            .map_err(|e| fail!("error converting YAML to JSON: {}", e.go_text_v3()).at(&place, e.line))?;
        value.sort_keys();
        go_json(&value)
    };
    let patch = json_operations(&text).map_err(|e| fail!("decoding {text}: {e}").at(&place, 0))?;
    if patch.items().is_empty() {
        return Err(fail!("patch appears to be empty; file={}, JsonOp={text}", entry.path).at(&place, 0));
    }
    Ok(Patches::Json { patch, target, remember: false, place: (place, 0) })
}

/// Reads `patchesStrategicMerge`: each entry a patch, or the path of a file with patches.
pub(crate) fn load_legacy(paths: &[String], text: &str, loader: &Loader<'_>, file: &str) -> Result<Patches> {
    let mut patches = Vec::new();
    for path in paths {
        match docs::from_text(path, file) {
            Ok(found) => patches.extend(found),
            Err(_) => {
                let (place, bytes) = loader.load(path)?;
                let found = docs::from_text(&String::from_utf8_lossy(&bytes), &place)
                    .map_err(|e| malformed(e, path).at(&place, 0))?;
                patches.extend(found);
            }
        }
    }
    if !text.is_empty() {
        patches.extend(docs::from_text(text, file)?);
    }
    if patches.is_empty() {
        return Err(fail!("patch appears to be empty; files=[{}], Patch={text}", paths.join(" ")));
    }
    Ok(Patches::Named { patches, legacy: true })
}

/// An error in a file's YAML with the file's name, as kustomize adds it.
pub(crate) fn malformed(mut e: crate::KustomizeError, path: &str) -> crate::KustomizeError {
    if e.message.contains("MalformedYAMLError") {
        e.message = format!("{} in File: {path}", e.message);
    }
    e
}

impl Patches {
    pub(crate) fn apply(&self, resources: &mut Resources, schemas: &Known) -> Result<()> {
        match self {
            Self::Refused(e) => return Err(e.clone()),
            Self::Named { patches, legacy } => {
                for patch in patches {
                    apply_named(patch, *legacy, resources, schemas).map_err(|e| placed(e, patch))?;
                }
            }
            Self::Merge { patch, target } => {
                let chosen = resources.select(target).map_err(|e| {
                    e.wrap(format_args!(
                        "unable to find patch target {} in `resources`",
                        go_quote(&shown_selector(target))
                    ))
                })?;
                for i in &chosen {
                    if let Some(resource) = resources.list_mut().get_mut(*i) {
                        let own = patch.as_target_patch(resource);
                        resource.apply_patch(&own, schemas).map_err(|e| placed(e, patch))?;
                    }
                }
                if !chosen.is_empty() {
                    resources.drop_empty();
                    resources.check_unique()?;
                }
            }
            Self::Json { patch, target, remember, place } => {
                for i in resources.select(target)? {
                    let Some(resource) = resources.list_mut().get_mut(i) else { continue };
                    if *remember {
                        resource.store_previous();
                    }
                    let id = resource.id();
                    // It goes through JSON, in which every null is written and every key a text.
                    resource.check_keys()?;
                    resource.blanks.clear();
                    resource.typed_keys.clear();
                    patch::json_patch(&mut resource.value, patch).map_err(|e| {
                        fail!("{e}").at(&place.0, place.1).help(format!("the patch was applied to {id}"))
                    })?;
                }
            }
        }
        Ok(())
    }
}

fn placed(e: crate::KustomizeError, patch: &Resource) -> crate::KustomizeError {
    e.at(patch.provenance.file.as_deref().unwrap_or_default(), patch.provenance.line)
}

fn apply_named(patch: &Resource, legacy: bool, resources: &mut Resources, schemas: &Known) -> Result<()> {
    let id = patch.id();
    let found = resources.find(&id);
    if legacy {
        let i = found?;
        if let Some(resource) = resources.list_mut().get_mut(i) {
            let own = patch.as_target_patch(resource);
            resource.apply_patch(&own, schemas)?;
        }
        resources.drop_empty();
        return resources.check_unique();
    }
    let i = found.map_err(|e| {
        e.wrap(format_args!("no resource matches strategic merge patch {}", go_quote(&id.to_string())))
            .help("check the patch's apiVersion, kind, name and namespace, or give it a target")
    })?;
    match resources.list_mut().get_mut(i) {
        Some(resource) => resource.apply_patch(patch, schemas),
        None => Ok(()),
    }
}

fn shown_selector(s: &Selector) -> String {
    let id = crate::ids::ResId {
        gvk: crate::ids::Gvk {
            group: s.group.as_str().into(),
            version: s.version.as_str().into(),
            kind: s.kind.as_str().into(),
        },
        name: s.name.as_str().into(),
        namespace: s.namespace.as_str().into(),
        cluster: false,
    };
    format!("{id}:a={}:l={}", s.annotation_selector, s.label_selector)
}
