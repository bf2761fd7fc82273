"""`python -m experiments.word_lm`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.word_lm.run")
