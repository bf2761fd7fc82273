"""`python -m jax_lstm COMMAND`: see commands/."""

import sys

from jax_lstm.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
