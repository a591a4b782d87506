"""Each kind of model learns, and says what it has learned."""

import json

import numpy as np
import pytest

import entropysum
from entropysum import (
    PPCA,
    BinarySparseCoding,
    FactorAnalysis,
    GaussianMixture,
    Mixture,
    MixtureOfFactorAnalyzers,
    SigmoidBeliefNet,
    SparseCoding,
    VariationalAutoencoder,
)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("data", ["faithful", "iris"])
def test_trajectories_follow_40_digits(fixture, data):
    golden = fixture(f"gmm_em_{data}")
    points = np.array(golden["data"]["x"])
    for run in golden["runs"]:
        kind, start, steps = run["covariance"], run["init"], run["iterations"]
        covariances = np.array(start["covariances"])
        precisions = np.linalg.inv(covariances) if kind in ("full", "tied") else 1 / covariances
        mixture = GaussianMixture(
            len(start["pi"]),
            covariance_type=kind,
            weights_init=start["pi"],
            means_init=start["means"],
            precisions_init=precisions,
            reg_covar=0.0,
            tol=0.0,
            max_iter=len(steps) - 1,
        ).fit(points)
        for name, key in [("log_likelihood", "loglik"), ("entropy_sum", "entropy_sum_after_m"), ("lower_bound", "elbo_after_m")]:
            expected = [step[key] for step in steps[:-1]]
            np.testing.assert_allclose(mixture.history_[name], expected, rtol=1e-9, err_msg=f"{data} {kind} {name}")


SAMPLES = {
    "bernoulli": lambda rng, n, d: rng.integers(0, 2, (n, d)),
    "beta": lambda rng, n, d: rng.beta(2.0, 3.0, (n, d)),
    "binomial": lambda rng, n, d: rng.binomial(7, 0.4, (n, d)),
    "categorical": lambda rng, n, d: rng.integers(0, 4, (n, d)),
    "dirichlet": lambda rng, n, d: rng.dirichlet(np.arange(1.0, d + 1), n),
    "geometric": lambda rng, n, d: rng.geometric(0.3, (n, d)) - 1,
    "multinomial": lambda rng, n, d: rng.multinomial(20, np.full(d, 1 / d), n),
    "negative-binomial": lambda rng, n, d: rng.negative_binomial(3, 0.4, (n, d)),
    "poisson": lambda rng, n, d: rng.poisson(4.0, (n, d)),
    "von-mises": lambda rng, n, d: rng.vonmises(0.5, 2.0, (n, d)),
    "von-mises-fisher": lambda rng, n, d: (lambda x: x / np.linalg.norm(x, axis=1, keepdims=True))(rng.normal(1.0, 1.0, (n, d))),
}
POSITIVE = ("exponential", "gamma", "inverse-gamma", "inverse-gaussian", "log-normal", "weibull")
KNOWN = {"trials": 7, "successes": 3, "shape": 1.5, "location": 0.1, "variance": 1.2}


def sample_of(family, rng, n, d):
    if family in POSITIVE:
        return rng.gamma(2.0, 1.5, (n, d))
    return SAMPLES.get(family, lambda rng, n, d: rng.normal(size=(n, d)))(rng, n, d).astype(float)


def known_of(family):
    return {name: KNOWN[name] for name in entropysum.known_parameters(family) if name in KNOWN}


@pytest.mark.parametrize("n_components", [1, 5])
def test_any_number_of_components_has_probabilities(clusters, n_components):
    proba = GaussianMixture(n_components, random_state=0).fit(clusters).predict_proba(clusters)
    assert proba.shape == (900, n_components)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("family", entropysum.families())
def test_every_family_learns_predicts_and_samples(family):
    points = sample_of(family, np.random.default_rng(1), 200, 3)
    mixture = Mixture(2, family=family, known=known_of(family), random_state=0, tol=1e-4).fit(points)
    assert mixture.weights_.sum() == pytest.approx(1.0)
    assert np.isfinite(mixture.lower_bounds_).all()
    # Known base measures and exact M-steps: the entropy sum is the bound, and never falls but by a repair.
    np.testing.assert_allclose(mixture.entropy_sums_, mixture.lower_bounds_, rtol=1e-7, atol=1e-7)
    assert mixture.score_samples(points).mean() == pytest.approx(mixture.score(points))
    proba = mixture.predict_proba(points)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-12)
    assert (proba.argmax(axis=1) == mixture.predict(points)).all()
    drawn, labels = mixture.sample(50)
    assert drawn.shape == (50, 3) and labels.shape == (50,)
    assert np.isfinite(mixture.score_samples(drawn)).all()
    assert mixture.icl(points) >= mixture.bic(points) - 1e-9
    for name, values in mixture.parameters_.items():
        if name.isidentifier():
            assert np.array_equal(getattr(mixture, f"{name}_"), values)


