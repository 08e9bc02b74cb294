//! The `sops` metadata of a document: whom it is encrypted for, which values are, and the MAC.

use std::fmt;

use druse_object::Value;
use regex::Regex;
use zeroize::Zeroizing;

use crate::age::{self, AgeError};
use crate::cipher::is_ciphertext;
use crate::error::SopsError;
use crate::identity::Identities;
use crate::shamir;

/// Whom a document is encrypted for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients {
    /// age recipients.
    pub age: Vec<String>,
    /// PGP fingerprints.
    pub pgp: Vec<String>,
    /// Keys of clouds and vaults, each with its system.
    pub other: Vec<String>,
}

impl fmt::Display for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pgp = self.pgp.iter().map(|k| format!("PGP key {k}"));
        let all: Vec<String> = self.age.iter().cloned().chain(pgp).chain(self.other.iter().cloned()).collect();
        if all.is_empty() {
            return f.write_str("nobody");
        }
        f.write_str(&all.join(", "))?;
        if self.age.is_empty() {
            f.write_str(" (only age keys are supported)")?;
        }
        Ok(())
    }
}

/// An age recipient with the data key (or its part) encrypted for it.
struct AgeKey {
    recipient: String,
    encrypted: String,
}

/// Which values are encrypted. Files say one of these at most.
pub(crate) enum Rule {
    UnencryptedSuffix(String),
    EncryptedSuffix(String),
    UnencryptedRegex(Option<Regex>),
    EncryptedRegex(Option<Regex>),
    /// Comments decide; as they are not kept, what looks encrypted is.
    Comments,
}

impl Rule {
    /// Whether what stands under these keys is encrypted.
    pub(crate) fn encrypts(&self, path: &[&str], text: Option<&str>) -> bool {
        let any = |regex: &Option<Regex>| regex.as_ref().is_some_and(|r| path.iter().any(|p| r.is_match(p)));
        match self {
            Self::UnencryptedSuffix(s) => !path.iter().any(|p| p.ends_with(s.as_str())),
            Self::EncryptedSuffix(s) => path.iter().any(|p| p.ends_with(s.as_str())),
            Self::UnencryptedRegex(r) => !any(r),
            Self::EncryptedRegex(r) => any(r),
            Self::Comments => text.is_some_and(is_ciphertext),
        }
    }
}

/// What a document's metadata says.
pub(crate) struct Metadata {
    groups: Vec<Vec<AgeKey>>,
    threshold: usize,
    pub(crate) recipients: Recipients,
    pub(crate) rule: Rule,
    pub(crate) mac: String,
    /// What authenticates the MAC: when the document was last changed.
    pub(crate) last_modified: String,
    pub(crate) mac_only_encrypted: bool,
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn truth(value: Option<&Value>) -> bool {
    value.is_some_and(|v| v.as_bool() == Some(true) || matches!(v.as_str(), Some("true" | "True" | "1")))
}

fn read_group(group: &Value, recipients: &mut Recipients) -> Vec<AgeKey> {
    let list = |field: &str| group.get(field).map(Value::items).unwrap_or_default();
    for key in list("pgp") {
        recipients.pgp.push(text(key, "fp").to_string());
    }
    for (field, system, name) in [
        ("kms", "AWS KMS", "arn"),
        ("gcp_kms", "GCP KMS", "resource_id"),
        ("hckms", "Huawei KMS", "key_id"),
        ("azure_kv", "Azure Key Vault", "name"),
        ("hc_vault", "Vault", "key_name"),
    ] {
        recipients.other.extend(list(field).iter().map(|key| format!("{system} {}", text(key, name))));
    }
    list("age")
        .iter()
        .map(|key| {
            let recipient = text(key, "recipient").to_string();
            recipients.age.push(recipient.clone());
            AgeKey { recipient, encrypted: text(key, "enc").to_string() }
        })
        .collect()
}

impl Metadata {
    /// Reads the value of a document's `sops` key.
    pub(crate) fn read(value: &Value) -> Result<Self, SopsError> {
        if value.as_map().is_none() {
            return Err(SopsError::Metadata(format!("expected a map, found {}", value.kind_name())));
        }
        let mut recipients = Recipients::default();
        let own = read_group(value, &mut recipients);
        let any_own = !own.is_empty() || recipients != Recipients::default();
        let groups = if any_own {
            vec![own]
        } else {
            let groups = value.get("key_groups").map(Value::items).unwrap_or_default();
            groups.iter().map(|g| read_group(g, &mut recipients)).collect()
        };
        if groups.is_empty() {
            return Err(SopsError::Metadata("it names no keys".into()));
        }
        let threshold = match value.get("shamir_threshold") {
            Some(v) => {
                v.as_i64().or_else(|| v.as_str()?.parse().ok()).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
            }
            None => 0,
        };
        Ok(Self {
            groups,
            threshold,
            recipients,
            rule: rule(value)?,
            mac: text(value, "mac").to_string(),
            last_modified: text(value, "lastmodified").to_string(),
            mac_only_encrypted: truth(value.get("mac_only_encrypted")),
        })
    }

