//! Barriers, shuffles, votes and the matrix instructions of a warp.
use super::builder::{Builder, refuse};
use super::family::{Family, Picks, maybe, one};
use crate::exec::LoadError;
use crate::exec::op::{
    Barrier, BarrierKind, Multiply, MultiplyType, Op, ReduxKind, ShuffleMode, Space, VoteMode, WarpKind,
    WarpOp,
};
use crate::exec::regs::Class;
use crate::ptx::ast::{Instruction, Operand, ScalarType};

pub(super) static FAMILIES: &[Family] = &[
    Family { opcode: "bar", groups: &[one(&["warp"]), one(&["sync"])], build: warp_sync },
    Family { opcode: "bar", groups: &[maybe(&["cta"]), one(&["sync", "arrive"])], build: barrier },
    Family {
        opcode: "bar",
        groups: &[maybe(&["cta"]), one(&["red"]), one(&["popc", "and", "or"]), one(&["u32", "pred"])],
        build: barrier,
    },
    Family {
        opcode: "barrier",
        groups: &[maybe(&["cta"]), one(&["sync", "arrive"]), maybe(&["aligned"])],
        build: barrier,
    },
    Family {
        opcode: "barrier",
        groups: &[
            maybe(&["cta"]),
            one(&["red"]),
            one(&["popc", "and", "or"]),
            maybe(&["aligned"]),
            one(&["u32", "pred"]),
        ],
        build: barrier,
    },
    Family {
        opcode: "shfl",
        groups: &[one(&["sync"]), one(&["up", "down", "bfly", "idx"]), one(&["b32"])],
        build: shuffle,
    },
    Family {
        opcode: "vote",
        groups: &[one(&["sync"]), one(&["all", "any", "uni"]), one(&["pred"])],
        build: vote,
    },
    Family { opcode: "vote", groups: &[one(&["sync"]), one(&["ballot"]), one(&["b32"])], build: vote },
    Family { opcode: "activemask", groups: &[one(&["b32"])], build: active_mask },
    Family {
        opcode: "match",
        groups: &[one(&["any", "all"]), one(&["sync"]), one(&["b32", "b64"])],
        build: matching,
    },
    Family {
        opcode: "redux",
        groups: &[one(&["sync"]), one(&["add", "min", "max"]), one(&["u32", "s32"])],
        build: redux,
    },
    Family {
        opcode: "redux",
        groups: &[one(&["sync"]), one(&["and", "or", "xor"]), one(&["b32"])],
        build: redux,
    },
    Family { opcode: "elect", groups: &[one(&["sync"])], build: elect },
    Family {
        opcode: "ldmatrix",
        groups: &[
            one(&["sync"]),
            one(&["aligned"]),
            one(&["m8n8"]),
            one(&["x1", "x2", "x4"]),
            maybe(&["trans"]),
            maybe(&["shared", "shared::cta"]),
            one(&["b16"]),
        ],
        build: matrix,
    },
    Family {
        opcode: "stmatrix",
        groups: &[
            one(&["sync"]),
            one(&["aligned"]),
            one(&["m8n8"]),
            one(&["x1", "x2", "x4"]),
            maybe(&["trans"]),
            maybe(&["shared", "shared::cta"]),
            one(&["b16"]),
        ],
        build: matrix,
    },
    Family {
        opcode: "mma",
        groups: &[
            one(&["sync"]),
            one(&["aligned"]),
            one(&["m16n8k8", "m16n8k16"]),
            one(&["row"]),
            one(&["col"]),
            one(&["f32", "f16"]),
            one(&["f16"]),
            one(&["f16"]),
            one(&["f32", "f16"]),
        ],
        build: multiply,
    },
    Family {
        opcode: "mma",
        groups: &[
            one(&["sync"]),
            one(&["aligned"]),
            one(&["m16n8k8", "m16n8k16"]),
            one(&["row"]),
            one(&["col"]),
            one(&["f32"]),
            one(&["bf16"]),
            one(&["bf16"]),
            one(&["f32"]),
        ],
        build: multiply,
    },
    Family {
        opcode: "mma",
        groups: &[
            one(&["sync"]),
            one(&["aligned"]),
            one(&["m16n8k4", "m16n8k8"]),
            one(&["row"]),
            one(&["col"]),
            one(&["f32"]),
            one(&["tf32"]),
            one(&["tf32"]),
            one(&["f32"]),
        ],
        build: multiply,
    },
];

fn emit(b: &mut Builder<'_>, members: u32, kind: WarpKind) {
    b.emit(Op::Warp(Box::new(WarpOp { kind, members })));
}

