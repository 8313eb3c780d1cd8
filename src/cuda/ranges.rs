//! How a sweep is cut into partial results: the same as kernels/ranges.cuh, which says why.

use super::arguments::Cut;
use super::launch::int;

/// Units that a range should have at least: a partial result costs writing and reading D floats for each owner, about
/// as much time as so many streamed tiles take.
const LEAST_UNITS: usize = 4;

/// With no more ranges than this, units times ranges fit 64 bits at the largest problem.
const MOST_RANGES: usize = 1000;

impl Cut {
    /// Equal ranges for up to `blocks` blocks.
    pub(super) fn ranges(owners: usize, tile: usize, streamed_tiles: usize, blocks: usize) -> Self {
        let owner_tiles = owners.div_ceil(tile);
        let streamed_tiles = streamed_tiles.max(1);
        // No more partials than in proportion to what goes in.
        let most = (owner_tiles * streamed_tiles / LEAST_UNITS).min(owner_tiles + streamed_tiles);
        let most = blocks.min(most).clamp(1, MOST_RANGES);
        // Whole ranges to each owner tile, if that leaves few blocks idle: a third fewer partials at two ranges a tile.
        let whole = most / owner_tiles.max(1) * owner_tiles;
        let ranges = if 8 * whole >= 7 * most { whole } else { most };
        Self {
            tile: int(tile),
            owner_tiles: int(owner_tiles),
            streamed_tiles: int(streamed_tiles),
            ranges: int(ranges.max(1)),
            splits: 0,
            owners: int(owners),
        }
    }

    /// Equal splits of the streamed range, the same for all owners.
    pub(super) fn splits(owners: usize, tile: usize, splits: usize) -> Self {
        Self {
            tile: int(tile),
            owner_tiles: int(owners.div_ceil(tile)),
            streamed_tiles: 0,
            ranges: 0,
            splits: int(splits),
            owners: int(owners),
        }
    }

    /// Rows of partial results, a float for each dimension; what the numbering leaves unused counts.
    pub(super) fn partial_rows(&self) -> usize {
        match self.ranges {
            0 => size(self.splits).saturating_mul(size(self.owners)),
            ranges if ranges % self.owner_tiles.max(1) == 0 => size(ranges).saturating_mul(size(self.tile)),
            ranges => (size(self.owner_tiles) + size(ranges) - 1).saturating_mul(size(self.tile)),
        }
    }

    /// Floats of the partial outputs.
    pub(super) fn floats(&self, dim: usize) -> usize {
        self.partial_rows().saturating_mul(dim)
    }
}

fn size(n: i32) -> usize {
    usize::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// `Cut::units`, `begin`, `range_of` and `parts` of kernels/ranges.cuh, in its arithmetic.
    impl Cut {
        fn units(&self) -> i64 {
            i64::from(self.owner_tiles) * i64::from(self.streamed_tiles)
        }

        fn begin(&self, range: i64) -> i64 {
            range * self.units() / i64::from(self.ranges)
        }

        fn range_of(&self, unit: i64) -> i64 {
            ((unit + 1) * i64::from(self.ranges) - 1) / self.units()
        }

        fn slot(&self, owner_tile: i64, range: i64) -> i64 {
            if self.ranges % self.owner_tiles == 0 { range } else { owner_tile + range }
        }

        /// First row, stride, count.
        fn parts(&self, owner: i64) -> (i64, i64, i64) {
            let (tile, streamed) = (i64::from(self.tile), i64::from(self.streamed_tiles));
            let owner_tile = owner / tile;
            let first = self.range_of(owner_tile * streamed);
            let last = self.range_of((owner_tile + 1) * streamed - 1);
            (self.slot(owner_tile, first) * tile + owner % tile, tile, last - first + 1)
        }
    }

    /// (owner tile, units) of each stay of a range, as the kernel's main loop goes.
    fn walk(cut: &Cut, range: i64) -> Vec<(i64, i64)> {
        let (mut unit, end) = (cut.begin(range), cut.begin(range + 1));
        let mut stays = vec![];
        while unit < end {
            let owner_tile = unit / i64::from(cut.streamed_tiles);
            let count = ((owner_tile + 1) * i64::from(cut.streamed_tiles)).min(end) - unit;
            stays.push((owner_tile, count));
            unit += count;
        }
        stays
    }

    proptest! {
        /// Every unit is in one range, ranges are equal to within one unit, no two stays share a partial, and the merge
        /// looks for exactly the partials that were written, inside the buffer.
        #[test]
        fn ranges_cover_the_line_and_partials_are_found(
            owners in 1usize..3000,
            streamed_tiles in 1usize..300,
            blocks in 1usize..300,
        ) {
            let cut = Cut::ranges(owners, 64, streamed_tiles, blocks);
            let ranges = i64::from(cut.ranges);
            prop_assert!(cut.ranges >= 1 && size(cut.ranges) <= blocks);
            let mut written = BTreeSet::new();
            let mut units = 0;
            for range in 0..ranges {
                let stays = walk(&cut, range);
                let length: i64 = stays.iter().map(|(_, count)| count).sum();
                prop_assert!((length - cut.units() / ranges).abs() <= 1);
                units += length;
                for (owner_tile, _) in stays {
                    let slot = cut.slot(owner_tile, range);
                    prop_assert!(written.insert(slot), "two stays write {slot}");
                }
            }
            prop_assert_eq!(units, cut.units());
            let mut read = BTreeSet::new();
            for owner in 0..owners as i64 {
                let (first, stride, count) = cut.parts(owner);
                for row in (0..count).map(|part| first + part * stride) {
                    prop_assert!((row as usize) < cut.partial_rows());
                    prop_assert_eq!(row % 64, owner % 64);
                    read.insert(row / 64);
                }
            }
            prop_assert_eq!(read, written);
        }
    }

    #[test]
    fn every_shape_fills_the_device_and_partials_stay_linear() {
        let blocks = 264;
        // Few owners, many, and a long bank: seven blocks of eight at least have a range.
        for (owners, streamed) in [(64, 65_536), (4096, 1 << 20), (65_536, 65_536), (1 << 20, 64)] {
            let cut = Cut::ranges(owners, 128, streamed / 32, blocks);
            assert!(8 * size(cut.ranges) >= 7 * blocks, "{owners} x {streamed}");
            assert!(cut.partial_rows() <= owners + 128 * (blocks + 1), "{cut:?}");
        }
        // A tiny problem is not cut at all.
        assert_eq!(Cut::ranges(64, 128, 2, blocks).ranges, 1);
        for n in [1usize, 100, 1000, 10_000] {
            let cut = Cut::ranges(n, 128, n.div_ceil(32), 1 << 20);
            assert!(cut.partial_rows() <= 8 * n + 1024, "{n}: {cut:?}");
        }
    }

    /// The largest problem that the library takes does not overflow the kernels' 64 bits.
    #[test]
    fn no_overflow() {
        let cut = Cut::ranges(i32::MAX as usize, 32, (i32::MAX as usize).div_ceil(16), 1024);
        let units = i128::from(cut.owner_tiles) * i128::from(cut.streamed_tiles);
        assert!(units * i128::from(cut.ranges + 1) < i128::from(i64::MAX));
        assert_eq!(cut.begin(i64::from(cut.ranges)), cut.units());
        assert_eq!(cut.range_of(cut.units() - 1), i64::from(cut.ranges) - 1);
    }
}