def test_partial_fit_approaches_the_fit_of_all_points(clusters):
    whole = GaussianMixture(3, random_state=0).fit(clusters)
    online = GaussianMixture(3, random_state=0)
    for _ in range(10):
        for batch in np.array_split(clusters, 9):
            online.partial_fit(batch)
    assert online.n_iter_ == 90
    assert abs(online.score(clusters) - whole.score(clusters)) < 0.02
    assert online.entropy_sum_ == pytest.approx(online.lower_bound_, abs=1e-9)


def test_partial_fit_goes_on_from_a_fit(clusters):
    mixture = GaussianMixture(3, random_state=0).fit(clusters)
    before = mixture.score(clusters)
    mixture.partial_fit(clusters)
    assert mixture.score(clusters) == pytest.approx(before, abs=1e-3)


@pytest.mark.parametrize(
    "estimator",
    [
        Mixture(2, family="poisson", random_state=0),
        MixtureOfFactorAnalyzers(2, 1, random_state=0),
        SigmoidBeliefNet(2, random_state=0),
    ],
    ids=lambda it: type(it).__name__,
)
def test_partial_fit_of_other_models_is_a_bound(estimator):
    rng = np.random.default_rng(2)
    for _ in range(5):
        estimator.partial_fit(rng.integers(0, 2, (200, 5)).astype(float))
    assert np.isfinite(estimator.lower_bound_)
    assert estimator.n_iter_ == 5


def test_warm_starts_go_on_where_the_last_fit_ended(clusters):
    mixture = GaussianMixture(3, init_params="random", random_state=0, warm_start=True, max_iter=3, tol=0.0)
    with pytest.warns(Warning):
        first = mixture.fit(clusters).lower_bound_
    with pytest.warns(Warning):
        second = mixture.fit(clusters)
    whole = GaussianMixture(3, init_params="random", random_state=0, max_iter=6, tol=0.0)
    with pytest.warns(Warning):
        whole.fit(clusters)
    assert second.lower_bound_ > first
    assert second.lower_bound_ == pytest.approx(whole.lower_bound_, rel=1e-12)


def test_weights_count_as_repeated_points(clusters):
    points = clusters[:200]
    weights = np.random.default_rng(0).integers(1, 4, 200)
    start = {"weights_init": [0.5, 0.5], "means_init": points[:2], "precisions_init": np.stack([np.eye(4)] * 2)}
    weighted = GaussianMixture(2, **start).fit(points, sample_weight=weights)
    repeated = GaussianMixture(2, **start).fit(np.repeat(points, weights, axis=0))
    np.testing.assert_allclose(weighted.means_, repeated.means_, rtol=1e-6)
    assert weighted.score(points, sample_weight=weights) == pytest.approx(repeated.score(np.repeat(points, weights, axis=0)))


