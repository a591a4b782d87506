"""Points of all kinds give the same bits as plain arrays."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from scipy import sparse

from entropysum import GaussianMixture, Mixture, PPCA


def fitted(points, **settings):
    return GaussianMixture(3, random_state=0, **settings).fit(points)


def same_bits(a, b):
    return all(np.array_equal(a.parameters_[name], b.parameters_[name]) for name in a.parameters_)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_orders_and_strides_do_not_matter(clusters, dtype):
    points = np.ascontiguousarray(clusters, dtype=dtype)
    expected = fitted(points)
    wide = np.zeros((2 * len(points), 9), dtype=dtype)
    wide[::2, 1::2] = points
    layouts = {
        "columns": np.asfortranarray(points),
        "every other": wide[::2, 1::2],
        "reversed": np.ascontiguousarray(points[::-1, ::-1])[::-1, ::-1],
        "other byte order": points.astype(points.dtype.newbyteorder()),
        "not aligned": np.frombuffer(b"x" + points.tobytes(), dtype=np.uint8)[1:].view(dtype).reshape(points.shape),
    }
    for name, layout in layouts.items():
        found = fitted(layout)
        assert same_bits(found, expected), name
        assert np.array_equal(found.predict(layout), expected.predict(points)), name
    assert np.array_equal(fitted(points.astype(np.float32)).means_, expected.means_) == (dtype == np.float32)


def test_whole_numbers_and_lists_are_points(clusters):
    points = np.round(clusters * 10).astype(int)
    assert same_bits(fitted(points), fitted(points.astype(float)))
    assert same_bits(fitted(points.tolist()), fitted(points.astype(float)))


def test_memory_maps_are_not_copied(tmp_path):
    """A fit, labels and scores of 32 MB take less than 10 MB."""
    path = tmp_path / "points.npy"
    rng = np.random.default_rng(0)
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(1 << 19, 8))
    for start in range(0, len(file), 1 << 16):
        file[start : start + (1 << 16)] = rng.normal(size=(1 << 16, 8)) + 5 * rng.integers(0, 2, (1 << 16, 1))
    file.flush()
    del file
    code = textwrap.dedent(
        f"""
        import numpy as np
        from entropysum import GaussianMixture

        def anonymous():
            # Resident pages that are no pages of a file.
            lines = open("/proc/self/status").read().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

        X = np.load({str(path)!r}, mmap_mode="r")
        mixture = GaussianMixture(2, covariance_type="diag", random_state=0, max_iter=2, tol=0.0)
        mixture.fit(X[:4096])
        before, peak = anonymous(), []
        mixture.set_params(callback=lambda record: peak.append(anonymous()))
        mixture.fit(X)
        mixture.score(X)
        print(max(peak + [anonymous()]) - before)
        """
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("the kernel tells the kinds of pages on Linux alone")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 10.0


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_data_frames_give_names(clusters, kind, tmp_path):
    module = pytest.importorskip(kind)
    names = ["length", "width", "height", "depth"]
    columns = {name: clusters[:, d] for d, name in enumerate(names)}
    frame = module.table(columns) if kind == "pyarrow" else module.DataFrame(columns)
    found = fitted(frame)
    assert same_bits(found, fitted(clusters))
    assert found.feature_names_in_.tolist() == names
    assert np.array_equal(found.predict(frame), fitted(clusters).predict(clusters))
    found.save(tmp_path / "model.json")
    assert GaussianMixture.load(tmp_path / "model.json").feature_names_in_.tolist() == names


def customers():
    """Two kinds of customers."""
    rng = np.random.default_rng(4)
    kind = rng.integers(0, 2, 400)
    return {
        "age": rng.normal(np.where(kind == 0, 25.0, 60.0), 4.0),
        "visits": rng.poisson(np.where(kind == 0, 2.0, 12.0)),
        "city": np.where(rng.random(400) < np.where(kind == 0, 0.9, 0.1), "Oldenburg", "Bremen"),
        "member": rng.random(400) < np.where(kind == 0, 0.2, 0.8),
    }, kind


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_columns_of_different_kinds_have_a_family_each(kind, tmp_path):
    module = pytest.importorskip(kind)
    columns, truth = customers()
    frame = module.table(columns) if kind == "pyarrow" else module.DataFrame(columns)
    blocks = [("gaussian-diag", ["age"]), ("poisson", ["visits"]), ("categorical", ["city"]), ("bernoulli", ["member"])]
    mixture = Mixture(2, family=blocks, random_state=0).fit(frame)
    guessed = Mixture(2, family="auto", random_state=0).fit(frame)
    assert guessed.model_.name == mixture.model_.name == "gaussian-diag:0,poisson:1,categorical:2,bernoulli:3"
    labels = mixture.predict(frame)
    assert max((labels == truth).mean(), (labels != truth).mean()) > 0.97
    # Levels are the texts in their order, and stay those of the fit.
    first = frame[:1] if kind != "pyarrow" else frame.slice(0, 1)
    assert mixture.predict(first)[0] == labels[0]
    mixture.save(tmp_path / "customers.json")
    loaded = Mixture.load(tmp_path / "customers.json")
    assert np.array_equal(loaded.predict(frame), labels)
    with pytest.raises(ValueError, match="'Hamburg' is none of the levels of the fit"):
        columns["city"] = np.where(np.arange(400) == 7, "Hamburg", columns["city"])
        mixture.predict(module.table(columns) if kind == "pyarrow" else module.DataFrame(columns))


def test_pandas_categories_keep_their_order():
    pandas = pytest.importorskip("pandas")
    sizes = pandas.Categorical(["small", "large"] * 10, categories=["small", "large", "huge"])
    frame = pandas.DataFrame({"size": sizes, "price": np.linspace(0, 1, 20)})
    mixture = Mixture(1, family=[("categorical", "size"), ("gaussian-diag", "price")]).fit(frame)
    assert mixture.model_.level_names[0] == ["small", "large", "huge"]


def test_missing_values_are_left_out_if_that_is_asked_for(clusters):
    points = clusters.copy()
    points[::7, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        GaussianMixture(3, covariance_type="diag").fit(points)
    mixture = GaussianMixture(3, covariance_type="diag", missing="ignore", random_state=0).fit(points)
    assert np.isfinite(mixture.score_samples(points)).all()
    whole = GaussianMixture(3, covariance_type="diag", random_state=0).fit(clusters)
    assert (mixture.predict(points) == whole.predict(clusters)).mean() > 0.95 or mixture.score(points) > whole.score(clusters)
    assert np.isfinite(PPCA(1, missing="ignore").fit(points).lower_bound_)


def test_full_covariances_fill_missing_values(clusters):
    rng = np.random.default_rng(1)
    holes = np.where(rng.random(clusters.shape) < 0.2, np.nan, clusters)
    mixture = GaussianMixture(3, missing="ignore", random_state=0).fit(holes)
    assert np.abs(mixture.history_["gap"]).max() < 1e-10
    whole = GaussianMixture(3, random_state=0).fit(clusters)
    assert mixture.score(clusters) > whole.score(clusters) - 0.1
    assert mixture.predict_proba(holes).shape == (900, 3)
    with pytest.raises(ValueError, match="NaN"):
        GaussianMixture(3).fit(holes)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("family", ["poisson", "multinomial", "bernoulli"])
def test_sparse_counts_agree_with_dense_ones(family, dtype):
    rng = np.random.default_rng(3)
    rates = np.where(rng.random((2, 30)) < 0.3, 2.0, 0.05)
    counts = rng.poisson(rates[rng.integers(0, 2, 500)])
    counts = (np.minimum(counts, 1) if family == "bernoulli" else counts).astype(dtype)
    matrix = sparse.csr_matrix(counts)
    thin = Mixture(2, family=family, random_state=0, warm_start=True).fit(matrix)
    tolerance = 1e-4 if dtype == np.float32 else 1e-8
    np.testing.assert_allclose(thin.score_samples(matrix), thin.score_samples(counts), rtol=tolerance)
    assert np.array_equal(thin.predict(matrix), thin.predict(counts))
    assert thin.predict(sparse.csc_array(matrix)).shape == (500,)
    # Dense points have another start, so that the fit goes on from that of sparse ones: it is there already.
    assert thin.score(counts) == pytest.approx(thin.fit(counts).score(counts), abs=1e-4)


def test_families_of_dense_points_refuse_sparse_ones():
    with pytest.raises(TypeError, match="[Ss]parse"):
        Mixture(family="gamma").fit(sparse.eye(5, format="csr"))


def test_files_are_read_where_they_are(clusters, tmp_path):
    for part, points in enumerate(np.array_split(clusters, 3)):
        np.save(tmp_path / f"part-{part}.npy", points)
    expected = fitted(clusters)
    pattern = tmp_path / "part-*.npy"
    found = fitted(str(pattern))
    assert same_bits(found, expected)
    assert same_bits(fitted(pattern), expected)
    assert same_bits(fitted(sorted(tmp_path.glob("part-*.npy"))), expected)
    assert found.n_features_in_ == 4
    assert np.array_equal(found.predict(pattern), expected.predict(clusters))
    assert found.score(pattern) == expected.score(clusters)
    weights = np.linspace(0.5, 1.5, 900)
    by_file = GaussianMixture(3, random_state=0).fit(pattern, sample_weight=weights)
    assert same_bits(by_file, GaussianMixture(3, random_state=0).fit(clusters, sample_weight=weights))
    stream = GaussianMixture(3, random_state=0, batch_size=100).fit(pattern)
    assert stream.score(pattern) == pytest.approx(expected.score(clusters), abs=0.05)
    assert same_bits(fitted(pattern, dtype="float32"), fitted(clusters.astype(np.float32)))
    with pytest.raises(FileNotFoundError):
        fitted(tmp_path / "no.npy")


def test_tables_have_names_levels_and_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    columns, _ = customers()
    frame = pandas.DataFrame(columns).drop(columns="member")
    blocks = [("gaussian-diag", ["age"]), ("poisson", ["visits"]), ("categorical", ["city"])]
    expected = Mixture(2, family=blocks, random_state=0).fit(frame)
    frame.to_csv(tmp_path / "customers.csv", index=False)
    found = Mixture(2, family=blocks, random_state=0).fit(tmp_path / "customers.csv")
    assert found.feature_names_in_.tolist() == ["age", "visits", "city"]
    assert found.score(tmp_path / "customers.csv") == pytest.approx(expected.score(frame), abs=1e-6)
    numbers = frame[["age", "visits"]]
    numbers.to_parquet(tmp_path / "customers.parquet")
    from_file = GaussianMixture(2, random_state=0).fit(tmp_path / "customers.parquet")
    assert same_bits(from_file, GaussianMixture(2, random_state=0).fit(numbers))
    # Names are those of the last fit.
    from_file.fit(frame[["visits", "age"]].to_numpy())
    assert not hasattr(from_file, "feature_names_in_")
    from_file.fit(tmp_path / "customers.parquet")
    assert from_file.feature_names_in_.tolist() == ["age", "visits"]
    # Columns are matched by name.
    frame[["city", "visits", "age"]].to_csv(tmp_path / "other.csv", index=False)
    assert found.score(tmp_path / "other.csv") == found.score(tmp_path / "customers.csv")


def test_arrays_of_other_libraries_come_by_dlpack(clusters):
    class Tensor:
        """What an array of another library offers."""

        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    assert same_bits(fitted(Tensor(clusters)), fitted(clusters))


def test_bad_points_are_refused_with_their_row(clusters):
    points = np.abs(clusters)
    points[17, 2] = -1.0
    with pytest.raises(ValueError, match="row 17, column 2"):
        Mixture(2, family="gamma").fit(points)
    with pytest.raises(ValueError, match="row 3: weight|Negative"):
        GaussianMixture(2).fit(clusters, sample_weight=np.where(np.arange(900) == 3, -1.0, 1.0))
