"""What a run says while it goes: lines of metrics.jsonl, events, and a bar or lines for people."""

import time

import numpy as np
from tqdm import tqdm

from experiments.kit import record, report, safety
from experiments.kit.task import Best


def write_steps(run, steps):
    """A line for each update of a dispatch. The first that is no number ends the run, perhaps."""
    losses, norms = (np.asarray(x)[: steps.count] for x in steps[2:])
    now = time.perf_counter()
    seconds, run.clock = (now - run.clock) / steps.count, now
    run.read += steps.count
    lines, bad = [], None
    for k, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        step = steps.step - steps.count + 1 + k
        numbers = run.task.numbers(loss.tolist()) | {"gradient_norm": norm.tolist()}
        fine = bool(np.isfinite(loss).all() and np.isfinite(norm).all())
        if not fine:
            bad, run.bad = bad or step, run.bad + 1
            lines.append({"kind": "nonfinite", "step": step, **where_bad(run)})
            if run.config.nonfinite == "stop":
                break
        else:
            run.recent.append(float(loss.mean()))
        lines.append({"kind": "step", "step": step, **finite(numbers), "seconds": seconds})
        if run.events is not None:
            run.events.write(step, "training", numbers)
    record.append_lines(run.metrics, lines)
    run.bar.set_postfix_str(say_recent(run), refresh=False)
    run.bar.update(steps.count * run.task.size)
    if bad is not None:
        complain(run, bad, lines)
    every = max(run.config.steps // 5, 1)
    if run.task.evaluate is None and steps.step // every > (steps.step - steps.count) // every:
        tqdm.write(
            f"step {steps.step}/{run.config.steps}: {say_recent(run)}; {rate(run, steps.step)}"
        )


def where_bad(run):
    """The first bad step of the whole run, and where its number was; how many there are."""
    step, where = safety.first_bad(run.training.opt_state, run.training.params)
    return {"first_step": step, "first": where, "count": run.bad}


def complain(run, step, lines):
    """Say it; and end the run by it, where it is to end."""
    found = next(line for line in lines if line["kind"] == "nonfinite")
    said = f"step {step}: no finite number; the first was {found['first']} of step "
    said += f"{found['first_step']} ({found['count']} so far)"
    if run.config.nonfinite == "stop":
        raise FloatingPointError(
            f"{said}; try a lower --learning-rate, or --nonfinite skip; the last checkpoint stands"
        )
    tqdm.write(f"{said}; {run.config.nonfinite}")


def finite(numbers):
    """The same for JSON, which has no nan."""
    plain = lambda x: (
        [plain(y) for y in x] if isinstance(x, list) else x if np.isfinite(x) else None
    )
    return {name: plain(x) for name, x in numbers.items()}


def say_recent(run):
    return run.task.say(sum(run.recent) / len(run.recent)) if run.recent else "no number yet"


def rate(run, step):
    spent = time.perf_counter() - run.reading
    left = spent / max(run.read, 1) * (run.config.steps - step)
    speed = run.read * run.task.size / spent
    return f"{speed:,.0f} {run.task.unit}s per second, {report.clock(left)} left"


def write_evaluation(run, evaluation, loss):
    step, best = evaluation.step, run.best is None or loss < run.best.loss
    numbers = run.task.numbers(loss)
    if best:
        run.best = Best(loss, step, evaluation.training.params)
        run.task.keep(run.best.params, step, loss)
    record.append_lines(run.metrics, [{"kind": "validation", "step": step, **finite(numbers)}])
    if run.events is not None:
        run.events.write(step, "validation", numbers)
    in_training = f"{say_recent(run)} in training, " if run.recent else ""
    tqdm.write(
        f"step {step}/{run.config.steps}: {in_training}{run.task.say(loss)} on what is held out"
        f"{' - the best' if best else ''}" + (f"; {rate(run, step)}" if run.read else "")
    )


def seconds_of(directory):
    """What the updates of a run took, over interruptions."""
    return sum(x["seconds"] for x in record.read_lines(directory / "metrics.jsonl", kind="step"))
