"""`python -m experiments.tmva_toy`: see run.py."""

from experiments.kit import stop

if __name__ == "__main__":
    stop.run_main("experiments.tmva_toy.run")
