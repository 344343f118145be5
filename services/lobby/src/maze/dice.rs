//! What decides in `dfs1`: SplitMix64, begun with a hash of size and seed.

use ring::digest::{Context, SHA256};

/// Numbers that look random and follow from size and seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(size: u8, seed: &str) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(b"lobby-dfs1\0");
        hash.update(&[size]);
        hash.update(seed.as_bytes());
        Self(u64::from_le_bytes(hash.finish().as_ref().first_chunk().copied().unwrap_or_default()))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, each as likely as the others: what lies beyond the last whole multiple of `n` is thrown away.
    pub(super) fn below(&mut self, n: u8) -> u8 {
        let n = u64::from(n);
        // 2^64 mod n, in 64 bits: the numbers from 2^64 - beyond on are those without a whole multiple, none for a power of two.
        let beyond = (u64::MAX % n + 1) % n;
        loop {
            let value = self.next();
            if value <= u64::MAX - beyond {
                #[expect(clippy::cast_possible_truncation, reason = "it is below n, which is a u8")]
                return (value % n) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_are_the_rule_s() {
        let mut dice = Dice::new(4, "abc");
        let first = [(); 3].map(|()| dice.next());
        assert_eq!(first, [0x0883_f6b4_62b6_8bee, 0x7d0e_2de3_f373_611c, 0x250e_768c_0e6d_607f]);
    }

    /// The state from which the next number is `value`: SplitMix64 is a bijection, taken back step by step.
    fn before(value: u64) -> u64 {
        let unshift = |mut z: u64, by: u32| {
            let all = z;
            for _ in 0..64 / by {
                z = all ^ (z >> by);
            }
            z
        };
        // The inverse of an odd number modulo 2^64, by Newton.
        let inverse = |odd: u64| (0..6).fold(odd, |x, _| x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x))));
        let z = unshift(value, 31).wrapping_mul(inverse(0x94D0_49BB_1331_11EB));
        let z = unshift(z, 27).wrapping_mul(inverse(0xBF58_476D_1CE4_E5B9));
        unshift(z, 30).wrapping_sub(0x9E37_79B9_7F4A_7C15)
    }

    #[test]
    fn what_would_make_small_numbers_likelier_is_drawn_again() {
        for n in 1..=10_u8 {
            let limit = (1_u128 << 64) / u128::from(n) * u128::from(n);
            let last = u64::try_from(limit - 1).unwrap();
            let mut dice = Dice(before(last));
            assert_eq!(dice.below(n), n - 1, "the last one that counts, of {n}");
            assert_eq!(
                dice.next(),
                {
                    let mut same = Dice(before(last));
                    same.next();
                    same.next()
                },
                "and nothing more was drawn"
            );
            if let Ok(first_beyond) = u64::try_from(limit) {
                let mut dice = Dice(before(first_beyond));
                let second = {
                    let mut same = Dice(before(first_beyond));
                    same.next();
                    same.next()
                };
                assert_eq!(u64::from(dice.below(n)), second % u64::from(n), "the first one beyond, of {n}");
            }
        }
    }
}
