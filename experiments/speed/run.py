"""What does the hand-written gradient cost, beside everything else one could use?

    python -m experiments.speed                 S1 to S4, every contestant that is installed
    python -m experiments.speed --quick         under two minutes
    python -m experiments.speed --all --devices 2 --end-to-end --profile --add FILE.json
                                                all there is; the same again goes on with it
    python -m experiments.speed --table FILE.json               tables of an earlier run
    python -m experiments.speed --table FILE.json --write       README's and docs/speed.md's of it
    python -m experiments.speed --compare OLD.json              what OLD holds, again: is it slower?
    python -m experiments.speed --table NEW.json --compare OLD.json         the same without a run

One process, warmed up, the contestants in turn, round by round. Timed are the gradient of
vdot(hs, dhs) in parameters, state and xs, and the forward alone (hs and the last state); and, where
`--passes` asks for it, a tangent along a direction in all of these, a product of the Hessian with
it, and the gradient without a jit around it. Before that, every contestant's answer is compared
with ours, or with A0's where the pass is a tangent or a product with the Hessian, and one that
disagrees is an error.

    lstm      ours, residuals="full"               A0   jax.grad of a plain scan
    frugal    ours, residuals="auto"               A1   the same with x W before the loop
    log       ours, residuals="log"                A2   A0 with jax.checkpoint around its step
    kernel    ours, its loops in C++               AJ   A0 in a jit, eager gradients alone
    F         flax nn.RNN(OptimizedLSTMCell)       P1, P2    torch.nn.LSTM on 1, 2 threads
    K, E, S   haiku, equinox, Keras on JAX         G    the bare products: the floor
                                                   C    cuDNN (on an NVIDIA GPU)

Milliseconds are those of a machine in an hour: what else it does changes them by half. So ratios
are taken within a round, between two runs a moment apart, and `--compare` never looks at the times
of two runs, but at our time over A0's and over G's, then and now. A slowdown is flagged, and the
exit status is 1, if it is beyond the threshold against both of them and a bootstrap over rounds
finds it so in 99 of 100 draws; fewer than 5 rounds are no evidence.

Writes results/speed/<run>/speed.json, or FILE.json, after every case, and pictures beside it.
"""

import dataclasses
import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from experiments.kit import command, record, timing
from experiments.kit.config import (
    BadInput,
    BaseConfig,
    Bounds,
    Count,
    Failed,
    OptionalFile,
    OptionalName,
    Positive,
)
from experiments.speed import compare as speed_compare
from experiments.speed import end_to_end, environment, pages, programs, reading
from experiments.speed import plots as speed_plots
from experiments.speed import profile as speed_profile
from experiments.speed import tables as speed_tables
from experiments.speed.cases import (
    ALL,
    OF_CELLS,
    SIZES,
    VARIANTS,
    Missing,
    add,
    devices_of,
    jobs_of,
    product,
    still_to_do,
)
from experiments.speed.contestants import CONTESTANTS, OURS
from experiments.speed.problems import Absent, problem
from experiments.speed.programs import PASSES, Disagrees

USUAL = {"sizes": "S1,S2,S3,S4", "variants": "plain", "passes": "gradient,forward"}
BRACKETS = "[']"  # which tyro puts around a default value
KNOWN = {"sizes": SIZES, "variants": VARIANTS, "passes": PASSES}


def chosen_of(flag, metavar, words):
    """The type of an option of USUAL: what was said, or None."""
    usual = lambda said: USUAL[flag] if said == "None" else said
    hint = lambda default: f"(default: {usual(str(default).strip(BRACKETS))})"
    told = arg(constructor=str, help=words, metavar=metavar, help_behavior_hint=hint)
    return Annotated[str | None, told]


@dataclass(frozen=True)
class Config(BaseConfig):
    """The options of speed."""

    sizes: chosen_of(
        "sizes", "S,...", "which (T, B, D=H): " + str(SIZES)[1:-1].replace("'", "")
    ) = None
    variants: chosen_of(
        "variants",
        "NAME,...",
        "plain; lengths, half of them shorter; stack, two layers; bidirectional; bfloat16,"
        f" and float32 otherwise; or a cell: {', '.join(OF_CELLS)}",
    ) = None
    passes: chosen_of(
        "passes",
        "NAME,...",
        "what is timed: gradient is forward and backward; jvp, a tangent in all inputs; "
        "grad_of_grad, a Hessian-vector product, ours by lstm_hvp; eager, the second call of the "
        "gradient without a jit around it",
    ) = None
    all: bool = False
    """in place of sizes, variants and passes: all that docs/speed.md shows"""
    devices: Annotated[int, Bounds(low=1, below=65)] = 1
    """split the batch over so many host devices too: lstm and A0, plain"""
    rounds: Count = 20
    """rounds, in each of which every contestant runs once"""
    budget: Positive = 300.0
    """at most so many seconds for the rounds of a case"""
    memory: Positive = 4.0
    """GiB; a compiled program that needs more is left out"""
    only: OptionalName = None
    """contestants by name, with commas (default: all there are)"""
    end_to_end: bool = False
    """also char_lm's training step, the longest T and largest B that fit, and rounding"""
    profile: bool = False
    """also trace ours and G, kernel by kernel: where the time goes beyond the products"""
    add: OptionalFile = None
    """run what this speed.json lacks, or has in too few rounds, and write it there; a new one if it
    is not there yet. The machine, the versions, the sources of jax_lstm and the seed must be its"""
    table: OptionalFile = None
    """print the tables of this speed.json, run nothing"""
    write: bool = False
    """with --table: write what README, docs/speed.md, interop.md and kernels.md say of it"""
    compare: OptionalFile = None
    """an older speed.json to be no slower than: runs its sizes, variants and passes, or those of
    them that are chosen, with ours, A0 and G; or with --table reads"""
    threshold: Positive = 0.1
    """with --compare: so much slower is too slow"""

    @classmethod
    def tiny(cls):
        """one tiny size, two rounds"""
        return cls(sizes="S0", rounds=2, budget=5.0)

    @classmethod
    def quick(cls):
        """S1 and S2 in a few rounds, done in two minutes"""
        return cls(sizes="S1,S2", rounds=10, budget=12.0)


