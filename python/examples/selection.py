"""Choose the number of components and the structure of covariances, by criteria and by scikit-learn's search."""

import sys
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV

from entropysum import FitWarning, GaussianMixture, plot_selection

X = np.loadtxt(Path(__file__).parents[2] / "data" / "geyser.csv", delimiter=",", skiprows=1)
warnings.simplefilter("ignore", FitWarning)
mixtures = [GaussianMixture(k, n_init=5, random_state=0).fit(X) for k in range(1, 7)]
# Many eruptions last exactly 2 or 4 minutes. A component that settles on such ties has no maximum of the likelihood.
best = min((mixture for mixture in mixtures if not mixture.floored_), key=lambda mixture: mixture.bic(X))
print(f"BIC chooses {best.n_components} components")

figure, axes = plt.subplots(1, 2, figsize=(11, 4))
plot_selection(mixtures, X, ax=axes[0])
best.plot(X, ax=axes[1])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "selection.png", dpi=100)

grid = {"n_components": range(1, 5), "covariance_type": ["full", "tied", "diag", "spherical"]}
search = GridSearchCV(GaussianMixture(random_state=0), grid, cv=5).fit(X)
print(f"five-fold cross-validation chooses {search.best_params_}")
assert 2 <= best.n_components <= 4
assert search.best_score_ > -5.0
