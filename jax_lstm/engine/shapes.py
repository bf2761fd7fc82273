"""SHAPES IN LETTERS: "D,4H" is (3, 20) where D = 3 and H = 5; "wide H" is (5,) in the wide dtype.

An axis is a letter, a multiple of one, a number, or a sum of these: "H", "4H", "1", "H+D".
"""

import re

import numpy as np

TERM = re.compile(r"(\d*)([A-Za-z]*)")


def is_wide(text):
    """Whether the shape is that of an array in the wide dtype."""
    return text.startswith("wide ")


def axes_of(text):
    """The axes, ("D", "4H"); () of a scalar's ""."""
    text = text.removeprefix("wide ")
    return tuple(axis.strip() for axis in text.split(",")) if text else ()


def form_of(text):
    """The shape for a reader: "(D, 4H)", "(4H,)"."""
    axes = axes_of(text)
    return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"


def letters_of(text):
    """The letters of a shape, each once, in order."""
    return tuple(dict.fromkeys(re.findall("[A-Za-z]+", ",".join(axes_of(text)))))


def size_of(axis, sizes):
    """20 of "4H" with H = 5; "H+D" is a sum, "1" is itself. KeyError: a letter without a size."""

    def term(text):
        match = TERM.fullmatch(text)
        if match is None:
            raise ValueError(f"an axis must be a letter, a multiple or a number; got {axis!r}")
        number, letter = match.groups()
        return int(number or 1) * (sizes[letter] if letter else 1)

    return sum(term(text) for text in axis.split("+"))


def shape_of(text, sizes):
    """(3, 20) of "D,4H"."""
    return tuple(size_of(axis, sizes) for axis in axes_of(text))


def found_at(shapes, arrays):
    """{letter: (size, name, axis)}: where each letter's size is read off; bare letters first, then
    what stands as a multiple alone. Arrays that are missing or of another rank say nothing."""
    found: dict[str, tuple[int, str, int]] = {}
    for bare in (True, False):
        for name, text in dict(shapes).items():
            axes = axes_of(text)
            if name not in arrays or np.ndim(arrays[name]) != len(axes):
                continue
            for n, (axis, size) in enumerate(zip(axes, np.shape(arrays[name]), strict=True)):
                match = TERM.fullmatch(axis)
                if match and match[2] and bool(match[1]) is not bare:
                    found.setdefault(match[2], (size // int(match[1] or 1), name, n))
    for name, text in dict(shapes).items():  # a letter that stands in a sum alone
        axes = axes_of(text)
        if name not in arrays or np.ndim(arrays[name]) != len(axes):
            continue
        for n, (axis, size) in enumerate(zip(axes, np.shape(arrays[name]), strict=True)):
            lacking = [letter for letter in letters_of(axis) if letter not in found]
            if "+" in axis and len(lacking) == 1:
                known = {letter: at[0] for letter, at in found.items()} | {lacking[0]: 0}
                found[lacking[0]] = (size - size_of(axis, known), name, n)
    return found


def sizes_of(shapes, arrays):
    """{"D": 3, ...}: what the letters stand for."""
    return {letter: size for letter, (size, _, _) in found_at(shapes, arrays).items()}
