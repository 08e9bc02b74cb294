//! The file that a person keeps values in: YAML with maps `parameters` and `secrets`, name to value, never committed.

use std::path::Path;

use druse_object::{Value, json, yaml};
use druse_plan::TreeInput;
use zeroize::Zeroizing;

use crate::error::CliError;

/// Values by name.
pub type Values = Vec<(String, Zeroizing<String>)>;

/// The values of a file (parameters, secrets), which must not be one that is committed.
///
/// # Errors
/// When it is committed, cannot be read, or is no such file. No error shows what is in it.
pub fn read(file: &Path, tree: &TreeInput) -> Result<(Values, Values), CliError> {
    let shown = file.display();
    let wrong = |m: String| CliError::new(format!("{shown}: {m}"));
    if is_committed(file, tree) {
        return Err(wrong("this file is committed: everybody with the repository can read these values".into())
            .help("take it out of the repository (git rm --cached), ignore it, and replace the values"));
    }
    let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?);
    // What is wrong with the text is not shown: it may be a value.
    let all =
        yaml::parse_strict(&text).map_err(|_| wrong("this is no YAML with maps `parameters` and `secrets`".into()))?;
    let map = all.as_map().ok_or_else(|| wrong("this is no map".into()))?;
    if let Some(odd) = map.keys().find(|k| !matches!(k.as_str(), "parameters" | "secrets")) {
        return Err(wrong(format!("there is no section {odd:?}; parameters and secrets are")));
    }
    let section = |name: &str| -> Result<Values, CliError> {
        let entries = match map.get(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Map(m)) => m,
            Some(_) => return Err(wrong(format!("{name} is no map of names to values"))),
        };
        entries
            .iter()
            .map(|(k, v)| match v {
                Value::Null => Err(wrong(format!("{name} {k} has no value"))),
                Value::String(s) => Ok((k.to_string(), Zeroizing::new(s.to_string()))),
                other => Ok((k.to_string(), Zeroizing::new(json::to_string(other)))),
            })
            .collect()
    };
    Ok((section("parameters")?, section("secrets")?))
}

fn is_committed(file: &Path, tree: &TreeInput) -> bool {
    let Ok(path) = std::fs::canonicalize(file) else { return false };
    let Ok(head) = druse_plan::locate_revision(&tree.root, "HEAD") else { return false };
    let root = std::fs::canonicalize(&head.root).unwrap_or_else(|_| head.root.clone());
    let inside = path.strip_prefix(&root).ok().and_then(Path::to_str);
    inside.is_some_and(|p| head.tree.kind(p).is_some())
}
