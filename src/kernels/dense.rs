//! Dense layers `y = x W' + b` of networks: forward and reverse passes, and activations with their slopes.
//!
//! A tile of B points is row-major. Weights of a layer are outputs × inputs, row-major, and its biases follow them, all in a
//! vector of parameters that the layers of a model share. So a gradient is a vector too, and an optimiser knows no layers.

use super::dispatch::{Kernel, MulAdd, Simd};
use super::logistic::exp_minus_abs;
use crate::scalar::Scalar;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// The sizes of a dense layer, and where its parameters begin in the vector of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dense {
    /// Number of inputs.
    pub inputs: usize,
    /// Number of outputs.
    pub outputs: usize,
    /// Index of the first weight.
    pub start: usize,
}

impl Dense {
    /// Returns the number of weights.
    pub fn n_weights(self) -> usize {
        self.inputs * self.outputs
    }

    /// Returns the number of weights and biases.
    pub fn len(self) -> usize {
        self.n_weights() + self.outputs
    }

    /// Returns weights and biases.
    pub fn split<T>(self, parameters: &[T]) -> (&[T], &[T]) {
        parameters[self.start..][..self.len()].split_at(self.n_weights())
    }

    /// Returns weights and biases, mutable.
    pub fn split_mut<T>(self, parameters: &mut [T]) -> (&mut [T], &mut [T]) {
        parameters[self.start..][..self.len()].split_at_mut(self.n_weights())
    }

    /// Computes `y = x W' + b`.
    ///
    /// # Shapes
    /// `x: B × inputs` (any strides), `y: B × outputs`.
    pub fn forward<T: Scalar>(self, parameters: &[T], x: MatRef<'_, T>, y: &mut [T]) {
        let (weights, biases) = self.split(parameters);
        y.chunks_exact_mut(self.outputs).for_each(|row| row.copy_from_slice(biases));
        matmul(
            MatMut::from_row_major_slice_mut(y, x.nrows(), self.outputs),
            Accum::Add,
            x,
            MatRef::from_row_major_slice(weights, self.outputs, self.inputs).transpose(),
            T::ONE,
            Par::Seq,
        );
    }

    /// Adds `dy' x` and the column sums of `dy` to a gradient; computes `dx = dy W` if it is asked for.
    ///
    /// # Shapes
    /// `x: B × inputs` (any strides), `dy: B × outputs`, `dx: B × inputs`.
    pub fn backward<T: Scalar>(
        self,
        parameters: &[T],
        x: MatRef<'_, T>,
        dy: &[T],
        gradient: &mut [T],
        dx: Option<&mut [T]>,
    ) {
        let n = x.nrows();
        let (weights, biases) = self.split_mut(gradient);
        for row in dy.chunks_exact(self.outputs) {
            biases.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value);
        }
        let dy = MatRef::from_row_major_slice(dy, n, self.outputs);
        matmul(
            MatMut::from_row_major_slice_mut(weights, self.outputs, self.inputs),
            Accum::Add,
            dy.transpose(),
            x,
            T::ONE,
            Par::Seq,
        );
        if let Some(dx) = dx {
            let (weights, _) = self.split(parameters);
            matmul(
                MatMut::from_row_major_slice_mut(dx, n, self.inputs),
                Accum::Replace,
                dy,
                MatRef::from_row_major_slice(weights, self.outputs, self.inputs),
                T::ONE,
                Par::Seq,
            );
        }
    }
}

/// The function between two layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// The hyperbolic tangent.
    Tanh,
    /// `max(a, 0)`.
    #[default]
    Relu,
    /// `ln(1 + exp a)`.
    Softplus,
    /// `a σ(2 u)` with `u = √(2/π) (a + 0.044715 a³)`: the Gaussian error linear unit in its form with tanh (Hendrycks & Gimpel 2016).
    Gelu,
}

impl Activation {
    /// All functions.
    pub const ALL: [Self; 4] = [Self::Tanh, Self::Relu, Self::Softplus, Self::Gelu];

    /// Returns the name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tanh => "tanh",
            Self::Relu => "relu",
            Self::Softplus => "softplus",
            Self::Gelu => "gelu",
        }
    }
}

