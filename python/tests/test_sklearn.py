"""The estimators are estimators of scikit-learn."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.mixture import GaussianMixture as Reference
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

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


class Thresholded(SigmoidBeliefNet):
    """A network that takes the real numbers of scikit-learn's checks: positive ones are 1, others 0."""

    def _points(self, X, sample_weight=None, *, reset=False):
        points = super()._points(X, sample_weight, reset=reset)
        return points | {"values": (points["values"] > 0).astype(points["values"].dtype)}


ESTIMATORS = [
    GaussianMixture(random_state=0),
    GaussianMixture(2, covariance_type="diag", random_state=0),
    Mixture(random_state=0),
    MixtureOfFactorAnalyzers(random_state=0),
    PPCA(random_state=0),
    FactorAnalysis(random_state=0),
    Thresholded(random_state=0),
    VariationalAutoencoder(hidden_layer_sizes=4, epochs=2, random_state=0),
    SparseCoding(hidden_layer_sizes=4, epochs=2, random_state=0),
    BinarySparseCoding(n_states=2, random_state=0),
]


def expected_failures(estimator):
    """Return the checks that an estimator cannot pass, and why."""
    weights = "check_sample_weight_equivalence_on_dense_data"
    if estimator.n_components > 1:
        return {weights: "starts choose among rows in their order, and the check shuffles repeated rows"}
    if isinstance(estimator, SigmoidBeliefNet):
        return {weights: "the start holds means off 0 and 1 by a point: repeated rows are more points"}
    if isinstance(estimator, VariationalAutoencoder):
        drawn = "the noise of a sampled bound belongs to the place of a point"
        checks = [weights, "check_methods_sample_order_invariance", "check_methods_subset_invariance"]
        return dict.fromkeys(checks, drawn)
    return {}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_estimators_keep_the_conventions_of_scikit_learn(estimator, check):
    check(estimator)


def from_the_same_start(points, covariance_type, reg_covar):
    """Return a fit of scikit-learn and one of ours from the same weights, means and precisions, after equally many iterations."""
    n = 8
    rng = np.random.default_rng(3)
    start = {
        "weights_init": np.full(3, 1 / 3),
        "means_init": points[rng.choice(len(points), 3, replace=False)],
        "precisions_init": {
            "full": np.stack([np.eye(4)] * 3),
            "tied": np.eye(4),
            "diag": np.ones((3, 4)),
            "spherical": np.ones(3),
        }[covariance_type],
    }
    common = {"covariance_type": covariance_type, "tol": 0.0, "max_iter": n, "reg_covar": reg_covar}
    return Reference(3, **common, **start).fit(points), GaussianMixture(3, **common, **start).fit(points)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("reg_covar", [0.0, 1e-2])
def test_iterations_agree_with_scikit_learn_from_the_same_start(clusters, covariance_type, reg_covar):
    theirs, ours = from_the_same_start(clusters, covariance_type, reg_covar)
    for name in ["weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"]:
        found, expected = getattr(ours, name), getattr(theirs, name)
        assert found.shape == expected.shape, name
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(ours.history_["log_likelihood"], theirs.lower_bounds_, rtol=1e-11)
    np.testing.assert_allclose(ours.score_samples(clusters), theirs.score_samples(clusters), rtol=1e-8)
    np.testing.assert_allclose(ours.predict_proba(clusters), theirs.predict_proba(clusters), atol=1e-8)
    assert (ours.predict(clusters) == theirs.predict(clusters)).all()
    assert ours.bic(clusters) == pytest.approx(theirs.bic(clusters), rel=1e-10)
    assert ours.aic(clusters) == pytest.approx(theirs.aic(clusters), rel=1e-10)
    assert ours.n_iter_ == theirs.n_iter_ == 8


