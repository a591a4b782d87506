"""Compare the entropy sum with the lower bound that a pass over all points computes: they are equal after each iteration."""

import sys
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from entropysum import GaussianMixture, Mixture

warnings.simplefilter("ignore", ConvergenceWarning)


def lower_bound(q, X, mixture):
    """F(q, Theta) by its definition: a pass over points and components."""
    joint = np.log(np.maximum(mixture.predict_proba(X), 1e-300)) + mixture.score_samples(X)[:, None]
    entropy = -(q * np.log(np.maximum(q, 1e-300))).sum(axis=1)
    return ((q * joint).sum(axis=1) + entropy).mean()


data = Path(__file__).parents[2] / "data"
visits = np.load(data / "doctor_visits.npy")[:, :1].astype(float)
eruptions = np.loadtxt(data / "geyser.csv", delimiter=",", skiprows=1)

figure, axes = plt.subplots(1, 2, figsize=(11, 4))
for ax, X, mixture in [
    (axes[0], eruptions, GaussianMixture(3, random_state=0, warm_start=True, max_iter=1, tol=0.0)),
    (axes[1], visits, Mixture(3, family="poisson", random_state=0, warm_start=True, max_iter=1, tol=0.0)),
]:
    mixture.fit(X)
    bounds, sums = [], []
    for _ in range(15):
        q = mixture.predict_proba(X)
        mixture.fit(X)
        bounds.append(lower_bound(q, X, mixture))
        sums.append(mixture.entropy_sums_[-1])
    difference = np.abs(np.subtract(bounds, sums)).max()
    print(f"{mixture.model_.name}: the entropy sum and the bound by all points differ by {difference:.1e} at most")
    assert difference < 1e-9
    ax.plot(bounds, color="tab:orange", linewidth=5, alpha=0.5, label="lower bound, by a pass over all points")
    ax.plot(sums, color="tab:blue", linestyle="--", label="entropy sum, by parameters and posterior entropy")
    ax.set_title(mixture.model_.name)
    ax.set_xlabel("iteration")
    ax.set_ylabel("nats per point")
    ax.legend()
figure.tight_layout()
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "entropy_sum.png", dpi=100)
