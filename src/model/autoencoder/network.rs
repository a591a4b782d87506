//! Networks of dense layers, and the memory of their passes.

use crate::kernels::dense::{Activation, Dense, activate};
use crate::kernels::dispatch::Simd;
use crate::scalar::Scalar;
use faer::MatRef;

/// Dense layers with an activation between each two of them. The last layer has none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Network {
    layers: Vec<Dense>,
    activation: Activation,
}

/// Values of a tile on their way through a network, for the way back.
#[derive(Debug)]
pub(crate) struct Tape<T> {
    /// Outputs of each layer, B × outputs.
    outputs: Vec<Vec<T>>,
    /// Slopes of the activations after each layer but the last.
    slopes: Vec<Vec<T>>,
    /// Gradients of the bound with respect to the outputs of a layer, and to its inputs.
    deltas: [Vec<T>; 2],
}

impl Network {
    /// Lays out layers of these sizes from `start` on in a vector of parameters, and moves `start` behind them.
    pub fn new(sizes: &[usize], activation: Activation, start: &mut usize) -> Self {
        let layer = |sizes: &[usize]| {
            let layer = Dense { inputs: sizes[0], outputs: sizes[1], start: *start };
            *start += layer.len();
            layer
        };
        Self { layers: sizes.windows(2).map(layer).collect(), activation }
    }

    /// Returns the layers, from the inputs on.
    pub fn layers(&self) -> &[Dense] {
        &self.layers
    }

    pub fn first(&self) -> Dense {
        self.layers[0]
    }

    pub fn last(&self) -> Dense {
        self.layers[self.layers.len() - 1]
    }

    /// Whether outputs are an affine map of inputs.
    pub fn is_linear(&self) -> bool {
        self.layers.len() == 1
    }

    /// Makes memory for tiles of up to `points` points.
    pub fn tape<T: Scalar>(&self, points: usize) -> Tape<T> {
        let width = |layer: &Dense| layer.inputs.max(layer.outputs);
        let widest = self.layers.iter().map(width).max().unwrap_or(0);
        let zeros = |layer: &Dense| vec![T::ZERO; points * layer.outputs];
        Tape {
            outputs: self.layers.iter().map(zeros).collect(),
            slopes: self.layers[..self.layers.len() - 1].iter().map(zeros).collect(),
            deltas: [(); 2].map(|()| vec![T::ZERO; points * widest]),
        }
    }

    /// Computes the outputs of a tile: [`Tape::output`].
    pub fn forward<T: Scalar>(
        &self,
        simd: Simd,
        parameters: &[T],
        x: MatRef<'_, T>,
        tape: &mut Tape<T>,
    ) {
        self.forward_through(self.layers.len(), simd, parameters, x, tape);
    }

    /// Computes the units of a tile before the last layer: [`Tape::units`].
    pub fn forward_to_units<T: Scalar>(
        &self,
        simd: Simd,
        parameters: &[T],
        x: MatRef<'_, T>,
        tape: &mut Tape<T>,
    ) {
        self.forward_through(self.layers.len() - 1, simd, parameters, x, tape);
    }

    fn forward_through<T: Scalar>(
        &self,
        n_layers: usize,
        simd: Simd,
        parameters: &[T],
        x: MatRef<'_, T>,
        tape: &mut Tape<T>,
    ) {
        let n = x.nrows();
        for (i, layer) in self.layers[..n_layers].iter().enumerate() {
            let (before, rest) = tape.outputs.split_at_mut(i);
            let outputs = &mut rest[0][..n * layer.outputs];
            layer.forward(parameters, self.input(i, x, before), outputs);
            if let Some(slopes) = tape.slopes.get_mut(i) {
                activate(simd, self.activation, outputs, &mut slopes[..outputs.len()]);
            }
        }
    }

    /// Adds the gradient with respect to the parameters, from the gradient at the outputs that stands in [`Tape::delta`]. If
    /// `to_inputs`, the gradient at the inputs stands there afterwards.
    pub fn backward<T: Scalar>(
        &self,
        parameters: &[T],
        x: MatRef<'_, T>,
        tape: &mut Tape<T>,
        gradient: &mut [T],
        to_inputs: bool,
    ) {
        let n = x.nrows();
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let [at_outputs, at_inputs] = &mut tape.deltas;
            let at_inputs = &mut at_inputs[..n * layer.inputs];
            let input = self.input(i, x, &tape.outputs[..i]);
            let dx = (i > 0 || to_inputs).then_some(&mut *at_inputs);
            layer.backward(parameters, input, &at_outputs[..n * layer.outputs], gradient, dx);
            if i > 0 {
                at_inputs.iter_mut().zip(&tape.slopes[i - 1]).for_each(|(d, &s)| *d *= s);
            }
            tape.deltas.swap(0, 1);
        }
    }

    /// Returns the inputs of a layer: outputs of the layer before it, or the points.
    fn input<'a, T: Scalar>(
        &self,
        layer: usize,
        x: MatRef<'a, T>,
        outputs: &'a [Vec<T>],
    ) -> MatRef<'a, T> {
        let (n, width) = (x.nrows(), self.layers[layer].inputs);
        outputs
            .last()
            .map_or(x, |values| MatRef::from_row_major_slice(&values[..n * width], n, width))
    }
}

impl<T> Tape<T> {
    /// Returns the outputs of the network, row-major.
    pub fn output(&self) -> &[T] {
        self.outputs.last().expect("a network has a layer")
    }

    /// Returns the inputs of the last layer of a network that has more than one, row-major.
    pub fn units(&self) -> &[T] {
        &self.outputs[self.outputs.len() - 2]
    }

    /// Returns the outputs for use as scratch memory.
    pub fn output_mut(&mut self) -> &mut [T] {
        self.outputs.last_mut().expect("a network has a layer")
    }

    /// Returns the gradient at the outputs before a reverse pass, and at the inputs after it.
    pub fn delta(&self) -> &[T] {
        &self.deltas[0]
    }

    /// Returns outputs, and the gradient with respect to them for writing.
    pub fn output_and_delta(&mut self) -> (&[T], &mut [T]) {
        let Self { outputs, deltas, .. } = self;
        (outputs.last().expect("a network has a layer"), &mut deltas[0])
    }
}
