//! The files of a volume, replaced all at once.
//!
//! As the kubelet writes ConfigMaps and Secrets (`AtomicWriter`), and upstream's driver after it: what a pod sees are
//! links into `..data`, which is a link to a folder with the time in its name. A new version is a new such folder;
//! renaming one link makes it the current one, so that a reader of `..data` sees all of the old version or all of the
//! new.
//!
//! ```text
//! password -> ..data/password
//! tls      -> ..data/tls
//! ..data   -> ..2026_01_31_12_00_00.123456789
//! ..2026_01_31_12_00_00.123456789/password
//! ..2026_01_31_12_00_00.123456789/tls/key.pem
//! ```
//!
//! A writer that is killed leaves the old version in place; what it left half-written is removed by the next.
//! Callers see to it that one volume has one writer at a time.

mod content;
mod write;

pub use content::{Content, ContentError, check_path};
pub use write::Volume;
