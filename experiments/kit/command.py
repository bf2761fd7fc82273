"""From a Config to a command: its options, its exit status, the devices it may use."""

import dataclasses
import inspect
import io
import os
import sys
from typing import Annotated

import jax
import tyro
from tyro.conf import arg

from experiments.kit import machines, record, stop
from experiments.kit.config import BadInput, Failed, TrainingConfig, flag
from experiments.kit.record import SO_FAR

FORMS = ("tiny", "quick", "medium", "chosen")


def host_devices(n):
    """As many host devices, before JAX's backend starts."""
    if n > 1 and n > (os.cpu_count() or 1):
        raise BadInput("--devices", f"this machine has {os.cpu_count()} cores; got {n}")
    machines.ask_for_devices(n)
    if n > 1 and len(jax.devices()) < n:
        raise BadInput("--devices", f"JAX has started with {len(jax.devices())}; got {n}")


def parse(Config, program, description, argv):
    """A Config from a command line: an option for each field.

    `--tiny`, for the tests, and the other FORMS that there are, are settings to start from. So is
    the folder of `--resume`, unless one of those stands beside it.
    """
    forms = {name: getattr(Config, name) for name in FORMS if hasattr(Config, name)}
    start = next((form() for name, form in forms.items() if flag(name) in argv), None)
    config = parse_from(Config, start or Config(), forms, program, description, argv)
    folder = config.resume if isinstance(config, TrainingConfig) else None
    if folder is None or start is not None:
        return config
    stored = record.config_of(Config, folder, program.rpartition(".")[2])
    return parse_from(Config, stored, forms, program, description, argv)


def parse_from(Config, start, forms, program, description, argv):
    """The Config of the options, which the values of another one stand in for."""
    one = [tyro.conf.create_mutex_group(required=False)] if len(forms) > 1 else []
    flags = []
    for name, form in forms.items():
        words = f"{inspect.getdoc(form)}; other options still count ({flag(name)} --help: defaults)"
        flags.append((name, Annotated[bool, arg(help=words, help_behavior_hint=""), *one], False))
    Options = dataclasses.make_dataclass(
        "Options", [("config", Annotated[Config, arg(name="")], start), *flags]
    )
    settings = (tyro.conf.FlagCreatePairsOff,)
    return tyro.cli(
        Options, prog=program, description=description, args=argv, config=settings
    ).config


def names_in(config, option, known):
    """Those apart by commas in an option, which must be of the known ones.

    Raises:
      BadInput: another one, none, or one twice.
    """
    names = getattr(config, option).split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadInput(flag(option), f"must be of {', '.join(known)}; got {unknown[0]!r}")
    if len(set(names)) < len(names):
        raise BadInput(flag(option), f"must name each once; got {getattr(config, option)!r:.60}")
    return names


def one_by_one(config, option, known):
    """A config for each name in an option, each a run of its own: the folder of --run RUN is then
    RUN_NAME. With --resume it is the one of that folder."""
    names = names_in(config, option, known)
    for name in names:
        run = f"{config.run}_{name}" if config.run is not None and len(names) > 1 else config.run
        yield dataclasses.replace(config, **{option: name, "run": run})


def main(Config, run, program, description, argv=None):
    """Parse, run, and turn what went wrong into an exit status: 2 bad input, 130 Ctrl-C, 143
    SIGTERM.

    1 is a loss that is no number, Failed, a disk that is full, or memory that does not suffice.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a sample may hold what a terminal cannot show
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        with stop.at_once():
            run(parse(Config, program, description, sys.argv[1:] if argv is None else argv))
    except BadInput as error:
        print(f"{program}: {error}\n{program} --help explains every option", file=sys.stderr)
        raise SystemExit(2) from None
    except (FloatingPointError, Failed) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{program}: {where}{error.strerror or error}; {SO_FAR}", file=sys.stderr)
        return 1
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        said = str(error).split("\n")[0]
        if jax.process_count() > 1:
            print(f"{program}: another process is gone: {said:.300}; {SO_FAR}", file=sys.stderr)
            return 1
        if not (isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)):
            raise
        print(f"{program}: not enough memory ({said:.200}); {SO_FAR}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"{program}: interrupted", file=sys.stderr)
        return getattr(error, "status", 130)
    return 0
