//! Matrix fragments: which lane holds which element, and the products of `mma.sync`.
//!
//! `group` below is `lane / 4` and `member` is `lane % 4`.

use super::half::{Half, f16_to_f32, f32_to_f16, to_f32, unpack};

/// One register of all 32 lanes.
pub type Lanes = [u32; 32];

/// An 8 by 8 matrix of 16-bit elements, by rows.
pub type Matrix8 = [[u16; 8]; 8];

/// The inputs of an `mma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MmaInput {
    /// Two elements in a register.
    Half(Half),
    /// One element in a register; its 13 lowest bits are not read.
    Tf32,
}

impl MmaInput {
    fn per_register(self) -> usize {
        match self {
            Self::Half(_) => 2,
            Self::Tf32 => 1,
        }
    }

    /// The elements of a register, first one first; tf32 has only the first.
    #[inline(always)]
    fn unpack(self, register: u32) -> [f32; 2] {
        match self {
            Self::Half(kind) => unpack(register).map(|half| to_f32(kind, half)),
            Self::Tf32 => [f32::from_bits(register & 0xFFFF_E000), 0.0],
        }
    }
}

/// The shape of an `mma.sync`: 16 by 8 by `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MmaShape {
    /// What A and B hold.
    pub input: MmaInput,
    /// The inner dimension: 8 or 16 for f16 and bf16, 4 or 8 for tf32.
    pub k: usize,
}

impl MmaShape {
    /// Registers of an A fragment.
    pub fn a_registers(self) -> usize {
        self.k * 16 / 32 / self.input.per_register()
    }

    /// Registers of a B fragment.
    pub fn b_registers(self) -> usize {
        self.k * 8 / 32 / self.input.per_register()
    }

    /// Row and column in A (16 by k) of element `index` of a lane's fragment.
    ///
    /// Registers go down the rows first (`group`, then `group + 8`), then to the right.
    #[inline(always)]
    pub fn a_element(self, lane: usize, index: usize) -> (usize, usize) {
        let width = self.input.per_register();
        let (register, part) = (index / width, index % width);
        (lane / 4 + 8 * (register % 2), (lane % 4) * width + part + 4 * width * (register / 2))
    }

    /// Row and column in B (k by 8) of element `index` of a lane's fragment.
    #[inline(always)]
    pub fn b_element(self, lane: usize, index: usize) -> (usize, usize) {
        let width = self.input.per_register();
        let (register, part) = (index / width, index % width);
        ((lane % 4) * width + part + 4 * width * register, lane / 4)
    }
}

/// Row and column in C and D (16 by 8) of element `index` (0 to 3) of a lane's fragment.
#[inline(always)]
pub fn accumulator_element(lane: usize, index: usize) -> (usize, usize) {
    (lane / 4 + 8 * (index / 2), (lane % 4) * 2 + index % 2)
}

/// `D = A * B + C` of an `mma.sync.m16n8k*` with f32 accumulators.
///
/// Fragments are in order of registers; those beyond the shape's count are not read. Products are
/// exact, sums are rounded to f32 in order of k.
#[inline(always)]
pub fn mma_f32(shape: MmaShape, a: &[Lanes; 4], b: &[Lanes; 2], c: &[Lanes; 4]) -> [Lanes; 4] {
    let mut sums = [[0f32; 8]; 16];
    for (index, register) in c.iter().enumerate() {
        for (lane, bits) in register.iter().enumerate() {
            let (row, column) = accumulator_element(lane, index);
            sums[row][column] = f32::from_bits(*bits);
        }
    }
    multiply(shape, a, b, &mut sums);
    let mut d = [[0; 32]; 4];
    for (index, register) in d.iter_mut().enumerate() {
        for (lane, bits) in register.iter_mut().enumerate() {
            let (row, column) = accumulator_element(lane, index);
            *bits = sums[row][column].to_bits();
        }
    }
    d
}

