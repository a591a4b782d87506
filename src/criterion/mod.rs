//! The parameterisation criterion (Definition 1) as a tool: whether a model's bound becomes an entropy sum.
//!
//! A generative model is a product of [factors](Factor): the prior `p(z; Ψ)` and one or more layers such as `p(x | z; Θ)`, each
//! an exponential family whose natural parameters are a map of its own parameters and of the latents above it. The
//! criterion asks of each map that its own tangent contains it,
//!
//! ```text
//! (A)  ζ(Ψ)    = ∂ζ/∂Ψ α(Ψ)        for some α                          (Eqn 6)
//! (B)  η(z; Θ) = ∂η/∂θ β(Θ)        for some β that is the same for all z  (Eqn 7)
//! ```
//!
//! which says that scaling all natural parameters stays inside the model. [`FactorModel::check`] tests it: at many
//! random parameters it solves for α and β by least squares on Jacobians, over all latent states at once, and compares
//! closed forms where a factor has them. Where the criterion holds, for *any* posteriors and parameters (docs/theory.md, 1.2)
//!
//! ```text
//! F - entropy sum = α · ∂F/∂Ψ + β · ∂F/∂θ
//! ```
//!
//! and [`certify`] evaluates both sides on data: the certified gap.
//!
//! Models are there for every family of the registry ([`mixture`]) and for the shapes of other models
//! ([`built_in`](crate::expert::built_in)); any
//! other model is a few lines:
//!
//! ```
//! use entropysum::expert::criterion::{Factor, FactorModel};
//!
//! /// A Gaussian about `w z` with a variance of its own, or with variance 1.
//! struct Observable {
//!     learns_variance: bool,
//! }
//!
//! impl Factor for Observable {
//!     fn name(&self) -> String {
//!         "p(x | z)".into()
//!     }
//!     fn parameters(&self) -> Vec<(String, usize)> {
//!         let names = if self.learns_variance { &["w", "variance"][..] } else { &["w"] };
//!         names.iter().map(|name| (name.to_string(), 1)).collect()
//!     }
//!     fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64> {
//!         self.parameters().iter().map(|_| 0.5 + uniform()).collect()
//!     }
//!     fn draw_latents(&self, n: usize, uniform: &mut dyn FnMut() -> f64) -> Vec<Vec<f64>> {
//!         (0..n).map(|_| vec![uniform() - 0.5]).collect()
//!     }
//!     fn natural(&self, z: &[f64], theta: &[f64]) -> Vec<f64> {
//!         let variance = if self.learns_variance { theta[1] } else { 1.0 };
//!         vec![theta[0] * z[0] / variance, -0.5 / variance]
//!     }
//! }
//!
//! let report = FactorModel::new("free", vec![Box::new(Observable { learns_variance: true })]).check(8, 0);
//! assert!(report.is_fulfilled());
//! assert_eq!(report.factors[0].moves, ["variance"]); // β = (0, -σ²): only the variance moves
//! let report = FactorModel::new("fixed", vec![Box::new(Observable { learns_variance: false })]).check(8, 0);
//! assert!(!report.is_fulfilled());
//! ```

mod autoencoder;
mod factor_analyzers;
mod family;
mod fitted;
mod gap;
mod linear;
mod sbn;
pub(crate) mod shapes;
pub(crate) mod solve;

pub use autoencoder::certify_autoencoder;
pub use factor_analyzers::certify_factor_analyzers;
pub use family::mixture;
pub use gap::{CertifiedGap, certify};
pub use linear::certify_linear_gaussian;
pub use sbn::certify_sigmoid_belief_net;

use crate::rng;
use serde_json::{Value, json};
use solve::solve;
use std::fmt;

/// Relative residuals up to this number are rounding: derivatives by finite differences are exact to about 1e-11. The
/// residual of a model that fails is a part of its natural parameters, which has no reason to be small.
pub(crate) const TOLERANCE: f64 = 1e-7;

/// Largest number of parameters for which coefficients are solved for even if they have a closed form. The Jacobian has
/// several times as many rows as parameters, so time grows with their third power: 200 take about a second a draw.
const MAX_SOLVED: usize = 200;

