"""Points in partitions elsewhere are learned from as points in memory."""

import pickle

import numpy as np
import pytest

from entropysum import GaussianMixture, Mixture, MixtureOfFactorAnalyzers, SigmoidBeliefNet
from entropysum.partitions import BRANCHES, Partitions, Statistics, add_up


class Elsewhere(Partitions):
    """Partitions behind a pickle, as on another machine."""

    def __init__(self, parts):
        self.parts, self.sent = parts, 0

    def map(self, function, argument):
        results = []
        for index, part in enumerate(self.parts):
            task = pickle.dumps((function, index, part, argument))
            self.sent = max(self.sent, len(task))
            function_, index_, part_, argument_ = pickle.loads(task)
            results.append(pickle.loads(pickle.dumps(function_(index_, part_, argument_))))
        return results


def cut(X, ends):
    return np.split(X, ends)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "estimator",
    [
        GaussianMixture(3, random_state=0),
        GaussianMixture(3, covariance_type="tied", posterior="hard", random_state=0, n_init=2),
        GaussianMixture(3, random_state=0, means_init=np.eye(3, 4) * 6),
        MixtureOfFactorAnalyzers(3, 2, random_state=0),
    ],
)
def test_partitions_give_the_fit_of_an_array(clusters, estimator, dtype):
    X = np.tile(clusters, (7, 1)).astype(dtype)
    X += np.random.default_rng(0).normal(size=X.shape).astype(dtype)
    expected = estimator.fit(X)
    bounds, means, score = np.array(expected.lower_bounds_), expected.means_, expected.score(X)
    parts = Elsewhere(cut(X, [2000, 2000, 2003, 5000]))
    found = estimator.fit(parts)
    tolerance = 1e-9 if dtype == np.float64 else 1e-3
    n = min(len(bounds), len(found.lower_bounds_))
    np.testing.assert_allclose(found.lower_bounds_[:n], bounds[:n], atol=tolerance)
    np.testing.assert_allclose(found.means_, means, atol=10 * tolerance)
    assert found.score(parts) == pytest.approx(score, abs=tolerance)
    assert found.bic(parts) == pytest.approx(found.bic(X), rel=1e-12)


def test_families_learn_what_all_partitions_tell():
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.integers(0, 4, 900), rng.poisson(3.0, 900)]).astype(float)
    X[:800, 0] = np.minimum(X[:800, 0], 2)
    settings = {"family": [("categorical", [0]), ("poisson", [1])], "random_state": 0}
    expected = Mixture(2, **settings).fit(X)
    found = Mixture(2, **settings).fit(Elsewhere(cut(X, [300, 800])))
    for name, values in expected.parameters_.items():
        np.testing.assert_allclose(found.parameters_[name], values, atol=1e-9, err_msg=name)


def test_missing_values_and_weights_of_partitions(clusters):
    X, weights = clusters.copy(), np.random.default_rng(2).integers(0, 3, len(clusters)).astype(float)
    X[::7, 1] = np.nan
    weights[:300] = 0.0
    settings = {"covariance_type": "diag", "missing": "ignore", "random_state": 0}
    expected = GaussianMixture(3, **settings).fit(X, sample_weight=weights)
    parts = Elsewhere(list(zip(cut(X, [300, 301]), cut(weights, [300, 301]), strict=True)))
    found = GaussianMixture(3, **settings).fit(parts)
    np.testing.assert_allclose(found.means_, expected.means_, atol=1e-9)
    assert found.score(parts) == pytest.approx(expected.score(X, sample_weight=weights), abs=1e-9)


def test_networks_go_on_from_a_fit_to_a_part():
    X = np.random.default_rng(3).integers(0, 2, (600, 5)).astype(float)
    parts = Elsewhere(cut(X, [250]))
    settings = {"random_state": 0, "warm_start": True, "tol": 0.0, "max_iter": 5}
    with pytest.raises(ValueError, match="needs all points here: give it a start"):
        SigmoidBeliefNet(2, **settings).fit(parts)
    with pytest.warns(Warning, match="no convergence"):
        found = SigmoidBeliefNet(2, **settings).fit(X[:250])
        expected = pickle.loads(pickle.dumps(found)).fit(X)
        found.fit(parts)
    np.testing.assert_allclose(found.lower_bounds_, expected.lower_bounds_, atol=1e-9)


def test_what_is_sent_does_not_grow_with_the_points(clusters):
    class Counting(Elsewhere):
        def map(self, function, argument):
            return [function(index, part, argument) for index, part in enumerate(self.parts)]

        def sum(self, function, argument):
            results = self.map(function, argument)
            sizes.append((len(pickle.dumps(argument)), len(pickle.dumps(results[0]))))
            return add_up(results)

    sizes = []
    GaussianMixture(3, random_state=0).fit(Counting([clusters]))
    GaussianMixture(3, random_state=0).fit(Counting([np.tile(clusters, (9, 1))]))
    assert len({received for _, received in sizes}) == 1
    # Files of models are padded to multiples of eight bytes.
    assert max(sent for sent, _ in sizes) - min(sent for sent, _ in sizes) < 64


