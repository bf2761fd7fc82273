"""Pictures of what a run wrote: `python -m experiments.plots results/EXPERIMENT/RUN ...`.

A run that was interrupted will do.
"""

import contextlib
import sys
from pathlib import Path

from experiments import compare_gradients
from experiments.char_lm import plots as char_lm
from experiments.forecast import plots as forecast
from experiments.gradient_flow import plots as gradient_flow
from experiments.kit import classification, memory_plots, record
from experiments.music import plots as music
from experiments.search_space import plots as search_space
from experiments.speed import plots as speed
from experiments.tmva_toy import plots as tmva_toy
from experiments.truncation import plots as truncation
from experiments.word_lm import plots as word_lm
from experiments.zoo import plots as zoo

DRAW = {
    "adding": memory_plots.draw,
    "char_lm": char_lm.draw,
    "compare_gradients": compare_gradients.draw,
    "copy_memory": memory_plots.draw,
    "digits": classification.draw,
    "forecast": forecast.draw,
    "forget_bias": memory_plots.draw,
    "gradient_flow": gradient_flow.draw,
    "mnist1d": classification.draw,
    "music": music.draw,
    "search_space": search_space.draw,
    "speed": speed.draw,
    "tmva_toy": tmva_toy.draw,
    "truncation": truncation.draw,
    "vowels": classification.draw,
    "word_lm": word_lm.draw,
    "zoo": zoo.draw,
}


def draw_again(directory):
    """The pictures of a run's folder, from what it wrote: of the experiment that its config.json
    names, or else of results/EXPERIMENT/run."""
    name = directory.absolute().parent.name
    with contextlib.suppress(FileNotFoundError):  # not every experiment writes one
        name = record.read_json(directory / "config.json").get("experiment", name)
    DRAW.get(name, char_lm.draw)(directory)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        draw_again(Path(name))
