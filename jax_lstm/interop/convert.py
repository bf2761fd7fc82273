"""THE DOOR of the converters, in and out: what was found, what was expected, what would fit.

A cell is a few arrays by name; `layouts.WEIGHTS` knows the names and shapes of every system.
Nothing is cast on the way: a weight comes out in the dtype in which it went in.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jax_lstm.cells import CELLS
from jax_lstm.cells.elman import ElmanState
from jax_lstm.cells.lstm import LSTMState
from jax_lstm.cells.lstmp import LSTMPState
from jax_lstm.doors import check_arrays
from jax_lstm.engine.shapes import letters_of, shape_of, sizes_of
from jax_lstm.interop.described import from_ours
from jax_lstm.interop.layouts import WEIGHTS
from jax_lstm.interop.order import by_number
from jax_lstm.interop.torch_names import plain_names, weight_of_norm
from jax_lstm.networks.sizes import StackParams
from jax_lstm.notation import wide
from jax_lstm.printing import listing

CellState: TypeAlias = LSTMState | LSTMPState | ElmanState
PARAMS = {name: cell.params for name, cell in CELLS.items()}
READERS = {
    "ours": "jax_lstm.LSTMParams",
    "torch": "jax_lstm.interop.torch.from_state_dict",
    "linen": "jax_lstm.interop.flax.from_linen",
    "nnx": "jax_lstm.interop.flax.from_nnx",
    "keras": "jax_lstm.interop.keras.from_weights",
}
BLOCK_COUNTS = {1: "a simple RNN has 1", 2: "a minimal gated unit has 2", 3: "a GRU has 3"}


# Arrays ---------------------------------------------------------------------------------------


def array_of(name, x):
    """The numbers as NumPy holds them, dtype kept: of NumPy, JAX, torch, Keras or flax."""
    if hasattr(x, "detach"):  # torch: NumPy knows no bfloat16, and float32 holds all of it
        x = x.detach().cpu()
        narrow = str(x.dtype).endswith("bfloat16")
        x = x.float().numpy().astype(jnp.bfloat16) if narrow else x.numpy()
    if isinstance(x, Tracer):
        raise ValueError(f"`{name}` is traced: weights are converted outside of jit and grad")
    if not hasattr(x, "__array__"):
        none = "; no gradient has reached it" if x is None else ""
        raise ValueError(f"`{name}` must be an array; got {type(x).__name__}{none}")
    x = np.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"`{name}` must be floating point; got {x.dtype} {x.shape}")
    return x


def to_jax(name, x):
    """A JAX array of the same dtype, or a complaint: JAX would round float64 with a warning."""
    if jax.dtypes.canonicalize_dtype(x.dtype) != x.dtype:
        raise ValueError(
            f"`{name}` is {x.dtype}, which JAX holds after jax.config.update('jax_enable_x64', "
            "True) only; set that, or convert it yourself"
        )
    return jnp.asarray(x)


# One cell -------------------------------------------------------------------------------------


def form_of(arrays, forms):
    """The WeightLayout among `forms` whose names and shapes these arrays have, or None."""
    for form in forms:
        needed = [k for k in form.shapes if k not in form.optional]
        whole = set(form.shapes), set(needed)
        if set(arrays) in whole and not misfits(arrays, form):
            return form
    return None


def misfits(arrays, form):
    """{name: shape it must have}, of those that have another."""
    shapes = {k: v for k, v in form.shapes.items() if k in arrays}
    sizes = sizes_of(shapes, arrays)
    if not {letter for text in shapes.values() for letter in letters_of(text)} <= set(sizes):
        return {k: f"of {len(v.split(','))} axes" for k, v in shapes.items()}
    want = {k: shape_of(v, sizes) for k, v in shapes.items()}
    return {k: v for k, v in want.items() if np.shape(arrays[k]) != v}


def complaint(arrays, forms, where=""):
    """Why no form fits: against the one that comes closest."""
    form = max(forms, key=lambda form: nearness(arrays, form))
    here = f" of {where}" if where else ""
    needed = [k for k in form.shapes if k not in form.optional or set(form.optional) & set(arrays)]
    missing = [k for k in needed if k not in arrays]
    strange = [k for k in arrays if k not in form.shapes]
    if missing or strange:
        return (
            f"the weights{here} must be {listing(needed)}, as {form.about} has them; "
            + (f"{listing(missing)} is missing; " if missing else "")
            + (f"{listing(strange)} does not belong there; " if strange else "")
            + f"found {listing(arrays)}{other_reader(arrays, forms)}"
        )
    wrong = misfits(arrays, form)
    turned = {k: np.transpose(x) for k, x in arrays.items()}
    if form_of(turned, forms):
        got = ", ".join(f"{k} {np.shape(x)}" for k, x in arrays.items())
        return f"the weights{here} fit {form.about} when they are transposed; got {got}"
    counted = {k: count_blocks(form.shapes[k], np.shape(arrays[k])) for k in wrong}
    name = next((k for k in wrong if counted[k]), next(iter(wrong)))
    letters, want, got = form.shapes[name], wrong[name], np.shape(arrays[name])
    if isinstance(want, str):
        return f"`{name}`{here} must be ({letters}); got {got}"
    hint = "; it is transposed" if got == want[::-1] and len(got) == 2 else counted[name]
    hint = hint or other_reader(arrays, forms)
    return f"`{name}`{here} must be ({letters}) = {want}, as {form.about} has it; got {got}{hint}"


def count_blocks(letters, got):
    """How many blocks there are instead of four, where that can be read off: (3H, H)."""
    axes = letters.split(",")
    if sorted(axes) != ["4H", "H"] or len(got) != 2:
        return ""
    H, rows = got[axes.index("H")], got[axes.index("4H")]
    if H == 0 or rows % H or rows == 4 * H:
        return ""
    return f": {rows // H} block(s) of H = {H} where an LSTM has 4" + (
        f" ({BLOCK_COUNTS[rows // H]})" if rows // H in BLOCK_COUNTS else ""
    )


def other_reader(arrays, forms):
    """Which system's names these are, if not that of the forms."""
    for layout, others in WEIGHTS.items():
        if others is not forms and form_of(arrays, others):
            return f"; that would fit {READERS[layout]}"
    return ""


