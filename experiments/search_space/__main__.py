"""`python -m experiments.search_space`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.search_space.run")
