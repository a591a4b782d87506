//! Mixtures on the command line.

use super::{Described, Given, Kind};
use crate::cli::args::{FitArgs, Missing, Prior, Start};
use crate::cli::output;
use crate::cli::run::size;
use crate::cli::source::Source;
use crate::criterion::{self, CertifiedGap, FactorModel};
use crate::data::{DataSource, Schema};
use crate::em::{Init, MixtureSpec};
use crate::error::{Error, Result};
use crate::exec::Executor;
use crate::family::{ConjugatePrior, ExponentialFamily, registry};
use crate::model::{Mixture, Posterior, TruncatedSearch};
use crate::store::Stored;
use serde_json::Value;
use std::fmt::Write as _;

/// The variational family that was asked for, if any; sizes that were not are those of the model that is given.
pub(super) fn posterior(args: &FitArgs, given: Option<Posterior>) -> Result<Option<Posterior>> {
    let sizes = [
        ("--states", args.states),
        ("--neighbours", args.neighbours),
        ("--random-candidates", args.random_candidates),
    ];
    let before = match given {
        Some(Posterior::Truncated(search)) => Some(search),
        _ => None,
    };
    let is_truncated = match asked_posterior(args) {
        Some(asked) => asked == "truncated",
        None => before.is_some(),
    };
    if is_truncated {
        let mut search = before.unwrap_or_default();
        let to = [&mut search.states, &mut search.neighbours, &mut search.random];
        for (to, (_, asked)) in to.into_iter().zip(sizes) {
            *to = asked.map_or(Ok(*to), size)?;
        }
        return Ok(Some(Posterior::Truncated(search)));
    }
    if let Some((option, _)) = sizes.iter().find(|(_, size)| size.is_some()) {
        return Err(Error::Config(format!(
            "{option} is for truncated posteriors (--posterior truncated)"
        )));
    }
    Ok(asked_posterior(args).map(|asked| match asked {
        "hard" => Posterior::Hard,
        _ => Posterior::Exact,
    }))
}

/// Returns posteriors in words.
pub(super) fn posterior_text(posterior: Posterior) -> String {
    let sizes = match posterior {
        Posterior::Truncated(TruncatedSearch { states, neighbours, .. }) => {
            format!(" of {states} states among {neighbours} neighbours")
        }
        _ => String::new(),
    };
    format!("{} posteriors{sizes}", posterior.name())
}

/// The posteriors that were typed, unless they are to be chosen.
fn asked_posterior(args: &FitArgs) -> Option<&str> {
    args.posterior.as_deref().filter(|&asked| asked != "auto")
}

/// Takes posteriors that suit the number of points, if no others were asked for; says so if they are truncated. A model of a file keeps its
/// posteriors, unless `auto` is typed.
pub(super) fn choose_posterior(
    posterior: &mut Posterior,
    args: &FitArgs,
    automatic: Posterior,
    n_components: usize,
) -> Option<String> {
    let is_kept = matches!(args.init, Start::File(_)) && args.posterior.is_none();
    if is_kept || asked_posterior(args).is_some() || *posterior != Posterior::Exact {
        return None;
    }
    *posterior = automatic;
    let Posterior::Truncated(search) = automatic else { return None };
    Some(format!(
        "truncated posteriors: {} components a point, found among {} neighbours; --posterior exact goes through all {n_components}",
        search.states, search.neighbours
    ))
}

impl Kind for Mixture {
    type Spec = MixtureSpec;