def test_a_ridge_leaves_the_gap_of_the_theory_and_none_leaves_none(clusters):
    exact = GaussianMixture(3, random_state=0).fit(clusters)
    assert np.abs(exact.history_["gap"]).max() < 1e-10
    np.testing.assert_allclose(exact.entropy_sums_, exact.lower_bounds_, rtol=1e-11)
    ridge = GaussianMixture(3, reg_covar=0.1, random_state=0).fit(clusters)
    trace = np.trace(ridge.precisions_, axis1=1, axis2=2)
    assert ridge.history_["gap"][-1] == pytest.approx(0.05 * ridge.weights_ @ trace, rel=1e-6)


def test_a_prior_leaves_the_gap_of_the_theory(clusters):
    n, d = clusters.shape
    fit = GaussianMixture(3, covariance_prior="conjugate", random_state=0).fit(clusters)
    scale = np.cov(clusters.T, bias=True) / 3 ** (2 / d)
    gap = sum(np.trace(precision @ scale) - (2 * d + 3) * d for precision in fit.precisions_) / (2 * n)
    assert fit.history_["gap"][-1] == pytest.approx(gap, rel=1e-6)
    objective = fit.history_["lower_bound"] + fit.history_["log_prior"]
    assert np.diff(objective).min() > -1e-12
    with pytest.raises(ValueError, match="partial_fit"):
        fit.partial_fit(clusters)
    with pytest.raises(ValueError, match="conjugate"):
        GaussianMixture(3, covariance_prior="wishart").fit(clusters)


def test_one_initial_value_replaces_that_of_the_start(clusters):
    means = clusters[[0, 1, 2]]
    weights = [0.2, 0.3, 0.5]
    first = GaussianMixture(3, means_init=means, weights_init=weights, random_state=0, max_iter=1, tol=0.0)
    with pytest.warns(Warning, match="no convergence"):
        first.fit(clusters)
    assert first.converged_ is False and first.stop_reason_ == "max_iter"
    with pytest.raises(ValueError, match=r"means_init has shape \(2, 4\), expected \(3, 4\)"):
        GaussianMixture(3, means_init=means[:2]).fit(clusters)


def test_estimators_work_in_pipelines_and_searches(clusters):
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(random_state=0, n_threads=1))
    sizes = {"gaussianmixture__n_components": [1, 2, 3]}
    search = GridSearchCV(pipeline, sizes, cv=3, n_jobs=2).fit(clusters)
    assert search.best_params_ == {"gaussianmixture__n_components": 3}
    assert search.best_estimator_.predict(clusters).max() == 2


def test_a_clone_is_not_fitted_and_learns_the_same(clusters):
    first = GaussianMixture(3, random_state=5).fit(clusters)
    again = clone(first)
    assert not hasattr(again, "model_")
    again.fit(clusters)
    assert again.model_.to_bytes() == first.model_.to_bytes()


def test_transforms_have_names_and_outputs_of_scikit_learn(clusters):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(clusters, columns=["a", "b", "c", "d"])
    transformed = PPCA(2).set_output(transform="pandas").fit_transform(frame)
    assert list(transformed.columns) == ["ppca0", "ppca1"]
    assert transformed.shape == (900, 2)


def test_wrong_settings_are_named(clusters):
    for estimator, message in [
        (GaussianMixture(covariance_type="round"), "covariance_type is 'round', expected one of full, tied"),
        (GaussianMixture(init_params="best"), 'init_params is "best", expected auto'),
        (GaussianMixture(posterior="soft"), 'posterior is "soft", expected exact or hard'),
        (GaussianMixture(reg_covar=-1.0), "reg_covar is -1"),
        (GaussianMixture(max_iter=0), "max_iter must be at least 1"),
        (GaussianMixture(missing="drop"), "missing is 'drop'"),
        (GaussianMixture(901), "components"),
        (Mixture(family="gauss"), 'no model is called "gauss"'),
        (Mixture(family="poisson"), "X: row"),
        (Mixture(family="binomial"), '"trials" must be given'),
        (MixtureOfFactorAnalyzers(noise="none"), "noise is 'none', expected one of diagonal, tied, isotropic"),
        (PPCA(4), "ppca"),
        (FactorAnalysis(algorithm="closed-form"), "factor analysis has no closed form"),
    ]:
        with pytest.raises(ValueError, match=message.replace("(", r"\(")):
            estimator.fit(clusters)
