"""The picture of a run of word_lm, finished or not, from its metrics.jsonl."""

from experiments.kit import plots, record


def draw(directory):
    """curves.png: perplexity in training and on validation."""
    lines = record.read_lines(directory / "metrics.jsonl")
    plots.save(directory / "curves.png", curves, lines)


def curves(figure, lines):
    axes = figure.subplots()
    steps = [line for line in lines if line["kind"] == "step"]
    x, y = plots.column(steps, "step"), plots.column(steps, "perplexity")
    plots.plot_steps_and_mean(axes.semilogy, x, y, "training")
    held_out = [line for line in lines if line["kind"] == "validation"]
    x, y = plots.column(held_out, "step"), plots.column(held_out, "perplexity")
    axes.semilogy(x, y, "o-", color=plots.TRUTH, label="validation")
    axes.legend(frameon=False)
    plots.tidy(axes, "Words it hesitates between", "step", "perplexity")
