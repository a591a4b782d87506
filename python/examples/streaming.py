"""Learn from files that exceed the memory that is used: by minibatches, in bounded memory.

Arguments: gigabytes of points (0.1 by default) and a folder for them.
"""

import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

from entropysum import GaussianMixture

gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 0.1
rows, dim, parts = int(gigabytes * 2**30 / (4 * 16)), 16, 8
rng = np.random.default_rng(0)
centres = rng.normal(scale=6.0, size=(10, dim)).astype(np.float32)

with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
    for part in range(parts):
        file = np.lib.format.open_memmap(
            Path(folder) / f"part-{part}.npy", mode="w+", dtype=np.float32, shape=(rows // parts, dim)
        )
        for start in range(0, len(file), 1 << 16):
            block = file[start : start + (1 << 16)]
            block[:] = rng.normal(size=block.shape) + centres[rng.integers(0, 10, len(block))]
        file.flush()
        del file, block
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pattern = f"{folder}/part-*.npy"
    mixture = GaussianMixture(10, covariance_type="diag", batch_size=4096, epochs=2, dtype="float32", random_state=0)
    mixture.fit(pattern)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bound = -0.5 * dim * np.log(2 * np.pi * np.e) - np.log(10)
    score = mixture.score(f"{folder}/part-0.npy")

print(f"{gigabytes} GB: {mixture.n_iter_} minibatches, {mixture.stop_reason_}, peak memory {before:.0f} -> {after:.0f} MB")
print(f"log-likelihood {score:.3f}; that of the true density is {bound:.3f} nearly")
assert after - before < 600, "windows of shuffled points have a bounded size"
assert score > bound - 3.0
