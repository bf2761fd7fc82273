"""Strict switches for every test: eight host devices, float64, no silent promotion, no warning.

Neither dtypes nor ranks are promoted; `relaxed` of tables.py stands around the code of others that
wants it. What uses the fixture `checked` runs under JAX's own checks as well.

The levels of `residuals="log"` begin at so few steps that the tests' sequences have several.

Most of the tests' time is compilation. Programs are compiled without optimising, and by XLA's older
emitters, which need a third of the time for the same programs. What looks at optimised programs,
or at their rounding, uses the fixture `optimised` and compiles with `tables.AS_FOR_USERS`. A worker
holds the programs of one file at a time, and finds those of earlier files in a folder that goes
with the run. Each has a folder of its own: JAX writes without a lock, and another worker might read
half of a program.
"""

import collections
import os
import shutil
import subprocess
import sys
import tempfile

import jax
import pytest

from jax_lstm.engine import levels
from jax_lstm.sharding import on_one_device

FASTER_TO_COMPILE = (
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)
levels.LOG = levels.Levels(steps=1, parts=2)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # workers have its environment
        compile_faster()
        config.built = tempfile.mkdtemp(prefix="jax_lstm_tests_")
        os.environ["XDG_CACHE_HOME"] = config.built  # where jax_lstm.kernels is built, once
    config.compiled = tempfile.mkdtemp(prefix="jax_lstm_tests_")
    jax.config.update("jax_compilation_cache_dir", config.compiled)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compile_faster():
    """Flags for this process and those it starts, where this XLA knows them: it dies of others."""
    flags = " ".join([os.environ.get("XLA_FLAGS", ""), *FASTER_TO_COMPILE]).strip()
    tried = [sys.executable, "-c", "import jax; jax.devices()"]
    env = os.environ | {"XLA_FLAGS": flags}
    if subprocess.run(tried, env=env, capture_output=True).returncode == 0:
        os.environ["XLA_FLAGS"] = flags


def pytest_unconfigure(config):
    for folder in (config.compiled, getattr(config, "built", config.compiled)):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def arrays_on_one_device(request):
    """As for most users, though there are eight devices here; but in modules that split arrays."""
    if getattr(request.module, "SPLITS_ARRAYS", False):
        yield
    else:
        with on_one_device():
            yield


@pytest.fixture(scope="module")
def optimised():
    """Programs of this module as users get them."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module")
def checked():
    """JAX looks for NaN in what every program returns, and checks its own invariants."""
    with jax.debug_nans(True), jax.enable_checks(True):
        yield


@pytest.fixture(scope="module", autouse=True)
def forget():
    """Between files nothing is kept but the folder."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def no_terminal():
    """What is printed does not depend on who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        yield


@pytest.fixture
def monkeypatch(monkeypatch):
    """Runs are compiled once per plan and shapes: what was traced before a rule is broken on
    purpose, or while it was, is forgotten."""
    jax.clear_caches()
    yield monkeypatch
    jax.clear_caches()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The first of all cells meets every case of a test at once; of a test that is marked `half`
    every second one waits for the next tier. Of the others of `FIRST` two cases of three wait:
    what is quick is slow, what is slow is `every`. Of the cells beyond them one case in `SHARE` is
    slow, and the first one of a test; the rest is `every`. Which ones differs from cell to cell, so
    that each cell meets a case of the tests that have as many."""
    from tests.tables import CELLS, FIRST, SHARE

    later = [name for name in CELLS if name not in FIRST]
    others = [*FIRST[1:], *later]
    cases = {}  # {test: {what it is given beside the cell: number}}
    halves, met = collections.Counter(), set()
    for item in items:
        given = dict(item.callspec.params) if hasattr(item, "callspec") else {}
        cell = {k: cell_of(value, others) for k, value in given.items()}
        if not any(cell.values()):
            if item.get_closest_marker("half"):
                halves[item.function] += 1
                if halves[item.function] % 2 == 0:
                    wait(item, is_slow(item))
            continue
        rest = tuple(repr(value) for k, value in given.items() if not cell[k])
        rest += tuple(sorted(str(given[k]).partition(" ")[2] for k in cell if cell[k]))
        seen = cases.setdefault(item.nodeid.partition("[")[0], {})
        number = seen.setdefault(rest, len(seen))
        name = next(filter(None, cell.values()))
        early = name in FIRST
        if item.get_closest_marker("every") or (early and (number - others.index(name)) % 3 == 0):
            continue
        if early:
            wait(item, is_slow(item))
            continue
        first = item.function not in met
        met.add(item.function)
        wait(item, not first and (number - later.index(name)) % SHARE != 0)


def is_slow(item):
    return bool(item.get_closest_marker("slow"))


def wait(item, long):
    """For the next tier, or for the last one."""
    item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "slow"]
    item.add_marker(pytest.mark.every if long else pytest.mark.slow)


def cell_of(value, names):
    """The name of the cell whose name, case ("gru, lengths"), function, row or record it is."""
    name = getattr(getattr(value, "cell", value), "name", value)
    if not isinstance(name, str):
        return None
    name = name.partition(" ")[0].strip(",").removeprefix("init_").removesuffix("_autodiff")
    short = {name, name.removesuffix("_cell"), name.removesuffix("_state")}
    short |= {name.removesuffix("_parallel"), name.removesuffix("_jvp")}
    return next((k for k in names if k in short), None)
