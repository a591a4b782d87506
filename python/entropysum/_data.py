"""Points of all kinds, as the extension module takes them."""

import os

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import _check_sample_weight, check_array, validate_data


def paths_of(X):
    """Return the paths that X names: a path or pattern, or a list of these; else None."""
    if isinstance(X, (str, os.PathLike)):
        return [os.fspath(X)]
    if isinstance(X, (list, tuple)) and X and all(isinstance(path, (str, os.PathLike)) for path in X):
        return [os.fspath(path) for path in X]
    return None


def _names(frame):
    names = getattr(frame, "column_names", None)
    return [str(name) for name in (names if names is not None else frame.columns)]


def _is_frame(X):
    return hasattr(X, "__getitem__") and (hasattr(X, "columns") or hasattr(X, "column_names")) and not hasattr(X, "dtype")


def _column(frame, index):
    """Return a column as an array, and its categories in their order if it has categories."""
    column = frame.iloc[:, index] if hasattr(frame, "iloc") else frame[_names(frame)[index]]
    categories = getattr(getattr(column, "dtype", None), "categories", None)
    if categories is not None:
        categories = [str(category) for category in categories]
    return np.asarray(column), categories


def _is_text(values):
    if values.dtype.kind in "US":
        return True
    return values.dtype.kind == "O" and any(isinstance(value, str) for value in values)


def _is_missing(value):
    return value is None or value != value or type(value).__name__ == "NAType"


def _codes(name, values, levels):
    """Return the index of each text among the levels; NaN where a value is missing."""
    index = {level: code for code, level in enumerate(levels)}
    codes = np.empty(len(values))
    for row, value in enumerate(values):
        if _is_missing(value):
            codes[row] = np.nan
        elif str(value) in index:
            codes[row] = index[str(value)]
        else:
            raise ValueError(f"column {name!r}: row {row}: {str(value)!r} is none of the levels of the fit: {list(levels)}")
    return codes


def _texts_to_codes(frame, levels):
    """Return a frame with texts as an array of numbers, its names and its levels.

    Levels are those of an earlier fit, or None: then they are the categories of a column, or its texts in their order.
    """
    names, columns, found = _names(frame), [], []
    for index, name in enumerate(names):
        values, categories = _column(frame, index)
        own = levels[index] if levels is not None else categories
        if own is None and _is_text(values):
            own = sorted({str(value) for value in values if not _is_missing(value)})
        found.append(list(own or []))
        columns.append(_codes(name, values, own) if own else np.asarray(values, dtype=np.float64))
    return np.column_stack(columns), names, found


def _has_texts(frame):
    columns = (_column(frame, index) for index in range(len(_names(frame))))
    return any(categories is not None or _is_text(values) for values, categories in columns)


def kinds_of(X):
    """Return the family of each column of a frame, as its type and its values suggest."""
    families = []
    for index in range(len(_names(X))):
        values, categories = _column(X, index)
        if categories is not None or _is_text(values):
            families.append("categorical")
        elif values.dtype.kind == "b":
            families.append("bernoulli")
        elif values.dtype.kind in "iu" and values.min(initial=0) >= 0:
            families.append("poisson")
        else:
            families.append("gaussian-diag")
    return families


def column_indices(columns, names):
    """Return columns as indices; they are given as indices or names."""
    if isinstance(columns, (str, int, np.integer)):
        columns = [columns]
    indices = []
    for column in columns:
        if isinstance(column, str):
            if names is None or column not in names:
                raise ValueError(f"family: {column!r} is no column of X, expected one of {names}")
            indices.append(names.index(column))
        else:
            indices.append(int(column))
    return indices


def _as_it_lies(X):
    """Return an array that can be borrowed as it lies in memory: the same one, save for rare layouts."""
    if X.flags.aligned and all(stride % X.itemsize == 0 for stride in X.strides):
        return X
    return np.array(X, copy=True)


def aligned(weights):
    """Return weights as they can be borrowed. What has come through a socket may not be aligned."""
    return np.require(weights, np.float64, ["C", "A"])


def points(estimator, X, sample_weight=None, *, reset, min_samples=1, sparse=False):
    """Return points for the extension module, checked as scikit-learn checks them."""
    missing = getattr(estimator, "missing", "error")
    if missing not in ("error", "ignore"):
        raise ValueError(f"missing is {missing!r}, expected 'error' or 'ignore'")
    found = {
        "name": "X",
        "values": None,
        "weights": None,
        "columns": None,
        "ignore_missing": missing == "ignore",
        "skip_bad_rows": getattr(estimator, "bad_rows", "error") == "skip",
    }
    files = paths_of(X)
    if files is not None:
        if estimator.dtype not in ("float64", "float32"):
            raise ValueError(f"dtype is {estimator.dtype!r}, expected 'float64' or 'float32'")
        found["values"] = (files, estimator.dtype == "float32")
        if reset:
            for name in ("n_features_in_", "feature_names_in_", "_levels"):
                vars(estimator).pop(name, None)
        if sample_weight is not None:
            found["weights"] = aligned(sample_weight)
        return found

    if hasattr(X, "__dlpack__") and not hasattr(X, "__array__"):
        X = np.from_dlpack(X)
    if isinstance(X, np.ndarray) and not X.dtype.isnative:
        X = X.astype(X.dtype.newbyteorder("="))
    levels = None if reset else getattr(estimator, "_levels", None)
    names = None
    if _is_frame(X) and (levels is not None and any(levels) or _has_texts(X)):
        if levels is not None and _names(X) != list(estimator.feature_names_in_):
            raise ValueError(f"found columns {_names(X)}, expected those of the fit: {list(estimator.feature_names_in_)}")
        X, names, levels = _texts_to_codes(X, levels)
    else:
        levels = None
    checks = {
        "dtype": [np.float64, np.float32],
        "ensure_min_samples": min_samples,
        "ensure_min_features": getattr(estimator, "_MIN_FEATURES", 1) if reset else 1,
        "ensure_all_finite": "allow-nan" if found["ignore_missing"] else True,
        "accept_sparse": "csr" if sparse else False,
        "reset": reset,
    }
    # scikit-learn warns of arrays without names after a fit with names; texts have become an array here.
    X = validate_data(estimator, X, **checks) if names is None else _checked_codes(estimator, X, names, checks)
    if reset:
        estimator._levels = levels
    if sample_weight is not None:
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        found["weights"] = aligned(weights)
    if issparse(X):
        indptr, indices = X.indptr.astype(np.int64), X.indices.astype(np.uint32)
        found["values"] = (indptr, indices, np.ascontiguousarray(X.data), X.shape[1])
    else:
        found["values"] = _as_it_lies(X)
    found["columns"] = columns_of(estimator)
    return found


def _checked_codes(estimator, X, names, checks):
    checks = {key: value for key, value in checks.items() if key != "reset"} | {"estimator": estimator}
    try:
        X = check_array(X, **checks)
    except ValueError as fault:
        raise ValueError(f"{fault}\nColumns of texts count as numbers here: a missing text is NaN.") from None
    estimator.feature_names_in_ = np.array(names, dtype=object)
    estimator.n_features_in_ = X.shape[1]
    return X


def columns_of(estimator):
    """Return the names of the dimensions and of their levels, if the estimator was fitted to a frame."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return None
    levels = getattr(estimator, "_levels", None) or [[] for _ in names]
    return {"names": [str(name) for name in names], "levels": levels}
