//! Which cells are left out, without a `B x N` structure: rows and columns with the same key are grouped
//! once per call, and a sweep walks each owned row's group beside the tiles.

use std::ops::Range;

use rayon::prelude::*;

/// A column whose key no row has.
const NONE: u32 = u32::MAX;

/// Rows and columns that share a key. A cell is excluded if its row and its column are in one group.
///
/// Memory: 24 bytes for each row and 8 for each column, also when all keys are equal.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Scratch: `(key, row)` in order.
    keys: Vec<(i64, u32)>,
    row_group: Vec<u32>,
    column_group: Vec<u32>,
    row_starts: Vec<u32>,
    column_starts: Vec<u32>,
    rows: Vec<u32>,
    columns: Vec<u32>,
}

impl Groups {
    /// Bytes for `rows` rows and `columns` columns.
    pub(super) fn bytes(rows: usize, columns: usize) -> u128 {
        let (rows, columns) = (rows as u128, columns as u128);
        rows * (16 + 4 + 4) + columns * 8 + (rows + 1) * 8
    }

    /// The buffers, for [`super::workspace`] to grow.
    pub(super) fn reserve(&mut self, rows: usize, columns: usize) -> crate::Result<()> {
        use super::workspace::grow;
        grow(&mut self.keys, rows)?;
        grow(&mut self.row_group, rows)?;
        grow(&mut self.rows, rows)?;
        grow(&mut self.column_group, columns)?;
        grow(&mut self.columns, columns)?;
        grow(&mut self.row_starts, rows + 1)?;
        grow(&mut self.column_starts, rows + 1)
    }

    /// Groups rows by `row_keys` and gives each column of `segments` (first column and keys) the group of
    /// its key. Columns outside the segments are in no group.
    pub(super) fn build<'k>(
        &mut self,
        row_keys: &[i64],
        columns: usize,
        segments: impl Iterator<Item = (usize, &'k [i64])>,
    ) {
        let keys = &mut self.keys[..row_keys.len()];
        for ((i, slot), key) in (0..).zip(keys.iter_mut()).zip(row_keys) {
            *slot = (*key, i);
        }
        keys.par_sort_unstable();
        let mut groups = 0;
        for k in 0..keys.len() {
            if k == 0 || keys[k].0 != keys[k - 1].0 {
                self.row_starts[groups] = k as u32;
                groups += 1;
            }
            self.rows[k] = keys[k].1;
            self.row_group[keys[k].1 as usize] = groups as u32 - 1;
        }
        self.row_starts[groups] = keys.len() as u32;

        let (keys, starts) = (&*keys, &self.row_starts[..groups]);
        self.column_group[..columns].fill(NONE);
        for (first, column_keys) in segments {
            let target = &mut self.column_group[first..first + column_keys.len()];
            target.par_iter_mut().zip(column_keys).with_min_len(1024).for_each(|(group, key)| {
                let found = starts.binary_search_by_key(key, |start| keys[*start as usize].0);
                *group = found.map_or(NONE, |group| group as u32);
            });
        }
        self.list_columns(groups, columns);
    }

    fn list_columns(&mut self, groups: usize, columns: usize) {
        let starts = &mut self.column_starts[..groups + 1];
        list_members(&self.column_group[..columns], starts, &mut self.columns);
    }

    /// Columns excluded for row `i`, in order.
    pub(super) fn columns_of(&self, i: usize) -> &[u32] {
        slice(&self.columns, &self.column_starts, self.row_group[i])
    }

    /// Rows that exclude column `j`, in order.
    pub(super) fn rows_of(&self, j: usize) -> &[u32] {
        slice(&self.rows, &self.row_starts, self.column_group[j])
    }
}

/// Counting sort of what has a group; inside a group it stays in order. Members of group g are
/// `members[starts[g]..starts[g + 1]]`; a group beyond the last is none.
pub(super) fn list_members(group_of: &[u32], starts: &mut [u32], members: &mut [u32]) {
    let groups = starts.len() - 1;
    starts.fill(0);
    let grouped = || (0..).zip(group_of).filter(|(_, group)| (**group as usize) < groups);
    grouped().for_each(|(_, group)| starts[*group as usize + 1] += 1);
    for group in 0..groups {
        starts[group + 1] += starts[group];
    }
    for (member, group) in grouped() {
        let next = &mut starts[*group as usize];
        members[*next as usize] = member;
        *next += 1;
    }
    // Each start has moved to its group's end, which is the next group's start.
    starts.copy_within(0..groups, 1);
    starts[0] = 0;
}

