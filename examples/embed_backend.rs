//! What another crate brings along: points in a layout of its own, and a rule of its own for when to stop.
//!
//! `cargo run --release --example embed_backend`

use entropysum::data::{self, OpenOptions};
use entropysum::family::registry;
use entropysum::{Block, BlockBuf, Config, DataSource, EntropySum, Executor, Init, IterRecord};
use entropysum::{MixtureSpec, Observer, Points, StopReason, em, faer::MatRef, inference};
use std::{error::Error, ops::ControlFlow};

/// Points that arrived in shards of different lengths, as from several files or machines; row-major.
struct Shards {
    shards: Vec<Vec<f32>>,
    /// Index of the first point of each shard, and then the number of all points.
    starts: Vec<u64>,
    dim: usize,
}

impl DataSource<f32> for Shards {
    fn name(&self) -> String {
        "shards".into()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn len(&self) -> u64 {
        self.starts[self.shards.len()]
    }

    /// Called from all threads. Points inside one shard are lent; others are copied to the caller's buffer.
    fn read<'a>(
        &'a self,
        start: u64,
        count: usize,
        buffer: &'a mut BlockBuf<f32>,
    ) -> entropysum::Result<Block<'a, f32>> {
        let dim = self.dim;
        let mut shard = self.starts.partition_point(|&first| first <= start) - 1;
        let mut from = (start - self.starts[shard]) as usize * dim;
        let values = if from + count * dim <= self.shards[shard].len() {
            &self.shards[shard][from..][..count * dim]
        } else {
            buffer.values.clear();
            while buffer.values.len() < count * dim {
                let rest = &self.shards[shard][from..];
                let missing = count * dim - buffer.values.len();
                buffer.values.extend_from_slice(&rest[..missing.min(rest.len())]);
                (shard, from) = (shard + 1, 0);
            }
            &buffer.values
        };
        let points = MatRef::from_row_major_slice(values, count, dim);
        Ok(Block { first: start, ..Block::dense(points) })
    }
}

/// Keeps the course of a fit, and ends it when three iterations in a row have gained little.
struct Patience {
    enough: f64,
    small: usize,
    trace: Vec<(u64, EntropySum)>,
}

impl Observer for Patience {
    fn on_iteration(&mut self, record: &IterRecord) -> ControlFlow<StopReason> {
        self.trace.push((record.points_seen, record.entropy_sum));
        // The log-likelihood rises by at least `delta` in this iteration: no second pass is needed to know it.
        self.small = if record.delta() < self.enough { self.small + 1 } else { 0 };
        match self.small {
            3 => ControlFlow::Break(StopReason::Observer),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // Real points, cut into shards at uneven places: the pixels of a photograph.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/china.npy");
    let whole = data::open::<f32>(path, &OpenOptions::default())?;
    let (n, dim) = (whole.len(), whole.dim());
    let starts = vec![0, 100_001, 100_003, 180_000, n];
    let mut shards = Shards { shards: Vec::new(), starts, dim };
    for ends in shards.starts.windows(2) {
        let mut buffer = BlockBuf::default();
        let block = whole.read(ends[0], (ends[1] - ends[0]) as usize, &mut buffer)?;
        shards.shards.push(block.points.row_iter().flat_map(|row| row.iter().copied()).collect());
    }

    // Learn on one shard first, then go on from there on all of them: a warm start.
    let executor = Executor::new(Some(2))?;
    let family = registry::build("gaussian-diag", dim)?;
    let config = Config::default().tol(0.0); // the observer alone decides
    let fit = |init: Init, source: &dyn DataSource<f32>, observer: &mut Patience| {
        let spec = MixtureSpec::new(family.clone(), 6).with_init(init);
        em::fit(&spec, source, &executor, &config, observer)
    };
    let patience = || Patience { enough: 1e-4, small: 0, trace: Vec::new() };
    let (mut first, mut second) = (patience(), patience());
    let part = Points::from_rows(&shards.shards[0], dim)?;
    let start = fit(Init::default(), &part, &mut first)?;
    let fitted = fit(Init::Model(Box::new(start.model)), &shards, &mut second)?;

    // Labels arrive in order, batch by batch.
    let mut counts = vec![0u64; fitted.model.n_components()];
    inference::predict(&fitted.model, &shards, &executor, |_, labels| {
        labels.iter().for_each(|&c| counts[c as usize] += 1);
        Ok(())
    })?;

    println!("{} iterations on a shard, {} on all", first.trace.len(), second.trace.len());
    assert_eq!(fitted.stop_reason, StopReason::Observer);
    assert_eq!(counts.iter().sum::<u64>(), n);
    assert!(second.trace.windows(2).all(|pair| pair[0].1.total() <= pair[1].1.total()));
    // The same bits as from the file: results depend on the points, not on where they lie.
    let from_file = inference::score(&fitted.model, &*whole, &executor)?;
    assert_eq!(from_file, inference::score(&fitted.model, &shards, &executor)?);
    Ok(())
}
