"""From a frozen Config to a command: every field is an option, every option explains itself."""

import argparse
import contextlib
import dataclasses
import io
import math
import os
import sys
import types
import typing

import jax


class BadInput(ValueError):
    """Something the user gave cannot be used. The message begins with the option's name."""

    def __init__(self, option, complaint):
        super().__init__(f"argument {option}: {complaint}")


class Failed(Exception):
    """The run was done and its answer is no: one line, and exit status 1."""


def option(default, help, *, low=None, above=None, below=None, metavar=None):
    """A field of a Config: its default, its help, and the bounds that `check` holds it to."""
    bounds = {"low": low, "above": above, "below": below}
    return dataclasses.field(
        default=default, metadata={"help": help, "metavar": metavar, "bounds": bounds}
    )


def flag(name):
    return "--" + name.replace("_", "-")


def check(config):
    """Complain about a number outside of its bounds, by the option's name."""
    for field in dataclasses.fields(config):
        value, bounds = getattr(config, field.name), field.metadata["bounds"]
        if isinstance(value, int | float):
            low, above, below = bounds["low"], bounds["above"], bounds["below"]
            wanted = [f">= {low}"] * (low is not None) + [f"> {above}"] * (above is not None)
            wanted += [f"< {below}"] * (below is not None)
            if (
                not math.isfinite(value)
                or (low is not None and value < low)
                or (above is not None and value <= above)
                or (below is not None and value >= below)
            ):
                raise BadInput(flag(field.name), f"must be {' and '.join(wanted)}; got {value}")


def host_devices(n):
    """As many host devices, before JAX's backend starts."""
    if n > 1 and n > (os.cpu_count() or 1):
        raise BadInput("--devices", f"this machine has {os.cpu_count()} cores; got {n}")
    if n > 1:
        with contextlib.suppress(RuntimeError):  # it runs already, with the devices it has
            jax.config.update("jax_num_cpu_devices", n)
        if len(jax.devices()) < n:
            raise BadInput("--devices", f"JAX has started with {len(jax.devices())}; got {n}")


def parser_of(Config, program, description):
    """An argparse parser with one option per field, and one for each of a Config's other settings:
    `--tiny` for the tests, and `--quick` where there is one."""
    tiny, hints = Config.tiny(), typing.get_type_hints(Config)
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    either = parser.add_mutually_exclusive_group()
    for form in forms(Config):
        settings = (
            getattr(Config, form).__doc__ or "a small text and a small model, done in seconds"
        )
        either.add_argument(
            flag(form), action="store_true", help=f"{settings}; other options still count"
        )
    for field in dataclasses.fields(Config):
        kind = hints[field.name]
        if kind is bool:
            parser.add_argument(flag(field.name), action="store_true", help=field.metadata["help"])
            continue
        if isinstance(kind, types.UnionType):
            kind = next(k for k in typing.get_args(kind) if k is not type(None))
        default, small = field.default, getattr(tiny, field.name)
        note = "" if default is None else f" (default: {default}"
        note += f"; with --tiny: {small})" if note and small != default else ")" if note else ""
        parser.add_argument(
            flag(field.name),
            type=kind,
            metavar=field.metadata["metavar"] or {int: "N", float: "X", str: "NAME"}[kind],
            help=(field.metadata["help"] + note).replace("%", "%%"),
        )
    return parser


def forms(Config):
    """Names of the settings that a Config comes in besides its defaults."""
    return [form for form in ("tiny", "quick") if hasattr(Config, form)]


def main(Config, run, program, description, argv=None):
    """Parse, run, and turn what went wrong into an exit status: 2 bad input, 130 Ctrl-C.

    1 is a loss that is no number, a run whose summary says that the gradients disagree, or Failed.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a sample may hold what a terminal cannot show
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    parser = parser_of(Config, program, description)
    given = vars(parser.parse_args(argv))
    form = next((form for form in forms(Config) if given.pop(form, False)), None)
    base = getattr(Config, form)() if form else Config()
    try:
        summary = run(dataclasses.replace(base, **given))
    except BadInput as error:
        parser.error(str(error))
    except (FloatingPointError, Failed) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    if isinstance(summary, dict) and summary.get("gradients_agree") is False:
        print(f"{program}: the gradient by hand is not that of jax.grad", file=sys.stderr)
        return 1
    return 0