def cell_of(arrays, forms, where="", join=None):
    """The parameters of a cell from a system's arrays.

    Args:
      arrays: {name: NumPy array}, names as the WeightLayout has them.
      forms: of `layouts.WEIGHTS`.
      where: for complaints.
      join: `(b, b again) -> b` for two biases; their sum if None.
    """
    form = form_of(arrays, forms)
    if form is None:
        raise ValueError(complaint(arrays, forms, where))
    check_one_dtype(arrays)
    found = form.to_ours(arrays)
    again = found.pop("b again", None)
    if again is not None:
        found["b"] = (np.add if join is None else join)(found["b"], again)
    params = PARAMS[form.cell]
    if "b" in params._fields and "b" not in found:
        found["b"] = np.zeros(found["W"].shape[1], found["W"].dtype)
    at = f" of {where}" if where else ""
    return params(*(to_jax(f"{k}{at}", found[k]) for k in params._fields))


def arrays_of(params, forms, bias=True, again=None, name="params"):
    """A system's arrays from the parameters of a cell, {name: NumPy array}: the way back.

    Args:
      params: LSTMParams, LSTMPParams or ElmanParams.
      forms: of `layouts.WEIGHTS`.
      bias: whether there are biases; if not, b must be zero.
      again: what becomes of a second bias, a function of b; zeros if None.
      name: of params, for complaints.
    """
    cell = next((k for k, kind in PARAMS.items() if isinstance(params, kind)), None)
    known: dict[str, Any] = {}
    for form in forms:
        known.setdefault(form.cell, form)
    if cell is None or cell not in known:
        takes = ", ".join(PARAMS[k].__name__ for k in known)
        abouts = ", ".join(form.about for form in known.values())
        raise ValueError(f"`{name}`: {abouts} take {takes}; got {type(params).__name__}")
    form, ours = known[cell], WEIGHTS["ours"]
    arrays = {k: array_of(k, x) for k, x in zip(params._fields, params, strict=True)}
    check_one_dtype(arrays)
    own = next(f for f in ours if f.cell == cell)
    wrong = misfits(arrays, own)
    if wrong:
        raise ValueError(complaint(arrays, (own,)))
    sizes = sizes_of(own.shapes, arrays)
    shapes = (
        form.shapes if bias else {k: v for k, v in form.shapes.items() if k not in form.optional}
    )
    if not bias:
        check_no_bias(arrays.pop("b"))
    elif again is not None:
        arrays["b again"] = again(arrays["b"])
    return from_ours(form.to_ours, shapes, sizes, arrays, arrays["W"].dtype)


