"""Models with a vector of latents: probabilistic PCA, factor analysis, sigmoid belief networks."""

import json

import numpy as np
from sklearn.utils.validation import check_array, check_is_fitted

from ._base import Estimator, LatentsMixin, OnlineMixin


class _Latents(LatentsMixin, Estimator):
    """What all models with a single vector of latents share."""

    #: Name of the model on the command line, of kinds that have a single one.
    _NAME = None

    def _sizes(self):
        return 1, [self.n_components]

    def _model_name(self, X):
        return self._NAME

    @classmethod
    def _is_for(cls, name):
        return name == cls._NAME

    def sample(self, n_samples=1):
        """Draw points from the model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of points.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Points.
        """
        return self._sample(n_samples)[0]

    def _latents_of(self, Z):
        check_is_fitted(self)
        Z = check_array(Z, dtype=np.float64)
        if Z.shape[1] != self.model_.n_latents:
            raise ValueError(f"Z has {Z.shape[1]} columns, expected {self.model_.n_latents}, one for each latent")
        return Z


class _LinearGaussian(_Latents):
    _MIN_FEATURES = 2

    def __init__(
        self,
        n_components=1,
        *,
        algorithm=None,
        rotation=None,
        tol=1e-5,
        max_iter=200,
        missing="error",
        dtype="float64",
        random_state=None,
        warm_start=False,
        n_threads=None,
        verbose=0,
        callback=None,
    ):
        self._set(locals())

    def _take(self, model):
        super()._take(model)
        self.components_ = self.loadings_.T

    @property
    def _noise_variances(self):
        return np.broadcast_to(self.noise_variance_, (self.n_features_in_,))

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
        return self._latents_of(Z) @ self.components_ + self.mean_

    def get_covariance(self):
        """Return the covariance of the model.

        Returns
        -------
        covariance : ndarray of shape (n_features, n_features)
            ``loadings @ loadings.T`` and the noise.
        """
        check_is_fitted(self)
        return self.loadings_ @ self.loadings_.T + np.diag(self._noise_variances)

    def get_precision(self):
        """Return the inverse covariance of the model.

        Returns
        -------
        precision : ndarray of shape (n_features, n_features)
            The inverse of ``get_covariance()``.
        """
        check_is_fitted(self)
        weighted = self.loadings_.T / self._noise_variances
        inner = np.linalg.inv(np.eye(len(weighted)) + weighted @ self.loadings_)
        return np.diag(1 / self._noise_variances) - weighted.T @ inner @ weighted

    @classmethod
    def _parameters_of(cls, model):
        return {"n_components": model.n_latents}


class PPCA(_LinearGaussian):
    """Probabilistic PCA: Gaussian latents, and noise of one variance.

    Parameters
    ----------
    n_components : int, default=1
        Number of latents, below the number of features.
    algorithm : {"closed-form", "em", "px-em"}, default=None
        How to learn: in closed form by default.
    rotation : {"varimax", "quartimax"}, default=None
        Rotation of the loadings to a simple structure.
    tol, max_iter, missing, dtype, random_state, warm_start, n_threads, verbose, callback
        As for :class:`Mixture`. Points with missing values are learned from by EM.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Mean of the points.
    components_ : ndarray of shape (n_components, n_features)
        Loadings: scaled principal axes, orthogonal and in the order of their lengths.
    loadings_ : ndarray of shape (n_features, n_components)
        The same, a column for each latent.
    noise_variance_ : float
        Variance of the noise.
    converged_, n_iter_, stop_reason_, lower_bound_, lower_bounds_, entropy_sums_, history_, warnings_, model_
        As for :class:`Mixture`.

    Examples
    --------
    >>> import numpy as np
    >>> from entropysum import PPCA
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 1)) @ [[3.0, 2.0, 1.0]] + 0.1 * rng.normal(size=(500, 3))
    >>> PPCA(1).fit(X).noise_variance_ < 0.02
    True
    """

    _NAME = "ppca"


