"""Autoencoders and sparse codes learn, and hold what they say."""

import numpy as np
import pytest

from entropysum import PPCA, SparseCoding, VariationalAutoencoder


@pytest.fixture(scope="module")
def arc():
    """Points near half a circle, whose place on it is one number."""
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, np.pi, size=(600, 1))
    return 2.0 * np.hstack([np.cos(angles), np.sin(angles)]) + 0.05 * rng.normal(size=(600, 2)) + [3.0, -1.0]


@pytest.mark.parametrize(
    "autoencoder",
    [
        VariationalAutoencoder(1, hidden_layer_sizes=16, epochs=5, random_state=0),
        VariationalAutoencoder(2, hidden_layer_sizes=(8, 4), activation="gelu", decoder="linear", prior="learned", epochs=5, random_state=0),
        VariationalAutoencoder(1, hidden_layer_sizes=8, activation="tanh", prior="laplace", noise="diagonal", epochs=5, random_state=0),
        VariationalAutoencoder(1, hidden_layer_sizes=8, activation="softplus", batch_size=None, max_iter=20, tol=0.0, random_state=0),
        SparseCoding(4, hidden_layer_sizes=8, epochs=5, random_state=0),
    ],
    ids=["vae", "linear decoder", "laplace prior", "all points", "sparse coding"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_entropy_sum_is_the_bound_and_decoders_agree(arc, autoencoder):
    autoencoder.fit(arc)
    np.testing.assert_allclose(autoencoder.entropy_sums_, autoencoder.lower_bounds_, rtol=0, atol=1e-9)
    latents = autoencoder.transform(arc)
    assert latents.shape == (600, autoencoder.n_components)
    np.testing.assert_allclose(autoencoder.inverse_transform(latents), autoencoder.reconstruct(arc), rtol=1e-9, atol=1e-9)
    assert autoencoder.sample(7).shape == (7, 2)
    assert np.shape(autoencoder.noise_variance_) == ((2,) if autoencoder.noise == "diagonal" else ())
    with pytest.raises(ValueError, match="one for each latent"):
        autoencoder.inverse_transform(np.zeros((3, 7)))


def test_a_curve_takes_one_latent(arc):
    autoencoder = VariationalAutoencoder(1, hidden_layer_sizes=32, learning_rate_init=0.01, epochs=100, random_state=0).fit(arc)
    line = PPCA(1).fit(arc)
    assert autoencoder.score(arc) > line.score(arc) + 0.3
    assert np.abs(autoencoder.reconstruct(arc) - arc).mean() < 0.5 * np.abs(line.reconstruct(arc) - arc).mean()


def test_sparse_codes_find_their_dictionary():
    rng = np.random.default_rng(1)
    codes = rng.laplace(size=(2000, 2))
    dictionary = np.array([[3.0, 0.0, 1.0], [0.0, 2.0, -2.0]])
    points = codes @ dictionary + 0.1 * rng.normal(size=(2000, 3)) + [1.0, 2.0, 3.0]
    coding = SparseCoding(2, hidden_layer_sizes=32, learning_rate_init=0.01, epochs=30, random_state=0).fit(points)
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = np.abs(unit(coding.components_) @ unit(dictionary).T)
    assert cosines.max(axis=0).min() > 0.98
    np.testing.assert_allclose(coding.mean_, [1.0, 2.0, 3.0], atol=0.5)


def test_wrong_settings_of_networks_are_named(arc):
    for settings, message in [
        ({"activation": "sigmoid"}, 'activation is "sigmoid", expected tanh or relu or softplus or gelu'),
        ({"prior": "flat"}, 'prior is "flat", expected standard or learned or laplace'),
        ({"learning_rate": "adaptive"}, 'learning_rate is "adaptive", expected constant or cosine'),
        ({"noise": "full"}, 'noise is "full", expected scalar or diagonal'),
        ({"decoder": "deep"}, 'decoder is "deep", expected mlp or linear'),
        ({"learning_rate_init": 0.0}, "learning_rate is 0, expected a positive number"),
    ]:
        with pytest.raises(ValueError, match=message):
            VariationalAutoencoder(1, **settings).fit(arc)
