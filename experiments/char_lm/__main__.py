"""`python -m experiments.char_lm`: see run.py."""

import sys

from experiments.char_lm.run import main

if __name__ == "__main__":
    sys.exit(main())
