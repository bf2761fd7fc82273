"""WHAT MAKERS RETURN: functions that are compared, hashed and pickled by what made them.

JAX caches programs by the functions they are made of. A closure made anew equals nothing, so each
`make_rnn(zoneout(LSTM))` in a training step would be compiled again. Here equal makes are equal.
"""

import functools
import importlib
import inspect
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any


class Made:
    """A function, and what made it: `maker(*args, **options)`, of that `part` if it is not all.

    Equal to what the same maker makes of equal arguments. Pickled by its name if it is one of
    jax_lstm's public functions, otherwise as what to make again.
    """

    __name__: str

    def __init__(
        self,
        function: Callable[..., Any],
        maker: Callable[..., Any],
        args: tuple[Any, ...],
        options: tuple[tuple[str, Any], ...] = (),
        part: int | str | None = None,
    ):
        functools.update_wrapper(self, function)
        args = tuple(comparable(x) for x in args)
        self.function, self.made = function, (maker, args, options, part)

    def __call__(self, *args, **options):
        return self.function(*args, **options)

    def __get__(self, instance, owner=None):  # a function in a class is a method
        return self if instance is None else types.MethodType(self, instance)

    def __eq__(self, other):
        return isinstance(other, Made) and same(self, self.made, other, other.made)

    def __hash__(self):
        return hash_of(self, self.made)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __repr__(self):
        return f"<function {self.__name__}>"

    def __reduce__(self):
        name = self.__name__
        if getattr(sys.modules.get("jax_lstm"), name, None) is self:
            return find, ("jax_lstm", name)
        try:
            pickle.dumps(self.made)
        except Exception as error:
            if asked_by_cloudpickle():
                return again, self.made  # it pickles more than we can try here
            raise pickle.PicklingError(
                f"{name} is pickled as what made it, {self.made[0].__name__} of its arguments, and "
                f"they cannot be: {error}. Define the functions of a cell at the top of a module, "
                f"or make {name} anew where it is wanted"
            ) from None
        return again, self.made


def asked_by_cloudpickle():
    """Whether the pickler is cloudpickle's, or a copy of it as joblib has one: that one may be
    imported by scikit-learn, say, while somebody calls the standard library's."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").split(".")[-1] == "cloudpickle":
            return True
        frame = frame.f_back
    return False


class partial(functools.partial):
    """`functools.partial` whose equals are equal: for functions that JAX caches by.

        step(params, batch, sequence=jl.partial(jl.lstm, residuals="auto"))     # a static argument

    Of a `functools.partial` made anew at each step, as a static argument of `jax.jit`, JAX compiles
    a program at each step. Python compares those by identity; these by function and options.

    Args:
      function, args, options: as of `functools.partial`. Options that have no hash, arrays say,
        leave it equal to itself alone.

    Source: Python's functools.
    """

    def key(self) -> tuple[Any, ...]:
        names = sorted(self.keywords)
        given = (*self.args, *(self.keywords[name] for name in names))
        return (self.func, *names, *((type(x), comparable(x)) for x in given))

    def __eq__(self, other):
        return isinstance(other, partial) and same(self, self.key(), other, other.key())

    def __hash__(self):
        return hash_of(self, self.key())


def comparable(x):
    """The same, but that a plain partial is one of ours."""
    plain = type(x) is functools.partial
    return partial(x.func, *x.args, **x.keywords) if plain else x


def same(one, key, other, other_key):
    """Whether the keys are equal; where they have no hash, whether the two are one."""
    if one is other:
        return True
    try:
        return hash(key) == hash(other_key) and key == other_key
    except TypeError:
        return False


def hash_of(one, key):
    try:
        return hash(key)
    except TypeError:
        return object.__hash__(one)


# Out of a pickle ------------------------------------------------------------------------------


def find(module, name):
    return getattr(importlib.import_module(module), name)


def again(maker, args, options, part):
    """What was made, made again."""
    whole = maker(*args, **dict(options))
    if part is None:
        return whole
    return getattr(whole, part) if isinstance(part, str) else whole[part]


def make_comparable(make: Callable[[Any], Any], maker: Callable[[Any], Any], cell: Any) -> Any:
    """`make(cell)`, a cell whose new functions are Made, by `maker`, under which it is found."""
    new = make(cell)
    fields = zip(new._fields, new, cell, strict=True)
    own = {k: x for k, x, old in fields if isinstance(x, types.FunctionType) and x is not old}
    return new._replace(**{k: Made(x, maker, (cell,), part=k) for k, x in own.items()})
