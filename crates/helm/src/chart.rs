//! A chart as it was loaded: parsed once, immutable, shared between releases and threads.

use std::path::{Component, Path};
use std::sync::Arc;

use druse_object::Value;
use druse_object::yaml::{self, Dialect};

use crate::archive::{self, Budget, MAX_CHART_SIZE};
use crate::error::HelmError;
use crate::ignore::Rules;
use crate::metadata::Metadata;
use crate::templates::TemplateCache;
use crate::values;

/// How deep charts may nest in `charts/`, and folders in a chart.
const MAX_DEPTH: usize = 32;

/// One file of a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The path relative to the chart's folder, `/` separated.
    pub name: String,
    /// The contents, without a byte order mark.
    pub data: Vec<u8>,
}

impl File {
    /// From a name and contents; a UTF-8 byte order mark is dropped.
    #[must_use]
    pub fn new(name: impl Into<String>, mut data: Vec<u8>) -> Self {
        if data.starts_with(b"\xef\xbb\xbf") {
            data.drain(..3);
        }
        Self { name: name.into(), data }
    }

    /// The contents as text; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        // Nearly all files are UTF-8, and that is soon seen; to replace is to look at each byte by itself.
        match std::str::from_utf8(&self.data) {
            Ok(text) => text.into(),
            Err(_) => String::from_utf8_lossy(&self.data),
        }
    }
}

/// A loaded chart and the charts packed in it.
#[derive(Debug)]
pub struct Chart {
    /// What `Chart.yaml` says.
    pub metadata: Metadata,
    /// `Chart.lock` or `requirements.lock`.
    pub lock: Option<Value>,
    /// Files under `templates/`, in the order they were found.
    pub templates: Vec<File>,
    /// The chart's default values; numbers are floats, as Go's JSON decoder reads them. Null without a `values.yaml`.
    pub values: Value,
    /// `values.schema.json`.
    pub schema: Option<Vec<u8>>,
    /// All other files, `crds/` among them.
    pub files: Vec<File>,
    /// Charts found in `charts/`, whether or not `Chart.yaml` names them.
    pub dependencies: Vec<Arc<Chart>>,
    /// What Helm would warn about when loading.
    pub warnings: Vec<String>,
    pub(crate) cache: TemplateCache,
    pub(crate) compiled_schema: crate::schema::SchemaCache,
}

impl Chart {
    /// Loads a chart from a folder; `.helmignore` is obeyed, links are followed as Helm follows them.
    ///
    /// # Errors
    /// When a file cannot be read, or the chart does not hold together; the message says which file.
    pub fn from_dir(dir: &Path) -> Result<Self, HelmError> {
        let dir = &std::path::absolute(dir).map_err(|e| io(dir, &e))?;
        let head = dir.join("Chart.yaml");
        if !head.is_file() {
            let head = head.display();
            return Err(HelmError::Load(format!(
                "unable to detect chart at {head}: open {head}: no such file or directory"
            )));
        }
        let mut budget = Budget::default();
        let ignore = dir.join(".helmignore");
        let rules = if ignore.is_file() {
            let data = std::fs::read(&ignore).map_err(|e| io(&ignore, &e))?;
            Rules::parse(&String::from_utf8_lossy(&data))?
        } else {
            Rules::parse("")?
        };
        let mut files = Vec::new();
        let mut left = MAX_CHART_SIZE;
        walk(dir, "", &rules, &mut files, &mut left, &mut budget, 0)?;
        detect(&files)?;
        load(files, &mut budget, 0)
    }

    /// Loads a chart from the bytes of a `.tgz`. `.helmignore` is not looked at, as in Helm.
    ///
    /// # Errors
    /// When the archive is broken, leads out of its folder or unpacks to more than
    /// [`MAX_CHART_SIZE`](crate::archive::MAX_CHART_SIZE); when the chart does not hold together.
    pub fn from_archive(bytes: &[u8]) -> Result<Self, HelmError> {
        let mut budget = Budget::default();
        let files = archive::read(bytes, &mut budget)?;
        detect(&files)?;
        load(files, &mut budget, 0)
    }

    /// Loads a chart from files in memory, named relative to the chart's folder.
    ///
    /// # Errors
    /// When the chart does not hold together.
    pub fn from_files(files: Vec<File>) -> Result<Self, HelmError> {
        load(files, &mut Budget::default(), 0)
    }

