//! Git, OCI, Helm repository artifacts; the cache; offline mirrors.