fn warp_sync(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 1, 1)?;
    let members = b.source(i, b.operand(i, 0)?, ScalarType::B32)?;
    emit(b, members, WarpKind::Sync);
    Ok(())
}

fn barrier(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    let aligned = i.opcode == "bar" || picks.contains(&Some("aligned"));
    let kind = match (picks[1], picks.get(2).copied().flatten()) {
        (Some("sync"), _) => BarrierKind::Sync,
        (Some("arrive"), _) => BarrierKind::Arrive,
        (_, Some("popc")) => BarrierKind::Popc,
        (_, Some("and")) => BarrierKind::And,
        _ => BarrierKind::Or,
    };
    let reduces = picks[1] == Some("red");
    let popc = kind == BarrierKind::Popc;
    if reduces && popc != (picks.last().copied().flatten() == Some("u32")) {
        return Err(refuse(i, "the popc reduction is of type .u32, the others of type .pred"));
    }
    let first = usize::from(reduces);
    let last = i.operands.len().checked_sub(first).ok_or_else(|| refuse(i, "operands are missing"))?;
    b.expect(i, 1 + 2 * first, 2 + 2 * first)?;
    let id = b.source(i, b.operand(i, first)?, ScalarType::U32)?;
    let has_count = i.operands.len() == 2 + 2 * first;
    let count = if has_count { Some(b.source(i, b.operand(i, first + 1)?, ScalarType::U32)?) } else { None };
    if kind == BarrierKind::Arrive && count.is_none() {
        return Err(refuse(i, "an arrival needs the number of threads"));
    }
    let (mut dst, mut predicate, mut negated) = (0, 0, false);
    if reduces {
        dst = b.destination(i, b.operand(i, 0)?, if popc { ScalarType::U32 } else { ScalarType::Pred })?;
        (predicate, negated) = b.predicate(i, b.operand(i, last)?)?;
    }
    b.emit(Op::Barrier(Box::new(Barrier { kind, aligned, id, count, dst, predicate, negated })));
    Ok(())
}

fn shuffle(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 5, 5)?;
    let mode = match picks[1] {
        Some("up") => ShuffleMode::Up,
        Some("down") => ShuffleMode::Down,
        Some("bfly") => ShuffleMode::Butterfly,
        _ => ShuffleMode::Index,
    };
    let (dst, found) = match b.operand(i, 0)? {
        Operand::Pair(dst, found) => {
            (b.destination(i, dst, ScalarType::B32)?, b.destination(i, found, ScalarType::Pred)?)
        }
        dst => (b.destination(i, dst, ScalarType::B32)?, b.slot(Class::Pred)),
    };
    let a = b.source(i, b.operand(i, 1)?, ScalarType::B32)?;
    let lane = b.source(i, b.operand(i, 2)?, ScalarType::U32)?;
    let c = b.source(i, b.operand(i, 3)?, ScalarType::U32)?;
    let members = b.source(i, b.operand(i, 4)?, ScalarType::B32)?;
    emit(b, members, WarpKind::Shuffle { mode, dst, found, a, b: lane, c });
    Ok(())
}

fn vote(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 3, 3)?;
    let (mode, ty) = match picks[1] {
        Some("all") => (VoteMode::All, ScalarType::Pred),
        Some("any") => (VoteMode::Any, ScalarType::Pred),
        Some("uni") => (VoteMode::Uniform, ScalarType::Pred),
        _ => (VoteMode::Ballot, ScalarType::B32),
    };
    let dst = b.destination(i, b.operand(i, 0)?, ty)?;
    let (predicate, negated) = b.predicate(i, b.operand(i, 1)?)?;
    let members = b.source(i, b.operand(i, 2)?, ScalarType::B32)?;
    emit(b, members, WarpKind::Vote { mode, dst, predicate, negated });
    Ok(())
}

fn active_mask(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 1, 1)?;
    let dst = b.destination(i, b.operand(i, 0)?, ScalarType::B32)?;
    b.emit(Op::ActiveMask(dst));
    Ok(())
}

fn matching(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 3, 3)?;
    let all = picks[0] == Some("all");
    let (ty, class) = if picks[2] == Some("b64") {
        (ScalarType::B64, Class::Wide)
    } else {
        (ScalarType::B32, Class::Narrow)
    };
    let (dst, found) = match b.operand(i, 0)? {
        Operand::Pair(dst, found) if all => {
            (b.destination(i, dst, ScalarType::B32)?, b.destination(i, found, ScalarType::Pred)?)
        }
        dst => (b.destination(i, dst, ScalarType::B32)?, b.slot(Class::Pred)),
    };
    let a = b.source(i, b.operand(i, 1)?, ty)?;
    let members = b.source(i, b.operand(i, 2)?, ScalarType::B32)?;
    emit(b, members, WarpKind::Match { all, class, dst, found, a });
    Ok(())
}

