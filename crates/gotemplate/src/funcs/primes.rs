//! RSA keys, made in a fraction of the time: the very keys that the `rsa` crate makes of the same random bytes.
//!
//! The crate draws two random numbers and takes the first prime at or above each. Here those primes are sought on two
//! threads, with a sieve and the Miller-Rabin test in numbers of fixed width: one round tells nearly all composites, five
//! (as many as FIPS 186-5, table B.1, asks for) make sure. The crate then makes the key of its primes and checks it.

use rand::Rng as _;
use rand_chacha::ChaCha20Rng;
use rsa::{BoxedUint, PrivateKey};

/// How many odd numbers are sieved at once. Primes of 1024 bits are 355 odd numbers apart on average.
const WINDOW: usize = 4096;
/// Numbers with a prime factor below this are sieved out.
const SIEVED: u32 = 1 << 16;

/// The bases of the Miller-Rabin test.
const BASES: [u64; 5] = [2, 3, 5, 7, 11];
/// The exponent of all public keys.
const PUBLIC_EXPONENT: u64 = 65537;

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
    let small = small_primes();
    loop {
        let starts = [drawn::<LIMBS>(rng), drawn::<LIMBS>(rng)];
        let found = std::thread::scope(|scope| {
            let seek = |start| prime_from(start, &small);
            let [p, q] = starts;
            let other = std::thread::Builder::new().spawn_scoped(scope, move || seek(p));
            let q = seek(q);
            (other.ok().map_or_else(|| seek(p), |thread| thread.join().ok().flatten()), q)
        });
        // Not two numbers, or no exponent for them: once in thirty thousand times, as for the crate.
        let (Some(p), Some(q)) = found else { continue };
        let number = |n: [u64; LIMBS]| {
            let bytes: Vec<u8> = n.into_iter().flat_map(u64::to_le_bytes).collect();
            BoxedUint::from_le_slice(&bytes, bits.div_ceil(2) as u32).map_err(|_| rsa::Error::InvalidPrime)
        };
        match PrivateKey::from_primes(vec![number(p)?, number(q)?], BoxedUint::from(PUBLIC_EXPONENT)) {
            Err(rsa::Error::InvalidPrime) => {}
            made => return made,
        }
    }
}

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

/// The first prime at or above an odd number, if there is one of this width.
fn prime_from<const LIMBS: usize>(start: [u64; LIMBS], small: &[u32]) -> Option<[u64; LIMBS]> {
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
            let n = plus(&base, 2 * i)?;
            if is_prime(&n) {
                return Some(n);
            }
        }
        base = plus(&base, 2 * WINDOW as u64)?;
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

/// Whether an odd number with its highest bit set passes the Miller-Rabin test to each of [`BASES`]. All primes do.
fn is_prime<const LIMBS: usize>(n: &[u64; LIMBS]) -> bool {
    let lowest = n.first().copied().unwrap_or_default();
    // -1/n modulo 2⁶⁴: each step doubles the bits that are right, of which an odd number has three to begin with.
    let inverse = (0..5).fold(lowest, |x, _| x.wrapping_mul(2u64.wrapping_sub(lowest.wrapping_mul(x)))).wrapping_neg();
    // One in Montgomery's form, 2^(64·LIMBS) modulo n: n is more than half of it. Then minus one.
    let one = below(&[0; LIMBS], 1, n);
    let (minus_one, _) = minus(n, &one);
    // n - 1 is an odd number times 2^halved.
    let bit = |i: usize| n.get(i / 64).is_some_and(|limb| limb >> (i % 64) & 1 == 1);
    let halved = (1..64 * LIMBS).take_while(|i| !bit(*i)).count() + 1;
    BASES.iter().all(|base| {
        let mut x = times(&one, *base, n);
        for i in (halved..64 * LIMBS - 1).rev() {
            x = square(&x, n, inverse);
            if bit(i) {
                x = times(&x, *base, n);
            }
        }
        x == one
            || (0..halved).any(|i| {
                if i > 0 {
                    x = square(&x, n, inverse);
                }
                x == minus_one
            })
    })
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

/// A number below n times a small one, modulo n.
fn times<const LIMBS: usize>(a: &[u64; LIMBS], small: u64, n: &[u64; LIMBS]) -> [u64; LIMBS] {
    let mut top = 0;
    let mut product = a.map(|limb| {
        let (low, high) = multiply_add(limb, small, top, 0);
        top = high;
        low
    });
    // n is more than half of what fits its limbs: this ends after two steps for each of `small` at the latest.
    loop {
        let (less, borrow) = minus(&product, n);
        if top < borrow {
            return product;
        }
        product = less;
        top -= borrow;
    }
}

/// A number below 2n, with what is above its limbs, modulo n.
fn below<const LIMBS: usize>(a: &[u64; LIMBS], top: u64, n: &[u64; LIMBS]) -> [u64; LIMBS] {
    let (less, borrow) = minus(a, n);
    if top >= borrow { less } else { *a }
}

/// a - b modulo what fits their limbs, and 1 where b was the greater.
fn minus<const LIMBS: usize>(a: &[u64; LIMBS], b: &[u64; LIMBS]) -> ([u64; LIMBS], u64) {
    let mut less = [0; LIMBS];
    let mut borrow = 0;
    for (less, (a, b)) in less.iter_mut().zip(a.iter().zip(b)) {
        let (difference, under) = a.overflowing_sub(*b);
        let (difference, under_again) = difference.overflowing_sub(borrow);
        *less = difference;
        borrow = u64::from(under) + u64::from(under_again);
    }
    (less, borrow)
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
        assert!(is_prime(&n));
        for less in (1..105).step_by(2) {
            n[0] = 0u64.wrapping_sub(less);
            assert!(!is_prime(&n), "2^1024 - {less}");
        }
        let largest = plus(&[u64::MAX; 16], 0).unwrap();
        assert_eq!(prime_from(largest, &small), None, "there is none above");
        n[0] = 0u64.wrapping_sub(1395);
        assert_eq!(prime_from(n, &small).map(|n| n[0]), Some(0u64.wrapping_sub(179)));
    }
}
