"""The memory plan says what the compiler says, and nothing that it does not."""

import functools
import io
import math
import re

import jax
import jax.numpy as jnp
import pytest

import jax_lstm as jl
from jax_lstm.training import memory
from tests.tables import CELLS, assert_close, problem

SIZES = {"T": 64, "B": 2, "D": 3, "H": 4}
CHOICES = ("full", 8)
ELMAN = {"sequence": jl.elman, "init": jl.init_elman, "init_state": jl.init_elman_state}


def total(T, B, residuals, last_only=False, cell=CELLS["lstm"], dtype=jnp.float32):
    """The bytes of a training step's share, compiled here."""
    params = cell.init(jax.random.key(0), SIZES["D"], SIZES["H"], dtype=dtype)
    state = cell.init_state(params, (B,))
    xs, dhs = (jnp.zeros((T, B, n), dtype) for n in (SIZES["D"], SIZES["H"]))

    def step(params, state, xs, dstate, dhs):
        y, back = jax.vjp(functools.partial(cell.sequence, residuals=residuals), params, state, xs)
        return y, back((dstate, dhs))

    def last(params, state, xs, dstate):
        run = functools.partial(cell.sequence, residuals=residuals)
        y, back = jax.vjp(lambda *a: run(*a)[0], params, state, xs)
        return y, back(dstate)

    args = (params, state, xs, state) if last_only else (params, state, xs, state, dhs)
    stats = jax.jit(last if last_only else step).lower(*args).compile().memory_analysis()
    return sum(getattr(stats, f"{what}_size_in_bytes") for what in ("argument", "output", "temp"))


@pytest.fixture(scope="module")
def needs():
    """What the choices need at the sizes asked for."""
    return {kept: total(64, 2, kept) for kept in CHOICES}


@pytest.fixture(scope="module")
def tight(needs):
    """A budget between the two choices."""
    budget = (needs["full"] + needs[8]) // 2
    return jl.memory_plan(budget, **SIZES, residuals=CHOICES, limit=4)


@pytest.mark.slow
def test_the_rows_are_what_the_compiler_says(needs, tight):
    assert [row.residuals for row in tight.rows] == list(CHOICES)
    for row in tight.rows:
        assert row.total == needs[row.residuals] == row.arguments + row.outputs + row.temporaries
        assert row.fits == (row.total <= tight.budget)


@pytest.mark.slow
def test_fast_if_it_fits_and_frugal_if_not(needs, tight):
    assert needs[8] < needs["full"]
    assert tight.residuals == 8
    assert "Use residuals=8" in tight.sentence()
    assert "the fewest bytes" in tight.sentence()


@pytest.mark.slow
def test_the_largest_sizes_fit_and_larger_ones_do_not(tight):
    full, frugal = tight.rows
    assert full.largest_T < 64 <= frugal.largest_T == tight.largest_T
    assert full.largest_B < 2 <= frugal.largest_B == tight.largest_B
    for kept, T, B in [
        ("full", full.largest_T, 2),
        (8, frugal.largest_T, 2),
        (8, 64, frugal.largest_B),
    ]:
        assert total(T, B, kept) <= tight.budget
    beyond = 8 * (math.ceil(memory.CLOSE * frugal.largest_T / 8) + 1)
    assert total(beyond, 2, 8) > tight.budget
    assert total(64, frugal.largest_B + 1, 8) > tight.budget