@pytest.mark.parametrize("n", [300, 5000])
def test_starts_are_those_of_points_repeated_in_place(clusters, n):
    rng = np.random.default_rng(3)
    points = clusters[rng.integers(0, 900, n)] + rng.normal(0, 0.1, (n, 4))
    weights = rng.integers(0, 4, n)
    weighted = GaussianMixture(3, random_state=0, tol=1e-9).fit(points, sample_weight=weights)
    repeated = GaussianMixture(3, random_state=0, tol=1e-9).fit(np.repeat(points, weights, axis=0))
    np.testing.assert_allclose(weighted.means_, repeated.means_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(weighted.entropy_sums_[:3], repeated.entropy_sums_[:3], rtol=1e-9)


def test_minibatches_learn_what_batches_learn(clusters):
    points = np.tile(clusters, (20, 1)) + np.random.default_rng(1).normal(0, 0.01, (18000, 4))
    batch = GaussianMixture(3, random_state=0).fit(points)
    stream = GaussianMixture(3, random_state=0, batch_size=500, epochs=4).fit(points)
    assert abs(batch.score(points) - stream.score(points)) < 0.01
    assert "step_size" in stream.history_


def test_the_best_of_several_starts_is_kept(clusters):
    scores = [GaussianMixture(3, init_params="random", random_state=seed).fit(clusters).lower_bound_ for seed in (0,)]
    best = GaussianMixture(3, init_params="random", n_init=5, random_state=0).fit(clusters)
    assert best.lower_bound_ >= scores[0]


def test_ppca_and_factor_analysis_agree_with_scikit_learn(data_folder):
    from sklearn.decomposition import PCA
    from sklearn.decomposition import FactorAnalysis as Reference

    points = np.loadtxt(data_folder / "iris.csv", delimiter=",", skiprows=1, usecols=range(4))
    ours, theirs = PPCA(2).fit(points), PCA(2).fit(points)
    n = len(points)
    # scikit-learn divides by n - 1, and maximum likelihood by n.
    np.testing.assert_allclose(ours.get_covariance(), theirs.get_covariance() * (n - 1) / n, rtol=1e-9)
    np.testing.assert_allclose(ours.get_precision() @ ours.get_covariance(), np.eye(4), atol=1e-9)
    projected = ours.reconstruct(points)
    np.testing.assert_allclose(projected, ours.inverse_transform(ours.transform(points)), rtol=1e-9)
    assert ours.converged_ and ours.n_iter_ >= 1

    ours = FactorAnalysis(2, tol=1e-9, max_iter=5000).fit(points)
    theirs = Reference(2, tol=1e-6, max_iter=5000).fit(points)
    # The likelihood is flat where a variance of the noise vanishes, as here.
    assert ours.score(points) == pytest.approx(theirs.score(points), abs=5e-4)
    assert ours.components_.shape == theirs.components_.shape
    assert ours.noise_variance_.shape == theirs.noise_variance_.shape


def test_mixtures_of_factor_analysers_have_covariances_of_low_rank(clusters):
    mixture = MixtureOfFactorAnalyzers(3, 2, random_state=0).fit(clusters)
    assert mixture.loadings_.shape == (3, 4, 2)
    assert mixture.transform(clusters).shape == (900, 2)
    assert mixture.reconstruct(clusters).shape == clusters.shape
    full = GaussianMixture(3, random_state=0).fit(clusters)
    assert mixture.score(clusters) <= full.score(clusters) + 1e-3


def test_networks_find_causes():
    rows = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=float)
    points = np.repeat(rows, 25, axis=0)
    network = SigmoidBeliefNet(2, n_init=5, random_state=0).fit(points)
    assert network.lower_bound_ == pytest.approx(-2 * np.log(2), abs=1e-3)
    states = network.most_probable_states(points)
    assert len(np.unique(states, axis=0)) == 4
    # Each state gives the point back.
    np.testing.assert_allclose(network.inverse_transform(states), points, atol=0.02)
    assert network.sample(10).shape == (10, 4)
    deep = SigmoidBeliefNet(1, n_hidden=2, random_state=0, max_iter=20, tol=1e-2).fit(points)
    assert deep.hidden_weights_.shape == (2, 1)
    assert deep.transform(points).shape == (100, 3)


@pytest.mark.parametrize(
    "estimator",
    [
        GaussianMixture(2, covariance_type="tied", random_state=0),
        Mixture(2, family="gamma", random_state=0),
        Mixture(2, family=[("gaussian-full", [0, 1]), ("gamma", [2, 3])], random_state=0),
        MixtureOfFactorAnalyzers(2, 1, noise="tied", random_state=0),
        PPCA(2),
        FactorAnalysis(1),
        VariationalAutoencoder(2, hidden_layer_sizes=4, epochs=1, random_state=0),
        SparseCoding(3, hidden_layer_sizes=4, epochs=1, random_state=0),
        BinarySparseCoding(3, n_states=4, noise="diagonal", max_iter=5, random_state=0),
        BinarySparseCoding(2, hidden_layer_sizes=3, activation="gelu", n_states=4, max_iter=5, random_state=0),
    ],
    ids=lambda it: f"{type(it).__name__}",
)
@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_models_come_back_from_files_with_the_same_bits(clusters, tmp_path, estimator, name):
    points = np.abs(clusters) + 0.1
    estimator.fit(points).save(tmp_path / name)
    loaded = entropysum.load(tmp_path / name)
    assert type(loaded) is type(estimator)
    assert loaded.model_.to_bytes() == estimator.model_.to_bytes()
    assert np.array_equal(loaded.score_samples(points), estimator.score_samples(points))
    assert loaded.n_features_in_ == 4
    assert type(estimator).load(tmp_path / name).get_params()["n_threads"] is None


