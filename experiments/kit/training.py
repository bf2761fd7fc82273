"""THE RUNNER: one training, from its first update to its last, over interruptions.

Several updates go to the device at once. Their losses are read when the next ones are under way,
and the next batches are stacked beside them; so are evaluations and checkpoints, from copies. What
is read is written in the order of the steps, whenever it arrives, so that an interrupted run that
goes on writes the lines that it would have written without: all but their times.
"""

import contextlib
import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jax_lstm
from experiments.kit import checkpoints, events, machines, record, safety, stop
from experiments.kit.clipping import check_dh
from experiments.kit.config import Failed
from experiments.kit.progress import write_evaluation, write_steps
from experiments.kit.task import Best, Evaluation, Run, Save, Steps, Training
from experiments.kit.timing import Compiled, compiled
from jax_lstm.training.update import Step, make_updates

IN_FLIGHT = 2  # dispatches that are not read yet, at most
WAITING = 8  # what waits for an evaluation, at most


class Cancelled(Exception):
    """An evaluation whose answer nobody waits for."""


# Before it ------------------------------------------------------------------------------------


def start(config):
    """Complain of what options cannot go together, and have the devices, before anything else."""
    events.check_events(config)
    check_dh(config)
    machines.start(config)


@contextlib.contextmanager
def folder(config, experiment):
    """The folder of a new run or of --resume, held by this one; an interruption is explained."""
    directory = record.open_directory(config, experiment)
    with checkpoints.locked(directory), record.explain_interruption(directory):
        yield directory


# Programs ---------------------------------------------------------------------------------------


def compile_updates(config, task, batch):
    """The Compiled updates of a task, `program(*training, n, *batches) -> Step`.

    `batch` is one of its batches.
    """
    mesh, options = machines.mesh_of(config), {}
    machines.check_split(mesh, batch, task.examples)
    if mesh is not None:
        whole, rows = machines.at(mesh), machines.at(mesh, 0)
        stacks = [machines.at(mesh, axis, 0 if axis is None else 1) for axis in task.examples]
        options["in_shardings"] = (whole, whole, rows, whole, *stacks)
        options["out_shardings"] = Step(whole, whole, rows, whole, whole)
    guarded = make_updates(safety.guard_carry(task.update))
    updates = jax.jit(guarded, donate_argnums=(0, 1, 2), **options)
    shape = lambda x: jax.ShapeDtypeStruct((config.dispatch, *x.shape), x.dtype)
    training = jax.eval_shape(task.start)
    n = jax.ShapeDtypeStruct((), jnp.int32)
    return compiled(updates, *training, n, *map(shape, map(np.asarray, batch)))


