"""The referee: judges gradients. Takes functions and arrays; knows JAX, knows no cell."""

from jax_lstm.referee.agreement import Given, distances
from jax_lstm.referee.changes import scalings
from jax_lstm.referee.checked import Answer, CheckReport
from jax_lstm.referee.comparison import (
    PRECISION,
    compare,
    compare_routes,
    precisely,
    pullback,
    twins,
)
from jax_lstm.referee.custom_rules import check
from jax_lstm.referee.deltas import taps
from jax_lstm.referee.differences import compare_differences
from jax_lstm.referee.directions import compare_directions, compare_hvp, compare_jvp
from jax_lstm.referee.mutation import Mutant, MutationReport, mutation_test
from jax_lstm.referee.report import Report, Row, failure, first_line, header
from jax_lstm.referee.search import diagnose
from jax_lstm.referee.slopes import Slope, SlopeReport, slope_test
from jax_lstm.referee.tapped import Tap, TapReport, Taps
from jax_lstm.referee.verdict import Diagnosis, Explanation, Table

__all__ = [
    "PRECISION",
    "Answer",
    "CheckReport",
    "Diagnosis",
    "Explanation",
    "Given",
    "Mutant",
    "MutationReport",
    "Report",
    "Row",
    "Slope",
    "SlopeReport",
    "Table",
    "Tap",
    "TapReport",
    "Taps",
    "check",
    "compare",
    "compare_differences",
    "compare_directions",
    "compare_hvp",
    "compare_jvp",
    "compare_routes",
    "diagnose",
    "distances",
    "failure",
    "first_line",
    "header",
    "mutation_test",
    "precisely",
    "pullback",
    "scalings",
    "slope_test",
    "taps",
    "twins",
]
