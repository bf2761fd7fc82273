"""WHICH CELL? One file each; family.py has their rows. regularised.py makes cells of cells."""

from jax_lstm.cells.family import CELLS as CELLS
