//! The functions, as tables by theme: all that Helm v4.3 offers templates besides Go's own.
//!
//! They follow Masterminds/sprig v3.3 (without `env` and `expandenv`, as in Helm) and Helm's `pkg/engine/funcs.go`.
//! Differences that remain: lists and maps are untyped, so `typeOf (splitList …)` is `[]interface {}` rather than
//! `[]string`; keys come in order where Go's map order is random; the local time zone is UTC; `genPrivateKey "dsa"`
//! is refused.

pub mod builtin;
pub mod bytes;
pub mod gofmt;
pub mod helm;
pub mod json;
pub mod semver;
pub mod times;

mod args;
mod crypto;
mod decimal;
mod defaults;
mod dicts;
mod duration;
mod encoding;
mod gotime;
mod keys;
mod lists;
mod merge;
mod numeric;
mod paths;
mod pretty;
mod primes;
mod random;
mod reflect;
mod regexes;
mod strings;
mod toml;
mod toml_read;
mod urls;
mod words;
mod x509;

use crate::env::NativeFn;

/// One function: the name templates call it by, and what runs.
pub type Entry = (&'static str, NativeFn);

/// All tables of this module.
const TABLES: &[&[Entry]] = &[
    crypto::TABLE,
    defaults::TABLE,
    dicts::TABLE,
    duration::TABLE,
    encoding::TABLE,
    helm::TABLE,
    json::TABLE,
    lists::TABLE,
    numeric::TABLE,
    paths::TABLE,
    random::TABLE,
    reflect::TABLE,
    regexes::TABLE,
    semver::TABLE,
    strings::TABLE,
    times::TABLE,
    toml::TABLE,
    urls::TABLE,
    x509::TABLE,
];

/// Every function Helm adds to Go's own.
pub fn helm_funcs() -> impl Iterator<Item = Entry> {
    TABLES.iter().flat_map(|t| t.iter().copied())
}

/// Go's functions and all of Helm's.
#[must_use]
pub fn helm() -> crate::exec::FuncMap {
    crate::exec::FuncMap::go().with(helm_funcs())
}
