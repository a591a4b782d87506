"""Mixture and latent-variable models for millions of points, with the interface of scikit-learn.

Models are learned by fast EM, and watched by entropy sums: the lower bound of the log-likelihood without another pass over the
points.
"""

import os

from ._autoencoder import BinarySparseCoding, SparseCoding, VariationalAutoencoder
from ._base import FitWarning
from ._entropysum import Model, __version__, families, known_parameters
from ._latent import PPCA, FactorAnalysis, SigmoidBeliefNet
from ._mixture import GaussianMixture, Mixture, MixtureOfFactorAnalyzers
from ._plot import plot_selection

__all__ = [
    "BinarySparseCoding",
    "FactorAnalysis",
    "FitWarning",
    "GaussianMixture",
    "Mixture",
    "MixtureOfFactorAnalyzers",
    "Model",
    "PPCA",
    "SigmoidBeliefNet",
    "SparseCoding",
    "VariationalAutoencoder",
    "__version__",
    "families",
    "known_parameters",
    "load",
    "plot_selection",
]

_ESTIMATORS = [
    GaussianMixture,
    MixtureOfFactorAnalyzers,
    PPCA,
    FactorAnalysis,
    SigmoidBeliefNet,
    VariationalAutoencoder,
    SparseCoding,
    BinarySparseCoding,
    Mixture,
]


def load(path):
    """Load a model that an estimator or the command line saved.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    estimator : object
        A fitted estimator of the class that the model is for.
    """
    model = Model.load(os.fspath(path))
    kinds = [kind for kind in _ESTIMATORS if kind._is_for(model.name)]
    if not kinds:
        raise ValueError(f"{os.fspath(path)}: found {model.name}, which has no estimator; the command line applies it")
    return kinds[0]._from_model(model)
