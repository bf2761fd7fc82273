"""The same numbers under jit, remat and the rest: Answers to what transforms.py asks."""

from collections.abc import Iterator

import jax
import numpy as np

from jax_lstm.referee import transforms
from jax_lstm.referee.asked import Asked, run
from jax_lstm.referee.checked import NOISY, REFUSED, RIGHT, UNTRIED, WRONG, Answer, failed, wordless
from jax_lstm.referee.comparison import copies
from jax_lstm.referee.ladder import derivatives, rungs
from jax_lstm.referee.report import first_line
from jax_lstm.referee.verdicts import judged


def agreement(at, pair, found, why, plain=None):
    """The Answers to a `transforms.Twice`; plain: the name in `found` that pairs share."""
    keys = f"{pair.name} under", plain or f"{pair.name} plain"
    said = [why[k] for k in keys if k in why]
    if said:
        yield failed(pair.name, said[0]) if pair.must else wordless(pair.name, REFUSED, said[0])
        return
    got, want = ([np.asarray(x, np.float64).reshape(1, -1) for x in found[k]] for k in keys)
    every = max((float(np.sqrt(np.mean(x**2))) for x in want if x.size), default=1.0) or 1.0
    answers = [
        judged(pair.name, name, "without it", a, b, 0 * b, at.tolerance("reference"), every)
        for name, a, b in zip(pair.names, got, want, strict=True)
    ]
    bad = [a for a in answers if a.verdict == WRONG]
    yield from bad or [max(answers, key=lambda a: a.relative)._replace(array="")]


def everywhere(at, asked: Asked) -> Iterator[Answer]:
    """jit, remat, one argument at a time, grad of grad, and arguments left alone."""
    pairs, steps = [*transforms.always(asked)], rungs(max(at.eps, at.own))
    by_jax, values = transforms.second(asked, at.rng, steps)
    pieces = {f"{p.name} under": p.under for p in pairs}
    pieces["plain"] = pairs[0].plain
    pieces |= {
        "second": lambda leaves, dy: by_jax(leaves),
        "along": lambda leaves, dy: values(leaves),
    }
    found, _, why = run(pieces, asked.leaves, asked.dys[0])
    yield from eagerly(at, asked, found)
    for p in pairs:
        yield from agreement(at, p, found, why, "plain")
    if "second" in why:
        yield wordless("grad of grad", REFUSED, why["second"])
    elif "along" in why:
        yield wordless("grad of grad", UNTRIED, why["along"])
    else:
        table = found["along"].reshape(1, len(steps), -1, 1)
        want, error = derivatives(table, steps, max(at.eps, at.own))
        got = found["second"].reshape(1, 1)
        size = float(np.abs(table).max()) or 1.0
        args = "differences", got, want, error, at.tolerance("differences"), size
        answer = judged("grad of grad", "", *args, single=False)
        yield answer if answer.verdict != NOISY else answer._replace(verdict=UNTRIED)


def eagerly(at, asked: Asked, found):
    """Without jit, at arrays of NumPy: the same numbers, and the arrays are what they were."""
    given = copies(at.setting.args)
    whole, dy = asked.questions[0], asked.dys[0]
    try:
        asked.f(*given)
        plain = asked.cotangents(asked.leaves, whole, dy)
    except Exception as error:  # somebody's function may raise anything: that is the verdict
        yield failed("without jit", first_line(error))
        return
    if "plain" not in found:
        return
    pair = transforms.Twice("jit", len, len, asked.names, True)
    both = {"jit under": found["plain"], "jit plain": [np.asarray(x) for x in plain]}
    yield from agreement(at, pair, both, {})
    kept = all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(at.setting.args), strict=True)
    )
    says = "" if kept else "f wrote into an array that it was given"
    yield wordless("arguments left as they were", RIGHT if kept else WRONG, says)


def where_told(at, asked: Asked, batch, carry, mask) -> Iterator[Answer]:
    """vmap, a batch of one and shard_map; scan; NaN in padding. What was not told is not tried."""
    pairs, args = [], at.setting.args
    if batch is None:
        for name in ("vmap", "a batch of one", "shard_map"):
            yield wordless(name, UNTRIED, "`batch` does not name the axis of examples")
    else:
        pairs.append(transforms.under_vmap(asked, transforms.axes_of(args, batch)))
        try:
            pairs.append(transforms.under_shard_map(asked, args, batch))
        except Exception as error:  # f at twice the examples may raise anything: no rule has run
            yield wordless("shard_map", UNTRIED, first_line(error))
    if carry is None:
        yield wordless("scan", UNTRIED, "`carry` does not name the state")
    else:
        pairs.append(transforms.under_scan(asked, carry))
    if mask is None:
        yield wordless("NaN in padding", UNTRIED, "`mask` does not say where there is padding")
    else:
        pairs.append(transforms.under_padding(asked, args, mask))
    if pairs:
        pieces = {f"{p.name} under": p.under for p in pairs}
        pieces |= {f"{p.name} plain": p.plain for p in pairs}
        found, _, why = run(pieces, asked.leaves, asked.dys[0])
        for p in pairs:
            yield from agreement(at, p, found, why)
