"""Pictures of what a run wrote: `python -m experiments.plots results/EXPERIMENT/RUN ...`.

A run that was interrupted will do.
"""

import sys
from pathlib import Path

from experiments import compare_gradients
from experiments.char_lm import plots as char_lm
from experiments.gradient_flow import plots as gradient_flow
from experiments.speed import plots as speed
from experiments.vowels import plots as vowels
from experiments.word_lm import plots as word_lm

DRAW = {
    "char_lm": char_lm.draw,
    "compare_gradients": compare_gradients.draw,
    "gradient_flow": gradient_flow.draw,
    "speed": speed.draw,
    "vowels": vowels.draw,
    "word_lm": word_lm.draw,
}


def draw_again(directory):
    """The pictures of a run's folder, results/EXPERIMENT/run, from what it wrote."""
    DRAW.get(directory.absolute().parent.name, char_lm.draw)(directory)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        draw_again(Path(name))
