"""THE MUSEUM: wrong LSTM gradients that shipped in public software, each at a small problem.

An exhibit is a mistake as its thread tells it, made again here: by a switch of slow_backward.py, or
by what that software did to the arrays. The thread was read; it is not quoted, and names nobody.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jax_lstm.diagnosis import brought
from jax_lstm.diagnosis.catalogue import Problem
from jax_lstm.diagnosis.diagnose import diagnose
from jax_lstm.diagnosis.slow_backward import MUTANTS, lstm_forward
from jax_lstm.diagnosis.templates import PUBLISHED
from jax_lstm.printing import wrap

T, B, D, H = 3, 3, 4, 4  # T = B and D = H, so that what was swapped keeps its shape
GITHUB = "https://github.com/"


class Exhibit(NamedTuple):
    """One wrong gradient.

    name, where: the key, and the software with the year of the thread. threads: their addresses,
    those of what mended it as well. did: the mistake, exactly. made: how it is made here. caught:
    what would have caught it. gradient(problem): the wrong one, {leaf: array}. change(problem): the
    problem that it shows at. source: the file, where no thread but the source was read.
    """

    name: str
    where: str
    threads: tuple[str, ...]
    did: str
    made: str
    caught: str
    gradient: Callable[[Problem], dict[str, Any]]
    change: Callable[[Problem], Problem] = lambda problem: problem
    source: str = ""


# How they are made ----------------------------------------------------------------------------


def gradient_of(problem, *names):
    """The slow backward's, with these switches."""
    kind = MUTANTS["lstm"]
    found = kind.gradients(problem, [names])
    if names and names[0] in kind.after(problem):
        _, change = kind.after(problem)[names[0]]
        found = change(kind.gradients(problem, [()]))
    return {k: x[0] for k, x in found.items()}


def switched(*names):
    return lambda problem: gradient_of(problem, *names)


def states_of(problem):
    states = MUTANTS["lstm"].states
    assert states is not None, "the LSTM's table has its states"
    return states(problem)


def products(problem, das):
    """dW, dU and db of deltas (T, B, 4H)."""
    before = np.stack([state["h"] for state in states_of(problem)])
    sums = {"dW": np.einsum("tbd,tbn->dn", problem.xs, das)}
    return sums | {"dU": np.einsum("tbh,tbn->hn", before, das), "db": das.sum((0, 1))}


def gates_of(problem):
    """The four gates of every step, (T, B, 4H)."""
    _, _, steps = lstm_forward(problem)
    return np.stack([np.concatenate(step[2:6], -1) for step in steps])


def block(k):
    return slice(k * H, (k + 1) * H)


def sigmoid_for_its_slope(problem):
    """The forget gate's delta with s(f) for f (1 - f), and nothing carried."""
    found, f = gradient_of(problem, "nothing carried"), gates_of(problem)[..., block(1)]
    das = found["das"].copy()
    das[..., block(1)] *= 1 / (1 + np.exp(-f)) / (f * (1 - f))
    return products(problem, das)


def bias_of_another_gate(problem):
    """db of the input and of the output gate are that of the forget gate."""
    found = gradient_of(problem)
    db = found["db"].copy()
    db[block(0)] = db[block(3)] = db[block(1)]
    return found | {"db": db}


def unsloped(problem):
    """dh_{t-1} from the gates' cotangents before their slopes, step by step."""
    gates, states = gates_of(problem), states_of(problem)
    slopes = gates * (1 - gates)
    slopes[..., block(2)] = 1 - gates[..., block(2)] ** 2
    d, das = dict(problem.dlast), []
    for t in reversed(range(T)):
        one = problem._replace(
            state=states[t], xs=problem.xs[t : t + 1], dhs=problem.dhs[t : t + 1], dlast=d
        )
        found = gradient_of(one)
        das.insert(0, found["das"][0])
        d = {"h": (found["das"][0] / slopes[t]) @ problem.params["U"].T, "c": found["dc0"]}
    return products(problem, np.stack(das))


def times_and_examples_swapped(problem):
    found = gradient_of(problem)
    return found | {"dxs": found["dxs"].swapaxes(0, 1)}


MASK = np.random.default_rng(7).integers(0, 2, (T, B, D)) * 2.0  # of dropout at one half


def unmasked(problem):
    """The upper layer: its weights' gradient with the lower layer's output before dropout."""
    found, lower = gradient_of(problem), np.random.default_rng(8).standard_normal((T, B, D))
    return found | {"dW": np.einsum("tbd,tbn->dn", lower, found["das"])}


