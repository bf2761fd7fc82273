"""The picture of a run of vowels, from its metrics.jsonl."""

from experiments.kit import plots, record


def draw(directory):
    """curves.png: the loss, mean over the classifiers, and what each gets wrong."""
    lines = record.read_lines(directory / "metrics.jsonl")
    plots.save(directory / "curves.png", curves, lines)


def curves(figure, lines):
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    steps = [line for line in lines if line["kind"] == "step"]
    nats = plots.column(steps, "nats").mean(1)
    plots.plot_steps_and_mean(left.semilogy, plots.column(steps, "step"), nats, "training")
    left.legend(frameon=False)
    plots.tidy(left, "Mean over the classifiers", "step", "nats per utterance")
    judged = [line for line in lines if line["kind"] == "accuracy"]
    names = list(dict.fromkeys(line["utterances"] for line in judged))
    for k, name in enumerate(names):
        wrong = [1 - x["right"] / x["of"] for x in judged if x["utterances"] == name]
        right.plot([k] * len(wrong), [100 * w for w in wrong], "o", color=plots.HAND, alpha=0.6)
    right.axhline(4, color=plots.AUTO, linewidth=1, linestyle="--", label="4 %")
    right.set_xticks(range(len(names)), names)
    right.set_xlim(-0.5, max(len(names), 1) - 0.5)
    right.set_ylim(bottom=0)
    right.legend(frameon=False)
    plots.tidy(right, "Each classifier", "", "utterances wrong, %")
