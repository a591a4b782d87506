"""Points that lie in partitions elsewhere: on the workers of a cluster, in a database, in other processes.

Estimators learn from :class:`Partitions` as they learn from an array. ``entropysum.dask`` has them for Dask; the examples in
``python/examples/clusters/`` have them for Ray and for Spark.
"""

import functools

import numpy as np

from . import _data, _entropysum
from ._entropysum import Statistics

__all__ = ["Partitions", "Statistics"]

#: Results that a task adds up at once: as many pairs of pairs as make few tasks.
BRANCHES = 8

#: Parameters of a family that all points tell together.
_TOLD = ("levels", "total")


class Partitions:
    """Base class of points that lie in partitions elsewhere.

    A subclass says how a function is applied to each partition where it lies. ``fit``, ``score``, ``bic``, ``aic`` and ``icl`` of
    mixtures take an object of such a class as ``X``. In each iteration parameters go to the partitions, and statistics come back.
    Neither grows with the number of points.

    A partition is points of any kind that ``fit`` takes: an array, a data frame, a list of paths. With sample weights it is a tuple
    of points and weights. It may be empty.

    Examples
    --------
    >>> import numpy as np
    >>> from entropysum import GaussianMixture
    >>> from entropysum.partitions import Partitions
    >>> class InTurn(Partitions):
    ...     def __init__(self, arrays):
    ...         self.arrays = arrays
    ...
    ...     def map(self, function, argument):
    ...         return [function(index, array, argument) for index, array in enumerate(self.arrays)]
    >>> X = np.random.default_rng(0).normal(size=(400, 2)) + np.repeat([[-4.0, 0.0], [4.0, 0.0]], 200, axis=0)
    >>> mixture = GaussianMixture(2, random_state=0).fit(InTurn([X[:150], X[150:]]))
    >>> sorted(mixture.means_[:, 0].round().tolist())
    [-4.0, 4.0]
    """

    def map(self, function, argument):
        """Apply a function to each partition.

        Parameters
        ----------
        function : callable
            Called as ``function(index, partition, argument)``. It can be pickled, and changes nothing.
        argument : object
            The same for all partitions. It can be pickled.

        Returns
        -------
        results : list
            A result for each partition, in their order.
        """
        raise NotImplementedError("a subclass of Partitions says how a function is applied to each partition")

    def sum(self, function, argument):
        """Apply a function to each partition, and add up the results by :func:`add_up`.

        A subclass can add up groups of :data:`BRANCHES` neighbours, and groups of these, by :func:`add_up` where they lie.

        Parameters
        ----------
        function, argument : callable, object
            As for ``map``.

        Returns
        -------
        total : object
            The sum.
        """
        return add_up(self.map(function, argument))

    def held(self, function, argument):
        """Replace each partition by the result of a function. A subclass can compute these once, and keep them where they lie.

        Parameters
        ----------
        function, argument : callable, object
            As for ``map``.

        Returns
        -------
        partitions : Partitions
            The results as partitions. By default they are computed whenever they are needed.
        """
        return _Composed(self, function, argument)


class _Composed(Partitions):
    def __init__(self, partitions, function, argument):
        self._partitions, self._function, self._argument = partitions, function, argument

    def map(self, function, argument):
        return self._partitions.map(_composed, (self._function, self._argument, function, argument))

    def sum(self, function, argument):
        return self._partitions.sum(_composed, (self._function, self._argument, function, argument))


def _composed(index, partition, argument):
    first, own, then, others = argument
    return then(index, first(index, partition, own), others)


class _Fault:
    """An error in a partition; that of the first partition is raised, whichever was found first."""

    def __init__(self, index, exception):
        self.index, self.exception = index, exception


def _checked(results):
    for result in results:
        if isinstance(result, _Fault):
            raise result.exception
    return results


def _add(one, other):
    if isinstance(one, _Fault) or other is None:
        return one
    return other if isinstance(other, _Fault) or one is None else one + other


