//! The Secrets Store CSI driver, compatible with kubernetes-sigs/secrets-store-csi-driver.
//!
//! [`wire`] has the gRPC contracts it stands between: CSI and plugin registration towards the kubelet, `v1alpha1`
//! towards providers of secrets. [`mount`] is what a volume's files lie on, [`volume`] the files. [`node`] publishes
//! volumes: from the kubelet's request over the SecretProviderClass ([`class`]) and the provider ([`providers`]) to files.
//! Beside it, [`sync`] makes Secrets of volumes where a class asks for that, and [`rotate`] renews volumes where the kubelet
//! does not, asking as the kubelet does ([`kubelet`]). [`driver`] serves all of it on sockets.
//!
//! Knows nothing of any cloud, and nothing of Flux.

pub mod class;
pub mod driver;
pub mod kubelet;
pub mod metrics;
pub mod mount;
pub mod node;
pub mod providers;
pub mod rotate;
mod sealed;
pub mod sync;
pub mod volume;
pub mod wire;
