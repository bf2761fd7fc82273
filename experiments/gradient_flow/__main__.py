"""`python -m experiments.gradient_flow`: see run.py."""

import sys

from experiments.gradient_flow.run import main

if __name__ == "__main__":
    sys.exit(main())
