use crate::oracle::Random;
use half::{bf16, f16};
use ptx_emulator::exec::scalar::half::Half;
use ptx_emulator::exec::scalar::matrix::{
    Lanes, MmaInput, MmaShape, accumulator_element, load_matrix8, mma_f16, mma_f32, row_lane, store_matrix8,
};

const F16: MmaInput = MmaInput::Half(Half::F16);
const BF16: MmaInput = MmaInput::Half(Half::Bf16);
const SHAPES: [MmaShape; 6] = [
    MmaShape { input: F16, k: 8 },
    MmaShape { input: F16, k: 16 },
    MmaShape { input: BF16, k: 8 },
    MmaShape { input: BF16, k: 16 },
    MmaShape { input: MmaInput::Tf32, k: 4 },
    MmaShape { input: MmaInput::Tf32, k: 8 },
];

/// The fragments of A and B as the PTX manual tabulates them: element `i` of a lane to row and column.
fn manual(shape: MmaShape, lane: usize, i: usize) -> ((usize, usize), (usize, usize)) {
    let (group, member) = (lane / 4, lane % 4);
    match (shape.input, shape.k) {
        (MmaInput::Half(_), 8) => {
            let a = (if i < 2 { group } else { group + 8 }, member * 2 + (i & 1));
            (a, (member * 2 + (i & 1), group))
        }
        (MmaInput::Half(_), _) => {
            let row = if i < 2 || (4..6).contains(&i) { group } else { group + 8 };
            let column = if i < 4 { member * 2 + (i & 1) } else { member * 2 + (i & 1) + 8 };
            let b = if i < 2 { member * 2 + (i & 1) } else { member * 2 + (i & 1) + 8 };
            ((row, column), (b, group))
        }
        (MmaInput::Tf32, 4) => ((if i == 0 { group } else { group + 8 }, member), (member, group)),
        (MmaInput::Tf32, _) => {
            let row = if i == 0 || i == 2 { group } else { group + 8 };
            let column = if i < 2 { member } else { member + 4 };
            ((row, column), (if i == 0 { member } else { member + 4 }, group))
        }
    }
}

fn per_register(shape: MmaShape) -> usize {
    if shape.input == MmaInput::Tf32 { 1 } else { 2 }
}

#[test]
fn fragments_are_the_manuals() {
    for shape in SHAPES {
        let width = per_register(shape);
        assert_eq!(shape.a_registers() * width * 32, 16 * shape.k);
        assert_eq!(shape.b_registers() * width * 32, 8 * shape.k);
        for lane in 0..32 {
            for i in 0..shape.a_registers() * width {
                assert_eq!(
                    shape.a_element(lane, i),
                    manual(shape, lane, i).0,
                    "A of {shape:?}, lane {lane}, {i}"
                );
            }
            for i in 0..shape.b_registers() * width {
                assert_eq!(
                    shape.b_element(lane, i),
                    manual(shape, lane, i).1,
                    "B of {shape:?}, lane {lane}, {i}"
                );
            }
        }
    }
    for lane in 0..32 {
        for i in 0..4 {
            let want = (if i < 2 { lane / 4 } else { lane / 4 + 8 }, lane % 4 * 2 + (i & 1));
            assert_eq!(accumulator_element(lane, i), want);
        }
    }
}

/// A number with few enough digits that all six input types hold it.
fn small(random: &mut Random) -> f32 {
    ((random.next() % 65) as f32 - 32.0) / 8.0
}

fn encode(input: MmaInput, x: f32) -> u32 {
    match input {
        MmaInput::Half(Half::F16) => u32::from(f16::from_f32(x).to_bits()),
        MmaInput::Half(Half::Bf16) => u32::from(bf16::from_f32(x).to_bits()),
        // The bits below tf32's must not count.
        MmaInput::Tf32 => x.to_bits() | 0x1ABC,
    }
}

struct Problem {
    shape: MmaShape,
    a: Vec<Vec<f32>>,
    b: Vec<Vec<f32>>,
    c: Vec<Vec<f32>>,
}

impl Problem {
    fn new(shape: MmaShape, random: &mut Random) -> Self {
        let mut matrix = |rows: usize, columns: usize| -> Vec<Vec<f32>> {
            (0..rows).map(|_| (0..columns).map(|_| small(random)).collect()).collect()
        };
        Self { shape, a: matrix(16, shape.k), b: matrix(shape.k, 8), c: matrix(16, 8) }
    }

    fn exact(&self, row: usize, column: usize) -> f32 {
        self.c[row][column] + (0..self.shape.k).map(|k| self.a[row][k] * self.b[k][column]).sum::<f32>()
    }

