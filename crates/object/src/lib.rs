//! Kubernetes objects as data.
//!
//! One value type ([`Value`]), one object type ([`Object`]) with its identity ([`Gvk`], [`ObjectKey`]) and its
//! [`Provenance`]; YAML read and written as the Go tools do ([`yaml`]), JSON text ([`json`]), and the three
//! Kubernetes patch formats ([`patch`]). Knows nothing of files and of the network.

pub mod go;
pub mod gvk;
pub mod json;
pub mod map;
pub mod number;
pub mod object;
pub mod patch;
pub mod quantity;
pub mod schedule;
pub mod selector;
pub mod value;
pub mod yaml;

pub use gvk::{Gvk, ObjectKey};
pub use map::Map;
pub use object::{Object, Provenance};
pub use quantity::Quantity;
pub use schedule::Schedule;
pub use value::{Str, Value};
