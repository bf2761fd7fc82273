"""The page is what its sources say: their types and form, and the same bytes once more."""

import subprocess

import pytest

from jax_lstm.teaching import webpage
from tests.teaching.web import NPM, install

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return install(tmp_path_factory.mktemp("built") / "page")


def run(folder, script):
    done = subprocess.run(
        [NPM, "run", "--silent", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sources_build_the_page_that_is_kept(folder):
    (folder / "page.html").unlink()
    run(folder, "build")
    assert (folder / "page.html").read_bytes() == (webpage.PAGE / "page.html").read_bytes()


def test_types_and_form_of_the_sources(folder):
    run(folder, "check")
