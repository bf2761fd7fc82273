"""What stands in a result of experiments.speed: ratios round by round, facts, labels."""

import numpy as np

OF_A_CASE = ("size", "variant", "T", "B", "H", "dtype", "layers", "contestants", "absent")


def plain_cases(result):
    return {case["size"]: case for case in result["cases"] if case["variant"] == "plain"}


def names_with(rows, kinds):
    """Who was timed in one of these passes."""
    return [n for n, row in rows.items() if any("seconds" in row.get(k, {}) for k in kinds)]


def ratios(ours, theirs):
    """(median round by round, of the least) of arrays of seconds, ours over theirs."""
    return float(np.median(ours / theirs)), float(ours.min() / theirs.min())


def pair(rows, name, other, kind="gradient"):
    """(median, least) of ours over theirs, round by round; None where one is missing.

    P is torch at its better thread count: the one with the least time.
    """
    other = best_of(rows, other, kind)
    if any("seconds" not in rows.get(n, {}).get(kind, {}) for n in (name, other)):
        return None
    a, b = (np.asarray(rows[n][kind]["seconds"]) for n in (name, other))
    return ratios(a, b)


def best_of(rows, name, kind):
    """P is torch at its better thread count."""
    names = [n for n in rows if n[0] == "P" and kind in rows[n]] if name == "P" else []
    return min(names, key=lambda n: min(rows[n][kind]["seconds"]), default=name)


def fastest(rows, name, kind):
    """The least seconds, or None where it was not timed."""
    return min(
        rows.get(best_of(rows, name, kind), {}).get(kind, {}).get("seconds", []), default=None
    )


def fact(rows, name, key):
    """What the compiler said of a contestant's gradient, or None."""
    return rows.get(name, {}).get("gradient", {}).get(key)


def least_seconds(result, case, kind="gradient"):
    """What the products alone need at the fastest product that was seen; None if none was timed.

    8 H (D + H) flop for a step of an example forward, twice as many backward.
    """
    if "peak" not in result:
        return None
    flop = 8 * case["H"] * 2 * case["H"] * case["T"] * case["B"] * case["layers"]
    return flop * (3 if kind == "gradient" else 1) / result["peak"]


def over(rows, name, other, key):
    a, b = (fact(rows, n, key) for n in (name, other))
    return None if a is None or b is None else a / b


def both(numbers):
    return "" if numbers is None else "{:.2f} ({:.2f})".format(*numbers)


def label(case):
    return f"{case['size']} ({case['T']}, {case['B']}, {case['H']})"


def line(*cells):
    return f"| {' | '.join(cells)} |"


def check(result):
    """ValueError unless it is a result of this: what tables and pictures look for is there."""
    need(result, "it", ("environment", "cases"))
    need(result["environment"], "its environment", ("hardware", "slug", "versions"))
    need(result["environment"]["versions"], "its versions", ("jax",))
    if not isinstance(result["cases"], list):
        raise ValueError("its cases are no list")
    for case in result["cases"]:
        need(case, "a case", OF_A_CASE)
        need(case["contestants"], "a case's contestants", ())
        need(case["absent"], "what is absent of a case", ())
        for what in [*case["contestants"].values(), *case["absent"].values()]:
            need(what, "who is in a case, or absent,", ())


def need(found, what, keys):
    if not isinstance(found, dict):
        raise ValueError(f"{what} is no object with names")
    if missing := [key for key in keys if key not in found]:
        raise ValueError(f"{what} has no {', '.join(missing)}")
