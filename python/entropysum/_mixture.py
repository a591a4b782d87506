"""Mixtures."""

import json

import numpy as np
from sklearn.utils.validation import check_is_fitted

from . import _data, _entropysum
from ._base import Estimator, LatentsMixin, OnlineMixin


class _Components(OnlineMixin, Estimator):
    """What all models with components share."""

    def fit_predict(self, X, y=None, sample_weight=None):
        """Learn the model, and return the most probable component of each point.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points, of all kinds that ``fit`` takes.
        y : Ignored
            Not used, present for consistency with scikit-learn.
        sample_weight : array-like of shape (n_samples,), default=None
            Number of times that each point counts.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Components, from 0.
        """
        return self.fit(X, y, sample_weight=sample_weight).predict(X)

    def predict(self, X):
        """Return the most probable component of each point.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points, of all kinds that ``fit`` takes.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Components, from 0.
        """
        points = self._applied(X)
        return self.model_.labels(points, self._threads())

    def predict_proba(self, X):
        """Return the posterior probabilities of the components.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points, of all kinds that ``fit`` takes.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_components)
            Probabilities that sum to 1 for each point.
        """
        return self.model_numbers("posterior", X)

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
        y : ndarray of shape (n_samples,)
            The component of each point.
        """
        return self._sample(n_samples)


class Mixture(_Components):
    """Mixture of distributions of any exponential family.

    Parameters
    ----------
    n_components : int, default=1
        Number of components.
    family : str or list of (str, columns), default="gaussian-diag"
        Family of the components, one of ``entropysum.families()``; for columns of different kinds a list of families and their
        columns, by name or index, such as ``[("gaussian-diag", ["age", "income"]), ("poisson", ["visits"])]``. With ``"auto"``
        the columns of a data frame tell: texts and categories are ``categorical``, truth values ``bernoulli``, whole numbers
        without negative ones ``poisson``, all others ``gaussian-diag``.
    known : dict, default=None
        Parameters of the family that are known and not learned, such as ``{"trials": 16}`` for ``binomial``: a number for all
        columns, or a number for each. The levels of ``categorical`` and the total of ``multinomial`` are told by the data.
    tol : float, default=1e-5
        A fit converges when its entropy sum changes by at most this, in nats per point.
    reg_covar : float, default=None
        Number to add to all variances. By default nothing is added, and variances are held above a small floor.
    max_iter : int, default=200
        Number of iterations at most.
    n_init : int, default=1
        Number of fresh starts, of which the best fit is kept.
    init_params : {"auto", "kmeans", "k-means++", "random", "random_from_data"}, default="auto"
        How to start. ``auto`` tries k-means in two scales and random points, and keeps what promises most. ``kmeans`` and ``k-means++``
        are one: k-means++ and sweeps of k-means on a part of the points, in columns of unit variance.
    posterior : {"exact", "hard", "truncated", "auto"}, default="exact"
        Posteriors of the E-step. Truncated ones keep 8 components for each point, for mixtures of very many; ``partial_fit`` has none.
        With ``auto`` they are taken for 1000 components or more of at least 20 points each. From 2000 components on, labels, posteriors
        and densities of 1000 points or more then come from a search, and densities are lower bounds.
    batch_size : int, default=None
        Learn from minibatches of so many points by stepwise EM; any number of points can be read from files so.
    algorithm : {"stepwise", "incremental"}, default=None
        How to learn from minibatches.
    epochs : int, default=5
        Number of passes over the points at most, for minibatches.
    polish : int, default=0
        Number of iterations of batch EM after the last minibatch.
    missing : {"error", "ignore"}, default="error"
        Whether NaN is an error, or a value that is left out of the likelihood. Not all families can leave values out.
    bad_rows : {"error", "skip"}, default="error"
        Whether rows of files, and points of minibatches, that the model is not for are errors or skipped.
    dtype : {"float64", "float32"}, default="float64"
        Precision of computations with points of files. Arrays are computed with in their own.
    random_state : int, RandomState instance or None, default=None
        Seed of all random choices; a number gives the same bits each time, and those of the command line's ``--seed``.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the last fit.
    n_threads : int, default=None
        Number of threads; by default the value of ``OMP_NUM_THREADS``, or all processors. Results do not depend on it.
    verbose : int, default=0
        Whether to print iterations to standard error.
    callback : callable, default=None
        Called after each iteration with a dict: the row of ``history_`` and the ``events``. A true result ends the fit.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Weights of the components.
    means_, covariances_, rate_, ... : ndarray
        Parameters of the family, by the names that it has in model files. The component is the first axis.
    parameters_ : dict
        All parameters by name; those of mixed columns have names such as ``blocks.0.means``.
    converged_ : bool
        Whether the tolerance was met.
    n_iter_ : int
        Number of iterations.
    stop_reason_ : str
        ``converged``, ``max_iter``, ``epochs``, ``observer`` (the callback) or ``interrupted``.
    lower_bound_ : float
        Lower bound of the log-likelihood after the last iteration, in nats per point.
    lower_bounds_ : list of float
        The bound after each iteration.
    entropy_sums_ : ndarray
        The entropy sum after each iteration: equal to the bound after exact M-steps, without another pass over the points.
    history_ : dict of ndarray
        All that is known of each iteration.
    floored_ : list of int
        Components whose spread stood at its floor at the end: they have settled on ties or on too few points, and the likelihood
        is no maximum. Criteria must not compare such a fit with others.
    warnings_ : list of str
        What the fit did and the user should know.
    model_ : entropysum.Model
        The model.
    n_features_in_ : int
        Number of dimensions.
    feature_names_in_ : ndarray
        Names of the dimensions, if they have names.

    Examples
    --------
    >>> import numpy as np
    >>> from entropysum import Mixture
    >>> X = np.array([[0.0], [1.0], [2.0], [1.0], [20.0], [23.0], [19.0], [22.0]])
    >>> mixture = Mixture(2, family="poisson", random_state=0).fit(X)
    >>> sorted(mixture.rate_[:, 0].round(3).tolist())
    [1.0, 21.0]
    """

    def __init__(
        self,
        n_components=1,
        *,
        family="gaussian-diag",
        known=None,
        tol=1e-5,
        reg_covar=None,
        max_iter=200,
        n_init=1,
        init_params="auto",
        posterior="exact",
        batch_size=None,
        algorithm=None,
        epochs=5,
        polish=0,
        missing="error",
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
        return self.n_components, []

    def _known(self):
        return self.known or {}

    def _model_name(self, X):
        if isinstance(self.family, str) and self.family != "auto":
            return self.family
        names = getattr(self, "feature_names_in_", None)
        names = None if names is None else list(names)
        if isinstance(self.family, str):
            if not _data._is_frame(X):
                raise ValueError('family="auto" needs a data frame, whose columns have types')
            kinds = _data.kinds_of(X)
            blocks = [(kind, [i for i, own in enumerate(kinds) if own == kind]) for kind in dict.fromkeys(kinds)]
        elif names is None and _data.paths_of(X) is not None:
            return ",".join(f"{family}:{'+'.join(map(str, np.atleast_1d(columns)))}" for family, columns in self.family)
        else:
            blocks = [(family, _data.column_indices(columns, names)) for family, columns in self.family]
        return ",".join(f"{family}:{'+'.join(map(str, columns))}" for family, columns in blocks)

    def _takes_sparse(self):
        return self.family in _entropysum.sparse_families() if isinstance(self.family, str) else False

    @classmethod
    def _is_for(cls, name):
        return ":" in name or name in _entropysum.families()

    @classmethod
    def _parameters_of(cls, model):
        posterior = json.loads(model.settings).get("posterior", "exact")
        return {"n_components": model.n_components, "family": model.name, "posterior": posterior}


class GaussianMixture(_Components):
    """Mixture of Gaussians, with the interface of scikit-learn's estimator of this name.

    Differences from scikit-learn: nothing is added to variances by default (``reg_covar=None``), since then the entropy sum is the
    lower bound; the tolerance is that of the entropy sum, and smaller; components without points are moved or discarded instead
    of being an error; ``lower_bound_`` belongs to the parameters after the last M-step, not to those before it.

    Parameters
    ----------
    n_components : int, default=1
        Number of components.
    covariance_type : {"full", "tied", "diag", "spherical", "tied_diag", "tied_spherical"}, default="full"
        Structure of the covariances; those that are tied are the same for all components.
    tol : float, default=1e-5
        A fit converges when its entropy sum changes by at most this, in nats per point.
    reg_covar : float, default=None
        Number to add to all variances. By default nothing is added, and variances are held above a small floor.
    covariance_prior : {"conjugate"}, default=None
        Prior of the covariances: inverse-Wishart or inverse-gamma, with a scale that follows from the data (Fraley and Raftery,
        2007). By default there is none. ``bic`` and scores leave it out.
    max_iter : int, default=200
        Number of iterations at most.
    n_init : int, default=1
        Number of fresh starts, of which the best fit is kept.
    init_params : {"auto", "kmeans", "k-means++", "random", "random_from_data"}, default="auto"
        How to start. ``auto`` tries k-means in two scales and random points, and keeps what promises most. ``kmeans`` and ``k-means++``
        are one: k-means++ and sweeps of k-means on a part of the points, in columns of unit variance.
    weights_init : array-like of shape (n_components,), default=None
        Weights to start with, in place of those of the start.
    means_init : array-like of shape (n_components, n_features), default=None
        Means to start with.
    precisions_init : array-like, default=None
        Inverse covariances to start with, in the shape of ``covariances_``.
    posterior : {"exact", "hard", "truncated", "auto"}, default="exact"
        Posteriors of the E-step. Truncated ones keep 8 components for each point, for mixtures of very many; ``partial_fit`` has none.
        With ``auto`` they are taken for 1000 components or more of at least 20 points each. From 2000 components on, labels, posteriors
        and densities of 1000 points or more then come from a search, and densities are lower bounds.
    batch_size, algorithm, epochs, polish, missing, bad_rows, dtype, random_state, warm_start, n_threads, verbose, callback
        As for :class:`Mixture`.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Weights of the components.
    means_ : ndarray of shape (n_components, n_features)
        Means.
    covariances_ : ndarray
        Covariances, in scikit-learn's shapes: (n_components, n_features, n_features) if full, (n_features, n_features) if tied,
        (n_components, n_features) if diag, (n_components,) if spherical, (n_features,) if tied_diag, a float if tied_spherical.
    precisions_, precisions_cholesky_ : ndarray
        Inverse covariances, and matrices U with ``precision = U U'``, in the same shapes.
    converged_, n_iter_, stop_reason_, lower_bound_, lower_bounds_, entropy_sums_, history_, warnings_, model_
        As for :class:`Mixture`.

    Examples
    --------
    >>> import numpy as np
    >>> from entropysum import GaussianMixture
    >>> X = np.random.default_rng(0).normal(size=(400, 2)) + np.repeat([[-4.0, 0.0], [4.0, 0.0]], 200, axis=0)
    >>> mixture = GaussianMixture(2, random_state=0).fit(X)
    >>> mixture.converged_, sorted(mixture.means_[:, 0].round().tolist())
    (True, [-4.0, 4.0])
    """

    def __init__(
        self,
        n_components=1,
        *,
        covariance_type="full",
        tol=1e-5,
        reg_covar=None,
        covariance_prior=None,
        max_iter=200,
        n_init=1,
        init_params="auto",
        weights_init=None,
        means_init=None,
        precisions_init=None,
        posterior="exact",
        batch_size=None,
        algorithm=None,
        epochs=5,
        polish=0,
        missing="error",
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
        return self.n_components, []

    def _model_name(self, X):
        name = f"gaussian-{str(self.covariance_type).replace('_', '-')}"
        if not self._is_for(name):
            known = ", ".join(family[9:].replace("-", "_") for family in _entropysum.families() if self._is_for(family))
            raise ValueError(f"covariance_type is {self.covariance_type!r}, expected one of {known}")
        return name

    def _start(self, points, settings):
        start = super()._start(points, settings)
        if start is not None or all(given is None for given in (self.weights_init, self.means_init, self.precisions_init)):
            return start
        given = {"weights": self.weights_init, "means": self.means_init, "covariances": self.precisions_init}
        given = {name: np.asarray(values, dtype=float) for name, values in given.items() if values is not None}
        if "covariances" in given:
            is_matrix = self.covariance_type in ("full", "tied")
            given["covariances"] = np.linalg.inv(given["covariances"]) if is_matrix else 1 / given["covariances"]
        # A start takes a while, and is of no use if all is given.
        arrays = {} if len(given) == 3 else _entropysum.start(points, settings).arrays()
        for name, values in arrays.items():
            if name in given and given[name].shape != values.shape and len(arrays["weights"]) == self.n_components:
                raise ValueError(f"{name}_init has shape {given[name].shape}, expected {values.shape}")
        content = {"model": settings["model"]} | {name: values.tolist() for name, values in (arrays | given).items()}
        return _entropysum.Model.from_bytes(json.dumps(content).encode())

    @property
    def precisions_cholesky_(self):
        """Matrices U with ``precision = U U'``, in the shapes of scikit-learn."""
        check_is_fitted(self)
        covariances = np.asarray(self.covariances_)
        if self.covariance_type not in ("full", "tied"):
            return 1 / np.sqrt(covariances)
        lower = np.linalg.cholesky(covariances)
        return np.swapaxes(np.linalg.inv(lower), -1, -2)

    @property
    def precisions_(self):
        """Inverse covariances, in the shapes of scikit-learn."""
        root = self.precisions_cholesky_
        return root @ np.swapaxes(root, -1, -2) if self.covariance_type in ("full", "tied") else root**2

    @classmethod
    def _is_for(cls, name):
        return name.startswith("gaussian-") and name != "gaussian-known-variance" and name in _entropysum.families()

    @classmethod
    def _parameters_of(cls, model):
        posterior = json.loads(model.settings).get("posterior", "exact")
        covariance_type = model.name.removeprefix("gaussian-").replace("-", "_")
        return {"n_components": model.n_components, "covariance_type": covariance_type, "posterior": posterior}


