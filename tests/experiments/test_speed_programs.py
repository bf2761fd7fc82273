"""All who are timed compute the same; the floor, and what is read off programs."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

from experiments.kit import timing
from experiments.speed import contestants, floor, hlo, libraries, problems, programs
from experiments.speed import profile as speed_profile
from tests.tables import relaxed

SIZE = (5, 2, 4)  # T, B, D = H
MORE = ("jvp", "grad_of_grad", "eager")


@pytest.fixture(autouse=True)
def standard_promotion():
    """The other libraries are not written for strict promotion."""
    with relaxed("the contestants"):
        yield


@functools.cache
def ask(dtype, passes, **options):
    """A problem, and the answers to it."""
    made = problems.problem(SIZE, dtype=dtype, **options)
    return made, programs.reference(made, passes)


MAY_MISS = ("K", "E", "S", "P1", "kernel")  # haiku, equinox, Keras, torch; a C++ compiler


def error(name, kind="gradient", *, devices=1, dtype=jnp.float64, **options):
    """The largest error of a contestant. A test of one that is not installed here is skipped, for
    the suite runs without the extra `peers` too; whoever else is absent fails."""
    made, answer = ask(dtype, MORE if kind in MORE else ("gradient", "forward"), **options)
    try:
        found = programs.runners(name, made, [kind], answer, devices=devices, size=SIZE)
    except problems.Absent as why:
        if name not in MAY_MISS:
            raise
        pytest.skip(str(why))  # nothing to compare: who is one of MAY_MISS is not installed here
    return max(found[kind].errors.values())


@pytest.mark.half
@pytest.mark.parametrize(
    "name", ["frugal", "log", "A0", "A1", "A2", "F", "FR", "FC", "K", "E", "S", "P1"]
)
def test_every_gradient_is_the_same(name):
    """Every cotangent, in float64 to 1e-13; Keras computes in float32 all the same."""
    dtype, bound = (jnp.float32, 1e-6) if name == "S" else (jnp.float64, 1e-13)
    assert error(name, dtype=dtype) < bound


@pytest.mark.half
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"lengths": True}) for name in ("no-lengths", "A0", "F", "S", "P1")),
        *((name, {"layers": 2}) for name in ("lstm", "A1", "K", "E", "P1")),
        ("lstm on 2", {"devices": 2}),
    ],
    ids=str,
)
def test_every_forward_is_the_same_with_lengths_and_in_stacks(name, options):
    dtype, bound = (jnp.float32, 1e-6) if name == "S" else (jnp.float64, 1e-13)
    assert error(name, "forward", dtype=dtype, **options) < bound


@pytest.mark.parametrize(
    ("name", "options"),
    [("F", {"lengths": True}), ("FR", {"lengths": True}), ("P1", {"layers": 2, "lengths": True})],
    ids=str,
)
def test_gradients_with_lengths_and_in_stacks(name, options):
    assert error(name, **options) < 1e-13


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("kernel", {"both_ways": True}, marks=pytest.mark.slow),  # compiles C++
        *((name, {"both_ways": True}) for name in ("A1", "F", "P1")),
        *((name, {"cell": "gru"}) for name in ("A0", "F", "P1")),
        *(("A0", {"cell": cell}) for cell in ("peephole_lstm", "mgu", "ind_rnn")),
        *(("A1", {"cell": cell}) for cell in ("gru", "peephole_lstm", "mgu", "ind_rnn")),
    ],
    ids=str,
)
def test_gradients_both_ways_and_of_other_cells(name, options):
    assert error(name, **options) < 1e-13


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("A1", {}),
        ("lstm", {}),
        ("lstm", {"cell": "mgu"}),
        pytest.param("lstm", {"both_ways": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_tangents_products_with_the_hessian_and_eager_gradients_are_the_same(name, options):
    """The first two are held to A0's, the last to our compiled gradient."""
    assert all(error(name, kind, **options) < 1e-13 for kind in MORE)


def test_a_pass_is_timed_of_those_alone_who_take_part_in_it():
    assert error("AJ", "eager") < 1e-13
    gru = problems.problem(SIZE, cell="gru")
    for name, passes in (("AJ", ["gradient"]), ("K", MORE), ("F", MORE), ("P1", MORE), ("G", MORE)):
        assert programs.runners(name, gru, passes, None) == {}


