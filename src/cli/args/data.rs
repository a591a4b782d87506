//! Files of points, and how to compute with them.

use super::values::{named, positive, threads};
use super::{COMPUTING, DATA};
use crate::data::Dtype;
use clap::Args;
use std::path::{Path, PathBuf};

/// A file of points and how to read it.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// File of points, a row for each point: .npy, text (also .gz, .zst), raw numbers, or sparse .mtx and .npz. A
    /// pattern such as 'part-*.npy' stands for all files that match
    pub data: PathBuf,
    /// More files of points, to be read as if they were parts of DATA
    #[arg(value_name = "MORE")]
    pub more: Vec<PathBuf>,
    /// Column of a text file that holds weights: its name, or its index from 0
    #[arg(long, value_name = "NAME|INDEX", help_heading = DATA)]
    pub weights_column: Option<String>,
    /// Type of the little-endian numbers of a raw file: f32, f64, u8, ...
    #[arg(long, value_name = "TYPE", help_heading = DATA, requires = "dim")]
    pub dtype: Option<Dtype>,
    /// Dimension of the points of a raw file
    #[arg(long, value_name = "D", help_heading = DATA, requires = "dtype", value_parser = positive)]
    pub dim: Option<u64>,
    /// Treatment of missing values (nan; in text also empty cells and NA): refuse them, or ignore them and use the known
    /// values of a point. Models whose dimensions are independent given the latents can ignore them
    #[arg(long, value_name = "ACTION", help_heading = DATA, default_value = "refuse", value_parser = named([Missing::Refuse, Missing::Ignore], Missing::name))]
    pub missing: Missing,
}

impl DataArgs {
    /// Returns all files, in order.
    pub fn files(&self) -> Vec<&Path> {
        std::iter::once(&self.data).chain(&self.more).map(PathBuf::as_path).collect()
    }
}

/// Treatment of missing values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Refuse,
    Ignore,
}

impl Missing {
    fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Ignore => "ignore",
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct WeightsArgs {
    /// File of weights, a number for each point
    #[arg(long, value_name = "FILE", help_heading = DATA, conflicts_with = "weights_column")]
    pub weights: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct ComputeArgs {
    #[command(flatten)]
    pub threads: ThreadsArgs,
    /// Precision of computations with points; sums are always f64
    #[arg(long, value_name = "TYPE", help_heading = COMPUTING, default_value = "f64", value_parser = named(Precision::ALL, Precision::name))]
    pub precision: Precision,
}

#[derive(Clone, Debug, Args)]
pub struct ThreadsArgs {
    /// Number of threads; results do not depend on it [default: all cores]
    #[arg(long, value_name = "T", help_heading = COMPUTING, value_parser = threads)]
    pub threads: Option<u64>,
}

/// Precision of the data plane.
#[derive(Clone, Copy, Debug)]
pub enum Precision {
    F32,
    F64,
}

impl Precision {
    pub const ALL: [Self; 2] = [Self::F32, Self::F64];

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }
}
