//! KMS keys: by which of them a parameter or secret is encrypted, and whether a policy's key is that one.
//!
//! AWS makes a key's id up when the key is made. Until then its address stands for it (`key/aws_kms_key.home`), so that a
//! policy that names the key and a parameter that is encrypted with it meet. A policy's resources are keys: an alias among
//! them allows nothing ("Using aliases to control access to KMS keys" in the KMS developer guide).

use druse_aws::arn::Arn;
use druse_aws::iam::HOLE;

use crate::value::Place;

/// Another name of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Alias {
    /// `alias/…`
    pub name: String,
    /// The ARN of the key that it leads to.
    pub key: String,
    /// Where it is declared.
    pub place: Option<Place>,
}

/// Whether a resource is a key that the tree declares: its id is an address.
pub(crate) fn is_key(data: bool, kind: &str) -> bool {
    !data && kind.starts_with("aws_kms_") && kind.ends_with("_key")
}

/// The ARN of a key by any of its names (id, ARN, alias, ARN of an alias), beside what it encrypts. An alias that is not
/// declared leads to a key whose id is a hole.
#[must_use]
pub fn key_arn(aliases: &[Alias], key: &str, beside: &Arn<'_>) -> String {
    let arn = |id: &str| format!("arn:{}:kms:{}:{}:key/{id}", beside.partition, beside.region, beside.account);
    let alias = Arn::parse(key).map_or(key, |a| a.resource);
    if alias.starts_with("alias/") {
        let declared = aliases.iter().find(|a| a.name == alias);
        return declared.map_or_else(|| arn(&HOLE.to_string()), |a| a.key.clone());
    }
    match key {
        k if k.starts_with("arn:") => k.into(),
        k if k.contains(HOLE) => arn(&HOLE.to_string()),
        k => arn(k),
    }
}

/// Whether a key's id or ARN is not AWS' own, but the address of its declaration.
#[must_use]
pub fn stands_in(key: &str) -> bool {
    key.rsplit_once(":key/").map_or(key, |(_, id)| id).contains("aws_kms_")
}

/// Whether two ARNs may be of the same key: one with an id of AWS', which may be what a declared key's address stands for.
#[must_use]
pub fn may_be_same(one: &str, other: &str) -> bool {
    let key = |arn: &str| arn.contains(":key/");
    key(one) && key(other) && stands_in(one) != stands_in(other)
}
