use crate::oracle::Random;
use ptx_emulator::exec::scalar::bits::{Funnel, Permute, bfi, bmsk, lop3, prmt, shf_left, shf_right};

fn words() -> Vec<u32> {
    let mut random = Random(9);
    let mut all = vec![0, 1, u32::MAX, 0x8000_0000, 0x7FFF_FFFF, 0x8081_7F00, 0x0123_4567, 0xFEDC_BA98];
    all.extend((0..12).map(|_| random.next() as u32));
    all
}

#[test]
fn lop3_of_every_table() {
    for table in 0..=255u8 {
        for (a, b, c) in [(0xF0u32, 0xCCu32, 0xAAu32), (0x1357_9BDF, 0x0246_8ACE, 0x0F0F_3C3C)] {
            let want = (0..32).fold(0, |all, i| {
                let index = (a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1;
                all | u32::from(table >> index & 1) << i
            });
            assert_eq!(lop3(a, b, c, table), want, "table {table:02X}");
        }
    }
    // PTX's own rule: apply the operation to 0xF0, 0xCC, 0xAA to get its table.
    assert_eq!(lop3(5, 6, 3, (0xF0 & 0xCC) | 0xAA), (5 & 6) | 3);
}

#[test]
fn funnel_shifts() {
    for a in words() {
        for b in words() {
            for c in [0, 1, 7, 31, 32, 33, 63, 64, 255, u32::MAX] {
                for mode in [Funnel::Clamp, Funnel::Wrap] {
                    let n = if mode == Funnel::Clamp { c.min(32) } else { c % 32 };
                    // A bit of the result comes from n places below, or above, in b:a.
                    let bit = |place: u32| if place < 32 { a >> place & 1 } else { b >> (place - 32) & 1 };
                    let left = (0..32).fold(0, |all, i| all | bit(i + 32 - n) << i);
                    let right = (0..32).fold(0, |all, i| all | if i + n < 64 { bit(i + n) << i } else { 0 });
                    assert_eq!(shf_left(a, b, c, mode), left, "{mode:?} {c}");
                    assert_eq!(shf_right(a, b, c, mode), right, "{mode:?} {c}");
                }
            }
        }
    }
}

/// PTX's table: which byte goes to d.b3, d.b2, d.b1, d.b0 for selectors 0 to 3.
const PERMUTATIONS: [(Permute, [[u32; 4]; 4]); 6] = [
    (Permute::Forward4, [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]]),
    (Permute::Backward4, [[5, 6, 7, 0], [6, 7, 0, 1], [7, 0, 1, 2], [0, 1, 2, 3]]),
    (Permute::Replicate8, [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]),
    (Permute::EdgeClampLeft, [[3, 2, 1, 0], [3, 2, 1, 1], [3, 2, 2, 2], [3, 3, 3, 3]]),
    (Permute::EdgeClampRight, [[0, 0, 0, 0], [1, 1, 1, 0], [2, 2, 1, 0], [3, 2, 1, 0]]),
    (Permute::Replicate16, [[1, 0, 1, 0], [3, 2, 3, 2], [1, 0, 1, 0], [3, 2, 3, 2]]),
];

#[test]
fn byte_permutations() {
    let (a, b) = (0x8372_6150u32, 0xC7B6_A594u32);
    let source = [a.to_le_bytes(), b.to_le_bytes()].concat();
    for (mode, rows) in PERMUTATIONS {
        for control in 0..16u32 {
            let row = rows[control as usize % 4];
            let want = row.into_iter().fold(0, |all, index| all << 8 | u32::from(source[index as usize]));
            assert_eq!(prmt(a, b, control | 0xABC0, mode), want, "{mode:?} {control}");
        }
    }
    for control in 0..=0xFFFFu32 {
        let want = (0..4).fold(0, |all, place| {
            let selector = (control >> (4 * place) & 15) as usize;
            let byte = source[selector % 8];
            let sign = if byte >= 128 { 255 } else { 0 };
            all | u32::from(if selector >= 8 { sign } else { byte }) << (8 * place)
        });
        assert_eq!(prmt(a, b, control, Permute::Generic), want, "{control:04X}");
    }
}

#[test]
fn bit_field_insertion() {
    let pairs = [
        (0, 0),
        (0, 32),
        (0, 64),
        (0, 255),
        (5, 3),
        (31, 1),
        (31, 4),
        (60, 9),
        (32, 5),
        (200, 3),
        (256 + 4, 256 + 2),
    ];
    for a in words() {
        for b in words() {
            let (a, b) = (u64::from(a) << 32 | u64::from(b), u64::from(b) << 32 | u64::from(a ^ b));
            for width in [32u32, 64] {
                let kept = if width == 32 { b & 0xFFFF_FFFF } else { b };
                for (position, length) in pairs {
                    let (start, count) = (position & 0xFF, length & 0xFF);
                    let want = (0..count).filter(|i| start + i < width).fold(kept, |all, i| {
                        let bit = if i < 64 { a >> i & 1 } else { 0 };
                        all & !(1 << (start + i)) | bit << (start + i)
                    });
                    assert_eq!(
                        bfi(a, kept, position, length, width),
                        want,
                        "{width} at {position} length {length}"
                    );
                }
            }
        }
    }
}

#[test]
fn masks() {
    for (position, length, mode, want) in [
        (0, 0, Funnel::Clamp, 0),
        (0, 32, Funnel::Clamp, u32::MAX),
        (0, 32, Funnel::Wrap, 0),
        (4, 8, Funnel::Clamp, 0xFF0),
        (36, 8, Funnel::Clamp, 0),
        (36, 40, Funnel::Wrap, 0xFF0),
        (30, 9, Funnel::Clamp, 0xC000_0000),
    ] {
        assert_eq!(bmsk(position, length, mode), want, "{mode:?} {position} {length}");
    }
}
