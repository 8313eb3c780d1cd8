//! A batch with row negatives, on the host and in device memory, and what a step should make of it. A row with its own
//! negatives is a batch of one user to whom they are extra negatives: the oracle of each row alone, added up, knows nothing of
//! how they are gathered.

use inbatch::cuda::{self, Device, InBatchLoss};
use inbatch::{LossConfig, Metrics, Problem, oracle};

use crate::support::{Random, Real, Slice};

/// One problem: row negatives beside the batch, with all their fields.
#[derive(Clone)]
pub(crate) struct Rows<T> {
    pub rows: usize,
    pub dim: usize,
    pub offset: usize,
    pub per_row: usize,
    pub users: Vec<T>,
    pub items: Vec<T>,
    pub extra: Vec<T>,
    /// `[B K, D]`, or `[P, D]` with indices.
    pub negatives: Vec<T>,
    pub indices: Option<Vec<i32>>,
    /// Of batch, extra and row negatives.
    pub log_q: [Vec<f32>; 3],
    pub item_ids: [Vec<i64>; 3],
    pub weights: Vec<f32>,
}

impl<T: Real> Rows<T> {
    /// `pool` is its size; otherwise each negative has an embedding of its own.
    pub(crate) fn random([rows, dim, per_row, extra]: [usize; 4], pool: Option<usize>, seed: u64) -> Self {
        let mut random = Random(seed);
        let offset = 2;
        let counts = [rows + offset + 3, extra, pool.unwrap_or(rows * per_row)];
        let mut weights = random.floats(rows, -0.5, 2.0);
        weights[rows / 2] = 0.0;
        Self {
            rows,
            dim,
            offset,
            per_row,
            users: random.values(rows * dim),
            items: random.values(counts[0] * dim),
            extra: random.values(counts[1] * dim),
            negatives: random.values(counts[2] * dim),
            // Some absent, some named twice.
            indices: pool
                .map(|pool| (0..rows * per_row).map(|_| random.below(pool as u64 + 1) as i32 - 1).collect()),
            log_q: counts.map(|n| random.floats(n, -6.0, -0.5)),
            item_ids: counts.map(|n| random.ids(n)),
            weights,
        }
    }

    /// The places of a row's negatives.
    fn places(&self, row: usize) -> Vec<usize> {
        let cells = row * self.per_row..(row + 1) * self.per_row;
        match &self.indices {
            Some(indices) => indices[cells].iter().filter_map(|&i| usize::try_from(i).ok()).collect(),
            None => cells.collect(),
        }
    }

    pub(crate) fn problem(&self) -> Problem {
        Problem {
            rows: self.rows,
            dim: self.dim,
            batch_columns: self.items.len() / self.dim,
            extra_columns: self.extra.len() / self.dim,
            bank_columns: 0,
            row_negatives: self.per_row,
            pool: self.indices.as_ref().map(|_| self.negatives.len() / self.dim),
            offset: self.offset,
            dtype: T::DTYPE,
        }
    }
}

/// What a step gives; the oracle has no bits to compare.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Results {
    pub loss: f64,
    pub row_losses: Vec<f64>,
    pub log_sum_exp: Vec<f64>,
    pub d_users: Vec<f64>,
    pub d_items: Vec<f64>,
    pub d_extra: Vec<f64>,
    pub d_negatives: Vec<f64>,
    pub d_log_q: [Vec<f64>; 3],
    pub d_inverse_temperature: f64,
    pub d_bias: f64,
    pub counts: Option<[Vec<u32>; 3]>,
}

pub(crate) fn wide<T: Real>(values: &[T]) -> Vec<f64> {
    values.iter().map(|x| f64::from(x.to_f32())).collect()
}

