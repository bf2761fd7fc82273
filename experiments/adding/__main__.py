"""`python -m experiments.adding`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.adding.run")
