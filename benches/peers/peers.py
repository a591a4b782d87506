"""The programs that are compared, behind one interface.

`fit(data, start, iterations, threads)` runs EM on a .npy file from a start without a stopping rule, and returns the
seconds per iteration and the parameters after `iterations` iterations. Loading is never timed. Each call has a
process of its own, whose peak memory `peak_bytes` tells afterwards.
"""

import json
import resource
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np


def load_start(path, dtype=np.float64):
    with np.load(path) as arrays:
        return {name: arrays[name].astype(dtype) for name in arrays.files}


def own_peak_bytes():
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def by_difference(seconds_of, iterations):
    """Seconds of an iteration as (t(K2) - t(K1)) / (K2 - K1), each the least of three: threads start and memory is touched in both."""
    longer = iterations + max(iterations, 3)
    times = {count: min(seconds_of(count) for _ in range(3)) for count in (iterations, longer)}
    return (times[longer] - times[iterations]) / (longer - iterations)


def timed(run):
    """Seconds that a run takes which itself tells none."""

    def seconds_of(count):
        begin = perf_counter()
        run(count)
        return perf_counter() - begin

    return seconds_of


def output_of(command):
    """What a program prints; if it fails, what it complains about is the error."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        complaint = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(complaint[-1])
    return done.stdout.strip()


class Peer:
    name = ""
    kinds = ()
    dtypes = ("f64", "f32")

    def supports(self, workload, dtype):
        return workload.kind in self.kinds and dtype in self.dtypes

    def version(self):
        raise NotImplementedError

    def peak_bytes(self):
        return own_peak_bytes()

    def fit(self, workload, dtype, data, start, iterations, threads):
        raise NotImplementedError


class EntropySum(Peer):
    """This crate's command line. It holds the weights of hard EM free, k-means holds them equal."""

    name = "entropysum"
    kinds = ("full", "diag", "spherical", "hard")

    def __init__(self, binary):
        self.binary = binary

    def version(self):
        return output_of([self.binary, "--version"])

    def peak_bytes(self):
        return self.report.get("peak_memory_bytes")

    def fit(self, workload, dtype, data, start, iterations, threads):
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model.safetensors"

            def run(count, output=()):
                command = [self.binary, "fit", data, "--init", start.with_suffix(".json"), *output]
                command += ["--max-iter", count, "--tol", 0, "--reg-covar", 0]
                command += ["--threads", threads, "--precision", dtype, "--json", "-q"]
                command += ["--posterior", "hard"] if workload.kind == "hard" else []
                return json.loads(output_of(command))

            self.report = run(iterations, ["-o", model])
            seconds = by_difference(lambda count: run(count)["seconds"], iterations)
            return seconds, read_safetensors(model)


def read_safetensors(path):
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    tensors = json.loads(content[8:begin])
    arrays = {}
    for name, tensor in tensors.items():
        if name != "__metadata__":
            low, high = tensor["data_offsets"]
            assert tensor["dtype"] == "F64"
            values = np.frombuffer(content[begin + low : begin + high], "<f8")
            arrays[name] = values.reshape(tensor["shape"])
    return arrays


class ScikitLearn(Peer):
    name = "scikit-learn"
    kinds = ("full", "diag", "spherical")

    def version(self):
        import sklearn

        return sklearn.__version__

    def fit(self, workload, dtype, data, start, iterations, threads):
        import warnings

        from sklearn.mixture import GaussianMixture

        warnings.filterwarnings("ignore")  # that it did not converge
        begins, ends = [], []

        class Timed(GaussianMixture):
            def _e_step(self, *args, **kwargs):
                begins.append(perf_counter())
                return super()._e_step(*args, **kwargs)

            def _m_step(self, *args, **kwargs):
                super()._m_step(*args, **kwargs)
                ends.append(perf_counter())

        x = np.load(data)
        p = load_start(start, x.dtype)
        invert = np.linalg.inv if workload.kind == "full" else np.reciprocal
        mixture = Timed(
            workload.components,
            covariance_type=workload.kind,
            tol=0,
            reg_covar=0,
            max_iter=iterations,
            init_params="random",
            weights_init=p["weights"],
            means_init=p["means"],
            precisions_init=invert(p["covariances"]),
        ).fit(x)
        # The last E-step makes labels; it belongs to no iteration.
        seconds = sum(end - begin for begin, end in zip(begins, ends)) / len(ends)
        return seconds, {
            "weights": mixture.weights_,
            "means": mixture.means_,
            "covariances": mixture.covariances_,
        }