    /// The key that all values are encrypted with.
    pub(crate) fn data_key(&self, identities: &Identities) -> Result<Zeroizing<Vec<u8>>, SopsError> {
        let mut parts = Vec::new();
        for group in &self.groups {
            parts.extend(open_group(group, identities)?);
        }
        let no_key = || SopsError::NoKey { recipients: self.recipients.clone() };
        if self.groups.len() == 1 {
            return parts.pop().ok_or_else(no_key);
        }
        if parts.len() < self.threshold.max(2) {
            return Err(no_key());
        }
        let plain: Vec<Vec<u8>> = parts.iter().map(|p| p.to_vec()).collect();
        let combined = shamir::combine(&plain);
        plain.into_iter().for_each(|p| drop(Zeroizing::new(p)));
        combined.map(Zeroizing::new).ok_or_else(|| SopsError::Metadata("the parts of its data key do not fit".into()))
    }
}

/// Opens a group's part with the first key that does.
fn open_group(group: &[AgeKey], identities: &Identities) -> Result<Option<Zeroizing<Vec<u8>>>, SopsError> {
    let own = identities.recipients();
    let mut damaged = None;
    for key in group {
        match age::decrypt(&key.encrypted, identities) {
            Ok(part) => return Ok(Some(part)),
            Err(AgeError::Damaged(message)) if own.contains(&key.recipient) => {
                damaged = Some(SopsError::DataKey { recipient: key.recipient.clone(), message: message.to_string() });
            }
            Err(_) => {}
        }
    }
    damaged.map_or(Ok(None), Err)
}

fn rule(value: &Value) -> Result<Rule, SopsError> {
    let given: Vec<(&str, &str)> = [
        "unencrypted_suffix",
        "encrypted_suffix",
        "unencrypted_regex",
        "encrypted_regex",
        "unencrypted_comment_regex",
        "encrypted_comment_regex",
    ]
    .into_iter()
    .map(|field| (field, text(value, field)))
    .filter(|(_, v)| !v.is_empty())
    .collect();
    // sops takes a pattern that is none to match nothing.
    Ok(match given.as_slice() {
        [] => Rule::UnencryptedSuffix("_unencrypted".into()),
        [("unencrypted_suffix", s)] => Rule::UnencryptedSuffix((*s).to_string()),
        [("encrypted_suffix", s)] => Rule::EncryptedSuffix((*s).to_string()),
        [("unencrypted_regex", r)] => Rule::UnencryptedRegex(Regex::new(r).ok()),
        [("encrypted_regex", r)] => Rule::EncryptedRegex(Regex::new(r).ok()),
        [_] => Rule::Comments,
        [(a, _), (b, _), ..] => return Err(SopsError::Metadata(format!("{a} and {b} cannot be used together"))),
    })
}