/// The mean loss by the oracle of each row alone.
pub(crate) fn by_rows<T: Real>(config: LossConfig, data: &Rows<T>) -> Results {
    let Rows { rows, dim, .. } = *data;
    let (users, items, extra) = (wide(&data.users), wide(&data.items), wide(&data.extra));
    let negatives = wide(&data.negatives);
    let one = config.reduction(inbatch::Reduction::Sum);
    let mut sum = Results {
        loss: 0.0,
        row_losses: vec![],
        log_sum_exp: vec![],
        d_users: vec![],
        d_items: vec![0.0; items.len()],
        d_extra: vec![0.0; extra.len()],
        d_negatives: vec![0.0; negatives.len()],
        d_log_q: [&data.log_q[0], &data.log_q[1], &data.log_q[2]].map(|log_q| vec![0.0; log_q.len()]),
        d_inverse_temperature: 0.0,
        d_bias: 0.0,
        counts: config.counts_metrics().then(|| [vec![], vec![], vec![]]),
    };
    for row in 0..rows {
        let places = data.places(row);
        let own: Vec<f64> =
            places.iter().flat_map(|&p| &negatives[p * dim..(p + 1) * dim]).copied().collect();
        let own_log_q: Vec<f32> = places.iter().map(|&p| data.log_q[2][p]).collect();
        let own_ids: Vec<i64> = places.iter().map(|&p| data.item_ids[2][p]).collect();
        let log_q = wide(&[&data.log_q[0][..], &data.log_q[1], &own_log_q].concat());
        let ids = [&data.item_ids[0][..], &data.item_ids[1], &own_ids].concat();
        let g = f64::from(data.weights[row]) / rows as f64;
        let inputs = oracle::Inputs {
            dim,
            users: &users[row * dim..(row + 1) * dim],
            items: &items,
            extra: &[&extra[..], &own].concat(),
            offset: data.offset + row,
            log_q: Some(&log_q),
            item_ids: Some(&ids),
            upstream: Some(&[g]),
            ..oracle::Inputs::default()
        };
        let out = oracle::evaluate(&one, &inputs).expect("a valid row");
        sum.loss += g * out.row_losses[0];
        sum.row_losses.push(f64::from(data.weights[row]) * out.row_losses[0]);
        sum.log_sum_exp.push(out.log_sum_exp[0]);
        sum.d_users.extend(&out.d_users);
        let add = |to: &mut [f64], from: &[f64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        add(&mut sum.d_items, &out.d_items);
        add(&mut sum.d_extra, &out.d_extra);
        add(&mut sum.d_log_q[0], &out.d_log_q);
        let batch = data.log_q[0].len();
        add(&mut sum.d_log_q[1], &out.d_log_q[batch..]);
        let beyond = data.log_q[1].len();
        for (k, &p) in places.iter().enumerate() {
            add(&mut sum.d_negatives[p * dim..(p + 1) * dim], &out.d_extra[(beyond + k) * dim..]);
            sum.d_log_q[2][p] += out.d_log_q[batch + beyond + k];
        }
        sum.d_inverse_temperature += out.d_inverse_temperature;
        sum.d_bias += out.d_bias_rows[0];
        if let Some([ranks, negatives, excluded]) = &mut sum.counts {
            ranks.push(out.ranks[0]);
            negatives.push(out.negatives[0]);
            excluded.push(out.excluded[0]);
        }
    }
    sum
}

/// The same in device memory.
pub(crate) struct OnDevice<T> {
    embeddings: [Slice<T>; 4],
    log_q: [Slice<f32>; 3],
    item_ids: [Slice<i64>; 3],
    indices: Option<Slice<i32>>,
    weights: Slice<f32>,
}

impl<T: Real> OnDevice<T> {
    pub(crate) fn new(device: &Device, data: &Rows<T>) -> Self {
        let stream = device.stream();
        // Empty parts get one element that is not used.
        let store = |values: &[T]| stream.clone_htod(&[values, &[T::from_f32(f32::NAN)]].concat()).unwrap();
        let each = [&data.users, &data.items, &data.extra, &data.negatives];
        Self {
            embeddings: each.map(|values| store(values)),
            log_q: data.log_q.each_ref().map(|v| stream.clone_htod(&[&v[..], &[f32::NAN]].concat()).unwrap()),
            item_ids: data.item_ids.each_ref().map(|v| stream.clone_htod(&[&v[..], &[7]].concat()).unwrap()),
            indices: data
                .indices
                .as_ref()
                .map(|indices| stream.clone_htod(&[&indices[..], &[i32::MAX]].concat()).unwrap()),
            weights: stream.clone_htod(&data.weights).unwrap(),
        }
    }

    /// Overwrites everything in place, so that a captured graph sees it.
    pub(crate) fn refill(&mut self, device: &Device, data: &Rows<T>) {
        let stream = device.stream();
        let each = [&data.users, &data.items, &data.extra, &data.negatives];
        for (slice, values) in self.embeddings.iter_mut().zip(each) {
            stream.memcpy_htod(values, slice).unwrap();
        }
        for at in 0..3 {
            stream.memcpy_htod(&data.log_q[at], &mut self.log_q[at]).unwrap();
            stream.memcpy_htod(&data.item_ids[at], &mut self.item_ids[at]).unwrap();
        }
        if let (Some(slice), Some(indices)) = (&mut self.indices, &data.indices) {
            stream.memcpy_htod(indices, slice).unwrap();
        }
        stream.memcpy_htod(&data.weights, &mut self.weights).unwrap();
        stream.synchronize().unwrap();
    }

    /// One segment's embeddings with their fields.
    fn segment(&self, data: &Rows<T>, at: usize) -> cuda::Items<'_, T> {
        let count = data.log_q[at].len();
        cuda::Items::new(self.embeddings[at + 1].slice(..count * data.dim))
            .log_q(self.log_q[at].slice(..count))
            .item_ids(self.item_ids[at].slice(..count))
    }

    pub(crate) fn batch(&self, data: &Rows<T>) -> cuda::Batch<'_, T> {
        let items = data.log_q[0].len();
        let [users, embeddings, ..] = &self.embeddings;
        let batch =
            cuda::Batch::new(users.slice(..data.users.len()), embeddings.slice(..data.items.len()), data.dim)
                .offset(data.offset)
                .log_q(self.log_q[0].slice(..items))
                .item_ids(self.item_ids[0].slice(..items))
                .weights(&self.weights)
                .extra(self.segment(data, 1));
        if data.per_row == 0 {
            return batch;
        }
        let (negatives, per_row) = (self.segment(data, 2), data.per_row);
        batch.row_negatives(match &self.indices {
            Some(indices) => {
                cuda::RowNegatives::of_pool(negatives, indices.slice(..data.rows * per_row), per_row)
            }
            None => cuda::RowNegatives::new(negatives, per_row),
        })
    }
}