class OneDal(Peer):
    name = "oneDAL"
    kinds = ("full", "diag")

    def version(self):
        from importlib.metadata import version

        return version("scikit-learn-intelex")

    def fit(self, workload, dtype, data, start, iterations, threads):
        import daal4py

        daal4py.daalinit(threads)
        x = np.load(data)
        p = load_start(start, x.dtype)
        shape = (-1, workload.dim, workload.dim) if workload.kind == "full" else (-1, 1, workload.dim)
        covariances = [np.ascontiguousarray(c) for c in p["covariances"].reshape(shape)]

        def run(count):
            algorithm = daal4py.em_gmm(
                workload.components,
                fptype={"f64": "double", "f32": "float"}[dtype],
                maxIterations=count,
                accuracyThreshold=0.0,
                regularizationFactor=0.0,
                covarianceStorage={"full": "full", "diag": "diagonal"}[workload.kind],
            )
            return algorithm.compute(x, p["weights"][None], p["means"], covariances)

        result = run(iterations)
        return by_difference(timed(run), iterations), {
            "weights": np.ravel(result.weights),
            "means": np.asarray(result.means),
            "covariances": np.reshape([np.asarray(c) for c in result.covariances], p["covariances"].shape),
        }


class Faiss(Peer):
    name = "FAISS"
    kinds = ("hard",)
    dtypes = ("f32",)

    def version(self):
        import faiss

        return faiss.__version__

    def fit(self, workload, dtype, data, start, iterations, threads):
        import faiss

        faiss.omp_set_num_threads(threads)
        x = np.load(data)
        means = load_start(start, x.dtype)["means"]

        def run(count):
            k_means = faiss.Kmeans(
                workload.dim,
                workload.components,
                niter=count,
                max_points_per_centroid=len(x),  # all points, no subsample
                min_points_per_centroid=1,
            )
            k_means.train(x, init_centroids=means)
            return k_means.centroids

        result = run(iterations)
        return by_difference(timed(run), iterations), {"means": result}


class ScikitLearnKMeans(Peer):
    name = "scikit-learn Lloyd"
    kinds = ("hard",)

    def version(self):
        return ScikitLearn.version(self)

    def fit(self, workload, dtype, data, start, iterations, threads):
        import warnings

        from sklearn.cluster import KMeans

        warnings.filterwarnings("ignore")
        x = np.load(data)
        means = load_start(start, x.dtype)["means"]

        def run(count):
            k_means = KMeans(len(means), init=means, n_init=1, max_iter=count, tol=0, algorithm="lloyd")
            return k_means.fit(x).cluster_centers_

        result = run(iterations)
        return by_difference(timed(run), iterations), {"means": result}


