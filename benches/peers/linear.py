"""Compares p-PCA and factor analysis with scikit-learn: whole fits from points in memory, in pairs. See README.md."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import run
from run import PROJECT, THREAD_VARIABLES, children_seconds, machine_seconds, processor
from workloads import DTYPES, normal, uniform

LATENTS = 8
# Model, points, dimension, and what of scikit-learn it is compared with.
WORKLOADS = {
    "P1": ("ppca", 1_000_000, 64, ["covariance_eigh", "randomized"]),
    "F1": ("factor-analysis", 200_000, 64, ["lapack", "randomized"]),
}
# Of the total log-likelihood, by which scikit-learn's factor analysis stops: its default. Ours watches the mean per point.
TOLERANCE = 1e-2
# Largest relative difference of log-likelihoods of what is the same optimum; the second is that of a stopping rule.
AGREEMENT = {"ppca": {"f64": 1e-9, "f32": 1e-5}, "factor-analysis": {"f64": 1e-6, "f32": 1e-5}}


def points(model, n, dim, seed):
    """Draws of factor analysis whose noise variances are 0.5 to 1.5 (of p-PCA: 1)."""
    loadings = normal(16 * seed, 0, dim * LATENTS).reshape(dim, LATENTS)
    isotropic = model == "ppca"
    widths = np.ones(dim) if isotropic else np.sqrt(0.5 + uniform(16 * seed + 1, 0, dim))
    x = np.empty((n, dim))
    for start in range(0, n, 100_000):
        count = min(100_000, n - start)
        z = normal(16 * seed + 2, start * LATENTS, count * LATENTS).reshape(-1, LATENTS)
        noise = normal(16 * seed + 3, start * dim, count * dim).reshape(-1, dim)
        x[start : start + count] = z @ loadings.T + noise * widths
    return x


def log_likelihood(covariance, mean, parameters):
    """Mean log-likelihood of points with these moments, in f64."""
    loadings, noise = parameters["loadings"], parameters["noise"]
    model = loadings @ loadings.T + np.diag(np.broadcast_to(noise, len(mean)))
    shift = mean - parameters["mean"]
    scatter = covariance + np.outer(shift, shift)
    _, log_det = np.linalg.slogdet(2 * np.pi * model)
    return float(-0.5 * (log_det + np.trace(np.linalg.solve(model, scatter))))


def fit_ours(job):
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "model.json"
        tolerance = TOLERANCE / job["points"]
        command = [job["binary"], "fit", job["data"], "--model", job["model"], "--latent", LATENTS]
        command += ["--precision", job["dtype"], "--threads", job["threads"], "--tol", tolerance]
        command += ["--max-iter", 10_000, "--json", "-q", "-o", output]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        report, model = json.loads(done.stdout), json.loads(output.read_text())
    parameters = {key: model[key] for key in ("mean", "loadings")} | {"noise": model["noise_variance"]}
    # From the first pass over the points in memory to the last iteration; loading and a last scoring are not in it.
    seconds = {"seconds": report["seconds"], "iterations": report["iterations"]}
    return seconds | {"peak_bytes": report["peak_memory_bytes"]}, parameters


def fit_theirs(job):
    import warnings

    from peers import own_peak_bytes
    from sklearn.decomposition import PCA, FactorAnalysis
    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("error", ConvergenceWarning)
    x = np.load(job["data"])
    if job["model"] == "ppca":
        model = PCA(LATENTS, svd_solver=job["solver"], random_state=0)
    else:
        model = FactorAnalysis(LATENTS, svd_method=job["solver"], tol=TOLERANCE, random_state=0)
    begin = perf_counter()
    model.fit(x)
    report = {"seconds": perf_counter() - begin, "iterations": getattr(model, "n_iter_", 1)}
    if job["model"] == "ppca":
        # Theirs divides by N - 1.
        bias = (len(x) - 1) / len(x)
        noise = bias * float(model.noise_variance_)
        scale = np.sqrt(np.maximum(bias * model.explained_variance_.astype(float) - noise, 0))
        parameters = {"loadings": (model.components_.astype(float).T * scale).tolist(), "noise": noise}
    else:
        parameters = {"loadings": model.components_.T.tolist(), "noise": model.noise_variance_.tolist()}
    return report | {"peak_bytes": own_peak_bytes()}, parameters | {"mean": model.mean_.tolist()}


def in_process(job, args):
    """A fit in a process of its own: report and parameters, or why there are none."""
    threads = {f"{name}_NUM_THREADS": str(args.threads) for name in THREAD_VARIABLES}
    busy, own = machine_seconds(), children_seconds()
    command = [sys.executable, __file__, "--job", json.dumps(job)]
    try:
        done = subprocess.run(
            command, env=os.environ | threads, capture_output=True, text=True, timeout=args.limit
        )
    except subprocess.TimeoutExpired:
        return f"killed after {args.limit} s", None
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["failed"])[-1], None
    report, parameters = json.loads(done.stdout.splitlines()[-1])
    if busy is not None:
        report["others_seconds"] = machine_seconds() - busy - (children_seconds() - own)
    return report, {name: np.asarray(array, dtype=float) for name, array in parameters.items()}


def compare(name, dtype, solver, data, moments, args):
    model, n = WORKLOADS[name][0], len(np.load(data, mmap_mode="r"))
    base = {"model": model, "data": str(data), "dtype": dtype, "points": n}
    base |= {"threads": args.threads, "binary": str(args.binary)}
    row = {"workload": name, "dtype": dtype, "peer": f"scikit-learn, {solver}", "pairs": []}
    for _ in range(args.pairs):
        pair = {}
        for side, more in (("ours", {}), ("peer", {"solver": solver})):
            report, parameters = in_process(base | more, args)
            if parameters is None:
                return row | {"failure": f"{side}: {report}"}
            pair[side] = report | {"objective": log_likelihood(*moments, parameters)}
        row["pairs"].append(pair)
    for side in ("ours", "peer"):
        for key in ("seconds", "iterations", "objective"):
            row[f"{side}_{key}"] = median(pair[side][key] for pair in row["pairs"])
        row[f"{side}_peak_bytes"] = max(pair[side]["peak_bytes"] for pair in row["pairs"])
    ratios = [pair["peer"]["seconds"] / pair["ours"]["seconds"] for pair in row["pairs"]]
    row["ratio"], row["ratio_min"], row["ratio_max"] = median(ratios), min(ratios), max(ratios)
    row["difference"] = (row["ours_objective"] - row["peer_objective"]) / abs(row["peer_objective"])
    row["agrees"] = abs(row["difference"]) <= AGREEMENT[model][dtype]
    return row


def table(rows):
    return run.table(
        rows,
        "s (iterations)",
        lambda r, side: f"{run.seconds_of(r, side)} ({r[f'{side}_iterations']:.0f})",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--solvers", nargs="+", metavar="NAME", help="of scikit-learn; all by default")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=["f64"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the points, for a trial")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds after which a fit is killed")
    parser.add_argument("--folder", type=Path, default=PROJECT / "target/peers")
    parser.add_argument("--binary", type=Path, default=PROJECT / "target/release/entropysum")
    args = parser.parse_args()
    if args.job:
        job = json.loads(args.job)
        print(json.dumps(fit_theirs(job) if "solver" in job else fit_ours(job)))
        return
    args.binary = args.binary.resolve()
    folder = args.folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in args.workloads:
        seed = 31 + list(WORKLOADS).index(name)
        model, n, dim, solvers = WORKLOADS[name]
        n = max(round(args.scale * n), 20 * dim)
        for dtype in args.dtypes:
            data = folder / f"{name}-{n}-{dtype}.npy"
            if not data.exists():
                np.save(data, points(model, n, dim, seed).astype(DTYPES[dtype]))
            x = np.load(data).astype(float)
            moments = np.cov(x, rowvar=False, bias=True), x.mean(axis=0)
            del x
            for solver in solvers:
                if args.solvers and solver not in args.solvers:
                    continue
                rows.append(compare(name, dtype, solver, data, moments, args))
                print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    (args.folder / "linear.json").write_text(json.dumps(rows, indent=1))
    print(f"{processor()}, {args.threads} of {os.cpu_count()} threads, {args.pairs} pairs. Ratio: how many times longer the peer takes.\n")
    print(table(rows))
    if not all(r.get("agrees", True) for r in rows):
        sys.exit("answers differ")


if __name__ == "__main__":
    main()
