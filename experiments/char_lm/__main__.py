"""`python -m experiments.char_lm`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.char_lm.run")
