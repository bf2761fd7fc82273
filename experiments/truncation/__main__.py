"""`python -m experiments.truncation`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.truncation.run")