def test_who_has_no_such_cell_or_direction_says_why():
    reason = lambda name, **options: contestants.reason_to_miss(
        name, problems.problem(SIZE, **options)
    )
    everybody = [*contestants.CONTESTANTS, "G", "P"]
    assert not any(reason(name) for name in everybody)
    of_a_gru = [name for name in everybody if not reason(name, cell="gru")]
    assert of_a_gru == ["lstm", "frugal", "log", "A0", "AJ", "A1", "F", "G", "P"]
    assert reason("F", cell="mgu") == "flax's MGUCell resets after the product, ours before it"
    assert reason("G", cell="ind_rnn") == "the cell's products are not x W and h U"
    assert reason("K", both_ways=True) == "called in one direction only"
    with pytest.raises(problems.Absent, match="no such layer"):
        programs.runners("P1", problems.problem(SIZE, cell="mgu"), ["gradient"], None)


@pytest.mark.parametrize("name", ["lstm on 2", "A0 on 2"])
def test_the_gradient_over_devices_is_the_same(name):
    assert error(name, devices=2) < 1e-13


def test_sixteen_bits_are_near_thirty_two():
    assert 1e-4 < error("A0", dtype=jnp.bfloat16) < 5e-2


def test_one_that_computes_something_else_is_an_error(monkeypatch):
    """A forget gate without its bias, in one library."""

    def forgetful(problem):
        good = libraries.flax_rnn(problem)

        def call(args, lengths):
            trees, *rest = args
            trees = jax.tree_util.tree_map_with_path(
                lambda path, x: 0 * x if "hf" in str(path) and "bias" in str(path) else x, trees
            )
            return good.call((trees, *rest), lengths)

        return good._replace(call=call)

    monkeypatch.setitem(contestants.CONTESTANTS, "F", forgetful)
    with pytest.raises(programs.Disagrees, match="F \\(gradient\\) is not what ours computes"):
        error("F")
    made, answer = ask(jnp.float64, MORE)
    wrong = {"jvp": jax.tree.map(lambda x: x + 1, answer["jvp"])}
    with pytest.raises(programs.Disagrees, match="lstm \\(jvp\\) is not what A0 computes"):
        programs.runners("lstm", made, ["jvp"], wrong, size=SIZE)


def test_what_does_not_fit_is_left_out_with_a_reason():
    made = problems.problem(SIZE)
    with pytest.raises(problems.Absent, match="MiB, the budget is 0 MiB"):
        programs.runners("G", made, ["gradient"], None, budget=1000)


# The floor, and what is read off programs -------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "steps", "both_ways"),
    [(1, 48, False), (2, 48, False), (1, 16, False), (2, 48, True)],
)
def test_the_floor_holds_every_product(monkeypatch, layers, steps, both_ways):
    """x W, h U, da Uᵀ, dW, dU, dx, in full size: none is dead code, none was cut down, and two
    stand in a loop over steps. In one segment, and in three; of two layers or directions."""
    T, B, H = 48, 3, 8
    monkeypatch.setattr(floor, "SEGMENT_BYTES", 1 if steps < T else 2**20)
    made = problems.problem((T, B, H), layers=layers, both_ways=both_ways)
    inputs = (made.layers, made.states, made.xs, made.dhs)

    def shapes(blocks, names):
        lines = " ".join(line for name in names for line in blocks[name])
        found = re.findall(r"f32\[(\d+),(\d+)\]\S* dot\(", lines)
        return sorted((int(m), int(n)) for m, n in found)

    z, a, dh, weights, dx = (steps * B, 4 * H), (B, 4 * H), (B, H), (H, 4 * H), (steps * B, H)
    both = lambda *inputs: floor.products(*inputs, both_ways)  # a new function, traced anew
    blocks = hlo.computations(jax.jit(both).lower(*inputs).compile().as_text())
    assert shapes(blocks, blocks) == sorted(layers * [z, a, dh, weights, weights, dx])
    bodies = hlo.innermost_bodies(blocks)
    inside = {name for body in bodies for name in hlo.callees_of(body, blocks)}
    assert shapes(blocks, inside) == sorted(layers * [a, dh])
    hs = lambda *inputs: [hs for hs, _ in floor.products_forward(*inputs, both_ways)]
    blocks = hlo.computations(jax.jit(hs).lower(*inputs[:3]).compile().as_text())
    assert shapes(blocks, blocks) == sorted(layers * [z, a])