OF_A_FILE = {  # what older results do not say
    "sources": "of which sources of jax_lstm it is (sources)",
    "seed": "with which --seed it was made",
}


def run(config):
    """The experiment, from a Config to what is written."""
    refuse_together(config)
    old = read("--compare", config.compare)
    if config.table:
        new = read("--table", config.table)
        try:
            print(f"wrote {pages.write(new)}" if config.write else speed_tables.everything(new))
        except ValueError as error:
            raise BadInput("--table", f"{config.table}: {error}") from None
        return conclude(new, old, config)
    jobs, only = jobs_to_compare(config, old) if old else asked_jobs(config), contestants_of(config)
    if old:
        only = only or [*OURS, *speed_compare.BASES]
    command.host_devices(config.devices)
    path, result = begin(config, jobs)
    print(f"{result['environment']}\nwriting {path}")
    with record.explain_interruption(path.parent, path if config.add else None):
        try:
            for job in jobs:
                for lacking, rounds in still_to_do(result, job, config.rounds, config.devices):
                    case = measure(lacking, rounds, config, only)
                    add(result, case)
                    write(path, result)
                    print(speed_tables.milliseconds(case))
            if config.end_to_end:
                found = result.setdefault("end_to_end", {})
                for name, part in end_to_end.parts(tiny=config.sizes == "S0").items():
                    if name not in found:
                        found[name] = part(config)
                        write(path, result)
        except (Disagrees, Missing) as error:
            raise Failed(str(error)) from None
    for picture in speed_plots.draw_file(path):
        print(f"drew {picture}")
    print(speed_tables.everything(result))
    return conclude(result, old, config)


def begin(config, jobs):
    """(where the result is written, what it holds already). What `config` says there is what the
    first run was asked for, but for the seed: that is the same in all."""
    here, tiny = environment.environment(), all(job.size == "S0" for job in jobs)
    if config.add and Path(config.add).exists():
        result = read("--add", config.add)
        there = result["environment"] | {"seed": result.get("config", {}).get("seed")}
        for key, words in OF_A_FILE.items():
            if there.get(key) is None:
                raise BadInput(
                    "--add",
                    f"{config.add} does not say {words}, so that no round of today can be added "
                    "to it; name a new file",
                )
        for key, ours in (here | {"seed": config.seed}).items():
            if there.get(key) != ours:
                raise BadInput(
                    "--add", f"{config.add} has {key} {there.get(key)}; here it is {ours}"
                )
        if config.memory < (least := result["config"].get("memory", 0)):
            raise BadInput(
                "--memory",
                f"must be >= {least:g}, with which {config.add} was made: everybody runs in a "
                f"round; got {config.memory:g}",
            )
        result["config"]["memory"] = config.memory
        return Path(config.add), result
    path = Path(config.add) if config.add else None
    if path is None:
        path = record.new_directory(config.results, "speed", config.run) / "speed.json"
    return path, {
        "config": dataclasses.asdict(config),
        "environment": here,
        "peak": environment.peak((256,) if tiny else (512, 1024, 2048)),
        "cases": [],
    }


