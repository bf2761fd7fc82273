"""THE ORDER of layers that come by name: numbers count as numbers, and sizes must chain.

A mapping has an order, but files sort names as text: `lstm_10` stands before `lstm_9`. So the order
of a mapping means nothing here. Names that differ in numbers alone tell it (`lstm`, `lstm_1`, ...,
`lstm_10`); of other names (`encoder`, `decoder`) the sizes do, where they fit in one order only.
Everything else is refused.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from jax_lstm.printing import listing

Sizes: TypeAlias = Sequence[tuple[int, int]]  # (features read, features handed on) per direction

MOST_TRIED = 6  # layers whose orders are all tried: 720


def by_number(name):
    """A key to sort by: layer 10 comes after layer 2, also where the digits are thousands."""
    parts = enumerate(re.split(r"([0-9]+)", name))
    return [(*size_of(x), x) if n % 2 else x for n, x in parts]


def size_of(digits):
    """A key to sort digits by as numbers, however many there are: int() refuses thousands."""
    return len(digits.lstrip("0")), digits.lstrip("0")


def in_order(layers: Mapping[str, Sizes], how: str) -> list[str]:
    """The names of the layers, lowest first.

    Args:
      layers: {name: sizes of each direction}.
      how: to give the order otherwise, for complaints.

    Returns:
      The names.

    Raises:
      ValueError: an order that neither the numbers in the names nor the sizes tell, or one that the
        numbers tell and the sizes contradict.
    """
    for name, sizes in layers.items():
        check_one_input(name, sizes)
    names, listed = numbered(layers), listing(layers)
    if names is not None:
        wrong = misfit([layers[name] for name in names])
        if wrong is None:
            return names
        below, above = names[wrong - 1], names[wrong]
        raise ValueError(
            f"the sizes of the layers contradict the numbers in their names: {above} reads "
            f"{layers[above][0][0]} features, and {below} before it hands on "
            f"{sum(out for _, out in layers[below])}; for another order {how}"
        )
    few = len(layers) <= MOST_TRIED
    tried = itertools.permutations(layers) if few else ()
    fit = [order for order in tried if misfit([layers[name] for name in order]) is None]
    if len(fit) == 1:
        return list(fit[0])
    says = "their sizes fit in more than one order" if fit else "their sizes fit in no order"
    says = says if few else f"orders of more than {MOST_TRIED} layers are not tried by their sizes"
    raise ValueError(f"the names do not tell the order of the layers {listed}, and {says}: {how}")


def numbered(names):
    """The names by the numbers in them; None where they differ in more, or tell two orders."""
    parts = {name: split_numbers(name) for name in names}
    if len({words for words, _ in parts.values()}) > 1:
        return None
    names = sorted(parts, key=lambda name: parts[name][1])
    rows = [parts[name][1] for name in names]
    if len(set(rows)) < len(rows):
        return None
    columns = [column for column in zip(*rows, strict=True) if len(set(column)) > 1]
    nested = columns and len(set(columns[0])) < len(rows)  # block_1/lstm_2 before block_2/lstm_1
    agree = all(list(column) == sorted(column) for column in columns)
    return names if nested or agree else None


def split_numbers(name):
    """(the words, the numbers) of a/b2_c_3: each part of a path has a number at its end, 0 where
    none stands there, as Keras leaves out the first one."""
    words, numbers = [], []
    for part in re.split(r"[./]", name):
        stem = part.rstrip("0123456789")
        last = part[len(stem) :]
        words.append(re.sub(r"[0-9]+", "#", stem.rstrip("_-") if last else stem))
        numbers += [*map(size_of, re.findall(r"[0-9]+", stem)), size_of(last)]
    return tuple(words), tuple(numbers)


def check_chain(layers, how):
    """The parameters of layers[l][direction], given in their order: sizes that make no stack."""
    sizes = [sizes_of(layer) for layer in layers]
    for n, directions in enumerate(sizes):
        check_one_input(f"layer {n}", directions)
    wrong = misfit(sizes)
    if wrong is not None:
        raise ValueError(
            f"layer {wrong} reads {sizes[wrong][0][0]} features, and layer {wrong - 1} hands on "
            f"{sum(out for _, out in sizes[wrong - 1])}: they are no stack; {how}"
        )
    return layers


def check_one_input(name, sizes):
    """Complain about the directions of a layer that do not read the same."""
    if len({reads for reads, _ in sizes}) > 1:
        read = " and ".join(str(reads) for reads, _ in sizes)
        raise ValueError(f"the directions of {name} read {read} features: they are no layer")


def sizes_of(layer):
    """(features read, features handed on) of each direction, by its parameters."""
    return [(p.W.shape[0], p.U.shape[0]) for p in layer]


def misfit(layers):
    """The first layer that cannot read what the one below hands on, or None. Two directions hand
    on both, or one size for both; with skip="inputs" the input comes beside."""
    D = layers[0][0][0]
    for n, (below, above) in enumerate(itertools.pairwise(layers), 1):
        sizes = {out for _, out in below} | {sum(out for _, out in below)}
        sizes |= {size + D for size in sizes}
        if not all(reads in sizes for reads, _ in above):
            return n
    return None