class FactorAnalysis(_LinearGaussian):
    """Factor analysis: Gaussian latents, and noise with a variance for each feature.

    Parameters
    ----------
    n_components : int, default=1
        Number of factors, below the number of features.
    algorithm : {"px-em", "em"}, default=None
        How to learn: by parameter-expanded EM by default.
    rotation : {"varimax", "quartimax"}, default=None
        Rotation of the loadings to a simple structure.
    tol, max_iter, missing, dtype, random_state, warm_start, n_threads, verbose, callback
        As for :class:`Mixture`.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Mean of the points.
    components_ : ndarray of shape (n_components, n_features)
        Loadings, as scikit-learn lays them out.
    loadings_ : ndarray of shape (n_features, n_components)
        The same, a column for each factor.
    noise_variance_ : ndarray of shape (n_features,)
        Variances of the noise.
    converged_, n_iter_, stop_reason_, lower_bound_, lower_bounds_, entropy_sums_, history_, warnings_, model_
        As for :class:`Mixture`.
    """

    _NAME = "factor-analysis"


class SigmoidBeliefNet(OnlineMixin, _Latents):
    """Sigmoid belief network: binary latents that turn on binary features.

    Points are zeros and ones.

    Parameters
    ----------
    n_components : int, default=1
        Number of latents of the top layer.
    n_hidden : int, default=None
        Number of latents of a layer between the top layer and the features; by default there is none.
    posterior : {"exact", "truncated"}, default="exact"
        Posteriors of the E-step: over all states, or over the best states that a search finds for each point.
    n_states : int, default=None
        Number of states of truncated posteriors; 32 by default.
    ridge : float, default=0.0
        Penalty of the weights, for each point.
    algorithm : {"em", "stepwise", "incremental"}, default=None
        How to learn.
    tol, max_iter, n_init, batch_size, epochs, polish, bad_rows, dtype, random_state, warm_start, n_threads, verbose, callback
        As for :class:`Mixture`.

    Attributes
    ----------
    prior_ : ndarray of shape (n_components,)
        Probabilities of the top latents.
    weights_ : ndarray of shape (n_features, n_components or n_hidden)
        Weights of the features.
    biases_ : ndarray of shape (n_features,)
        Biases of the features.
    hidden_weights_, hidden_biases_ : ndarray
        Weights and biases of the hidden latents, if there are any.
    converged_, n_iter_, stop_reason_, lower_bound_, lower_bounds_, entropy_sums_, history_, warnings_, model_
        As for :class:`Mixture`.
    """

    def __init__(
        self,
        n_components=1,
        *,
        n_hidden=None,
        posterior="exact",
        n_states=None,
        ridge=0.0,
        algorithm=None,
        tol=1e-5,
        max_iter=200,
        n_init=1,
        batch_size=None,
        epochs=5,
        polish=0,
        bad_rows="error",
        dtype="float64",
        random_state=None,
        warm_start=False,
        n_threads=None,
        verbose=0,
        callback=None,
    ):
        self._set(locals())

    def _sizes(self):
        return 1, [self.n_components] + ([self.n_hidden] if self.n_hidden is not None else [])

    def _model_name(self, X):
        return "sbn" if self.n_hidden is None else "sbn3"

    def most_probable_states(self, X):
        """Return the most probable state of all latents for each point.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.

        Returns
        -------
        states : ndarray of shape (n_samples, n_latents)
            Zeros and ones, the top layer first.
        """
        return self.model_numbers("state", X)

    def inverse_transform(self, Z):
        """Return the probabilities of the features given the latents.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_latents)
            Latents, the top layer first. Features depend on the last layer alone.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Probabilities that the features are 1.
        """
        last = self._latents_of(Z)[:, -self.weights_.shape[1] :]
        return 1 / (1 + np.exp(-(last @ self.weights_.T + self.biases_)))

    @classmethod
    def _is_for(cls, name):
        return name in ("sbn", "sbn3")

    @classmethod
    def _parameters_of(cls, model):
        settings, arrays = json.loads(model.settings), model.arrays()
        n_hidden = len(arrays["hidden_biases"]) if model.name == "sbn3" else None
        posterior = settings.get("posterior", "exact")
        n_states = settings.get("n_states")
        return {
            "n_components": len(arrays["prior"]),
            "n_hidden": n_hidden,
            "posterior": posterior,
            "n_states": n_states,
            "ridge": float(arrays.get("ridge", 0.0)),
        }
