//! Special registers that do not change while a thread runs: they are filled before it starts.
use super::regs::{Class, LANES};

/// A special register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    DynamicShared,
    TotalShared,
    /// Of a launch without clusters: one block per cluster.
    Zero,
    One,
}

/// What the values depend on.
pub(crate) struct ThreadShape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) block_at: [u32; 3],
    pub(crate) warp: u32,
    pub(crate) warps: u32,
    pub(crate) multiprocessor: u32,
    pub(crate) multiprocessors: u32,
    pub(crate) dynamic_shared: u32,
    pub(crate) total_shared: u32,
}

impl Special {
    /// The special register of that name, `%tid.x`.
    pub(crate) fn from_name(name: &str) -> Option<Special> {
        let axis = |rest: &str| match rest {
            ".x" => Some(0),
            ".y" => Some(1),
            ".z" => Some(2),
            _ => None,
        };
        for (prefix, make) in [
            ("%tid", Special::Tid as fn(u8) -> Special),
            ("%ntid", Special::Ntid),
            ("%ctaid", Special::Ctaid),
            ("%nctaid", Special::Nctaid),
            ("%clusterid", Special::Ctaid),
            ("%nclusterid", Special::Nctaid),
            ("%cluster_ctaid", |_| Special::Zero),
            ("%cluster_nctaid", |_| Special::One),
        ] {
            if let Some(axis) = name.strip_prefix(prefix).and_then(axis) {
                return Some(make(axis));
            }
        }
        Some(match name {
            "%laneid" => Special::LaneId,
            "%warpid" => Special::WarpId,
            "%nwarpid" => Special::NWarpId,
            "%smid" => Special::SmId,
            "%nsmid" => Special::NSmId,
            "%gridid" => Special::GridId,
            "%lanemask_eq" => Special::LaneMaskEq,
            "%lanemask_le" => Special::LaneMaskLe,
            "%lanemask_lt" => Special::LaneMaskLt,
            "%lanemask_ge" => Special::LaneMaskGe,
            "%lanemask_gt" => Special::LaneMaskGt,
            "%dynamic_smem_size" => Special::DynamicShared,
            "%total_smem_size" => Special::TotalShared,
            "%cluster_ctarank" => Special::Zero,
            "%cluster_nctarank" => Special::One,
            _ => return None,
        })
    }

    /// All names, for the list of what is accepted.
    pub(crate) const NAMES: &[&str] = &[
        "%tid",
        "%ntid",
        "%ctaid",
        "%nctaid",
        "%clusterid",
        "%nclusterid",
        "%cluster_ctaid",
        "%cluster_nctaid",
        "%laneid",
        "%warpid",
        "%nwarpid",
        "%smid",
        "%nsmid",
        "%gridid",
        "%lanemask_eq",
        "%lanemask_le",
        "%lanemask_lt",
        "%lanemask_ge",
        "%lanemask_gt",
        "%dynamic_smem_size",
        "%total_smem_size",
        "%cluster_ctarank",
        "%cluster_nctarank",
        "%clock",
        "%clock_hi",
        "%clock64",
        "%globaltimer",
        "%globaltimer_lo",
        "%globaltimer_hi",
    ];

    /// The file its register lives in.
    pub(crate) fn class(self) -> Class {
        if self == Special::GridId { Class::Wide } else { Class::Narrow }
    }

    /// Its value in every lane of a warp.
    pub(crate) fn values(self, shape: &ThreadShape) -> [u32; LANES] {
        std::array::from_fn(|lane| {
            let lane = lane as u32;
            let below = (1u32 << lane) - 1;
            match self {
                Special::Tid(axis) => coordinates(shape.warp * 32 + lane, shape.block)[usize::from(axis)],
                Special::Ntid(axis) => shape.block[usize::from(axis)],
                Special::Ctaid(axis) => shape.block_at[usize::from(axis)],
                Special::Nctaid(axis) => shape.grid[usize::from(axis)],
                Special::LaneId => lane,
                Special::WarpId => shape.warp,
                Special::NWarpId => shape.warps,
                Special::SmId => shape.multiprocessor,
                Special::NSmId => shape.multiprocessors,
                Special::LaneMaskEq => 1 << lane,
                Special::LaneMaskLe => below | 1 << lane,
                Special::LaneMaskLt => below,
                Special::LaneMaskGe => !below,
                Special::LaneMaskGt => !below & !(1 << lane),
                Special::DynamicShared => shape.dynamic_shared,
                Special::TotalShared => shape.total_shared,
                Special::Zero | Special::GridId => 0,
                Special::One => 1,
            }
        })
    }
}

/// Coordinates of the item of that index in a box, x fastest.
pub(crate) fn coordinates(index: u32, size: [u32; 3]) -> [u32; 3] {
    let [x, y, _] = size.map(|n| n.max(1));
    [index % x, index / x % y, index / x / y]
}
