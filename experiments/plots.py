"""Pictures of what a run wrote: `python -m experiments.plots results/EXPERIMENT/RUN ...`.

A run that was interrupted will do.
"""

import sys
from pathlib import Path

from experiments import compare_gradients, vowels
from experiments.gradient_flow import plots as gradient_flow
from experiments.kit import plots
from experiments.speed import plots as speed

DRAW = {
    "char_lm": plots.char_lm,
    "compare_gradients": compare_gradients.draw,
    "gradient_flow": gradient_flow.draw,
    "speed": speed.speed,
    "vowels": vowels.draw,
}


def draw_again(directory):
    """The pictures of a run's folder, results/EXPERIMENT/run, from what it wrote."""
    DRAW.get(directory.absolute().parent.name, plots.char_lm)(directory)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        draw_again(Path(name))
