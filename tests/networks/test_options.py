"""Every option of a stack against the autodiff twin: alone, in pairs, and as people use them."""

import itertools

import jax
import numpy as np
import pytest

from tests.networks.stacks import OPTIONS, stacks, value_and_cotangents
from tests.tables import assert_close

# What the issue asks for together: name -> (options of OPTIONS, what the stack gets besides).
ALL = {
    "zoneout": ("concat", "zoneout", "lengths", "every", "residuals"),
    "zoneout of lstmp at test time": ("lstmp", "concat", "zoneout", "mask"),
    "zoneout of elman": ("elman", "sum", "zoneout", "lengths", "resets", "reset states"),
    "both regularisers": ("pair on top", "both regularisers", "lengths", "skip inputs", "learnt"),
    "recurrent dropout of lstmp": ("lstmp", "mean", "recurrent dropout", "reset states", "every"),
    "connected": ("products", "residual", "skip outputs", "lengths", "between", "reset states"),
}


def pairs(n):
    """Random pairs of options that do not settle the same thing."""

    def settled(name):
        made, besides = OPTIONS[name]
        two = {"between", "residual", "skip", "merge"} if "sizes" in made else set()
        return set(made) | set(besides) | two  # what is written for two layers

    found = [(a, b) for a, b in itertools.combinations(OPTIONS, 2) if not settled(a) & settled(b)]
    return [found[k] for k in np.random.default_rng(3).permutation(len(found))[:n]]


@pytest.mark.half
@pytest.mark.parametrize("names", [(n,) for n in OPTIONS] + pairs(6), ids=" & ".join)
def test_every_cotangent_of_a_stack(names):
    args, by_hand, by_jax = stacks(*names)
    got, want = value_and_cotangents(by_hand, args), value_and_cotangents(by_jax, args)
    assert_close(got, want)
    assert all(leaf.any() for leaf in jax.tree.leaves(got))  # every input has a say


@pytest.mark.half
@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_options_that_people_use_together(name):
    args, by_hand, by_jax = stacks(*ALL[name], train="test time" not in name)
    got, want = value_and_cotangents(by_hand, args), value_and_cotangents(by_jax, args)
    assert_close(got, want)
    assert all(leaf.any() for leaf in jax.tree.leaves(got[1]))
