//! Loads, stores, atomics, asynchronous copies and fences.
use super::builder::{Builder, refuse};
use super::family::{Family, Group, Picks, maybe, one};
use crate::exec::LoadError;
use crate::exec::op::{Access, Atomic, AtomicKind, AtomicType, CopyAsync, Op, Space, Strength};
use crate::exec::regs::Class;
use crate::ptx::ast::{Instruction, Operand, ScalarType};

const SCOPES: Group = maybe(&["cta", "cluster", "gpu", "sys"]);
const VECTORS: Group = maybe(&["v2", "v4"]);
const TYPES: Group = one(&[
    "b8", "b16", "b32", "b64", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "f16", "bf16", "f32",
    "f64",
]);
const LOAD_SPACES: Group =
    maybe(&["global", "shared", "shared::cta", "local", "param", "param::entry", "param::func", "const"]);
const STORE_SPACES: Group = maybe(&["global", "shared", "shared::cta", "local", "param", "param::func"]);
const EVICTION: Group = maybe(&[
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
]);
const HINT: Group = maybe(&["L2::cache_hint"]);
const PREFETCH: Group = maybe(&["L2::64B", "L2::128B", "L2::256B"]);

pub(super) static FAMILIES: &[Family] = &[
    Family {
        opcode: "ld",
        groups: &[
            maybe(&["weak", "volatile", "relaxed", "acquire"]),
            SCOPES,
            LOAD_SPACES,
            maybe(&["ca", "cg", "cs", "lu", "cv"]),
            maybe(&["nc"]),
            EVICTION,
            HINT,
            PREFETCH,
            VECTORS,
            TYPES,
        ],
        build: load,
    },
    Family {
        opcode: "ldu",
        groups: &[maybe(&[]), maybe(&[]), maybe(&["global"]), VECTORS, TYPES],
        build: load,
    },
    Family {
        opcode: "st",
        groups: &[
            maybe(&["weak", "volatile", "relaxed", "release"]),
            SCOPES,
            STORE_SPACES,
            maybe(&["wb", "cg", "cs", "wt"]),
            EVICTION,
            HINT,
            VECTORS,
            TYPES,
        ],
        build: store,
    },
    Family {
        opcode: "atom",
        groups: &[
            maybe(&["relaxed", "acquire", "release", "acq_rel"]),
            SCOPES,
            maybe(&["global", "shared", "shared::cta"]),
            one(&["add", "min", "max", "exch", "cas", "and", "or", "xor", "inc", "dec"]),
            maybe(&["noftz"]),
            HINT,
            one(&[
                "b16", "b32", "b64", "u32", "u64", "s32", "s64", "f16", "f16x2", "bf16", "bf16x2", "f32",
                "f64",
            ]),
        ],
        build: atomic,
    },
    Family {
        opcode: "red",
        groups: &[
            maybe(&["relaxed", "release"]),
            SCOPES,
            maybe(&["global", "shared", "shared::cta"]),
            one(&["add", "min", "max", "and", "or", "xor", "inc", "dec"]),
            maybe(&["noftz"]),
            HINT,
            one(&["b32", "b64", "u32", "u64", "s32", "s64", "f16", "f16x2", "bf16", "bf16x2", "f32", "f64"]),
        ],
        build: atomic,
    },
    Family {
        opcode: "cp",
        groups: &[
            one(&["async"]),
            one(&["ca", "cg"]),
            one(&["shared", "shared::cta"]),
            one(&["global"]),
            HINT,
            PREFETCH,
        ],
        build: copy_async,
    },
    Family { opcode: "cp", groups: &[one(&["async"]), one(&["commit_group"])], build: commit_group },
    Family { opcode: "cp", groups: &[one(&["async"]), one(&["wait_group"])], build: wait_group },
    Family { opcode: "cp", groups: &[one(&["async"]), one(&["wait_all"])], build: wait_all },
    Family { opcode: "membar", groups: &[one(&["cta", "gl", "sys"])], build: fence },
    Family {
        opcode: "fence",
        groups: &[maybe(&["sc", "acq_rel", "acquire", "release"]), one(&["cta", "cluster", "gpu", "sys"])],
        build: fence,
    },
    Family {
        opcode: "prefetch",
        groups: &[maybe(&["global", "local"]), one(&["L1", "L2", "L2::evict_last", "L2::evict_normal"])],
        build: hint,
    },
    Family { opcode: "prefetchu", groups: &[one(&["L1"])], build: hint },
    Family { opcode: "discard", groups: &[maybe(&["global"]), one(&["L2"])], build: hint },
    Family {
        opcode: "applypriority",
        groups: &[maybe(&["global"]), one(&["L2::evict_normal"])],
        build: hint,
    },
    Family {
        opcode: "createpolicy",
        groups: &[
            one(&["fractional"]),
            one(&["L2::evict_last", "L2::evict_normal", "L2::evict_first", "L2::evict_unchanged"]),
            maybe(&["L2::evict_first", "L2::evict_unchanged"]),
            one(&["b64"]),
        ],
        build: policy,
    },
];

