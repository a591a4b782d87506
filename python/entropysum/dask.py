"""Mixtures that learn from Dask: arrays, data frames and lists of files, on the workers of a cluster.

The estimators have the parameters and attributes of those of ``entropysum``. Bits do not depend on the number of workers, on the
order in which these finish, or on workers that are lost. ``docs/clusters.md`` in the repository has the details.
"""

import glob

import numpy as np
from sklearn.utils.validation import check_is_fitted

import entropysum

from . import _data
from .partitions import BRANCHES, Partitions, add_up

try:
    import dask
    from dask import delayed
    from dask.base import is_dask_collection
except ImportError as fault:
    raise ImportError("entropysum.dask needs Dask: pip install 'entropysum[dask]'") from fault

__all__ = ["DaskPartitions", "GaussianMixture", "Mixture", "MixtureOfFactorAnalyzers", "SigmoidBeliefNet"]


def _identity(value):
    return value


def _sent(value):
    """Return a value as a task: it goes to workers once each, and outlives the worker that has it."""
    return delayed(_identity, pure=False)(value)


def _weighted(X, weights):
    return X, weights


def _group(*results):
    return add_up(results)


class DaskPartitions(Partitions):
    """Points in partitions on the workers of a Dask cluster.

    Parameters
    ----------
    X : dask array, dask data frame, path or list of paths
        Points: a partition is a chunk of rows, a partition of the frame, or a file. Columns of an array are brought together. A path
        may be a pattern.
    sample_weight : dask array or series, or array-like of shape (n_samples,), default=None
        Number of times that each point counts, in the same partitions. An array in memory is for dask arrays whose chunks are known.
    """

    def __init__(self, X, sample_weight=None):
        paths = _data.paths_of(X)
        if paths is not None:
            # A pattern without a match may have some where the workers are.
            found = [path for pattern in paths for path in sorted(glob.glob(pattern)) or [pattern]]
            parts = [_sent([path]) for path in found]
        else:
            parts = _delayed(X)
        if sample_weight is not None:
            weights = _delayed_weights(X, sample_weight)
            if len(weights) != len(parts):
                raise ValueError(f"sample_weight has {len(weights)} partitions, expected {len(parts)}, those of X")
            parts = [delayed(_weighted, pure=False)(*pair) for pair in zip(parts, weights, strict=True)]
        self.parts = parts

    @classmethod
    def _of(cls, parts):
        partitions = cls.__new__(cls)
        partitions.parts = parts
        return partitions

    def _tasks(self, function, argument):
        task, argument = delayed(function, pure=False), _sent(argument)
        return [task(index, part, argument) for index, part in enumerate(self.parts)]

    def map(self, function, argument):
        return list(dask.compute(*self._tasks(function, argument)))

    def sum(self, function, argument):
        tasks, group = self._tasks(function, argument), delayed(_group, pure=False)
        while len(tasks) > 1:
            tasks = [group(*tasks[start : start + BRANCHES]) for start in range(0, len(tasks), BRANCHES)]
        return dask.compute(*tasks)[0]

    def held(self, function, argument):
        return self._of(list(dask.persist(*self._tasks(function, argument))))


def _delayed(X):
    """Return the partitions of an array or frame, each as a delayed value."""
    if hasattr(X, "chunks"):
        if X.ndim != 2:
            raise ValueError(f"found an array of {X.ndim} dimension(s), expected 2: a row for each point")
        return list(_rows_of(X).to_delayed().ravel())
    return list(X.to_delayed())


def _rows_of(X):
    return X if len(X.chunks[1]) == 1 else X.rechunk({1: -1})


def _delayed_weights(X, weights):
    if is_dask_collection(weights):
        if hasattr(X, "chunks") and hasattr(weights, "chunks") and weights.chunks != X.chunks[:1]:
            weights = weights.rechunk(X.chunks[:1])
        return list(np.ravel(weights.to_delayed()))
    if hasattr(X, "chunks") and not np.isnan(X.chunks[0]).any():
        weights = np.asarray(weights)
        if weights.shape != X.shape[:1]:
            raise ValueError(f"sample_weight has shape {weights.shape}, expected {X.shape[:1]}")
        return [delayed(part) for part in np.split(weights, np.cumsum(X.chunks[0])[:-1])]
    raise ValueError("sample_weight is an array in memory, expected one of Dask, in the partitions of X")


def _is_elsewhere(X):
    return is_dask_collection(X) or _data.paths_of(X) is not None


def _apply(partition, estimator, method, arguments, width):
    """Return what a method of a fitted estimator makes of a partition."""
    if len(partition) == 0:
        return np.empty((0, width)) if width is not None else np.empty(0, dtype=np.int64)
    return getattr(estimator, method)(*arguments, partition)