@pytest.mark.parametrize("hidden", [(), 4])
def test_binary_codes_find_causes_in_points_that_lack_values(hidden):
    rng = np.random.default_rng(0)
    states = rng.random((600, 2)) < 0.4
    planted = np.array([[3.0, 3.0, 0.0, 0.0, 1.0], [0.0, 0.0, 2.0, 4.0, 1.0]])
    points = states @ planted + 0.1 * rng.normal(size=(600, 5))
    holes = points.copy()
    holes[rng.random(points.shape) < 0.1] = np.nan
    code = BinarySparseCoding(2, hidden_layer_sizes=hidden, n_states=4, missing="ignore", n_init=3, random_state=0).fit(holes)
    assert abs(code.entropy_sums_[-1] - code.lower_bound_) < 1e-9
    assert abs(code.noise_variance_ - 0.01) < 0.002
    np.testing.assert_allclose(code.score(holes), code.lower_bound_, atol=0.01)
    # A point that lacks all values of a cause may be filled with the other state.
    assert np.mean(np.abs(code.reconstruct(holes) - states @ planted) > 0.1) < 0.02
    states = code.most_probable_states(holes)
    assert set(np.unique(states)) == {0.0, 1.0} and states.shape == (600, 2)
    np.testing.assert_allclose(code.inverse_transform(np.eye(2)) - code.mean_, code.components_)
    if hidden == ():
        np.testing.assert_allclose(code.inverse_transform(code.transform(holes)), code.reconstruct(holes), atol=1e-9)
    with pytest.raises(ValueError, match="NaN"):
        BinarySparseCoding(2).fit(holes)


def test_files_of_other_models_are_refused(clusters, tmp_path):
    PPCA(2).fit(clusters).save(tmp_path / "ppca.json")
    with pytest.raises(ValueError, match="found ppca, which is no GaussianMixture; entropysum.load takes any model"):
        GaussianMixture.load(tmp_path / "ppca.json")
    with pytest.raises(FileNotFoundError, match="nowhere.json"):
        entropysum.load(tmp_path / "nowhere.json")
    assert json.loads((tmp_path / "ppca.json").read_text())["model"] == "ppca"


def test_truncated_posteriors_bound_the_likelihood():
    rng = np.random.default_rng(5)
    points = np.repeat(rng.normal(0.0, 6.0, (30, 3)), 40, axis=0) + rng.normal(0.0, 1.0, (1200, 3))
    mixture = GaussianMixture(30, covariance_type="spherical", posterior="truncated", random_state=0).fit(points)
    np.testing.assert_allclose(mixture.lower_bounds_, mixture.entropy_sums_, rtol=1e-9)
    assert mixture.lower_bound_ <= mixture.score(points) + 1e-9
    exact = GaussianMixture(30, covariance_type="spherical", random_state=0).fit(points)
    assert mixture.score(points) > exact.score(points) - 0.05
    with pytest.raises(ValueError, match="truncated"):
        GaussianMixture(3, posterior="truncated").partial_fit(points)
    analyzers = MixtureOfFactorAnalyzers(30, 1, noise="isotropic", posterior="truncated", random_state=0, max_iter=20).fit(points)
    np.testing.assert_allclose(analyzers.lower_bounds_, analyzers.entropy_sums_, rtol=1e-9)
    assert analyzers.lower_bound_ <= analyzers.score(points) + 1e-9
    with pytest.raises(ValueError, match="posterior"):
        MixtureOfFactorAnalyzers(3, posterior="hard").fit(points)
    with pytest.raises(ValueError, match="truncated"):
        MixtureOfFactorAnalyzers(3, posterior="truncated").partial_fit(points)