fn space(name: Option<&str>) -> Space {
    match name {
        Some("global" | "const") => Space::Global,
        Some("shared" | "shared::cta") => Space::Shared,
        Some("local") => Space::Local,
        Some("param" | "param::entry" | "param::func") => Space::Param,
        _ => Space::Generic,
    }
}

fn strength(name: Option<&str>) -> Strength {
    match name {
        Some("volatile" | "relaxed") => Strength::Relaxed,
        Some("acquire") => Strength::Acquire,
        Some("release") => Strength::Release,
        Some("acq_rel") => Strength::AcquireRelease,
        _ => Strength::Weak,
    }
}

/// The last two groups of `ld` and `st`: vector and type.
fn shape(i: &Instruction, picks: &Picks) -> Result<(u8, ScalarType), LoadError> {
    let [.., vector, ty] = picks.as_slice() else { return Err(refuse(i, "the type is missing")) };
    let ty = ty.and_then(ScalarType::from_name).ok_or_else(|| refuse(i, "the type is not known"))?;
    let count = match vector {
        Some("v2") => 2,
        Some("v4") => 4,
        _ => 1,
    };
    if u32::from(count) * ty.bytes() > 16 {
        return Err(refuse(i, "more than 16 bytes in one access are not supported"));
    }
    Ok((count, ty))
}

/// The data operands of a load or store.
fn elements<'i>(i: &Instruction, operand: &'i Operand, count: u8) -> Result<&'i [Operand], LoadError> {
    let list = match operand {
        Operand::Vector(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    if list.len() == usize::from(count) {
        Ok(list)
    } else {
        Err(refuse(i, format!("{count} registers are expected")))
    }
}

fn load(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 2, 3)?;
    let (count, ty) = shape(i, picks)?;
    let list = elements(i, b.operand(i, 0)?, count)?;
    let class = list.iter().find_map(|operand| b.declared(i, operand).ok()).map_or(Class::of(ty), Class::of);
    let mut data = [0; 4];
    for (slot, operand) in data.iter_mut().zip(list) {
        // A register wider than the type takes the value extended.
        let wide = class == Class::Wide && Class::of(ty) == Class::Narrow;
        *slot = b.destination(i, operand, if wide { ScalarType::B64 } else { ty })?;
    }
    let (space, address) = b.address(i, b.operand(i, 1)?, space(picks[2]))?;
    let signed = matches!(ty, ScalarType::S8 | ScalarType::S16 | ScalarType::S32);
    let bytes = ty.bytes() as u8;
    let strength = strength(picks[0]);
    b.emit(Op::Load(Access { space, address, bytes, count, signed, strength, class, data }));
    Ok(())
}

fn store(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 2, 3)?;
    let (count, ty) = shape(i, picks)?;
    let list = elements(i, b.operand(i, 1)?, count)?;
    let mut data = [0; 4];
    for (slot, operand) in data.iter_mut().zip(list) {
        *slot = b.source(i, operand, ty)?;
    }
    let (space, address) = b.address(i, b.operand(i, 0)?, space(picks[2]))?;
    if space == Space::Param {
        return Err(refuse(i, "kernel parameters cannot be written"));
    }
    let bytes = ty.bytes() as u8;
    let strength = strength(picks[0]);
    let access = Access { space, address, bytes, count, signed: false, strength, class: Class::of(ty), data };
    b.emit(Op::Store(access));
    Ok(())
}

