//! Values worth trying, by type.

use crate::exact::{EDGES_F32, EDGES_F64, Random};
use ptx_emulator::ptx::ast::ScalarType;

/// Zeros, subnormals, ones, ends of both half formats' ranges, infinities and NaN of both.
const HALVES: [u16; 24] = [
    0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x8400, 0x007F, 0x0080, 0x3C00, 0xBC00, 0x3C01, 0x3F80,
    0xBF80, 0x3F81, 0x3800, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7F7F, 0x7F80, 0xFF80, 0x7FC0,
];

/// The ends of the integer types and their neighbours; shift amounts around the widths.
const INTEGERS: [u64; 26] = [
    0,
    1,
    2,
    3,
    5,
    31,
    32,
    33,
    63,
    64,
    65,
    100,
    127,
    128,
    255,
    256,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFE,
    0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF,
    0x8000_0000_0000_0000,
    u64::MAX,
];

pub(crate) fn edges(ty: ScalarType) -> Vec<u64> {
    match ty {
        ScalarType::F32 | ScalarType::Tf32 => EDGES_F32.iter().map(|x| u64::from(x.to_bits())).collect(),
        ScalarType::F64 => EDGES_F64.iter().map(|x| x.to_bits()).collect(),
        ScalarType::F16 | ScalarType::Bf16 => HALVES.iter().map(|x| u64::from(*x)).collect(),
        ScalarType::F16x2 | ScalarType::Bf16x2 => {
            let pairs = HALVES.iter().zip(HALVES.iter().rev().chain(&HALVES));
            pairs.map(|(low, high)| u64::from(*low) | u64::from(*high) << 16).collect()
        }
        ScalarType::Pred => vec![0, 1],
        _ => INTEGERS.to_vec(),
    }
}

fn random(ty: ScalarType, random: &mut Random) -> u64 {
    match ty {
        ScalarType::F32 | ScalarType::Tf32 => u64::from(random.f32().to_bits()),
        ScalarType::F64 => random.f64().to_bits(),
        ScalarType::Pred => random.next() & 1,
        _ => random.next(),
    }
}

/// Tuples of operands: all pairs of edges of the first two, edges and random numbers for the rest.
pub(crate) fn tuples(types: &[ScalarType]) -> Vec<Vec<u64>> {
    let mut source = Random(types.len() as u64);
    let edges: Vec<Vec<u64>> = types.iter().map(|ty| edges(*ty)).collect();
    let mut all = Vec::new();
    let second = edges.get(1).map_or(1, Vec::len);
    for a in 0..edges[0].len() {
        for b in 0..second {
            let pick = |k: usize, source: &mut Random| match k {
                0 => edges[0][a],
                1 => edges[1][b],
                _ => edges[k][source.next() as usize % edges[k].len()],
            };
            all.push((0..types.len()).map(|k| pick(k, &mut source)).collect());
        }
    }
    for _ in 0..200 {
        all.push(types.iter().map(|ty| random(*ty, &mut source)).collect());
    }
    all
}
