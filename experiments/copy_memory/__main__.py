"""`python -m experiments.copy_memory`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.copy_memory.run")
