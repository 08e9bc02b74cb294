//! `vars`: `$(NAME)` in known fields becomes the value of a field of another object.

use std::collections::BTreeMap;

use druse_object::{Str, Value};

use super::replacements::lookup;
use crate::error::{Result, fail};
use crate::fieldspec::{FieldSpecs, Make, smart_split};
use crate::ids::{Gvk, ResId, is_cluster_scoped, text};
use crate::kustomization::Var;
use crate::resource::Resources;

/// The variables of a build, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct VarSet(BTreeMap<String, Var>);

impl VarSet {
    fn add(&mut self, mut var: Var) -> Result<()> {
        if self.0.contains_key(&var.name) {
            return Err(fail!("var '{}' already encountered", var.name));
        }
        if var.fieldref.field_path.is_empty() {
            var.fieldref.field_path = "metadata.name".to_string();
        }
        self.0.insert(var.name.clone(), var);
        Ok(())
    }

    pub(crate) fn merge(&mut self, other: VarSet) -> Result<()> {
        other.0.into_values().try_for_each(|v| self.add(v))
    }

    /// Adds the variables of a file and remembers at the objects which of them read it.
    pub(crate) fn declare(&mut self, vars: &[Var], resources: &mut Resources) -> Result<()> {
        for var in vars {
            let target = target_id(var);
            let exact = !target.namespace.is_empty() || target.cluster;
            let matches = |id: &ResId| if exact { id.same(&target) } else { id.same_gvkn(&target) };
            let mut found = resources.contents_mut().iter_mut().filter(|r| r.matches_any_id(&matches));
            match (found.next(), found.count()) {
                (Some(one), 0) => one.variables.push(var.name.clone()),
                (Some(_), more) => {
                    return Err(fail!(
                        "found {} resId matches for var {} (unable to disambiguate)",
                        more + 1,
                        shown(var)
                    ));
                }
                (None, _) => {}
            }
        }
        vars.iter().cloned().try_for_each(|v| self.add(v))
    }

    /// Expands all variables.
    pub(crate) fn resolve(&self, resources: &mut Resources, specs: &FieldSpecs) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut values = BTreeMap::new();
        for var in self.0.values() {
            values.insert(var.name.as_str(), value_of(var, resources)?);
        }
        for resource in resources.list_mut() {
            let id = resource.id();
            specs.apply(&mut resource.value, &id, Make::Nothing, &mut |field| expand_field(field, &values))?;
        }
        Ok(())
    }
}

fn target_id(var: &Var) -> ResId {
    let o = &var.objref;
    let gvk = if o.api_version.is_empty() {
        Gvk { group: o.group.as_str().into(), version: o.version.as_str().into(), kind: o.kind.as_str().into() }
    } else {
        let mut gvk = Gvk::from_api_version(&o.api_version, &o.kind);
        if gvk.group.is_empty() {
            gvk.group = o.group.as_str().into();
        }
        gvk
    };
    let api_version =
        if gvk.group.is_empty() { gvk.version.to_string() } else { format!("{}/{}", gvk.group, gvk.version) };
    let cluster = is_cluster_scoped(&api_version, &gvk.kind);
    ResId { gvk, name: o.name.as_str().into(), namespace: o.namespace.as_str().into(), cluster }
}

/// `a.b[0].c` as `a.b.0.c`.
fn var_path(path: &str) -> Vec<String> {
    let mut out = Vec::new();
    for part in smart_split(path) {
        let indexed = part
            .strip_suffix(']')
            .and_then(|p| p.rsplit_once('['))
            .filter(|(_, index)| !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()));
        match indexed {
            Some((name, index)) => {
                if !name.is_empty() {
                    out.push(name.to_string());
                }
                out.push(index.to_string());
            }
            None => out.push(part),
        }
    }
    out
}

fn value_of(var: &Var, resources: &Resources) -> Result<Value> {
    let Some(resource) = resources.iter().find(|r| r.variables.contains(&var.name)) else {
        return Err(fail!("var '{}' cannot be mapped to a field in the set of known resources", shown(var))
            .help("the variable's objref must name an object of the build"));
    };
    let found = lookup(&resource.value, &var_path(&var.fieldref.field_path)).ok().flatten();
    found.cloned().ok_or_else(|| fail!("field specified in var '{}' not found in corresponding resource", shown(var)))
}

/// Variables as Go prints the structures before their `apiVersion` was looked at.
pub(crate) fn shown_unread(vars: &[Var]) -> String {
    let one = |var: &Var| {
        let o = &var.objref;
        let gvk =
            Gvk { group: o.group.as_str().into(), version: o.version.as_str().into(), kind: o.kind.as_str().into() };
        format!("{{{} {gvk} {{{}}}}}", var.name, var.fieldref.field_path)
    };
    format!("[{}]", vars.iter().map(one).collect::<Vec<_>>().join(" "))
}

/// A variable as Go prints the structure with `%v`.
fn shown(var: &Var) -> String {
    format!("{{{} {} {{{}}}}}", var.name, target_id(var).gvk, var.fieldref.field_path)
}

fn expand_field(field: &mut Value, values: &BTreeMap<&str, Value>) -> Result<()> {
    match field {
        Value::String(text) => {
            *field = expand(text, values);
            Ok(())
        }
        Value::Map(map) => {
            for value in map.values_mut() {
                if let Value::String(text) = value {
                    *value = expand(text, values);
                }
            }
            Ok(())
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::String(text) => *item = expand(text, values),
                    _ => return Err(fail!("invalid value type expect a string")),
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Expands `$(NAME)`; `$$` is `$`, and an unknown name stays as it is. A text that is one variable and nothing else
/// takes the type of its value.
fn expand(input: &Str, values: &BTreeMap<&str, Value>) -> Value {
    let mut out = String::new();
    let mut rest = input.as_str();
    while let Some(at) = rest.find('$') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let tail = &tail[1..];
        if let Some(inner) = tail.strip_prefix('(') {
            match inner.split_once(')') {
                Some((name, after)) => {
                    let value = values.get(name).filter(|v| !matches!(v, Value::Map(_) | Value::Array(_)));
                    match value {
                        Some(value) if input.len() == name.len() + 3 => return value.clone(),
                        Some(value) => out.push_str(&text(value)),
                        None => {
                            out.push_str("$(");
                            out.push_str(name);
                            out.push(')');
                        }
                    }
                    rest = after;
                }
                None => {
                    out.push_str("$(");
                    rest = inner;
                }
            }
        } else if let Some(after) = tail.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else {
            out.push('$');
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
    }
    out.push_str(rest);
    Value::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_expand_as_in_container_commands() {
        let values: BTreeMap<&str, Value> = [("A", Value::from("x")), ("N", Value::Int(5))].into();
        let run = |s: &str| expand(&s.into(), &values);
        assert_eq!(run("a $(A) $(N)"), Value::from("a x 5"));
        assert_eq!(run("$(N)"), Value::Int(5));
        assert_eq!(run("$$(A) $(B) $ $(A"), Value::from("$(A) $(B) $ $(A"));
        assert_eq!(var_path("spec.ports[0].port"), ["spec", "ports", "0", "port"]);
    }
}
