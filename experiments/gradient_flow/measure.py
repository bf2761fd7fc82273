"""Every number of the figure: norms of Jacobians and of the gradient; what gates alone allow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jax_lstm as jl

EXACT = 96  # hidden units up to which whole Jacobians are formed
PLACES = 24  # steps at which power iteration looks instead


def situation(config, name, networks, models, xs_of, targets):
    """Every number of a column of the figure. Lists are by time step."""
    return {
        "name": name,
        "networks": [
            {"name": network.name, **numbers(config, network, model, xs_of(model), targets)}
            for network, model in zip(networks, models, strict=True)
        ],
    }


def numbers(config, network, model, xs, targets):
    """Those of one network, in float64: over its examples the geometric mean, least and most."""
    exact, T = config.hidden <= EXACT, len(xs)
    at = np.arange(T) if exact else np.unique(np.linspace(0, T - 1, PLACES).round().astype(int))
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), (model.lstm, model.readout, xs))
        cell = (network.init_state, network.linearised, network.bound)  # of all LSTMs the same
        how = (exact, tuple(at.tolist()), config.iterations)
        found = measure(*cell, *how, *wide, targets)
        norms, residual, gradient, bound = jax.tree.map(np.asarray, found)
    fields = norms._fields
    return {
        "at": at.tolist(),
        "jacobian": {k: over_examples(getattr(norms, k)) for k in fields},
        "by": "singular values" if exact else "power iteration",
        "residual": 0.0 if exact else digits(residual),
        "bound": over_examples(bound)["mean"],
        "gradient": {k: over_examples(getattr(gradient.dstate, k))["mean"] for k in fields},
        "delta": {
            gate: over_examples(gradient.delta[..., n])["mean"]
            for n, gate in enumerate("ifgo" if len(fields) > 1 else "a")
        },
    }


@functools.partial(jax.jit, static_argnums=range(6))
def measure(init_state, linearised, bound, exact, at, iterations, params, readout, xs, targets):
    """(T or n, B) norms of Jacobians, the worst residual, GradientNorms, and the gates' bound."""
    linear = linearised(params, init_state(params, xs.shape[1:2]), xs)
    hs = linear.states[0]

    def loss(h):
        return jl.softmax_cross_entropy(jl.dense(readout, h), targets).sum()

    dhs = jnp.zeros_like(hs).at[-1].set(jax.grad(loss)(hs[-1]))
    if exact:
        norms = jax.tree.map(
            lambda J: jnp.linalg.svd(J, compute_uv=False)[..., 0], jl.jacobians(linear)
        )
        residual = jnp.zeros(())
    else:
        norms, residuals = jl.jacobian_norms(linear, at, iterations=iterations)
        residual = jnp.max(jnp.stack(residuals))
    return norms, residual, jl.gradient_norms(linear, dhs), bound(linear)


def over_examples(x):
    """(n, B) as lists of n: geometric mean, least and most. Zero if one is zero."""
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(x).mean(-1))
    found = {"mean": mean, "least": x.min(-1), "most": x.max(-1)}
    return {k: [digits(v) for v in values] for k, values in found.items()}


def digits(x):
    """Three of them: a picture shows no more."""
    return float(f"{x:.2e}")
