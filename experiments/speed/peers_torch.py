"""P: torch.nn.LSTM on the same numbers, on one thread and on all of them."""

import functools
import importlib.util
import os

import jax
import numpy as np

from experiments.speed.contestants import Absent


def threads():
    """The thread counts to try: one, and all cores that this process may use (`taskset` may say
    fewer). Where JAX has a GPU, torch gets it too."""
    return [1] if jax.default_backend() == "gpu" else sorted({1, len(os.sched_getaffinity(0))})


def torch_lstm(problem, threads):
    """pass -> (function of no arguments, from its result to our layout in NumPy).

    The gradient is autograd's, in every parameter, h0, c0 and xs. Lengths go by packed sequences.
    """
    if importlib.util.find_spec("torch") is None:
        raise Absent("torch is not installed")
    import torch

    T, _, H = problem.dhs.shape
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[
        problem.xs.dtype.name
    ]
    place = "cuda" if jax.default_backend() == "gpu" else "cpu"
    if place == "cuda" and not torch.cuda.is_available():
        raise Absent("this torch has no CUDA")
    tensor = lambda x: torch.tensor(np.asarray(x, np.float64)).to(place, dtype)
    layer = torch.nn.LSTM(H, H, num_layers=len(problem.layers)).to(place, dtype)
    with torch.no_grad():
        for n, (W, U, b) in enumerate(problem.layers):
            getattr(layer, f"weight_ih_l{n}").copy_(tensor(W).T)
            getattr(layer, f"weight_hh_l{n}").copy_(tensor(U).T)
            getattr(layer, f"bias_ih_l{n}").copy_(tensor(b))
            getattr(layer, f"bias_hh_l{n}").zero_()
    h, c = (
        tensor(np.stack([np.asarray(s[n], np.float64) for s in problem.states])) for n in (0, 1)
    )
    xs, h, c = (x.requires_grad_() for x in (tensor(problem.xs), h, c))
    dhs = tensor(problem.dhs)
    lengths = None if problem.lengths is None else torch.tensor(np.asarray(problem.lengths, "i8"))
    leaves = [*layer.parameters(), xs, h, c]
    packing = torch.nn.utils.rnn

    def sequence():
        if lengths is None:
            return layer(xs, (h, c))
        packed = packing.pack_padded_sequence(xs, lengths, enforce_sorted=False)
        hs, last = layer(packed, (h, c))
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
        *weights, dxs, dh, dc = map(array, result)
        dlayers = tuple(
            (weights[4 * n].T, weights[4 * n + 1].T, weights[4 * n + 2])
            for n in range(len(problem.layers))
        )
        return dlayers, tuple(zip(dh, dc, strict=True)), dxs

    def as_forward(result):
        hs, (h, c) = result
        return tuple(zip(array(h), array(c), strict=True)), array(hs)

    run = functools.partial(functools.partial, on, threads)
    return {"gradient": (run(gradient), as_gradient), "forward": (run(forward), as_forward)}
