"""`python -m experiments.forecast`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.forecast.run")