def add_up(results):
    """Add up results of partitions in pairs of neighbours, then in pairs of pairs.

    The order of additions depends on the number of results alone, so that the sum has the same bits wherever it is made.

    Parameters
    ----------
    results : list
        Results of successive partitions, or sums of groups of 2, 4, 8, ... of these.

    Returns
    -------
    total : object
        The sum.
    """
    results = list(results)
    while len(results) > 1:
        pairs = zip(results[::2], results[1::2], strict=False)
        results = [_add(one, other) for one, other in pairs] + ([results[-1]] if len(results) % 2 else [])
    return results[0]


def _caught(function):
    """Return faults of points as results: a cluster would try again, and raise whichever comes first."""

    @functools.wraps(function)
    def caught(index, partition, argument):
        try:
            return partition if isinstance(partition, _Fault) else function(index, partition, argument)
        except (ValueError, OSError) as fault:
            return _Fault(index, fault)

    return caught


# ---------------------------------------------------------------------------------------------- where partitions lie


def _pair(partition):
    return partition if isinstance(partition, tuple) else (partition, None)


def _keep(_index, partition, _argument):
    return partition


def _files(index, paths, common):
    """Return points of files for the extension module."""
    return _points(index, (paths, common["is_single"]), None, common)


def _points(index, values, weights, common):
    return {
        "name": f"partition {index}",
        "values": values,
        "weights": weights,
        "columns": common["columns"],
        "ignore_missing": common["ignore_missing"],
        "skip_bad_rows": common["skip_bad_rows"],
    }


@_caught
def _look(index, partition, common):
    """Return what the client must know of a partition."""
    X, weights = _pair(partition)
    found = {"weights": None, "names": None, "levels": None}
    paths = _data.paths_of(X)
    if paths is not None:
        if weights is not None:
            raise ValueError(f"partition {index}: found weights of files, expected arrays or frames with weights")
        points = _files(index, paths, common)
        rows, columns, names, has_levels = _entropysum.shape_of_files(points, common["model"])
        if has_levels:
            raise ValueError(f"{paths[0]}: found columns of texts, whose levels may differ between files; use data frames")
        return found | {"rows": rows, "columns": columns, "dtype": "float32" if common["is_single"] else "float64", "names": names}
    if _data._is_frame(X):
        names = _data._names(X)
        columns = [_data._column(X, index) for index in range(len(names))]
        found |= {"names": names, "levels": [_levels(values, categories) for values, categories in columns]}
        rows, dtypes = len(X), [values.dtype for values, _ in columns]
    else:
        X = np.asarray(X)
        if X.ndim != 2:
            raise ValueError(f"partition {index}: found an array of {X.ndim} dimension(s), expected 2: a row for each point")
        rows, names, dtypes = len(X), [None] * X.shape[1], [X.dtype]
    is_single = bool(dtypes) and all(dtype == np.float32 for dtype in dtypes)
    if weights is not None:
        weights = _weights(index, weights, rows)
    return found | {
        "rows": rows,
        "columns": len(names),
        "dtype": "float32" if is_single else "float64",
        "weights": weights,
    }


def _weights(index, weights, rows):
    weights = _data.aligned(weights)
    if weights.shape != (rows,):
        raise ValueError(f"partition {index}: found weights of shape {weights.shape}, expected ({rows},)")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        value = weights[bad[0]]
        raise ValueError(f"partition {index}: row {bad[0]}: found the weight {value}, expected a finite number of at least 0")
    return weights


def _levels(values, categories):
    """Return the levels of a column: its categories, or a set of its texts; None for numbers."""
    if categories is not None:
        return categories
    if _data._is_text(values):
        return {str(value) for value in values if not _data._is_missing(value)}
    return None


