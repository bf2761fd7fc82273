"""Which tests a mutant of a file meets: first those that end in milliseconds, then wider ones.

They are the tests that pytest runs, called as functions. The first ones run operation by operation,
without compiling; programs compiled for a mutant could be used for no other.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import jax_lstm as jl
from jax_lstm import stages
from tests.cells import (
    test_gradients,
    test_gru,
    test_peers,
    test_precision,
    test_regularisers,
    test_zoo,
)
from tests.cells.formulas import FORMULAS
from tests.engine import test_forward_mode, test_record, test_resets
from tests.stages import test_stages, test_survivors

Check = Callable[[], None]

PACKAGE = Path(jl.__file__).parent
FILES = [
    *(f"stages/{name}.py" for name in ("step", "packed", "between", "gated", "readout", "losses")),
    *("stages/sums.py", "stages/twins.py"),
    *(
        f"cells/{path.name}"
        for path in sorted(PACKAGE.glob("cells/*.py"))
        if path.stem != "initial"
    ),
    *(f"engine/{name}.py" for name in ("bptt", "segments", "routes", "parallel", "forward_mode")),
]
SHARED = {  # files of cells that have no row of their own
    "cells/packed.py": (
        "light_gru",
        "janet",
        "fast_grnn",
        "peephole_lstm",
        "multiplicative_lstm",
        "cfn",
    ),
    "cells/exponential.py": ("slstm", "mlstm"),
}


def named(test, *args, **more) -> Check:
    """The call, by a name to print."""
    call = functools.partial(test, *args, **more)
    given = ", ".join(str(x) for x in (*args, *more.values()))
    vars(call)["title"] = f"{test.__name__}({given})"
    return call


def once(function):
    """What does not depend on the package: computed for the right one and kept."""
    found = {}

    @functools.wraps(function)
    def kept(name, args, dy):
        key = (name, args[2].shape)
        if key not in found:
            found[key] = function(name, args, dy)
        return found[key]

    return kept


test_peers.by_elements = once(test_peers.by_elements)


def formula(name):
    """Complex steps of the cell's equations in NumPy."""
    with pytest.MonkeyPatch.context() as patch:
        if name in FORMULAS:
            test_zoo.test_complex_steps_of_the_formula_with_lengths_and_resets(name, patch)
            return
        test_peers.ours.cache_clear()
        patch.setitem(test_peers.NUMPY, "gru", test_gru.numpy_gru)
        test_peers.test_complex_steps_element_by_element(name, (4, 2, 3, 5), (2,))


def of_stages(file) -> Iterator[Check]:
    module = f"jax_lstm.{file.removesuffix('.py').replace('/', '.')}"
    own = [name for name, twin in stages.TWINS.items() if twin.stage.__module__ == module]
    for name in own or stages.TWINS:
        yield named(test_stages.test_value_and_tangent_of_a_stage, name)
        yield named(test_gradients.test_twin_of_a_stage, name)
    for scale in (1e-3, 0.4, 3.0, 100.0) if file.endswith("packed.py") else ():
        yield named(test_survivors.test_gates_are_sigmoids_and_a_tanh, (3,), scale)
    for name in set(test_stages.PUBLIC) & set(own or stages.TWINS):
        yield named(test_stages.test_what_people_call_has_the_twin_s_gradient, name)
    for leading in ((9, 24), (7, 33), (70,), (6, 5, 4)) if file.endswith("sums.py") else ():
        yield named(test_stages.test_every_product_is_added_once, leading)
    for axes in ((3,), (2, 3)) if file.endswith("between.py") else ():
        yield named(test_survivors.test_three_things_side_by_side, axes)
    for dtype in ("float64",) if file.endswith(("packed.py", "gated.py")) else ():
        yield named(test_precision.test_derivatives_of_gates_by_jax_are_right_everywhere, dtype)
        yield named(test_survivors.test_gates_of_complex_numbers)
        yield named(test_survivors.test_where_a_value_is_chosen)
    yield named(test_gradients.test_one_step, "lstm", (2,))


