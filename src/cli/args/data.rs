//! Files of points, and how to compute with them.

use super::values::{decimal, input, named, positive, threads};
use super::{COMPUTING, DATA};
pub use crate::any::Precision;
use crate::data::{Dtype, Header, TableOptions};
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::path::{Path, PathBuf};

/// A file of points and how to read it.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// File of points, a row for each point: .npy, text (also .gz, .zst), Parquet, raw numbers, or sparse .mtx and .npz. A
    /// pattern such as 'part-*.npy' stands for all files that match; - is standard input, as text
    #[arg(value_parser = input())]
    pub data: PathBuf,
    /// More files of points, to be read as if they were parts of DATA
    #[arg(value_name = "MORE")]
    pub more: Vec<PathBuf>,
    /// Column of a table that holds weights: its name, or its index from 0 [default: that of the model]
    #[arg(long, value_name = "NAME|INDEX", help_heading = DATA)]
    pub weights_column: Option<String>,
    /// Type of the little-endian numbers of a raw file: f32, f64, u8, ...
    #[arg(long, value_name = "TYPE", help_heading = DATA, requires = "dim")]
    pub dtype: Option<Dtype>,
    /// Dimension of the points of a raw file
    #[arg(long, value_name = "D", help_heading = DATA, requires = "dtype", value_parser = positive)]
    pub dim: Option<u64>,
    /// Treatment of missing values (nan; in text also empty cells and NA): refuse them; ignore them and use the known
    /// values of a point; or drop points with a missing value. Models whose dimensions are independent given the latents
    /// can ignore them, and gaussian-full. Labels and densities of dropped points are empty
    #[arg(long, value_name = "ACTION", help_heading = DATA, default_value = "refuse", value_parser = named([Missing::Refuse, Missing::Ignore, Missing::Drop], Missing::name))]
    pub missing: Missing,
    /// Let each process of a job read files of its own: points of the first process come first. DATA may have other names and
    /// places on each machine
    #[arg(long, help_heading = DATA)]
    pub private_files: bool,
    #[command(flatten)]
    pub table: TableArgs,
}

/// How to read the columns of a table: a text or Parquet file.
#[derive(Clone, Debug, Args)]
pub struct TableArgs {
    /// Columns to use, in this order, separated by commas: names, indices from 0, and ranges of either, such as
    /// age,income-debt or 0-3 [default: all but a row index and texts; those of the model, if it has names]
    #[arg(long, value_name = "COLUMNS", help_heading = DATA, value_delimiter = ',')]
    pub columns: Option<Vec<String>>,
    /// Columns to leave out, in the form of --columns
    #[arg(long, value_name = "COLUMNS", help_heading = DATA, value_delimiter = ',')]
    pub drop: Vec<String>,
    /// Whether the first line of a text has the names of its columns: auto, yes or no
    #[arg(long, value_name = "WHETHER", help_heading = DATA, default_value = "auto", value_parser = named([Header::Auto, Header::Yes, Header::No], header_name))]
    pub header: Header,
    /// Decimal sign of numbers in a text: . or , [default: a comma if cells are separated by semicolons or tabs, and numbers
    /// have commas and no points; else a point]
    #[arg(long, value_name = "SIGN", help_heading = DATA, value_parser = decimal)]
    pub decimal: Option<char>,
    /// Texts of missing values, separated by commas, such as NA,?,-999; empty cells are always missing [default: NA, N/A,
    /// #N/A, NULL, None, ? and the like]
    #[arg(long, value_name = "TEXTS", help_heading = DATA, value_delimiter = ',', allow_hyphen_values = true)]
    pub missing_values: Option<Vec<String>>,
    /// Treatment of texts that are no levels of the model: refuse them, or take them for missing values
    #[arg(long, value_name = "ACTION", help_heading = DATA, default_value = "refuse", value_parser = PossibleValuesParser::new(["refuse", "missing"]))]
    pub unseen: String,
}

impl TableArgs {
    /// Returns how to read the columns.
    pub fn options(&self) -> TableOptions {
        TableOptions::default()
            .header(self.header)
            .columns(self.columns.clone())
            .drop(self.drop.clone())
            .decimal(self.decimal)
            .missing_values(self.missing_values.clone())
            .unseen_missing(self.unseen == "missing")
    }
}

fn header_name(header: Header) -> &'static str {
    match header {
        Header::Auto => "auto",
        Header::Yes => "yes",
        Header::No => "no",
    }
}

impl DataArgs {
    /// Returns all files, in order.
    pub fn files(&self) -> Vec<&Path> {
        std::iter::once(&self.data).chain(&self.more).map(PathBuf::as_path).collect()
    }

    /// Returns the file of a model, and all files of points.
    pub fn files_and<'a>(&'a self, model: &'a Path) -> Vec<&'a Path> {
        std::iter::once(model).chain(self.files()).collect()
    }
}

/// Treatment of missing values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Refuse,
    Ignore,
    Drop,
}

impl Missing {
    fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Ignore => "ignore",
            Self::Drop => "drop",
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
