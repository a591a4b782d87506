"""Models whose latents go through networks: variational autoencoders and sparse codes, also of binary latents."""

import json

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._latent import _Latents

#: The functions between layers, as the library computes them.
_ACTIVATIONS = {
    "relu": lambda a: np.maximum(a, 0.0),
    "tanh": np.tanh,
    "softplus": lambda a: np.logaddexp(0.0, a),
    "gelu": lambda a: 0.5 * a * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (a + 0.044715 * a**3))),
}


def _outputs_of(layers, values, activation):
    """Return what layers of weights and biases make of values, with a function between two of them."""
    for i, (weights, biases) in enumerate(layers):
        values = values @ weights.T + biases
        if i + 1 < len(layers):
            values = _ACTIVATIONS[activation](values)
    return values


def _layers(arrays, network):
    """Return weights and biases of the layers of a network, from its input on."""
    count = sum(name.startswith(f"{network}.") and name.endswith(".weight") for name in arrays)
    return [(arrays[f"{network}.{i}.weight"], arrays[f"{network}.{i}.bias"]) for i in range(count)]


class _Autoencoder(_Latents):
    def _settings(self, X):
        return super()._settings(X) | {"network": self._network()}

    def _network(self):
        return {
            "hidden": [int(units) for units in np.atleast_1d(self.hidden_layer_sizes)],
            "activation": self.activation,
            "decoder": getattr(self, "decoder", "linear"),
            "prior": getattr(self, "prior", "laplace"),
            "noise": self.noise,
            "learning_rate": float(self.learning_rate_init),
            "schedule": self.learning_rate,
            "patience": int(self.n_iter_no_change),
        }

    def inverse_transform(self, Z):
        """Return the means of points given their latents: the output of the decoder.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Latents.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Means of the points.
        """
        values, activation = self._latents_of(Z), json.loads(self.model_.settings)["activation"]
        return self.centre_ + self.scale_ * _outputs_of(_layers(self.parameters_, "decoder"), values, activation)

    @classmethod
    def _parameters_of(cls, model):
        settings, arrays = json.loads(model.settings), model.arrays()
        biases = (arrays.get(f"encoder.{i}.bias") for i in range(len(arrays)))
        sizes = [len(bias) for bias in biases if bias is not None]
        return {
            "n_components": model.n_latents,
            "hidden_layer_sizes": tuple(sizes[:-1]),
            "activation": settings["activation"],
            "noise": settings["noise"],
        }


