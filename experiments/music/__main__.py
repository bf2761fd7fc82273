"""`python -m experiments.music`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.music.run")