@_caught
def _prepare(index, partition, common):
    """Return points for the extension module."""
    X, weights = _pair(partition)
    paths = _data.paths_of(X)
    if paths is not None:
        points = _files(index, paths, common)
        if all(path.endswith(".npy") for path in paths):
            return points
        # Other formats are unpacked when they are opened, which would be in each iteration.
        values = _entropysum.rows_of_files(points, common["model"]).astype(common["dtype"], copy=False)
        return points | {"name": paths[0], "values": values}
    try:
        if _data._is_frame(X) and any(common["columns"]["levels"]):
            X = _data._texts_to_codes(X, [levels or None for levels in common["columns"]["levels"]])[0]
        values = np.asarray(X, dtype=common["dtype"])
    except ValueError as fault:
        raise ValueError(f"partition {index}: {fault}") from None
    return _points(index, _data._as_it_lies(values), None if weights is None else _weights(index, weights, len(values)), common)


def _aligned(points):
    """Return the points as they can be borrowed: arrays that have travelled may not be aligned."""
    values, weights = points["values"], points["weights"]
    if isinstance(values, np.ndarray):
        values = _data._as_it_lies(values)
    if weights is not None:
        weights = _data.aligned(weights)
        if not weights.any():
            # Points without weight are refused where they are all points; here they are a part.
            values, weights = values[:0], None
    return points | {"values": values, "weights": weights}


@_caught
def _rows(index, points, argument):
    """Return the points of this partition among some rows of all points."""
    rows, starts, model = argument
    start, end = starts[index], starts[index + 1]
    own = rows[(rows >= start) & (rows < end)] - start
    if isinstance(points["values"], np.ndarray):
        return points["values"][own.astype(np.int64)]
    values = _entropysum.rows_of_files(points, model, own)
    return values.astype(np.float32) if points["values"][1] else values


@_caught
def _tells(_index, points, settings):
    return _entropysum.tells(_aligned(points), settings)


@_caught
def _e_step(_index, points, argument):
    parameters, n_points, threads = argument
    return _entropysum.e_step(_aligned(points), parameters, n_points, threads)


@_caught
def _score(index, partition, estimator):
    X, weights = _pair(partition)
    if _data.paths_of(X) is None:
        if len(X) == 0 or weights is not None and not np.any(_weights(index, weights, len(X))):
            return None
    try:
        return estimator._score(X, weights)
    except ValueError as fault:
        raise ValueError(f"partition {index}: {fault}") from None


# ---------------------------------------------------------------------------------------------- on the client


def _columns(looks):
    """Return names and levels of the dimensions, if partitions have names: those of the first, and all texts."""
    names = looks[0]["names"]
    for index, look in enumerate(looks):
        if look["columns"] != looks[0]["columns"]:
            raise ValueError(f"partition {index}: found {look['columns']} columns, expected {looks[0]['columns']}, as in partition 0")
        if look["names"] != names:
            raise ValueError(f"partition {index}: found columns {look['names']}, expected {names}, as in partition 0")
    if names is None:
        return None
    levels = []
    for column, name in enumerate(names):
        own = [look["levels"][column] for look in looks if look["rows"] and look["levels"]]
        if all(found is None for found in own):
            levels.append([])
        elif all(isinstance(found, set) for found in own):
            levels.append(sorted(set().union(*own)))
        elif all(found == own[0] for found in own):
            levels.append(own[0])
        else:
            raise ValueError(f"column {name!r}: found other categories, or texts in some partitions only; give it the same categories")
    return {"names": names, "levels": levels}


def _known(estimator, prepared, settings):
    """Return what is known of the family, and what all points tell together."""
    families = [block.split(":")[0].strip() for block in settings["model"].split(",")]
    keys = {key for family in families if family in _entropysum.families() for key in _entropysum.known_parameters(family)}
    if "labels" in keys:
        raise ValueError("component labels are for points in memory or files: partitions have none")
    if all(key in settings["known"] for key in keys.intersection(_TOLD)):
        return settings["known"]
    told = _checked(prepared.map(_tells, settings))
    return {key: np.max([own[key] for own in told if key in own], axis=0).tolist() for key in told[0]}