    /// Registers by the manual's tables; unused ones hold rubbish.
    fn fragments(&self) -> ([Lanes; 4], [Lanes; 2]) {
        let width = per_register(self.shape);
        let (mut a, mut b) = ([[0xDEAD_BEEF; 32]; 4], [[0xDEAD_BEEF; 32]; 2]);
        for lane in 0..32 {
            for (register, lanes) in a.iter_mut().enumerate().take(self.shape.a_registers()) {
                lanes[lane] = (0..width).fold(0, |bits, part| {
                    let (row, column) = manual(self.shape, lane, register * width + part).0;
                    bits | encode(self.shape.input, self.a[row][column]) << (16 * part)
                });
            }
            for (register, lanes) in b.iter_mut().enumerate().take(self.shape.b_registers()) {
                lanes[lane] = (0..width).fold(0, |bits, part| {
                    let (row, column) = manual(self.shape, lane, register * width + part).1;
                    bits | encode(self.shape.input, self.b[row][column]) << (16 * part)
                });
            }
        }
        (a, b)
    }
}

#[test]
fn products() {
    let mut random = Random(16);
    for shape in SHAPES {
        for _ in 0..20 {
            let problem = Problem::new(shape, &mut random);
            let (a, b) = problem.fragments();
            let mut c = [[0; 32]; 4];
            for (i, lanes) in c.iter_mut().enumerate() {
                for (lane, bits) in lanes.iter_mut().enumerate() {
                    let (row, column) = accumulator_element(lane, i);
                    *bits = problem.c[row][column].to_bits();
                }
            }
            let d = mma_f32(shape, &a, &b, &c);
            for (i, lanes) in d.iter().enumerate() {
                for (lane, bits) in lanes.iter().enumerate() {
                    let (row, column) = accumulator_element(lane, i);
                    // Sums of few small multiples of 1/64 are exact in f32.
                    assert_eq!(
                        f32::from_bits(*bits),
                        problem.exact(row, column),
                        "{shape:?} at {row}, {column}"
                    );
                }
            }
        }
    }
}

#[test]
fn products_with_half_accumulators() {
    let mut random = Random(17);
    for k in [8, 16] {
        let problem = Problem::new(MmaShape { input: F16, k }, &mut random);
        let (a, b) = problem.fragments();
        let half = |x: f32| u32::from(f16::from_f32(x).to_bits());
        let mut c = [[0; 32]; 2];
        for (register, lanes) in c.iter_mut().enumerate() {
            for (lane, bits) in lanes.iter_mut().enumerate() {
                let (row, column) = (lane / 4 + 8 * register, lane % 4 * 2);
                *bits = half(problem.c[row][column]) | half(problem.c[row][column + 1]) << 16;
            }
        }
        let d = mma_f16(problem.shape, &a, &b, &c);
        for (register, lanes) in d.iter().enumerate() {
            for (lane, bits) in lanes.iter().enumerate() {
                let (row, column) = (lane / 4 + 8 * register, lane % 4 * 2);
                let want = half(problem.exact(row, column)) | half(problem.exact(row, column + 1)) << 16;
                assert_eq!(*bits, want, "k {k} at {row}, {column}");
            }
        }
    }
}

#[test]
fn nan_and_infinity_spread() {
    let shape = MmaShape { input: F16, k: 16 };
    let (mut a, mut b) = ([[0; 32]; 4], [[0; 32]; 2]);
    a[0][0] = 0x7C00; // row 0, k 0: infinity
    b[0][0] = 0x3C00; // k 0, column 0: one
    let d = mma_f32(shape, &a, &b, &[[0; 32]; 4]);
    assert_eq!(f32::from_bits(d[0][0]), f32::INFINITY);
    assert!(f32::from_bits(d[1][0]).is_nan(), "infinity times zero in column 1");
    assert_eq!(f32::from_bits(d[2][0]), 0.0);
}

#[test]
fn eight_by_eight_matrices() {
    let matrix: [[u16; 8]; 8] =
        std::array::from_fn(|row| std::array::from_fn(|column| (row * 256 + column + 1) as u16));
    let plain = load_matrix8(&matrix, false);
    let transposed = load_matrix8(&matrix, true);
    for lane in 0..32 {
        // The manual: lane l holds elements 2 (l % 4) and the next of row l / 4.
        let (row, column) = (lane / 4, lane % 4 * 2);
        assert_eq!(plain[lane], u32::from(matrix[row][column]) | u32::from(matrix[row][column + 1]) << 16);
        assert_eq!(
            transposed[lane],
            u32::from(matrix[column][row]) | u32::from(matrix[column + 1][row]) << 16
        );
    }
    assert_eq!(store_matrix8(&plain, false), matrix);
    assert_eq!(store_matrix8(&transposed, true), matrix);
    assert_eq!([row_lane(0, 0), row_lane(1, 3), row_lane(3, 7)], [0, 11, 31]);
}