def check_one_dtype(arrays):
    if len({x.dtype for x in arrays.values()}) > 1:
        kinds = ", ".join(f"{k} {x.dtype}" for k, x in arrays.items())
        raise ValueError(f"the weights of a cell must share one dtype; got {kinds}")


def check_no_bias(b):
    if np.any(b):
        raise ValueError(
            f"b must be zero where there is no bias; its largest element is {np.abs(b).max():.3g}"
        )


# A stack --------------------------------------------------------------------------------------


def layers_of(params):
    """layers[l][direction] of StackParams, or of a cell's own parameters alone."""
    if not isinstance(params, StackParams):
        return ((params,),)
    if params.initial is not None:
        raise ValueError(
            "`params.initial` must be None: learnt initial states are no weights elsewhere; give "
            "params._replace(initial=None), and the states of init_stack_state beside them"
        )
    return params.layers


def as_layers(name, tree, is_one):
    """one -> ((one,),), [one, ...] -> ((one,), ...), [(one, one), ...] as it is; is_one tells."""
    if is_one(tree):
        return ((tree,),)
    if not isinstance(tree, Sequence) or isinstance(tree, str) or not len(tree):
        raise ValueError(
            f"`{name}` must be that of a cell, or [(forward[, reverse]), ...] with those of each "
            f"layer; got {type(tree).__name__}"
        )
    several = [layer if isinstance(layer, tuple | list) else (layer,) for layer in tree]
    layers = tuple((x,) if is_one(x) else tuple(y) for x, y in zip(tree, several, strict=True))
    for n, layer in enumerate(layers):
        if len(layer) not in (1, 2) or not all(is_one(one) for one in layer):
            raise ValueError(
                f"`{name}[{n}]` must be (forward,) or (forward, reverse); got {len(layer)} entries "
                f"of {', '.join(sorted({type(one).__name__ for one in layer})) or 'no type'}"
            )
    return layers


def check_state(state):
    """(h,) or (h, c), under these names."""
    if getattr(state, "_fields", None) not in (("h",), ("h", "c")):
        raise ValueError(
            "`state` must be a state with fields h, or h and c, say an LSTMState; got "
            f"{type(state).__name__}"
        )
    check_arrays("state", state)


def state_of(where, h, c=None) -> CellState:
    """The state of a cell, by its sizes: an LSTMPState where h is smaller than c. c is widened to
    float32 where it has 16 bits, which rounds nothing."""
    h = to_jax(where, array_of(where, h))
    if c is None:
        return ElmanState(h)
    c = to_jax(where, array_of(where, c))
    if h.shape[:-1] != c.shape[:-1] or not h.ndim:
        raise ValueError(f"h and c of {where} must be (..., H) alike; got {h.shape} and {c.shape}")
    c = c.astype(wide(c.dtype))
    return (LSTMState if h.shape == c.shape else LSTMPState)(h, c)


# Whose are they? ------------------------------------------------------------------------------