_NOISE = {"diagonal": "mfa", "tied": "mfa-tied", "isotropic": "mppca"}


class MixtureOfFactorAnalyzers(LatentsMixin, _Components):
    """Mixture of factor analysers, for many dimensions: covariances of low rank and noise.

    Parameters
    ----------
    n_components : int, default=1
        Number of components.
    n_latents : int, default=1
        Number of latents of each component: the rank of its covariance without noise.
    noise : {"diagonal", "tied", "isotropic"}, default="diagonal"
        Structure of the noise: a variance for each dimension and component, a variance for each dimension, or a variance for each
        component (a mixture of probabilistic PCAs).
    algorithm : {"px-em", "em", "stepwise", "incremental"}, default=None
        How to learn; parameter-expanded EM by default.
    posterior : {"exact", "truncated", "auto"}, default="exact"
        Posteriors of the components. Truncated ones take few components a point, found by a search, for very many components. With
        ``auto`` they are taken for 1000 components or more of at least 20 points each.
    tol, reg_covar, max_iter, n_init, init_params, batch_size, epochs, polish, bad_rows, dtype
        As for :class:`Mixture`.
    random_state, warm_start, n_threads, verbose, callback
        As for :class:`Mixture`.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Weights of the components.
    means_ : ndarray of shape (n_components, n_features)
        Means.
    loadings_ : ndarray of shape (n_components, n_features, n_latents)
        Loadings.
    noise_variances_ : ndarray
        Variances of the noise: (n_components, n_features), or (n_features,) if tied.
    converged_, n_iter_, stop_reason_, lower_bound_, lower_bounds_, entropy_sums_, history_, warnings_, model_
        As for :class:`Mixture`.
    """

    _MIN_FEATURES = 2

    def __init__(
        self,
        n_components=1,
        n_latents=1,
        *,
        noise="diagonal",
        algorithm=None,
        posterior="exact",
        tol=1e-5,
        reg_covar=None,
        max_iter=200,
        n_init=1,
        init_params="auto",
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
        return self.n_components, [self.n_latents]

    def _model_name(self, X):
        if self.noise not in _NOISE:
            raise ValueError(f"noise is {self.noise!r}, expected one of {', '.join(_NOISE)}")
        return _NOISE[self.noise]

    @classmethod
    def _is_for(cls, name):
        return name in _NOISE.values()

    @classmethod
    def _parameters_of(cls, model):
        noise = next(noise for noise, name in _NOISE.items() if name == model.name)
        posterior = json.loads(model.settings).get("posterior", "exact")
        return {"n_components": model.n_components, "n_latents": model.n_latents, "noise": noise, "posterior": posterior}
