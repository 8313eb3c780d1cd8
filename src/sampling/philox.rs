//! Philox4x32-10, a counter-based random generator (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3").
//!
//! A draw is a function of the seed and its number, so that any thread can make any draw: `kernels/philox.cuh`
//! makes the same ones on the device.

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

/// 128 random bits of a 128-bit counter under a 64-bit key.
pub(crate) fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let wide = |lane: usize| u64::from(MULTIPLIERS[lane]) * u64::from(counter[2 * lane]);
        let (first, second) = (wide(0), wide(1));
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The two random numbers of draw `index` of call `call`.
pub(crate) fn draw(seed: u64, call: u64, index: u64) -> [u64; 2] {
    let halves = |word: u64| [word as u32, (word >> 32) as u32];
    let ([a, b], [c, d]) = (halves(index), halves(call));
    let [a, b, c, d] = philox([a, b, c, d], halves(seed)).map(u64::from);
    [a | b << 32, c | d << 32]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random123's known answers (tests/kat_vectors, philox4x32 with 10 rounds).
    #[test]
    fn known_answers() {
        let vectors = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in vectors {
            assert_eq!(philox(counter, key), expected, "{counter:x?} {key:x?}");
        }
        assert_eq!(draw(0, 0, 0), [0xe169_c58d_6627_e8d5, 0x9b00_dbd8_bc57_ac4c]);
    }
}
