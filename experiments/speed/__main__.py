"""`python -m experiments.speed`: see run.py."""

import sys

from experiments.speed.run import main

if __name__ == "__main__":
    sys.exit(main())
