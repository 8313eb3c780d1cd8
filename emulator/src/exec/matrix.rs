//! `ldmatrix`, `stmatrix` and `mma.sync`.
use super::access::{Addresses, addresses};
use super::fault::Outcome;
use super::machine::Machine;
use super::op::{Address, Multiply, MultiplyType, Space, Strength, WarpKind, window};
use super::race::Use;
use super::scalar::half::Half;
use super::scalar::matrix::{
    Matrix8, MmaInput, MmaShape, load_matrix8, mma_f16, mma_f32, row_lane, store_matrix8,
};
use super::warp::Warp;

/// Bytes of a row of an 8 by 8 matrix.
const ROW: u64 = 16;

impl Machine<'_> {
    /// Executes a matrix operation; all 32 lanes take part.
    pub(crate) fn matrix(&mut self, w: &mut Warp, kind: &WarpKind) -> Outcome<()> {
        match kind {
            WarpKind::LoadMatrix { number, transposed, space, address, data } => {
                let rows = self.rows(w, *number, *space, address)?;
                let named = lanes_of(*number);
                self.check_rows(w, Use::read(ROW, Strength::Weak), named, &rows)?;
                for (matrix, slot) in data.iter().take(usize::from(*number)).enumerate() {
                    let elements: Matrix8 = std::array::from_fn(|row| {
                        let at = rows[row_lane(matrix, row)] as u32;
                        std::array::from_fn(|column| self.shared.load(at + 2 * column as u32, 2) as u16)
                    });
                    w.regs.narrow[*slot as usize] = load_matrix8(&elements, *transposed);
                }
            }
            WarpKind::StoreMatrix { number, transposed, space, address, data } => {
                let rows = self.rows(w, *number, *space, address)?;
                self.check_rows(w, Use::write(ROW, Strength::Weak), lanes_of(*number), &rows)?;
                for (matrix, slot) in data.iter().take(usize::from(*number)).enumerate() {
                    let elements = store_matrix8(&w.regs.narrow[*slot as usize], *transposed);
                    for (row, elements) in elements.iter().enumerate() {
                        let at = rows[row_lane(matrix, row)] as u32;
                        for (column, element) in elements.iter().enumerate() {
                            self.shared.store(at + 2 * column as u32, 2, u32::from(*element));
                        }
                    }
                }
            }
            WarpKind::Multiply(multiply) => product(w, multiply),
            _ => {}
        }
        Ok(())
    }

    /// The lane that names a row stands for those that read or write it.
    fn check_rows(&mut self, w: &Warp, used: Use, named: u32, rows: &Addresses) -> Outcome<()> {
        self.check_shared(w, used, named, rows, |_| false)
    }

    /// Where the rows lie that the first 8, 16 or 32 lanes name.
    fn rows(&self, w: &Warp, number: u8, space: Space, address: &Address) -> Outcome<Addresses> {
        let base = if space == Space::Generic { window::SHARED } else { 0 };
        let rows = addresses(&w.regs, address).map(|at| at.wrapping_sub(base));
        self.in_window(Space::Shared, lanes_of(number), &rows, u64::from(self.shared.bytes()), ROW)?;
        Ok(rows)
    }
}

/// The lanes whose addresses count.
fn lanes_of(number: u8) -> u32 {
    u32::MAX >> (32 - 8 * u32::from(number))
}

fn product(w: &mut Warp, m: &Multiply) {
    let regs = &mut w.regs.narrow;
    let input = match m.ty {
        MultiplyType::F16 => MmaInput::Half(Half::F16),
        MultiplyType::Bf16 => MmaInput::Half(Half::Bf16),
        MultiplyType::Tf32 => MmaInput::Tf32,
    };
    let shape = MmaShape { input, k: usize::from(m.k) };
    let a = m.a.map(|slot| regs[slot as usize]);
    let b = m.b.map(|slot| regs[slot as usize]);
    if m.half_sum {
        let c = [m.c[0], m.c[1]].map(|slot| regs[slot as usize]);
        for (slot, value) in m.d.iter().zip(mma_f16(shape, &a, &b, &c)) {
            regs[*slot as usize] = value;
        }
    } else {
        let c = m.c.map(|slot| regs[slot as usize]);
        for (slot, value) in m.d.iter().zip(mma_f32(shape, &a, &b, &c)) {
            regs[*slot as usize] = value;
        }
    }
}
