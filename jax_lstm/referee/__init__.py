"""The referee: judges gradients. Takes functions and arrays; knows JAX, knows no cell."""

from jax_lstm.referee.changes import scalings
from jax_lstm.referee.compare import PRECISION, compare, compare_routes, precisely, pullback, twins
from jax_lstm.referee.diagnose import Diagnosis, Explanation, Given, Table, diagnose
from jax_lstm.referee.differences import compare_differences
from jax_lstm.referee.report import Report, Row, failure, first_line, header

__all__ = [
    "PRECISION",
    "Diagnosis",
    "Explanation",
    "Given",
    "Report",
    "Row",
    "Table",
    "compare",
    "compare_differences",
    "compare_routes",
    "diagnose",
    "failure",
    "first_line",
    "header",
    "precisely",
    "pullback",
    "scalings",
    "twins",
]
