"""What the commands share: kinds of arguments, each with its complaint, and where text goes."""

import argparse
import io
import os
import sys
from pathlib import Path

from jax_lstm import printing

LONGEST = 18  # digits: what is longer fits no integer of a machine


def size(text):
    """T,B,D,H"""
    try:
        T, B, D, H = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be four whole numbers T,B,D,H such as 7,2,3,5; got {text!r}"
        ) from None
    if min(T, B) < 0 or min(D, H) < 1:
        raise argparse.ArgumentTypeError(
            f"must have T, B >= 0 and D, H >= 1; got T={T}, B={B}, D={D}, H={H}"
        )
    return T, B, D, H


def seed(text, least=0):
    if not text.isdecimal() or len(text) > LONGEST or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number >= {least}; got {text!r:.60}")
    return int(text)


def count(text):
    return seed(text, 1)


def several(one):
    """A comma between them."""
    return lambda text: tuple(one(part.strip()) for part in text.split(","))


def names_of(known):
    def names(text):
        found = list(known) if text == "all" else text.split(",")
        for name in found:
            if name not in known:
                choices = ", ".join(known)
                raise argparse.ArgumentTypeError(f"must be all or among {choices}; got {name!r}")
        return list(dict.fromkeys(found))

    return names


def writable(path):
    """A file that can be written, found out before the work and not after it."""
    existed = os.path.exists(path)
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot be written: {error}") from None
    if not existed:
        os.remove(path)
    return path


# Text -----------------------------------------------------------------------------------------


def say(*lines):
    """Print lines, without what a terminal would obey."""
    print(plainly("\n".join(map(str, lines))), flush=True)


def plainly(text):
    """Lines that can be printed."""
    return "\n".join(map(printing.printable, text.split("\n")))


def write(file, text):
    if file:
        Path(file).write_text(text + "\n", encoding="utf-8")


def speak_utf8():
    """Whatever the terminal speaks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
