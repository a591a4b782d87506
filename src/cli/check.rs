//! `check`: the parameterisation criterion of a model, and the gap on points.

use crate::cli::args::{CheckArgs, Precision};
use crate::cli::kinds::{self, described};
use crate::cli::output;
use crate::cli::run::{executor, json_line, size};
use crate::cli::source::{InSource, Opened};
use crate::criterion::{CertifiedGap, FactorModel};
use crate::data::{OpenOptions, Schema};
use crate::error::{Error, Result};
use crate::expert::{Sizes, built_in};
use crate::store::Model;
use std::path::Path;
use std::process::ExitCode;

/// Runs the command. Not to fulfil the criterion is a result, not an error; parts that do not add up to the gap are one.
pub fn run(args: &CheckArgs) -> Result<ExitCode> {
    let path = Path::new(&args.model);
    let name = args.model.to_str().filter(|_| !path.is_file());
    let (model, gap) = match name {
        Some(name) => (named(name, args)?, None),
        None => {
            let (model, schema) = kinds::load(path)?;
            (described(&model).factors(), gap(&model, schema, args)?)
        }
    };
    let report = model.check(size(args.draws)?, args.seed);
    output::print(&if args.json {
        let mut value = report.json();
        value["draws"] = args.draws.into();
        value["gap"] = gap.map(|gap| gap.json()).into();
        json_line(&value)
    } else {
        gap.map_or(report.to_string(), |gap| format!("{report}\n{gap}"))
    })?;
    match gap.filter(|gap| !gap.holds()) {
        None => Ok(ExitCode::SUCCESS),
        Some(gap) => Err(Error::Model(format!(
            "{}: the parts do not add up to the gap, by {:.1e} nats per point: parameters stand at a boundary that points \
             contradict, such as a probability of 0 of a value that occurs. The identity holds inside only; fit the model to \
             points with these values",
            path.display(),
            gap.error().abs()
        ))),
    }
}

fn named(name: &str, args: &CheckArgs) -> Result<FactorModel> {
    if args.data.is_some() {
        let message = format!("{name} is no model file: points need a model with parameters");
        return Err(Error::Config(message));
    }
    built_in(
        name,
        Sizes {
            n_components: size(args.components)?,
            dim: size(args.dim)?,
            n_latents: size(args.latent)?,
        },
        &args.known.known(),
    )
}

fn gap(model: &Model, schema: Option<Schema>, args: &CheckArgs) -> Result<Option<CertifiedGap>> {
    let Some(path) = &args.data else {
        return Ok(None);
    };
    let options = OpenOptions::default().table(args.table.options().schema(schema));
    let opened = Opened::of(&[path], &options, Precision::F64)?;
    opened.tell();
    let source = opened.source.borrow();
    source.check_for(model)?;
    described(model).certify(f64::points(source), &executor(&args.threads)?).map(Some)
}
