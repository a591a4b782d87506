"""What the examples of scikit-learn's GaussianMixture ask of an estimator: the same calls, attributes and shapes."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as Reference
from sklearn.model_selection import GridSearchCV

from entropysum import GaussianMixture


@pytest.fixture(scope="module")
def pair():
    """A flat cluster that is turned, and a round one."""
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(200, 2)) @ [[0.0, -0.1], [1.7, 0.4]]
    return np.concatenate([flat, 0.7 * rng.normal(size=(200, 2)) + [-4.0, 1.0]])


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_covariances_can_be_drawn(pair, covariance_type):
    """As in plot_gmm_covariances: means that are set before the fit, and an ellipse from each shape of covariances."""
    mixture = GaussianMixture(n_components=2, covariance_type=covariance_type, max_iter=20, tol=1e-3, random_state=0)
    mixture.means_init = np.array([pair[:200].mean(axis=0), pair[200:].mean(axis=0)])
    mixture.fit(pair)
    assert mixture.n_components == 2 and mixture.means_.shape == (2, 2)
    for component in range(2):
        covariance = {
            "full": lambda: mixture.covariances_[component],
            "tied": lambda: mixture.covariances_,
            "diag": lambda: np.diag(mixture.covariances_[component]),
            "spherical": lambda: np.eye(mixture.means_.shape[1]) * mixture.covariances_[component],
        }[covariance_type]()
        assert (np.linalg.eigvalsh(covariance) > 0).all()
    labels = mixture.predict(pair)
    assert np.mean(labels == np.repeat([0, 1], 200)) > 0.95


@pytest.mark.filterwarnings("ignore")
def test_a_search_by_bic_chooses_the_true_model(pair):
    """As in plot_gmm_selection: a score that calls bic, and a mixture of default settings."""
    grid = {"n_components": range(1, 4), "covariance_type": ["spherical", "tied", "diag", "full"]}
    search = GridSearchCV(GaussianMixture(random_state=0), grid, scoring=lambda estimator, X: -estimator.bic(X))
    search.fit(pair)
    assert search.best_params_ == {"covariance_type": "full", "n_components": 2}
    assert len(set(search.predict(pair))) == 2
    assert search.best_estimator_.covariances_.shape == (2, 2, 2)


def test_densities_on_a_grid_are_those_of_scikit_learn(pair):
    """As in plot_gmm_pdf: log-densities for contours."""
    x, y = np.meshgrid(np.linspace(-8.0, 6.0, 30), np.linspace(-3.0, 4.0, 30))
    grid = np.array([x.ravel(), y.ravel()]).T
    ours = GaussianMixture(n_components=2, covariance_type="full", reg_covar=1e-6, random_state=0, tol=1e-10).fit(pair)
    theirs = Reference(n_components=2, covariance_type="full", tol=1e-10, max_iter=200, random_state=0).fit(pair)
    np.testing.assert_allclose(ours.score_samples(grid), theirs.score_samples(grid), rtol=1e-3)
