//! What the proof of the secrets path is given, gathered from a plan and its tree.

use druse_object::json;
use druse_plan::{Plan, TreeInput, UnitState};
use druse_secrets::proof::{Declaration, Input, Unrendered};
use druse_terraform::{Declared, Options, Place, declared};

/// What a tree declares of AWS. The account is that of the ServiceAccounts' roles where Terraform does not settle it and
/// all agree.
pub fn terraform(plan: &Plan, input: &TreeInput, prefix: &str) -> Declared {
    let annotation = format!("{prefix}/role-arn");
    let objects = plan.units.iter().flat_map(|u| &u.objects);
    let mut accounts: Vec<String> = objects
        .filter(|o| o.kind() == "ServiceAccount")
        .filter_map(|o| druse_aws::arn::Arn::parse(o.annotation(&annotation)?).map(|a| a.account.to_string()))
        .collect();
    accounts.sort();
    accounts.dedup();
    let account_id = match accounts.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    };
    declared(&input.tree, &Options { account_id, region: None })
}

/// The input of the proof.
pub fn input<'a>(plan: &'a Plan, tree: &TreeInput, declared: &'a Declared, prefix: &str) -> Input<'a> {
    let mut objects = Vec::new();
    let mut unrendered = Vec::new();
    for unit in &plan.units {
        let at = |p: &druse_object::Provenance| {
            let file = p.file.clone()?;
            Some(Place { file, line: p.line.max(1) })
        };
        let release = at(&unit.definition.provenance);
        for o in unit.objects.iter().chain(unit.hooks.iter().map(|h| &h.object)) {
            // An object of a chart is where its release is: the template is not the tree's.
            let place = match &o.provenance.template {
                Some(_) => release.clone().or_else(|| at(&o.provenance)),
                None => at(&o.provenance).or_else(|| release.clone()),
            };
            objects.push(Declaration { object: o, place });
        }
        if !matches!(unit.state, UnitState::Ok | UnitState::Waiting { .. }) {
            let text = json::to_string(&unit.definition.value);
            let failed = unit.state == UnitState::Failed;
            // A Kustomization does not say what is in its folder; a release mostly says in its values what it is about.
            let opaque = failed && unit.definition.kind() == "Kustomization";
            unrendered.push(Unrendered { id: unit.id.to_string(), place: release, text, opaque, failed });
        }
    }
    Input { objects, declared, issuer: issuer(tree), annotation_prefix: prefix.to_string(), unrendered }
}

/// The issuer that the tree's machine configuration names: the first `service-account-issuer`, when all agree.
fn issuer(tree: &TreeInput) -> Option<(String, Place)> {
    let mut found = Vec::new();
    scan(tree, "", 0, &mut found);
    let first = found.first()?.clone();
    found.iter().all(|(url, _)| *url == first.0).then_some(first)
}

fn scan(tree: &TreeInput, folder: &str, depth: usize, found: &mut Vec<(String, Place)>) {
    use druse_kustomize::tree::Kind;
    const KEY: &str = "service-account-issuer";
    if depth > 12 {
        return;
    }
    for name in tree.tree.list(folder).unwrap_or_default() {
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        match tree.tree.kind(&path) {
            Some(Kind::Dir) if !name.starts_with('.') && name != "target" && name != "node_modules" => {
                scan(tree, &path, depth + 1, found);
            }
            Some(Kind::File) => {
                let kinds = [".yaml", ".yml", ".tmpl", ".tpl", ".j2", ".json", ".patch"];
                if !kinds.iter().any(|k| name.ends_with(k)) {
                    continue;
                }
                let Ok(bytes) = tree.tree.read(&path) else { continue };
                let Ok(text) = std::str::from_utf8(&bytes) else { continue };
                if !text.contains(KEY) {
                    continue;
                }
                let lines: Vec<&str> = text.lines().collect();
                for (n, line) in lines.iter().enumerate() {
                    let Some((key, value)) = line.trim_start_matches(['-', ' ', '"']).split_once(':') else { continue };
                    if key.trim_matches(['"', ' ']) != KEY {
                        continue;
                    }
                    // A list's first entry is the one that signs.
                    let next = lines.get(n + 1).copied().unwrap_or_default();
                    let value = if value.trim().is_empty() { next.trim().trim_start_matches("- ") } else { value };
                    let url = value.trim().trim_matches(['"', '\'', ',']).to_string();
                    if url.starts_with("https://") {
                        let line = u32::try_from(n + 1).unwrap_or(u32::MAX);
                        found.push((url, Place { file: path.as_str().into(), line }));
                    }
                }
            }
            _ => {}
        }
    }
}