    /// Loads a chart from a path: a folder, or a `.tgz`.
    ///
    /// # Errors
    /// As [`Chart::from_dir`] and [`Chart::from_archive`].
    pub fn from_path(path: &Path) -> Result<Self, HelmError> {
        if path.is_dir() {
            return Self::from_dir(path);
        }
        let name = path.display();
        let data = std::fs::read(path).map_err(|e| io(path, &e))?;
        if !data.starts_with(&[0x1f, 0x8b, 0x08]) {
            let yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
            return Err(HelmError::Load(if yaml {
                format!("file '{name}' seems to be a YAML file, but expected a gzipped archive")
            } else {
                format!("file '{name}' does not appear to be a gzipped archive")
            }));
        }
        Self::from_archive(&data)
    }

    /// The chart's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Checks that the chart can be installed by itself and that all charts `Chart.yaml` depends on are packed in it, as
    /// `helm template` and `helm install` do before rendering.
    ///
    /// # Errors
    /// For a library chart, or naming the missing charts.
    pub fn check_installable(&self) -> Result<(), HelmError> {
        if !matches!(self.metadata.chart_type.as_str(), "" | "application") {
            return Err(HelmError::Load(format!("{} charts are not installable", self.metadata.chart_type)));
        }
        let missing: Vec<&str> = self
            .metadata
            .dependencies
            .iter()
            .flatten()
            .map(|d| d.name.as_str())
            .filter(|name| !self.dependencies.iter().any(|c| c.name() == *name))
            .collect();
        if missing.is_empty() {
            if self.metadata.api_version == "v3" {
                return Err(HelmError::Load("invalid chart apiVersion".into()));
            }
            return Ok(());
        }
        Err(HelmError::Dependencies(format!(
            "an error occurred while checking for chart dependencies. You may need to run 'helm dependency build' to \
             fetch missing dependencies: found in Chart.yaml, but missing in charts/ directory: {}",
            missing.join(", ")
        )))
    }
}

fn io(path: &Path, e: &std::io::Error) -> HelmError {
    HelmError::Io { path: path.display().to_string(), message: e.to_string() }
}

/// Helm's words for a link that leads nowhere.
fn broken_link(path: &Path) -> Option<HelmError> {
    let target = path.parent()?.join(std::fs::read_link(path).ok()?);
    let mut place = std::path::PathBuf::new();
    for part in target.components() {
        match part {
            Component::ParentDir => {
                place.pop();
            }
            Component::CurDir => {}
            part => {
                place.push(part);
                if place.symlink_metadata().is_err() {
                    break;
                }
            }
        }
    }
    Some(HelmError::Load(format!(
        "error evaluating symlink {}: lstat {}: no such file or directory",
        path.display(),
        place.display()
    )))
}

/// Looks which kind of chart this is, as Helm does before it loads one. Version 3 is recognised, but cannot be rendered
/// (see [`Chart::check_installable`]).
fn detect(files: &[File]) -> Result<(), HelmError> {
    let Some(head) = files.iter().find(|f| f.name == "Chart.yaml") else {
        return Err(HelmError::Load("unable to detect chart version, no Chart.yaml found".into()));
    };
    let value = parse_yaml(head).map_err(|e| HelmError::Load(format!("cannot load Chart.yaml: {e}")))?;
    match value.str_at(["apiVersion"]) {
        None | Some("" | "v1" | "v2" | "v3") => Ok(()),
        Some(_) => Err(HelmError::Load("unsupported chart version".into())),
    }
}

fn walk(
    dir: &Path,
    prefix: &str,
    rules: &Rules,
    files: &mut Vec<File>,
    left: &mut u64,
    budget: &mut Budget,
    depth: usize,
) -> Result<(), HelmError> {
    if depth > MAX_DEPTH {
        return Err(HelmError::Load(format!("{}: folders nest too deeply (a link that leads back?)", dir.display())));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| io(dir, &e))? {
        names.push(entry.map_err(|e| io(dir, &e))?.file_name());
    }
    names.sort();
    for name in names {
        let path = dir.join(&name);
        let relative = format!("{prefix}{}", name.to_string_lossy());
        let meta = std::fs::metadata(&path).map_err(|e| broken_link(&path).unwrap_or_else(|| io(&path, &e)))?;
        if rules.ignores(&relative, meta.is_dir()) {
            continue;
        }
        if meta.is_dir() {
            walk(&path, &format!("{relative}/"), rules, files, left, budget, depth + 1)?;
        } else if meta.is_file() {
            *left = left.checked_sub(meta.len()).filter(|l| *l > 0).ok_or_else(|| {
                HelmError::Load(format!(
                    "error reading {relative}: chart is larger than the maximum size {MAX_CHART_SIZE}"
                ))
            })?;
            budget.take(meta.len())?;
            let data = std::fs::read(&path).map_err(|e| io(&path, &e))?;
            files.push(File::new(relative, data));
        } else {
            return Err(HelmError::Load(format!(
                "cannot load irregular file {} as it has file mode type bits set",
                path.display()
            )));
        }
    }
    Ok(())
}

