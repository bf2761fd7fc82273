"""What does a model write? A text, continued by a run that is done, or that is not done yet.

    python -m experiments.sample FOLDER

FOLDER is that of a run of char_lm or word_lm. The parameters are the best on what is held out so
far (params.safetensors), or where there are none yet those of the last whole checkpoint.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
from tyro.conf import Positional, arg

import jax_lstm
from experiments.char_lm import sample as char_lm
from experiments.kit import checkpoints, command, record, stop
from experiments.kit.config import BadInput, BaseConfig, Count, Failed, OptionalText, Positive
from experiments.word_lm import sample as word_lm

TEXTS = {"char_lm": char_lm, "word_lm": word_lm}


@dataclass(frozen=True)
class Config(BaseConfig):
    """A run, and how it goes on."""

    folder: Annotated[Positional[str], arg(metavar="FOLDER")] = ""
    """of a run"""
    prompt: OptionalText = None
    """what the text begins with (default: the first of what is held out)"""
    length: Count = 1000
    """characters or words to draw"""
    temperature: Positive = 0.8
    """below 1 what is likely gets likelier"""


def run(config):
    """Prints the prompt and what comes after it."""
    folder = Path(config.folder)
    try:
        found = record.read_json(folder / "config.json")
    except (OSError, ValueError) as error:
        raise BadInput("FOLDER", f"is not that of a run: {error}") from None
    experiment = found.get("experiment", folder.absolute().parent.name)
    if experiment not in TEXTS:
        raise BadInput("FOLDER", f"{folder} is of {experiment}, which writes no text")
    model = TEXTS[experiment]
    params = params_of(folder, jax.eval_shape(lambda: model.init_params(found)))
    print(model.continue_text(config, found, params))


def params_of(folder, like):
    """The best parameters of a run so far."""
    path = folder / "params.safetensors"
    try:
        return checkpoints.tree_of(checkpoints.arrays_of(jax_lstm.load(path)[0]), like, path)
    except (OSError, ValueError, Failed) as error:
        print(f"{error}; the last checkpoint is used", file=sys.stderr)
    found = checkpoints.last_good(folder, lambda line: print(line, file=sys.stderr))
    if found is None:
        raise BadInput("FOLDER", f"{folder} has no parameters yet")
    best = "best." if any(name.startswith("best.") for name in found.arrays) else "training.params."
    named = {k.removeprefix(best): x for k, x in found.arrays.items() if k.startswith(best)}
    return checkpoints.tree_of(named, like, folder)


def main(argv=None):
    return command.main(Config, run, "python -m experiments.sample", __doc__, argv)


if __name__ == "__main__":
    stop.leave(main())
