"""What all estimators share: settings, fits, attributes, files."""

import numbers
import os
import re
import sys
import warnings

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from . import _data, _entropysum, partitions
from ._plot import PlotMixin


class FitWarning(UserWarning):
    """Warns of what a fit did and the user should know: floors, splits, components that were discarded."""


#: What the extension module expects, with values for models that have no such setting.
_SETTINGS = {
    "init": "auto",
    "posterior": None,
    "n_states": None,
    "ridge": 0.0,
    "algorithm": None,
    "rotation": None,
    "monitor": "entropy-sum",
    "max_iter": 200,
    "tol": 1e-5,
    "rtol": 0.0,
    "max_time": None,
    "reg_covar": None,
    "covariance_prior": None,
    "n_init": 1,
    "batch_size": None,
    "epochs": 5,
    "polish": 0,
    "network": None,
    "code": None,
}

#: Records between two looks at held-out points: an epoch has twenty, or one a minibatch if there are fewer.
_AUDIT = 5


def _in_python(text):
    """Return a message with options of the command line as names of parameters."""
    return re.sub(r"--([a-z][a-z-]*)", lambda found: found[1].replace("-", "_"), text)


def _progress(verbose):
    """Return a callback that prints an iteration now and then, or overwrites a line on a terminal."""
    is_terminal = sys.stderr.isatty()
    every = 1 if is_terminal or verbose > 1 else 10

    def show(record):
        if record["iteration"] % every == 0:
            line = (
                f"iteration {record['iteration']:.0f}: entropy sum {record['entropy_sum']:.6f}, "
                f"change {record['change']:.1e}, {record['seconds']:.1f} s"
            )
            print(line, end="\r" if is_terminal else "\n", file=sys.stderr, flush=True)

    return show


