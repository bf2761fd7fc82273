"""What a run's numbers depend on, for programs and for people."""

import json
import os
import platform

import jax
import jaxlib
import optax


def machine():
    """The device and the versions of what it ran."""
    return {
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "optax": optax.__version__,
        },
    }


def facts(about, data, params):
    """Those of a language model: the text, the size of the model, the machine."""
    return {
        "text": {**about, "vocabulary": len(data.vocabulary)},
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        **machine(),
    }


def header(config, about, directory):
    """The same facts for people."""
    source = {k: v for k, v in about["text"].items() if v or k != "skipped"}
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    return "\n".join(
        [
            f"text     {json.dumps(source, ensure_ascii=False)}",
            f"model    D = {config.embedding}, H = {config.hidden}: {about['parameters']:,} "
            f"parameters, float32; {config.steps} steps of {config.window} x {config.streams} "
            "characters",
            f"machine  {about['device']}, {versions}",
            f"writing  {directory}\n",
        ]
    )


def clock(seconds):
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
