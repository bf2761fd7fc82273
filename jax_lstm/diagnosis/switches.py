"""Switches: how a backward turns mistakes on, and how cotangents flow through time.

Many settings run at once: they stand on the first axis, in front of the runs of a flow, (settings,
runs, B, ...), and where a switch is off nothing of it is computed. The names are catalogue.py's.
"""

import functools
import re
from typing import Any, NamedTuple

import numpy as np

from jax_lstm.diagnosis import factors
from jax_lstm.diagnosis.catalogue import overwritten_in, tokens_in
from jax_lstm.diagnosis.sentences import INNER, VARIANTS


def switch(settings):
    """pick(name, wrong, right): per setting, what it asks for; settings stand on the first axis.

    wrong: a value, or a function that makes it where somebody asks for it.
    """

    @functools.cache
    def flags(name):
        on = np.array([name in names for names in settings])
        return on.reshape(-1, 1, 1, 1) if on.any() else None

    def pick(name, wrong: Any, right):
        on = flags(name)
        if on is None:
            return right
        made: Any = wrong() if callable(wrong) else wrong
        return np.where(on, made, right)

    return pick


def among(pick, table, form, right, *args):
    """`right`, or what a setting asks for of a table of factors.py. form: of the names, with {}."""
    for name, (_, factor) in table.items():
        right = pick(form.format(name), functools.partial(factor, *args), right)
    return right


def clipper(settings):
    """clip(what, d): d within the threshold that a setting has, "clip dh at 0.5"; and the leaf
    "facts", how many numbers were beyond it, where there is one."""
    tops: dict[str, Any] = {}
    for n, names in enumerate(settings):
        for kind, _, number in (name.rpartition(" at ") for name in names):
            carried = "carried " * ("carried" in kind)
            for what in re.findall("d[hca]", kind) if kind in INNER else ():
                tops.setdefault(carried + what, np.full(len(settings), np.inf))[n] = float(number)
    facts = np.zeros(len(settings))

    def clip(what, d):
        if what not in tops:
            return d
        top = tops[what].reshape(-1, 1, 1, 1)
        facts[:] += (np.abs(d) > top).sum((1, 2, 3))
        return np.clip(d, -top, top)

    return clip, {"facts": facts} if tops else {}


class Flow(NamedTuple):
    """Several runs whose gradients are added, per setting: (settings, runs, T) each, but `ends`
    (settings, runs); one setting stands for all.

    enters: the outside's dh_t is seen. ends: the last state's cotangent is. cut: nothing comes
    from t+1 to t.
    """

    enters: Any
    ends: Any
    cut: Any


def flow(names, T):
    """Which cotangent goes where: the truth, in windows, a short reach, or its own step alone."""
    (name,) = names or ("",)
    t = np.arange(T)
    if (
        name == "own loss"
    ):  # the steps' losses alone; and what the last state's cotangent sends back
        return Flow(np.array([t >= 0, t < 0]), np.array([False, True]), np.array([t >= 0, t < 0]))
    k = int(name.rsplit(" ", 1)[-1]) if name else T
    if name.startswith("reach"):
        enters = t[:, None] == t
        return Flow(enters, t == T - 1, t[:, None] - t >= k)
    return Flow(
        (t >= 0)[None], np.array([True]), ((t + 1) % k == 0)[None] if name else (t < 0)[None]
    )


def is_flow(name):
    return name == "own loss" or name.startswith(("windows", "reach"))


def is_forward(name):
    zeros = "h0 zero", "c0 zero", "state zero", "forget offset"
    bare = name.removesuffix(ALONE)
    return name in zeros or bare in VARIANTS or name.startswith("forward in")


ALONE = ", forward alone"


def of_forward(problem, settings):
    """The settings as the forward sees them: with what holds of every one."""
    bare = lambda names: (k.removesuffix(ALONE) for k in names)
    return [(*problem.forward, *bare(names)) for names in settings]


def of_backward(problem, settings):
    """As the backward sees them: without what was done in the forward alone."""
    own = lambda names: () if "forward alone" in names else problem.forward
    return [(*own(names), *names) for names in settings]


