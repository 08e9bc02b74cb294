//! Writes how upstream's internal types look when Go dumps them: the embedded API shows what a refused update of a pod
//! changes as upstream does, by the difference of two such dumps, and some messages show a whole value of such a type.
//!
//! One struct a line, tab separated: its name, then its fields in order, each `Go:json:kind`. A kind is `s` (string), `b`
//! (boolean), `i` (number), `q` (quantity), `o` (number or string), `j` (written as JSON), the name of a struct, or one
//! of these behind `p` (pointer), `l` (list), `m` (map), written `p(kind)`. An embedded struct has no Go name; a field
//! the published type keeps elsewhere has no JSON name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Where the walks begin: what messages show.
const ROOTS: [&str; 20] = [
    "AllocationResult",
    "CSINodeDriver",
    "DaemonSetUpdateStrategy",
    "DeploymentStrategy",
    "DeviceAttribute",
    "EphemeralContainer",
    "FlowSchemaSpec",
    "NodeSelectorTerm",
    "PersistentVolumeClaimSpec",
    "PersistentVolumeSource",
    "PodFailurePolicy",
    "PodSpec",
    "PodTemplateSpec",
    "PriorityLevelConfigurationSpec",
    "ResourceClaimSpec",
    "RollingUpdateStatefulSetStrategy",
    "StatefulSetUpdateStrategy",
    "SuccessPolicy",
    "VolumeAttachmentSpec",
    "VolumeNodeAffinity",
];

struct Field {
    /// Empty for an embedded struct.
    name: String,
    kind: String,
    json: String,
}

#[derive(Default)]
struct Types {
    structs: BTreeMap<String, Vec<Field>>,
    names: BTreeMap<String, String>,
}

/// Adds the struct types and named types of a Go file.
fn parse(path: &Path, out: &mut Types) -> Result<()> {
    let mut inside: Option<(String, Vec<Field>)> = None;
    for line in fs::read_to_string(path)?.lines() {
        let line = line.split("//").next().unwrap_or_default().trim_end();
        if let Some((_, fields)) = &mut inside {
            if line == "}" {
                if let Some((name, fields)) = inside.take() {
                    out.structs.insert(name, fields);
                }
            } else if !line.trim().is_empty() {
                let (decl, tag) = line.trim().split_once('`').unwrap_or((line.trim(), ""));
                let tag = tag.split_once("json:\"").map_or("", |(_, t)| t);
                let json = tag.split(['"', ',']).next().unwrap_or_default().to_owned();
                let (name, kind) = decl.trim().split_once(char::is_whitespace).unwrap_or(("", decl.trim()));
                fields.push(Field { name: name.to_owned(), kind: kind.trim().to_owned(), json });
            }
            continue;
        }
        let Some(rest) = line.strip_prefix("type ") else { continue };
        match rest.split_once(' ') {
            Some((name, "struct {")) => inside = Some((name.to_owned(), Vec::new())),
            Some((name, kind)) if !kind.starts_with("struct") => {
                out.names.insert(name.to_owned(), kind.to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

impl Types {
    /// The kind as the table writes it; structs met on the way are added to `met`.
    fn kind(&self, go: &str, met: &mut Vec<String>) -> Result<String> {
        if let Some(inner) = go.strip_prefix('*') {
            return Ok(format!("p({})", self.kind(inner, met)?));
        }
        if let Some(inner) = go.strip_prefix("[]") {
            return Ok(format!("l({})", self.kind(inner, met)?));
        }
        if let Some((_, inner)) = go.strip_prefix("map[").and_then(|m| m.split_once(']')) {
            return Ok(format!("m({})", self.kind(inner, met)?));
        }
        // Other groups name core's types by their package.
        let go = go.strip_prefix("api.").or_else(|| go.strip_prefix("core.")).unwrap_or(go);
        let go = go.strip_prefix("v1.").unwrap_or(go);
        Ok(match go {
            "string" | "types.UID" => "s".into(),
            "bool" => "b".into(),
            "int32" | "int64" => "i".into(),
            "resource.Quantity" => "q".into(),
            "intstr.IntOrString" => "o".into(),
            g if g.starts_with("metav1.") || g == "runtime.RawExtension" => "j".into(),
            g if self.structs.contains_key(g) => {
                met.push(g.to_owned());
                g.to_owned()
            }
            g => return self.names.get(g).map_or_else(|| Err(format!("no type {g}").into()), |n| self.kind(n, met)),
        })
    }
}

/// Reads pairs of Go files, the internal types of a group and its published ones (`pkg/apis/core/types.go`,
/// `k8s.io/api/core/v1/types.go`), writes `to`.
pub fn run(files: &[String], to: &Path) -> Result<()> {
    let (mut internal, mut published) = (Types::default(), Types::default());
    for pair in files.chunks(2) {
        let [ours, theirs] = pair else { return Err("a file of internal types without one of published types".into()) };
        parse(Path::new(ours), &mut internal)?;
        parse(Path::new(theirs), &mut published)?;
    }
    let (mut todo, mut seen) = (ROOTS.map(str::to_owned).to_vec(), BTreeSet::new());
    while let Some(name) = todo.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        for f in internal.structs.get(&name).into_iter().flatten() {
            internal.kind(&f.kind, &mut todo)?;
        }
    }
    let mut out = String::new();
    for name in seen {
        out.push_str(&name);
        let known = published.structs.get(&name);
        for f in internal.structs.get(&name).into_iter().flatten() {
            let json =
                known.and_then(|k| k.iter().find(|p| p.name == f.name && (!f.name.is_empty() || p.kind == f.kind)));
            let json = json.map_or("", |p| p.json.as_str());
            write!(out, "\t{}:{json}:{}", f.name, internal.kind(&f.kind, &mut Vec::new())?)?;
        }
        out.push('\n');
    }
    fs::write(to, out)?;
    Ok(())
}