class VariationalAutoencoder(_Autoencoder):
    """Variational autoencoder: Gaussian latents that a network turns into the means of the points.

    Encoder and decoder learn by steps of Adam; variances of prior and noise have an exact M-step. ``score`` and ``score_samples``
    return a lower bound of the log-density.

    Parameters
    ----------
    n_components : int, default=1
        Number of latents.
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of the hidden layers of the encoder, from the points on; the decoder has them the other way round.
    activation : {"relu", "tanh", "softplus", "gelu"}, default="relu"
        Function between layers.
    decoder : {"mlp", "linear"}, default="mlp"
        Whether the decoder has hidden layers. The bound of a linear decoder is computed without samples.
    prior : {"standard", "learned", "laplace"}, default="standard"
        Prior of the latents.
    noise : {"scalar", "diagonal"}, default="scalar"
        Whether features share a noise variance.
    learning_rate_init : float, default=0.001
        Step size of Adam.
    learning_rate : {"cosine", "constant"}, default="cosine"
        Whether the step size falls to zero until the last step, or stays.
    n_iter_no_change : int, default=10
        Epochs in a row without a better bound, which end a fit with a constant step size.
    batch_size : int, default=200
        Number of points of a minibatch; with None each step sees all points, and there are ``max_iter`` steps.
    epochs : int, default=200
        Number of passes over the points.
    tol, max_iter, n_init, bad_rows, dtype, random_state, warm_start, n_threads, verbose, callback
        As for :class:`Mixture`.

    Attributes
    ----------
    noise_variance_ : float or ndarray of shape (n_features,)
        Variances of the noise.
    prior_scale_ : ndarray of shape (n_components,)
        Variances of the latents; scales if the prior is Laplace.
    centre_, scale_ : ndarray of shape (n_features,)
        Units of the networks: they see ``(X - centre_) / scale_``.
    parameters_ : dict
        All parameters by name; ``encoder.0.weight``, ``decoder.0.bias`` and others are those of the layers.
    converged_, n_iter_, stop_reason_, lower_bound_, lower_bounds_, entropy_sums_, history_, warnings_, model_
        As for :class:`Mixture`.

    Examples
    --------
    >>> import numpy as np
    >>> from entropysum import VariationalAutoencoder
    >>> angles = np.random.default_rng(0).uniform(0, np.pi, size=(400, 1))
    >>> X = np.hstack([np.cos(angles), np.sin(angles)])
    >>> autoencoder = VariationalAutoencoder(1, hidden_layer_sizes=20, epochs=50, random_state=0).fit(X)
    >>> bool(abs(autoencoder.entropy_sums_[-1] - autoencoder.lower_bound_) < 1e-9)
    True
    """

    _NAME = "vae"

    def __init__(
        self,
        n_components=1,
        *,
        hidden_layer_sizes=(100,),
        activation="relu",
        decoder="mlp",
        prior="standard",
        noise="scalar",
        learning_rate_init=1e-3,
        learning_rate="cosine",
        n_iter_no_change=10,
        batch_size=200,
        epochs=200,
        tol=1e-5,
        max_iter=200,
        n_init=1,
        bad_rows="error",
        dtype="float64",
        random_state=None,
        warm_start=False,
        n_threads=None,
        verbose=0,
        callback=None,
    ):
        self._set(locals())

    @classmethod
    def _parameters_of(cls, model):
        is_linear = "decoder.1.weight" not in model.arrays()
        found = {"decoder": "linear" if is_linear else "mlp", "prior": json.loads(model.settings)["prior"]}
        return super()._parameters_of(model) | found


class SparseCoding(_Autoencoder):
    """Probabilistic sparse coding: points are sums of few dictionary elements and noise.

    Latents have a Laplace prior, and a network infers them. Nothing is sampled: the bound has a closed form.

    Parameters
    ----------
    n_components : int, default=1
        Number of dictionary elements; there may be more than features.
    hidden_layer_sizes, activation, noise, learning_rate_init, learning_rate, n_iter_no_change, batch_size, epochs
        As for :class:`VariationalAutoencoder`; the layers are those of the encoder, which is linear without. Defaults are (), "tanh" and
        0.01.
    tol, max_iter, n_init, bad_rows, dtype, random_state, warm_start, n_threads, verbose, callback
        As for :class:`Mixture`.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        The dictionary: what each latent adds to a point.
    mean_ : ndarray of shape (n_features,)
        The point whose latents are zero.
    noise_variance_ : float or ndarray of shape (n_features,)
        Variances of the noise.
    prior_scale_ : ndarray of shape (n_components,)
        Scales of the latents.
    converged_, n_iter_, stop_reason_, lower_bound_, lower_bounds_, entropy_sums_, history_, warnings_, model_
        As for :class:`Mixture`.
    """

    _NAME = "sparse-coding"

    def __init__(
        self,
        n_components=1,
        *,
        hidden_layer_sizes=(),
        activation="tanh",
        noise="scalar",
        learning_rate_init=1e-2,
        learning_rate="cosine",
        n_iter_no_change=10,
        batch_size=200,
        epochs=200,
        tol=1e-5,
        max_iter=200,
        n_init=1,
        bad_rows="error",
        dtype="float64",
        random_state=None,
        warm_start=False,
        n_threads=None,
        verbose=0,
        callback=None,
    ):
        self._set(locals())

    @property
    def components_(self):
        """The dictionary: what each latent adds to a point."""
        check_is_fitted(self)
        return (self.parameters_["decoder.0.weight"] * self.scale_[:, None]).T

    @property
    def mean_(self):
        """The point whose latents are zero."""
        check_is_fitted(self)
        return self.centre_ + self.scale_ * self.parameters_["decoder.0.bias"]


