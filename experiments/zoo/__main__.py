"""`python -m experiments.zoo`: see run.py."""

import sys

from experiments.zoo.run import main

if __name__ == "__main__":
    sys.exit(main())
