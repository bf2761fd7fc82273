"""`python -m experiments.vowels`: see run.py."""

import sys

from experiments.vowels.run import main

if __name__ == "__main__":
    sys.exit(main())