/// `D = A * B + C` of an `mma.sync.m16n8k*` with f16 accumulators, two to a register: sums are kept
/// in f32 and rounded to f16 at the end.
#[inline(always)]
pub fn mma_f16(shape: MmaShape, a: &[Lanes; 4], b: &[Lanes; 2], c: &[Lanes; 2]) -> [Lanes; 2] {
    let mut sums = [[0f32; 8]; 16];
    for (register, lanes) in c.iter().enumerate() {
        for (lane, bits) in lanes.iter().enumerate() {
            for (part, half) in unpack(*bits).into_iter().enumerate() {
                let (row, column) = accumulator_element(lane, register * 2 + part);
                sums[row][column] = f16_to_f32(half);
            }
        }
    }
    multiply(shape, a, b, &mut sums);
    let mut d = [[0; 32]; 2];
    for (register, lanes) in d.iter_mut().enumerate() {
        for (lane, bits) in lanes.iter_mut().enumerate() {
            let half = |part| {
                let (row, column) = accumulator_element(lane, register * 2 + part);
                u32::from(f32_to_f16(sums[row][column]))
            };
            *bits = half(0) | half(1) << 16;
        }
    }
    d
}

#[inline(always)]
fn multiply(shape: MmaShape, a: &[Lanes; 4], b: &[Lanes; 2], sums: &mut [[f32; 8]; 16]) {
    let (left, right) = (unpack_a(shape, a), unpack_b(shape, b));
    let depth = shape.k.min(16);
    for (row, sums) in left.iter().zip(sums) {
        for (factor, column) in row.iter().zip(&right).take(depth) {
            for (sum, other) in sums.iter_mut().zip(column) {
                *sum += factor * other;
            }
        }
    }
}

#[inline(always)]
fn unpack_a(shape: MmaShape, a: &[Lanes; 4]) -> [[f32; 16]; 16] {
    let mut matrix = [[0f32; 16]; 16];
    let width = shape.input.per_register();
    for (register, lanes) in a.iter().enumerate().take(shape.a_registers()) {
        for (lane, bits) in lanes.iter().enumerate() {
            let elements = shape.input.unpack(*bits);
            for (part, element) in elements.into_iter().enumerate().take(width) {
                let (row, column) = shape.a_element(lane, register * width + part);
                matrix[row % 16][column % 16] = element;
            }
        }
    }
    matrix
}

#[inline(always)]
fn unpack_b(shape: MmaShape, b: &[Lanes; 2]) -> [[f32; 8]; 16] {
    let mut matrix = [[0f32; 8]; 16];
    let width = shape.input.per_register();
    for (register, lanes) in b.iter().enumerate().take(shape.b_registers()) {
        for (lane, bits) in lanes.iter().enumerate() {
            let elements = shape.input.unpack(*bits);
            for (part, element) in elements.into_iter().enumerate().take(width) {
                let (row, column) = shape.b_element(lane, register * width + part);
                matrix[row % 16][column % 8] = element;
            }
        }
    }
    matrix
}

/// The lane whose address operand names row `row` of matrix `matrix` in `ldmatrix` and `stmatrix`.
#[inline(always)]
pub fn row_lane(matrix: usize, row: usize) -> usize {
    matrix * 8 + row
}

/// Row and column of the lower (`part` 0) or upper (`part` 1) half of a lane's register, for
/// `ldmatrix` and `stmatrix`.
#[inline(always)]
pub fn matrix8_element(lane: usize, part: usize, transposed: bool) -> (usize, usize) {
    let (row, column) = (lane / 4, (lane % 4) * 2 + part);
    if transposed { (column, row) } else { (row, column) }
}

/// The register that `ldmatrix{.trans}` fills from one matrix.
#[inline(always)]
pub fn load_matrix8(matrix: &Matrix8, transposed: bool) -> Lanes {
    let mut lanes = [0; 32];
    for (lane, register) in lanes.iter_mut().enumerate() {
        for part in 0..2 {
            let (row, column) = matrix8_element(lane, part, transposed);
            *register |= u32::from(matrix[row][column]) << (16 * part);
        }
    }
    lanes
}

/// The matrix that `stmatrix{.trans}` writes from one register.
#[inline(always)]
pub fn store_matrix8(lanes: &Lanes, transposed: bool) -> Matrix8 {
    let mut matrix = [[0; 8]; 8];
    for (lane, register) in lanes.iter().enumerate() {
        for (part, half) in unpack(*register).into_iter().enumerate() {
            let (row, column) = matrix8_element(lane, part, transposed);
            matrix[row][column] = half;
        }
    }
    matrix
}
