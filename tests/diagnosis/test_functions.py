"""diagnose on trial: functions, which are asked again, step by step."""

import numpy as np
import pytest

import jax_lstm as jl
from tests.diagnosis.problems import in_our_layout, random_problem

T, B, D, H = 4, 3, 5, 5  # D = H: one gate alone does not show in dxs
PROBLEM = in_our_layout(
    random_problem(np.random.default_rng(21), "lstm", (T, B, D, H), "cotangents")
)
LEAVES = ("dW", "dU", "db", "dxs", "dh0", "dc0")


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def split(a):
    return np.split(a, 4, -1)


def student(change=lambda name, value, factors: value, add=lambda name, old, new: old + new):
    """Somebody's BPTT in NumPy; `change` has a word at every delta, `add` at every sum over t."""

    def gradient(p):
        h, c, steps = p["h0"], p["c0"], []
        for x in p["xs"]:
            before = h, c
            a_i, a_f, a_g, a_o = split(x @ p["W"] + h @ p["U"] + p["b"])
            i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
            c = f * c + i * g
            h = o * np.tanh(c)
            steps.append((x, *before, i, f, g, o, c))
        dh, dc = (p.get(k, 0 * h) for k in ("dh_T", "dc_T"))
        d = {"dW": 0 * p["W"], "dU": 0 * p["U"], "db": 0 * p["b"], "dxs": []}
        for t in reversed(range(len(steps))):
            x, h_prev, c_prev, i, f, g, o, c = steps[t]
            dh = p["dhs"][t] + dh
            dc = dc + dh * o * (1 - np.tanh(c) ** 2)
            da = [dc * g * i * (1 - i), dc * c_prev * f * (1 - f)]
            da += [dc * i * (1 - g * g), dh * np.tanh(c) * o * (1 - o)]
            da = np.concatenate(
                [change(f"da_{k}", x, ()) for k, x in zip("ifgo", da, strict=True)], -1
            )
            d["dxs"].insert(0, change("dx", da @ p["W"].T, (da, p["W"])))
            shares = {"dW": x.T @ da, "dU": h_prev.T @ da, "db": da.sum(0)}
            d |= {k: add(k, d[k], share) for k, share in shares.items()}
            dh = change("dh_prev", da @ p["U"].T, (da, p["U"]))
            dc = change("dc_prev", dc * f, ())
        return d | {"dxs": np.stack(d["dxs"]), "dh0": dh, "dc0": dc}

    return gradient


def times(name, factor=1.3):
    return student(lambda k, value, _: factor * value if k == name else value)


def test_a_function_may_write_into_what_it_is_given():
    """d = dhs[t]; d += dh_next, and worse: the truth is made first, and has its own arrays."""

    def careless(p):
        found = student()({k: x.copy() for k, x in p.items()})
        for x in p.values():
            x += 7.0
        p["dhs"][...] = 0.0
        return found | {"dh0": found["dh0"][:]}

    mine = dict(PROBLEM)
    before = {k: x.copy() for k, x in mine.items()}
    found = jl.diagnose(careless, mine)
    assert found, found.sentence()
    assert all(np.array_equal(x, before[k]) for k, x in mine.items())
    wrong = jl.diagnose(lambda p: careless(p) | {"dh0": p["h0"]}, mine, pairs=False)
    assert wrong.sentence().endswith("step t=3 by itself: wrong in dh0; dW, dU, db, dxs, dc0 right")


@pytest.mark.half
@pytest.mark.parametrize(("name", "leaf"), [("dx", "dxs"), ("dh_prev", "dh0"), ("dc_prev", "dc0")])
@pytest.mark.parametrize("last", [False, True])
def test_every_cotangent_of_a_step_is_judged(name, leaf, last):
    problem = {k: x for k, x in PROBLEM.items() if last or not k.endswith("_T")}
    sentence = jl.diagnose(times(name), problem, pairs=False).sentence()
    right = ", ".join(k for k in LEAVES if k != leaf)
    assert sentence.endswith(
        f"step t=3 by itself: wrong in {leaf}, 1.3 times the right one; {right} right"
    )
    assert "every step by itself is right" not in sentence


def test_what_was_not_returned_is_not_called_right():
    part = lambda p: {k: x for k, x in times("dh_prev")(p).items() if k in ("dW", "dU", "db")}
    sentence = jl.diagnose(part, PROBLEM, pairs=False).sentence()
    assert "every step by itself is right (dW, dU, db): look at what is carried" in sentence


def overwrites(leaves, gate=None):
    def add(name, old, new):
        if name not in leaves:
            return old + new
        blocks = [
            n if gate in (None, k) else m + n
            for k, m, n in zip("ifgo", split(old), split(new), strict=True)
        ]
        return np.concatenate(blocks, -1)

    return student(add=add)


def branch(what, gate):
    """`dx = dx_k` where `dx += dx_k` belongs: the last gate's share is left."""
    n = "ifgo".index(gate)
    share = lambda da, W: split(da)[n] @ split(W)[n].T
    return student(lambda k, value, factors: share(*factors) if k in what else value)


ADDED = {
    "dW overwritten: t=0 left": overwrites(["dW"]),
    "dU overwritten: t=0 left": overwrites(["dU"]),
    "db overwritten: t=0 left": overwrites(["db"]),
    "weights overwritten: t=0 left": overwrites(["dW", "dU", "db"]),
    "dW f overwritten: t=0 left": overwrites(["dW"], "f"),
    "weights o overwritten: t=0 left": overwrites(["dW", "dU", "db"], "o"),
    "dx of o alone": branch(["dx"], "o"),
    "dh of g alone": branch(["dh_prev"], "g"),
    "dx and dh of o alone": branch(["dx", "dh_prev"], "o"),
}


