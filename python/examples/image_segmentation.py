"""Segment a photograph into colours: its 273,280 pixels are the points."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from entropysum import GaussianMixture

pixels = np.load(Path(__file__).parents[2] / "data" / "china.npy", mmap_mode="r")
mixture = GaussianMixture(8, random_state=0, max_iter=30, tol=1e-3).fit(pixels)
labels = mixture.predict(pixels)
segmented = mixture.means_[labels]

figure, axes = plt.subplots(1, 2, figsize=(10, 4))
for ax, colours, title in zip(axes, [pixels, segmented], ["photograph", "eight components"]):
    colours = np.asarray(colours, dtype=float)
    ax.imshow((colours / pixels.max()).reshape(427, 640, 3).clip(0, 1))
    ax.set_title(title)
    ax.axis("off")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "segmented.png", dpi=100)

explained = 1 - ((pixels - segmented) ** 2).sum() / ((pixels - pixels.mean(axis=0)) ** 2).sum()
print(f"{mixture.n_iter_} iterations; colours of components explain {explained:.0%} of the variance")
assert explained > 0.8
