//! The transformers: each changes the objects of a build in place.

mod images;
mod metadata;
pub(crate) mod nameref;
mod names;
mod namespace;
pub(crate) mod patches;
pub(crate) mod replacements;
mod value_add;
pub(crate) mod vars;

use crate::error::Result;
use crate::fieldspec::FieldSpecs;
use crate::generators;
use crate::kustomization::{Image, ReplacementField, Replica, Texts};
use crate::resource::Resources;
use crate::schema::Known;

pub(crate) use namespace::Subjects;
pub(crate) use value_add::ValueTarget;

/// A transformer with its settings.
#[derive(Clone, Debug)]
pub(crate) enum Transformer {
    Patches(Vec<patches::Patches>),
    Namespace { namespace: String, specs: FieldSpecs, unset_only: bool, subjects: Subjects },
    Prefix { prefix: String, specs: FieldSpecs },
    Suffix { suffix: String, specs: FieldSpecs },
    Labels { labels: Texts, specs: FieldSpecs },
    Annotations { annotations: Texts, specs: FieldSpecs },
    Replicas { replica: Replica, specs: FieldSpecs },
    Image { image: Image, specs: FieldSpecs },
    Replacements(Vec<ReplacementField>),
    ValueAdd { value: String, targets: Vec<ValueTarget> },
    Hash,
}

impl Transformer {
    pub(crate) fn apply(&self, resources: &mut Resources, schemas: &Known) -> Result<()> {
        match self {
            Self::Patches(all) => all.iter().try_for_each(|p| p.apply(resources, schemas)),
            Self::Namespace { namespace, specs, unset_only, subjects } => {
                namespace::apply(resources, namespace, specs, *unset_only, *subjects)
            }
            Self::Prefix { prefix, specs } => names::apply(resources, prefix, "", specs),
            Self::Suffix { suffix, specs } => names::apply(resources, "", suffix, specs),
            Self::Labels { labels, specs } => metadata::set_texts(resources, labels, specs),
            Self::Annotations { annotations, specs } => metadata::set_texts(resources, annotations, specs),
            Self::Replicas { replica, specs } => metadata::set_replicas(resources, replica, specs),
            Self::Image { image, specs } => images::apply(resources, image, specs),
            Self::Replacements(list) => replacements::apply(resources, list),
            Self::ValueAdd { value, targets } => value_add::apply(resources, value, targets),
            Self::Hash => {
                add_hashes(resources);
                Ok(())
            }
        }
    }
}

/// Ends the names of generated objects with the hash of their content.
pub(crate) fn add_hashes(resources: &mut Resources) {
    if resources.iter().any(|r| r.needs_hash) {
        for resource in resources.list_mut().iter_mut().filter(|r| r.needs_hash) {
            let hash = generators::hash(&resource.value);
            resource.store_previous();
            let name = format!("{}-{hash}", resource.name());
            resource.set_name(&name);
        }
    }
}
