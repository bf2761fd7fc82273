"""HOW DO I TRAIN IT? devices, memory, truncated, and update.

What update.py has, `jax_lstm.training.make_update` say, needs optax, which takes its time: it is
loaded when somebody asks for it.
"""

import importlib

UPDATE = (
    *("AUTODIFF", "BY_HAND", "LanguageModel", "Route", "Step"),
    *("init_language_model", "language_model_loss", "make_update", "make_updates"),
)


def __getattr__(name):
    if name != "update" and name not in UPDATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {UPDATE}")
    update = importlib.import_module("jax_lstm.training.update")
    return update if name == "update" else getattr(update, name)
