"""The picture of a run of music, from its metrics.jsonl."""

from experiments.kit import plots, record


def draw(directory):
    """curves.png: the loss in training and on the validation part, and each model at the end."""
    plots.save(directory / "curves.png", curves, record.read_lines(directory / "metrics.jsonl"))


def curves(figure, lines):
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    steps = [line for line in lines if line["kind"] == "step"]
    if steps:
        nats = plots.column(steps, "nats").mean(1)
        plots.plot_steps_and_mean(left.plot, plots.column(steps, "step"), nats, "training")
    seen = [line for line in lines if line["kind"] == "validation" and line["step"]]
    if seen:
        at, nats = (plots.column(seen, key) for key in ("step", "nats"))
        left.plot(at, nats, "o-", color=plots.AUTO, markersize=3, label="validation")
        left.set_ylim(min(nats.min(), *nats) * 0.8, nats[0] * 1.1)
    left.legend(frameon=False)
    plots.tidy(left, "Mean over the models", "step", "nats per frame")
    judged = [line for line in lines if line["kind"] == "judged"]
    for k, line in enumerate(judged):
        each = line["nats"]
        right.plot([k] * len(each), each, "o", color=plots.HAND, alpha=0.6)
    right.set_xticks(range(len(judged)), [line["part"] for line in judged])
    plots.tidy(right, "Each model", "", "nats per frame")
