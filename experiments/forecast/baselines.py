"""What a forecast must beat: the mean, the last value, that of a season ago, a linear regression.

Each is `(config, values, protocol) -> predict`, and `predict(targets)` answers (n,). They learn
from the training part of the protocol; the validation part chooses the season and the order.
"""

import numpy as np

from experiments.forecast.series import rmse, windows


def mean_of_training(config, values, protocol):
    mean = values[protocol.training].mean()
    return lambda targets: np.full(len(targets), mean)


def last_value(config, values, protocol):
    return lambda targets: values[targets - 1]


def seasonal(config, values, protocol):
    """The value a season ago; a season is between 2 steps and a window."""
    answers = [lambda targets, P=P: values[targets - P] for P in range(2, config.window + 1)]
    return best(answers, values, protocol)


def linear_autoregression(config, values, protocol):
    """Least squares on the p values before, and a constant; p is between 1 and a window."""
    answers = [autoregression(values, protocol.training, p) for p in range(1, config.window + 1)]
    return best(answers, values, protocol)


def autoregression(values, training, p):
    features = lambda targets: np.c_[windows(values, targets, p), np.ones(len(targets))]
    weights, *_ = np.linalg.lstsq(features(training), values[training], rcond=None)
    return lambda targets: features(targets) @ weights


def best(answers, values, protocol):
    """The answer with the least error on validation."""
    chosen = protocol.validation
    return min(answers, key=lambda predict: rmse(predict(chosen), values, chosen))


BASELINES = {
    "mean of training": mean_of_training,
    "last value": last_value,
    "seasonal": seasonal,
    "linear autoregression": linear_autoregression,
}
