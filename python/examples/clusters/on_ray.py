"""Learn a mixture from points on a Ray cluster.

pip install ray, then python on_ray.py. Points stay in Ray's object store; parameters and statistics travel. Ray runs the tasks of a lost
worker again, with the same bits.
"""

import numpy as np
import ray

from entropysum import GaussianMixture
from entropysum.partitions import Partitions


@ray.remote
def apply(function, index, partition, argument):
    return function(index, partition, argument)


class RayPartitions(Partitions):
    """Points in Ray's object store: each partition is a reference."""

    def __init__(self, references):
        self.references = references

    def _tasks(self, function, argument):
        argument = ray.put(argument)
        return [apply.remote(function, index, reference, argument) for index, reference in enumerate(self.references)]

    def map(self, function, argument):
        return ray.get(self._tasks(function, argument))

    def held(self, function, argument):
        return RayPartitions(self._tasks(function, argument))


def draw(k):
    """Return a part of the points; a real one would be read where the task runs."""
    rng = np.random.default_rng(k)
    centres = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 8.0]])
    return centres[rng.integers(0, 3, 5000)] + rng.normal(size=(5000, 2))


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False)
    points = RayPartitions([ray.remote(draw).remote(k) for k in range(8)])
    mixture = GaussianMixture(3, random_state=0).fit(points)
    print(mixture.weights_, mixture.means_, mixture.bic(points), sep="\n")

    here = GaussianMixture(3, random_state=0).fit(np.concatenate([draw(k) for k in range(8)]))
    np.testing.assert_allclose(mixture.means_, here.means_, atol=1e-9)