    const ARGUMENTS: &'static [&'static str] = &[
        "--components",
        "--label-column",
        "--labels",
        "--posterior",
        "--states",
        "--neighbours",
        "--random-candidates",
        "--reg-covar",
        "--prior",
        "--missing ignore",
        "--trials",
        "--successes",
        "--shape",
        "--location",
        "--variance",
        "--levels",
        "--total",
    ];

    const ALGORITHMS: &'static [&'static str] = &["batch", "stepwise", "incremental"];

    fn check(args: &FitArgs, given: Option<Given<'_, Self>>) -> Result<()> {
        posterior(args, given.as_ref().map(|given| given.model.posterior()))?;
        if let Some(Prior::Latents(prior)) = args.network.prior {
            let (prior, expected) = (prior.name(), ConjugatePrior::NAME);
            let text = format!("--prior {prior} is for latents of vae; mixtures have {expected}");
            return Err(Error::Config(text));
        }
        if let (Some(given), Some((argument, _))) =
            (&given, args.known.given().find(|(_, given)| *given))
        {
            let path = given.path.display();
            return Err(Error::Config(format!(
                "{argument} is told by the model of --init {path}; leave it out"
            )));
        }
        let found = given.as_ref().map_or(0, |given| given.model.n_components());
        check_components(args, given.as_ref(), found)
    }

    fn spec(name: &str, args: &FitArgs, given: Option<Self>, dim: usize) -> Result<MixtureSpec> {
        let spec = match given {
            Some(model) => MixtureSpec::from_model(model),
            None => {
                let n_components = size(args.components.unwrap_or_default())?;
                let family = registry::build_known(name, dim, &args.known.known())?;
                MixtureSpec::new(family, n_components).with_init(fresh_start(&args.init))
            }
        };
        let per_component = spec.family.parameters().iter().map(|array| array.len()).sum();
        let advice = "gaussian-diag needs far less";
        check_memory(&spec.family.name(), spec.n_components, per_component, advice)?;
        let spec = match args.data.missing {
            Missing::Refuse | Missing::Drop => spec,
            Missing::Ignore => spec.ignoring_missing()?,
        };
        let spec = spec.with_bad_rows(args.stream.on_bad_row.unwrap_or_default());
        Ok(match posterior(args, Some(spec.posterior))? {
            Some(posterior) => spec.with_posterior(posterior),
            None => spec,
        })
    }

    fn choose(spec: &mut MixtureSpec, args: &FitArgs, source: Source<'_>) -> Option<String> {
        let (family, n_components) = (&*spec.family, spec.n_components);
        let (n_points, is_sparse) = (source.len(), source.is_sparse());
        let automatic = Posterior::automatic(family, n_components, n_points, is_sparse);
        choose_posterior(&mut spec.posterior, args, automatic, n_components)
    }

    fn learns_from_sparse(spec: &MixtureSpec) -> bool {
        spec.family.takes_sparse()
    }

    fn label(spec: &MixtureSpec) -> String {
        let (family, posterior) = (spec.family.name(), posterior_text(spec.posterior));
        format!("{} components of {family}, {posterior}", spec.n_components)
    }
}

impl Described for Mixture {
    fn title(&self) -> String {
        let components = self.n_components();
        let plural = if components == 1 { "" } else { "s" };
        format!("{}, {components} component{plural}", self.family().name())
    }

    fn details(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("entropy_contributions", self.entropy_contributions().into()),
            ("weights", self.weights().into()),
        ]
    }

    fn table(&self, schema: Option<&Schema>) -> String {
        let first = |family: &dyn ExponentialFamily, prefix: &str| {
            let spec = family.parameters().into_iter().find(|spec| !spec.shared)?;
            let values = self.parameter(&format!("{prefix}{}", spec.name))?;
            Some((spec.name, values))
        };
        let array =
            |title: &str, name: &str, values: Vec<f64>, columns: &[usize], is_named: bool| {
                let per_column = values.len() / (self.n_components() * columns.len()).max(1);
                // One value a column, or one for each of its levels; other shapes have no names.
                let is_plain = name == "probabilities" || per_column == 1;
                let labels = match is_plain && is_named {
                    true => labels(columns, per_column, schema),
                    false => Vec::new(),
                };
                Values::new(title, values, &labels)
            };
        let family = self.family();
        let mut blocks = Vec::new();
        if family.blocks().is_empty() {
            let (name, values) = first(family, "").unwrap_or_default();
            let columns: Vec<usize> = (0..family.dim()).collect();
            blocks.push(array(&name, &name, values, &columns, schema.is_some()));
        }
        for (b, block) in family.blocks().iter().enumerate() {
            let prefix = format!("blocks.{b}.");
            let Some((name, values)) = first(&*block.family, &prefix) else { continue };
            let title = format!("{} {name}", block.family.name());
            blocks.push(array(&title, &name, values, &block.columns, true));
        }
        component_table(self.weights(), &self.entropy_contributions(), &blocks)
    }

    /// At random parameters of its family only: its own may be at a boundary, as a probability of 0 is.
    fn factors(&self) -> FactorModel {
        FactorModel::of(self)
    }

    fn certify(&self, points: &dyn DataSource<f64>, executor: &Executor) -> Result<CertifiedGap> {
        criterion::certify(self, points, executor)
    }
}

