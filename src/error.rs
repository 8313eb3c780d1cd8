//! Everything that can go wrong, each with its remedy in the message.

use std::path::PathBuf;

use crate::Dtype;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A group of columns of the score matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Segment {
    /// The items of the batch, the positives among them.
    Batch,
    /// Extra negatives shared by all rows.
    Extra,
    /// The memory bank.
    Bank,
    /// The row negatives.
    RowNegatives,
}

impl std::fmt::Display for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Segment::Batch => "batch",
            Segment::Extra => "extra",
            Segment::Bank => "bank",
            Segment::RowNegatives => "row negatives",
        })
    }
}

/// What can go wrong. The message of each variant says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The temperature is zero, negative, NaN or infinite.
    #[error("temperature must be finite and above 0, got {0}; typical values are 0.02 to 1")]
    Temperature(f32),

    /// The scale of log q is NaN or infinite.
    #[error("logq_scale must be finite, got {0}; 1 is the full correction, 0 ignores log_q")]
    LogqScale(f32),

    /// The embedding dimension is zero or above what the backend takes.
    #[error("embedding dimension {dim} is outside 1..={max}")]
    Dimension {
        /// The dimension asked for.
        dim: usize,
        /// The largest one supported.
        max: usize,
    },

    /// A buffer's length is not a multiple of the embedding dimension.
    #[error("{what} holds {len} elements, not a multiple of the embedding dimension {dim}")]
    NotRows {
        /// Which buffer.
        what: &'static str,
        /// Its length in elements.
        len: usize,
        /// The embedding dimension.
        dim: usize,
    },

    /// The batch has no rows.
    #[error("the batch has no rows: users is empty; skip empty batches before calling the loss")]
    NoRows,

    /// A buffer is shorter or longer than the problem's shape asks.
    #[error("{what} holds {got} elements, expected {expected} ({why})")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Elements found.
        got: usize,
        /// Elements needed.
        expected: usize,
        /// Where the expected number comes from.
        why: &'static str,
    },

    /// There are fewer batch columns than rows plus the offset of the positives.
    #[error(
        "{columns} batch items cannot hold the positives of {rows} rows at offset {offset}: \
         row i's positive is item i + offset"
    )]
    PositivesOutside {
        /// Columns of the batch segment.
        columns: usize,
        /// Rows of the batch.
        rows: usize,
        /// Offset of the positives.
        offset: usize,
    },

    /// A segment has no log_q although another one has.
    #[error("the {0} segment has no log_q although another one has: give it for every segment, or for none")]
    MissingLogQ(Segment),

    /// Exclusion by item id was asked, but a segment has no item ids.
    #[error(
        "exclude_same_item needs item ids, the {0} segment has none: give item_ids, or turn the \
         exclusion off"
    )]
    MissingItemIds(Segment),

    /// Exclusion by user id was asked without user ids.
    #[error("exclude_same_user needs user ids: give user_ids, or turn the exclusion off")]
    MissingUserIds,

    /// The reduction is a weighted mean, but there are no weights.
    #[error("Reduction::WeightedMean needs row weights: give weights, or use Reduction::Mean")]
    MissingWeights,

    /// The weights sum to zero (or not to a finite number), so their mean is undefined.
    #[error("the row weights sum to {0}: a weighted mean needs a finite, non-zero sum")]
    WeightSum(f32),

    /// Gradients for extra negatives were asked for, but the batch has none.
    #[error("a gradient buffer for extra negatives was given, but the batch has none")]
    UnexpectedExtraGradient,

    /// Gradients for row negatives were asked for, but the batch has none.
    #[error("a gradient buffer for row negatives was given, but the batch has none")]
    UnexpectedRowNegativesGradient,

    /// An index of a row negative lies behind its pool.
    #[error(
        "row {row}'s negative {slot} is row {index} of a pool of {pool}: indices lie in 0..{pool}, or below 0 for none"
    )]
    RowNegativeIndex {
        /// The row.
        row: usize,
        /// Which of its negatives.
        slot: usize,
        /// The index.
        index: i32,
        /// Embeddings in the pool.
        pool: usize,
    },

    /// As many hard negatives as there are columns, or more.
    #[error(
        "{asked} hard negatives cannot be chosen from {columns} columns, one of which is the positive: ask for fewer, or \
         leave hard_negatives out to take them all"
    )]
    HardNegatives {
        /// Negatives to keep for each row.
        asked: usize,
        /// Columns of batch, extra negatives and bank.
        columns: usize,
    },

    /// The number of hard negatives is 0, or more than the backends keep.
    #[error("hard_negatives must lie in 1..={max}, got {asked}")]
    HardNegativesCount {
        /// Negatives to keep for each row.
        asked: usize,
        /// The most that a row may keep.
        max: usize,
    },

    /// A scalar loss was asked of a reduction that keeps rows.
    #[error("Reduction::None has no scalar loss: read the row losses, or choose another reduction")]
    NoScalarLoss,

    /// `backward` was called before `forward`, or with another shape.
    #[error("backward must follow a forward of the same loss object with the same shape: {0}")]
    NoForward(&'static str),

    /// A product of sizes does not fit the index type.
    #[error("{what} is too large: {size} exceeds {max}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How many.
        size: u128,
        /// The limit.
        max: u128,
    },

    /// The system has no memory for a buffer.
    #[error("no memory for {bytes} bytes: use a smaller batch, fewer negatives or a smaller bank")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u128,
    },

    /// A memory bank with no capacity.
    #[error("a memory bank needs a capacity of at least 1")]
    BankCapacity,

    /// The bank holds embeddings of another dimension.
    #[error("the bank holds embeddings of dimension {bank}, the batch has {batch}")]
    BankDimension {
        /// The bank's dimension.
        bank: usize,
        /// The batch's dimension.
        batch: usize,
    },

    /// A push gave a field that the bank does not keep, or lacks one that it keeps.
    #[error("the bank was built {built} {field}, but the push came {came} it")]
    BankField {
        /// `log_q` or `item_ids`.
        field: &'static str,
        /// `with` or `without`.
        built: &'static str,
        /// `with` or `without`.
        came: &'static str,
    },

    /// A checkpoint could not be read or written.
    #[error("checkpoint {path}: {source}")]
    CheckpointIo {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// A checkpoint is damaged, foreign, or does not fit.
    #[error("checkpoint {path} cannot be used: {why}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },

    /// A snapshot does not fit the bank, estimator or counter that should be restored from it.
    #[error("the snapshot does not fit: {0}; build the bank or estimator as the one that was saved")]
    Snapshot(String),

    /// The stored dtype differs from the one asked for.
    #[error("expected {expected} embeddings, found {found}; convert them, or use the other type")]
    DtypeMismatch {
        /// Type wanted.
        expected: Dtype,
        /// Type found.
        found: Dtype,
    },

    /// No CUDA driver library could be opened.
    #[error("no CUDA driver: {0}; install the NVIDIA driver, or use the CPU backend")]
    NoDriver(String),

    /// The CUDA device asked for is not there.
    #[error("there is no CUDA device {ordinal}: this machine shows {count}, counted from 0")]
    NoDevice {
        /// The ordinal asked for.
        ordinal: usize,
        /// Devices that the driver shows.
        count: usize,
    },

    /// The driver cannot take the kernels of this build.
    #[error("the CUDA driver refuses the kernels of {module}: {reason}")]
    Ptx {
        /// Which file of kernels.
        module: &'static str,
        /// Why, and what to do.
        reason: String,
    },

    /// The device has too little free memory.
    #[error(
        "out of device memory: {bytes} bytes asked for {what}, {free} free; use a smaller batch or a smaller \
         bank, or free other memory"
    )]
    OutOfDeviceMemory {
        /// What the memory was for.
        what: &'static str,
        /// Bytes asked for.
        bytes: usize,
        /// Bytes that the driver said were free.
        free: usize,
    },

    /// A raw device pointer is null, or not a multiple of its element's size.
    #[error("{address:#x} cannot be a pointer to {len} elements: it must be a non-null multiple of {align}")]
    Misaligned {
        /// The pointer.
        address: u64,
        /// Elements that it should point to.
        len: usize,
        /// What it must be a multiple of.
        align: usize,
    },

    /// A buffer or a bank belongs elsewhere than the loss that should use it.
    #[error("{what} lives on another {place} than the loss: create both from the same Device")]
    Elsewhere {
        /// Which buffer.
        what: &'static str,
        /// `device` or `stream`.
        place: &'static str,
    },

    /// Memory would have to be allocated, or kernels loaded, while a graph is being captured.
    #[error(
        "{what} cannot be done while a CUDA graph is captured: call reserve, or one step, before capturing"
    )]
    Capturing {
        /// What was needed.
        what: &'static str,
    },

    /// A kernel could not be launched.
    #[error("kernel {kernel} could not be launched: {code}")]
    Launch {
        /// The kernel's symbol.
        kernel: &'static str,
        /// The driver's error code.
        code: String,
    },

    /// The driver reported an error. An earlier launch may be the cause: launches are asynchronous.
    #[error("{what} failed: {code}")]
    Driver {
        /// What was asked of the driver.
        what: &'static str,
        /// The driver's error code.
        code: String,
    },

    /// A gradient was read from a call that computes none.
    #[error("this call computed no gradient of the temperature: read it after step or backward")]
    NoTemperatureGradient,

    /// The learning rate of a frequency estimator is not in (0, 1].
    #[error("the learning rate of a frequency estimator must lie in (0, 1], got {0}; the paper takes 0.01")]
    LearningRate(f32),

    /// A frequency estimator without buckets, or without hash functions.
    #[error(
        "{buckets} buckets and {hashes} hash functions: a frequency estimator needs at least one of each"
    )]
    NoBuckets {
        /// Buckets of a table.
        buckets: usize,
        /// Tables.
        hashes: usize,
    },

    /// Intervals that no mean interval can have.
    #[error(
        "{low} to {high} are no intervals: they must be finite, above 0 (a start value at least 1) and in order"
    )]
    Interval {
        /// The shortest.
        low: f32,
        /// The longest.
        high: f32,
    },

    /// An id is outside the table that it should be looked up in.
    #[error("id {id} is outside 0..{size}: map ids to that range, or use hashing where it is offered")]
    UnknownId {
        /// The id.
        id: i64,
        /// Ids that the table has.
        size: usize,
    },

    /// A step counter would go backwards.
    #[error(
        "step {given} lies before the current step {current}: steps only go forward; restore a checkpoint instead"
    )]
    StepBackwards {
        /// The step asked for.
        given: u64,
        /// The step reached.
        current: u64,
    },

    /// A sampler's range is empty or too large.
    #[error("a sampler ranges over 1 to {max} ids, got {range}")]
    SamplingRange {
        /// The range asked for.
        range: u64,
        /// The largest one.
        max: u64,
    },

    /// A sampler should draw nothing.
    #[error("num_sampled is 0: leave the sampler out, or draw at least one id")]
    NoSamples,

    /// More different ids are asked for than can be drawn.
    #[error(
        "{num_sampled} different ids cannot be drawn from {available} of positive probability: draw fewer, or with \
         replacement"
    )]
    TooManyUnique {
        /// Ids asked for.
        num_sampled: usize,
        /// Ids that can come up.
        available: u64,
    },

    /// Some ids are so rare that drawing enough different ones would take too long.
    #[error(
        "{num_sampled} different ids would take more than {max} draws: some are too rare; draw fewer, with a smaller \
         distortion, or with replacement"
    )]
    TooManyDraws {
        /// Ids asked for.
        num_sampled: usize,
        /// The most draws that may be expected.
        max: u64,
    },

    /// A weight is negative or not finite, or its power is not finite.
    #[error("weight {index} is {weight}: it, and its power, must be finite and at least 0")]
    Weight {
        /// Which one.
        index: usize,
        /// The weight.
        weight: f64,
    },

    /// The distortion is NaN or infinite.
    #[error("the distortion must be finite, got {0}; 0.75 is word2vec's, 1 leaves weights as they are")]
    Distortion(f64),

    /// No id has a probability.
    #[error("no weight to the power {distortion} is above 0: there is nothing to draw")]
    NoWeight {
        /// The distortion.
        distortion: f64,
    },

    /// The threshold of down-sampling is not finite and above 0.
    #[error("the threshold of down-sampling must be finite and above 0, got {0}; 1e-5 to 1e-3 are usual")]
    Threshold(f64),

    /// A mixture of no pools, or of pools without columns.
    #[error("a mixture needs at least one pool with draws: give every source of the loss's columns")]
    NoPools,

    /// Rows without a true class.
    #[error("num_true is 0: every row of a loss over a class table needs at least one true class")]
    NoTrueClass,

    /// A row names a true class twice.
    #[error("row {row} names class {id} twice among its labels: give each true class once")]
    DuplicateLabel {
        /// The row.
        row: usize,
        /// The class.
        id: i64,
    },

    /// Log q should be subtracted, but there are no expected counts.
    #[error("subtract_log_q needs the logs of the expected counts: give log_q, or turn the subtraction off")]
    MissingExpectedCounts,

    /// An expected count is 0, or not a number: its log is not finite.
    #[error(
        "{what} {index} has the log expected count {log_q}: the sampler never draws it; take a distribution that gives \
         every class a probability"
    )]
    ExpectedCount {
        /// `label` or `sampled class`.
        what: &'static str,
        /// Its place.
        index: usize,
        /// The log of its expected count.
        log_q: f32,
    },

    /// Gradients of biases were asked for, but there are no biases.
    #[error("a gradient buffer for biases was given, but the batch has no biases")]
    UnexpectedBiasGradient,

    /// The margin is NaN or infinite.
    #[error(
        "the margin must be finite, got {0}; it is in units of the logit: a cosine margin m is m / temperature"
    )]
    Margin(f32),

    /// The share of positives among the negatives is no probability below 1.
    #[error("positive_prior must lie in [0, 1), got {0}; Chuang et al. use 0.01 to 0.1")]
    PositivePrior(f32),

    /// The sigmoid link's bias is NaN or infinite.
    #[error("the bias of the sigmoid link must be finite, got {0}; SigLIP starts at -10")]
    SigmoidBias(f32),

    /// The objective is defined by log q, and there is none.
    #[error("Objective::CorrectedLogQ needs log_q: give it, or use Objective::Softmax")]
    ObjectiveNeedsLogQ,

    /// The objective needs probabilities below 1.
    #[error(
        "the positive of row {row} has log_q {log_q}: Objective::CorrectedLogQ needs log_q < 0, logarithms of \
         probabilities (not of expected counts)"
    )]
    NotAProbability {
        /// The row.
        row: usize,
        /// Its positive's log_q.
        log_q: f32,
    },

    /// Two options that exclude each other.
    #[error("{first} cannot be combined with {second}: {remedy}")]
    Incompatible {
        /// One of the two.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// What to do.
        remedy: &'static str,
    },

    /// A gradient of log q was asked for, but the batch has no log q that counts.
    #[error(
        "a gradient buffer for log_q was given, but the loss has no log_q there: drop the buffer, or give log_q"
    )]
    UnexpectedLogQGradient,

    /// Metrics were read from a call that did not count them.
    #[error("this call counted no metrics: build the configuration with metrics(true)")]
    NoMetrics,

    /// The bias's gradient was read from a call that computes none.
    #[error(
        "this call computed no gradient of the bias: read it after step or backward under Objective::Sigmoid"
    )]
    NoBiasGradient,

    /// The bounds of a learnt temperature are no range.
    #[error(
        "a temperature cannot stay between {lowest} and {highest}: bounds are finite, above 0, the lowest first"
    )]
    TemperatureRange {
        /// The lower bound.
        lowest: f32,
        /// The upper bound.
        highest: f32,
    },

    /// A tensor or stream of another library cannot be used as it is.
    #[error("{what} cannot be used: {why}")]
    Foreign {
        /// Which one.
        what: &'static str,
        /// Why, and what to do.
        why: String,
    },
}