@pytest.mark.slow
def test_nothing_fits(needs):
    plan = jl.memory_plan(needs[8] // 3, **SIZES, residuals=(8,))
    assert plan.residuals is None
    assert plan.sentence().startswith("Nothing fits T = 64, B = 2")
    assert 0 < plan.largest_T < 64
    assert f"T = {plan.largest_T} (residuals=8)" in plan.sentence()
    assert total(plan.largest_T, 2, 8) <= plan.budget


def test_not_even_one():
    plan = jl.memory_plan(100, **SIZES, residuals=("full",))
    assert (plan.residuals, plan.largest_T, plan.largest_B) == (None, 0, 0)
    assert "Not even one step" in plan.sentence()


def test_plenty(needs):
    plan = jl.memory_plan(100 * needs["full"], **SIZES, residuals=("full",), limit=2)
    assert (plan.residuals, plan.largest_T, plan.largest_B) == ("full", 128, 4)
    assert plan.sentence().count("and more (as far as was tried)") == 2


def test_one_unit_per_column():
    """Also where one choice needs bytes and another one megabytes."""
    rows = [
        jl.MemoryRow("full", 2000, 2**22, 2**20, 2000 + 2**22 + 2**20, True, 64, 2),
        jl.MemoryRow(8, 2000, 2**22, 9000, 11000 + 2**22, True, 64, 2),
    ]
    says = memory.describe(2**30, 64, 2, 3, 4, rows, rows[0], 4)
    plan = jl.MemoryPlan("full", 64, 2, says, tuple(rows), 2**30)
    assert str(plan) == plan.words == f"{says}\n\n{plan.table()}"
    lines = plan.table().splitlines()
    full, frugal = (re.findall(r"[\d,.]+ (B|MiB)", line) for line in lines[1:])
    assert full == frugal == ["B", "MiB", "B", "MiB"]
    assert len({len(line) for line in lines}) == 1


# Progress -------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def compiled(monkeypatch):
    """How many programs were compiled; none is, and T and B alone say what they need."""
    found = []

    def bytes_of(both, args, last_only):
        T, B, _ = args[2].shape
        found.append((T, B))
        return 0, 0, T * B

    monkeypatch.setattr(memory, "bytes_of", bytes_of)
    return found


def test_progress_is_a_line_before_each_program(compiled, capsys):
    said = []
    jl.memory_plan(200, **SIZES, residuals=("full", 8), progress=said.append)
    assert len(said) == len(compiled) > 4
    for n, (line, (T, B)) in enumerate(zip(said, compiled, strict=True), 1):
        assert re.fullmatch(r"memory_plan: residuals=('full' \(1|8 \(2) of 2\), .*", line)
        assert line.endswith(f", T = {T}, B = {B}: compiling program {n}")
    assert "residuals='full' (1 of 2)" in said[0]
    assert "residuals=8 (2 of 2)" in said[-1]
    assert capsys.readouterr() == ("", "")


def test_progress_is_silent_where_there_is_no_terminal(compiled, capsys):
    jl.memory_plan(200, **SIZES, residuals=("full",))
    assert compiled
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("fails", [False, True])
def test_progress_on_a_terminal_is_one_line_and_cleared(compiled, fails, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "70")
    if fails:
        monkeypatch.setattr(memory, "next_T", lambda kept: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            jl.memory_plan(200, **SIZES, residuals=("full",))
    else:
        jl.memory_plan(200, **SIZES, residuals=("full", "auto"))
    text = terminal.getvalue()
    assert "\n" not in text
    _, *lines, last, end = text.split("\r")
    assert len(lines) == len(compiled)
    assert all("memory_plan: residuals=" in line for line in lines)
    assert max(map(len, lines)) < 70
    assert (last.strip(), end) == ("", "")
    assert len(last) == len(lines[-1].rstrip())


LSTMP = {
    "sequence": jl.lstmp,
    "init": lambda key, D, H, dtype: jl.init_lstmp(key, D, H + 2, H, dtype=dtype),
    "init_state": jl.init_lstmp_state,
}

CASES = {
    "lstmp": (LSTMP, {"cell": CELLS["lstmp"]}),
    "last state only": ({"last_only": True}, {"last_only": True}),
    "elman": (ELMAN, {"cell": CELLS["elman"]}),
    "bfloat16": ({"dtype": jnp.bfloat16}, {"dtype": jnp.bfloat16}),
}


@pytest.mark.parametrize("case", CASES)
def test_other_losses_cells_and_dtypes(case):
    asked, here = CASES[case]
    plan = jl.memory_plan(2**30, **SIZES, residuals=("auto",), limit=1, **asked)
    assert plan.rows[0].total == total(64, 2, "auto", **here)
    assert (plan.largest_T, plan.largest_B) == (64, 2)


def test_what_is_compiled_is_the_gradient():
    """The measured program computes what `lstm_autodiff` and JAX compute."""
    args = problem(CELLS["elman"], (7, 2, 3, 5))
    dy = jl.elman_autodiff(*args)
    got = jax.jit(memory.gradient(jl.elman, 3, False))(args, dy)
    y, back = jax.vjp(jl.elman_autodiff, *args)
    assert_close(got, (y, back(dy)))


BAD = {
    "T": ({"T": 0}, "`T` must be a whole number >= 1; got 0"),
    "H": ({"H": 4.0}, "`H` must be a whole number >= 1; got 4.0"),
    "limit": ({"limit": True}, "`limit` must be"),
    "budget": ({"budget": -1}, "`budget` must be a number of bytes > 0; got -1"),
    "nan": ({"budget": math.nan}, "`budget` must be"),
    "words": ({"budget": "1G"}, "`budget` must be"),
    "residuals": ({"residuals": "full"}, "`residuals` must be choices"),
    "none": ({"residuals": ()}, "`residuals` must be choices"),
    "half": ({"residuals": ("full", "half")}, "`residuals` must be"),
    "endless": ({"budget": math.inf}, "`budget` must be a number of bytes > 0; got inf"),
    "progress": ({"progress": True}, "`progress` must be a function; got True"),
    "sequence": ({"sequence": "lstm"}, "`sequence` must be a function; got 'lstm'"),
    "dtype": ({"dtype": "int32"}, "`dtype` must be floating point; got 'int32'"),
    "no dtype": ({"dtype": "float99"}, "`dtype` must be floating point; got 'float99'"),
}


@pytest.mark.parametrize("case", BAD)
def test_doors(case):
    given, message = BAD[case]
    options = {"budget": 2**30, **SIZES, **given}
    with pytest.raises(ValueError, match=re.escape(message)):
        jl.memory_plan(options.pop("budget"), **options)
