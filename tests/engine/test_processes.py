"""Two processes: the sum of our gradients over both is the gradient of one process."""

import json
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm as jl

SPLITS_ARRAYS = True

T, B, D, H = 5, 16, 3, 4

PROCESS = """
import json, sys
import jax
import jax.numpy as jnp
import numpy as np
port, rank, devices = map(int, sys.argv[1:])
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", devices)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
import jax_lstm as jl
from jax.sharding import NamedSharding, PartitionSpec as P
from tests.engine.test_processes import arguments, loss

assert jax.device_count() == 2 * devices
kind = (jax.sharding.AxisType.Auto,)
mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=kind)
specs = (P(), P("data"), P(None, "data"))

def place(tree, spec):
    at = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, at, lambda i: np.asarray(x)[i]), tree
    )

args = tuple(map(place, arguments(), specs))
by_psum = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=specs, out_specs=P())
found = {}
for name, f in {"psum": by_psum, "auto": jax.grad(loss)}.items():
    dparams = jax.jit(f, out_shardings=NamedSharding(mesh, P()))(*args)
    found[name] = [np.asarray(x).tolist() for x in dparams]
if rank == 0:
    print(json.dumps(found))
jax.distributed.shutdown()
"""


def arguments():
    params = jl.init_lstm(jax.random.key(0), D, H, dtype=jnp.float64)
    xs = np.random.default_rng(0).normal(size=(T, B, D))
    return params, jl.init_lstm_state(params, (B,)), jnp.asarray(xs)


def loss(params, state, xs):
    last, hs = jl.lstm(params, state, xs, residuals=2)
    return jnp.sum(jnp.sin(last.c)) + jnp.sum(jnp.cos(hs))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_two_processes_are_one(devices):
    """By gloo on loopback, of 1 and of 4 devices each: `shard_map`, whose psum is the transpose of
    our broadcast, and plain jit."""
    port = str(free_port())
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, port, str(rank), str(devices)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], said
    want = jax.jit(jax.grad(loss))(*arguments())
    found = json.loads(said[0][0].splitlines()[-1])
    for name, dparams in found.items():
        for got, dparam in zip(dparams, want, strict=True):
            # float64; some elements are near 0, and two processes add in another order
            np.testing.assert_allclose(got, dparam, rtol=1e-12, atol=1e-12, err_msg=name)