def begin(estimator, partitions):
    """Look at partitions for a fit.

    Returns the points that a fit looks at as an excerpt, its settings without a start, and the function that takes E-steps.
    """
    missing = getattr(estimator, "missing", "error")
    if missing not in ("error", "ignore"):
        raise ValueError(f"missing is {missing!r}, expected 'error' or 'ignore'")
    if getattr(estimator, "bad_rows", "error") != "error":
        raise ValueError("bad_rows='skip' is for points in memory or files; drop such rows from the partitions")
    if estimator.dtype not in ("float64", "float32"):
        raise ValueError(f"dtype is {estimator.dtype!r}, expected 'float64' or 'float32'")
    for name in ("n_features_in_", "feature_names_in_", "_levels"):
        vars(estimator).pop(name, None)
    family = getattr(estimator, "family", None)
    common = {
        "is_single": estimator.dtype == "float32",
        "columns": None,
        "ignore_missing": missing == "ignore",
        "skip_bad_rows": False,
        # Columns of files that mixed families name.
        "model": family if isinstance(family, str) or family is None else estimator._model_name([""]),
    }
    common["model"] = common["model"] or ""
    held = partitions.held(_keep, None)
    looks = _checked(held.map(_look, common))
    if not looks:
        raise ValueError("found no partitions, expected at least 1")
    common["columns"] = _columns(looks)
    # Empty partitions may have any type.
    dtypes = {look["dtype"] for look in looks if look["rows"]}
    common["dtype"] = "float32" if dtypes == {"float32"} else "float64"
    dim = looks[0]["columns"]
    at_least = getattr(estimator, "_MIN_FEATURES", 1)
    if dim < at_least:
        raise ValueError(f"found {dim} feature(s), expected at least {at_least}")
    estimator.n_features_in_ = dim
    if common["columns"] is not None:
        estimator.feature_names_in_ = np.array(common["columns"]["names"], dtype=object)
        estimator._levels = common["columns"]["levels"] if any(common["columns"]["levels"]) else None

    prepared = held.held(_prepare, common)
    del held
    settings = estimator._settings(partitions)
    settings["known"] = _known(estimator, prepared, settings)
    weights = [look["weights"] for look in looks]
    if any(own is None for own in weights) != all(own is None for own in weights):
        raise ValueError("found weights in some partitions only, expected them in all or none")
    starts = np.concatenate([[0], np.cumsum([look["rows"] for look in looks])]).astype(np.uint64)
    points = _points(0, None, None if weights[0] is None else np.concatenate(weights), common)
    points["name"] = "X"
    lengths = [(f"partition {index}", look["rows"]) for index, look in enumerate(looks)]

    def excerpt(rows, values):
        return points | {"values": (rows, np.ascontiguousarray(values, dtype=common["dtype"]), lengths)}

    warm = {"start": estimator.model_} if estimator.warm_start and hasattr(estimator, "model_") else {}
    rows = _entropysum.rows_looked_at(excerpt(np.empty(0, np.uint64), np.empty((0, dim))), settings | warm)
    values = _checked(prepared.map(_rows, (rows, starts, common["model"])))
    points = excerpt(rows, np.concatenate([own for own in values if len(own)] or [np.empty((0, dim))]))
    n_points, threads = int(starts[-1]), estimator.n_threads or 1

    def e_step(parameters):
        total = prepared.sum(_e_step, (parameters, n_points, threads))
        return _checked([total])[0]

    return points, settings, e_step


def score(estimator, partitions):
    """Return the score of all points."""
    total = partitions.sum(_score, estimator._worker_copy())
    if total is None:
        raise ValueError("found no points of positive weight, expected at least 1")
    return _checked([total])[0]
