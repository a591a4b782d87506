"""Workloads: points drawn from a mixture, and a start that every program is given.

Generators are counter-based (the finaliser of SplitMix64, then Box and Muller), so that any language can make the
same points without a file, up to the last bit of log, sin and cos:

    raw(stream, i) = mix(stream * 0xD1342543DE82EF95 + (i + 1) * 0x9E3779B97F4A7C15)          mod 2^64
    u(stream, i)   = ((raw >> 11) + 1/2) / 2^53
    n(stream, 2j)  = sqrt(-2 ln u(2j)) cos(2 pi u(2j + 1)),      n(stream, 2j + 1) with sin

A workload of seed S uses the streams 16 S + (0 means, 1 covariances, 2 labels, 3 noise).

Run as a program, it writes files:  python workloads.py FOLDER [--scale 0.02] [NAME ...]
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

DTYPES = {"f64": np.float64, "f32": np.float32}


@dataclass(frozen=True)
class Workload:
    name: str
    kind: str  # full, diag, spherical; or hard: a single variance for all and hard posteriors
    points: int
    dim: int
    components: int
    seed: int
    file: str = ""  # a .npy file of real points, in place of drawn ones

    @property
    def model(self):
        return "gaussian-" + ("tied-spherical" if self.kind == "hard" else self.kind)

    def scaled(self, scale):
        """The same with fewer points, but enough to keep covariances regular."""
        least = min(self.points, self.components * (32 * self.dim if self.kind == "full" else 32))
        return replace(self, points=max(round(scale * self.points), least))

    def data(self, folder, dtype):
        return Path(folder) / f"{self.name}-{self.points}-{dtype}.npy"

    def start(self, folder, suffix):
        return Path(folder) / f"{self.name}-{self.points}-start.{suffix}"


WORKLOADS = {
    w.name: w
    for w in [
        Workload("W1a", "full", 200_000, 32, 32, 11),
        Workload("W1b", "full", 1_000_000, 16, 64, 12),
        Workload("W2", "full", 50_000, 128, 16, 13),
        Workload("W2b", "full", 20_000, 256, 8, 19),  # a seed that leaves every covariance regular
        Workload("W3a", "diag", 1_000_000, 16, 64, 14),
        Workload("W3b", "diag", 1_000_000, 64, 128, 15),
        Workload("W4", "spherical", 1_000_000, 16, 256, 16),
        Workload("K", "hard", 1_000_000, 16, 256, 16),  # the points of W4
    ]
}


def raw(stream, start, count):
    i = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(stream * 0xD1342543DE82EF95 % 2**64) + i * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(stream, start, count):
    return ((raw(stream, start, count) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(stream, start, count):
    assert start % 2 == 0 and count % 2 == 0
    u = uniform(stream, start, count).reshape(-1, 2)
    radius, angle = np.sqrt(-2 * np.log(u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()


def real(file, kind, components):
    """A workload of the points of a .npy file."""
    points, dim = np.load(file, mmap_mode="r").shape
    return Workload(f"{Path(file).stem}-{kind}-{components}", kind, points, dim, components, 0, str(Path(file).resolve()))


def points(w):
    """N x D points of a file, or of a mixture whose means lie about 4 widths apart."""
    if w.file:
        return np.load(w.file).astype(np.float64)
    n, dim, c = w.points, w.dim, w.components
    means = 4 / np.sqrt(2 * dim) * normal(16 * w.seed, 0, c * dim).reshape(c, dim)
    weights = 1 + 0.5 * (np.arange(c) % 3)
    bounds = np.cumsum(weights / weights.sum())
    labels = np.searchsorted(bounds, uniform(16 * w.seed + 2, 0, n), side="right")
    labels = np.minimum(labels, c - 1)
    stream = 16 * w.seed + 1
    if w.kind == "full":
        factors = np.tril(normal(stream + 1000, 0, c * dim * dim).reshape(c, dim, dim), -1)
        factors *= 0.5 / np.sqrt(dim)
        factors[:, range(dim), range(dim)] = 0.6 + 0.8 * uniform(stream, 0, c * dim).reshape(c, dim)
    elif w.kind == "diag":
        widths = 0.5 + uniform(stream, 0, c * dim).reshape(c, dim)
    else:
        widths = 0.5 + uniform(stream, 0, c)[:, None]
    x = np.empty((n, dim))
    for start in range(0, n, 100_000):
        label = labels[start : start + 100_000]
        noise = normal(16 * w.seed + 3, start * dim, len(label) * dim).reshape(-1, dim)
        if w.kind == "full":
            for k in range(c):
                own = np.flatnonzero(label == k)
                noise[own] = noise[own] @ factors[k].T
        else:
            noise *= widths[label]
        x[start : start + len(label)] = means[label] + noise
    return x


def start(w, x):
    """Uniform weights, C points spread over the file as means, the variances of the data."""
    n, c = w.points, w.components
    variances = x.var(axis=0)
    covariances = {
        "full": lambda: np.repeat(np.diag(variances)[None], c, axis=0),
        "diag": lambda: np.repeat(variances[None], c, axis=0),
        "spherical": lambda: np.full(c, variances.mean()),
        "hard": lambda: variances.mean(),
    }[w.kind]()
    means = x[(2 * np.arange(c) + 1) * n // (2 * c)]
    return {"weights": np.full(c, 1 / c), "means": means, "covariances": covariances}


def write(w, folder):
    """Writes the files of a workload that are not there yet."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    last = w.start(folder, "json")
    if last.exists():
        return
    x = points(w)
    for dtype, numpy_type in DTYPES.items():
        np.save(w.data(folder, dtype), x.astype(numpy_type, copy=False))
    parameters = start(w, x)
    np.savez(w.start(folder, "npz"), **parameters)
    arrays = {name: np.asarray(array).tolist() for name, array in parameters.items()}
    last.write_text(json.dumps({"model": w.model} | arrays))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write workloads to files.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=list(WORKLOADS), metavar="NAME")
    parser.add_argument("--scale", type=float, default=1.0)
    args = parser.parse_args()
    for name in args.names:
        write(WORKLOADS[name].scaled(args.scale), args.folder)