def clash(a, b):
    """Two names for one thing: two flows at once, two orders of gates, two factors for one, or a
    sum of which nothing would be left."""
    every = is_flow, lambda k: k.startswith(("forward in", "deltas in"))
    same = any(both(a) and both(b) for both in every)
    return same or bool(slots(a) & slots(b)) or nothing_left(a, b)


def slots(name):
    """Which factors of a step a name puts another in the place of."""
    if name in WHOLE:
        return frozenset(WHOLE[name])
    match = SLOT.search(name)
    return frozenset((next(filter(None, match.groups())),)) if match else frozenset()


WHOLE = {"slope of the sigmoids": "ifo"}
WHOLE |= {f"{k} in the sigmoids": "ifo" for k in factors.SIGMOID}
WHOLE |= dict.fromkeys(("slope of every gate", "slopes at the outputs", "slopes twice"), "ifgo")
SLOT = re.compile(
    r"^slope of ([ifgoa])$| in ([ifgoa]|do|dc|df|dc_prev|di|dg)$|^(?:da_)?(\w+) bare$"
)


def nothing_left(a, b):
    """Of one sum: one share alone, and another alone, or all but that one."""
    if any(k.endswith(" alone") for k in (a, b)):
        x, y = (set(BRANCHES.get(k.split(" of ")[0], ())) for k in (a, b))
        return bool(x & y)
    sums = [OVERWRITTEN.fullmatch(k) for k in (a, b)]
    (leaf, gate, axis), (other, block, another) = (m.groups() if m else ("",) * 3 for m in sums)
    same = leaf == other or other in SEVERAL.get(leaf, ()) or leaf in SEVERAL.get(other, ())
    return all(sums) and same and axis == another and (gate == block or None in (gate, block))


SEVERAL = {"weights": {"dW", "dU", "db", "dP"}, "readout": {"dWy", "dby"}}
BRANCHES: dict[str, Any] = {"recurrence": ["dh"], "input": ["dx"], "dx": ["dx"], "dh": ["dh"]}
BRANCHES |= dict.fromkeys(("dx and dh", "recurrence and input"), ("dx", "dh"))
OVERWRITTEN = re.compile(r"(\w+)(?: (\w))? (?:overwritten|skipped): (\w+)=\d+(?: left)?")


