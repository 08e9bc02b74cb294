//! `.druse.yaml` (or `druse.yaml`) at the tree's root: which findings are silenced where, and how bad some are.
//!
//! ```yaml
//! check:
//!   severity: {DR070: error, DR044: off, DR072: info}
//!   ignore:
//!     - codes: [DR003]
//!       paths: [kubernetes/archive]
//!       reason: kept for reference
//! ```

use std::collections::BTreeMap;

use druse_kustomize::tree::FileTree;
use druse_object::{Value, yaml};

use crate::codes;
use crate::finding::{Finding, Place, Severity};
use crate::position::{Step, locate};

/// The names of the file, the first that exists counts.
pub const NAMES: [&str; 2] = [".druse.yaml", "druse.yaml"];

/// What the file says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Silences for paths.
    pub ignore: Vec<Ignore>,
    /// How bad findings of a code are; `None` is off.
    pub severity: BTreeMap<String, Option<Severity>>,
}

/// A silence for paths.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    /// Where it stands.
    pub place: Place,
    /// Which codes.
    pub codes: Vec<String>,
    /// Which files.
    pub paths: Vec<String>,
    /// Why.
    pub reason: String,
}

/// Reads the configuration of a tree; what cannot be understood is a finding.
#[must_use]
pub fn read(tree: &dyn FileTree) -> (Config, Vec<Finding>) {
    let mut reader = Reader::default();
    for name in NAMES {
        let Ok(bytes) = tree.read(name) else { continue };
        reader.file = name.to_string();
        reader.text = String::from_utf8_lossy(&bytes).into_owned();
        match yaml::parse_strict(&reader.text) {
            Ok(value) => reader.all(&value),
            Err(e) => reader.faults.push(Finding::new("DR097", Place::new(name, e.line), e.message)),
        }
        break;
    }
    (reader.config, reader.faults)
}

#[derive(Default)]
struct Reader {
    file: String,
    text: String,
    config: Config,
    faults: Vec<Finding>,
}

impl Reader {
    fn place(&self, path: &[Step]) -> Place {
        let first = self.text.lines().position(|l| !l.trim().is_empty() && !l.starts_with(['#', '-'])).unwrap_or(0);
        Place::new(&self.file, locate(&self.text, u32::try_from(first + 1).unwrap_or(1), path).line)
    }

    fn fault(&mut self, path: &[Step], message: impl Into<String>) {
        let place = self.place(path);
        self.faults.push(Finding::new("DR097", place, message));
    }

    fn fields(&mut self, value: &Value, path: &[Step], known: &[&str]) {
        match value.as_map() {
            None if value.is_null() => {}
            None => self.fault(path, "a map is needed here"),
            Some(map) => {
                for key in map.keys().filter(|k| !known.contains(&k.as_str())) {
                    let path: Vec<Step> = path.iter().cloned().chain([Step::from(key.as_str())]).collect();
                    self.fault(&path, format!("unknown field {key:?}; known are {}", known.join(", ")));
                }
            }
        }
    }

    fn all(&mut self, value: &Value) {
        self.fields(value, &[], &["check"]);
        let check = &value["check"];
        let root = [Step::from("check")];
        self.fields(check, &root, &["ignore", "severity"]);
        for (code, level) in check["severity"].as_map().into_iter().flat_map(druse_object::Map::iter) {
            let path = [Step::from("check"), Step::from("severity"), Step::from(code.as_str())];
            let Some(known) = codes::find(code) else {
                self.fault(&path, format!("{code:?} is no code of a finding"));
                continue;
            };
            // An unquoted `off` is YAML's false.
            let level = match level {
                Value::Bool(false) => "off",
                other => other.as_str().unwrap_or_default(),
            };
            match (level, level.parse()) {
                ("off", _) => drop(self.config.severity.insert(known.code.clone(), None)),
                (_, Ok(severity)) => drop(self.config.severity.insert(known.code.clone(), Some(severity))),
                _ => self.fault(&path, "a severity is error, warning, info or off"),
            }
        }
        for (i, entry) in check["ignore"].items().iter().enumerate() {
            let path = [Step::from("check"), Step::from("ignore"), Step::Index(i)];
            self.fields(entry, &path, &["code", "codes", "paths", "reason"]);
            let texts = |v: &Value| -> Vec<String> {
                v.as_str()
                    .map(str::to_string)
                    .into_iter()
                    .chain(v.items().iter().filter_map(Value::as_str).map(str::to_string))
                    .collect()
            };
            let mut codes = texts(&entry["codes"]);
            codes.extend(texts(&entry["code"]));
            let paths = texts(&entry["paths"]);
            if paths.is_empty() {
                self.fault(&path, "a silence names the paths it is for (paths: [FOLDER])");
            }
            let reason = entry["reason"].as_str().unwrap_or_default().to_string();
            let place = self.place(&path);
            self.config.ignore.push(Ignore { place, codes, paths, reason });
        }
    }
}
