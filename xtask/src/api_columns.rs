//! Writes the columns of built-in kinds' tables from the upstream printers and the API types' documentation.
//!
//! One line a column, tab separated: stored type (`deployments.apps`), name, type, format, priority, description (with
//! line breaks as `\n`). Type `default` holds the texts used for kinds without columns of their own.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The text of a Go string literal at the start of `s`, and what follows it.
fn literal(s: &str) -> Option<(String, &str)> {
    let rest = s.strip_prefix('"')?;
    let mut out = String::new();
    let mut chars = rest.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((out, &rest[i + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                c => out.push(c),
            },
            c => out.push(c),
        }
    }
    None
}

/// The value of a `Key: …` in a Go composite literal on one line.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let at = line.find(&format!("{key}: "))?;
    Some(&line[at + key.len() + 2..])
}

/// What a type's fields are documented as: `SwaggerDoc` of a Go package.
fn documentation(file: &Path) -> Result<HashMap<(String, String), String>> {
    let mut out = HashMap::new();
    let mut kind = String::new();
    for line in fs::read_to_string(file)?.lines() {
        if let Some(rest) = line.strip_prefix("var map_") {
            kind = rest.split(' ').next().unwrap_or_default().to_owned();
        } else if let Some((key, rest)) = literal(line.trim())
            && let Some((text, _)) = literal(rest.trim_start_matches(':').trim())
        {
            out.insert((kind.clone(), key), text);
        }
    }
    Ok(out)
}

/// Reads the printers of a Kubernetes module and the types of the API modules below `modules` (a Go module cache's
/// `k8s.io`), at `version`; writes `to`. `resources` is the table that `api-resources` wrote.
pub fn run(modules: &Path, version: &str, resources: &Path, to: &Path) -> Result<()> {
    let minor = version.trim_start_matches("v1.");
    let kubernetes = modules.join(format!("kubernetes@{version}"));
    let source = fs::read_to_string(kubernetes.join("pkg/printers/internalversion/printers.go"))?;
    let mut stored: HashMap<String, String> = HashMap::new();
    for row in fs::read_to_string(resources)?.lines() {
        let cells: Vec<&str> = row.split('\t').collect();
        let [group, _, plural, _, kind, ..] = cells.as_slice() else { continue };
        let name = if *group == "-" { (*plural).to_owned() } else { format!("{plural}.{group}") };
        stored.entry((*kind).to_owned()).or_insert(name);
    }
    let mut packages: HashMap<String, HashMap<(String, String), String>> = HashMap::new();
    for line in source.lines() {
        let mut parts = line.split_whitespace();
        let (Some(alias), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_matches('"');
        let file = if let Some(rest) = path.strip_prefix("k8s.io/api/") {
            modules.join(format!("api@v0.{minor}")).join(rest)
        } else if let Some(rest) = path.strip_prefix("k8s.io/apimachinery/") {
            modules.join(format!("apimachinery@v0.{minor}")).join(rest)
        } else {
            continue;
        };
        let file = file.join("types_swagger_doc_generated.go");
        if file.exists() {
            packages.insert(alias.to_owned(), documentation(&file)?);
        }
    }
    let describe = |line: &str| -> String {
        let Some(value) = field(line, "Description") else { return String::new() };
        if let Some((text, _)) = literal(value) {
            return text;
        }
        let (Some((alias, rest)), Some((_, key))) = (value.split_once('.'), value.split_once("SwaggerDoc()[")) else {
            return String::new();
        };
        let mut kind = rest.split('{').next().unwrap_or_default().to_owned();
        if rest.contains("InvolvedObject") {
            kind = "ObjectReference".into();
        }
        let key = literal(key).map(|(k, _)| k).unwrap_or_default();
        packages.get(alias).and_then(|p| p.get(&(kind, key))).cloned().unwrap_or_default()
    };
    let mut out = String::new();
    let mut sets: HashMap<String, Vec<[String; 5]>> = HashMap::new();
    let mut current = String::new();
    for line in source.lines().map(str::trim) {
        if let Some((name, _)) = line.split_once(" := []metav1.TableColumnDefinition{") {
            current = name.to_owned();
        } else if line.starts_with("{Name: ") {
            let text = |key: &str| field(line, key).and_then(literal).map(|(t, _)| t).unwrap_or_default();
            let priority: String =
                field(line, "Priority").unwrap_or("0").chars().take_while(char::is_ascii_digit).collect();
            let column = [text("Name"), text("Type"), text("Format"), priority, describe(line).replace('\n', "\\n")];
            sets.entry(current.clone()).or_default().push(column);
        } else if let Some((_, call)) = line.split_once("TableHandler(") {
            let Some((set, function)) = call.split_once(", print") else { continue };
            let kind = function.trim_end_matches(')');
            let kind = match kind {
                "MutatingWebhook" | "ValidatingWebhook" => format!("{kind}Configuration"),
                other => other.to_owned(),
            };
            if let (Some(columns), Some(name)) = (sets.get(set), stored.get(&kind)) {
                for c in columns {
                    out.push_str(&format!("{name}\t{}\n", c.join("\t")));
                }
            }
        }
    }
    let meta = packages.get("metav1");
    for (name, key) in [("Name", "name"), ("Created At", "creationTimestamp")] {
        let text = meta.and_then(|m| m.get(&("ObjectMeta".to_owned(), key.to_owned()))).cloned().unwrap_or_default();
        out.push_str(&format!("default\t{name}\tstring\t\t0\t{}\n", text.replace('\n', "\\n")));
    }
    fs::write(to, out)?;
    Ok(())
}
