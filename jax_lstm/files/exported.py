"""EXPORTED PROGRAMS: `jax.export` writes them, and needs a name for each type in their arguments.

    exported = jax.export.export(jax.jit(model))(params, state, xs)
    jax.export.deserialize(exported.serialize()).call(params, state, xs)     # maybe elsewhere

Whoever reads such a file imports `jax_lstm` first, as our types are registered by that. A name is
the type's own, wherever its file may move. The types of a cell that stands in no `CELLS` are
registered by whoever wrote it.
"""

from jax.export import register_namedtuple_serialization

from jax_lstm.analysis.attribution import Attribution
from jax_lstm.analysis.flow import GradientNorms, JacobianNorms
from jax_lstm.analysis.states import States
from jax_lstm.engine.segments import Steps
from jax_lstm.files.checkpoint import OURS
from jax_lstm.training.truncated import Window

ANALYSES = (Attribution, GradientNorms, JacobianNorms, States)
EXPORTED = (*dict.fromkeys(OURS), *ANALYSES, Steps, Window)

for kind in EXPORTED:
    register_namedtuple_serialization(kind, serialized_name=f"jax_lstm.{kind.__name__}")