def masked(problem):
    """What the upper layer sees: the lower one's output after dropout."""
    lower = np.random.default_rng(8).standard_normal((T, B, D))
    return problem._replace(xs=MASK * lower)


def overwritten_cotangent(problem):
    """The second direction reads its cotangents where the first has put dx."""
    return gradient_of(problem._replace(dhs=gradient_of(problem)["dxs"]))


def without_biases(problem):
    return problem._replace(params=problem.params | {"b": 0 * problem.params["b"]})


# The exhibits ---------------------------------------------------------------------------------

BY_HAND = "a gradient check over more than one step"
EXHIBITS = (
    Exhibit(
        "coursera",
        "the LSTM exercise of a course, its expected output",
        (),
        "The backward over time carries neither dh nor dc from step to step, and the expected "
        "output that the notebook printed for years is that of such a backward.",
        "the switch `nothing carried`; the numbers are those of the notebook",
        BY_HAND,
        lambda _: published("coursera"),
    ),
    Exhibit(
        "remembered",
        "ROOT's TMVA on a CPU, layers that remember their state",
        (),
        "A layer may start from the state that it remembers, and its backward takes zeros for "
        "that state at the first step. This is read from the source; no thread is known.",
        "the switch `state zero in backward`; the numbers are those of a published example, "
        "Gomez', run on from its last state",
        "a gradient check with h0 and c0 that are not zero",
        lambda _: published("gomez"),
        source="ROOT at 07f10cef55: tmva/tmva/inc/TMVA/DNN/RNN/LSTMLayer.h",
    ),
    Exhibit(
        "dropout",
        "PyTorch on MPS, 2026",
        ("pytorch/pytorch/issues/190056", "pytorch/pytorch/pull/190059"),
        "With two layers and dropout between them the backward uses the lower layer's output "
        "before dropout, and never applies the mask: the upper layer's weight gradients and all "
        "that goes down are as if there had been no dropout.",
        "the upper layer's dW with inputs that were not masked",
        "central differences with the same mask at every call",
        unmasked,
        masked,
    ),
    Exhibit(
        "batch-first",
        "PyTorch on MPS, 2023",
        (
            "pytorch/pytorch/issues/91694",
            "pytorch/pytorch/issues/92615",
            "pytorch/pytorch/pull/95137",
        ),
        "With batch_first=True the backward lacks transpositions: the gradient of the inputs has "
        "time and examples swapped. The test of the backward was there, and skipped because it "
        "gave a wrong result.",
        "time and examples of dx swapped",
        "the test that was skipped; sizes that are all different",
        times_and_examples_swapped,
    ),
    Exhibit(
        "no-bias",
        "PyTorch on MPS, 2023",
        ("pytorch/pytorch/pull/94889",),
        "Unless a bias tensor is passed explicitly the gradient of the bias is not computed, and "
        "the bias was overwritten with zeros.",
        "db left at zero, at biases of zero",
        "a gradient check of every option of the constructor",
        switched("db zero"),
        without_biases,
    ),
    Exhibit(
        "assigned",
        "MXNet's example of an LSTM in Python, 2016",
        ("apache/mxnet/issues/4057",),
        "The gradient of c_t is assigned where it must be added to what came from step t+1.",
        "the switch `dc not carried`",
        BY_HAND,
        switched("dc not carried"),
    ),
    Exhibit(
        "last-cell",
        "Deeplearning4j, lstmLayer_bp, 2020",
        ("deeplearning4j/deeplearning4j/issues/8838",),
        "The cotangent of the last cell state is passed in and not added at the last step.",
        "the switch `dc_T dropped`",
        "a cotangent on every output, each by itself",
        switched("dc_T dropped"),
    ),
    Exhibit(
        "zero-cells",
        "PaddlePaddle's LSTM operator, 2017",
        ("PaddlePaddle/Paddle/issues/6970",),
        "The operator returns cell states, and its gradient operator sets their cotangents to "
        "zero.",
        "the switch `dc_T dropped`: of the cell states, the last one's cotangent",
        "a cotangent on every output, each by itself",
        switched("dc_T dropped"),
    ),
    Exhibit(
        "copied",
        "an LSTM in NumPy, 2019",
        ("hanbt/learn_dl/issues/53", "hanbt/learn_dl/pull/63"),
        "The bias gradients of the input and of the output gate are made of the forget gate's "
        "delta: a line that was copied.",
        "the blocks i and o of db are those of f",
        "a gradient check of every array, and not of the weights alone",
        bias_of_another_gate,
    ),
    Exhibit(
        "sigmoid",
        "an LSTM in NumPy in a notebook, 2023",
        (
            "CaptainE/RNN-LSTM-in-numpy/issues/1",
            "CaptainE/RNN-LSTM-in-numpy/pull/2",
        ),
        "The forget gate's delta is multiplied by the sigmoid of f in place of its derivative, "
        "and what is made for step t-1 never becomes what step t-1 gets.",
        "the switch `nothing carried`, and s(f) for f (1 - f) in the delta of f",
        BY_HAND,
        sigmoid_for_its_slope,
    ),
    Exhibit(
        "unsloped",
        "another LSTM in NumPy, 2018",
        ("llSourcell/LSTM_Networks/issues/4",),
        "The gradient of h_{t-1} is formed of the gates' cotangents before the slopes of the "
        "gates are multiplied in.",
        "dh_{t-1} of dgate U^T, step by step",
        BY_HAND,
        unsloped,
    ),
    Exhibit(
        "cleared",
        "a HIP kernel of AiDotNet, in a pull request, 2026",
        ("ooples/AiDotNet/pull/722",),
        "The kernel sets dh to zero at the end of each step: nothing goes back through the "
        "recurrent weights. A review found it.",
        "the switch `dh not carried`",
        BY_HAND,
        switched("dh not carried"),
    ),
    Exhibit(
        "weight-dropout",
        "fastai2, WeightDropout, 2020",
        ("fastai/fastai2/pull/427",),
        "Dropout of the recurrent weights replaces them in a way that no gradient reaches the "
        "weights that are trained.",
        "dU left at zero",
        "a look at whether every parameter has a gradient at all",
        switched("dU zero"),
    ),
    Exhibit(
        "memory",
        "MXNet's native CPU kernel, 2020",
        ("apache/mxnet/issues/17898", "apache/mxnet/pull/18203"),
        "With two directions and more than two layers dx of one direction is written into the "
        "memory of dy before the other direction has used it.",
        "the second direction's gradient with the first one's dx for its dh",
        "a gradient check of two directions with three layers",
        overwritten_cotangent,
    ),
)


