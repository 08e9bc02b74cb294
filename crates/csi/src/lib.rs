//! The Secrets Store CSI driver, compatible with kubernetes-sigs/secrets-store-csi-driver.
//!
//! [`wire`] has the gRPC contracts it stands between: CSI and plugin registration towards the kubelet, `v1alpha1`
//! towards providers of secrets. [`mount`] is what a volume's files lie on, [`volume`] the files.
//!
//! Knows nothing of any cloud, and nothing of Flux.

pub mod mount;
pub mod volume;
pub mod wire;
