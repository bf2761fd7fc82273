"""`python -m tests.mutation`: break everything that derives, one operator at a time.

    python -m tests.mutation [--file stages/step.py ...] [--out FILE] [--again]

Each mutant is put in place of the right function in this process, and meets tests until one fails.
What was found is appended to a file of JSON lines; a second call goes on where the first stopped.
A survivor must stand in tests/mutation/equivalent.json, with the reason why it is no mistake: the
exit status is 1 where one does not.
"""

import argparse
import ast
import contextlib
import json
import signal
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import jax

from tests import conftest
from tests.mutation import operators, selection, swap

SWITCHES = conftest  # of JAX, as pytest has them: set by the import
FIRST_LINE = (__doc__ or "").splitlines()[0]
SECONDS = 60  # for one test: a mutant may run for ever
KNOWN = Path(__file__).parent / "equivalent.json"


class TooLong(BaseException):
    pass


def ring(*_):
    raise TooLong


def outcome(check):
    """None, or what the test failed with."""
    signal.alarm(SECONDS)
    try:
        check()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # pytest's own complaints are no Exceptions
        return f"{type(error).__name__}: {error!s:.120}"
    finally:
        signal.alarm(0)
    return None


def killer(checks, first=None):
    """The title of the first check that fails, and how; the one that killed before comes first."""
    for check in sorted(checks, key=lambda c: c.title != first):
        how = outcome(check)
        if how:
            return check.title, how
    return None


def holds(check):
    """Whether a check passes without a mutant; one that does not is told, and is of no use."""
    with jax.disable_jit():
        how = outcome(check)
    if how:
        print(f"{check.title} fails without a mutant: {how}", flush=True)
    return how is None


def key_of(file, mutant):
    return f"{file}::{mutant.where}: {mutant.before} -> {mutant.after}"


def keyed(file):
    """{key: mutant} of a file; what stands there twice in the same words is numbered."""
    found, met = {}, Counter()
    for mutant in operators.mutants((selection.PACKAGE / file).read_text()):
        key = key_of(file, mutant)
        met[key] += 1
        found[f"{key} #{met[key]}" if met[key] > 1 else key] = mutant
    return found


def try_all(file, todo, tiers):
    """Rows of the mutants {key: mutant} of a file."""
    if not todo:
        return
    path = selection.PACKAGE / file
    right, last = ast.parse(path.read_text()), {}
    quick, wide = list(selection.quick(file)), list(selection.wide(file))
    quick = [check for check in quick if holds(check)]
    for key, mutant in todo.items():
        start = time.time()
        try:
            with swap.in_place(str(path), right, mutant.tree):
                swap.forget()
                with jax.disable_jit():
                    found = killer(quick, last.get(mutant.where))
                if found is None and "wide" in tiers:
                    jax.clear_caches()
                    found = killer(wide, last.get(mutant.where))
                    jax.clear_caches()
            state = "killed" if found else "survived"
        except swap.Untouched:
            found, state = None, "untouched"
        if found:
            last[mutant.where] = found[0]
        yield {
            "key": key,
            "line": mutant.line,
            "state": state,
            "by": found,
            "s": round(time.time() - start, 2),
        }
    swap.forget()


def summary(rows, known):
    """A line per file, and the survivors that nobody has explained."""
    counts: dict[str, Counter] = {}
    for row in rows:
        counts.setdefault(row["key"].partition("::")[0], Counter())[row["state"]] += 1
    print(
        "| file | mutants | killed | equivalent | survived | untouched |\n|---|---|---|---|---|---|"
    )
    alive = [row for row in rows if row["state"] == "survived" and row["key"] not in known]
    for file, count in counts.items():
        left = sum(row["key"].startswith(f"{file}::") for row in alive)
        same = count["survived"] - left
        cells = (count.total(), count["killed"], same, left, count["untouched"])
        print(f"| {file} | {' | '.join(map(str, cells))} |")
    for row in alive:
        print(f"line {row['line']}: {row['key']}")
    return len(alive)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=FIRST_LINE)
    files = {"default": selection.FILES, "choices": selection.FILES, "metavar": "FILE"}
    parser.add_argument("--file", nargs="*", help="of jax_lstm/; all if not given", **files)
    parser.add_argument("--out", type=Path, default=Path("mutants.jsonl"), help="of the outcomes")
    parser.add_argument("--tiers", default="quick wide", help='"quick", or "quick wide"')
    parser.add_argument("--report", action="store_true", help="say what was found, and run nothing")
    again = "try those that survived once more, if nobody explains them"
    parser.add_argument("--again", action="store_true", help=again)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGALRM, ring)
    warnings.simplefilter("ignore")  # mutants divide by zero, and say nothing that counts
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # no thread waits for another
    found = {}
    if args.out.exists():
        found = {row["key"]: row for row in map(json.loads, args.out.read_text().splitlines())}
    known = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    rows = []
    with contextlib.closing(args.out.open("a")) as out:
        for file in args.file:
            all_of_it = keyed(file)
            stays = {k for k, row in found.items() if not args.again or row["state"] == "killed"}
            todo = {k: m for k, m in all_of_it.items() if k not in stays}
            if args.again:
                todo = {k: m for k, m in todo.items() if k not in known}
            for row in () if args.report else try_all(file, todo, args.tiers):
                found[row["key"]] = row
                print(json.dumps(row, ensure_ascii=False), file=out, flush=True)
            rows += [found[k] for k in all_of_it if k in found]
    return 1 if summary(rows, known) else 0


if __name__ == "__main__":
    sys.exit(main())
