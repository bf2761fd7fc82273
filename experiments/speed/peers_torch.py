"""P: torch.nn.LSTM, or torch.nn.GRU, on the same numbers, on one thread and on all of them."""

import functools
import importlib.util

import jax
import numpy as np

from experiments.kit import timing
from experiments.speed.problems import Absent


def threads(platform=None, cores=None):
    """The thread counts to try: one, and all cores that this process may use (`taskset` may say
    fewer), or these. Where JAX has a GPU, torch gets it too."""
    platform, cores = platform or jax.default_backend(), cores or timing.cores()
    return [1] if platform == "gpu" else sorted({1, cores})


def torch_layer(problem, threads):
    """pass -> (function of no arguments, from its result to our layout in NumPy).

    The gradient is autograd's, in every parameter, h0, c0 and xs. Lengths go by packed sequences.
    """
    if importlib.util.find_spec("torch") is None:
        raise Absent("torch is not installed")
    import torch

    T, _, H = problem.xs.shape
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[
        problem.xs.dtype.name
    ]
    place = "cuda" if jax.default_backend() == "gpu" else "cpu"
    if place == "cuda" and not torch.cuda.is_available():
        raise Absent("this torch has no CUDA")
    tensor = lambda x: torch.tensor(np.asarray(x, np.float64)).to(place, dtype)
    both_ways, kind = problem.both_ways, {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[problem.cell]
    names = ["l0", "l0_reverse"] if both_ways else [f"l{n}" for n in range(len(problem.layers))]
    options = {"bidirectional": True} if both_ways else {"num_layers": len(names)}
    layer = kind(H, H, **options).to(place, dtype)
    with torch.no_grad():
        for name, (W, U, b, *c) in zip(names, problem.layers, strict=True):
            getattr(layer, f"weight_ih_{name}").copy_(tensor(W).T)
            getattr(layer, f"weight_hh_{name}").copy_(tensor(U).T)
            getattr(layer, f"bias_ih_{name}").copy_(tensor(b))
            own = getattr(layer, f"bias_hh_{name}")
            own.copy_(tensor(c[0])) if c else own.zero_()
    fields = zip(*problem.states, strict=True)
    state = [tensor(np.stack([np.asarray(x, np.float64) for x in field])) for field in fields]
    xs, *state = (x.requires_grad_() for x in (tensor(problem.xs), *state))
    start = tuple(state) if len(state) > 1 else state[0]
    dhs = tensor(problem.dhs)
    lengths = None if problem.lengths is None else torch.tensor(np.asarray(problem.lengths, "i8"))
    leaves = [*layer.parameters(), xs, *state]
    packing = torch.nn.utils.rnn

    def sequence():
        if lengths is None:
            return layer(xs, start)
        packed = packing.pack_padded_sequence(xs, lengths, enforce_sorted=False)
        hs, last = layer(packed, start)
        return packing.pad_packed_sequence(hs, total_length=T)[0], last

    def forward():
        with torch.no_grad():
            return sequence()

    def gradient():
        return torch.autograd.grad(sequence()[0], leaves, dhs)

    def on(threads, f):
        torch.set_num_threads(threads)
        result = f()
        if place == "cuda":
            torch.cuda.synchronize()
        return result

    array = lambda x: x.detach().to("cpu", torch.float64).numpy()

    def as_gradient(result):
        *weights, dxs = map(array, result[: 4 * len(names) + 1])
        dlayers = []
        for n, own in enumerate(problem.layers):
            W, U, b, c = weights[4 * n : 4 * n + 4]
            dlayers.append(type(own)(*(W.T, U.T, b, c)[: len(own)]))
        return dlayers, by_layer(result[4 * len(names) + 1 :]), dxs

    def by_layer(fields):
        return tuple(zip(*map(array, fields), strict=True))

    def as_forward(result):
        hs, last = result
        return by_layer(last if len(state) > 1 else (last,)), array(hs)

    run = functools.partial(functools.partial, on, threads)
    return {"gradient": (run(gradient), as_gradient), "forward": (run(forward), as_forward)}
