//! `ValueAddTransformer`: puts one value into fields, or into file paths held by fields.

use druse_object::Value;
use serde::Deserialize;

use super::namespace::{self, Subjects};
use crate::error::{Result, fail};
use crate::fieldspec::{FieldSpecs, set_scalar, split_path};
use crate::ids::text;
use crate::kustomization::Selector;
use crate::resource::Resources;

/// Where the value goes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ValueTarget {
    pub selector: Option<Selector>,
    pub field_path: String,
    pub file_path_position: i64,
}

pub(super) fn apply(resources: &mut Resources, value: &str, targets: &[ValueTarget]) -> Result<()> {
    for target in targets {
        let chosen: Vec<usize> = match &target.selector {
            None => (0..resources.len()).collect(),
            Some(selector) => resources.select(selector)?,
        };
        for i in chosen {
            let Some(resource) = resources.list_mut().get_mut(i) else { continue };
            if target.field_path == "metadata/namespace" {
                namespace::set(resource, value, &FieldSpecs::default(), false, Subjects::default())?;
                continue;
            }
            let mut field = &mut resource.value;
            for part in split_path(&target.field_path, '/') {
                field = match field.make_map() {
                    Some(map) => map.entry_or_null(&part),
                    None => return Err(fail!("wrong node kind in field path '{}'", target.field_path)),
                };
            }
            let new = match usize::try_from(target.file_path_position) {
                Ok(position) if position > 0 => insert_part(&text(field), position - 1, value),
                _ => value.to_string(),
            };
            set_scalar(field, Value::from(new))?;
        }
    }
    Ok(())
}

/// Inserts a part into a file path; a position past its end is its end.
fn insert_part(path: &str, position: usize, part: &str) -> String {
    let (root, rest) = match path.strip_prefix('/') {
        Some(rest) => ("/", rest),
        None => ("", path),
    };
    let mut parts: Vec<&str> = rest.split('/').filter(|p| !p.is_empty()).collect();
    parts.insert(position.min(parts.len()), part);
    format!("{root}{}", parts.join("/"))
}
