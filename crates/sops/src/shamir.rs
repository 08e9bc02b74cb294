//! Shamir's secret sharing over GF(2^8) as sops (and Vault) use it: a part is the shares of all bytes, then the x they
//! were taken at. The field is that of AES (polynomial 0x11b).

fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut out = 0;
    for _ in 0..8 {
        // Without branches, as the values are secret.
        out ^= a & 0u8.wrapping_sub(b & 1);
        let carry = 0u8.wrapping_sub(a >> 7);
        a = (a << 1) ^ (0x1b & carry);
        b >>= 1;
    }
    out
}

/// `a` to the power of 254, which is its inverse.
fn inverse(a: u8) -> u8 {
    let mut out = 1;
    let mut square = a;
    for _ in 0..7 {
        square = multiply(square, square);
        out = multiply(out, square);
    }
    out
}

/// The secret that parts were made of: the value at 0 of the polynomials through them. `None` when there are fewer than
/// two, their lengths differ, or two were taken at the same x.
pub(crate) fn combine(parts: &[Vec<u8>]) -> Option<Vec<u8>> {
    let len = parts.first()?.len();
    if parts.len() < 2 || len < 2 || parts.iter().any(|p| p.len() != len) {
        return None;
    }
    let xs: Vec<u8> = parts.iter().filter_map(|p| p.last().copied()).collect();
    if xs.iter().enumerate().any(|(i, x)| xs.iter().skip(i + 1).any(|y| x == y)) {
        return None;
    }
    let weights: Vec<u8> = xs
        .iter()
        .map(|x| xs.iter().filter(|y| *y != x).fold(1, |w, y| multiply(w, multiply(*y, inverse(x ^ y)))))
        .collect();
    Some(
        (0..len - 1)
            .map(|i| {
                parts.iter().zip(&weights).fold(0, |sum, (p, w)| sum ^ multiply(p.get(i).copied().unwrap_or(0), *w))
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_parts_give_the_secret_back() {
        // Shares of secret bytes s with the polynomial s + 7x + 9x^2.
        let share = |s: u8, x: u8| s ^ multiply(7, x) ^ multiply(9, multiply(x, x));
        let part = |x: u8| vec![share(0x42, x), share(0xff, x), share(0, x), x];
        assert_eq!(combine(&[part(1), part(200), part(33)]), Some(vec![0x42, 0xff, 0]));
        assert_eq!(combine(&[part(5), part(4), part(3), part(2)]), Some(vec![0x42, 0xff, 0]));
        assert_ne!(combine(&[part(1), part(2)]), Some(vec![0x42, 0xff, 0]));
        assert_eq!(combine(&[part(1), part(1)]), None);
        assert_eq!(combine(&[part(1)]), None);
        for a in 1..=255 {
            assert_eq!(multiply(a, inverse(a)), 1);
        }
    }
}
