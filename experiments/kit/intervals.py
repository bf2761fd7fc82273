"""How sure a mean over seeds is."""

import numpy as np
from scipy import stats

SURE = 0.95


def t_interval(values):
    """(mean, low, high) by Student's t; the ends are None for a single value."""
    values = np.asarray(values, float)
    mean = float(values.mean())
    if values.size < 2:
        return mean, None, None
    half = stats.t.ppf((1 + SURE) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size)
    return mean, mean - float(half), mean + float(half)