/// Replaces sums `a` by the values of the function, and writes its slopes at `a`.
///
/// Absolute errors are a few units in the last place of 1 and of the value.
///
/// # Panics
/// If the slices differ in length.
pub fn activate<T: Scalar>(simd: Simd, activation: Activation, values: &mut [T], slopes: &mut [T]) {
    assert_eq!(values.len(), slopes.len());
    simd.run(Activate { activation, values, slopes });
}

struct Activate<'a, T> {
    activation: Activation,
    values: &'a mut [T],
    slopes: &'a mut [T],
}

impl<T: Scalar> Kernel for Activate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let Self { activation, values, slopes } = self;
        let two = T::ONE + T::ONE;
        match activation {
            Activation::Tanh => each(values, slopes, |a| {
                let e = exp_minus_abs::<M, T>(two * a);
                let size = (T::ONE - e) / (T::ONE + e);
                let value = if a < T::ZERO { -size } else { size };
                (value, T::ONE - size * size)
            }),
            Activation::Relu => each(values, slopes, |a| {
                let is_on = a > T::ZERO;
                (if is_on { a } else { T::ZERO }, if is_on { T::ONE } else { T::ZERO })
            }),
            Activation::Softplus => each(values, slopes, |a| {
                let e = exp_minus_abs::<M, T>(a);
                let upper = T::ONE / (T::ONE + e);
                let above = if a > T::ZERO { a } else { T::ZERO };
                let slope = if a > T::ZERO { upper } else { e * upper };
                (above + (T::ONE + e).ln::<M>(), slope)
            }),
            Activation::Gelu => {
                let outer = T::from_f64((8.0 / std::f64::consts::PI).sqrt());
                let cubic = T::from_f64(0.044_715);
                let three = two + T::ONE;
                each(values, slopes, |a| {
                    let square = cubic * a * a;
                    let u = outer * a * (T::ONE + square);
                    let e = exp_minus_abs::<M, T>(u);
                    let upper = T::ONE / (T::ONE + e);
                    let lower = e * upper;
                    let share = if u > T::ZERO { upper } else { lower };
                    let inner = outer * (T::ONE + three * square);
                    (a * share, share + a * (upper * lower) * inner)
                });
            }
        }
    }
}

#[inline(always)]
fn each<T: Copy>(values: &mut [T], slopes: &mut [T], function: impl Fn(T) -> (T, T)) {
    for (value, slope) in values.iter_mut().zip(slopes) {
        (*value, *slope) = function(*value);
    }
}

/// Computes `δ = w p ∘ (x - y)` of each row, the gradient of `-w/2 Σ_d p_d (x_d - y_d)²` with respect to `y`, and adds
/// `w (x - y)²` to the sums of the columns.
///
/// # Shapes
/// `x, y, delta: B × D`, row-major; `weights: B`, `p, sums: D`.
pub fn residuals<T: Scalar>(
    simd: Simd,
    [x, y]: [&[T]; 2],
    weights: &[T],
    p: &[T],
    delta: &mut [T],
    sums: &mut [f64],
) {
    simd.run(Residuals { x, y, weights, p, delta, sums });
}

struct Residuals<'a, T> {
    x: &'a [T],
    y: &'a [T],
    weights: &'a [T],
    p: &'a [T],
    delta: &'a mut [T],
    sums: &'a mut [f64],
}

