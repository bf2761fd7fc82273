"""scikit-learn's logistic regression and MLP on the 300 numbers of an event, side by side."""

import copy

import numpy as np

from experiments.kit import evidence

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C: the smaller, the stronger
DECAYS = (1e-4, 1.0)  # alpha of the MLP


def flat(part):
    """(N, T D), and the labels (N,)."""
    return np.moveaxis(part.xs, 0, 1).reshape(len(part.targets), -1), part.targets[:, 0]


def nats(model, xs, labels):
    """Cross-entropy of a classifier's probabilities."""
    p = np.clip(model.predict_proba(xs)[:, 1], 1e-12, 1 - 1e-12)
    return -np.log(np.where(labels > 0, p, 1 - p)).mean()


def logistic_regression(config, found):
    """Scores of the test events; C by the validation part."""
    linear_model = evidence.needed("sklearn.linear_model", "scikit-learn")
    xs, labels = flat(found["training"])
    models = [
        linear_model.LogisticRegression(C=C, max_iter=1000).fit(xs, labels) for C in PENALTIES
    ]
    return best(models, found)


def mlp(config, found):
    """Scores of the test events; 64 tanh, Adam at 1e-3; decay and epoch by the validation part."""
    neural_network = evidence.needed("sklearn.neural_network", "scikit-learn")
    xs, labels = flat(found["training"])
    models = []
    for alpha in DECAYS:
        model = neural_network.MLPClassifier(
            (config.dense,),
            activation="tanh",
            alpha=alpha,
            batch_size=config.batch,
            learning_rate_init=config.learning_rate,
            random_state=config.seed,
        )
        for _ in range(config.epochs):
            model.partial_fit(xs, labels, classes=(0, 1))
            models.append(copy.deepcopy(model))
    return best(models, found)


def one_thread():
    """Matrices this small are slower on several, and far slower where others want the cores."""
    return evidence.needed("threadpoolctl", "scikit-learn").threadpool_limits(1)


def best(models, found):
    """The scores on the test part, of the model with the least cross-entropy on validation."""
    validation = flat(found["validation"])
    model = min(models, key=lambda model: nats(model, *validation))
    p = model.predict_proba(flat(found["test"])[0])[:, 1]
    return np.log(p) - np.log1p(-p)