fn redux(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 3, 3)?;
    let kind = match (picks[1], picks[2]) {
        (Some("add"), _) => ReduxKind::AddU,
        (Some("min"), Some("u32")) => ReduxKind::MinU,
        (Some("min"), _) => ReduxKind::MinS,
        (Some("max"), Some("u32")) => ReduxKind::MaxU,
        (Some("max"), _) => ReduxKind::MaxS,
        (Some("and"), _) => ReduxKind::And,
        (Some("or"), _) => ReduxKind::Or,
        _ => ReduxKind::Xor,
    };
    let dst = b.destination(i, b.operand(i, 0)?, ScalarType::B32)?;
    let a = b.source(i, b.operand(i, 1)?, ScalarType::B32)?;
    let members = b.source(i, b.operand(i, 2)?, ScalarType::B32)?;
    emit(b, members, WarpKind::Redux { kind, dst, a });
    Ok(())
}

fn elect(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 2, 2)?;
    let (leader, elected) = match b.operand(i, 0)? {
        Operand::Pair(leader, elected) => {
            (b.destination(i, leader, ScalarType::B32)?, b.destination(i, elected, ScalarType::Pred)?)
        }
        _ => return Err(refuse(i, "elect.sync gives a pair d|p")),
    };
    let members = b.source(i, b.operand(i, 1)?, ScalarType::B32)?;
    emit(b, members, WarpKind::Elect { leader, elected });
    Ok(())
}

/// The registers of a fragment.
fn fragment<const N: usize>(
    b: &mut Builder<'_>,
    i: &Instruction,
    k: usize,
    count: usize,
    written: bool,
) -> Result<[u32; N], LoadError> {
    let items = match b.operand(i, k)? {
        Operand::Vector(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    if items.len() != count {
        return Err(refuse(i, format!("operand {} must have {count} registers", k + 1)));
    }
    let mut slots = [0; N];
    for (slot, item) in slots.iter_mut().zip(items) {
        *slot = if written {
            b.destination(i, item, ScalarType::B32)?
        } else {
            b.source(i, item, ScalarType::B32)?
        };
    }
    Ok(slots)
}

fn matrix(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 2, 2)?;
    let number = match picks[3] {
        Some("x1") => 1,
        Some("x2") => 2,
        _ => 4,
    };
    let transposed = picks[4].is_some();
    let space = if picks[5].is_some() { Space::Shared } else { Space::Generic };
    let members = b.narrow(u32::MAX);
    let load = i.opcode == "ldmatrix";
    let (registers, memory) = if load { (0, 1) } else { (1, 0) };
    let data = fragment(b, i, registers, usize::from(number), load)?;
    let (space, address) = b.address(i, b.operand(i, memory)?, space)?;
    let kind = if load {
        WarpKind::LoadMatrix { number, transposed, space, address, data }
    } else {
        WarpKind::StoreMatrix { number, transposed, space, address, data }
    };
    emit(b, members, kind);
    Ok(())
}

fn multiply(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 4, 4)?;
    let k: u8 = match picks[2] {
        Some("m16n8k4") => 4,
        Some("m16n8k8") => 8,
        _ => 16,
    };
    let ty = match picks[6] {
        Some("f16") => MultiplyType::F16,
        Some("bf16") => MultiplyType::Bf16,
        _ => MultiplyType::Tf32,
    };
    if picks[5] != picks[8] {
        return Err(refuse(i, "C and D must have the same type"));
    }
    let half_sum = picks[5] == Some("f16");
    // Registers per lane: 16 x k and k x 8 elements over 32 lanes, one or two to a register.
    let per_register = if ty == MultiplyType::Tf32 { 1 } else { 2 };
    let a_count = usize::from(k) * 16 / 32 / per_register;
    let sums = if half_sum { 2 } else { 4 };
    let a = fragment(b, i, 1, a_count, false)?;
    let bs = fragment(b, i, 2, a_count / 2, false)?;
    let c = fragment(b, i, 3, sums, false)?;
    let d = fragment(b, i, 0, sums, true)?;
    let members = b.narrow(u32::MAX);
    emit(b, members, WarpKind::Multiply(Multiply { ty, k, half_sum, a, b: bs, c, d }));
    Ok(())
}