/// Returns what the values of a parameter are called: as the columns are, or as the levels of each column if there are values for each
/// of so many levels.
fn labels(columns: &[usize], n_levels: usize, schema: Option<&Schema>) -> Vec<String> {
    let Some(schema) = schema else { return columns.iter().map(usize::to_string).collect() };
    let of = |&column: &usize| {
        let (name, levels) = (&schema.names[column], &schema.levels[column]);
        let level = move |level: usize| match levels.get(level) {
            _ if n_levels == 1 => name.clone(),
            Some(level) => format!("{name}={level}"),
            None => format!("{name}={level}"),
        };
        (0..n_levels).map(level)
    };
    columns.iter().flat_map(of).collect()
}

/// Values of the components: one array of parameters.
pub(super) struct Values {
    title: String,
    values: Vec<f64>,
}

/// Values of a component that a table shows.
const VALUES: usize = 6;

impl Values {
    /// Takes an array, C x D; labels are for the title.
    pub fn new(title: &str, values: Vec<f64>, labels: &[String]) -> Self {
        let shown: Vec<String> =
            labels.iter().take(VALUES).map(|label| output::shortened(label)).collect();
        let more = if labels.len() > VALUES { ", ..." } else { "" };
        let title = match shown.is_empty() {
            true => title.to_owned(),
            false => format!("{title} of {}{more}", shown.join(", ")),
        };
        Self { title, values }
    }

    fn write(&self, c: usize, n_components: usize, text: &mut String) {
        let width = self.values.len() / n_components;
        for value in self.values[c * width..][..width].iter().take(VALUES) {
            let _ = write!(text, " {:>11}", output::significant(*value, 6));
        }
        *text += if width > VALUES { " ...\n" } else { "\n" };
    }
}

/// The heaviest components first, each with the first values of its arrays of parameters. Further arrays are tables below.
pub(super) fn component_table(weights: &[f64], contributions: &[f64], arrays: &[Values]) -> String {
    const ROWS: usize = 50;
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));

    let mut text = String::new();
    for (i, array) in arrays.iter().enumerate() {
        text += match i {
            0 => "component    weight   entropy part  ",
            _ => "\ncomponent  ",
        };
        text += &array.title;
        text.push('\n');
        for &c in order.iter().take(ROWS) {
            let _ = write!(text, "{c:>9} ");
            if i == 0 {
                let _ = write!(text, " {:>8.6}  {:>13.6} ", weights[c], contributions[c]);
            }
            array.write(c, weights.len(), &mut text);
        }
        if order.len() > ROWS {
            let _ = writeln!(text, "          and {} lighter ones", order.len() - ROWS);
        }
    }
    text
}

/// Refuses a model that cannot fit the memory: parameters, their factors and statistics, each a few times over.
pub(super) fn check_memory(
    name: &str,
    n_components: usize,
    per_component: usize,
    advice: &str,
) -> Result<()> {
    let bytes = (per_component as u64).saturating_mul(n_components as u64).saturating_mul(8 * 8);
    match output::available_memory() {
        Some(available) if bytes > available => Err(Error::Config(format!(
            "{n_components} components of {name} need about {} GB of memory, and {} GB are available; {advice}",
            bytes.div_ceil(1 << 30),
            available >> 30,
        ))),
        _ => Ok(()),
    }
}

/// The start that was typed; that of a given model is another matter.
pub(super) fn fresh_start<M>(start: &Start) -> Init<M> {
    match start {
        Start::Random => Init::Random,
        Start::RandomFromData => Init::RandomFromData,
        Start::KMeansPlusPlus => Init::KMeansPlusPlus,
        Start::Auto | Start::File(_) => Init::Auto,
    }
}

/// Refuses to go without a number of components, or with another than that of the given model.
pub(super) fn check_components(
    args: &FitArgs,
    given: Option<&Given<'_, impl Stored>>,
    found: usize,
) -> Result<()> {
    match (given, args.components) {
        (None, None) => {
            let message = "give the number of components with -k, or a model with --init FILE";
            Err(Error::Config(message.to_owned()))
        }
        (Some(given), Some(asked)) if asked != found as u64 => {
            given.disagrees(&format!("-k {asked}"), &format!("{found} component(s)"))
        }
        _ => Ok(()),
    }
}
