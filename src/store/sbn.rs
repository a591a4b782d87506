//! Sigmoid belief networks and binary sparse codes in files.

use super::autoencoder::{NOISES, arrays_of_layer, layers, named, noise_name};
use super::invalid;
use super::stored::{Array, File, NamedArray, Stored};
use crate::error::Result;
use crate::model::sbn::{LatentPosterior, Layer};
use crate::model::{Activation, Noise, SigmoidBeliefNet};
use serde_json::Value;

const TWO_LAYERS: &str = "sbn";
const THREE_LAYERS: &str = "sbn3";
const BINARY_SPARSE_CODING: &str = "binary-sparse-coding";

impl Stored for SigmoidBeliefNet {
    const KIND: &'static str = "a sigmoid belief network";

    fn names() -> Vec<&'static str> {
        vec![TWO_LAYERS, THREE_LAYERS, BINARY_SPARSE_CODING]
    }

    fn name(&self) -> String {
        match (self.noise(), self.hidden()) {
            (Some(_), _) => BINARY_SPARSE_CODING,
            (None, Some(_)) => THREE_LAYERS,
            (None, None) => TWO_LAYERS,
        }
        .into()
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        let mut settings = vec![("posterior", self.posterior().name().into())];
        if let LatentPosterior::Truncated { states } = self.posterior() {
            settings.push(("n_states", states.into()));
        }
        if let Some(noise) = self.noise() {
            settings.push(("noise", noise_name(noise).into()));
        }
        if let (layers, activation) = self.hidden_layers()
            && !layers.is_empty()
        {
            settings.push(("activation", activation.name().into()));
        }
        settings
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let mut sizes = vec![("n_latents", self.prior().len())];
        sizes.extend(self.hidden().map(|layer| ("n_hidden", layer.outputs())));
        sizes.push(("dim", self.observables().outputs()));
        sizes
    }

    /// `prior` (H), `weights` (D, H), `biases` (D); of three layers `weights` (D, I), `hidden_weights` (I, H), `hidden_biases` (I).
    /// Binary sparse codes also have `noise_variance`, one number or D, and `centre` (D), which is added to all; with hidden layers
    /// `decoder.0.weight` (outputs, inputs), `decoder.0.bias` (outputs) and so on, and `weights` (D, outputs of the last of them).
    /// `ridge`, a number, where the M-step has one: a fit that goes on from the file has it then.
    fn arrays(&self) -> Vec<NamedArray> {
        let array = |name: &'static str, shape: Vec<usize>| {
            NamedArray::new(name, shape, self.parameter(name).expect("the network has it"))
        };
        let layer = self.observables();
        let mut arrays = vec![
            array("prior", vec![self.prior().len()]),
            array("weights", vec![layer.outputs(), layer.inputs()]),
            array("biases", vec![layer.outputs()]),
        ];
        if let Some(layer) = self.hidden() {
            arrays.push(array("hidden_weights", vec![layer.outputs(), layer.inputs()]));
            arrays.push(array("hidden_biases", vec![layer.outputs()]));
        }
        if let Some(noise) = self.noise() {
            let n_variances =
                if noise == Noise::Isotropic { vec![] } else { vec![layer.outputs()] };
            arrays.push(array("noise_variance", n_variances));
            arrays.push(array("centre", vec![layer.outputs()]));
            for (i, layer) in self.hidden_layers().0.iter().enumerate() {
                arrays.extend(arrays_of_layer("decoder", i, layer));
            }
        }
        if self.ridge() > 0.0 {
            arrays.push(NamedArray::new("ridge", vec![], vec![self.ridge()]));
        }
        arrays
    }

    /// The posterior is exact unless the file says otherwise, and truncated where that cannot be.
    fn build(name: &str, file: &File<'_>) -> Result<Self> {
        let prior = file.array("prior")?;
        let biases = file.array("biases")?;
        let mut width = prior.values.len();
        let prior = file.values("prior", &[width])?;
        let hidden = if name == THREE_LAYERS {
            let hidden = file.array("hidden_biases")?.values.len();
            let biases = file.values("hidden_biases", &[hidden])?;
            let layer =
                Layer::new(width, &file.values("hidden_weights", &[hidden, width])?, &biases)?;
            width = hidden;
            Some(layer)
        } else {
            None
        };
        let decoder = match name == BINARY_SPARSE_CODING {
            true => layers("decoder", file)?,
            false => Vec::new(),
        };
        width = decoder.last().map_or(width, Layer::outputs);
        let dim = biases.values.len();
        let biases = file.values("biases", &[dim])?;
        let layer = Layer::new(width, &file.values("weights", &[dim, width])?, &biases)?;
        let states = file.count("n_states")?.unwrap_or(LatentPosterior::DEFAULT_STATES);
        let truncated = LatentPosterior::Truncated { states };
        if name == BINARY_SPARSE_CODING {
            let Array { shape, .. } = file.array("noise_variance")?;
            let by_shape = if shape.is_empty() { Noise::Isotropic } else { Noise::Diagonal };
            let noise = named(file, "noise", NOISES)?.unwrap_or(by_shape);
            let shape = if noise == Noise::Isotropic { vec![] } else { vec![dim] };
            let variances = file.values("noise_variance", &shape)?;
            let centre = match file.optional("centre")? {
                None => vec![0.0; dim],
                Some(_) => file.values("centre", &[dim])?,
            };
            let activation = named(file, "activation", Activation::ALL.map(|it| (it.name(), it)))?;
            let activation = activation.unwrap_or_default();
            let decoder = decoder.into_iter().chain([layer]).collect();
            let code =
                Self::binary_autoencoder(prior, decoder, activation, noise, variances, centre)?;
            named(file, "posterior", [("truncated", ())])?;
            return code.with_posterior(truncated);
        }
        let ridge = match file.optional("ridge")? {
            None => 0.0,
            Some(_) => file.values("ridge", &[])?[0],
        };
        if ridge < 0.0 {
            return invalid(format!("\"ridge\" is {ridge}, expected a number ≥ 0"));
        }
        let net = Self::new(prior, hidden, layer)?.with_ridge(ridge);
        let posterior = match file.text("posterior")?.as_deref() {
            None => LatentPosterior::default_for(net.n_latents()),
            Some("exact") => LatentPosterior::Exact,
            Some("truncated") => truncated,
            Some(other) => {
                return invalid(format!("the posterior is {other:?}, expected exact or truncated"));
            }
        };
        net.with_posterior(posterior)
    }
}
