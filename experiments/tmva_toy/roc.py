"""The ROC curve, the area under it, and how far that may be off.

    AUC = P(signal scores above background) + ½ P(they score the same)
    V_s = its share of background below a signal event s, V_b = of signal above a background event b
    var(AUC) = var(V_s)/m + var(V_b)/n                             m signal, n background events

Sources: DeLong, DeLong & Clarke-Pearson (1988), in the form by midranks of Sun & Xu (2014), as
given by compare_auc_delong_xu.py of yandexdataschool/roc_comparison; Hanley & McNeil (1982), as
given by auctestr's se_auc.
"""

import numpy as np
from scipy.stats import rankdata


def curve(scores, labels):
    """(share of background kept, share of signal kept), each (K + 1,), over all thresholds."""
    order = np.argsort(-scores, kind="stable")
    ordered, signal = scores[order], labels[order].astype(bool)
    last = np.r_[np.flatnonzero(np.diff(ordered)), len(ordered) - 1]  # of those that score the same
    kept = np.cumsum(signal)[last]
    return (np.r_[0, last + 1 - kept] / (~signal).sum(), np.r_[0, kept] / signal.sum())


def delong(scores, labels):
    """Areas (K,) of K classifiers on the same events, and their covariance (K, K).

    Args:
      scores: (K, N), the higher the more like signal.
      labels: (N,), 1 is signal and 0 background; at least two of each.

    Raises:
      ValueError: fewer.
    """
    scores, signal = np.atleast_2d(scores), np.asarray(labels).astype(bool)
    m, n = int(signal.sum()), int((~signal).sum())
    if min(m, n) < 2:
        raise ValueError(f"`labels` must have two of each class at least; got {m} and {n}")
    rank = lambda x: rankdata(x, axis=1)
    among_all = rank(scores)
    of_signal = (among_all[:, signal] - rank(scores[:, signal])) / n
    of_background = 1 - (among_all[:, ~signal] - rank(scores[:, ~signal])) / m
    covariance = np.cov(of_signal) / m + np.cov(of_background) / n
    return of_signal.mean(1), np.atleast_2d(covariance)


def hanley_mcneil(area, m, n):
    """The standard error of an area by its value alone, for m signal and n background events."""
    two_signal, two_background = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area)
    variance += (m - 1) * (two_signal - area**2) + (n - 1) * (two_background - area**2)
    return np.sqrt(variance / (m * n))
