"""The fixture of pytest, in a process of its own: of an installed wheel it needs nothing else."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = """\
import jax, numpy as np

@jax.custom_vjp
def cube(x):
    return x**3

cube.defvjp(lambda x: (x**3, x), lambda x, dy: (2 * x**2 * dy,))
cube_args = np.ones(2)
plain = lambda x: x * x * x
"""


def test_the_fixture_of_pytest(tmp_path):
    """Nothing is imported until a test asks; right passes, wrong fails with the table, and what
    float32 rounds away is skipped with a word."""
    (tmp_path / "test_mine.py").write_text(
        f"import sys\nLOADED = {{'jax', 'jax_lstm'}} & set(sys.modules)\n{FILE}\n"
        "def test_right(gradient_check):\n"
        "    assert not LOADED and gradient_check(plain, cube_args)\n"
        "def test_wrong(gradient_check):\n    gradient_check(cube, cube_args)\n"
        "rounded = lambda x: (x.astype('float32') + 1e8).astype(x.dtype)\n"
        "def test_noisy(gradient_check):\n    gradient_check(rounded, cube_args)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "jax_lstm_pytest", "test_mine.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert "1 failed, 1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "too noisy to say: the output, dx" in done.stdout
    assert "0.666667 times the right one" in done.stdout
