"""Who runs: every way to an LSTM's gradient, called as its users would, with the same numbers in.

    lstm, frugal, log   ours, residuals="full", "auto" and "log", of the cell that is asked
    kernel              ours with its loops in C++, jax_lstm.kernels.cpu
    A0   a plain scan, differentiated by JAX; of another cell than the LSTM, our own plain twin
    AJ   A0 in a jax.jit, of which the gradient is taken outside: for the eager pass alone
    A1   A0 with x W before the loop; of another cell its record's `project` before, and then its
         plain step
    A2   A0 with jax.checkpoint around its step
    F, K, E, S, C   libraries, see libraries.py
    FR   F with our RNN and cell in flax's place        FC  F with our cell in flax's loop

(G, the bare products, is in floor.py, P in peers_torch.py.) `reason_to_miss` says who has no such
cell, and who is not called in two directions.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

import jax_lstm as jl
from experiments.speed import floor
from experiments.speed.libraries import cudnn, equinox, flax_rnn, haiku, keras
from experiments.speed.problems import Absent, Contestant, walk
from jax_lstm.interop import linen
from jax_lstm.kernels import cpu
from jax_lstm.kernels.build import compiler

# Ours -------------------------------------------------------------------------------------------


def ours(residuals, use_lengths=True, lstm=None):
    """`jl.lstm` or its twin of another kind, or another cell's, or `jl.stack` of it."""

    def build(problem):
        sequence = functools.partial(lstm or getattr(jl, problem.cell), residuals=residuals)
        nest = (lambda x: (x,)) if problem.both_ways else (lambda x: tuple((y,) for y in x))

        def call(args, lengths):
            layers, states, xs = args
            lengths = lengths if use_lengths else None
            if len(layers) == 1:
                last, hs = sequence(layers[0], states[0], xs, lengths=lengths)
                return (last,), hs
            params = jl.StackParams(nest(layers))
            lasts, hs = jl.stack(params, nest(states), xs, sequence=sequence, lengths=lengths)
            return tuple(last for layer in lasts for last in layer), hs

        hvp = our_hvp(problem, residuals) if len(problem.layers) == 1 else None
        return Contestant(lambda *args: args, call, jvp=our_jvp(problem), hvp=hvp)

    return build


def our_jvp(problem):
    """`lstm_jvp`, or another cell's, layer by layer."""
    function = getattr(jl, f"{problem.cell}_jvp")

    def jvp(args, dots, lengths):
        def one(piece, below, reverse):
            (params, state, *tangents), (xs, xs_dot) = piece, below
            options = {"lengths": lengths, "reverse": reverse}
            outputs, outputs_dot = function(params, state, xs, (*tangents, xs_dot), **options)
            return tuple(zip(outputs, outputs_dot, strict=True))

        pieces = zip(*args[:2], *dots[:2], strict=True)
        pairs, hs_pair = walk(problem.both_ways, one, pieces, (args[2], dots[2]))
        return tuple(
            (lasts, hs) for lasts, hs in zip(zip(*pairs, strict=True), hs_pair, strict=True)
        )

    return jvp


def our_hvp(problem, residuals):
    """The pass `grad_of_grad`: a Hessian-vector product by `lstm_hvp`, of another cell by what
    `make_hvp` makes: one pass forward and one back. Nobody calls `jax.grad` of a gradient."""
    cell = problem.cell
    function = jl.lstm_hvp if cell == "lstm" else jl.make_hvp(jl.CELLS[cell], f"{cell}_hvp")

    def hvp(args, dots, dhs, lengths):
        (params,), (state,), xs = args
        (params_dot,), (state_dot,), xs_dot = dots
        loss = lambda _, hs: vdot(hs, dhs)
        options = {"lengths": lengths, "residuals": residuals}
        product = function(params, state, xs, (params_dot, state_dot, xs_dot), loss, **options)[2]
        return (product[0],), (product[1],), product[2]

    return hvp


def on_a_cpu(build):
    """Ours with its loops in C++, where there is a compiler, on a CPU."""

    def check(problem):
        if jax.default_backend() != "cpu":
            raise Absent("the loops in C++ are a CPU's")
        if problem.xs.dtype.itemsize == 2:
            raise Absent("the loops in C++ take float32 and float64")
        try:
            compiler()
        except RuntimeError as error:
            raise Absent(str(error)) from None
        return build(problem)

    return check


# What people write: a scan, differentiated by JAX -----------------------------------------------


