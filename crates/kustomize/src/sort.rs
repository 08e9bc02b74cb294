//! The order of the result.

use crate::error::{Result, fail};
use crate::ids::{Gvk, ORDER_FIRST, ORDER_LAST, ResId, kind_rank};
use crate::kustomization::SortOptions;
use crate::resource::Resources;

/// Orders the objects as `sortOptions` asks; without it, by kind (kustomize's `legacy` order).
pub(crate) fn apply(resources: &mut Resources, options: Option<&SortOptions>) -> Result<()> {
    let (first, last): (Vec<String>, Vec<String>) = match options {
        Some(options) if options.order == "fifo" => {
            return match options.legacy_sort_options {
                Some(_) => Err(fail!(
                    "the field 'sortOptions.legacySortOptions' is set but the selected sort order is 'fifo', not \
                     'legacy'"
                )),
                None => Ok(()),
            };
        }
        Some(options) if options.order != "legacy" => {
            return Err(fail!("the field 'sortOptions.order' must be one of [fifo, legacy]"));
        }
        Some(SortOptions { legacy_sort_options: Some(own), .. }) => (own.order_first.clone(), own.order_last.clone()),
        _ => (ORDER_FIRST.map(String::from).into(), ORDER_LAST.map(String::from).into()),
    };
    resources.list_mut().sort_by_cached_key(|r| {
        let id = r.id();
        // The namespaces of the core come before those of other groups.
        let other = id.gvk.kind == "Namespace" && !id.gvk.group.is_empty();
        (kind_rank(&id.gvk.kind, &first, &last), other, gvk_key(&id.gvk), id_key(&id))
    });
    Ok(())
}

fn or(text: &str, other: &'static str) -> String {
    if text.is_empty() { other.to_string() } else { text.to_string() }
}

fn gvk_key(gvk: &Gvk) -> String {
    format!("{}_{}_{}", or(&gvk.group, "~G"), or(&gvk.version, "~V"), or(&gvk.kind, "~K"))
}

fn id_key(id: &ResId) -> String {
    format!("{}|{}|{}", id.gvk, or(&id.namespace, "~X"), or(&id.name, "~N"))
}