def measure(job, rounds, config, only):
    """One case: every contestant's facts, and its seconds round by round."""
    size, variant, passes = job
    made = problem(SIZES[size], config.seed, **VARIANTS[variant])
    n = devices_of(variant, config.devices)
    answer = programs.reference(made, passes)
    rows, absent, todo, traced = {}, {}, {}, {}
    prepare = functools.partial(
        programs.runners, devices=n, budget=config.memory * 2**30, size=SIZES[size]
    )
    for name, kind in itertools.product(programs.names_of(made.lengths is not None, n), passes):
        if only and not is_one_of(name, only):
            continue
        try:
            runner = prepare(name, made, [kind], answer).get(kind)
        except Absent as why:
            absent.setdefault(name, {})[kind] = str(why)
            continue
        if runner is None:
            continue
        errors = {} if runner.errors is None else {"error": max(runner.errors.values())}
        rows.setdefault(name, {})[kind] = runner.facts | errors
        todo[name, kind] = runner.run
        short = SIZES[size][0] <= speed_profile.LONGEST
        if config.profile and short and name in ("lstm", "G") and kind == "gradient":
            traced[name] = (runner.run, runner.text)
    before = timing.load()
    for (name, kind), seconds in timing.interleave(
        todo, rounds, config.budget, f"{size} {variant}"
    ).items():
        rows[name][kind]["seconds"] = seconds
    profiles = {name: speed_profile.profile(*program) for name, program in traced.items()}
    return {
        "size": size,
        "variant": variant,
        **dict(zip("TBH", SIZES[size], strict=True)),
        "dtype": made.xs.dtype.name,
        "layers": len(made.layers),
        "load": [before, timing.load()],
        "contestants": rows,
        "absent": absent,
    } | ({"profiles": profiles} if profiles else {})


def write(path, result):
    """As a whole, after every case: an interrupted run keeps what it has."""
    record.write(path, record.compact(result))


def is_one_of(name, only):
    """P stands for every number of threads, and a name for itself on many devices."""
    return name in only or name.split(" on ")[0] in only or (name[0] == "P" and "P" in only)


# What the user gave -----------------------------------------------------------------------------


def refuse_together(config):
    """What says the same twice, or would be left undone."""
    given = chosen(config)
    said = given + ["only"] * bool(config.only and config.table)
    flags = ", ".join(f"--{flag}" for flag in said) + " (--quick and --tiny set --sizes)"
    if config.table and said:
        raise BadInput("--table", f"shows all of FILE and runs nothing; leave out {flags}")
    if config.all and said:
        raise BadInput("--all", f"names its own; leave out {flags}")
    if config.all and config.compare:
        raise BadInput("--all", "does not go with --compare, which runs what the older file holds")
    if config.write and not config.table:
        raise BadInput("--write", "goes with --table FILE.json")
    if config.add:
        for flag, why in (
            ("table", "runs nothing"),
            ("compare", "runs ours, A0 and G alone"),
            ("only", "leaves somebody out"),
        ):
            if getattr(config, flag):
                raise BadInput(
                    f"--{flag}", f"does not go with --add: it {why}, and everybody runs in a round"
                )
        if not Path(config.add).parent.is_dir():
            raise BadInput("--add", f"{Path(config.add).parent} is not a folder")


def chosen(config):
    """Which of sizes, variants and passes were said."""
    return [flag for flag in USUAL if getattr(config, flag) is not None]


def names_of(config, flag):
    """What was said of a flag of USUAL, or what is usual."""
    return choose(f"--{flag}", getattr(config, flag) or USUAL[flag], KNOWN[flag])


def choose(flag, text, known):
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise BadInput(flag, f"knows {', '.join(known)}; got {', '.join(unknown) or 'nothing'}")
    return names


def asked_jobs(config):
    """The Jobs of the options."""
    if config.all:
        return ALL
    sizes, variants, passes = (names_of(config, flag) for flag in USUAL)
    return product(sizes, variants, [kind for kind in PASSES if kind in passes])


def of_job(job, flag):
    """The names of a Job that a flag of USUAL chooses from."""
    return job.passes if flag == "passes" else [getattr(job, flag.removesuffix("s"))]


def jobs_to_compare(config, old):
    """The Jobs that an older result holds, of the sizes, variants and passes that are chosen."""
    jobs = jobs_of(old)
    if not jobs:
        raise BadInput("--compare", f"{config.compare} holds no case")
    for flag in chosen(config):
        names = names_of(config, flag)
        held = {name for job in jobs for name in of_job(job, flag)}
        if lacking := ", ".join(name for name in names if name not in held):
            raise BadInput(f"--{flag}", f"{lacking}: {config.compare} holds no such case")
        if flag == "passes":
            jobs = [job._replace(passes=tuple(k for k in job.passes if k in names)) for job in jobs]
        jobs = [job for job in jobs if set(of_job(job, flag)) & set(names)]
    return jobs


def contestants_of(config):
    """The names of --only, or None."""
    known = [*CONTESTANTS, "no-lengths", "G", "P"]
    return config.only and choose("--only", config.only, known)


def read(flag, path):
    """A result, checked to be one."""
    if path is None:
        return None
    try:
        result = record.read_json(Path(path))
        reading.check(result)
    except (OSError, ValueError) as error:
        raise BadInput(flag, f"{path} is not a result of this: {error}") from None
    return result


def conclude(new, old, config):
    """Nothing to compare with, or a comparison that has found nothing; else Failed."""
    if old is None:
        return new
    rows = speed_compare.compare(old, new, config.threshold)
    print("\n" + speed_compare.table(rows, config.threshold))
    if not rows:
        raise Failed("the two runs have nothing in common: nothing was compared")
    if slower := [row for row in rows if row.slower]:
        raise Failed(f"slower than {config.compare}: {', '.join(row.what for row in slower)}")
    return new


def main(argv=None):
    return command.main(Config, run, "python -m experiments.speed", __doc__, argv)