fn parse_yaml(file: &File) -> Result<Value, String> {
    yaml::parse(&file.text(), Dialect::Sigs).map_err(|e| format!("error converting YAML to JSON: {}", e.go_text()))
}

fn load(files: Vec<File>, budget: &mut Budget, depth: usize) -> Result<Chart, HelmError> {
    if depth > MAX_DEPTH {
        return Err(HelmError::Load("charts nest too deeply".into()));
    }
    let mut metadata: Option<Metadata> = None;
    for file in files.iter().filter(|f| f.name == "Chart.yaml") {
        let meta = metadata.get_or_insert_with(Metadata::default);
        parse_yaml(file)
            .and_then(|v| meta.read(&v))
            .map_err(|e| HelmError::Load(format!("cannot load Chart.yaml: {e}")))?;
        if meta.api_version.is_empty() {
            meta.api_version = "v1".into();
        }
    }
    let mut chart = Chart {
        metadata: Metadata::default(),
        lock: None,
        templates: Vec::new(),
        values: Value::Null,
        schema: None,
        files: Vec::new(),
        dependencies: Vec::new(),
        warnings: Vec::new(),
        cache: TemplateCache::default(),
        compiled_schema: crate::schema::SchemaCache::default(),
    };
    let mut packed: Vec<(String, Vec<File>)> = Vec::new();
    let is_v1 = |m: &Option<Metadata>| m.as_ref().is_some_and(|m| m.api_version == "v1");
    for mut file in files {
        match file.name.as_str() {
            "Chart.yaml" => {}
            "Chart.lock" | "requirements.lock" => {
                let lock = parse_yaml(&file).map_err(|e| HelmError::Load(format!("cannot load {}: {e}", file.name)))?;
                chart.lock = Some(lock);
                if file.name == "requirements.lock" {
                    if is_v1(&metadata) {
                        chart.files.push(file);
                    } else {
                        chart.warnings.push("Warning: Dependency locking is handled in Chart.lock since apiVersion \"v2\". We recommend migrating to Chart.lock.".into());
                    }
                }
            }
            "values.yaml" => {
                chart.values =
                    values::load(&file.text()).map_err(|e| HelmError::Load(format!("cannot load values.yaml: {e}")))?;
            }
            "values.schema.json" => chart.schema = Some(file.data),
            "requirements.yaml" => {
                let v1 = is_v1(&metadata);
                let meta = metadata.get_or_insert_with(Metadata::default);
                parse_yaml(&file)
                    .and_then(|v| meta.read(&v))
                    .map_err(|e| HelmError::Load(format!("cannot load requirements.yaml: {e}")))?;
                if v1 {
                    chart.files.push(file);
                } else {
                    chart.warnings.push("Warning: Dependencies are handled in Chart.yaml since apiVersion \"v2\". We recommend migrating dependencies to Chart.yaml.".into());
                }
            }
            name if name.starts_with("templates/") => chart.templates.push(file),
            name if name.starts_with("charts/") => {
                if name.ends_with(".prov") {
                    chart.files.push(file);
                    continue;
                }
                let inner = name["charts/".len()..].to_owned();
                let folder = inner.split('/').next().unwrap_or("").to_owned();
                file.name = inner;
                match packed.iter_mut().find(|(n, _)| *n == folder) {
                    Some((_, list)) => list.push(file),
                    None => packed.push((folder, vec![file])),
                }
            }
            _ => chart.files.push(file),
        }
    }
    let Some(mut metadata) = metadata else {
        return Err(HelmError::Load("Chart.yaml file is missing".into()));
    };
    metadata.validate()?;
    packed.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, files) in packed {
        if name.starts_with(['_', '.']) {
            continue;
        }
        let sub = if name.ends_with(".tgz") {
            match files.first() {
                Some(f) if f.name == name => {
                    archive::read(&f.data, budget).and_then(|files| load(files, budget, depth + 1))
                }
                other => {
                    let got = other.map_or("", |f| f.name.as_str());
                    return Err(HelmError::Load(format!(
                        "error unpacking subchart tar in {}: expected {name}, got {got}",
                        metadata.name
                    )));
                }
            }
        } else {
            let inner = files
                .into_iter()
                .filter_map(|mut f| {
                    f.name = f.name.split_once('/')?.1.to_owned();
                    Some(f)
                })
                .collect();
            load(inner, budget, depth + 1)
        };
        let sub =
            sub.map_err(|e| HelmError::Load(format!("error unpacking subchart {name} in {}: {e}", metadata.name)))?;
        chart.warnings.extend(sub.warnings.iter().cloned());
        chart.dependencies.push(Arc::new(sub));
    }
    chart.metadata = metadata;
    Ok(chart)
}
