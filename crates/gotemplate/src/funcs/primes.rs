//! RSA keys, made in a fraction of the time: the very keys that the `rsa` crate makes of the same random bytes.
//!
//! The crate draws two random numbers and takes the first prime at or above each. Here those primes are sought first, on
//! two threads, with a sieve and Fermat's test to the base 2 in numbers of fixed width; the crate is then given the primes
//! in place of the bytes that it would draw, tests them as it tests every number (Miller-Rabin, Lucas) and takes them.
//! All that was passed over has a small factor or fails Fermat's test, hence the crate's tests, too. Were a number taken
//! here that is no prime, the crate would go on from there.

use std::collections::VecDeque;
use std::convert::Infallible;

use rand::{Rng as _, TryCryptoRng, TryRng};
use rand_chacha::ChaCha20Rng;
use rsa::PrivateKey;

/// How many odd numbers are sieved at once. Primes of 1024 bits are 355 odd numbers apart on average.
const WINDOW: usize = 4096;
/// Numbers with a prime factor below this are sieved out.
const SIEVED: u32 = 1 << 16;

/// A new RSA key: what [`PrivateKey::new`] gives.
///
/// # Errors
/// As there.
pub fn rsa_key(rng: &mut ChaCha20Rng, bits: usize) -> Result<PrivateKey, rsa::Error> {
    match bits {
        2048 => sought::<16>(rng, bits),
        4096 => sought::<32>(rng, bits),
        _ => PrivateKey::new(rng, bits),
    }
}

fn sought<const LIMBS: usize>(rng: &mut ChaCha20Rng, bits: usize) -> Result<PrivateKey, rsa::Error> {
    let starts = [drawn::<LIMBS>(rng), drawn::<LIMBS>(rng)];
    let small = small_primes();
    let [p, q] = std::thread::scope(|scope| {
        let [p, q] = starts.map(|start| {
            let small = &small;
            (start, std::thread::Builder::new().spawn_scoped(scope, move || prime_from(start, small)))
        });
        // Without a thread the crate seeks it itself.
        [p, q].map(|(start, thread)| thread.ok().and_then(|t| t.join().ok()).unwrap_or(start))
    });
    let bytes = |n: [u64; LIMBS]| n.into_iter().flat_map(u64::to_le_bytes).collect();
    PrivateKey::new(&mut Told { first: VecDeque::from([bytes(p), bytes(q)]), rng }, bits)
}

/// A generator that gives these bytes first, where as many are asked for.
struct Told<'r> {
    first: VecDeque<Vec<u8>>,
    rng: &'r mut ChaCha20Rng,
}

impl TryRng for Told<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.rng.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.rng.try_next_u64()
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        match self.first.pop_front_if(|bytes| bytes.len() == out.len()) {
            Some(bytes) => out.copy_from_slice(&bytes),
            None => self.rng.fill_bytes(out),
        }
        Ok(())
    }
}

impl TryCryptoRng for Told<'_> {}

/// Where the search for a prime starts: an odd random number with its two highest bits set, drawn as the crate draws it.
fn drawn<const LIMBS: usize>(rng: &mut ChaCha20Rng) -> [u64; LIMBS] {
    let mut n = [0; LIMBS].map(|_: u64| {
        let mut bytes = [0; 8];
        rng.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    });
    if let Some(lowest) = n.first_mut() {
        *lowest |= 1;
    }
    if let Some(highest) = n.last_mut() {
        *highest |= 3 << 62;
    }
    n
}

/// The odd primes below [`SIEVED`].
fn small_primes() -> Vec<u32> {
    let mut composite = vec![false; SIEVED as usize];
    let mut out = Vec::new();
    for n in (3..SIEVED).step_by(2) {
        if composite.get(n as usize) == Some(&false) {
            out.push(n);
            composite
                .iter_mut()
                .skip((n as usize).saturating_mul(n as usize))
                .step_by(n as usize)
                .for_each(|c| *c = true);
        }
    }
    out
}

/// The first number at or above an odd one that may be a prime; the number itself where there is none of this width.
fn prime_from<const LIMBS: usize>(start: [u64; LIMBS], small: &[u32]) -> [u64; LIMBS] {
    let mut base = start;
    loop {
        let mut composite = [false; WINDOW];
        for p in small {
            // The first of base, base + 2, base + 4, … that p divides.
            let lacks = p - remainder(&base, *p);
            let first = if lacks.is_multiple_of(2) { lacks / 2 } else { lacks.midpoint(*p) } % p;
            composite.iter_mut().skip(first as usize).step_by(*p as usize).for_each(|c| *c = true);
        }
        for (_, i) in composite.iter().zip(0u64..).filter(|(composite, _)| !**composite) {
            match plus(&base, 2 * i) {
                Some(n) if may_be_prime(&n) => return n,
                Some(_) => {}
                None => return start,
            }
        }
        match plus(&base, 2 * WINDOW as u64) {
            Some(next) => base = next,
            None => return start,
        }
    }
}

fn remainder<const LIMBS: usize>(n: &[u64; LIMBS], p: u32) -> u32 {
    let p = u64::from(p);
    // p has less than 32 bits: no step overflows, and the rest fits.
    n.iter().rev().fold(0, |rest, limb| ((((rest << 32 | limb >> 32) % p) << 32) | limb & 0xffff_ffff) % p) as u32
}