def gates(a, c):
    i, f, g, o = jnp.split(a, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def scan(step, state, inputs, lengths, reverse):
    """The step over time. With lengths the state of an example stands still after its last one."""
    if lengths is None:
        return lax.scan(step, state, inputs, reverse=reverse)

    def masked_step(state, now):
        t, x = now
        new, _ = step(state, x)
        state = tuple(
            jnp.where((t < lengths)[:, None], n, s) for n, s in zip(new, state, strict=True)
        )
        return state, state[0]

    steps = jnp.arange(len(inputs), dtype=lengths.dtype)
    return lax.scan(masked_step, state, (steps, inputs), reverse=reverse)


def plain_scan(layer, state, xs, lengths, reverse, wrap=lambda step: step):
    W, U, b = layer

    def step(state, x):
        h, c = gates(x @ W + state[0] @ U + b, state[1])
        return (h, c), h

    return scan(wrap(step), state, xs, lengths, reverse)


def hoisted_scan(layer, state, xs, lengths, reverse):
    W, U, b = layer

    def step(state, z):
        h, c = gates(z + state[0] @ U, state[1])
        return (h, c), h

    return scan(step, state, xs @ W + b, lengths, reverse)


def scan_layers(sequence):
    """Layer by layer, or both ways. In 16 bits everything has 16 bits, as it comes when written
    so."""

    def build(problem):
        def to(layers, states, xs):
            return layers, tuple(tuple(s.astype(xs.dtype) for s in state) for state in states), xs

        return Contestant(to, in_layers(problem, sequence))

    return build


def in_layers(problem, sequence):
    """call of sequence(layer, state, xs, lengths, reverse)."""

    def call(args, lengths):
        layers, states, xs = args
        one = lambda piece, below, reverse: sequence(*piece, below, lengths, reverse)
        return walk(problem.both_ways, one, zip(layers, states, strict=True), xs)

    return call


def plain_twin(problem):
    """A0: an LSTM as people write it; of another cell our own plain twin, `NAME_autodiff`."""
    if problem.cell == "lstm":
        return scan_layers(plain_scan)(problem)
    twin = getattr(jl, f"{problem.cell}_autodiff")
    sequence = lambda *args: twin(*args[:3], lengths=args[3], reverse=args[4])
    return Contestant(lambda *args: args, in_layers(problem, sequence))


def project_first(problem):
    """A1: of the LSTM `hoisted_scan`; of another cell `project` of all xs, then its plain step."""
    if problem.cell == "lstm":
        return scan_layers(hoisted_scan)(problem)
    cell = jl.CELLS[problem.cell]
    plain_step = cell.step_for_jax or cell.step

    def sequence(layer, state, xs, lengths, reverse):
        w = cell.prepare(layer, None)

        def step(state, z):
            new, _ = plain_step(w, cell.state(*state), z)
            return tuple(new), new[0]

        last, hs = scan(step, tuple(state), cell.project(w, xs), lengths, reverse)
        return cell.state(*last), hs

    return Contestant(lambda *args: args, in_layers(problem, sequence))


def scan_in_jit(problem):
    """AJ: A0 as a careful person has it where the gradient is not compiled as a whole."""
    made = plain_twin(problem)
    return made._replace(call=jax.jit(made.call))


def vdot(hs, dhs):
    """What is differentiated, summed in 32 bits at least."""
    dtype = jnp.promote_types(dhs.dtype, jnp.float32)
    return jnp.vdot(hs, dhs, preferred_element_type=dtype)


# Who is there -----------------------------------------------------------------------------------


def reason_to_miss(name, problem):
    """Why this contestant is not in this variant, or None."""
    cell = problem.cell
    if problem.both_ways and name in ONE_WAY:
        return "called in one direction only"
    if cell == "lstm" or name in ANY_CELL or (cell == "gru" and name in ("F", "P")):
        return None
    if name == "G":
        return None if cell in floor.CELLS else "the cell's products are not x W and h U"
    if name == "kernel":
        return "the loops in C++ are the LSTM's"
    if name == "A2":
        return "written for the LSTM alone; A0 is the cell's plain twin"
    if name == "F" and cell == "mgu":
        return "flax's MGUCell resets after the product, ours before it"
    return "no such layer" if name in ("F", "P") else "called as an LSTM only"


CONTESTANTS = {
    "lstm": ours("full"),
    "frugal": ours("auto"),
    "log": ours("log"),
    "kernel": on_a_cpu(ours("full", lstm=cpu.lstm)),
    "A0": plain_twin,
    "AJ": scan_in_jit,
    "A1": project_first,
    "A2": scan_layers(functools.partial(plain_scan, wrap=jax.checkpoint)),
    "F": flax_rnn,
    "FR": functools.partial(flax_rnn, house=linen, loop=linen),
    "FC": functools.partial(flax_rnn, house=linen),
    "K": haiku,
    "E": equinox,
    "S": keras,
    "C": cudnn,
}
OURS = ("lstm", "frugal", "log", "kernel")
ANY_CELL = ("lstm", "frugal", "log", "A0", "A1", "AJ", "no-lengths")
ONE_WAY = ("FR", "FC", "K", "E", "S", "C")