/// A factor `p(x | z; θ)` of a generative model: an exponential family with natural parameters `η(z; θ)`.
///
/// The prior is the factor without latents above it.
pub trait Factor: Send + Sync {
    /// Returns the name in reports: `"p(x | z)"`.
    fn name(&self) -> String;

    /// Lists the names and lengths of its arrays of parameters, which θ concatenates in this order. Names may repeat.
    /// Constants are not parameters.
    fn parameters(&self) -> Vec<(String, usize)>;

    /// Draws parameters inside their domain, from uniform numbers in [0, 1).
    fn draw_parameters(&self, uniform: &mut dyn FnMut() -> f64) -> Vec<f64>;

    /// Lists all latent states if there are few, else draws about `n` of them. A prior has a single, empty state.
    fn draw_latents(&self, _n: usize, _uniform: &mut dyn FnMut() -> f64) -> Vec<Vec<f64>> {
        vec![Vec::new()]
    }

    /// Returns the natural parameters `η(z; θ)`, of the same number for all latents.
    fn natural(&self, latents: &[f64], parameters: &[f64]) -> Vec<f64>;

    /// Lists the directions in which the parameters are free to move; each parameter by itself by default. Parameters
    /// under a constraint (a symmetric matrix, probabilities) have fewer directions.
    fn directions(&self, parameters: &[f64]) -> Vec<Direction> {
        (0..parameters.len()).map(|i| Direction::along(i, parameters[i])).collect()
    }

    /// Returns α or β, if it has a closed form; the check then tests it.
    fn closed_form(&self, _parameters: &[f64]) -> Option<Vec<f64>> {
        None
    }

    /// Says whether `h(x)` is constant, so that pseudo entropies are entropies.
    fn base_measure_is_constant(&self) -> bool {
        true
    }
}

/// A direction in the space of parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Direction {
    /// Its entries that are not zero: index and value.
    pub entries: Vec<(usize, f64)>,
    /// A step that changes the model; finite differences take a small part of it.
    pub scale: f64,
}

impl Direction {
    /// Returns the direction of a single parameter, on the scale of its value.
    pub fn along(index: usize, value: f64) -> Self {
        let scale = if value == 0.0 { 1.0 } else { value.abs() };
        Self { entries: vec![(index, 1.0)], scale }
    }
}

/// The statement of the paper by which the bound is an entropy sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Proposition 1: sigmoid belief nets.
    SigmoidBeliefNet,
    /// Proposition 2: Gaussian observables with a scalar variance.
    ScalarVariance,
    /// Proposition 3: Gaussian observables with diagonal covariance.
    DiagonalCovariance,
    /// Proposition 4: mixtures with constant base measure.
    Mixture,
    /// Proposition 5: mixtures with any base measure.
    GeneralMixture,
    /// No proposition covers the model as it is, but Definition 1 holds.
    Definition,
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SigmoidBeliefNet => "Proposition 1",
            Self::ScalarVariance => "Proposition 2",
            Self::DiagonalCovariance => "Proposition 3",
            Self::Mixture => "Proposition 4",
            Self::GeneralMixture => "Proposition 5",
            Self::Definition => "Definition 1",
        })
    }
}

/// A generative model as the product of its factors.
#[expect(missing_debug_implementations, reason = "factors are code")]
pub struct FactorModel {
    name: String,
    factors: Vec<Box<dyn Factor>>,
    statement: Statement,
    /// Parameters of each factor that a check begins with.
    own: Option<Vec<Vec<f64>>>,
}

impl FactorModel {
    /// Makes a model of these factors, the prior first.
    pub fn new(name: impl Into<String>, factors: Vec<Box<dyn Factor>>) -> Self {
        Self { name: name.into(), factors, statement: Statement::Definition, own: None }
    }

    /// Sets the statement of the paper that covers the model.
    fn stated_by(self, statement: Statement) -> Self {
        Self { statement, ..self }
    }

    /// Sets the parameters of each factor with which a check begins, before it goes on with random parameters.
    ///
    /// Parameters must be inside their domain: at a probability of 0, natural parameters are infinite.
    ///
    /// # Panics
    /// If their number is not that of the factors' parameters.
    pub fn with_parameters(self, own: Vec<Vec<f64>>) -> Self {
        let lengths = self
            .factors
            .iter()
            .map(|factor| factor.parameters().iter().map(|(_, len)| len).sum::<usize>());
        assert!(own.iter().map(Vec::len).eq(lengths), "{}: other parameters", self.name);
        Self { own: Some(own), ..self }
    }