/// Gradient buffers that hold NaN until a step writes them, with an element more than it may write.
pub(crate) struct Grads<G> {
    embeddings: [Slice<G>; 4],
    log_q: [Slice<f32>; 3],
    has_own: bool,
}

impl<G: Real> Grads<G> {
    pub(crate) fn poisoned<T: Real>(device: &Device, data: &Rows<T>) -> Self {
        let stream = device.stream();
        let lengths = [&data.users, &data.items, &data.extra, &data.negatives].map(|values| values.len());
        Self {
            embeddings: lengths.map(|n| stream.clone_htod(&vec![G::from_f32(f32::NAN); n + 1]).unwrap()),
            log_q: data.log_q.each_ref().map(|v| stream.clone_htod(&vec![f32::NAN; v.len() + 1]).unwrap()),
            has_own: data.per_row > 0,
        }
    }

    pub(crate) fn view(&mut self) -> cuda::Gradients<'_, G> {
        let [users, items, extra, negatives] = self.embeddings.each_mut().map(|slice| {
            let len = slice.len() - 1;
            slice.slice_mut(..len)
        });
        let [log_q, extra_log_q, negatives_log_q] = self.log_q.each_mut().map(|slice| {
            let len = slice.len() - 1;
            slice.slice_mut(..len)
        });
        let gradients = cuda::Gradients::new(users, items).extra(extra).log_q(log_q).extra_log_q(extra_log_q);
        if !self.has_own {
            return gradients;
        }
        gradients.row_negatives(negatives).row_negatives_log_q(negatives_log_q)
    }

    pub(crate) fn read(&self, device: &Device) -> ([Vec<f64>; 4], [Vec<f64>; 3]) {
        fn host<S: Real>(device: &Device, slice: &Slice<S>) -> Vec<f64> {
            let mut values = wide(&device.stream().clone_dtoh(slice).unwrap());
            assert!(values.pop().unwrap().is_nan(), "written beyond the end");
            values
        }
        let embeddings = self.embeddings.each_ref().map(|slice| host(device, slice));
        (embeddings, self.log_q.each_ref().map(|slice| host(device, slice)))
    }
}

