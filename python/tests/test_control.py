"""Fits can be watched, ended, copied and run side by side."""

import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from entropysum import GaussianMixture, Mixture


def test_a_callback_sees_each_iteration_and_may_end_the_fit(clusters):
    records, threads = [], set()

    def callback(record):
        records.append(record)
        threads.add(threading.current_thread())
        return record["iteration"] == 3

    mixture = GaussianMixture(3, random_state=0, tol=0.0, callback=callback).fit(clusters)
    assert [record["iteration"] for record in records] == [1, 2, 3]
    assert mixture.stop_reason_ == "observer" and mixture.n_iter_ == 3
    assert [record["entropy_sum"] for record in records] == mixture.entropy_sums_.tolist()
    assert threads == {threading.current_thread()}


def test_an_exception_of_a_callback_ends_the_fit_and_keeps_the_model(clusters):
    def callback(record):
        if record["iteration"] == 2:
            raise RuntimeError("enough")

    mixture = GaussianMixture(3, random_state=0, tol=0.0, callback=callback)
    with pytest.raises(RuntimeError, match="enough"):
        mixture.fit(clusters)
    assert mixture.n_iter_ == 2
    assert mixture.predict(clusters).shape == (900,)


def test_verbose_prints_to_standard_error(clusters, capsys):
    GaussianMixture(3, random_state=0, verbose=2).fit(clusters)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("iteration 1: entropy sum -")


def test_other_threads_run_while_a_fit_runs():
    points = np.random.default_rng(0).normal(size=(100_000, 8))
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.perf_counter()
    with pytest.warns(Warning):
        GaussianMixture(8, random_state=0, tol=0.0, max_iter=5, n_threads=1).fit(points)
    seconds = time.perf_counter() - begin
    done.set()
    thread.join()
    during = [t for t in ticks if begin < t < begin + seconds]
    # The longest silence is short beside the fit, which would be one silence under the GIL.
    silence = np.diff([begin, *during, begin + seconds]).max()
    assert silence < max(0.5 * seconds, 0.05), (silence, seconds)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("settings", ["tol=0.0, max_iter=100000", "batch_size=1000, epochs=1000", "n_init=100000, tol=0.0"])
def test_ctrl_c_ends_a_fit_within_half_a_second_and_keeps_the_model(settings):
    code = textwrap.dedent(
        f"""
        import os, signal, threading, time
        import numpy as np
        from entropysum import GaussianMixture

        # A shell that starts a program in the background lets it ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        X = np.random.default_rng(0).normal(size=(200_000, 16))
        sent = []

        def interrupt():
            sent.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGINT)

        mixture = GaussianMixture(16, random_state=0, {settings})
        timer = threading.Timer(2.5, interrupt)
        timer.start()
        try:
            mixture.fit(X)
        except KeyboardInterrupt:
            late = time.perf_counter() - sent[0]
            assert mixture.stop_reason_ == "interrupted" or "n_init" in {settings!r}, mixture.stop_reason_
            assert mixture.predict(X[:10]).shape == (10,)
            print(late)
        else:
            raise SystemExit("the fit was not interrupted")
        """
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.5


def test_pickles_and_copies_are_the_same_model(clusters):
    mixture = GaussianMixture(3, random_state=0).fit(clusters)
    for twin in [pickle.loads(pickle.dumps(mixture)), copy.deepcopy(mixture)]:
        assert twin.model_.to_bytes() == mixture.model_.to_bytes()
        assert np.array_equal(twin.score_samples(clusters), mixture.score_samples(clusters))
        assert twin.history_.keys() == mixture.history_.keys()


def test_a_half_done_partial_fit_goes_on_after_a_pickle_to_the_same_bits(clusters):
    batches = np.array_split(clusters, 6)
    mixture = GaussianMixture(3, random_state=0)
    for batch in batches[:3]:
        mixture.partial_fit(batch)
    twin = pickle.loads(pickle.dumps(mixture))
    for batch in batches[3:]:
        mixture.partial_fit(batch)
        twin.partial_fit(batch)
    assert twin.model_.to_bytes() == mixture.model_.to_bytes()
    assert twin.n_iter_ == mixture.n_iter_ == 6


def fit_of(seed, points):
    return GaussianMixture(3, random_state=seed).fit(points).model_.to_bytes()


def test_fits_in_other_processes_and_threads_have_the_same_bits(clusters):
    joblib = pytest.importorskip("joblib")
    expected = [fit_of(seed, clusters) for seed in range(3)]
    for backend in ["loky", "threading"]:
        jobs = (joblib.delayed(fit_of)(seed, clusters) for seed in range(3))
        assert joblib.Parallel(n_jobs=2, backend=backend)(jobs) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork of POSIX")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_after_a_fit_can_fit(clusters):
    expected = fit_of(0, clusters)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(fit_of(0, clusters)))
    child.start()
    child.join(timeout=60)
    if child.is_alive():
        os.kill(child.pid, signal.SIGKILL)
        pytest.fail("the child did not end")
    assert child.exitcode == 0
    assert results.get() == expected


def test_threads_do_not_change_a_bit(clusters):
    points = np.tile(clusters, (30, 1))
    fits = [GaussianMixture(3, random_state=0, n_threads=n).fit(points).model_.to_bytes() for n in (1, 2, 3)]
    assert fits[0] == fits[1] == fits[2]


def test_warnings_are_told_and_kept():
    points = np.repeat(np.array([[0.0], [1.0], [2.0]]), 50, axis=0)
    with pytest.warns(Warning) as told:
        mixture = GaussianMixture(3, random_state=0).fit(points)
    assert mixture.warnings_
    assert {str(warning.message) for warning in told} >= set(mixture.warnings_)
    assert not any("--" in text for text in mixture.warnings_)


def test_counts_of_one_value_are_no_error():
    mixture = Mixture(2, family="poisson", random_state=0)
    with pytest.warns(Warning, match="placed|discarded|point"):
        mixture.fit(np.full((50, 1), 3.0))
    assert mixture.predict([[3.0]])[0] in (0, 1)
