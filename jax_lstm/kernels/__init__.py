"""LOOPS IN ANOTHER LANGUAGE, chosen by import and never the default: `jax_lstm.kernels.cpu`."""
