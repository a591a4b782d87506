"""Data of the tests."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def data_folder():
    """The folder with the data sets of the repository."""
    return ROOT / "data"


@pytest.fixture(scope="session")
def fixture():
    """Load values that an independent program computed in 40 digits."""

    def load(name):
        return json.loads((ROOT / "tests" / "fixtures" / f"{name}.json").read_text())

    return load


@pytest.fixture(scope="session")
def program():
    """The command line, which must have been built."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = Path(os.environ.get("ENTROPYSUM_PROGRAM", target / "debug" / "entropysum"))
    if not path.exists():
        pytest.skip(f"no command line at {path}: build it, or set ENTROPYSUM_PROGRAM")
    return path


@pytest.fixture(scope="session")
def clusters():
    """Three clusters of 300 points in four dimensions."""
    rng = np.random.default_rng(7)
    centres = np.array([[0.0, 0.0, 0.0, 0.0], [6.0, 0.0, 3.0, 0.0], [0.0, 8.0, 0.0, 5.0]])
    spread = np.array([[1.0, 0.5, 2.0, 1.0], [0.3, 1.0, 1.0, 0.7], [1.0, 1.0, 0.2, 1.5]])
    labels = np.repeat(np.arange(3), 300)
    points = centres[labels] + spread[labels] * rng.normal(size=(900, 4))
    return points[rng.permutation(900)]
