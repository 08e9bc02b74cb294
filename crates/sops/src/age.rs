//! Reads age files (C2SP age.md, `age-encryption.org/v1`): the armor, the header with its X25519 stanzas, the payload.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, hmac};
use x25519_dalek::PublicKey;
use zeroize::Zeroizing;

use crate::identity::{Identities, Identity};

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
const VERSION: &[u8] = b"age-encryption.org/v1\n";
const X25519_LABEL: &[u8] = b"age-encryption.org/v1/X25519";
/// The bytes of a full payload chunk, with its tag.
const CHUNK: usize = 64 * 1024 + 16;

/// Why an age file does not open.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AgeError {
    /// It is for other keys.
    NotForUs,
    /// It is damaged, or is none.
    Damaged(&'static str),
}

type Key = Zeroizing<[u8; 32]>;

fn derive(salt: &[u8], secret: &[u8], info: &[u8]) -> Option<Key> {
    let mut out = Zeroizing::new([0; 32]);
    let info = [info];
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    prk.expand(&info, hkdf::HKDF_SHA256).ok()?.fill(out.as_mut()).ok()?;
    Some(out)
}

fn chacha_open(key: &Key, nonce: [u8; 12], data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).ok()?);
    let mut buffer = Zeroizing::new(data.to_vec());
    let plain = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut buffer).ok()?.len();
    buffer.truncate(plain);
    Some(buffer)
}

/// Takes the armor off.
fn dearmor(text: &str) -> Option<Vec<u8>> {
    let body = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let joined: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(joined).ok()
}

/// A recipient stanza: its type and arguments, and its body.
struct Stanza<'a> {
    args: Vec<&'a str>,
    body: Vec<u8>,
}

/// What a header says, and where the payload starts.
struct Header<'a> {
    stanzas: Vec<Stanza<'a>>,
    /// What the header's MAC covers.
    covered: &'a [u8],
    mac: Vec<u8>,
    payload: &'a [u8],
}

fn header(file: &[u8]) -> Option<Header<'_>> {
    let mut rest = file.strip_prefix(VERSION)?;
    let mut stanzas = Vec::new();
    loop {
        let (line, after) = take_line(rest)?;
        if let Some(mac) = line.strip_prefix("--- ") {
            let covered = file.get(..file.len() - rest.len() + 3)?;
            return Some(Header { stanzas, covered, mac: STANDARD_NO_PAD.decode(mac).ok()?, payload: after });
        }
        let args: Vec<&str> = line.strip_prefix("-> ")?.split(' ').collect();
        rest = after;
        let mut body = String::new();
        loop {
            let (line, after) = take_line(rest)?;
            rest = after;
            body.push_str(line);
            if line.len() < 64 {
                break;
            }
        }
        stanzas.push(Stanza { args, body: STANDARD_NO_PAD.decode(body).ok()? });
    }
}

fn take_line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    Some((std::str::from_utf8(bytes.get(..end)?).ok()?, bytes.get(end + 1..)?))
}

/// The file key of an X25519 stanza, when it is for this identity.
fn unwrap_stanza(stanza: &Stanza<'_>, identity: &Identity) -> Option<Zeroizing<Vec<u8>>> {
    let ["X25519", share] = stanza.args.as_slice() else { return None };
    let share: [u8; 32] = STANDARD_NO_PAD.decode(share).ok()?.try_into().ok()?;
    if stanza.body.len() != 32 {
        return None;
    }
    let shared = identity.secret.diffie_hellman(&PublicKey::from(share));
    if !shared.was_contributory() {
        return None;
    }
    let salt = [share, identity.public].concat();
    let key = derive(&salt, shared.as_bytes(), X25519_LABEL)?;
    chacha_open(&key, [0; 12], &stanza.body)
}

/// Decrypts an armored age file.
pub(crate) fn decrypt(armored: &str, identities: &Identities) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let file = dearmor(armored).ok_or(AgeError::Damaged("its armor is not whole"))?;
    let header = header(&file).ok_or(AgeError::Damaged("its header is not that of age-encryption.org/v1"))?;
    let file_key = identities
        .keys
        .iter()
        .find_map(|id| header.stanzas.iter().find_map(|s| unwrap_stanza(s, id)))
        .ok_or(AgeError::NotForUs)?;
    let damaged = |what| move || AgeError::Damaged(what);
    let mac_key = derive(&[], &file_key, b"header").ok_or_else(damaged("its header"))?;
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, mac_key.as_ref()), header.covered, &header.mac)
        .map_err(|_| AgeError::Damaged("its header was changed"))?;
    let (nonce, chunks) = header.payload.split_at_checked(16).ok_or(AgeError::Damaged("its payload is cut off"))?;
    let payload_key = derive(nonce, &file_key, b"payload").ok_or_else(damaged("its payload"))?;
    let mut out = Zeroizing::new(Vec::new());
    let count = chunks.len().div_ceil(CHUNK).max(1);
    for i in 0..count {
        let chunk = chunks.get(i * CHUNK..chunks.len().min((i + 1) * CHUNK)).unwrap_or_default();
        let mut nonce = [0; 12];
        for (place, byte) in nonce.iter_mut().take(11).rev().zip(u64::try_from(i).unwrap_or(0).to_le_bytes()) {
            *place = byte;
        }
        nonce[11] = u8::from(i + 1 == count);
        let plain = chacha_open(&payload_key, nonce, chunk).ok_or_else(damaged("its payload was changed"))?;
        out.extend_from_slice(&plain);
    }
    Ok(out)
}