def test_sums_are_the_same_in_groups():
    rng = np.random.default_rng(4)
    for n in (1, 2, 7, 8, 9, 63, 64, 65, 200):
        numbers = list(rng.normal(size=n))
        groups = numbers
        while len(groups) > 1:
            groups = [add_up(groups[start : start + BRANCHES]) for start in range(0, len(groups), BRANCHES)]
        assert groups[0] == add_up(numbers), n


def test_statistics_of_unlike_models_do_not_add_up(clusters):
    seen = []

    class Watched(Elsewhere):
        def sum(self, function, argument):
            seen.append(super().sum(function, argument))
            return seen[-1]

    for n_components in (2, 3):
        GaussianMixture(n_components, random_state=0).fit(Watched([clusters]))
    assert isinstance(seen[0], Statistics) and seen[0].n_points == seen[0].total_weight == len(clusters)
    assert pickle.loads(pickle.dumps(seen[0])).to_bytes() == seen[0].to_bytes()
    with pytest.raises(ValueError, match="statistics of unlike models"):
        seen[0] + seen[-1]
    with pytest.raises(ValueError, match="damaged bytes"):
        Statistics.from_bytes(seen[0].to_bytes()[:-1])


def fault_of(parts, **settings):
    with pytest.raises(ValueError) as fault:
        GaussianMixture(3, **({"random_state": 0} | settings)).fit(Elsewhere(parts))
    return str(fault.value)


def test_faults_name_the_first_partition_and_its_row(clusters):
    X = np.tile(clusters, (10, 1))
    parts = cut(X, [4000, 6000, 8000])
    parts[1], parts[3] = parts[1].copy(), parts[3].copy()
    parts[1][1234, 2] = np.inf
    parts[3][5, 0] = np.nan
    assert fault_of(parts).startswith("partition 1: row 1234, column 2: the value is inf")
    # A row that the start looks at: all rows of a few points.
    parts = cut(np.array([[0.0], [1.0], [np.nan], [3.0]]), [1])
    assert fault_of(parts, covariance_type="diag").startswith("partition 1: row 1, column 0: ")
    weights = [np.ones(4000), np.ones(2000), -np.ones(2000), np.full(1000, np.nan)]
    fault = fault_of(list(zip(cut(X, [4000, 6000, 8000]), weights, strict=True)))
    assert fault.startswith("partition 2: row 0: found the weight -1.0, expected a finite number")
    assert "partition 1: found 3 columns, expected 4" in fault_of([clusters, clusters[:, :3]])
    assert "partition 1: found an array of 1 dimension(s)" in fault_of([clusters, clusters[0]])
    assert "found no partitions" in fault_of([])
    assert "fewer than the 3 components" in fault_of([clusters[:1], clusters[:1]])


def test_what_partitions_cannot_do_is_refused(clusters):
    parts = Elsewhere([clusters])
    for settings in ({"posterior": "truncated"}, {"batch_size": 100}):
        assert "points that lie elsewhere are for batch EM" in fault_of([clusters], **settings)
    assert "bad_rows='skip' is for points in memory" in fault_of([clusters], bad_rows="skip")
    with pytest.raises(ValueError, match="sample_weight belongs into the partitions"):
        GaussianMixture(3).fit(parts, sample_weight=np.ones(900))
    with pytest.raises(ValueError, match="needs a data frame"):
        Mixture(3, family="auto").fit(parts)


def test_a_fault_of_the_cluster_ends_the_fit(clusters):
    class Lost(Elsewhere):
        sums = 0

        def sum(self, function, argument):
            self.sums += 1
            if self.sums == 4:
                raise ConnectionError("the cluster is gone")
            return super().sum(function, argument)

    mixture = GaussianMixture(3, random_state=0, tol=0.0)
    with pytest.raises(ConnectionError, match="the cluster is gone"):
        mixture.fit(Lost([clusters]))
    assert mixture.n_iter_ == 3 and mixture.stop_reason_ == "interrupted"


def test_a_fit_goes_on_from_its_checkpoint(clusters, tmp_path):
    parts = Elsewhere(cut(clusters + np.random.default_rng(5).normal(size=clusters.shape), [100, 500]))
    settings = {"n_components": 5, "random_state": 0, "tol": 0.0}
    with pytest.warns(Warning, match="no convergence"):
        expected = GaussianMixture(**settings, max_iter=8).fit(parts)
        GaussianMixture(**settings, max_iter=3).fit(parts, checkpoint=tmp_path / "state")
        found = GaussianMixture(**settings, max_iter=8).fit(parts, checkpoint=tmp_path / "state", resume=True)
    assert found.n_iter_ == 8 and found.model_.to_bytes() == expected.model_.to_bytes()
    with pytest.raises(ValueError, match="other points|points"):
        GaussianMixture(**settings, max_iter=9).fit(Elsewhere([clusters]), checkpoint=tmp_path / "state", resume=True)