class Estimator(PlotMixin, DensityMixin, BaseEstimator):
    """Base of all estimators: a model that EM learns, watched by its entropy sum."""

    #: Frames between a warning of ``fit`` and the line that called it.
    _STACKLEVEL = 3

    # ------------------------------------------------------------------------------------------ settings

    def _set(self, arguments):
        """Keep the arguments of ``__init__`` as attributes of the same names, as scikit-learn expects."""
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def _model_name(self, X):
        raise NotImplementedError

    def _sizes(self):
        """Return the numbers of components and of latents."""
        raise NotImplementedError

    def _seed(self):
        if isinstance(self.random_state, numbers.Integral) and self.random_state >= 0:
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _threads(self):
        if self.n_threads is not None:
            return int(self.n_threads)
        # What joblib and others tell the processes that they start.
        told = os.environ.get("OMP_NUM_THREADS", "")
        return int(told) if told.isdigit() and int(told) > 0 else None

    def _settings(self, X):
        n_components, latents = self._sizes()
        settings = {name: getattr(self, name, default) for name, default in _SETTINGS.items()}
        settings["init"] = getattr(self, "init_params", settings["init"])
        return settings | {
            "model": self._model_name(X),
            "n_components": n_components,
            "latents": latents,
            "known": {name: np.atleast_1d(values).astype(float).tolist() for name, values in self._known().items()},
            "start": None,
            "ignore_missing": getattr(self, "missing", "error") == "ignore",
            "skip_bad_rows": getattr(self, "bad_rows", "error") == "skip",
            "seed": self._seed(),
            "threads": self._threads(),
        }

    def _known(self):
        return {}

    def _takes_sparse(self):
        return False

    def _points(self, X, sample_weight=None, *, reset=False):
        return _data.points(
            self, X, sample_weight, reset=reset, min_samples=2 if reset else 1, sparse=self._takes_sparse()
        )

    def _applied(self, X, sample_weight=None):
        check_is_fitted(self)
        return self._points(X, sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = getattr(self, "missing", "error") == "ignore"
        tags.input_tags.sparse = self._takes_sparse()
        return tags

    # ------------------------------------------------------------------------------------------ learning

    def _start(self, points, settings):
        """Return the model to start from, or None for a fresh start."""
        return self.model_ if self.warm_start and hasattr(self, "model_") else None

    def _from_start(self, points, settings):
        """Return the settings with the model to start from, if the start is not a fresh one."""
        start = self._start(points, settings)
        return settings if start is None else settings | {"start": start, "n_init": 1}

    def fit(
        self, X, y=None, sample_weight=None, *, checkpoint=None, checkpoint_every=60.0, resume=False, held_out=None, audit=_AUDIT
    ):
        """Learn the model from points.

        Ctrl-C ends the fit within half a second. The model of the last iteration is kept, and KeyboardInterrupt is raised.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), data frame, path, list of paths or Partitions
            Points. Arrays of float64 and float32 are used as they lie in memory, whatever their order and strides, memory maps
            too. A path may be a pattern, such as ``"part-*.npy"``; files are read in pieces. Mixtures learn from
            :class:`entropysum.partitions.Partitions` too: these are points that lie elsewhere.
        y : Ignored
            Not used, present for consistency with scikit-learn.
        sample_weight : array-like of shape (n_samples,), default=None
            Number of times that each point counts.
        checkpoint : path-like, default=None
            File to keep the state of the fit in. A fit from the same points with the same parameters can go on from it.
        checkpoint_every : float, default=60.0
            Seconds between two states.
        resume : bool, default=False
            Whether to go on from ``checkpoint`` if there is such a file. The model is that of a fit without interruption, to the bit.
        held_out : array-like of shape (n_samples, n_features), default=None
            Points that a fit by minibatches does not learn from. Their mean log-density is ``history_["audit"]``.
        audit : int, default=5
            Records of the history between two looks at ``held_out``; an epoch has 20, or one for each minibatch if there are fewer.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if isinstance(X, partitions.Partitions):
            if sample_weight is not None:
                raise ValueError("sample_weight belongs into the partitions: each is a tuple of points and weights")
            points, settings, e_step = partitions.begin(self, X)
        else:
            points, e_step = self._points(X, sample_weight, reset=True), None
            settings = self._settings(X)
        settings = self._from_start(points, settings)
        self._online = None
        keep = {
            "checkpoint": None if checkpoint is None else os.fspath(checkpoint),
            "every": float(checkpoint_every),
            "resume": bool(resume),
            "held_out": None if held_out is None else self._held_out(held_out, points),
            "audit": 0 if held_out is None else int(audit),
        }
        fit, exception = _entropysum.fit(points, settings, keep, self._callback(), e_step)
        if getattr(self, "verbose", 0) and sys.stderr.isatty():
            print(file=sys.stderr)
        self._take(fit.model)
        self.history_ = fit.history
        self.n_iter_ = int(self.history_["iteration"][-1]) if len(self.history_["iteration"]) else 0
        self.stop_reason_ = fit.stop_reason
        self.converged_ = fit.stop_reason == "converged"
        self.lower_bounds_ = self.history_["lower_bound"].tolist()
        self.lower_bound_ = self.lower_bounds_[-1] if self.lower_bounds_ else -np.inf
        self.entropy_sums_ = self.history_["entropy_sum"]
        self.floored_ = fit.floored
        self.warnings_ = [_in_python(text) for text in fit.warnings]
        self.notes_ = [_in_python(text) for text in fit.notes]
        if exception is not None:
            raise exception
        self._warn()
        return self

    def _held_out(self, held_out, points):
        """Return points that are held out, in the precision of those that the fit learns from."""
        if getattr(self, "batch_size", None) is None and getattr(self, "algorithm", None) not in ("stepwise", "incremental"):
            raise ValueError("held_out is for fits by minibatches: give batch_size, or compute score(held_out) after the fit")
        found = self._points(held_out)
        if isinstance(found["values"], np.ndarray) and isinstance(points["values"], np.ndarray):
            found["values"] = found["values"].astype(points["values"].dtype, copy=False)
        return found

    def _callback(self):
        callbacks = [self.callback] if getattr(self, "callback", None) is not None else []
        if getattr(self, "verbose", 0):
            callbacks.append(_progress(self.verbose))
        if not callbacks:
            return None
        return lambda record: any([callback(record) for callback in callbacks])

    def _warn(self):
        for text in self.warnings_:
            warnings.warn(text, FitWarning, stacklevel=self._STACKLEVEL)
        if self.stop_reason_ == "max_iter":
            text = f"no convergence after {self.n_iter_} iterations; increase max_iter or tol, or start elsewhere"
            warnings.warn(text, ConvergenceWarning, stacklevel=self._STACKLEVEL)

    def _take(self, model):
        """Set the attributes that follow from a model."""
        # Files tell their columns when they are read; arrays and frames have told theirs.
        if not hasattr(self, "n_features_in_"):
            self.n_features_in_ = model.dim
            if model.column_names is not None:
                self.feature_names_in_ = np.array(model.column_names, dtype=object)
                self._levels = model.level_names
        columns = _data.columns_of(self)
        self.model_ = model if columns is None or model.column_names is not None else model.with_columns(columns)
        self.parameters_ = model.arrays()
        for name, values in self.parameters_.items():
            if name.isidentifier():
                setattr(self, f"{name}_", values if values.ndim else float(values))

    # ------------------------------------------------------------------------------------------ use

    def score_samples(self, X):
        """Return the log-density of each point, in nats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points, of all kinds that ``fit`` takes.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Log-densities under the model.
        """
        return self.model_numbers("log_density", X)[:, 0]

    def model_numbers(self, numbers, X):
        """Return numbers of each point under the model.

        Parameters
        ----------
        numbers : {"log_density", "posterior", "state", "transform", "reconstruct"}
            The numbers.
        X : array-like of shape (n_samples, n_features)
            Points.

        Returns
        -------
        values : ndarray of shape (n_samples, width)
            A row for each point.
        """
        points = self._applied(X)
        return self.model_.per_point(numbers, points, self._threads())

    def _score(self, X, sample_weight=None):
        if isinstance(X, partitions.Partitions):
            check_is_fitted(self)
            return partitions.score(self, X)
        points = self._applied(X, sample_weight)
        return self.model_.score(points, self._threads())

    def score(self, X, y=None, sample_weight=None):
        """Return the mean log-density of points, in nats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.
        y : Ignored
            Not used, present for consistency with scikit-learn.
        sample_weight : array-like of shape (n_samples,), default=None
            Number of times that each point counts.

        Returns
        -------
        log_likelihood : float
            Mean log-density.
        """
        return self._score(X, sample_weight).log_likelihood

    def bic(self, X):
        """Return the Bayesian information criterion; lower is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.

        Returns
        -------
        bic : float
            ``-2 N l + p ln N``, with the mean log-density l and the number p of free parameters.
        """
        return self._score(X).bic

    def aic(self, X):
        """Return the Akaike information criterion; lower is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.

        Returns
        -------
        aic : float
            ``-2 N l + 2 p``.
        """
        return self._score(X).aic

    def icl(self, X):
        """Return the integrated completed likelihood; lower is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points.

        Returns
        -------
        icl : float
            The Bayesian criterion and twice the entropy of all posteriors.
        """
        return self._score(X).icl

    def _worker_copy(self):
        """Return a fitted copy for the processes where partitions lie: without history and callback."""
        kept = {"callback": None, "verbose": 0, "n_threads": self.n_threads or 1}
        known = {name for name in kept if name in self.get_params(deep=False)}
        copy = type(self)(**self.get_params(deep=False) | {name: kept[name] for name in known})
        copy._online = None
        for name in ("n_features_in_", "feature_names_in_", "_levels"):
            if hasattr(self, name):
                setattr(copy, name, getattr(self, name))
        copy._take(self.model_)
        return copy

    def _sample(self, n_samples):
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"n_samples is {n_samples}, expected at least 1")
        return self.model_.sample(int(n_samples), self._seed(), self._threads())

    # ------------------------------------------------------------------------------------------ files

    def save(self, path):
        """Save the model to a file that the command line and ``load`` read.

        Parameters
        ----------
        path : path-like
            The file: JSON if its name ends in ``.json``, else safetensors.
        """
        check_is_fitted(self)
        self.model_.save(os.fspath(path))

    @classmethod
    def _from_model(cls, model):
        estimator = cls(**cls._parameters_of(model))
        estimator._online = None
        estimator._take(model)
        return estimator

    @classmethod
    def load(cls, path):
        """Load a model that ``save`` or the command line wrote.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        estimator : object
            A fitted estimator of this class.
        """
        model = _entropysum.Model.load(os.fspath(path))
        if not cls._is_for(model.name):
            raise ValueError(f"{os.fspath(path)}: found {model.name}, which is no {cls.__name__}; entropysum.load takes any model")
        return cls._from_model(model)


class LatentsMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """``transform`` and ``reconstruct`` by latents."""

    @property
    def _n_features_out(self):
        return self.model_.n_latents

    def transform(self, X):
        """Return the posterior means of the latents.

        In a mixture each component has latents of its own: those of the most probable component are returned.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points, of all kinds that ``fit`` takes.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_latents)
            Means of the latents; for latents of zeros and ones the probabilities that they are 1.
        """
        return self.model_numbers("transform", X)

    def reconstruct(self, X):
        """Return what the model makes of points: their means given the latents.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points, of all kinds that ``fit`` takes.

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, n_features)
            Means of the points over the posterior of their latents.
        """
        return self.model_numbers("reconstruct", X)


class OnlineMixin:
    """``partial_fit`` by stepwise EM."""

    def partial_fit(self, X, y=None, sample_weight=None):
        """Do a step of stepwise EM on a batch of points.

        The first batch makes the start, and should have many points of each component; after ``fit``, steps go on from the fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The batch.
        y : Ignored
            Not used, present for consistency with scikit-learn.
        sample_weight : array-like of shape (n_samples,), default=None
            Number of times that each point counts.

        Returns
        -------
        self : object
            The estimator after the step.
        """
        if getattr(self, "covariance_prior", None) is not None:
            raise ValueError("covariance_prior counts against all points, which partial_fit does not know; use fit")
        points = self._points(X, sample_weight, reset=not hasattr(self, "model_"))
        if getattr(self, "_online", None) is None:
            model = getattr(self, "model_", None)
            if model is None:
                model = _entropysum.start(points, self._from_start(points, self._settings(X)))
            self._online = _entropysum.Online(model, points, getattr(self, "reg_covar", None))
        entropy_sum, lower_bound, _ = self._online.partial_fit(points, self._threads())
        self._take(self._online.model)
        self.n_iter_ = self._online.steps
        self.entropy_sum_, self.lower_bound_ = entropy_sum, lower_bound
        return self
