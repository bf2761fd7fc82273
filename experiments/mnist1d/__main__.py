"""`python -m experiments.mnist1d`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.mnist1d.run")
