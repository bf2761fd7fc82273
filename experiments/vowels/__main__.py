"""`python -m experiments.vowels`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.vowels.run")
