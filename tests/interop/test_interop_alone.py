"""Weights come home where no other framework is installed."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import importlib, sys

for name in ("torch", "flax", "keras", "tensorflow"):
    sys.modules[name] = None  # `import torch` raises ImportError now

import jax, numpy as np
import jax_lstm as jl
from jax_lstm.__main__ import main
from jax_lstm.interop import flax, keras, torch

d = {
    **{"weight_ih_l0": np.ones((20, 3), np.float32), "weight_hh_l0": np.eye(20, 5, dtype="f")},
    **{"bias_ih_l0": np.arange(20.0, dtype="f"), "bias_hh_l0": np.ones(20, np.float32)},
}
params = torch.from_state_dict(d)
for read, written in (
    (torch.from_state_dict, torch.to_state_dict(params)),
    (torch.gradient_from_state_dict, torch.gradient_to_state_dict(params)),
    (flax.from_linen, flax.to_linen(params)),
    (flax.from_nnx, flax.to_nnx(params)),
    (flax.from_nnx, flax.to_nnx(params, cell="LSTMCell")),
    (keras.from_weights, keras.to_weights(params)),
):
    same = jax.tree.map(np.array_equal, read(written), params)
    assert all(jax.tree.leaves(same)), read
jl.save("a.safetensors", params)
assert jl.load("a.safetensors").tree.layers[0][0].b[3] == 4.0
assert main(["inspect", "a.safetensors"]) == 0
for name in ("linen", "nnx", "flax_loop"):
    try:
        importlib.import_module(f"jax_lstm.interop.{name}")
    except ImportError as error:
        assert str(error) == f"jax_lstm.interop.{name} needs flax: pip install 'jax_lstm[flax]'"
    else:
        raise AssertionError(name)
"""


def test_without_torch_flax_and_keras(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the layout seems to be ours" in done.stdout
