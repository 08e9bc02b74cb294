//! Native kustomize build: resources, components, generators, transformers, replacements.
