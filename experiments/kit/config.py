"""What an experiment can be asked for: a frozen Config, whose fields are its command's options.

A field's type holds its bounds, and the string below a field is its help. No Config exists that
breaks a bound, so nothing is traced before a complaint.
"""

import dataclasses
import math
import operator
import os
import typing
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from tyro.conf import arg


class BadInput(ValueError):
    """Something the user gave cannot be used. The message begins with the option's name."""

    def __init__(self, option, complaint):
        super().__init__(f"argument {option}: {complaint}")


class Failed(Exception):
    """The run was done and its answer is no, or it cannot go on: one line, and exit status 1."""


class Bounds(NamedTuple):
    """What a number must be, besides finite."""

    low: float | None = None
    above: float | None = None
    below: float | None = None


class Free(NamedTuple):
    """Of an option that --resume may give anew: it says how a run is done, and not what it is."""


Size = Bounds(below=2**31)  # of what an array can have along an axis
Count = Annotated[int, Bounds(low=1), Size]
CountOrZero = Annotated[int, Bounds(low=0), Size]
Positive = Annotated[float, Bounds(above=0)]
PositiveOrZero = Annotated[float, Bounds(low=0)]
Fraction = Annotated[float, Bounds(above=0, below=1)]
FractionOrZero = Annotated[float, Bounds(low=0, below=1)]
Seed = Annotated[int, Bounds(low=0, below=2**63)]
Gradient = Annotated[Literal["manual", "step", "auto"], arg(metavar="WHOSE")]
Folder = Annotated[str, arg(metavar="FOLDER")]
# What may be left out; the help says what happens then
OptionalName = Annotated[str | None, arg(constructor=str, metavar="NAME", help_behavior_hint="")]
OptionalFile = Annotated[str | None, arg(constructor=str, metavar="FILE", help_behavior_hint="")]
OptionalData = Annotated[str | None, arg(constructor=str, metavar="FOLDER", help_behavior_hint="")]
OptionalText = Annotated[str | None, arg(constructor=str, metavar="TEXT", help_behavior_hint="")]
OptionalFolder = Annotated[
    str | None, Free(), arg(constructor=str, metavar="FOLDER", help_behavior_hint="")
]
OptionalAddress = Annotated[
    str | None, Free(), arg(constructor=str, metavar="HOST:PORT", help_behavior_hint="")
]
FreeCount = Annotated[int, Bounds(low=1), Size, Free()]
FreeCountOrZero = Annotated[int, Bounds(low=0), Size, Free()]
FreeSwitch = Annotated[bool, Free()]


@dataclass(frozen=True)
class BaseConfig:
    """What every experiment can be asked for."""

    seed: Seed = 0
    """of everything that is drawn at random, such as parameters and the order of the data"""
    results: Annotated[Folder, Free()] = "results"
    """where <experiment>/<run> is written"""
    run: Annotated[OptionalName, Free()] = None
    """name of a new run (default: date and time)"""

    def __post_init__(self):
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for bounds in getattr(hints[field.name], "__metadata__", ()):
                if isinstance(bounds, Bounds) and value is not None:
                    check_bounds(flag(field.name), value, bounds)

    @classmethod
    def tiny(cls):
        """little data and a small model, done in seconds"""
        return cls()