    /// Returns the factors, the prior first.
    pub fn factors(&self) -> &[Box<dyn Factor>] {
        &self.factors
    }

    /// Tests the criterion at `draws` sets of parameters: those of the model, if there are any, then random ones, which
    /// depend on the seed alone.
    pub fn check(&self, draws: usize, seed: u64) -> Report {
        let factors: Vec<_> = self
            .factors
            .iter()
            .enumerate()
            .map(|(index, factor)| {
                let own = self.own.as_ref().map(|own| &own[index][..]);
                check_factor(&**factor, own, index, draws, seed)
            })
            .collect();
        let constant = factors.iter().all(|factor| factor.base_measure_is_constant);
        let holds = factors.iter().all(|factor| factor.holds);
        // Props. 4 and 5 ask for one invertible Jacobian a component, which shared parameters do not have.
        let applies = match self.statement {
            Statement::Mixture if !factors.iter().all(|it| it.is_invertible) => {
                Statement::Definition
            }
            Statement::Mixture if !constant => Statement::GeneralMixture,
            other => other,
        };
        Report { model: self.name.clone(), applies: holds.then_some(applies), factors }
    }
}

fn check_factor(
    factor: &dyn Factor,
    own: Option<&[f64]>,
    index: usize,
    draws: usize,
    seed: u64,
) -> FactorReport {
    let mut rng = rng::stream(seed, index as u64);
    let mut uniform = || rng::uniform(&mut rng);
    let arrays = factor.parameters();
    let n_parameters: usize = arrays.iter().map(|(_, len)| len).sum();
    let mut report = FactorReport {
        name: factor.name(),
        part: if index == 0 { 'A' } else { 'B' },
        parameters: unique(arrays.iter().map(|(name, _)| name.clone())),
        n_parameters,
        n_free: 0,
        n_natural: 0,
        n_latents: 0,
        residual: 0.0,
        closed_form_residual: None,
        moves: Vec::new(),
        is_invertible: true,
        base_measure_is_constant: factor.base_measure_is_constant(),
        holds: false,
    };
    let mut moved = vec![false; arrays.len()];
    for draw in 0..draws.max(1) {
        let parameters = match own {
            Some(own) if draw == 0 => own.to_vec(),
            _ => factor.draw_parameters(&mut uniform),
        };
        // Several times as many equations as unknowns, so that a solution is no accident.
        let n_latents = 3 * n_parameters.min(MAX_SOLVED) + 3;
        let latents = factor.draw_latents(n_latents, &mut uniform);
        let closed_form = factor.closed_form(&parameters);
        let solution = match closed_form.clone() {
            Some(flow) if n_parameters > MAX_SOLVED => {
                solve::given(factor, &parameters, &latents, flow)
            }
            _ => solve(factor, &parameters, &latents),
        };
        report.n_free = solution.n_free;
        report.n_natural = solution.n_natural;
        report.n_latents = latents.len();
        report.residual = report.residual.max(solution.residual);
        report.is_invertible &= solution.is_invertible;
        if let Some(flow) = closed_form {
            let residual = solve::residual(factor, &parameters, &latents, &flow);
            let worst = report.closed_form_residual.get_or_insert(0.0);
            *worst = worst.max(residual);
        }
        let mut start = 0;
        for (moved, (_, len)) in moved.iter_mut().zip(&arrays) {
            let range = start..start + len;
            let size = |values: &[f64]| values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            *moved |= size(&solution.flow[range.clone()]) > TOLERANCE * size(&parameters[range]);
            start += len;
        }
    }
    let names = arrays.into_iter().zip(moved).filter(|it| it.1);
    report.moves = unique(names.map(|((name, _), _)| name));
    report.holds = report.residual <= TOLERANCE
        && report.closed_form_residual.is_none_or(|residual| residual <= TOLERANCE);
    report
}