impl<T: Scalar> Kernel for Residuals<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let dim = self.p.len();
        let (p, sums) = (self.p, &mut self.sums[..dim]);
        let rows = self.x.chunks_exact(dim).zip(self.y.chunks_exact(dim));
        let rows = rows.zip(self.delta.chunks_exact_mut(dim)).zip(self.weights);
        for (((x, y), delta), &weight) in rows {
            for d in 0..dim {
                let residual = x[d] - y[d];
                let weighted = weight * residual;
                delta[d] = weighted * p[d];
                sums[d] += weighted.to_f64() * residual.to_f64();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(k: usize) -> f64 {
        (k * 37 % 101) as f64 / 50.0 - 1.0
    }

    #[test]
    fn both_passes_match_plain_sums() {
        let layer = Dense { inputs: 5, outputs: 3, start: 2 };
        let parameters: Vec<f64> = (0..2 + layer.len()).map(value).collect();
        let x: Vec<f64> = (0..20).map(|k| value(k + 7)).collect();
        let dy: Vec<f64> = (0..12).map(|k| value(k + 40)).collect();
        let (weights, biases) = layer.split(&parameters);
        let points = MatRef::from_row_major_slice(&x, 4, 5);
        let (mut y, mut dx) = (vec![0.0; 12], vec![0.0; 20]);
        let mut gradient = vec![1.0; parameters.len()];
        layer.forward(&parameters, points, &mut y);
        layer.backward(&parameters, points, &dy, &mut gradient, Some(&mut dx));
        let (at_weights, at_biases) = layer.split(&gradient);
        for o in 0..3 {
            for i in 0..4 {
                let sum: f64 = (0..5).map(|k| weights[o * 5 + k] * x[i * 5 + k]).sum();
                assert!((y[i * 3 + o] - biases[o] - sum).abs() < 1e-14);
            }
            for k in 0..5 {
                let sum: f64 = (0..4).map(|i| dy[i * 3 + o] * x[i * 5 + k]).sum();
                assert!((at_weights[o * 5 + k] - 1.0 - sum).abs() < 1e-14);
            }
            let sum: f64 = (0..4).map(|i| dy[i * 3 + o]).sum();
            assert!((at_biases[o] - 1.0 - sum).abs() < 1e-14);
        }
        for i in 0..4 {
            for k in 0..5 {
                let sum: f64 = (0..3).map(|o| dy[i * 3 + o] * weights[o * 5 + k]).sum();
                assert!((dx[i * 5 + k] - sum).abs() < 1e-14);
            }
        }
        assert_eq!(gradient[..2], [1.0, 1.0]);
    }

    fn matches_the_definition<T: Scalar>(tolerance: f64) {
        let definition = |activation, a: f64| match activation {
            Activation::Tanh => a.tanh(),
            Activation::Relu => a.max(0.0),
            Activation::Softplus => a.max(0.0) + (-a.abs()).exp().ln_1p(),
            Activation::Gelu => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (a + 0.044_715 * a.powi(3));
                0.5 * a * (1.0 + u.tanh())
            }
        };
        for (level, simd) in Simd::available() {
            for activation in Activation::ALL {
                let at: Vec<f64> = (0..301).map(|k| (f64::from(k) - 150.3) / 10.0).collect();
                let mut values: Vec<T> = at.iter().map(|&a| T::from_f64(a)).collect();
                let rounded: Vec<f64> = values.iter().map(|a| a.to_f64()).collect();
                let mut slopes = vec![T::ZERO; values.len()];
                activate(simd, activation, &mut values, &mut slopes);
                for ((&a, value), slope) in rounded.iter().zip(&values).zip(&slopes) {
                    let step = 1e-6;
                    let rise = definition(activation, a + step) - definition(activation, a - step);
                    let error = (value.to_f64() - definition(activation, a)).abs();
                    assert!(error < tolerance * a.abs().max(1.0), "{level:?} {activation:?} {a}");
                    let error = (slope.to_f64() - rise / (2.0 * step)).abs();
                    assert!(error < tolerance + 1e-8, "{level:?} {activation:?} {a}: {error}");
                }
            }
        }
    }

    #[test]
    fn activations_and_slopes_match_their_definitions_in_both_precisions() {
        matches_the_definition::<f32>(4e-6);
        matches_the_definition::<f64>(1e-14);
    }

    #[test]
    fn residuals_match_plain_sums() {
        let (x, y): (Vec<f64>, Vec<f64>) = (0..6).map(|k| (value(k), value(k + 9))).unzip();
        let (mut delta, mut sums) = (vec![0.0; 6], vec![1.0; 3]);
        let simd = Simd::detect();
        residuals(simd, [&x, &y], &[0.5, 2.0], &[1.0, 3.0, 5.0], &mut delta, &mut sums);
        for d in 0..3 {
            let rows = [x[d] - y[d], x[3 + d] - y[3 + d]];
            assert!((sums[d] - 1.0 - 0.5 * rows[0].powi(2) - 2.0 * rows[1].powi(2)).abs() < 1e-15);
            let p = [1.0, 3.0, 5.0][d];
            assert!((delta[d] - 0.5 * p * rows[0]).abs() < 1e-15);
            assert!((delta[3 + d] - 2.0 * p * rows[1]).abs() < 1e-15);
        }
    }
}