def next_border(step, config, every):
    """The step up to which the next dispatch goes: full, or to where something is due."""
    borders = [step + config.dispatch, config.steps]
    borders += [(step // n + 1) * n for n in every if n]
    return min(borders)


def dispatches(config, task, step, every):
    """(step after it, updates, stacked batches) of each dispatch, up to the last step."""
    batches, mesh = islice(task.batches(), step, None), machines.mesh_of(config)
    while step < config.steps:
        border = next_border(step, config, every)
        drawn = list(islice(batches, border - step))
        drawn += drawn[-1:] * (config.dispatch - len(drawn))  # what is not used is anything
        stacks = [np.stack(x) for x in zip(*drawn, strict=True)]
        n = machines.put(mesh, np.int32(border - step))
        yield border, border - step, (n, *machines.put_batches(mesh, stacks, task.examples))
        step = border


def prefetched(iterator, pool):
    """The same, each made while the one before it is used."""
    coming = pool.submit(next, iterator, None)
    while (now := coming.result()) is not None:
        coming = pool.submit(next, iterator, None)
        yield now


# The run ----------------------------------------------------------------------------------------


class Begun(NamedTuple):
    """What a run goes on from, and what its checkpoint says. `fresh`: metrics.jsonl has no line."""

    step: int
    training: Training
    notes: dict
    fresh: bool


def begin(config, task, directory):
    """The last good checkpoint of the folder, or the beginning; lines that come again go.

    Raises:
      Failed: no checkpoint is whole, or they are of something else.
    """
    training = Training(*jax.tree.map(jnp.copy, task.start()))  # donated: no buffer stands twice
    if config.resume is None:
        return begin_anew(config, training, directory)
    directory = Path(config.resume)  # of the first process, whichever this is
    say = lambda line: machines.is_first() and print(f"{directory}: {line}", flush=True)
    found = checkpoints.last_good(directory, say)
    metrics = directory / "metrics.jsonl"
    if found is None:
        if metrics.exists() and record.read_lines(metrics, kind="step"):
            raise Failed(f"{directory} has steps in metrics.jsonl, and no checkpoint")
        say("no checkpoint was finished yet: it begins at step 0")
        if machines.is_first():
            record.cut_lines(metrics, 0)
        machines.check_same("the step of the last checkpoint", 0)
        return begin_anew(config, training, directory)
    notes = found.notes
    if notes["config"] != record.config_hash(config) and not config.force:
        raise Failed(f"{directory}: the checkpoint is of other options; --force takes it")
    if notes["version"] != jax_lstm.__version__:
        say(f"the checkpoint is of jax_lstm {notes['version']}, this is {jax_lstm.__version__}")
    machines.check_same("the step of the last checkpoint", found.step)
    if machines.is_first():
        record.cut_lines(metrics, notes["metrics_bytes"])
    like = {"training": training}
    if notes["best"] is not None:
        like["best"] = training.params
    tree = checkpoints.tree_of(found.arrays, like, directory)
    say(f"goes on after step {found.step} of {config.steps}")
    notes["best"] = notes["best"] and Best(*notes["best"], tree["best"])
    restored = jax.tree.map(jnp.array, tree["training"])
    return Begun(found.step, restored, notes, not notes["metrics_bytes"])


def begin_anew(config, training, directory):
    """Step 0, saved before anything that takes long."""
    notes = notes_of(config, 0)
    arrays = checkpoints.arrays_of({"training": training})
    if machines.is_first():
        checkpoints.save(directory, 0, arrays, notes)
    return Begun(0, training, notes, True)


def notes_of(config, step, metrics_bytes=0, best=None, bad=0, evaluated=False):
    """What a checkpoint says of a run besides its arrays."""
    return {
        "config": record.config_hash(config),
        "version": jax_lstm.__version__,
        "batches": step,
        "metrics_bytes": metrics_bytes,
        "best": best and [best.loss, best.step],
        "bad": bad,
        "evaluated": evaluated,
    }


def train(config, task, directory, begun, program, evaluate_every=0, events=None):
    """All updates of a run that are not made yet.

    Args:
      config: a TrainingConfig with `steps`.
      task: a Task.
      directory: the run's folder, locked.
      begun: of `begin`.
      program: of `compile_updates`.
      evaluate_every: steps between evaluations; the last step has one, and the first one before it.
      events: where numbers go besides, `write(step, **numbers)`, or None.

    Returns:
      params: those after the last update.

    Raises:
      stop.Stopped: a signal came; all that was done is saved.
      FloatingPointError: the loss or the gradient is no number, and config.nonfinite is "stop".
      Failed: no checkpoint is whole, or one cannot be written.
    """
    done, training, notes, _ = begun
    run = Run(config, task, directory, evaluate_every, events)
    run.mesh = machines.mesh_of(config)
    run.copied = machines.copier(run.mesh)
    run.best, run.bad = notes["best"], notes["bad"]
    run.saved = done if notes["evaluated"] or task.evaluate is None else None
    if run.best is not None and machines.is_first():
        task.keep(run.best.params, run.best.step, run.best.loss)
    every = (evaluate_every, config.checkpoint_every)
    with contextlib.ExitStack() as stack:
        run.request = stack.enter_context(stop.later())
        run.beside = stack.enter_context(ThreadPoolExecutor(1))
        prefetch = stack.enter_context(ThreadPoolExecutor(1))
        stack.callback(setattr, run, "cancelled", True)
        total = {"total": config.steps * task.size, "initial": done * task.size}
        bar = tqdm(**total, unit=task.unit, unit_scale=task.size > 1, disable=None)
        run.bar = stack.enter_context(bar)
        run.training = Training(*machines.put_training(run.mesh, training))
        if task.evaluate is not None and not notes["evaluated"]:
            evaluate_later(run, done)
        for step, n, batch in prefetched(dispatches(config, task, done, every), prefetch):
            if run.asked() is not None:
                break
            answer = program(*run.training, *batch)
            run.training, done = Training(*answer[:3]), step
            run.pending.append(Steps(step, n, *answer[3:]))
            last = step == config.steps
            if task.evaluate is not None and (last or is_due(step, evaluate_every)):
                evaluate_later(run, step)
            if last or is_due(step, config.checkpoint_every):
                run.pending.append(Save(step, run.copied(run.training)))
            if jax.process_count() > 1:
                hear(run)
            settle(run)
        finish(run, done)
    return run.copied(run.training.params)


def hear(run):
    """What signals the processes have heard, with a delay: all of them end at the same step."""
    run.flags.append(machines.agree(run.mesh, run.request.signum or 0))
    if len(run.flags) > IN_FLIGHT:
        run.agreed = int(run.flags.popleft().addressable_data(0)) or None


def carry_out(config, task, directory, check, evaluate_every=0):
    """Begin, check, compile and train; what the lines of that are is in metrics.jsonl.

    Args:
      check: (params, carry, batch) -> None, called on the first batch before anything is trained.

    Returns:
      params: those after the last update.
    """
    begun, batch = begin(config, task, directory), next(task.batches())
    if begun.fresh and not config.skip_check:
        check(begun.training.params, begun.training.carry, batch)
    program, *told = compile_updates(config, task, batch)
    if begun.fresh:
        told = dict(zip(Compiled._fields[1:], told, strict=True))
        record.append(directory / "metrics.jsonl", kind="compiled", route=config.gradient, **told)
    with events.opened(config, directory, begun.step) as written:
        return train(config, task, directory, begun, program, evaluate_every, written)


def carry_out_part(config, task, directory, part, check, evaluate_every=0):
    """`carry_out` in directory/part: for a run that trains one network after the other. --resume of
    the run's folder goes on with the part that was interrupted; one that is done is only read."""
    folder = directory / part
    begun = config.resume is not None and (Path(config.resume) / part).is_dir()
    folder.mkdir(exist_ok=True)
    resume = str(Path(config.resume) / part) if begun else None
    config = dataclasses.replace(config, resume=resume)
    return carry_out(config, task, folder, check, evaluate_every)


def repeat(config, tasks, programs, metrics):
    """The first steps from the same seed, each dispatch along every route: losses and times."""
    steps = min(config.compare_steps, config.steps)
    config, task = dataclasses.replace(config, steps=steps), next(iter(tasks.values()))
    mesh, fresh = machines.mesh_of(config), lambda t: jax.tree.map(jnp.copy, t.start())
    runs = {name: Training(*machines.put_training(mesh, fresh(t))) for name, t in tasks.items()}
    for step, n, batch in dispatches(config, task, 0, ()):
        for name, program in programs.items():
            began = time.perf_counter()
            answer = program(*runs[name], *batch)
            losses = np.asarray(answer.loss)[:n].tolist()
            seconds = (time.perf_counter() - began) / n
            runs[name] = Training(*answer[:3])
            told = {"kind": "repeat", "route": name}
            record.append_lines(
                metrics,
                [
                    told | {"step": step - n + 1 + k, "nats": nats, "seconds": seconds}
                    for k, nats in enumerate(losses)
                ],
            )


def is_due(step, every):
    return bool(every) and step % every == 0


def evaluate_later(run, step):
    """An evaluation of what the training is now, beside the updates that follow."""
    training = run.copied(run.training)
    if not machines.is_first():
        return

    def check():
        if run.cancelled or run.asked() is not None:
            raise Cancelled

    loss = run.beside.submit(run.task.evaluate, training.params, check)
    run.pending.append(Evaluation(step, training, loss))


def settle(run, to_the_end=False):
    """Write what is known, in order. An Evaluation that a signal ended is what it returns."""
    if run.saving is not None and run.saving.done():
        run.saving.result()
    while run.pending:
        head = run.pending[0]
        flying = sum(isinstance(x, Steps) for x in run.pending)
        if isinstance(head, Steps):
            if not to_the_end and flying < IN_FLIGHT and not head.loss.is_ready():
                return None
            write_steps(run, head)
        elif isinstance(head, Evaluation):
            if not to_the_end and len(run.pending) < WAITING and not head.loss.done():
                return None
            try:
                write_evaluation(run, head, head.loss.result())
            except Cancelled:
                return head
        else:
            save_later(run, head, evaluated=True)
        run.pending.popleft()
    return None


def finish(run, done):
    """Write all that is under way; on a signal, save, and say so by Stopped."""
    last = run.copied(run.training)
    ended = settle(run, to_the_end=True)
    if ended is not None:
        save_later(run, Save(ended.step, ended.training), evaluated=False)
    elif run.saved != done:
        save_later(run, Save(done, last), evaluated=True)
    if run.saving is not None:
        run.saving.result()
    machines.leave_together()
    if run.asked() is not None:
        raise stop.Stopped(run.asked())
    run.request.check()


def save_later(run, now, evaluated):
    """A checkpoint beside the updates that follow; all lines before it are written."""
    if not machines.is_first():
        return
    if run.saving is not None:
        run.saving.result()
    size = record.sync(run.metrics)
    notes = notes_of(run.config, now.step, size, run.best, run.bad, evaluated)
    tree = {"training": now.training} | ({"best": run.best.params} if run.best else {})

    def save():
        checkpoints.save(run.directory, now.step, checkpoints.arrays_of(tree), notes)

    run.saved, run.saving = now.step, run.beside.submit(save)
