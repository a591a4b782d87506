"""The likelihood of points that fits with default settings have not seen, here and in scikit-learn.

Both learn from the same four fifths of at most 40 000 points, with `tol` 1e-4 and their defaults otherwise, and both are scored on the last
fifth, with seeds 0 to 4. Prints a table in Markdown: medians over the seeds with the range, and the median processor seconds of a fit on one
thread, which other programs on the machine do not change much. The number after ± is the standard error of the difference between the two
fits of median likelihood, over the points held out: where these are few, it is large.

FOLDER holds a .npy file for each name in POINTS. Arguments that are not those of this script are for `entropysum fit`.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from time import process_time

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

import numpy as np
from sklearn.mixture import GaussianMixture

POINTS = (
    "digits diag 10, digits full 10, shuttle diag 16, shuttle full 16, letter diag 26, letter full 26, "
    "china_pixels diag 16, china_pixels full 16, flower_pixels diag 16, flower_pixels full 16, satellite diag 6, satellite full 6, "
    "diamonds diag 8, diamonds full 8, breast_cancer diag 2, wine full 3, olive full 9, quakes_unit full 8, "
    "us_airports_unit full 8, faithful full 3, geyser full 4, crabs full 4, iris full 3, banknote full 3, thyroid full 3, "
    "china_patches8 diag 16"
).split(", ")

SEEDS = range(5)
TOLERANCE = 1e-4


def ours(binary, folder, learn, test, kind, components, seed, more):
    model, scores = folder / "model.safetensors", folder / "scores.npy"
    fit = [binary, "fit", learn, "--model", f"gaussian-{kind}", "-k", components, "--tol", TOLERANCE, "--seed", seed]
    fit += ["--threads", 1, "-q", "-o", model, *more]
    seconds = run(fit)
    run([binary, "score", model, test, "-o", scores])
    return seconds, np.load(scores).ravel().astype(float)


def run(command):
    """Processor seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def theirs(learn, test, kind, components, seed):
    points, held = np.load(learn), np.load(test)
    begin = process_time()
    model = GaussianMixture(components, covariance_type=kind, tol=TOLERANCE, max_iter=200, random_state=seed).fit(points)
    return process_time() - begin, model.score_samples(held)


def summary(results):
    """Range and median of the means, the scores of the median fit, the median time."""
    seconds, scores = zip(*results)
    order = sorted(scores, key=np.mean)
    means, middle = [scores.mean() for scores in order], order[len(order) // 2]
    return f"{middle.mean():.3f} ({means[0]:.3f} to {means[-1]:.3f})", middle, np.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the .npy files are")
    parser.add_argument("--binary", default="target/release/entropysum")
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of the rows of the table to make")
    args, more = parser.parse_known_args()
    warnings.filterwarnings("ignore")
    print("| points | model | C | entropysum | scikit-learn | difference | seconds | scikit-learn |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for row in POINTS:
        name, kind, components = row.split()
        if not any(row.startswith(start) for start in args.only) or not (args.folder / f"{name}.npy").exists():
            continue
        points = np.load(args.folder / f"{name}.npy").astype(float)
        points = points[np.random.default_rng(7).permutation(len(points))[:40_000]]
        cut = len(points) * 4 // 5
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            learn, test = folder / "learn.npy", folder / "test.npy"
            np.save(learn, points[:cut])
            np.save(test, points[cut:])
            own = [ours(args.binary, folder, learn, test, kind, components, seed, more) for seed in SEEDS]
            their = [theirs(learn, test, kind, int(components), seed) for seed in SEEDS]
        own, own_scores, own_seconds = summary(own)
        their, their_scores, their_seconds = summary(their)
        difference = own_scores - their_scores
        error = difference.std() / np.sqrt(len(difference))
        print(
            f"| {name} | {kind} | {components} | {own} | {their} | {difference.mean():+.3f} ± {error:.3f} | "
            f"{own_seconds:.2f} | {their_seconds:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
