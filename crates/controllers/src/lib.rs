//! Flux-compatible source, kustomization and helmrelease controllers against any Kubernetes API.
