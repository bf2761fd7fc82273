"""The verdict on one array: right, wrong, or too noisy to say, and what a wrong one looks like."""

import numpy as np

from jax_lstm.referee.checked import NOISY, RIGHT, WRONG, Answer

SURE = 8.0  # times the error that a truth may have
KNOWN = 0.05  # relative: a truth that is less well known says nothing
UNKNOWN = 0.25  # of the elements may be so, and the rest be judged


def judged(asked, name, against, got, want, error, tolerance, every, single=True):
    """An Answer about arrays of (draws, elements); `every`: a size to measure zeros by."""
    with np.errstate(all="ignore"):
        usual = np.linalg.norm(np.where(np.isfinite(error), want, 0.0)) / np.sqrt(want.size or 1)
        size = np.maximum(np.abs(want), usual if usual > 0 else every)
        off = np.abs(got - want)
        allowed = SURE * error + tolerance * size
        bad = np.where(np.isfinite(got), off > allowed, np.isfinite(error))
        unknown = ~(error <= KNOWN * size)
        seen = ~unknown if not unknown.all() else np.isfinite(error)
        norm = float(np.linalg.norm(want[seen])) or every * np.sqrt(max(seen.sum(), 1)) or 1.0
        relative = float(np.linalg.norm(off[seen]) / norm) if np.isfinite(got).all() else np.nan
        known = float(np.linalg.norm(np.where(np.isfinite(error), error, 0.0)) / norm)
    says, share = "", float(unknown.mean()) if unknown.size else 0.0
    if bad.any():
        worst = np.where(
            bad, np.where(np.isfinite(off), off / np.maximum(size, 1e-300), np.inf), -1
        )
        draw, at = np.unravel_index(int(np.argmax(worst)), worst.shape)
        place = f"element {at} of {worst.shape[1]}" if single else f"a direction, number {at}"
        says = (
            f"{place}: {got[draw, at]:.6g} by the rule, {want[draw, at]:.6g} by {against}"
            f" (known to {error[draw, at]:.0e}); {hint(got, want, int(bad.any(0).sum()))}"
        )
        return Answer(asked, name, against, relative, known, WRONG, says)
    if share > UNKNOWN:
        says = f"by {against} {share:.0%} of the numbers are known to less than {KNOWN:.0%}"
        return Answer(asked, name, against, relative, known, NOISY, says)
    if share:
        says = f"{share:.1%} of the numbers could not be told: a kink, or noise"
    return Answer(asked, name, against, relative, known, RIGHT, says)


def hint(got, want, count):
    """What a wrong array looks like."""
    total = f"{count} of {want.shape[1]} wrong"
    if not np.isfinite(got).all():
        return f"NaN or infinite in {int((~np.isfinite(got)).any(0).sum())} places; {total}"
    if not got.any():
        return f"all of it is zero; {total}"
    if not want.any():
        return f"the values do not depend on it (a straight-through rule?); {total}"
    factor = float(np.vdot(want, got) / np.vdot(want, want))
    if abs(factor - 1) > 1e-6 and np.linalg.norm(got - factor * want) < 1e-6 * np.linalg.norm(got):
        return f"{factor:.6g} times the right one"
    return total
