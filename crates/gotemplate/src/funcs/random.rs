//! Randomness that is a pure function of the host's seed, the template, the function and how often it was called.

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

use crate::env::Env;
use crate::val::Val;

use super::args::{Args, MAX_TEXT, Res, err};
use super::{Entry, encoding};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("randAlphaNum", |env, a| chars(env, "randAlphaNum", a, |c| c.is_ascii_alphanumeric())),
    ("randAlpha", |env, a| chars(env, "randAlpha", a, |c| c.is_ascii_alphabetic())),
    ("randNumeric", |env, a| chars(env, "randNumeric", a, |c| c.is_ascii_digit())),
    ("randAscii", |env, a| chars(env, "randAscii", a, |c| (' '..='~').contains(c))),
    ("randBytes", rand_bytes),
    ("randInt", rand_int),
    ("uuidv4", uuidv4),
    ("shuffle", shuffle),
];

/// A generator for one call of `function`.
pub(crate) fn generator(env: &mut Env<'_>, function: &'static str) -> ChaCha20Rng {
    let mut seed = [0u8; 32];
    env.random(function, &mut seed);
    ChaCha20Rng::from_seed(seed)
}

fn count(n: i64) -> Result<usize, crate::env::FuncError> {
    match usize::try_from(n) {
        Ok(n) if n > MAX_TEXT => err("the resulting text would be too long"),
        Ok(n) => Ok(n),
        Err(_) => Ok(0),
    }
}

fn chars(env: &mut Env<'_>, name: &'static str, a: &[Val], allowed: impl Fn(&char) -> bool) -> Res {
    let n = count(Args::exact(name, a, 1)?.int(0)?)?;
    let set: Vec<char> = (' '..='~').filter(|c| allowed(c)).collect();
    let mut rng = generator(env, name);
    Ok(Val::str((0..n).filter_map(|_| set.get(rng.random_range(0..set.len()))).collect::<String>()))
}

fn rand_bytes(env: &mut Env<'_>, a: &[Val]) -> Res {
    let n = Args::exact("randBytes", a, 1)?.int(0)?;
    if n < 0 {
        return err("runtime error: makeslice: len out of range");
    }
    let mut data = vec![0u8; count(n)?];
    generator(env, "randBytes").fill_bytes(&mut data);
    Ok(Val::str(encoding::base64(&data)))
}

fn rand_int(env: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("randInt", a, 2)?;
    let (min, max) = (a.int(0)?, a.int(1)?);
    let span = max.wrapping_sub(min);
    if span <= 0 {
        return err("invalid argument to Intn");
    }
    Ok(Val::Int(generator(env, "randInt").random_range(0..span).wrapping_add(min)))
}

fn uuidv4(env: &mut Env<'_>, a: &[Val]) -> Res {
    Args::exact("uuidv4", a, 0)?;
    let mut b = [0u8; 16];
    generator(env, "uuidv4").fill_bytes(&mut b);
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let text = hex::encode(b);
    let part = |r: std::ops::Range<usize>| text.get(r).unwrap_or("");
    Ok(Val::str(format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))))
}

fn shuffle(env: &mut Env<'_>, a: &[Val]) -> Res {
    let mut text: Vec<char> = Args::exact("shuffle", a, 1)?.str(0)?.chars().collect();
    let mut rng = generator(env, "shuffle");
    for i in (1..text.len()).rev() {
        text.swap(i, rng.random_range(0..=i));
    }
    Ok(Val::str(text.into_iter().collect::<String>()))
}
