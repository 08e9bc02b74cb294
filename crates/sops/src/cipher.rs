//! One encrypted value: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.

use aes_gcm::aead::consts::{U12, U32};
use aes_gcm::aead::{AeadInOut, KeyInit, Nonce, Tag};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, KeySizeUser};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A decrypted value with its type.
#[derive(Clone, PartialEq)]
pub(crate) enum Plain {
    Text(Vec<u8>),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// A timestamp, in the words in which it was encrypted.
    Time(String),
    /// A comment that stood among a list's items.
    Comment(Vec<u8>),
}

impl Plain {
    /// The bytes that go into the MAC; a comment has none.
    pub(crate) fn mac_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(t) => Some(t.clone()),
            Self::Int(i) => Some(i.to_string().into_bytes()),
            Self::Float(f) => Some(f.to_string().into_bytes()),
            Self::Bool(b) => Some(if *b { b"True".to_vec() } else { b"False".to_vec() }),
            Self::Time(t) => Some(t.clone().into_bytes()),
            Self::Comment(_) => None,
        }
    }
}

/// Whether a text has the form of an encrypted value.
pub(crate) fn is_ciphertext(text: &str) -> bool {
    parts(text).is_some()
}

/// Data, nonce, tag and type of an encrypted value.
fn parts(text: &str) -> Option<(&str, &str, &str, &str)> {
    let inner = text.strip_prefix("ENC[AES256_GCM,data:")?;
    let (data, rest) = inner.split_once(",iv:")?;
    let (iv, rest) = rest.split_once(",tag:")?;
    let (tag, rest) = rest.split_once(",type:")?;
    let (kind, _) = rest.split_once(']')?;
    (!data.is_empty() && !iv.is_empty() && !tag.is_empty() && !kind.is_empty()).then_some((data, iv, tag, kind))
}

fn open<N: aes_gcm::aead::array::ArraySize>(
    key: &[u8],
    iv: &[u8],
    aad: &[u8],
    data: &mut [u8],
    tag: &[u8],
) -> Option<()>
where
    AesGcm<Aes256, N>: AeadInOut + KeyInit,
{
    let gcm = AesGcm::<Aes256, N>::new_from_slice(key).ok()?;
    let nonce: &Nonce<AesGcm<Aes256, N>> = iv.try_into().ok()?;
    let tag: &Tag<AesGcm<Aes256, N>> = tag.try_into().ok()?;
    gcm.decrypt_inout_detached(nonce, aad, data.into(), tag).ok()
}

/// Decrypts a value under the path it stands at (`a:b:`). Empty text is what sops leaves empty text as.
pub(crate) fn decrypt(text: &str, key: &[u8], aad: &str) -> Result<Plain, &'static str> {
    if text.is_empty() {
        return Ok(Plain::Text(Vec::new()));
    }
    let (data, iv, tag, kind) = parts(text).ok_or("it does not have the form ENC[AES256_GCM,…]")?;
    let decode = |t: &str| STANDARD.decode(t).map_err(|_| "its parts are not base64");
    let (mut data, iv, tag) = (decode(data)?, decode(iv)?, decode(tag)?);
    if key.len() != Aes256::key_size() {
        return Err("the data key does not have 32 bytes");
    }
    match iv.len() {
        32 => open::<U32>(key, &iv, aad.as_bytes(), &mut data, &tag),
        12 => open::<U12>(key, &iv, aad.as_bytes(), &mut data, &tag),
        _ => return Err("its nonce has neither 32 nor 12 bytes"),
    }
    .ok_or("it was changed, or moved from where it was encrypted")?;
    let word = || std::str::from_utf8(&data).map_err(|_| "it is not of its type");
    match kind {
        "str" | "bytes" => Ok(Plain::Text(data)),
        "int" => word()?.parse().map(Plain::Int).map_err(|_| "it is not of its type"),
        "float" => word()?.parse().map(Plain::Float).map_err(|_| "it is not of its type"),
        "bool" => match word()? {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Plain::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Plain::Bool(false)),
            _ => Err("it is not of its type"),
        },
        "time" => Ok(Plain::Time(word()?.to_string())),
        "comment" => Ok(Plain::Comment(data)),
        _ => Err("its type is not one that sops knows"),
    }
}
