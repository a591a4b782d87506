"""Fits are kept in files and go on to the same bits; points are held out."""

import numpy as np
import pytest

from entropysum import GaussianMixture, SigmoidBeliefNet, VariationalAutoencoder


@pytest.mark.parametrize(
    "settings",
    [{"tol": 0.0, "max_iter": 8}, {"batch_size": 100, "epochs": 2}],
    ids=["batch", "minibatches"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_that_was_ended_goes_on_to_the_same_bits(clusters, tmp_path, settings):
    whole = GaussianMixture(3, random_state=0, **settings).fit(clusters)
    state = tmp_path / "fit.state"
    first = GaussianMixture(3, random_state=0, **settings, callback=lambda record: record["iteration"] >= 4)
    first.fit(clusters, checkpoint=state)
    assert first.stop_reason_ == "observer" and first.n_iter_ < whole.n_iter_
    second = GaussianMixture(3, random_state=0, **settings).fit(clusters, checkpoint=state, resume=True)
    assert second.model_.to_bytes() == whole.model_.to_bytes()
    assert second.n_iter_ == whole.n_iter_


@pytest.mark.filterwarnings("ignore")
def test_networks_are_kept_too(tmp_path):
    points = np.random.default_rng(0).integers(0, 2, (200, 6)).astype(float)
    for estimator in [
        SigmoidBeliefNet(4, posterior="truncated", n_states=4, random_state=0, tol=0.0, max_iter=4),
        VariationalAutoencoder(2, hidden_layer_sizes=4, batch_size=50, epochs=4, random_state=0),
    ]:
        state = tmp_path / type(estimator).__name__
        whole = estimator.fit(points).model_.to_bytes()
        estimator.set_params(callback=lambda record: record["iteration"] >= 2).fit(points, checkpoint=state)
        assert estimator.model_.to_bytes() != whole
        estimator.set_params(callback=None).fit(points, checkpoint=state, resume=True)
        assert estimator.model_.to_bytes() == whole


def test_states_of_other_fits_are_refused(clusters, tmp_path):
    state = tmp_path / "fit.state"
    GaussianMixture(2, random_state=0).fit(clusters, checkpoint=state)
    for other, points in [
        (GaussianMixture(3, random_state=0), clusters),
        (GaussianMixture(2, random_state=1), clusters),
        (GaussianMixture(2, random_state=0), clusters + 1.0),
    ]:
        with pytest.raises(ValueError, match="checkpoint"):
            other.fit(points, checkpoint=state, resume=True)
    with pytest.raises(ValueError, match="n_init must be 1"):
        GaussianMixture(2, n_init=2).fit(clusters, checkpoint=state)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_points_that_are_held_out_are_scored_and_not_learned(clusters, dtype):
    learned, held_out = clusters[:600].astype(dtype), clusters[600:]
    settings = {"random_state": 0, "batch_size": 100, "epochs": 3}
    audited = GaussianMixture(3, **settings).fit(learned, held_out=held_out)
    audits = audited.history_["audit"]
    assert np.isfinite(audits).sum() >= 1
    plain = GaussianMixture(3, **settings).fit(learned)
    assert plain.model_.to_bytes() == audited.model_.to_bytes()
    last = audits[np.isfinite(audits)][-1]
    assert last == pytest.approx(audited.score(held_out.astype(dtype)), abs=0.1)
    assert not np.isfinite(plain.history_["audit"]).any()


def test_points_are_held_out_of_minibatches_only(clusters):
    with pytest.raises(ValueError, match="held_out is for fits by minibatches: give batch_size"):
        GaussianMixture(2).fit(clusters, held_out=clusters)
    with pytest.raises(ValueError, match="features"):
        GaussianMixture(2, batch_size=100).fit(clusters, held_out=clusters[:, :2])