def of_cells(names) -> Iterator[Check]:
    for name in test_zoo.MADE.keys() & set(names):
        yield named(test_zoo.test_constants_of_one_s_own, name)
    if "mlstm" in names:
        yield named(test_zoo.test_the_matrix_memory_is_divided_by_the_larger_of_two)
        yield named(test_gradients.test_any_batch_axes_and_few_steps, "mlstm", 4, (2, 3))
    for name in test_zoo.PARALLEL.keys() & set(names):
        yield named(test_zoo.test_the_parallel_route_is_the_sequential_one, name, True)
    for name in names:
        yield named(formula, name)
        yield named(test_gradients.test_one_step, name, (2,))
        yield named(test_forward_mode.test_tangents_of_a_sequence, name, "everything")
        yield named(test_zoo.test_how_many_parameters, name)


def of_time() -> Iterator[Check]:
    for options in ("resets, residuals", "mask and lengths, auto", *test_gradients.OPTIONS):
        yield named(test_gradients.test_every_cotangent_of_a_sequence, "elman", options)
    yield named(test_gradients.test_resets_to_a_given_state, "lstm", True)
    yield named(test_gradients.test_one_step, "lstm", (2,))
    yield named(test_resets.test_a_loop_of_steps_is_the_sequence, "elman")
    for residuals in ("full", 3):
        yield named(test_record.test_back_through_prepare, residuals)
    yield named(test_gradients.test_lengths_are_shorter_sequences, True)
    yield named(test_regularisers.test_zoneout, "lstm", True, "lengths")
    yield named(test_regularisers.test_recurrent_dropout, "lstm", "lengths")


def of_tangents() -> Iterator[Check]:
    for options in test_forward_mode.OPTIONS:
        for name in ("elman", "lstm"):
            yield named(test_forward_mode.test_tangents_of_a_sequence, name, options)
    yield named(test_forward_mode.test_the_transposes_of_the_twins_are_the_tangents)
    yield named(test_forward_mode.test_masks_are_constants)
    yield named(test_forward_mode.test_no_direction_is_one_of_zeros)
    yield named(test_forward_mode.test_what_is_masked_may_be_nan)
    for name in test_forward_mode.BAD:
        yield named(test_forward_mode.test_doors, name)


def cells_of(file):
    """The cells whose functions stand in a file."""
    module = f"jax_lstm.{file.removesuffix('.py').replace('/', '.')}"
    return [name for name, cell in jl.CELLS.items() if cell.params.__module__ == module]


def quick(file) -> Iterator[Check]:
    """The tests that run first, operation by operation."""
    if file.startswith("stages/"):
        return of_stages(file)
    if file == "cells/regularised.py":
        return iter(
            [
                *(named(test_regularisers.test_zoneout, "lstm", t, "lengths") for t in (0, 1)),
                named(test_regularisers.test_recurrent_dropout, "lstm", "lengths"),
                named(test_regularisers.test_zoneout_at_its_ends),
                named(test_regularisers.test_h_comes_from_the_cell_before_zoneout),
            ]
        )
    if file == "cells/exponential.py":
        both = named(test_zoo.test_exponential_gates_in_both_branches)
        return iter([both, *of_cells(SHARED[file])])
    if file.startswith("cells/"):
        return of_cells(SHARED.get(file) or cells_of(file) or ("elman",))
    if file == "engine/parallel.py":
        turns = [(name, reverse) for reverse in (True, False) for name in test_zoo.PARALLEL]
        run = test_zoo.test_the_parallel_route_is_the_sequential_one
        return (named(run, name, reverse) for name, reverse in turns)
    return of_tangents() if file == "engine/forward_mode.py" else of_time()


def wide(file) -> Iterator[Check]:
    """The tests that survivors meet, compiled as pytest has them."""
    names = SHARED.get(file) or cells_of(file) or ("elman", "lstm")
    for name in names:
        for options in test_gradients.OPTIONS:
            yield named(test_gradients.test_every_cotangent_of_a_sequence, name, options)
        for steps, batch in ((0, (2,)), (1, ()), (4, (2, 3))):
            yield named(test_gradients.test_any_batch_axes_and_few_steps, name, steps, batch)
        yield named(test_gradients.test_long_sequences_are_cut_into_segments, name)
        yield named(test_gradients.test_padding_reaches_nothing, name, float("nan"))
        yield named(test_regularisers.test_recurrent_dropout, name, "plain")
        yield named(test_regularisers.test_zoneout, name, True, "plain")
