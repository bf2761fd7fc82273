"""Results of a benchmark made by hand: numbers whose tables and comparisons are known."""

import numpy as np

from experiments.speed.run import SIZES

ENVIRONMENT = {"hardware": "by hand", "slug": "by_hand", "versions": {"jax": "1"}, "affinity": 2}


def case(size="S3", variant="plain", **seconds):
    """A case made by hand: name=(gradient's seconds, forward's seconds, facts)."""
    T, B, H = SIZES[size]
    rows = {}
    for name, (gradient, forward, facts) in seconds.items():
        rows[name] = {
            "gradient": {"seconds": gradient, **facts},
            "forward": {"seconds": forward},
        }
    return {
        "size": size,
        "variant": variant,
        "T": T,
        "B": B,
        "H": H,
        "dtype": "float32",
        "layers": 1,
        "contestants": rows,
        "absent": {},
    }


def plant():
    """Ratios by round whose median is neither the ratio of medians nor that of the least."""
    facts = lambda temp, seconds, kernels: {
        "temp_bytes": temp,
        "compile_seconds": seconds,
        "kernels": kernels,
        "products_inside": 0,
    }
    return {
        "environment": ENVIRONMENT,
        "peak": 8 * 256 * 512 * 256 * 32 * 3.0,  # flop of S3's gradient: it needs a second
        "cases": [
            case(
                "S3",
                lstm=([2.0, 3.0, 8.0], [1.0, 1.0, 1.0], facts(50e6, 0.5, 10)),
                frugal=([3.0, 3.0, 8.0], [1.0, 1.0, 1.0], facts(10e6, 0.6, 10)),
                A0=([4.0, 4.0, 4.0], [2.0, 2.0, 2.0], facts(100e6, 1.0, 40)),
                A1=([2.0, 6.0, 32.0], [2.0, 2.0, 2.0], facts(200e6, 1.0, 40)),
                A2=([4.0, 4.0, 4.0], [2.0, 2.0, 2.0], facts(40e6, 1.0, 40)),
                F=([20.0, 6.0, 8.0], [4.0, 5.0, 10.0], facts(101e6, 1.0, 40)),
                G=([1.0, 1.0, 1.0], [0.5, 0.5, 0.5], {}),
                P1=([1.0, 12.0, 8.0], [1.0, 1.0, 1.0], {}),
                P2=([2.0, 12.0, 4.0], [1.0, 1.0, 1.0], {}),
            )
        ],
    }


def noisy(seed, ours=1.0, A0=1.0, rounds=20, machine=1.0):
    """A result of a restless machine: rounds up to three times slower, everybody 8 % apart."""
    rng = np.random.default_rng(seed)
    rest = machine * rng.uniform(1, 3, rounds)
    times = lambda x: list(x * rest * np.exp(0.08 * rng.normal(size=rounds)))
    rows = {"lstm": 2.0 * ours, "frugal": 2.5 * ours, "A0": 3.0 * A0, "G": 1.0}
    made = {name: (times(x), times(x / 3), {}) for name, x in rows.items()}
    cases = [case(size, **made) for size in ("S1", "S2")]
    return {"environment": ENVIRONMENT, "cases": cases}
