"""`python -m experiments.forget_bias`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.forget_bias.run")
