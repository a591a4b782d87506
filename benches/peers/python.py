"""Measures the Python package against scikit-learn: fit time, processor time and peak memory.

    python benches/peers/python.py [--rows N] [--dim D] [--components C] [--iterations I]
        [--repeats R] [--thread-counts T ...]

Each fit runs in a process of its own, from the same start, for the same number of iterations, with one thread and with two. Programs
take turns. Prints CSV: medians of the repeats.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

PROGRAMS = ["entropysum", "scikit-learn"]


def measure(args):
    """Fit once, and print clock seconds, processor seconds and peak memory in MB."""
    import warnings

    import numpy as np

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=4.0, size=(args.components, args.dim))
    # In pieces, so that the peak of memory is that of the fit.
    points = np.empty((args.rows, args.dim), dtype=args.dtype)
    for start in range(0, args.rows, 4096):
        piece = points[start : start + 4096]
        piece[:] = centres[rng.integers(0, args.components, len(piece))] + rng.normal(size=piece.shape)
    precisions = np.stack([np.eye(args.dim)] * args.components) if args.covariance == "full" else np.ones((args.components, args.dim))
    settings = {
        "covariance_type": args.covariance,
        "weights_init": np.full(args.components, 1 / args.components),
        "means_init": points[: args.components].astype(float),
        "precisions_init": precisions,
        "tol": 0.0,
        "max_iter": args.iterations,
    }
    if args.program == "entropysum":
        from entropysum import GaussianMixture

        mixture = GaussianMixture(args.components, n_threads=args.threads, **settings)
    else:
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(args.components, **settings)
    before = resource.getrusage(resource.RUSAGE_SELF)
    clock = time.perf_counter()
    mixture.fit(points)
    clock = time.perf_counter() - clock
    after = resource.getrusage(resource.RUSAGE_SELF)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    bound = mixture.score(points)
    print(f"{clock:.3f},{processor:.3f},{(after.ru_maxrss - before.ru_maxrss) / 1024:.0f},{bound:.6f}")


def run(program, covariance, threads):
    """Measure a fit in a process of its own."""
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    environment = os.environ | dict.fromkeys(names, str(threads))
    own = ["--program", program, "--covariance", covariance, "--threads", str(threads)]
    done = subprocess.run([sys.executable, *sys.argv, *own], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return [float(value) for value in done.stdout.split(",")]


def main():
    """Measure all programs, covariances and numbers of threads, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--components", type=int, default=32)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--thread-counts", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--program", help=argparse.SUPPRESS)
    parser.add_argument("--covariance", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.program:
        return measure(args)
    print("program,covariance,threads,seconds,processor_seconds,megabytes,log_likelihood", flush=True)
    for covariance in ["full", "diag"]:
        for threads in args.thread_counts:
            found = {program: [] for program in PROGRAMS}
            for _ in range(args.repeats):
                for program in PROGRAMS:
                    found[program].append(run(program, covariance, threads))
            for program in PROGRAMS:
                seconds, processor, megabytes, bound = map(statistics.median, zip(*found[program]))
                print(f"{program},{covariance},{threads},{seconds:.3f},{processor:.3f},{megabytes:.0f},{bound:.6f}", flush=True)
    return None


if __name__ == "__main__":
    main()
