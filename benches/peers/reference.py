"""The judge: one scorer for the parameters of all programs, in f64, plain and blocked."""

import math

import numpy as np

BLOCK = 2048


def log_densities(kind, parameters):
    """A function of B x D points that gives B x C values ln(weight) + ln density."""
    weights, means, covariances = (parameters[k] for k in ("weights", "means", "covariances"))
    c, dim = means.shape
    if kind == "full":
        factors = np.linalg.cholesky(covariances)
        whitening = np.linalg.inv(factors)
        offset = np.einsum("cij,cj->ci", whitening, means).ravel()
        columns = whitening.reshape(c * dim, dim).T
        log_det = 2 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)

        def distances(x):
            return np.square(x @ columns - offset).reshape(len(x), c, dim).sum(axis=2)
    else:
        variances = np.broadcast_to(np.reshape(covariances, (c, -1)), (c, dim))
        log_det = np.log(variances).sum(axis=1)
        about = means.mean(axis=0)  # squares of small numbers lose less
        centred = means - about

        def distances(x):
            x = x - about
            cross = x @ (centred / variances).T
            return np.square(x) @ (1 / variances).T - 2 * cross + (centred**2 / variances).sum(axis=1)

    with np.errstate(divide="ignore"):
        bias = np.log(weights) - 0.5 * (dim * np.log(2 * np.pi) + log_det)
    return lambda x: bias - 0.5 * distances(x)


def log_likelihood(kind, x, parameters):
    """Mean log-likelihood per point, in nats."""
    weights = parameters["weights"] / parameters["weights"].sum()  # of f32 programs
    density = log_densities(kind, parameters | {"weights": weights})
    sums = []
    for start in range(0, len(x), BLOCK):
        values = density(np.asarray(x[start : start + BLOCK], dtype=np.float64))
        largest = values.max(axis=1)
        total = np.exp(values - largest[:, None]).sum(axis=1)
        sums.append(math.fsum(largest + np.log(total)))
    return math.fsum(sums) / len(x)


def inertia(x, means):
    """Mean squared distance to the nearest mean: what k-means minimises."""
    norms = np.square(means).sum(axis=1)
    sums = []
    for start in range(0, len(x), BLOCK):
        block = np.asarray(x[start : start + BLOCK], dtype=np.float64)
        nearest = (norms - 2 * block @ means.T).min(axis=1)
        sums.append(math.fsum(nearest + np.square(block).sum(axis=1)))
    return math.fsum(sums) / len(x)


def objective(kind, x, parameters):
    if kind == "hard":
        return inertia(x, parameters["means"])
    return log_likelihood(kind, x, parameters)
