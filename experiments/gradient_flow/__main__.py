"""`python -m experiments.gradient_flow`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.gradient_flow.run")