def published(name):
    """A published gradient with its problem, as the file has them."""
    return brought.read(PUBLISHED / f"{name}.json")


def problem_of(seed=0):
    """Small, random everywhere: also what is remembered, and the last cotangents."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.standard_normal(shape)
    params = {"W": draw(D, 4 * H) / 2, "U": draw(H, 4 * H) / 2, "b": draw(4 * H) / 2}
    pair = lambda: {k: draw(B, H) / 2 for k in "hc"}
    return Problem(params, pair(), draw(T, B, D), "cotangents", draw(T, B, H), None, 1.0, pair())


def verdict(exhibit):
    """What `diagnose` says of it: a referee.Diagnosis."""
    problem = exhibit.change(problem_of())
    found = exhibit.gradient(problem)
    if "problem" in found:
        return diagnose(found["gradient"], found["problem"], layout=found["layout"])
    arrays = problem.params | {"xs": problem.xs, "dhs": problem.dhs}
    for k in "hc":
        arrays |= {f"{k}0": problem.state[k], f"d{k}_T": problem.dlast[k]}
    given = {k: x for k, x in found.items() if k in ("dW", "dU", "db", "dxs", "dh0", "dc0")}
    return diagnose(given, arrays)


def sentence(exhibit):
    """The first line of the verdict, without digits that rounding decides."""
    return verdict(exhibit).sentence().split("\n")[0].split(": largest difference")[0]


def facts(exhibit):
    """(what a line is about, the line) of an exhibit."""
    yield "what it did", exhibit.did
    yield "made here by", exhibit.made
    yield "diagnose says", sentence(exhibit)
    yield "would have caught it", exhibit.caught
    for thread in exhibit.threads:
        yield "read in", GITHUB + thread
    if exhibit.source:
        yield "read in", exhibit.source


def page(exhibits=EXHIBITS):
    """The museum as a page of docs/, in Markdown, lines of at most 120."""
    parts = [PAGE + "\n".join(wrap(ABOUT, 118, "", ""))]
    for exhibit in exhibits:
        parts.append(f"## {exhibit.name}: {exhibit.where}")
        lines = [
            f"- {what}: {text if '://' not in text else f'<{text}>'}"
            for what, text in facts(exhibit)
        ]
        parts.append("\n".join("\n".join(wrap(line, 118, "", "  ")) for line in lines))
    return "\n\n".join(parts)


PAGE = """# The museum of wrong gradients

"""
ABOUT = (
    "Each of these LSTM gradients shipped in public software, or was about to. Each is made "
    "here again, at a small problem, and brought to `diagnose`. `jax-lstm museum` does so while "
    "you watch; with `--markdown` it wrote this page."
)
