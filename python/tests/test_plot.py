"""Pictures hold what they should."""

import numpy as np
import pytest

from entropysum import GaussianMixture, Mixture, MixtureOfFactorAnalyzers, PPCA, plot_selection

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


def test_convergence_is_drawn_from_the_history(clusters):
    mixture = GaussianMixture(3, random_state=0).fit(clusters)
    ax = mixture.plot()
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert np.array_equal(lines["entropy sum"], mixture.entropy_sums_)
    assert np.array_equal(lines["lower bound"], mixture.lower_bounds_)
    assert len(lines) == 3


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical", "tied_diag", "tied_spherical"])
def test_ellipses_have_the_axes_of_the_covariance(clusters, kind):
    mixture = GaussianMixture(3, covariance_type=kind, random_state=0).fit(clusters)
    ax = mixture.plot(clusters, dims=(1, 3))
    assert len(ax.patches) == 6
    covariances = np.asarray(mixture.covariances_)
    matrix = {
        "full": lambda: covariances[0],
        "tied": lambda: covariances,
        "diag": lambda: np.diag(covariances[0]),
        "spherical": lambda: covariances[0] * np.eye(4),
        "tied_diag": lambda: np.diag(covariances),
        "tied_spherical": lambda: covariances * np.eye(4),
    }[kind]()[np.ix_([1, 3], [1, 3])]
    ellipse = ax.patches[0]
    turn = np.radians(ellipse.angle)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    found = axes @ np.diag([ellipse.width**2 / 4, ellipse.height**2 / 4]) @ axes.T
    np.testing.assert_allclose(found, matrix, rtol=1e-9, atol=1e-9)
    assert ellipse.center == pytest.approx(tuple(mixture.means_[0][[1, 3]]))
    assert ax.get_xlabel() == "dimension 1"


def test_models_without_covariances_have_points_alone(clusters):
    ax = Mixture(2, family="gamma", random_state=0).fit(np.abs(clusters) + 0.1).plot(np.abs(clusters) + 0.1)
    assert len(ax.patches) == 0 and len(ax.collections) == 1
    ax = MixtureOfFactorAnalyzers(2, 1, random_state=0).fit(clusters).plot(clusters)
    assert len(ax.patches) == 4
    with pytest.raises(ValueError, match="ppca has no components"):
        PPCA(1).fit(clusters).plot(clusters)


def test_selection_marks_the_best(clusters):
    mixtures = [GaussianMixture(k, random_state=0).fit(clusters) for k in (1, 2, 3, 4)]
    ax = plot_selection(mixtures, clusters, criteria=["bic"])
    curve, best = ax.lines
    assert np.array_equal(curve.get_ydata(), [mixture.bic(clusters) for mixture in mixtures])
    assert best.get_xdata()[0] == mixtures[int(np.argmin(curve.get_ydata()))].n_components == 3


def test_selection_never_marks_a_degenerate_fit(data_folder):
    points = np.loadtxt(data_folder / "geyser.csv", delimiter=",", skiprows=1)
    with pytest.warns(Warning, match="stands at its floor"):
        mixtures = [GaussianMixture(k, n_init=5, random_state=0).fit(points) for k in (3, 5)]
    assert not mixtures[0].floored_ and mixtures[1].floored_
    assert mixtures[1].bic(points) < mixtures[0].bic(points)
    curve, crosses, best = plot_selection(mixtures, points, criteria=["bic"]).lines
    assert best.get_xdata()[0] == 3 and crosses.get_xdata().tolist() == [5]


def test_notebooks_show_the_estimator(clusters):
    mixture = GaussianMixture(3, random_state=0)
    assert "GaussianMixture" in mixture._repr_html_()
    assert "n_components=3" in repr(mixture.fit(clusters))