class _OnDask:
    """Points of Dask for an estimator; all other points go the way of the estimator in memory."""

    _STACKLEVEL = 4

    def fit(
        self, X, y=None, sample_weight=None, *, checkpoint=None, checkpoint_every=60.0, resume=False, held_out=None, audit=5
    ):
        """Learn the model from points on a cluster.

        Parameters
        ----------
        X : dask array, dask data frame, path or list of paths, or points in memory
            Points. Those of arrays and frames are persisted while the fit lasts: in memory, and on the disks of the workers where that
            is full. Files are read by the workers in each iteration, a partition a file. Points in memory are learned from here.
        y : Ignored
            Not used, present for consistency with scikit-learn.
        sample_weight : dask array or series, or array-like of shape (n_samples,), default=None
            Number of times that each point counts, in the partitions of X.
        checkpoint, checkpoint_every, resume, held_out, audit
            As for estimators in memory. The checkpoint is a file of the process that calls ``fit``.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if _is_elsewhere(X):
            X, sample_weight = DaskPartitions(X, sample_weight), None
        return super().fit(
            X,
            y,
            sample_weight,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
            held_out=held_out,
            audit=audit,
        )

    def partial_fit(self, X, y=None, sample_weight=None):
        """Do a step of stepwise EM on a batch of points in memory."""
        if is_dask_collection(X):
            raise ValueError("partial_fit takes a batch in memory: call it with X.compute(), or fit with X")
        return super().partial_fit(X, y, sample_weight)

    def local(self):
        """Return the same fitted estimator without Dask.

        Returns
        -------
        estimator : object
            The estimator of ``entropysum`` with the same parameters and attributes.
        """
        estimator = self._local(**self.get_params(deep=False))
        vars(estimator).update(vars(self))
        return estimator

    def _worker_copy(self):
        copy = super()._worker_copy()
        return copy.local() if isinstance(copy, _OnDask) else copy

    def _lazily(self, X, method, arguments=(), width=None):
        """Return what a method makes of each partition, as a dask array."""
        import dask.array as da

        check_is_fitted(self)
        estimator = self._worker_copy()
        dtype, meta = (np.int64, (0,)) if width is None else (np.float64, (0, 0))
        if hasattr(X, "chunks"):
            X = _rows_of(X)
            shape = {"drop_axis": 1} if width is None else {"chunks": (X.chunks[0], (width,))}
            return X.map_blocks(_apply, estimator, method, arguments, width, dtype=dtype, meta=np.empty(meta, dtype), **shape)
        task, estimator = delayed(_apply, pure=False), _sent(estimator)
        parts = [task(part, estimator, method, arguments, width) for part in DaskPartitions(X).parts]
        shape = (np.nan,) if width is None else (np.nan, width)
        arrays = [da.from_delayed(part, shape, dtype, meta=np.empty(meta, dtype)) for part in parts]
        return da.concatenate(arrays, allow_unknown_chunksizes=True)

    def predict(self, X):
        """Return the most probable component of each point.

        Parameters
        ----------
        X : dask array, dask data frame, path or list of paths, or points in memory
            Points.

        Returns
        -------
        labels : dask array of shape (n_samples,)
            Components, from 0, computed when they are asked for. For points in memory an array in memory.
        """
        return self._lazily(X, "predict") if _is_elsewhere(X) else super().predict(X)

    def model_numbers(self, numbers, X):
        """Return numbers of each point under the model: a dask array for points of Dask."""
        if not _is_elsewhere(X):
            return super().model_numbers(numbers, X)
        check_is_fitted(self)
        model = self.model_
        widths = {"log_density": 1, "posterior": model.n_components, "reconstruct": model.dim}
        return self._lazily(X, "model_numbers", (numbers,), widths.get(numbers, model.n_latents))

    def _score(self, X, sample_weight=None):
        if _is_elsewhere(X):
            X, sample_weight = DaskPartitions(X, sample_weight), None
        return super()._score(X, sample_weight)


def _on_dask(local):
    """Return an estimator as it is on Dask."""
    doc = f"{local.__name__} of ``entropysum`` that also learns from Dask: arrays, data frames and lists of files.\n\n"
    doc += f"    Parameters and attributes are those of :class:`entropysum.{local.__name__}`. Dask arrays give dask arrays.\n    "
    doc += "Fits are by batch EM with exact or hard posteriors. ``n_threads`` is the number of threads of a task, 1 by default."
    return type(local.__name__, (_OnDask, local), {"__doc__": doc, "__module__": __name__, "_local": local})


GaussianMixture = _on_dask(entropysum.GaussianMixture)
Mixture = _on_dask(entropysum.Mixture)
MixtureOfFactorAnalyzers = _on_dask(entropysum.MixtureOfFactorAnalyzers)
SigmoidBeliefNet = _on_dask(entropysum.SigmoidBeliefNet)
