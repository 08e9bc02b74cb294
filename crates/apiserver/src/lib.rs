//! The embedded Kubernetes API and its store.