class BinarySparseCoding(_Latents):
    """Binary sparse coding: points are sums of causes that are on or off, and noise.

    Each point keeps a few states of the latents, which a search improves: nothing is sampled, and there is no encoder. The M-step has a
    closed form, so the entropy sum is the lower bound. ``score`` and ``score_samples`` return a lower bound of the log-density.

    Parameters
    ----------
    n_components : int, default=1
        Number of binary latents.
    hidden_layer_sizes : array-like of int, default=()
        Units of hidden layers between latents and features, from the latents on; causes need not add up then.
    activation : {"tanh", "relu", "softplus", "gelu"}, default="tanh"
        Function between layers.
    noise : {"scalar", "diagonal"}, default="scalar"
        Whether features share a noise variance.
    n_states : int, default=None
        Number of states that each point keeps; 32 by default.
    algorithm : {"em", "stepwise"}, default=None
        How to learn: by minibatches if there is a ``batch_size``.
    missing : {"error", "ignore"}, default="error"
        Whether values may be missing (NaN): these are left out of the bound.
    tol, max_iter, n_init, batch_size, epochs, bad_rows, dtype, random_state, warm_start, n_threads, verbose, callback
        As for :class:`Mixture`.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        What each latent adds to a point where it alone is on.
    mean_ : ndarray of shape (n_features,)
        The mean of a point whose latents are off.
    prior_ : ndarray of shape (n_components,)
        Probabilities that latents are on.
    noise_variance_ : float or ndarray of shape (n_features,)
        Variances of the noise.
    parameters_ : dict
        All parameters by name; ``decoder.0.weight`` and others are those of hidden layers.
    converged_, n_iter_, stop_reason_, lower_bound_, lower_bounds_, entropy_sums_, history_, warnings_, model_
        As for :class:`Mixture`.

    Examples
    --------
    >>> import numpy as np
    >>> from entropysum import BinarySparseCoding
    >>> rng = np.random.default_rng(0)
    >>> on = rng.random((500, 2)) < 0.4
    >>> X = on @ [[3.0, 3.0, 0.0], [0.0, 2.0, 4.0]] + 0.1 * rng.normal(size=(500, 3))
    >>> code = BinarySparseCoding(2, n_states=4, random_state=0).fit(X)
    >>> bool(code.noise_variance_ < 0.02)
    True
    """

    _NAME = "binary-sparse-coding"

    def __init__(
        self,
        n_components=1,
        *,
        hidden_layer_sizes=(),
        activation="tanh",
        noise="scalar",
        n_states=None,
        algorithm=None,
        missing="error",
        tol=1e-5,
        max_iter=200,
        n_init=1,
        batch_size=None,
        epochs=5,
        bad_rows="error",
        dtype="float64",
        random_state=None,
        warm_start=False,
        n_threads=None,
        verbose=0,
        callback=None,
    ):
        self._set(locals())

    def _settings(self, X):
        hidden = [int(units) for units in np.atleast_1d(self.hidden_layer_sizes)]
        code = {"hidden": hidden, "activation": self.activation, "noise": self.noise}
        return super()._settings(X) | {"code": code}

    def most_probable_states(self, X):
        """Return the most probable state of the latents for each point.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.

        Returns
        -------
        states : ndarray of shape (n_samples, n_components)
            Zeros and ones.
        """
        return self.model_numbers("state", X)

    def inverse_transform(self, Z):
        """Return the means of points given their latents.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Latents.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Means of the points.
        """
        values, activation = self._latents_of(Z), json.loads(self.model_.settings).get("activation")
        layers = _layers(self.parameters_, "decoder") + [(self.weights_, self.biases_)]
        return self.centre_ + _outputs_of(layers, values, activation)

    @property
    def mean_(self):
        """The mean of a point whose latents are off."""
        check_is_fitted(self)
        return self.inverse_transform(np.zeros((1, self.model_.n_latents)))[0]

    @property
    def components_(self):
        """What each latent adds to a point where it alone is on."""
        check_is_fitted(self)
        return self.inverse_transform(np.eye(self.model_.n_latents)) - self.mean_

    @classmethod
    def _parameters_of(cls, model):
        settings, arrays = json.loads(model.settings), model.arrays()
        return {
            "n_components": model.n_latents,
            "hidden_layer_sizes": tuple(len(biases) for _, biases in _layers(arrays, "decoder")),
            "activation": settings.get("activation", "tanh"),
            "noise": settings["noise"],
            "n_states": settings["n_states"],
        }
