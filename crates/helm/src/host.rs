//! A host for templates that makes rendering a function of its inputs: seeded randomness, a fixed clock, and `lookup`
//! answered by whoever calls.

use druse_gotemplate::env::Host;
use druse_object::{Map, Value};
use sha2::{Digest, Sha256};

/// How a `lookup` is answered: API version, kind, namespace, name.
pub type Lookup<'a> = dyn Fn(&str, &str, &str, &str) -> Result<Value, String> + Send + Sync + 'a;

/// A deterministic host: random bytes are derived from the unit, the template, the function and how many-th call it is,
/// so a line inserted elsewhere changes nothing.
pub struct SeededHost<'a> {
    unit: String,
    now: i128,
    lookup: Option<Box<Lookup<'a>>>,
}

impl<'a> SeededHost<'a> {
    /// The clock of renders that set none: 2026-01-01T00:00:00Z, in nanoseconds since 1970.
    pub const DEFAULT_NOW: i128 = 1_767_225_600_000_000_000;

    /// A host for a unit (its name is the seed) with the default clock, whose lookups find nothing.
    pub fn new(unit: impl Into<String>) -> Self {
        Self { unit: unit.into(), now: Self::DEFAULT_NOW, lookup: None }
    }

    /// With another clock, in nanoseconds since 1970.
    #[must_use]
    pub fn with_clock(mut self, unix_nanos: i128) -> Self {
        self.now = unix_nanos;
        self
    }

    /// With an answer to `lookup`.
    #[must_use]
    pub fn with_lookup(
        mut self,
        lookup: impl Fn(&str, &str, &str, &str) -> Result<Value, String> + Send + Sync + 'a,
    ) -> Self {
        self.lookup = Some(Box::new(lookup));
        self
    }
}

impl Host for SeededHost<'_> {
    fn random(&self, template: &str, function: &str, count: u32, out: &mut [u8]) {
        let mut seed = Sha256::new();
        for part in [self.unit.as_str(), template, function] {
            seed.update((part.len() as u64).to_be_bytes());
            seed.update(part);
        }
        seed.update(count.to_be_bytes());
        let seed = seed.finalize();
        for (block, chunk) in out.chunks_mut(32).enumerate() {
            let mut h = Sha256::new();
            h.update(seed);
            h.update((block as u64).to_be_bytes());
            for (to, from) in chunk.iter_mut().zip(h.finalize()) {
                *to = from;
            }
        }
    }

    fn now_unix_nanos(&self) -> i128 {
        self.now
    }

    fn lookup(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Value, String> {
        match &self.lookup {
            Some(f) => f(api_version, kind, namespace, name),
            None => Ok(Value::Map(Map::new())),
        }
    }

    fn resolve_host(&self, _name: &str) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(unit: &str, template: &str, function: &str, count: u32) -> [u8; 40] {
        let mut out = [0; 40];
        SeededHost::new(unit).random(template, function, count, &mut out);
        out
    }

    #[test]
    fn every_part_of_the_seed_counts_and_nothing_else() {
        let base = bytes("u", "t", "f", 0);
        assert_eq!(base, bytes("u", "t", "f", 0));
        for other in [
            bytes("v", "t", "f", 0),
            bytes("u", "s", "f", 0),
            bytes("u", "t", "g", 0),
            bytes("u", "t", "f", 1),
            bytes("ut", "", "f", 0),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(base[..8], base[32..]);
    }
}
