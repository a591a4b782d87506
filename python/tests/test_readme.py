"""The code of the documents runs."""

import doctest
import os
import re
import subprocess
import sys

import pytest

import entropysum._autoencoder
import entropysum._latent
import entropysum._mixture


@pytest.mark.parametrize("document", ["README.md", "python/README.md"])
def test_the_script_of_the_readme_fits_and_plots(data_folder, tmp_path, document):
    pytest.importorskip("matplotlib")
    (script,) = re.findall(r"```python\n(.*?)```", (data_folder.parent / document).read_text(), re.DOTALL)
    (tmp_path / "data").symlink_to(data_folder)
    environment = os.environ | {"MPLBACKEND": "Agg"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "geyser.png").stat().st_size > 10_000


@pytest.mark.parametrize("module", [entropysum._mixture, entropysum._latent, entropysum._autoencoder], ids=lambda it: it.__name__)
def test_examples_of_docstrings_give_what_they_say(module):
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0
