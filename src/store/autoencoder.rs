//! Variational autoencoders and sparse codes in files.

use super::invalid;
use super::stored::{Array, File, NamedArray, Stored, shape_text};
use crate::error::Result;
use crate::model::{
    Activation, LatentPrior, Layer, Noise, VariationalAutoencoder, VariationalAutoencoderParts,
};
use serde_json::Value;

const AUTOENCODER: &str = "vae";
const SPARSE_CODING: &str = "sparse-coding";

/// Names of both kinds of noise in files and on the command line.
pub(crate) const NOISES: [(&str, Noise); 2] =
    [("scalar", Noise::Isotropic), ("diagonal", Noise::Diagonal)];

/// Returns the name of a kind of noise.
pub(crate) fn noise_name(noise: Noise) -> &'static str {
    NOISES.iter().find(|(_, it)| *it == noise).map_or("", |(name, _)| name)
}

impl Stored for VariationalAutoencoder {
    const KIND: &'static str = "an autoencoder";

    fn names() -> Vec<&'static str> {
        vec![AUTOENCODER, SPARSE_CODING]
    }

    /// A model with a Laplace prior and a linear decoder is a sparse code, whatever it was called when it was made.
    fn name(&self) -> String {
        let is_code = self.prior() == LatentPrior::Laplace && self.decoder_is_linear();
        if is_code { SPARSE_CODING } else { AUTOENCODER }.to_owned()
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("prior", self.prior().name().into()),
            ("noise", noise_name(self.noise()).into()),
            ("activation", self.activation().name().into()),
        ]
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("n_latents", self.n_latents()), ("dim", self.dim())]
    }

    /// `centre` (D), `scale` (D), `prior_scale` (H), `noise_variance` (one number or D), and for each layer `encoder.0.weight` (outputs,
    /// inputs), `encoder.0.bias` (outputs), as PyTorch names the parts of a sequence of layers.
    fn arrays(&self) -> Vec<NamedArray> {
        let parts = self.to_parts();
        let (dim, latents) = (self.dim(), self.n_latents());
        let noise_shape = if parts.noise == Noise::Isotropic { vec![] } else { vec![dim] };
        let mut arrays = vec![
            NamedArray::new("centre", vec![dim], parts.centre),
            NamedArray::new("scale", vec![dim], parts.scale),
            NamedArray::new("prior_scale", vec![latents], parts.prior_scales),
            NamedArray::new("noise_variance", noise_shape, parts.noise_variances),
        ];
        for (network, layers) in [("encoder", &parts.encoder), ("decoder", &parts.decoder)] {
            for (i, layer) in layers.iter().enumerate() {
                arrays.extend(arrays_of_layer(network, i, layer));
            }
        }
        arrays
    }

    /// Without a word about it, points are seen as they are, scales of the prior are 1, and the noise is what its shape says.
    fn build(name: &str, file: &File<'_>) -> Result<Self> {
        let (encoder, decoder) = (layers("encoder", file)?, layers("decoder", file)?);
        let (Some(first), Some(last)) = (decoder.first(), decoder.last()) else {
            return invalid("the decoder has no layer \"decoder.0.weight\"");
        };
        let (latents, dim) = (first.inputs(), last.outputs());
        let or = |key: &str, size: usize, value: f64| match file.optional(key)? {
            None => Ok(vec![value; size]),
            Some(_) => file.values(key, &[size]),
        };
        let default =
            if name == SPARSE_CODING { LatentPrior::Laplace } else { LatentPrior::Standard };
        let prior = named(file, "prior", LatentPrior::ALL.map(|it| (it.name(), it)))?;
        let activation = named(file, "activation", Activation::ALL.map(|it| (it.name(), it)))?;
        let Array { shape, .. } = file.array("noise_variance")?;
        let by_shape = if shape.is_empty() { Noise::Isotropic } else { Noise::Diagonal };
        let noise = named(file, "noise", NOISES)?.unwrap_or(by_shape);
        let shape = if noise == Noise::Isotropic { vec![] } else { vec![dim] };
        let model = Self::new(VariationalAutoencoderParts {
            prior: prior.unwrap_or(default),
            prior_scales: or("prior_scale", latents, 1.0)?,
            activation: activation.unwrap_or_default(),
            noise,
            noise_variances: file.values("noise_variance", &shape)?,
            centre: or("centre", dim, 0.0)?,
            scale: or("scale", dim, 1.0)?,
            encoder,
            decoder,
        })?;
        match Stored::name(&model) {
            own if own == name => Ok(model),
            own => invalid(format!(
                "the file calls its model {name:?}, but with this prior and decoder it is {own:?}"
            )),
        }
    }
}

fn weights(network: &str, layer: usize) -> String {
    format!("{network}.{layer}.weight")
}

fn biases(network: &str, layer: usize) -> String {
    format!("{network}.{layer}.bias")
}

/// Returns weights and biases of a layer.
pub(super) fn arrays_of_layer(network: &str, i: usize, layer: &Layer) -> [NamedArray; 2] {
    let shape = vec![layer.outputs(), layer.inputs()];
    [
        NamedArray::new(weights(network, i), shape, layer.weights()),
        NamedArray::new(biases(network, i), vec![layer.outputs()], layer.biases()),
    ]
}

/// Reads layers until there is no further one.
pub(super) fn layers(network: &str, file: &File<'_>) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    while let Some(array) = file.optional(&weights(network, layers.len()))? {
        let name = weights(network, layers.len());
        let [outputs, inputs] = array.shape[..] else {
            let shape = shape_text(&array.shape);
            return invalid(format!("{name:?} has shape {shape}, expected outputs × inputs"));
        };
        let biases = file.values(&biases(network, layers.len()), &[outputs])?;
        layers.push(Layer::new(inputs, &array.values, &biases)?);
    }
    Ok(layers)
}

/// Returns the value of the name that stands at a key, if a name stands there.
pub(super) fn named<V: Copy, const N: usize>(
    file: &File<'_>,
    key: &str,
    values: [(&str, V); N],
) -> Result<Option<V>> {
    let Some(text) = file.text(key)? else { return Ok(None) };
    match values.iter().find(|(name, _)| *name == text) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let names = values.map(|(name, _)| name).join(", ");
            invalid(format!("{key:?} is {text:?}, expected {names}"))
        }
    }
}
