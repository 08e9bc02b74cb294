//! SOPS documents (getsops/sops 3.x): values encrypted one by one inside a file that stays readable.
//!
//! - [`Identities`]: age keys (X25519) as `age-keygen` writes them.
//! - [`open_value`]: decrypts an object that carries its `sops` metadata.
//! - [`open_file`]: decrypts a file of a [`Format`] into another, byte for byte as `sops decrypt` prints it.
//! - [`mask_value`], [`mask_file`]: what stands in where no key is at hand, so that ciphertext is never taken for a value.
//!
//! Every value is authenticated with its path; the MAC over all values is compared too and told apart
//! ([`Integrity`]), as Flux does without it. Data keys come from age recipients only; PGP and cloud keys are named in
//! the error. Nothing here writes a decrypted value anywhere, and no error contains one.
//!
//! Specifications: the age v1 format (C2SP age.md), sops' `aes`, `stores` and `shamir` packages.

mod age;
mod bech32;
mod cipher;
mod error;
mod format;
mod identity;
mod mask;
mod metadata;
mod open;
mod shamir;
mod stores;
mod tree;

pub use error::SopsError;
pub use format::Format;
pub use identity::Identities;
pub use mask::{PLACEHOLDER_PREFIX, mask_file, mask_value, placeholder};
pub use metadata::Recipients;
pub use open::{Integrity, Opened, is_encrypted, open_file, open_value, recipients, recipients_of_file};
