//! Mixtures in files.

use super::invalid;
use super::stored::{File, NamedArray, Stored, shape_text};
use crate::error::Result;
use crate::family::{
    ExponentialFamily, KnownParameters, ParameterSpec, Product, ProductBlock, product, registry,
};
use crate::model::{Mixture, Posterior, TruncatedSearch};
use serde_json::{Value, json};
use std::sync::Arc;

impl Stored for Mixture {
    const KIND: &'static str = "a mixture";

    fn names() -> Vec<&'static str> {
        registry::names().collect()
    }

    fn name(&self) -> String {
        self.family().name()
    }

    fn answers_to(name: &str) -> bool {
        product::is_product(name) || registry::names().any(|known| known == name)
    }

    /// A product has columns that its blocks need not name: so its dimension is no matter of its arrays.
    fn settings(&self) -> Vec<(&'static str, Value)> {
        let mut settings = settings_of(self.posterior());
        let blocks = self.family().blocks();
        if !blocks.is_empty() {
            let block = |it: &ProductBlock| json!({ "family": it.family.name(), "columns": it.columns, "parameters": {} });
            settings.push(("dim", self.family().dim().into()));
            settings.push(("blocks", blocks.iter().map(block).collect()));
        }
        settings
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("n_components", self.n_components()), ("dim", self.family().dim())]
    }

    /// The weights and the parameters of the family; in JSON, those of all but Gaussians are nested.
    fn arrays(&self) -> Vec<NamedArray> {
        let n_components = self.n_components();
        let nested = !self.family().parameters().iter().any(|spec| spec.name == "covariances");
        let mut arrays =
            vec![NamedArray::new("weights", vec![n_components], self.weights().to_vec())];
        for spec in self.family().parameters() {
            let values = self.parameter(&spec.name).expect("the family lists it");
            let shape = shape_of(&spec, n_components);
            arrays.push(NamedArray { nested, ..NamedArray::new(spec.name, shape, values) });
        }
        let mut push_known = |prefix: &str, family: &dyn ExponentialFamily| {
            for (name, values) in family.known().iter() {
                let (name, shape) = (format!("{prefix}{name}"), vec![values.len()]);
                arrays.push(NamedArray { nested, ..NamedArray::new(name, shape, values.to_vec()) });
            }
        };
        push_known("", self.family());
        for (b, block) in self.family().blocks().iter().enumerate() {
            push_known(&format!("blocks.{b}."), &*block.family);
        }
        arrays
    }

    fn build(name: &str, file: &File<'_>) -> Result<Self> {
        let posterior = posterior_of(file)?;
        let weights = file.array("weights")?;
        let n_components = match weights.shape[..] {
            [n] if n > 0 => n,
            _ => {
                let shape = shape_text(&weights.shape);
                return invalid(format!(
                    "\"weights\" has shape {shape}, expected one number a component"
                ));
            }
        };
        if product::is_product(name) {
            let family = Arc::new(product_of(name, n_components, file)?);
            return with_arrays(family, weights.values, posterior, file);
        }
        let known = known_of(name, "", file)?;
        let dim = dim_of(name, &known, "", n_components, file)?.unwrap_or(1);
        let family = registry::build_known(name, dim, &known)?;
        with_arrays(family, weights.values, posterior, file)
    }
}

/// The mixture of a family with the parameters of a file.
fn with_arrays(
    family: Arc<dyn ExponentialFamily>,
    weights: Vec<f64>,
    posterior: Posterior,
    file: &File<'_>,
) -> Result<Mixture> {
    let mut found = Vec::new();
    for spec in family.parameters() {
        let values = file.values(&spec.name, &shape_of(&spec, weights.len()))?;
        found.push((spec.name, values));
    }
    let by_name =
        |name: &str| found.iter().find(|(it, _)| *it == name).map(|(_, values)| &values[..]);
    Ok(Mixture::from_arrays(family, weights, by_name)?.with_posterior(posterior))
}

