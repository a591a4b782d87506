//! Mixtures in files.

use super::invalid;
use super::stored::{File, NamedArray, Stored, shape_text};
use crate::error::Result;
use crate::family::{ParameterSpec, registry};
use crate::model::{Mixture, Posterior};
use serde_json::Value;

impl Stored for Mixture {
    const KIND: &'static str = "a mixture";

    fn names() -> Vec<&'static str> {
        registry::names().collect()
    }

    fn name(&self) -> String {
        self.family().name()
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("posterior", self.posterior().name().into())]
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("n_components", self.n_components()), ("dim", self.family().dim())]
    }

    /// The weights and the parameters of the family; in JSON, those of all but Gaussians are nested.
    fn arrays(&self) -> Vec<NamedArray> {
        let n_components = self.n_components();
        let nested = !self.family().name().starts_with("gaussian-");
        let mut arrays =
            vec![NamedArray::new("weights", vec![n_components], self.weights().to_vec())];
        for spec in self.family().parameters() {
            let values = self.parameter(spec.name).expect("the family lists it");
            let array = NamedArray::new(spec.name, shape_of(&spec, n_components), values);
            arrays.push(NamedArray { nested, ..array });
        }
        arrays
    }

    fn build(name: &str, file: &File<'_>) -> Result<Self> {
        let posterior = match file.text("posterior")? {
            Some(name) => posterior_called(&name)?,
            None => Posterior::default(),
        };
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
        // Names and ranks of arrays are those of any dimension; the sizes in the file then tell which one.
        let specs = registry::build(name, 1)?.parameters();
        let dim = match specs.iter().find(|spec| !spec.shared && !spec.shape.is_empty()) {
            None => 1,
            Some(spec) => {
                let shape = file.array(spec.name)?.shape;
                match shape[..] {
                    [c, dim, ..] if c == n_components && dim > 0 => dim,
                    _ => {
                        return invalid(format!(
                            "{:?} has shape {}, expected {n_components} (components) × D (dimensions)",
                            spec.name,
                            shape_text(&shape)
                        ));
                    }
                }
            }
        };

        let family = registry::build(name, dim)?;
        let mut found = Vec::new();
        for spec in family.parameters() {
            found.push((spec.name, file.values(spec.name, &shape_of(&spec, n_components))?));
        }
        let by_name =
            |name: &str| found.iter().find(|(it, _)| *it == name).map(|(_, values)| &values[..]);
        Ok(Self::from_arrays(family, weights.values, by_name)?.with_posterior(posterior))
    }
}

fn shape_of(spec: &ParameterSpec, n_components: usize) -> Vec<usize> {
    let components = (!spec.shared).then_some(n_components);
    components.into_iter().chain(spec.shape.iter().copied()).collect()
}

fn posterior_called(name: &str) -> Result<Posterior> {
    let all = [Posterior::Exact, Posterior::Hard];
    match all.into_iter().find(|it| it.name() == name) {
        Some(posterior) => Ok(posterior),
        None => {
            let names = all.map(Posterior::name).join(" or ");
            invalid(format!("the posterior is {name:?}, expected {names}"))
        }
    }
}