@dataclass(frozen=True)
class TrainingConfig(BaseConfig):
    """What every training can be asked for."""

    gradient: Gradient = "manual"
    """whose: 'manual', the whole sequence by hand; 'step', one step by hand and time by JAX;
    'auto', all of it by JAX"""
    clip_by: Annotated[
        Literal["global", "leaf", "gate", "adaptive", "example"], arg(metavar="WHAT")
    ] = "global"
    """what --clip bounds: 'global', the norm of the whole gradient; 'leaf', of each array; 'gate',
    of each gate's part of an array; 'adaptive', of each unit's over its weights'; 'example', of
    each example's gradient"""
    dh: Annotated[str | None, arg(constructor=str, metavar="HOW", help_behavior_hint="")] = None
    """'clip:X' or 'cut:X': numbers of dh_t beyond X are set to X or to zero within the backward; it
    is no longer the true gradient, so it needs --skip-check"""
    skip_check: FreeSwitch = False
    """do not compare the gradient with jax.grad's on the model and the first batch"""
    dispatch: FreeCount = 8
    """updates that are handed to the device at once; it changes no number"""
    resume: OptionalFolder = None
    """go on with the run in this folder, from its last whole checkpoint; its options stand there,
    and another one given beside this is an error"""
    force: FreeSwitch = False
    """with --resume: take the options and the data that differ from those of the folder"""
    checkpoint_every: FreeCountOrZero = 200
    """steps between checkpoints, in FOLDER/checkpoints; 0: only at the start, at the end and on a
    signal"""
    devices: Annotated[
        int | None,
        Bounds(low=1, below=4097),
        Free(),
        arg(constructor=int, metavar="N", help_behavior_hint=""),
    ] = None
    """devices of each process that the work is split over; on a CPU, threads of it (default: one;
    of char_lm two threads where `jl.over_devices` would split an update of its size)"""
    split: Annotated[Literal["examples", "units"], Free(), arg(metavar="WHAT")] = "examples"
    """what --devices split: 'examples', with the weights whole on each, or the hidden 'units', with
    the weights of each gate's units at rest where these are (for large H; one process)"""
    coordinator: OptionalAddress = None
    """where the first of several processes listens"""
    processes: Annotated[int, Bounds(low=1, below=65537), Free()] = 1
    """how many there are, on one machine or on many"""
    process: FreeCountOrZero = 0
    """which of them this is, from 0 on; the first one writes"""
    nonfinite: Annotated[Literal["stop", "skip", "clip"], Free(), arg(metavar="POLICY")] = "stop"
    """what to do where a loss or a gradient is no number: 'stop' the run, 'skip' the update, 'clip'
    those numbers to zero"""
    tensorboard: FreeSwitch = False
    """write event files for TensorBoard as well (by the package tensorboardX)"""

    def sizes(self):
        """(T, B, D, H) of an update, by which splitting it over two threads pays or does not. None:
        it does not, or nobody has measured it."""
        return None


def flag(name):
    """A field's option."""
    return "--" + name.replace("_", "-")


def options_that_count(Config):
    """Names of the options that say what a run is, and not how it is done: what is Free in a class
    is so in those made of it, whatever its default is there."""
    free = {
        name
        for kind in Config.__mro__
        for name, hint in typing.get_type_hints(kind, include_extras=True).items()
        if any(isinstance(x, Free) for x in getattr(hint, "__metadata__", ()))
    }
    return [field.name for field in dataclasses.fields(Config) if field.name not in free]


def check_bounds(option, value, bounds):
    """Complain about a number outside of its bounds, by the option's name."""
    rules = [
        (sign, holds, bound)
        for sign, holds, bound in (
            (">=", operator.ge, bounds.low),
            (">", operator.gt, bounds.above),
            ("<", operator.lt, bounds.below),
        )
        if bound is not None
    ]
    finite = isinstance(value, int) or math.isfinite(value)
    if not (finite and all(holds(value, bound) for _, holds, bound in rules)):
        wanted = " and ".join(f"{sign} {bound}" for sign, _, bound in rules)
        raise BadInput(option, f"must be {wanted}; got {value!s:.60}")


def memory():
    """Bytes of this machine's memory, or None where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def check_memory(option, needed, what):
    """Complain about what takes more bytes than the machine has, by the option's name."""
    there = memory()
    if there is not None and needed > there:
        raise BadInput(
            option,
            f"{what} takes {needed / 2**30:,.0f} GiB at least; this machine has "
            f"{there / 2**30:,.0f}",
        )
