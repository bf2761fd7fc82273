"""The referee: judges gradients. Takes functions and arrays; knows JAX, knows no cell."""

from jax_lstm.referee.compare import PRECISION, compare, compare_routes, precisely, pullback, twins
from jax_lstm.referee.differences import compare_differences
from jax_lstm.referee.report import Report, Row, failure, first_line, header

__all__ = [
    "PRECISION",
    "Report",
    "Row",
    "compare",
    "compare_differences",
    "compare_routes",
    "failure",
    "first_line",
    "header",
    "precisely",
    "pullback",
    "twins",
]