fn atomic(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    let reduction = i.opcode == "red";
    let kind = match picks[3] {
        Some("add") => AtomicKind::Add,
        Some("min") => AtomicKind::Min,
        Some("max") => AtomicKind::Max,
        Some("exch") => AtomicKind::Exchange,
        Some("cas") => AtomicKind::CompareAndSwap,
        Some("and") => AtomicKind::And,
        Some("or") => AtomicKind::Or,
        Some("xor") => AtomicKind::Xor,
        Some("inc") => AtomicKind::Increment,
        _ => AtomicKind::Decrement,
    };
    let name = picks[6].unwrap_or_default();
    let ty = atomic_type(kind, name)
        .ok_or_else(|| refuse(i, format!("{:?} of {name} does not exist in PTX", kind)))?;
    let value = ScalarType::from_name(name).ok_or_else(|| refuse(i, "the type is not known"))?;
    let first = usize::from(!reduction);
    let sources = if kind == AtomicKind::CompareAndSwap { 2 } else { 1 };
    b.expect(i, first + 1 + sources, first + 2 + sources)?;
    let (space, address) = b.address(i, b.operand(i, first)?, space(picks[2]))?;
    let operand = b.source(i, b.operand(i, first + 1)?, value)?;
    let c = if sources == 2 { b.source(i, b.operand(i, first + 2)?, value)? } else { 0 };
    let dst = if reduction { None } else { Some(b.destination(i, b.operand(i, 0)?, value)?) };
    // Without a semantics an atomic is relaxed.
    let strength = if picks[0].is_some() { strength(picks[0]) } else { Strength::Relaxed };
    b.emit(Op::Atomic(Box::new(Atomic { space, address, kind, ty, strength, dst, b: operand, c })));
    Ok(())
}

/// Which types an operation takes.
fn atomic_type(kind: AtomicKind, name: &str) -> Option<AtomicType> {
    use AtomicKind::*;
    Some(match (kind, name) {
        (CompareAndSwap, "b16") => AtomicType::B16,
        (Exchange | CompareAndSwap | And | Or | Xor, "b32") => AtomicType::U32,
        (Exchange | CompareAndSwap | And | Or | Xor, "b64") => AtomicType::U64,
        (Add | Min | Max | Increment | Decrement, "u32") => AtomicType::U32,
        (Add | Min | Max, "s32") => AtomicType::S32,
        (Add | Min | Max, "u64") => AtomicType::U64,
        (Min | Max, "s64") => AtomicType::S64,
        (Add, "f16") => AtomicType::F16,
        (Add, "f16x2") => AtomicType::F16x2,
        (Add, "bf16") => AtomicType::Bf16,
        (Add, "bf16x2") => AtomicType::Bf16x2,
        (Add, "f32") => AtomicType::F32,
        (Add, "f64") => AtomicType::F64,
        _ => return None,
    })
}

fn copy_async(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 3, 5)?;
    let (_, dst) = b.address(i, b.operand(i, 0)?, Space::Shared)?;
    let (_, src) = b.address(i, b.operand(i, 1)?, Space::Global)?;
    let bytes = match (b.operand(i, 2)?, picks[1]) {
        (Operand::Integer(16), Some("cg")) => 16,
        (Operand::Integer(bytes @ (4 | 8 | 16)), Some("ca")) => *bytes as u8,
        _ => return Err(refuse(i, "cp.async.cg copies 16 bytes, cp.async.ca 4, 8 or 16")),
    };
    let hinted = usize::from(picks[4].is_some());
    let (mut src_bytes, mut ignore) = (None, None);
    match i.operands.get(3) {
        Some(operand @ (Operand::Register(_) | Operand::Integer(_) | Operand::Negated(_)))
            if i.operands.len() > 3 + hinted =>
        {
            let is_predicate = matches!(operand, Operand::Negated(_))
                || matches!(b.declared(i, operand), Ok(ScalarType::Pred));
            if is_predicate {
                ignore = Some(b.predicate(i, operand)?);
            } else {
                src_bytes = Some(b.source(i, operand, ScalarType::U32)?);
            }
        }
        _ => {}
    }
    b.emit(Op::CopyAsync(Box::new(CopyAsync { dst, src, bytes, src_bytes, ignore })));
    Ok(())
}

fn commit_group(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 0, 0)?;
    b.emit(Op::CommitGroup);
    Ok(())
}

fn wait_group(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 1, 1)?;
    let Operand::Integer(count @ 0..=0xffff) = b.operand(i, 0)? else {
        return Err(refuse(i, "the number of groups must be a literal"));
    };
    b.emit(Op::WaitGroup(*count as u32));
    Ok(())
}

fn wait_all(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 0, 0)?;
    b.emit(Op::CommitGroup);
    b.emit(Op::WaitGroup(0));
    Ok(())
}

fn fence(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 0, 0)?;
    b.emit(Op::Fence(picks.last().copied().flatten() != Some("cta")));
    Ok(())
}

fn hint(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 1, 2)?;
    b.emit(Op::Nothing);
    Ok(())
}

/// A cache policy: any value, since policies change nothing here.
fn policy(b: &mut Builder<'_>, i: &Instruction, _: &Picks) -> Result<(), LoadError> {
    b.expect(i, 1, 2)?;
    b.destination(i, b.operand(i, 0)?, ScalarType::B64)?;
    b.emit(Op::Nothing);
    Ok(())
}