fn slice<'a>(members: &'a [u32], starts: &[u32], group: u32) -> &'a [u32] {
    if group == NONE {
        return &[];
    }
    &members[starts[group as usize] as usize..starts[group as usize + 1] as usize]
}

/// Looks up the excluded partners of an owned row.
pub(super) type Partners = for<'g> fn(&'g Groups, usize) -> &'g [u32];

/// Walks the excluded partners of a tile's owned rows, as tiles of partners stream by in order.
pub(super) struct Walk<'a> {
    groups: &'a Groups,
    partners: Partners,
    owned: Range<usize>,
    cursors: &'a mut [u32],
}

impl<'a> Walk<'a> {
    /// One walk for each kind of exclusion in use. Each owned row starts at its first partner from `first`
    /// on; `cursors` has room for two walks.
    pub(super) fn start_all(
        exclusions: [Option<&'a Groups>; 2],
        partners: Partners,
        owned: Range<usize>,
        first: usize,
        cursors: &'a mut [u32],
    ) -> [Option<Self>; 2] {
        let (by_item, by_user) = cursors.split_at_mut(cursors.len() / 2);
        let [same_item, same_user] = exclusions;
        let start = |groups, cursors| Self::start(groups, partners, owned.clone(), first, cursors);
        [same_item.map(|groups| start(groups, by_item)), same_user.map(|groups| start(groups, by_user))]
    }

    /// One walk; `cursors` has room for the owned rows.
    pub(super) fn start(
        groups: &'a Groups,
        partners: Partners,
        owned: Range<usize>,
        first: usize,
        cursors: &'a mut [u32],
    ) -> Self {
        for (cursor, o) in cursors.iter_mut().zip(owned.clone()) {
            *cursor = partners(groups, o).partition_point(|&p| (p as usize) < first) as u32;
        }
        Self { groups, partners, owned, cursors }
    }

    /// Marks the excluded cells of the streamed rows `streamed` as absent, and counts those that were not so before.
    pub(super) fn mark(
        &mut self,
        streamed: Range<usize>,
        scores: &mut [f32],
        lanes: usize,
        mut excluded: Option<&mut [u32]>,
    ) {
        for ((lane, o), cursor) in self.owned.clone().enumerate().zip(self.cursors.iter_mut()) {
            let partners = (self.partners)(self.groups, o);
            while let Some(&partner) =
                partners.get(*cursor as usize).filter(|p| (**p as usize) < streamed.end)
            {
                let cell = &mut scores[(partner as usize - streamed.start) * lanes + lane];
                if let Some(excluded) = &mut excluded {
                    excluded[lane] += u32::from(*cell != f32::NEG_INFINITY);
                }
                *cell = f32::NEG_INFINITY;
                *cursor += 1;
            }
        }
    }
}

/// Walks of several groups at once, one for each place of a label, their positions in one buffer.
pub(super) struct LabelWalks<'a> {
    labels: &'a [Groups],
    partners: Partners,
    owned: Range<usize>,
    lanes: usize,
    /// `[labels, lanes]`
    cursors: &'a mut [u32],
}

impl<'a> LabelWalks<'a> {
    /// Each owned row starts at its first partner from `first` on.
    pub(super) fn start(
        labels: &'a [Groups],
        partners: Partners,
        owned: Range<usize>,
        first: usize,
        lanes: usize,
        cursors: &'a mut [u32],
    ) -> Self {
        for (groups, cursors) in labels.iter().zip(cursors.chunks_exact_mut(lanes)) {
            Walk::start(groups, partners, owned.clone(), first, cursors);
        }
        Self { labels, partners, owned, lanes, cursors }
    }

    /// As [`Walk::mark`].
    pub(super) fn mark(
        &mut self,
        streamed: Range<usize>,
        scores: &mut [f32],
        mut excluded: Option<&mut [u32]>,
    ) {
        for (groups, cursors) in self.labels.iter().zip(self.cursors.chunks_exact_mut(self.lanes)) {
            let mut walk = Walk { groups, partners: self.partners, owned: self.owned.clone(), cursors };
            walk.mark(streamed.clone(), scores, self.lanes, excluded.as_deref_mut());
        }
    }
}

/// Marks the cells where a streamed row meets its own positive, or an owned row its own: owned row `o` and
/// streamed row `o + shift`.
pub(super) fn mark_positives(
    owned: Range<usize>,
    streamed: Range<usize>,
    shift: isize,
    scores: &mut [f32],
    lanes: usize,
) {
    for (lane, o) in owned.enumerate() {
        let partner = o.checked_add_signed(shift).filter(|p| streamed.contains(p));
        if let Some(partner) = partner {
            scores[(partner - streamed.start) * lanes + lane] = f32::NEG_INFINITY;
        }
    }
}
