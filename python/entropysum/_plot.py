"""Pictures of fits, with matplotlib, which is optional."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from . import _data

#: Points of a picture at most: more hide each other.
_SHOWN = 5000

#: Standard deviations of the ellipses.
_LEVELS = (1.0, 2.0)


def _axes(ax):
    try:
        import matplotlib.pyplot
    except ImportError as fault:
        raise ImportError("plots need matplotlib: pip install matplotlib") from fault
    return ax if ax is not None else matplotlib.pyplot.subplots()[1]


def _covariance(estimator, component, dims):
    """Return the covariance of a component in two dimensions, or None if the family has no covariance."""
    if hasattr(estimator, "covariances_"):
        name, values = estimator.model_.name, np.asarray(estimator.covariances_)
        values = values if "tied" in name else values[component]
        if name.endswith(("full", "tied")):
            return values[np.ix_(dims, dims)]
        return np.diag(np.broadcast_to(values, (estimator.n_features_in_,))[list(dims)])
    if hasattr(estimator, "loadings_") and estimator.loadings_.ndim == 3:
        loadings = estimator.loadings_[component][list(dims)]
        noise = np.atleast_2d(estimator.noise_variances_)
        return loadings @ loadings.T + np.diag(noise[component if len(noise) > 1 else 0][list(dims)])
    return None


def convergence(estimator, ax=None):
    """Draw entropy sum, lower bound and log-likelihood of each iteration."""
    ax, history = _axes(ax), estimator.history_
    iterations = history["iteration"]
    ax.plot(iterations, history["log_likelihood"], color="0.6", label="log-likelihood before the M-step")
    ax.plot(iterations, history["lower_bound"], color="tab:orange", linewidth=4, alpha=0.5, label="lower bound")
    ax.plot(iterations, history["entropy_sum"], color="tab:blue", linestyle="--", label="entropy sum")
    ax.set_xlabel("iteration")
    ax.set_ylabel("nats per point")
    ax.set_title(f"{estimator.model_.name}: {estimator.stop_reason_} after {estimator.n_iter_} iterations")
    ax.legend(loc="lower right")
    return ax


def clusters(estimator, X, dims=(0, 1), ax=None):
    """Draw points in the colours of their components, with an ellipse for each Gaussian."""
    from matplotlib import colormaps
    from matplotlib.patches import Ellipse

    ax = _axes(ax)
    names = getattr(estimator, "feature_names_in_", None)
    shown = np.asarray(X, dtype=float)
    if shown.ndim != 2 or shown.shape[1] < 2:
        raise ValueError("clusters are drawn in two dimensions, and X has fewer")
    # Every so many points, so that the picture is the same each time.
    step = -(-len(shown) // _SHOWN)
    shown, labels = shown[::step], estimator.predict(X)[::step]
    palette = colormaps["tab10" if estimator.model_.n_components <= 10 else "tab20"]
    ax.scatter(shown[:, dims[0]], shown[:, dims[1]], c=[palette(label % palette.N) for label in labels], s=6, alpha=0.6, linewidths=0)
    for component in range(estimator.model_.n_components):
        covariance = _covariance(estimator, component, dims)
        if covariance is None:
            break
        variances, axes = np.linalg.eigh(covariance)
        angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
        for level in _LEVELS:
            width, height = 2 * level * np.sqrt(variances[::-1])
            centre = estimator.means_[component][list(dims)]
            colour = palette(component % palette.N)
            ax.add_patch(Ellipse(centre, width, height, angle=angle, fill=False, edgecolor=colour, linewidth=1.5))
    for set_label, dim in [(ax.set_xlabel, dims[0]), (ax.set_ylabel, dims[1])]:
        set_label(f"dimension {dim}" if names is None else names[dim])
    ax.set_title(f"{estimator.model_.name}, {estimator.model_.n_components} components")
    return ax


def plot_selection(estimators, X, criteria=("bic", "aic", "icl"), ax=None):
    """Draw information criteria of fitted models of several sizes.

    A circle marks the best model of each criterion. Crosses mark fits with components at a floor, which cannot be the best: the floor
    holds up their likelihood.

    Parameters
    ----------
    estimators : list of estimators
        Fitted estimators.
    X : array-like of shape (n_samples, n_features)
        The points that they were fitted to.
    criteria : sequence of {"bic", "aic", "icl"}, default=("bic", "aic", "icl")
        The criteria; lower is better.
    ax : matplotlib axes, default=None
        Where to draw; new axes by default.

    Returns
    -------
    ax : matplotlib axes
        The picture.
    """
    ax = _axes(ax)
    sizes = np.array([estimator.n_components for estimator in estimators])
    degenerate = np.array([bool(estimator.floored_) for estimator in estimators])
    for criterion in criteria:
        values = np.array([getattr(estimator, criterion)(X) for estimator in estimators])
        (line,) = ax.plot(sizes, values, marker=".", label=criterion.upper())
        if degenerate.any():
            ax.plot(sizes[degenerate], values[degenerate], "x", color=line.get_color())
        if not degenerate.all():
            best = int(np.argmin(np.where(degenerate, np.inf, values)))
            ax.plot(sizes[best], values[best], marker="o", markersize=10, fillstyle="none", color=line.get_color())
    ax.set_xlabel("components")
    ax.set_ylabel("criterion (lower is better)")
    ax.legend()
    return ax


class PlotMixin:
    """``plot``."""

    def plot(self, X=None, *, dims=(0, 1), ax=None):
        """Draw how the fit went, or its clusters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), default=None
            Points, to be drawn in the colours of their components, with ellipses of Gaussian components at one and two standard
            deviations. By default entropy sum, bound and log-likelihood of each iteration are drawn.
        dims : pair of int, default=(0, 1)
            The dimensions to draw.
        ax : matplotlib axes, default=None
            Where to draw; new axes by default.

        Returns
        -------
        ax : matplotlib axes
            The picture.
        """
        check_is_fitted(self)
        if X is None:
            return convergence(self, ax)
        if _data.paths_of(X) is not None:
            raise ValueError("X is a file, expected points in memory; a sample of them is enough for a picture")
        if self.model_.n_components == 0:
            raise ValueError(f"{self.model_.name} has no components to colour points by")
        return clusters(self, X, dims, ax)
