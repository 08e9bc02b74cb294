//! Digests, passwords, keys and AES: sprig's `crypto.go` without certificates.

use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use rand::Rng as _;
use sha2::Digest as _;

use crate::env::Env;
use crate::val::Val;

use super::args::{Args, Res, err};
use super::keys::Key;
use super::{Entry, bytes, encoding, numeric, random};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("sha1sum", |_, a| digest("sha1sum", a, |d| hex::encode(sha1::Sha1::digest(d)))),
    ("sha256sum", |_, a| digest("sha256sum", a, |d| hex::encode(sha2::Sha256::digest(d)))),
    ("sha512sum", |_, a| digest("sha512sum", a, |d| hex::encode(sha2::Sha512::digest(d)))),
    ("adler32sum", |_, a| digest("adler32sum", a, |d| adler32(d).to_string())),
    ("bcrypt", |env, a| {
        let password = Args::exact("bcrypt", a, 1)?.str(0)?;
        Ok(Val::str(bcrypt(env, "bcrypt", password)))
    }),
    ("htpasswd", htpasswd),
    ("derivePassword", derive_password),
    ("genPrivateKey", gen_private_key),
    ("encryptAES", encrypt_aes),
    ("decryptAES", decrypt_aes),
];

fn digest(name: &str, a: &[Val], f: impl Fn(&[u8]) -> String) -> Res {
    Ok(Val::str(f(&bytes::to_bytes(Args::exact(name, a, 1)?.str(0)?))))
}

fn adler32(data: &[u8]) -> u32 {
    let (a, b) = data.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    (b << 16) | a
}

fn bcrypt(env: &mut Env<'_>, function: &'static str, password: &str) -> String {
    let password = bytes::to_bytes(password);
    if password.len() > 72 {
        return "failed to encrypt string with bcrypt: bcrypt: password length exceeds 72 bytes".to_owned();
    }
    let mut salt = [0u8; 16];
    random::generator(env, function).fill_bytes(&mut salt);
    match bcrypt::hash_with_salt(&password, 10, salt) {
        Ok(hash) => hash.format_for_version(bcrypt::Version::TwoA),
        Err(e) => format!("failed to encrypt string with bcrypt: {e}"),
    }
}

fn htpasswd(env: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("htpasswd", a, 2)?;
    let (user, password) = (a.str(0)?, a.str(1)?);
    Ok(Val::str(if user.contains(':') {
        format!("invalid username: {user}")
    } else {
        format!("{user}:{}", bcrypt(env, "htpasswd", password))
    }))
}

fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut block = [0u8; 64];
    block.iter_mut().zip(key).for_each(|(b, k)| *b = *k);
    let pad = |with: u8| block.map(|b| b ^ with);
    let inner = sha2::Sha256::new().chain_update(pad(0x36)).chain_update(data).finalize();
    sha2::Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

const SEED: &str = "com.lyndir.masterpassword";

/// The patterns of each type of password.
fn password_templates(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "maximum" => &["anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"],
        "long" => &[
            "CvcvnoCvcvCvcv",
            "CvcvCvcvnoCvcv",
            "CvcvCvcvCvcvno",
            "CvccnoCvcvCvcv",
            "CvccCvcvnoCvcv",
            "CvccCvcvCvcvno",
            "CvcvnoCvccCvcv",
            "CvcvCvccnoCvcv",
            "CvcvCvccCvcvno",
            "CvcvnoCvcvCvcc",
            "CvcvCvcvnoCvcc",
            "CvcvCvcvCvccno",
            "CvccnoCvccCvcv",
            "CvccCvccnoCvcv",
            "CvccCvccCvcvno",
            "CvcvnoCvccCvcc",
            "CvcvCvccnoCvcc",
            "CvcvCvccCvccno",
            "CvccnoCvcvCvcc",
            "CvccCvcvnoCvcc",
            "CvccCvcvCvccno",
        ],
        "medium" => &["CvcnoCvc", "CvcCvcno"],
        "short" => &["Cvcn"],
        "basic" => &["aaanaaan", "aannaaan", "aaannaaa"],
        "pin" => &["nnnn"],
        _ => return None,
    })
}

/// The characters a letter of a pattern stands for.
fn password_characters(class: u8) -> &'static [u8] {
    match class {
        b'V' => b"AEIOU",
        b'C' => b"BCDFGHJKLMNPQRSTVWXYZ",
        b'v' => b"aeiou",
        b'c' => b"bcdfghjklmnpqrstvwxyz",
        b'A' => b"AEIOUBCDFGHJKLMNPQRSTVWXYZ",
        b'a' => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        b'n' => b"0123456789",
        b'o' => b"@&%?,=[]_:-+*$#!'^~;()/.",
        _ => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
}

