"""`python -m experiments.gradbench [serve]`: see run.py and serve.py."""

import sys

from experiments.gradbench import run, serve

if __name__ == "__main__":
    sys.exit(serve.main(sys.argv[2:]) if sys.argv[1:2] == ["serve"] else run.main())
