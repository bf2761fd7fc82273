"""The pytest plugin: a fixture that judges a gradient. It imports nothing until it is used.

def test_my_rule(gradient_check):
    gradient_check(my_function, x, W)

A wrong gradient fails the test with the table of `jax_lstm.referee.check`; one that the values are
too noisy to judge skips it, and says so. It stands outside of the package because pytest imports it
at every start, and `import jax_lstm` imports JAX.
"""

import pytest


@pytest.fixture
def gradient_check():
    """`jax_lstm.referee.check` as an assertion: same arguments; returns its CheckReport."""

    def gradient_check(f, *args, **told):
        __tracebackhide__ = True
        from jax_lstm import referee  # late: JAX is loaded by whoever asks, and not by pytest

        report = referee.check(f, *args, **told)
        if report.status() == 1:
            pytest.fail(f"{report.sentence()}\n\n{report.table()}", pytrace=False)
        if not report:
            # Too noisy to say. To fail would accuse a rule that may be right, to pass would vouch
            # for one that nobody could judge; a skip is counted, and `-rs` shows its sentence.
            pytest.skip(report.sentence())
        return report

    return gradient_check
