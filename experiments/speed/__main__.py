"""`python -m experiments.speed`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.speed.run")
