//! Exchange of values between the lanes of a warp.
use super::op::{ReduxKind, ShuffleMode, VoteMode};
use super::regs::{Class, LANES, Regs, lanes, put, put_pred};

/// `shfl.sync`: slots are d, p, a, b, c. Gives the lanes whose source lane does not take part.
pub(crate) fn shuffle(regs: &mut Regs, mode: ShuffleMode, slots: [u32; 5], mask: u32) -> u32 {
    let [dst, found, a, b, c] = slots.map(|slot| slot as usize);
    let (values, amounts, bounds) = (regs.narrow[a], regs.narrow[b], regs.narrow[c]);
    let mut out = [0; LANES];
    let (mut inside, mut unread) = (0u32, 0u32);
    for lane in 0..LANES {
        // As PTX states it: c holds the clamp in bits 0-4 and the segment mask in bits 8-12.
        let segment = bounds[lane] as usize >> 8 & 31;
        let clamp = bounds[lane] as usize & 31;
        let amount = amounts[lane] as usize & 31;
        let last = (lane & segment) | (clamp & !segment & 31);
        let (source, valid) = match mode {
            ShuffleMode::Up => (lane.wrapping_sub(amount), lane as isize - amount as isize >= last as isize),
            ShuffleMode::Down => (lane + amount, lane + amount <= last),
            ShuffleMode::Butterfly => (lane ^ amount, lane ^ amount <= last),
            ShuffleMode::Index => {
                let source = (lane & segment) | (amount & !segment & 31);
                (source, source <= last)
            }
        };
        let source = if valid { source & 31 } else { lane };
        out[lane] = values[source];
        inside |= u32::from(valid) << lane;
        unread |= u32::from(mask >> source & 1 == 0) << lane;
    }
    put(&mut regs.narrow[dst], out, mask);
    put_pred(&mut regs.preds[found], inside, mask);
    unread & mask
}

/// `vote.sync`.
pub(crate) fn vote(regs: &mut Regs, mode: VoteMode, dst: u32, (predicate, negated): (u32, bool), mask: u32) {
    let truth = (regs.preds[predicate as usize] ^ if negated { u32::MAX } else { 0 }) & mask;
    let result = match mode {
        VoteMode::Ballot => {
            put(&mut regs.narrow[dst as usize], [truth; LANES], mask);
            return;
        }
        VoteMode::All => truth == mask,
        VoteMode::Any => truth != 0,
        VoteMode::Uniform => truth == mask || truth == 0,
    };
    put_pred(&mut regs.preds[dst as usize], if result { u32::MAX } else { 0 }, mask);
}

/// `match.any.sync` and `match.all.sync`: slots are d, p, a.
pub(crate) fn matching(regs: &mut Regs, all: bool, class: Class, slots: [u32; 3], mask: u32) {
    let [dst, found, a] = slots.map(|slot| slot as usize);
    let values: [u64; LANES] =
        if class == Class::Wide { regs.wide[a] } else { regs.narrow[a].map(u64::from) };
    let equal =
        |lane: usize| lanes(mask).filter(|l| values[*l] == values[lane]).fold(0u32, |m, l| m | 1 << l);
    let groups: [u32; LANES] = std::array::from_fn(equal);
    if !all {
        put(&mut regs.narrow[dst], groups, mask);
        return;
    }
    let agreed = lanes(mask).all(|lane| groups[lane] == mask);
    put(&mut regs.narrow[dst], [if agreed { mask } else { 0 }; LANES], mask);
    put_pred(&mut regs.preds[found], if agreed { u32::MAX } else { 0 }, mask);
}

/// `redux.sync`.
pub(crate) fn redux(regs: &mut Regs, kind: ReduxKind, dst: u32, a: u32, mask: u32) {
    let values = regs.narrow[a as usize];
    let join = |x: u32, y: u32| match kind {
        ReduxKind::AddU => x.wrapping_add(y),
        ReduxKind::MinU => x.min(y),
        ReduxKind::MaxU => x.max(y),
        ReduxKind::MinS => (x as i32).min(y as i32) as u32,
        ReduxKind::MaxS => (x as i32).max(y as i32) as u32,
        ReduxKind::And => x & y,
        ReduxKind::Or => x | y,
        ReduxKind::Xor => x ^ y,
    };
    let result = lanes(mask).map(|lane| values[lane]).reduce(join).unwrap_or(0);
    put(&mut regs.narrow[dst as usize], [result; LANES], mask);
}

/// `elect.sync`: the lowest lane is the leader.
pub(crate) fn elect(regs: &mut Regs, leader: u32, elected: u32, mask: u32) {
    let first = mask.trailing_zeros();
    put(&mut regs.narrow[leader as usize], [first; LANES], mask);
    put_pred(&mut regs.preds[elected as usize], mask & mask.wrapping_neg(), mask);
}
