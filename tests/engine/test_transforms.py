"""Every program of tests/programs.py over the hand-written rules, equal to the twin's.

The quick ones: all programs over the LSTM. Segments and a stack are slow, and every other cell and
mode has the mark `every`.
"""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

import jax_lstm as jl
from tests.programs import (
    ALL_MODES,
    MODES,
    PROGRAMS,
    SIZE,
    SUBJECTS,
    args_of,
    gradient,
    hvp,
    loss_of,
    outcome,
    vmap_of_grad,
)
from tests.support import PAGE, label, read, table
from tests.tables import CELLS, assert_close, problem


def field(subject, program, mode):
    """A field of docs/support.md: quick, slow, or of every case."""
    quick = subject == "lstm" and (mode == "full" or ("export" in program and mode in MODES))
    often = (subject, mode) in {("lstm", 2), ("stack of lstm", "full")}
    rare = pytest.mark.slow if often else pytest.mark.every
    marks = () if quick else rare
    return pytest.param(
        subject, program, mode, marks=marks, id=f"{subject}-{program}-{label(mode)}"
    )


FIELDS = [field(s, p, mode) for s in SUBJECTS for p in PROGRAMS for mode in MODES]
FIELDS += [field(s, p, "log") for s in ("lstm", "stack of lstm") for p in PROGRAMS]


@pytest.mark.half
@pytest.mark.parametrize(("subject", "program", "mode"), FIELDS)
def test_a_program_does_what_the_page_says(subject, program, mode):
    """Where there is no page, or nothing on it yet, it works."""
    said = read(PAGE.read_text(), MODES) if PAGE.exists() else {}
    assert outcome(subject, program, mode) == said.get((subject, program, label(mode)), "works")


def test_the_page_has_a_field_for_every_program():
    """Where it has not: `python -m tests.support --write`."""
    found = read(PAGE.read_text(), MODES)
    assert set(found) == {(s, p, label(m)) for p in PROGRAMS for s in SUBJECTS for m in MODES}
    for written in table(found, SUBJECTS, PROGRAMS, MODES):
        assert written in PAGE.read_text()


def test_a_refusal_is_written_and_read():
    programs, modes = ("jit", "vmap"), ("full", 2)
    found = {("gru", p, label(m)): "works" for p in programs for m in modes}
    found["gru", "vmap", "K=2"] = "ValueError: `xs` must be one array"
    rows, notes = table(found, ["gru"], programs, modes)
    assert rows.splitlines()[2:] == ["| gru | works | full K=2[1] |"]
    assert read(f"{rows}\n\n{notes}", modes) == found


@pytest.mark.parametrize("transform", [vmap_of_grad, hvp], ids=lambda f: f.__name__)
def test_transform_of_one_step(transform):
    row = CELLS["lstm"]
    args = problem(row, SIZE)

    def over(step):
        def sequence(params, state, xs):
            return jax.lax.scan(lambda s, x: step(params, s, x), state, xs)

        return loss_of(sequence)

    assert_close(transform(over(row.step), args), transform(over(row.step_autodiff), args))


@pytest.mark.parametrize("options", [{}, {"residuals": 2}, {"masked": True}], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_shard_map_over_eight_devices(cell, options):
    """Params are replicated and the batch is split, with the default check_vma=True."""
    row = CELLS[cell]
    T, B, D, H = 4, 16, 2, 3
    params, state, xs = problem(row, (T, B, D, H))
    masked = options.get("masked", False)
    rest = {k: v for k, v in options.items() if k != "masked"}
    lengths = jnp.arange(B) % (T + 1)
    mesh = jax.make_mesh((8,), ("data",))

    def grads(sequence, **options):
        def local(params, state, xs, lengths):
            more = options | ({"lengths": lengths} if masked else {})

            def loss(params, state, xs):
                last, hs = sequence(params, state, xs, **more)
                return jnp.sum(jnp.sin(last.h)) + jnp.sum(jnp.cos(hs))

            return jax.grad(loss, (0, 1, 2))(params, state, xs)

        return local

    specs = (P(), P("data"), P(None, "data"), P("data"))
    sharded = jax.shard_map(
        grads(row.sequence, **rest), mesh=mesh, in_specs=specs, out_specs=specs[:3]
    )
    with jax.set_mesh(mesh):
        args = (params, state, xs, lengths)
        placed = [
            jax.tree.map(lambda x, spec=spec: jax.device_put(x, jax.NamedSharding(mesh, spec)), arg)
            for arg, spec in zip(args, specs, strict=True)
        ]
        got = jax.device_get(jax.jit(sharded)(*placed))
    want = jax.jit(grads(row.sequence_autodiff))(*args)
    assert_close(got, want)


def routes_of(row):
    """Every route to a gradient of a cell: a sequence in every mode, single steps, and JAX's."""

    def steps(step):
        return lambda params, state, xs: jax.lax.scan(lambda s, x: step(params, s, x), state, xs)

    by_mode = [functools.partial(row.sequence, residuals=mode) for mode in ALL_MODES]
    return [*by_mode, row.sequence_autodiff, steps(row.step), steps(row.step_autodiff)]


@pytest.mark.parametrize("cell", CELLS)
def test_every_route_lowers_elsewhere(cell):
    row = CELLS[cell]
    args = problem(row, SIZE, dtype=jnp.float32)
    for sequence in routes_of(row):
        traced = jax.jit(gradient(loss_of(sequence))).trace(*args)
        for platform in ("cuda", "tpu"):
            assert "while" in traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.slow
@pytest.mark.parametrize("made", ["zoneout of lstm", "stack of lstm"])
def test_what_is_made_of_cells_lowers_elsewhere(made):
    row, args = SUBJECTS[made], args_of(made)
    for mode in ALL_MODES:
        run = functools.partial(jl.make_rnn(row.cell)[0], residuals=mode)
        traced = jax.jit(gradient(loss_of(row.around(run)))).trace(*args)
        for platform in ("cuda", "tpu"):
            assert "while" in traced.lower(lowering_platforms=(platform,)).as_text()


def test_forward_mode_is_an_error_of_jax_and_works_on_the_twin():
    params, state, xs = problem(CELLS["lstm"])
    with pytest.raises(TypeError, match="goes backward only"):
        jax.jvp(lambda xs: jl.lstm(params, state, xs)[1], (xs,), (xs,))
    jax.jvp(lambda xs: jl.lstm_autodiff(params, state, xs)[1], (xs,), (xs,))
