"""How far apart two arrays are, by norm."""

import numpy as np


def relative_error(got, want):
    """‖got - want‖ / ‖want‖"""
    return float(np.linalg.norm(got - want) / (np.linalg.norm(want) or 1.0))