HLO = """HloModule jit_f
%inner (p: (s32[], f32[4,16])) -> (s32[], f32[4,16]) {
  %p = (s32[], f32[4,16]{1,0}) parameter(0)
  %g = f32[4,16]{1,0} get-tuple-element(%p), index=1
  %d = f32[4,16]{1,0} fusion(%g), kind=kLoop, calls=%fused
  %c = f32[4,16]{1,0} copy(%d)
  ROOT %t = (s32[], f32[4,16]{1,0}) tuple(%g, %c)
}

%fused (q: f32[4,16]) -> f32[4,16] {
  ROOT %r = f32[4,16]{1,0} dot(%q, %q), lhs_contracting_dims={0}, rhs_contracting_dims={1}
}

%outer (o: (s32[], f32[4,16])) -> (s32[], f32[4,16]) {
  %o = (s32[], f32[4,16]{1,0}) parameter(0)
  ROOT %w = (s32[], f32[4,16]{1,0}) while(%o), condition=%cond, body=%inner
}

ENTRY %main (a: f32[4,16]) -> f32[4,16] {
  %a = f32[4,16]{1,0} parameter(0)
  %w2 = (s32[], f32[4,16]{1,0}) while(%a), condition=%cond, body=%outer
  ROOT %e = f32[16,4]{1,0} dot(%a, %a), lhs_contracting_dims={0}, rhs_contracting_dims={1}
}
"""


def test_counts_are_of_the_innermost_loop():
    assert hlo.count(HLO, (7, 2, 4)) == (2, 1, 2)


PROFILED = """
%body.1 (p: (s32[], f32[4,32])) -> (s32[], f32[4,32]) {
  %p = (s32[], f32[4,32]) parameter(0)
  %add.1 = s32[] fusion(%p), kind=kLoop, calls=%adds
  %ynn_fusion = f32[4,32]{1,0} fusion(%p), kind=kCustom, calls=%products
  %b_dynamic-update-slice_fusion = f32[9,4,32]{2,1,0} fusion(%p), kind=kLoop, calls=%writes
  ROOT %tuple = (s32[], f32[4,32]) tuple(%add.1, %ynn_fusion)
}

ENTRY %main (x: f32[4,32]) -> f32[4,32] {
  %tanh_fusion = f32[4,32]{1,0} fusion(%x), kind=kLoop, calls=%gates
  %while.1 = (s32[], f32[4,32]) while(%tanh_fusion), condition=%c, body=%body.1
  ROOT %dot.2 = f32[4,32]{1,0} dot(%x, %x), metadata={op_name="dot_general"}
}
"""


def test_a_profile_knows_what_a_kernel_is_for():
    assert speed_profile.kernels_of(PROFILED) == {
        "add.1": ("step", "counter"),
        "ynn_fusion": ("step", "product"),
        "b_dynamic-update-slice_fusion": ("step", "write"),
        "tanh_fusion": ("segment", "other"),
        "dot.2": ("segment", "product"),
    }
    # two threads at once count once; what lies outside of the runs does not
    assert speed_profile.coverage([(0, 4), (2, 5), (8, 30)], [(1, 20)]) == 4 + 12


def test_rounds_are_interleaved_and_stop_with_the_budget(monkeypatch):
    calls, clock = [], iter(range(10**6))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    todo = {name: lambda name=name: calls.append(name) for name in "ABC"}
    seconds = timing.interleave(todo, 4, 1e9, "")
    rounds = ["".join(calls[n : n + 3]) for n in range(6, 18, 3)]
    assert "".join(calls[:6]) == "AABBCC"
    assert {"".join(sorted(r)) for r in rounds} == {"ABC"}
    assert len(set(rounds)) > 1  # nobody always follows the same
    assert seconds == {name: [1.0] * 4 for name in "ABC"}
    assert len(timing.interleave(todo, 50, 20.0, "")["A"]) == 4