/// Drops repeated names: every component has its own array of each name.
fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    names.fold(Vec::new(), |mut found, name| {
        if !found.contains(&name) {
            found.push(name);
        }
        found
    })
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Name of the model.
    pub model: String,
    /// Its factors, the prior first.
    pub factors: Vec<FactorReport>,
    /// The statement by which the bound is an entropy sum, if the criterion is fulfilled.
    pub applies: Option<Statement>,
}

/// The result of a check for one factor. Residuals are the worst of all draws and latents.
#[derive(Clone, Debug, PartialEq)]
pub struct FactorReport {
    /// Name of the factor.
    pub name: String,
    /// Part of the criterion: 'A' for the prior, 'B' for all others.
    pub part: char,
    /// Names of the arrays of parameters.
    pub parameters: Vec<String>,
    /// Number of parameters.
    pub n_parameters: usize,
    /// Number of directions in which they are free to move.
    pub n_free: usize,
    /// Number of natural parameters.
    pub n_natural: usize,
    /// Number of latent states of each draw, over all of which the coefficients must be the same.
    pub n_latents: usize,
    /// `|η - J β| / |η|` of the least-squares solution.
    pub residual: f64,
    /// The residual of the closed form, if there is one.
    pub closed_form_residual: Option<f64>,
    /// Arrays with coefficients that are not zero: the subset θ that the criterion needs.
    pub moves: Vec<String>,
    /// Whether in each latent state the parameters that matter there are as many as natural ones, and independent.
    pub is_invertible: bool,
    /// Whether `h(x)` is constant.
    pub base_measure_is_constant: bool,
    /// Whether the criterion holds for the factor.
    pub holds: bool,
}

impl Report {
    /// Says whether the criterion holds for all factors.
    pub fn is_fulfilled(&self) -> bool {
        self.applies.is_some()
    }

    /// Says whether all base measures are constant.
    pub fn base_measure_is_constant(&self) -> bool {
        self.factors.iter().all(|factor| factor.base_measure_is_constant)
    }

    /// Returns the report as a JSON object.
    pub fn json(&self) -> Value {
        let factor = |it: &FactorReport| {
            json!({
                "name": it.name,
                "part": it.part.to_string(),
                "holds": it.holds,
                "residual": it.residual,
                "closed_form_residual": it.closed_form_residual,
                "parameters": it.parameters,
                "moves": it.moves,
                "n_parameters": it.n_parameters,
                "n_free": it.n_free,
                "n_natural": it.n_natural,
                "n_latents": it.n_latents,
                "base_measure_constant": it.base_measure_is_constant,
            })
        };
        json!({
            "model": self.model,
            "fulfilled": self.is_fulfilled(),
            "applies": self.applies.map(|it| it.to_string()),
            "base_measure_constant": self.base_measure_is_constant(),
            "factors": self.factors.iter().map(factor).collect::<Vec<_>>(),
            "tolerance": TOLERANCE,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<16}{}", "model", self.model)?;
        let verdict = match (self.applies, self.base_measure_is_constant()) {
            (None, _) => "not fulfilled: the bound need not become an entropy sum".to_owned(),
            (Some(it), true) => format!("fulfilled, by {it}: the bound becomes a sum of entropies"),
            (Some(it), false) => {
                format!("fulfilled, by {it}: the bound becomes a sum of pseudo entropies")
            }
        };
        writeln!(f, "{:<16}{verdict}", "criterion")?;
        let measure = if self.base_measure_is_constant() { "constant" } else { "not constant" };
        writeln!(f, "{:<16}{measure}\n", "base measure")?;
        writeln!(f, "part  {:<12} holds   residual  closed form  moves", "factor")?;
        for it in &self.factors {
            let closed = it.closed_form_residual.map_or("-".to_owned(), |r| format!("{r:.1e}"));
            let moves = match (it.parameters.is_empty(), it.moves.is_empty()) {
                (true, _) => "nothing is free".to_owned(),
                (false, true) => "nothing".to_owned(),
                _ => it.moves.join(", "),
            };
            writeln!(
                f,
                "   {}  {:<12} {:<5} {:>10.1e}  {closed:>11}  {moves}",
                it.part,
                it.name,
                if it.holds { "yes" } else { "no" },
                it.residual,
            )?;
        }
        Ok(())
    }
}
