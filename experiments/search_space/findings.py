"""What a paper finds of each variant, and whether it is found here: intervals by the bootstrap.

A variant's score is the mean loss on the test part of its best trials, those with the least loss on
the validation part: a quarter of all. Trials of the same place have the same seed, learning rate
and tunes in all variants, so that what is drawn anew, of all trials with replacement, is places.
The interval holds 95 % of the differences between the scores of so drawn trials.
"""

import numpy as np

BEST = 4  # of how many trials one is among the best
DRAWS = 2000
VANILLA = "peephole_lstm"
# Their abstract and their summary: the forget gate and the output activation function are needed,
# coupled gates and no peepholes do no harm, and no variant is better.
PAPER = {
    "lstm_nig": "not better",
    "lstm_nfg": "worse",
    "lstm_nog": "not better",
    "lstm_niaf": "not better",
    "lstm_noaf": "worse",
    "lstm_cifg": "same",
    "lstm": "same",
    "lstm_fgr": "not better",
}
AGREES = {"worse": {"worse"}, "same": {"same"}, "not better": {"same", "worse"}}


def scores(validation, test, places):
    """Mean test loss of the best trials among those drawn: places (..., n), losses (N,)."""
    best = np.argsort(validation[places], axis=-1, kind="stable")[
        ..., : -(-places.shape[-1] // BEST)
    ]
    return test[np.take_along_axis(places, best, -1)].mean(-1)


def differences(trials, seed=0):
    """{variant: [difference of its score from the vanilla LSTM's, low, high]}, nats per frame.

    Args:
      trials: {variant: (validation losses (N,), test losses (N,))}.
    """
    N = len(trials[VANILLA][0])
    drawn = np.random.default_rng(seed).integers(N, size=(DRAWS, N))
    every = np.arange(N)
    found = {}
    for name in trials:
        if name == VANILLA:
            continue
        apart = scores(*trials[name], drawn) - scores(*trials[VANILLA], drawn)
        whole = scores(*trials[name], every) - scores(*trials[VANILLA], every)
        found[name] = [float(whole), *np.quantile(apart, [0.025, 0.975]).tolist()]
    return found


def verdict(low, high):
    """What an interval says of a variant."""
    return "worse" if low > 0 else "better" if high < 0 else "same"


def holds(name, here):
    """Whether what is found here of a variant is what the paper finds."""
    return here in AGREES[PAPER[name]]