@pytest.mark.parametrize("name", ADDED)
def test_a_sum_that_was_overwritten_is_named(name):
    found = jl.diagnose(ADDED[name], PROBLEM)
    assert [e.names for e in found.explanations] == [(name,)]
    assert "overwritten" in found.sentence()
    assert "(= for +=): only the" in found.sentence()


def skips(leaves, t):
    """`if t > 0:`, or a loop that begins too late: a step's share is left out."""

    def gradient(p):
        steps = dict.fromkeys(leaves, len(p["xs"]))

        def add(name, old, new):
            if name in steps:
                steps[name] -= 1
            return old if steps.get(name) == t else old + new

        return student(add=add)(p)

    return gradient


SKIPPED = {
    "dW skipped: t=0": skips(["dW"], 0),
    "dU skipped: t=3": skips(["dU"], 3),
    "db skipped: t=3": skips(["db"], 3),
    "weights skipped: t=0": skips(["dW", "dU", "db"], 0),
    "h0 zero in backward": skips(["dU"], 0),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_a_step_that_a_sum_leaves_out_is_named(name):
    found = jl.diagnose(SKIPPED[name], PROBLEM)
    assert [e.names for e in found.explanations] == [(name,)]


def test_what_is_handed_out_is_not_blamed_on_what_is_carried():
    """Every other array shows that what is carried is right."""

    def gradient(p):
        found = student()(p)
        found["dxs"][1:2] *= 1.3  # of no problem of a single step
        return found

    sentence = jl.diagnose(gradient, PROBLEM, pairs=False).sentence()
    assert sentence.endswith(
        "and so is what is carried: look at how dxs is put together, or made at some t"
    )


def test_a_sum_that_no_name_explains_is_not_blamed_on_what_is_carried():
    half = student(add=lambda name, old, new: (0.5 if name == "dU" else 1.0) * old + new)
    assert (
        jl.diagnose(half, PROBLEM, pairs=False)
        .sentence()
        .endswith(
            "is right (dW, dU, db, dxs, dh0, dc0), and so is what is carried: look at how dU is "
            "summed over steps"
        )
    )


def test_a_gate_is_named_where_the_data_can_tell_it():
    """At D = H any gate could have made the error of dxs; a step by itself shows whose it was."""
    gradient = times("da_f")({k: x.copy() for k, x in PROBLEM.items()})
    first = jl.diagnose(gradient, PROBLEM, pairs=False).first
    assert first == "at t=3, in dxs, which cannot tell one gate from another"
    found = jl.diagnose(times("da_f"), PROBLEM, pairs=False)
    assert found.first == f"{first}; step t=3 by itself: wrong in dW, forget gate"


def test_a_function_that_cannot_be_asked_again():
    whole = student()({k: x.copy() for k, x in PROBLEM.items()})
    whole["dW"] = whole["dW"] + 0.1
    sentence = jl.diagnose(lambda p: whole, PROBLEM, pairs=False).sentence()
    assert "step t=3 by itself could not be asked: ValueError: `dxs` must be" in sentence


def test_what_comes_from_the_next_step_is_judged_where_the_problem_has_a_last_cotangent():
    """dc = dc_from_h + 0.9 dc_from_next: a step by itself cannot show it: nothing comes to it."""

    def forgets(p):
        whole = {k: x.copy() for k, x in p.items()}
        return times("dc_prev", 0.9)(whole | {"dc_T": 0.9 * whole["dc_T"]})

    def right_alone(p):  # its own dc0 is right, as nothing else would be carried
        found, c = forgets(p), student()(p)["dc0"]
        return found | {"dc0": c} if len(p["xs"]) == 1 else found

    sentence = jl.diagnose(right_alone, PROBLEM, pairs=False).sentence()
    assert (
        "every step by itself is right (dW, dU, db, dxs, dh0, dc0); with what comes from t+1,"
        in sentence
    )
    assert "step t=3: wrong in dW, input gate, forget gate, candidate" in sentence


@pytest.mark.slow
def test_a_function_that_never_looks_at_a_state_is_not_accused_of_it():
    """Where the problem has no h0 and no c0, a step in the middle cannot be asked by itself."""
    none = {k: x for k, x in PROBLEM.items() if k not in ("h0", "c0")}
    zero = np.zeros((B, H))
    mine = times("dh_prev")
    sentence = jl.diagnose(
        lambda p: mine(p | {"h0": zero, "c0": zero}), none, pairs=False
    ).sentence()
    assert sentence.endswith(
        "step t=0 by itself: wrong in dh0, 1.3 times the right one; dW, dU, db, dxs, dc0 right"
    )
    ends = lambda p: {k: x for k, x in mine(p | {"h0": zero, "c0": zero}).items() if k != "dh0"}
    assert (
        jl.diagnose(ends, none, pairs=False)
        .sentence()
        .endswith(
            "step t=0 by itself is right (dW, dU, db, dxs, dc0); the others need h0 and c0, at "
            "which the function never looks"
        )
    )
    looks = lambda p: mine({"h0": zero, "c0": zero} | p)
    assert "step t=3 by itself: wrong in dh0" in jl.diagnose(looks, none, pairs=False).sentence()