class FoundCell(NamedTuple):
    """A cell among named arrays.

    layout: a key of WEIGHTS.   where: what its names begin with.   layer, direction: torch's.
    arrays: {name as the WeightLayout has it: array}.   form: the WeightLayout that fits, or None.
    """

    layout: str
    where: str
    layer: int
    direction: int
    arrays: dict[str, Any]
    form: Any


TORCH_NAME = re.compile(r"(?:(.*)[./])?((?:weight_[ih]h|weight_hr|bias_[ih]h)_l)(\d+)(_reverse)?")

OF_DENSE = {"W", "b", "kernel", "bias"}  # alone these are a dense layer
IN_PARTS = {k for forms in WEIGHTS.values() for form in forms for k in form.shapes if "/" in k}


def flatten(tree, above=()):
    """{"a/b": leaf} of a nested mapping; anything else is a leaf."""
    if not isinstance(tree, Mapping):
        return {"/".join(above): tree}
    parts = [flatten(x, (*above, str(k))) for k, x in tree.items()]
    return {k: x for part in parts for k, x in part.items()}


def split_name(name):
    """(what the name begins with, torch's layer, its direction, the name of layer 0)."""
    match = TORCH_NAME.fullmatch(name)
    if match:
        where, kind, layer, reverse = match.groups()
        return where or "", int(layer), 1 if reverse else 0, f"{kind}0"
    parts = re.split(r"[./]", name)
    last = "/".join(parts[-2:])
    local = last if last in IN_PARTS else parts[-1]
    return name[: len(name) - len(local)].rstrip("./"), 0, 0, local


def cells_among(arrays, said=None):
    """([FoundCell, ...], names that belong to none) of {name: array}, nested or not.

    `said`, {where: name of the cell}, tells cells of ours apart that have the same arrays.
    """
    groups: dict[Any, dict[str, str]] = {}
    arrays = plain_arrays(flatten(arrays))
    for name in arrays:
        *place, local = split_name(name)
        groups.setdefault((*place, local.endswith("_l0")), {})[local] = name
    found, rest = [], []
    for (where, layer, direction, _), names in groups.items():
        own = {local: arrays[name] for local, name in names.items()}
        ours = [form for form in WEIGHTS["ours"] if form.cell == (said or {}).get(where)]
        fits = {k: f for k, forms in WEIGHTS.items() if (f := form_of(own, forms))}
        fits = {"ours": form_of(own, ours)} if ours and form_of(own, ours) else fits
        layout = next(iter(fits), None)
        if layout is None:  # wrong shapes, or a name is missing
            near = {k: max(nearness(own, form) for form in v) for k, v in WEIGHTS.items()}
            layout = max(near, key=near.__getitem__)
            layout = layout if near[layout] > 0 and set(own) - OF_DENSE else None
        if layout is None:
            rest.extend(names.values())
        else:
            found.append(FoundCell(layout, where, layer, direction, own, fits.get(layout)))
    return sorted(found, key=place_of), rest


def place_of(cell):
    """A key to sort cells by: layer 10 after layer 9, a reverse direction after its forward one."""
    forward = re.sub("backward_|reverse_", "forward_", cell.where)
    return by_number(forward), cell.layer, cell.direction, forward != cell.where


def plain_arrays(arrays):
    """The arrays of a state_dict as torch.nn.LSTM names them, weights that stand in parts joined;
    as they are, where those do not belong together."""
    plain = plain_names(arrays)
    try:
        return {k: join_parts(k, x) for k, x in plain.items()}
    except ValueError:
        return arrays


def join_parts(name, x):
    """A weight of torch that stands in parts, joined; anything else as it is."""
    if not isinstance(x, tuple):
        return x
    return weight_of_norm(
        name, *(array_of(f"{name}, {k}", part) for k, part in zip("gv", x, strict=True))
    )


def nearness(arrays, form):
    """How many more names belong to this form than are missing or strange."""
    here, needed = set(arrays), set(form.shapes) - set(form.optional)
    return len(here & set(form.shapes)) - len(here - set(form.shapes)) - len(needed - here)
