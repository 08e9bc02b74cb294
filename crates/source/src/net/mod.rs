//! The network: Helm repositories, OCI registries and Git servers.
