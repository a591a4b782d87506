"""Points of Dask: the same bits on any number of workers, also if some are lost."""

import logging
import os
import pickle
import signal
import time
import warnings

import numpy as np
import pytest

import entropysum

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
on_dask = pytest.importorskip("entropysum.dask")
pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def cluster():
    """Workers that are processes of a thread each."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": logging.CRITICAL}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        cluster.client = client
        yield cluster


@pytest.fixture(scope="module")
def points():
    """Three clusters that overlap."""
    rng = np.random.default_rng(11)
    centres = np.array([[0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 2.0, 0.0], [0.0, 4.0, 0.0, 3.0]])
    return centres[rng.integers(0, 3, 20_000)] + rng.normal(size=(20_000, 4))


def fitted(X, callback=None, **settings):
    """Fit for four iterations."""
    settings = {"n_components": 4, "random_state": 0, "tol": 0.0, "max_iter": 4} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return on_dask.GaussianMixture(**settings, callback=callback).fit(X)


def test_arrays_of_dask_give_lazy_arrays_of_dask(cluster, points):
    # Columns in chunks too, and chunks of unlike sizes, one of which is empty.
    X = da.from_array(points, chunks=((9000, 0, 11_000), (3, 1)))
    mixture = fitted(X)
    local = mixture.local()
    assert type(local) is entropysum.GaussianMixture
    for method in ("predict", "predict_proba", "score_samples"):
        found, expected = getattr(mixture, method)(X), getattr(local, method)(points)
        assert isinstance(found, da.Array) and found.shape == expected.shape and found.dtype == expected.dtype, method
        assert np.array_equal(found.compute(), expected), method
        assert isinstance(getattr(mixture, method)(points), np.ndarray)
    for criterion in ("score", "icl"):
        assert getattr(mixture, criterion)(X) == pytest.approx(getattr(local, criterion)(points), rel=1e-12)
    again = pickle.loads(pickle.dumps(mixture))
    assert again.model_.to_bytes() == mixture.model_.to_bytes()
    labels = mixture.set_params(tol=1e9).fit_predict(X)
    assert isinstance(labels, da.Array) and len(labels.compute()) == len(points)

    analysers = on_dask.MixtureOfFactorAnalyzers(2, 2, random_state=0, max_iter=2, tol=1e9).fit(X)
    latents = analysers.transform(X)
    assert latents.shape == (len(points), 2)
    assert np.array_equal(latents.compute(), analysers.local().transform(points))


def test_single_precision_stays_single(cluster, points):
    X = points[:3000].astype(np.float32)
    found = fitted(da.from_array(X, chunks=1100))
    np.testing.assert_allclose(found.lower_bounds_, fitted(X).lower_bounds_, atol=1e-4)


def test_frames_have_names_and_texts(cluster, points):
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(points[:3000, :2], columns=["age", "income"])
    frame["city"] = np.array(["Ulm", "Bonn", "Kiel"])[rng.integers(0, 3, 3000)]
    frame.loc[frame.index < 2000, "city"] = "Ulm"
    family = [("gaussian-diag", ["age", "income"]), ("categorical", ["city"])]
    local = entropysum.Mixture(3, family=family, random_state=0).fit(frame)
    X = dd.from_pandas(frame, npartitions=3)
    found = on_dask.Mixture(3, family=family, random_state=0).fit(X)
    assert found.feature_names_in_.tolist() == ["age", "income", "city"]
    assert found.model_.level_names == local.model_.level_names == [[], [], ["Bonn", "Kiel", "Ulm"]]
    for name, values in local.parameters_.items():
        np.testing.assert_allclose(found.parameters_[name], values, atol=1e-9, err_msg=name)
    labels = found.predict(X)
    assert isinstance(labels, da.Array)
    assert np.array_equal(labels.compute(), found.local().predict(frame))
    assert found.predict_proba(X).compute().shape == (3000, 3)
    assert found.score(X) == pytest.approx(found.local().score(frame), abs=1e-12)


def test_files_are_read_by_the_workers(cluster, points, tmp_path):
    for name, part in zip("abc", np.split(points, [5000, 12_000]), strict=True):
        np.save(tmp_path / f"{name}.npy", part)
    pattern, paths = str(tmp_path / "?.npy"), [str(tmp_path / f"{name}.npy") for name in "abc"]
    found = fitted(pattern)
    assert found.model_.to_bytes() == fitted(paths).model_.to_bytes()
    np.testing.assert_allclose(found.lower_bounds_, fitted(points).lower_bounds_, atol=1e-9)
    assert np.array_equal(found.predict(paths).compute(), found.predict(points))
    assert found.score(pattern) == pytest.approx(found.score(points), abs=1e-12)
    with pytest.raises(FileNotFoundError, match="missing.npy"):
        fitted([paths[0], str(tmp_path / "missing.npy")])
    with pytest.raises(ValueError, match="partition 0: found weights of files"):
        on_dask.GaussianMixture(2).fit(paths[:2], sample_weight=da.ones(2, chunks=1))


def test_tables_have_names(cluster, tmp_path):
    rng = np.random.default_rng(6)
    paths = [tmp_path / f"{k}.csv" for k in range(2)]
    frame = pd.DataFrame(rng.normal(size=(400, 3)), columns=["a", "b", "c"])
    frame["a"] += 6 * (rng.random(400) < 0.5)
    for path, part in zip(paths, (frame[:150], frame[150:]), strict=True):
        part.to_csv(path, index=False)
    with pytest.warns(Warning, match="no convergence") as told:
        on_dask.GaussianMixture(2, random_state=0, max_iter=1).fit(paths)
    assert told[0].filename == __file__
    found = on_dask.GaussianMixture(2, random_state=0).fit(paths)
    assert found.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(found.means_, entropysum.GaussianMixture(2, random_state=0).fit(frame).means_, atol=1e-9)


def test_weights_count_points(cluster, points):
    X, weights = points[:5000], np.random.default_rng(8).integers(0, 3, 5000).astype(float)
    local = entropysum.GaussianMixture(3, random_state=0, tol=0.01).fit(X, sample_weight=weights)
    on = da.from_array(X, chunks=2000)
    for given in (weights, da.from_array(weights, chunks=700)):
        found = on_dask.GaussianMixture(3, random_state=0, tol=0.01).fit(on, sample_weight=given)
        np.testing.assert_allclose(found.means_, local.means_, atol=1e-9)
        assert found.score(on, sample_weight=given) == pytest.approx(local.score(X, sample_weight=weights), abs=1e-9)
    frame = dd.from_pandas(pd.DataFrame({"x": X[:, 0], "y": X[:, 1], "n": weights}), npartitions=3)
    found = on_dask.GaussianMixture(2, random_state=0, tol=0.01).fit(frame[["x", "y"]], sample_weight=frame["n"])
    expected = entropysum.GaussianMixture(2, random_state=0, tol=0.01).fit(X[:, :2], sample_weight=weights)
    np.testing.assert_allclose(found.means_, expected.means_, atol=1e-9)
    with pytest.raises(ValueError, match="expected one of Dask"):
        on_dask.GaussianMixture(2).fit(frame[["x", "y"]], sample_weight=weights)
    with pytest.raises(ValueError, match=r"has shape \(3,\), expected \(5000,\)"):
        on_dask.GaussianMixture(2).fit(on, sample_weight=[1.0, 2.0, 3.0])


def test_faults_name_the_first_partition_and_its_row(cluster, points):
    bad = points.copy()
    bad[[9000, 17_000], 1] = np.nan
    # Without a start the rows of an E-step are the first that are looked at.
    settings = {"means_init": points[:4], "weights_init": np.full(4, 0.25), "precisions_init": np.tile(np.eye(4), (4, 1, 1))}
    for _ in range(2):
        with pytest.raises(ValueError, match="partition 4: row 1000, column 1: the value is NaN"):
            fitted(da.from_array(bad, chunks=2000), **settings)
    with pytest.raises(ValueError, match="1 dimension"):
        fitted(da.ones(10, chunks=5))
    with pytest.raises(ValueError, match="takes a batch in memory"):
        on_dask.GaussianMixture(2).partial_fit(da.ones((10, 2), chunks=5))
    with pytest.raises(ValueError, match="points that lie elsewhere are for batch EM"):
        fitted(da.from_array(points, chunks=5000), batch_size=100)


def test_there_may_be_more_partitions_than_points(cluster, points):
    X = da.from_array(points[:5], chunks=1)
    # Lengths of chunks that are not known, and chunks that are empty.
    X = X[X[:, 0] > -np.inf]
    X = da.concatenate([X, X[X[:, 0] > np.inf]])
    found = fitted(X, n_components=2, covariance_type="spherical")
    expected = fitted(points[:5], n_components=2, covariance_type="spherical")
    np.testing.assert_allclose(found.lower_bounds_, expected.lower_bounds_, atol=1e-9)
    assert np.array_equal(found.predict(X).compute(), expected.predict(points[:5]))


def test_no_cluster_is_needed(points):
    X = da.from_array(points[:4000], chunks=1500)
    with dask.config.set(scheduler="synchronous"):
        found = fitted(X)
    np.testing.assert_allclose(found.lower_bounds_, fitted(points[:4000]).lower_bounds_, atol=1e-9)


def test_workers_and_their_loss_do_not_change_a_bit(cluster, points):
    X = da.from_array(points, chunks=(1800, 4))
    fits, killed = [fitted(X)], []
    cluster.scale(3)
    cluster.client.wait_for_workers(3)

    def kill(record):
        if record["iteration"] == 2:
            killed.extend(cluster.client.run(os.getpid).values())
            os.kill(killed[0], signal.SIGKILL)

    fits.append(fitted(X, kill))
    assert len(killed) == 3
    # Workers end in their own time, and the one that was killed may just have been started again. The scheduler is asked for
    # them: a question to a worker that just ends is an error.
    cluster.scale(1)
    end = time.monotonic() + 60
    while len(cluster.client.nthreads()) == 3 and time.monotonic() < end:
        time.sleep(0.1)
    assert len(cluster.client.nthreads()) < 3
    fits.append(fitted(X))
    assert len({fit.model_.to_bytes() for fit in fits}) == 1
    assert len({tuple(fit.lower_bounds_) for fit in fits}) == 1

    local = fitted(points)
    np.testing.assert_allclose(fits[0].lower_bounds_, local.lower_bounds_, atol=1e-9)
    np.testing.assert_allclose(fits[0].means_, local.means_, atol=1e-9)
    assert fits[0].n_iter_ == 4 and fits[0].stop_reason_ == "max_iter"
