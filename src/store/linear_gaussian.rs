//! Probabilistic PCA and factor analysis in files.

use super::invalid;
use super::stored::{File, NamedArray, Stored, shape_text};
use crate::error::Result;
use crate::linalg::row_major;
use crate::model::{LinearGaussian, Noise};

impl Stored for LinearGaussian {
    const KIND: &'static str = "a linear-Gaussian model";

    fn names() -> Vec<&'static str> {
        Noise::ALL.map(Noise::model_name).to_vec()
    }

    fn name(&self) -> String {
        self.noise().model_name().to_owned()
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("n_latents", self.latents()), ("dim", self.dim())]
    }

    fn arrays(&self) -> Vec<NamedArray> {
        let (dim, latents) = (self.dim(), self.latents());
        let noise = self.noise_variances();
        let noise = match self.noise() {
            Noise::Isotropic => NamedArray::new("noise_variance", vec![], vec![noise[0]]),
            Noise::Diagonal => NamedArray::new("noise_variance", vec![dim], noise.to_vec()),
        };
        vec![
            NamedArray::new("mean", vec![dim], self.mean().to_vec()),
            NamedArray::new("loadings", vec![dim, latents], row_major(self.loadings())),
            noise,
        ]
    }

    fn build(name: &str, file: &File<'_>) -> Result<Self> {
        let noise = Noise::ALL.into_iter().find(|noise| noise.model_name() == name);
        let noise = noise.expect("the kind answers to no other name");
        let mean = file.array("mean")?;
        let [dim] = mean.shape[..] else {
            let shape = shape_text(&mean.shape);
            return invalid(format!("\"mean\" has shape {shape}, expected D (dimensions)"));
        };
        let loadings = file.array("loadings")?;
        match loadings.shape[..] {
            [rows, _] if rows == dim => {}
            _ => {
                let shape = shape_text(&loadings.shape);
                return invalid(format!(
                    "\"loadings\" has shape {shape}, expected {dim} (dimensions) × H (latents)"
                ));
            }
        }
        let expected = if noise == Noise::Isotropic { vec![] } else { vec![dim] };
        let noise_variances = file.values("noise_variance", &expected)?;
        Self::new(noise, mean.values, &loadings.values, noise_variances)
    }
}
