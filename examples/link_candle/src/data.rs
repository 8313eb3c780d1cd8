//! Made-up interactions. Users have tastes and items have traits, which the model does not see: it sees features that
//! mix them. An item is drawn with probability proportional to its popularity times `exp(<taste, traits>)`.

use fastrand::Rng;

pub(crate) const USERS: usize = 400;
pub(crate) const ITEMS: usize = 300;
pub(crate) const FEATURES: usize = 24;
const HIDDEN: usize = 6;
/// Interactions of each user; one more is held out.
const EACH: usize = 24;

/// What a trainer has.
pub(crate) struct Data {
    /// `[USERS, FEATURES]`
    pub(crate) users: Vec<f32>,
    /// `[ITEMS, FEATURES + 1]`; the last one is the logarithm of the popularity.
    pub(crate) items: Vec<f32>,
    /// User and item.
    pub(crate) pairs: Vec<(u32, u32)>,
    /// For each user an item that is not among their pairs.
    pub(crate) held_out: Vec<u32>,
    /// How often an item is among the pairs.
    pub(crate) counts: Vec<u32>,
}

impl Data {
    pub(crate) fn generate(random: &mut Rng) -> Self {
        let (tastes, traits) = (normal(random, USERS * HIDDEN), normal(random, ITEMS * HIDDEN));
        let (mut pairs, mut held_out) = (Vec::new(), Vec::new());
        for (user, taste) in tastes.chunks(HIDDEN).enumerate() {
            let mut weights: Vec<f32> = traits
                .chunks(HIDDEN)
                .enumerate()
                .map(|(item, traits)| dot(taste, traits).exp() / (item + 5) as f32)
                .collect();
            for _ in 0..EACH {
                pairs.push((user as u32, draw(random, &mut weights) as u32));
            }
            held_out.push(draw(random, &mut weights) as u32);
        }
        let mut counts = vec![0u32; ITEMS];
        pairs.iter().for_each(|&(_, item)| counts[item as usize] += 1);
        let mut items = Vec::new();
        for (features, count) in mixed(random, &traits).chunks(FEATURES).zip(&counts) {
            items.extend_from_slice(features);
            items.push((1.0 + *count as f32).ln() - 3.0);
        }
        Self { users: mixed(random, &tastes), items, pairs, held_out, counts }
    }

    /// log q: the probability that a pair drawn at random has this item.
    pub(crate) fn log_q(&self) -> Vec<f32> {
        let total = self.pairs.len() as f32;
        self.counts.iter().map(|&count| (count.max(1) as f32 / total).ln()).collect()
    }
}

/// An index by its weight, which then becomes 0: nobody meets an item twice.
fn draw(random: &mut Rng, weights: &mut [f32]) -> usize {
    let mut left = random.f32() * weights.iter().sum::<f32>();
    let drawn = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    let drawn = drawn.unwrap_or(weights.len() - 1);
    weights[drawn] = 0.0;
    drawn
}

/// `tanh` of random sums of what is hidden.
fn mixed(random: &mut Rng, hidden: &[f32]) -> Vec<f32> {
    let matrix = normal(random, FEATURES * HIDDEN);
    let row = |hidden: &[f32]| {
        let hidden = hidden.to_vec();
        matrix.chunks(HIDDEN).map(move |weights| (0.5 * dot(weights, &hidden)).tanh()).collect::<Vec<_>>()
    };
    hidden.chunks(HIDDEN).flat_map(row).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Nearly normal: twelve uniform numbers, summed.
fn normal(random: &mut Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| (0..12).map(|_| random.f32()).sum::<f32>() - 6.0).collect()
}