fn plus<const LIMBS: usize>(n: &[u64; LIMBS], small: u64) -> Option<[u64; LIMBS]> {
    let mut carry = small;
    let sum = n.map(|limb| {
        let (sum, over) = limb.overflowing_add(carry);
        carry = u64::from(over);
        sum
    });
    (carry == 0).then_some(sum)
}

/// Fermat's test to the base 2: whether 2ⁿ⁻¹ = 1 modulo n, for an odd n with its highest bit set. All primes pass.
fn may_be_prime<const LIMBS: usize>(n: &[u64; LIMBS]) -> bool {
    let lowest = n.first().copied().unwrap_or_default();
    // -1/n modulo 2⁶⁴: each step doubles the bits that are right, of which an odd number has three to begin with.
    let inverse = (0..5).fold(lowest, |x, _| x.wrapping_mul(2u64.wrapping_sub(lowest.wrapping_mul(x)))).wrapping_neg();
    // One in Montgomery's form, 2^(64·LIMBS) modulo n: n is more than half of it.
    let one = below(&[0; LIMBS], 1, n);
    let mut x = double(&one, n);
    for bit in (0..64 * LIMBS - 1).rev() {
        x = square(&x, n, inverse);
        // The exponent is n - 1, which differs from n in its lowest bit.
        if bit > 0 && n.get(bit / 64).is_some_and(|limb| limb >> (bit % 64) & 1 == 1) {
            x = double(&x, n);
        }
    }
    x == one
}

/// a·b + c + d, as its low and its high half.
fn multiply_add(a: u64, b: u64, c: u64, d: u64) -> (u64, u64) {
    let sum = u128::from(a) * u128::from(b) + u128::from(c) + u128::from(d);
    (sum as u64, (sum >> 64) as u64)
}

/// The Montgomery square of a number below n, row by row: after each the lowest limb is made zero and dropped.
fn square<const LIMBS: usize>(a: &[u64; LIMBS], n: &[u64; LIMBS], inverse: u64) -> [u64; LIMBS] {
    let mut sum = [0; LIMBS];
    let mut top = 0;
    for row in a {
        let mut carry = 0;
        for (sum, limb) in sum.iter_mut().zip(a) {
            (*sum, carry) = multiply_add(*limb, *row, *sum, carry);
        }
        let (high, over) = carry.overflowing_add(top);
        let factor = sum[0].wrapping_mul(inverse);
        let (_, mut carry) = multiply_add(factor, n[0], sum[0], 0);
        for i in 1..LIMBS {
            (sum[i - 1], carry) = multiply_add(factor, n[i], sum[i], carry);
        }
        let (high, over_again) = high.overflowing_add(carry);
        sum[LIMBS - 1] = high;
        top = u64::from(over) + u64::from(over_again);
    }
    below(&sum, top, n)
}

fn double<const LIMBS: usize>(a: &[u64; LIMBS], n: &[u64; LIMBS]) -> [u64; LIMBS] {
    let mut carry = 0;
    let doubled = a.map(|limb| {
        let low = limb << 1 | carry;
        carry = limb >> 63;
        low
    });
    below(&doubled, carry, n)
}

/// A number below 2n, with what is above its limbs, modulo n.
fn below<const LIMBS: usize>(a: &[u64; LIMBS], top: u64, n: &[u64; LIMBS]) -> [u64; LIMBS] {
    let mut less = [0; LIMBS];
    let mut borrow = 0;
    for (less, (a, n)) in less.iter_mut().zip(a.iter().zip(n)) {
        let (difference, under) = a.overflowing_sub(*n);
        let (difference, under_again) = difference.overflowing_sub(borrow);
        *less = difference;
        borrow = u64::from(under) + u64::from(under_again);
    }
    if top >= borrow { less } else { *a }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn keys_are_those_of_the_crate() {
        for (seed, bits) in [(1, 2048), (2, 2048), (3, 4096), (4, 1024)] {
            let mut rng = [0; 2].map(|_| ChaCha20Rng::from_seed([seed; 32]));
            let [ours, theirs] = &mut rng;
            assert_eq!(rsa_key(ours, bits), PrivateKey::new(theirs, bits), "seed {seed}");
            assert_eq!(ours.next_u64(), theirs.next_u64(), "the same was drawn");
        }
    }

    #[test]
    fn primes_pass_and_composites_do_not() {
        // 2^1024 - 105 is the largest prime below 2^1024.
        let mut n = [u64::MAX; 16];
        let small = small_primes();
        assert_eq!((small.len(), small.first(), small.last()), (6541, Some(&3), Some(&65521)));
        n[0] = 0u64.wrapping_sub(105);
        assert!(may_be_prime(&n));
        for less in (1..105).step_by(2) {
            n[0] = 0u64.wrapping_sub(less);
            assert!(!may_be_prime(&n), "2^1024 - {less}");
        }
        let largest = plus(&[u64::MAX; 16], 0).unwrap();
        assert_eq!(prime_from(largest, &small), largest, "there is none above");
        n[0] = 0u64.wrapping_sub(1395);
        assert_eq!(prime_from(n, &small)[0], 0u64.wrapping_sub(179));
    }
}
