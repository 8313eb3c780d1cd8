//! One seed, an independent stream of random numbers for each purpose.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// What random numbers are drawn for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// The order of training pairs.
    Batches,
    /// The initial embedding tables.
    Tables,
    /// The seeds of the library's samplers.
    Samplers,
    /// Negatives of one pair each.
    RowNegatives,
    /// Tastes and traits of the generated catalogue.
    Catalogue,
    /// The interactions of one generated user: the same whichever thread draws them.
    History(u32),
}

/// The generator for a purpose. The same on every machine.
pub(crate) fn generator(seed: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(match purpose {
        Purpose::Batches => 0,
        Purpose::Tables => 1,
        Purpose::Catalogue => 2,
        Purpose::Samplers => u64::MAX,
        Purpose::RowNegatives => u64::MAX - 1,
        Purpose::History(user) => 3 + u64::from(user),
    });
    rng
}