def in_groups(run):
    """gradients(problem, settings), for run(problem, flow, settings).

    Side by side runs what has as many flows as the other, and a forward that is wrong or is not.
    """

    @np.errstate(all="ignore")  # a mutant may overflow
    def gradients(problem, settings):
        T, B, D = problem.xs.shape
        groups: dict[Any, list[int]] = {}
        flows = [flow(tuple(filter(is_flow, names)), T) for names in settings]
        for n, names in enumerate(settings):
            key = len(flows[n].cut), any(map(is_flow, names)), any(map(is_forward, names))
            groups.setdefault(key, []).append(n)
        every = {}
        for (runs, flowing, _), members in groups.items():
            numbers = runs * T * B * (D + 6 * problem.params["U"].shape[1])
            room = max(1, 2**23 // max(numbers, 1))  # settings side by side
            for part in (members[n : n + room] for n in range(0, len(members), room)):
                through = [flows[n] for n in (part if flowing else part[:1])]
                through = Flow(*map(np.stack, zip(*through, strict=True)))
                found = run(problem, through, [settings[n] for n in part])
                for leaf, x in found.items():
                    shape = (len(settings), *x.shape[1:])
                    every.setdefault(leaf, np.zeros(shape, x.dtype))[part] = x
        return every

    return gradients


def begin(problem, through, pick, field):
    """The cotangent of the last state, in the runs that see it."""
    d = pick(f"d{field}_T dropped", 0 * problem.dlast[field], problem.dlast[field])
    return np.where(through.ends[:, :, None, None], d, 0 * d)


def multiplied(pick, t, xs, h0, h_last, h_older, h, h_prev):
    """What the weight products multiply da_t with: x_t and h_{t-1}, or what is taken for them."""
    zero = np.zeros_like(xs[0])
    x = pick("x of t-1", xs[t - 1] if t > 0 else zero, xs[t])
    x = pick("x of t+1", xs[t + 1] if t + 1 < len(xs) else zero, x)
    h_prev = pick("h0 for every h", h0, h_prev)
    h_prev = pick("h of t-2", h_older, pick("state of t-2", h_older, h_prev))
    if t == 0:
        h_prev = pick("h wrapped", h_last, h_prev)
        h_prev = pick("state wrapped", h_last, h_prev)
        h_prev = pick("h0 zero in backward", 0 * h_prev, h_prev)
        h_prev = pick("state zero in backward", 0 * h_prev, h_prev)
    h_prev = pick("h of t", h, h_prev)
    return x, pick("state of t", h, h_prev)


def carry(through, pick, t, d, name):
    """What step t+1 hands to step t."""
    d = np.where(through.cut[:, :, t, None, None], 0 * d, d)
    return pick("nothing carried", 0 * d, pick(name, 0 * d, d))


def total(d):
    """The runs of a flow added; their axis stays, with size 1."""
    return d.sum(-3, keepdims=True) if d.ndim > 2 else d


def gate_masks(settings, gates, size, like):
    """Which gates' shares reach dh_{t-1} and dx_t: factors (settings, 1, 1, gates * H), or 1.0."""
    found = []
    for dropped, left in (("recurrence", ("dh", "dx and dh")), ("input", ("dx", "dx and dh"))):
        mask = np.ones((len(settings), len(gates)), like.dtype)
        for n, names in enumerate(settings):
            for k, gate in enumerate(gates):
                if {f"{dropped} of {gate}", f"recurrence and input of {gate}"} & set(names):
                    mask[n, k] = 0
                if any(f"{what} of {gate} alone" in names for what in left):
                    mask[n] *= np.arange(len(gates)) == k
        whole = np.repeat(mask, size, -1)[:, None, None]
        found.append(1.0 if mask.all() else whole)
    return found


def share_masks(settings, problem, gates, size):
    """{leaf: what is left of each share}: factors (settings, T, B, gates * H), or nothing.

    T and the blocks of gates have size 1 where they do not matter.
    """
    table, found = overwritten_in(problem, gates), {}
    (T, B, _), dtype = problem.xs.shape, problem.xs.dtype
    for n, names in enumerate(settings):
        for one in (table[k] for k in names if k in table):
            left = (np.arange((T, B)[one.axis]) == one.left) != one.skipped
            left = left.astype(dtype)
            left = left[:, None, None] if one.axis == 0 else left[None, :, None]
            for leaf in one.leaves:
                blocks = len(gates) if leaf in GATED else 1
                mine = np.array([one.gate in (None, k) for k in gates[:blocks]])
                mask = np.where(mine, left, np.ones_like(left))
                shape = len(settings), T, B, blocks
                found.setdefault(leaf, np.ones(shape, dtype))[n] *= mask
    fancy = tokens_in(problem)
    for n, names in enumerate(settings):
        for leaf, left in (fancy[k] for k in names if k in fancy):
            blocks = len(gates) if leaf in GATED else 1
            shape = len(settings), T, B, blocks
            found.setdefault(leaf, np.ones(shape, dtype))[n] *= left[:, :, None].astype(dtype)
    return {k: np.repeat(x, size, -1) if k in GATED else x for k, x in found.items()}


GATED = ("dW", "dU", "db")


def join(parts):
    """Side by side, though only some have an axis of settings."""
    return np.concatenate(np.broadcast_arrays(*parts), -1)


def per_setting(n, x):
    """(settings, B, ...) of what may lack the axis of settings, and has one for runs."""
    x = x.reshape((-1, *x.shape[-2:]))
    return np.broadcast_to(x, (n, *x.shape[1:]))


def over_time(n, xs):
    return np.stack([per_setting(n, x) for x in xs], axis=1)