class NumpyBlocked(Peer):
    """The best that numpy can do: two products and one softmax on blocks that stay in the cache.

    Rows of T are statistics (x, x squared, 1), so that bias and mass are part of the products, and posteriors are
    normalised by dividing the few rows of T instead of the many of the components.
    """

    name = "numpy"
    kinds = ("diag", "spherical")

    def version(self):
        return np.__version__

    def fit(self, workload, dtype, data, start, iterations, threads):
        from threadpoolctl import threadpool_limits

        x = np.load(data)
        parameters = load_start(start)
        centre = x[:4096].mean(axis=0)
        diagonal = workload.kind == "diag"
        block = max(256, min(2048, (1 << 19) // (x.itemsize * workload.components) // 128 * 128))
        slices = np.array_split(np.arange(len(x)), threads)
        workers = [_Worker(x, (own[0], own[-1] + 1), centre, diagonal, block, workload.components) for own in slices]
        with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
            begin = perf_counter()
            for _ in range(iterations):
                natural = self._natural(parameters, centre, diagonal).astype(x.dtype)
                sums = sum(pool.map(lambda worker: worker.sweep(natural), workers))
                parameters = self._maximize(sums, centre, diagonal)
            return (perf_counter() - begin) / iterations, parameters

    @staticmethod
    def _natural(p, centre, diagonal):
        means = p["means"] - centre
        variances = p["covariances"] if diagonal else p["covariances"][:, None]
        log_det = np.log(np.broadcast_to(variances, means.shape)).sum(axis=1)
        bias = np.log(p["weights"]) - 0.5 * (means**2 / variances).sum(axis=1) - 0.5 * log_det
        bias -= 0.5 * means.shape[1] * np.log(2 * np.pi)
        return np.hstack([means / variances, -0.5 / variances, bias[:, None]])

    @staticmethod
    def _maximize(sums, centre, diagonal):
        dim = len(centre)
        mass = sums[:, -1:]
        means, squares = sums[:, :dim] / mass, sums[:, dim:-1] / mass
        if diagonal:
            variances = squares - means**2
        else:
            variances = (squares[:, 0] - (means**2).sum(axis=1)) / dim
        return {"weights": mass[:, 0] / mass.sum(), "means": means + centre, "covariances": variances}


class _Worker:
    """A thread's points and its memory."""

    def __init__(self, x, bounds, centre, diagonal, block, components):
        self.x, self.bounds, self.centre, self.diagonal, self.block = x, bounds, centre, diagonal, block
        dim = x.shape[1]
        self.statistics = np.ones((2 * dim + 1 if diagonal else dim + 2, block), x.dtype)
        self.squares = np.empty((dim, block), x.dtype)
        self.logits = np.empty((components, block), x.dtype)
        self.sums = np.empty((components, len(self.statistics)), x.dtype)

    def sweep(self, natural):
        dim = self.x.shape[1]
        total, evidence = np.zeros(self.sums.shape), 0.0
        low, end = self.bounds
        while low < end:
            high = min(low + self.block, end)
            t, z = self.statistics[:, : high - low], self.logits[:, : high - low]
            np.subtract(self.x[low:high].T, self.centre[:, None], out=t[:dim])
            if self.diagonal:
                np.square(t[:dim], out=t[dim:-1])
            else:
                np.square(t[:dim], out=self.squares[:, : high - low]).sum(axis=0, out=t[dim])
            t[-1] = 1
            np.matmul(natural, t, out=z)
            largest = z.max(axis=0)
            z -= largest
            np.exp(z, out=z)
            mass = z.sum(axis=0)
            evidence += float((largest + np.log(mass)).sum())
            t /= mass
            total += np.matmul(z, t.T, out=self.sums)
            low = high
        self.evidence = evidence
        return total


class Armadillo(Peer):
    """gmm_full and gmm_diag, compiled by setup.sh where the library is installed."""

    name = "Armadillo"
    kinds = ("full", "diag")

    def __init__(self, folder):
        self.program = Path(folder) / "armadillo"

    def supports(self, workload, dtype):
        return self.program.exists() and super().supports(workload, dtype)

    def version(self):
        return output_of([self.program])

    def peak_bytes(self):
        return self.peak

    def fit(self, workload, dtype, data, start, iterations, threads):
        p = load_start(start)
        arrays = ("weights", "means", "covariances")
        with tempfile.TemporaryDirectory() as folder:
            parameters = Path(folder) / "parameters"
            np.concatenate([p[name].ravel() for name in arrays]).tofile(parameters)
            command = [self.program, workload.kind, dtype, data, parameters]
            command += [workload.points, workload.dim, workload.components, iterations]
            seconds, peak = output_of(command).split()
            flat = np.fromfile(parameters)
        self.peak = int(peak)
        for name in arrays:
            size = p[name].size
            p[name], flat = flat[:size].reshape(p[name].shape), flat[size:]
        return float(seconds), p


def all_peers(folder, binary):
    """Ours, and the others by name."""
    others = [ScikitLearn(), OneDal(), NumpyBlocked(), Armadillo(folder), Faiss(), ScikitLearnKMeans()]
    return EntropySum(binary), {peer.name: peer for peer in others}


def main():
    """One fit in this process, as the JSON object on the command line says; run.py calls it."""
    from workloads import Workload

    job = json.loads(sys.argv[1])
    ours, others = all_peers(job["folder"], job["binary"])
    peer = ours if job["peer"] == ours.name else others[job["peer"]]
    workload = Workload(**job["workload"])
    data, start = Path(job["data"]), Path(job["start"])
    seconds, parameters = peer.fit(workload, job["dtype"], data, start, job["iterations"], job["threads"])
    np.savez(job["output"], **parameters)
    print(json.dumps({"seconds": seconds, "peak_bytes": peer.peak_bytes(), "version": peer.version()}))


if __name__ == "__main__":
    main()
