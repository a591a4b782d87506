"""The package and the command line learn the same bits, and exchange models."""

import json
import subprocess

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


def run(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("file", "estimator", "options"),
    [
        ("geyser.csv", GaussianMixture(3, random_state=7), ["--model", "gaussian-full", "-k", 3]),
        (
            "wine.csv",
            GaussianMixture(2, covariance_type="tied_diag", random_state=1, reg_covar=0.01, n_init=3),
            ["--model", "gaussian-tied-diag", "-k", 2, "--reg-covar", 0.01, "--n-init", 3],
        ),
        (
            "doctor_visits.npy",
            Mixture(2, family="poisson", random_state=3, init_params="random_from_data", posterior="hard"),
            ["--model", "poisson", "-k", 2, "--init", "random-from-data", "--posterior", "hard"],
        ),
        (
            "china.npy",
            GaussianMixture(4, covariance_type="diag", random_state=2, batch_size=2048, epochs=1),
            ["--model", "gaussian-diag", "-k", 4, "--batch-size", 2048, "--epochs", 1],
        ),
        ("wine.csv", PPCA(3, random_state=0), ["--model", "ppca", "--latent", 3]),
        ("wine.csv", FactorAnalysis(2, random_state=0, rotation="varimax"), ["--model", "factor-analysis", "--latent", 2, "--rotation", "varimax"]),
        ("wine.csv", MixtureOfFactorAnalyzers(2, 2, random_state=4), ["--model", "mfa", "-k", 2, "--latent", 2]),
        (
            "digits_binary.npy",
            SigmoidBeliefNet(3, random_state=5, max_iter=5),
            ["--model", "sbn", "--latent", 3, "--max-iter", 5],
        ),
        (
            "wine.csv",
            VariationalAutoencoder(2, hidden_layer_sizes=(8, 4), activation="tanh", noise="diagonal", epochs=3, random_state=6),
            ["--model", "vae", "--latent", 2, "--hidden", "8,4", "--activation", "tanh", "--noise", "diagonal", "--epochs", 3],
        ),
        (
            "wine.csv",
            SparseCoding(5, hidden_layer_sizes=8, epochs=3, batch_size=50, random_state=7),
            ["--model", "sparse-coding", "--latent", 5, "--hidden", 8, "--epochs", 3, "--batch-size", 50],
        ),
        (
            "wine.csv",
            BinarySparseCoding(4, hidden_layer_sizes=6, n_states=8, max_iter=4, random_state=8),
            ["--model", "binary-sparse-coding", "--latent", 4, "--hidden", 6, "--states", 8, "--max-iter", 4],
        ),
    ],
    ids=lambda it: it if isinstance(it, str) else type(it).__name__,
)
@pytest.mark.filterwarnings("ignore")
def test_fits_have_the_same_bits(program, data_folder, tmp_path, file, estimator, options):
    run(program, "fit", data_folder / file, *options, "--seed", estimator.random_state, "-o", tmp_path / "theirs.safetensors", "-q")
    estimator.fit(data_folder / file).save(tmp_path / "ours.safetensors")
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


def test_models_are_exchanged_both_ways(program, data_folder, tmp_path):
    data = data_folder / "geyser.csv"
    mixture = GaussianMixture(3, random_state=0).fit(data)
    mixture.save(tmp_path / "ours.json")
    run(program, "predict", tmp_path / "ours.json", data, "-o", tmp_path / "labels.npy")
    assert np.array_equal(np.load(tmp_path / "labels.npy").ravel(), mixture.predict(data))
    score = json.loads(run(program, "score", tmp_path / "ours.json", data, "--json"))
    assert score["log_likelihood"] == mixture.score(data)
    assert score["bic"] == mixture.bic(data)

    run(program, "fit", data, "-k", 2, "--model", "gaussian-diag", "-o", tmp_path / "theirs.safetensors", "-q")
    loaded = entropysum.load(tmp_path / "theirs.safetensors")
    assert isinstance(loaded, GaussianMixture) and loaded.covariance_type == "diag"
    assert loaded.feature_names_in_.tolist() == ["waiting", "duration"]
    run(program, "predict", tmp_path / "theirs.safetensors", data, "-o", tmp_path / "theirs.npy", "--proba")
    np.testing.assert_array_equal(np.load(tmp_path / "theirs.npy"), loaded.predict_proba(data))


def test_histories_are_those_of_the_command_line(program, data_folder, tmp_path):
    run(program, "fit", data_folder / "geyser.csv", "-k", 3, "--history", tmp_path / "history.csv", "-q")
    theirs = np.genfromtxt(tmp_path / "history.csv", delimiter=",", names=True)
    ours = GaussianMixture(3, random_state=0).fit(data_folder / "geyser.csv").history_
    for name in theirs.dtype.names:
        if name != "seconds":
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