/// One step of a loss object.
pub(crate) fn step<T: Real, G: Real>(device: &Device, loss: &mut InBatchLoss, data: &Rows<T>) -> Results {
    let inputs = OnDevice::new(device, data);
    let mut gradients = Grads::<G>::poisoned(device, data);
    let output = loss.step(&inputs.batch(data), &mut gradients.view()).unwrap();
    let ([d_users, d_items, d_extra, d_negatives], d_log_q) = gradients.read(device);
    let counts = output.metrics().ok().map(|metrics| {
        let Metrics { ranks, negatives, excluded, .. } = metrics;
        [ranks, negatives, excluded]
    });
    Results {
        loss: f64::from(output.loss().unwrap()),
        row_losses: wide(&output.row_losses().unwrap()),
        log_sum_exp: wide(&output.log_sum_exp().unwrap()),
        d_users,
        d_items,
        d_extra,
        d_negatives,
        d_log_q,
        d_inverse_temperature: f64::from(output.d_inverse_temperature().unwrap()),
        d_bias: output.d_bias().map_or(0.0, f64::from),
        counts,
    }
}

impl Results {
    pub(crate) fn tensors(&self) -> [(&'static str, &[f64]); 9] {
        let [log_q, extra_log_q, negatives_log_q] = &self.d_log_q;
        [
            ("row losses", &self.row_losses),
            ("log-sum-exp", &self.log_sum_exp),
            ("du", &self.d_users),
            ("dv", &self.d_items),
            ("d of extra", &self.d_extra),
            ("d of row negatives", &self.d_negatives),
            ("dlog_q", log_q),
            ("d of extra log_q", extra_log_q),
            ("d of row negatives' log_q", negatives_log_q),
        ]
    }

    /// Each tensor within `tolerance` of its norm.
    #[track_caller]
    pub(crate) fn check(&self, expected: &Self, tolerance: f64, what: &str) {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        for ((name, found), (_, expected)) in self.tensors().into_iter().zip(expected.tensors()) {
            let error = norm(&mut found.iter().zip(expected).map(|(x, y)| x - y));
            let size = norm(&mut expected.iter().copied());
            assert_eq!(found.len(), expected.len(), "{what}: {name}");
            assert!(error <= tolerance * size, "{what}: {name} is off by {error:e} of {size:e}");
        }
        for (name, found, expected, size) in [
            ("loss", self.loss, expected.loss, self.row_losses.iter().map(|x| x.abs()).sum()),
            ("d(1/tau)", self.d_inverse_temperature, expected.d_inverse_temperature, 1.0),
            ("d(bias)", self.d_bias, expected.d_bias, 1.0),
        ] {
            assert!(
                (found - expected).abs() <= tolerance * size,
                "{what}: {name} is {found}, not {expected}"
            );
        }
        assert_eq!(self.counts, expected.counts, "{what}");
    }
}