/// The known parameters of a family, whose arrays have names with this prefix.
fn known_of(family: &str, prefix: &str, file: &File<'_>) -> Result<KnownParameters> {
    let mut known = KnownParameters::default();
    for &key in registry::known_parameters(family) {
        let values =
            match (file.optional(&format!("{prefix}{key}"))?, registry::told_by_axis(family)) {
                (Some(array), None) => array.values,
                (Some(array), Some((_, told_by))) => {
                    // A family lists a statistic for each level, so there must be as many numbers in the file.
                    let shape = file.array(&format!("{prefix}{told_by}"))?.shape;
                    let most = shape.last().copied().unwrap_or_default();
                    if let Some(size) = array.values.iter().find(|&&size| size > most as f64) {
                        return invalid(format!(
                            "{key:?} has {size}, but {told_by:?} ends at {most}"
                        ));
                    }
                    array.values
                }
                (None, Some((told, array))) if told == key => {
                    let shape = file.array(&format!("{prefix}{array}"))?.shape;
                    shape.last().map(|&size| size as f64).into_iter().collect()
                }
                _ => continue,
            };
        known = known.with(key, values);
    }
    Ok(known)
}

/// The dimension of a family, as the first of its arrays tells whose names have this prefix, if an array does. Names and ranks of
/// arrays are those of any dimension.
fn dim_of(
    family: &str,
    known: &KnownParameters,
    prefix: &str,
    n_components: usize,
    file: &File<'_>,
) -> Result<Option<usize>> {
    let first = known.iter().fold(KnownParameters::default(), |first, (key, values)| {
        first.with(key, values.iter().take(1).copied().collect())
    });
    let specs = registry::build_known(family, 2, &first)?.parameters();
    let Some(spec) = specs.iter().find(|spec| !spec.shared && !spec.shape.is_empty()) else {
        return Ok(None);
    };
    let name = format!("{prefix}{}", spec.name);
    let shape = file.array(&name)?.shape;
    match shape[..] {
        [c, dim, ..] if c == n_components && dim > 0 => Ok(Some(dim)),
        _ => invalid(format!(
            "{name:?} has shape {}, expected {n_components} (components) × D (dimensions)",
            shape_text(&shape)
        )),
    }
}

/// The product of that name; its dimension is that of the last column, unless the file says otherwise.
fn product_of(name: &str, n_components: usize, file: &File<'_>) -> Result<Product> {
    let mut blocks = Vec::new();
    for (b, (family, columns)) in product::parse(name, &[])?.into_iter().enumerate() {
        let prefix = format!("blocks.{b}.");
        let known = known_of(&family, &prefix, file)?;
        // A short name may say many columns, for which a family lists many statistics: the arrays must have them.
        let dim = dim_of(&family, &known, &prefix, n_components, file)?;
        if let Some(dim) = dim.filter(|&dim| dim != columns.len()) {
            let found = columns.len();
            return invalid(format!("block {b} has {found} columns, but its arrays have {dim}"));
        }
        let family = registry::build_known(&family, columns.len(), &known)?;
        blocks.push(ProductBlock { family, columns });
    }
    let columns = blocks.iter().flat_map(|block| &block.columns);
    let least = columns.max().map_or(0, |column| column + 1);
    Product::new(blocks, file.count("dim")?.unwrap_or(least))
}

fn shape_of(spec: &ParameterSpec, n_components: usize) -> Vec<usize> {
    let components = (!spec.shared).then_some(n_components);
    components.into_iter().chain(spec.shape.iter().copied()).collect()
}

/// Says which posteriors a mixture was learned with.
pub(super) fn settings_of(posterior: Posterior) -> Vec<(&'static str, Value)> {
    let mut settings = vec![("posterior", posterior.name().into())];
    if let Posterior::Truncated(search) = posterior {
        settings.push(("n_states", search.states.into()));
        settings.push(("n_neighbours", search.neighbours.into()));
        settings.push(("n_random", search.random.into()));
    }
    settings
}

/// The posteriors that a file names; exact ones if it names no others.
pub(super) fn posterior_of(file: &File<'_>) -> Result<Posterior> {
    let Some(name) = file.text("posterior")? else { return Ok(Posterior::default()) };
    let known =
        [Posterior::Exact, Posterior::Hard, Posterior::Truncated(TruncatedSearch::default())];
    let Some(posterior) = known.into_iter().find(|it| it.name() == name) else {
        let names = known.map(Posterior::name).join(" or ");
        return invalid(format!("the posterior is {name:?}, expected {names}"));
    };
    let Posterior::Truncated(mut search) = posterior else { return Ok(posterior) };
    let sizes = [
        ("n_states", &mut search.states, 1),
        ("n_neighbours", &mut search.neighbours, 1),
        ("n_random", &mut search.random, 0),
    ];
    for (key, size, least) in sizes {
        if let Some(count) = file.count(key)? {
            if count < least {
                return invalid(format!("{key:?} is {count}, expected {least} or more"));
            }
            *size = count;
        }
    }
    Ok(Posterior::Truncated(search))
}
