//! Writes the embedded API's resource table from the discovery documents of a real server.
//!
//! One line a resource and version, tab separated: group (`-` for core), version, plural, singular, kind, scope (`N` or
//! `C`), verbs, short names, categories, subresources (`name=group/version/Kind=verbs`, `;` between), accepted as `-`
//! where empty.

use std::fs;
use std::path::Path;

use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn words(v: &Value) -> String {
    let list: Vec<&str> = v.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if list.is_empty() { "-".to_owned() } else { list.join(",") }
}

fn text(v: &Value) -> &str {
    match v.as_str() {
        Some("") | None => "-",
        Some(s) => s,
    }
}

/// Reads `discovery-api.json` and `discovery-apis.json` in `from`, writes `to`.
pub fn run(from: &Path, to: &Path) -> Result<()> {
    let mut out = String::new();
    for file in ["discovery-api.json", "discovery-apis.json"] {
        let doc: Value = serde_json::from_slice(&fs::read(from.join(file))?)?;
        for group in doc["items"].as_array().into_iter().flatten() {
            for version in group["versions"].as_array().into_iter().flatten() {
                for r in version["resources"].as_array().into_iter().flatten() {
                    let subs: Vec<String> = r["subresources"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|s| {
                            let k = &s["responseKind"];
                            format!(
                                "{}={}/{}/{}={}",
                                text(&s["subresource"]),
                                k["group"].as_str().unwrap_or_default(),
                                k["version"].as_str().unwrap_or_default(),
                                text(&k["kind"]),
                                words(&s["verbs"])
                            )
                        })
                        .collect();
                    let scope = if r["scope"] == "Namespaced" { "N" } else { "C" };
                    let subs = if subs.is_empty() { "-".to_owned() } else { subs.join(";") };
                    out.push_str(&format!(
                        "{}\t{}\t{}\t{}\t{}\t{scope}\t{}\t{}\t{}\t{subs}\n",
                        text(&group["metadata"]["name"]),
                        text(&version["version"]),
                        text(&r["resource"]),
                        text(&r["singularResource"]),
                        text(&r["responseKind"]["kind"]),
                        words(&r["verbs"]),
                        words(&r["shortNames"]),
                        words(&r["categories"]),
                    ));
                }
            }
        }
    }
    fs::write(to, out)?;
    Ok(())
}