/// The Master Password algorithm.
fn derive_password(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("derivePassword", a, 5)?;
    let counter = u32::try_from(numeric::to_i64(a.any(0))).unwrap_or(0);
    let (kind, password, user, site) = (a.str(1)?, a.str(2)?, a.str(3)?, a.str(4)?);
    let Some(templates) = password_templates(kind) else {
        return Ok(Val::str(format!("cannot find password template {kind}")));
    };
    let salted = |name: &str| {
        let name = bytes::to_bytes(name);
        let mut out = SEED.as_bytes().to_vec();
        out.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&name);
        out
    };
    let mut key = [0u8; 64];
    let derived = scrypt::Params::new(15, 8, 2).map_err(|e| e.to_string()).and_then(|p| {
        scrypt::scrypt(&bytes::to_bytes(password), &salted(user), &p, &mut key).map_err(|e| e.to_string())
    });
    if let Err(e) = derived {
        return Ok(Val::str(format!("failed to derive password: {e}")));
    }
    let mut message = salted(site);
    message.extend(counter.to_be_bytes());
    let seed = hmac_sha256(&key, &message);
    let pick = |i: usize, n: usize| seed.get(i).map_or(0, |b| usize::from(*b) % n);
    let template = templates.get(pick(0, templates.len())).copied().unwrap_or("");
    let password = template.bytes().enumerate().filter_map(|(i, class)| {
        let set = password_characters(class);
        set.get(pick(i + 1, set.len())).map(|b| char::from(*b))
    });
    Ok(Val::str(password.collect::<String>()))
}

fn gen_private_key(env: &mut Env<'_>, a: &[Val]) -> Res {
    let kind = Args::exact("genPrivateKey", a, 1)?.str(0)?;
    let mut rng = random::generator(env, "genPrivateKey");
    let key = match kind {
        "" | "rsa" => Key::rsa(&mut rng, 4096)?,
        "ecdsa" => Key::ec(&mut rng),
        "ed25519" => Key::ed(&mut rng),
        "dsa" => return err("DSA keys are not supported; use rsa, ecdsa or ed25519"),
        other => return Ok(Val::str(format!("Unknown type {other}"))),
    };
    key.pem().map(Val::str)
}

fn aes_key(password: &str) -> aes::Aes256 {
    let mut key = [0u8; 32];
    key.iter_mut().zip(bytes::to_bytes(password).iter()).for_each(|(k, p)| *k = *p);
    aes::Aes256::new(&key.into())
}

fn xor(block: &mut [u8; 16], with: &[u8; 16]) {
    block.iter_mut().zip(with).for_each(|(b, w)| *b ^= w);
}

fn encrypt_aes(env: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("encryptAES", a, 2)?;
    let (password, text) = (a.str(0)?, a.str(1)?);
    if text.is_empty() {
        return Ok(Val::str(""));
    }
    let cipher = aes_key(password);
    let mut previous = [0u8; 16];
    random::generator(env, "encryptAES").fill_bytes(&mut previous);
    let mut data = bytes::to_bytes(text).into_owned();
    let padding = 16 - data.len() % 16;
    data.extend(std::iter::repeat_n(u8::try_from(padding).unwrap_or(16), padding));
    let mut out = previous.to_vec();
    for block in data.as_chunks::<16>().0 {
        let mut block = *block;
        xor(&mut block, &previous);
        let mut array = block.into();
        cipher.encrypt_block(&mut array);
        previous = array.into();
        out.extend_from_slice(&previous);
    }
    Ok(Val::str(encoding::base64(&out)))
}

fn decrypt_aes(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("decryptAES", a, 2)?;
    let (password, text) = (a.str(0)?, a.str(1)?);
    if text.is_empty() {
        return Ok(Val::str(""));
    }
    let data = match encoding::base64_decode(text) {
        Ok(data) => data,
        Err(e) => return err(e),
    };
    let (blocks, rest) = data.as_chunks::<16>();
    let [iv, blocks @ ..] = blocks else {
        return err(format!("runtime error: slice bounds out of range [:16] with capacity {}", data.len()));
    };
    if !rest.is_empty() {
        return err("crypto/cipher: input not full blocks");
    }
    let cipher = aes_key(password);
    let mut previous = *iv;
    let mut out = Vec::with_capacity(data.len());
    for block in blocks {
        let mut array = (*block).into();
        cipher.decrypt_block(&mut array);
        let mut plain: [u8; 16] = array.into();
        xor(&mut plain, &previous);
        previous = *block;
        out.extend_from_slice(&plain);
    }
    let Some(padding) = out.last().map(|b| usize::from(*b)) else {
        return err("runtime error: index out of range [-1]");
    };
    match out.len().checked_sub(padding) {
        Some(len) => out.truncate(len),
        None => {
            return err(format!("runtime error: slice bounds out of range [:-{}]", padding - out.len()));
        }
    }
    Ok(Val::Str(bytes::from_bytes(&out)))
}
