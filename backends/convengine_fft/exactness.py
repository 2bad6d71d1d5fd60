"""How large integer samples may be, so that float64 transforms, rounded, give the exact sums."""

import math

from convengine.problem import KernelFacts, Problem, largest_magnitude
from convengine_fft.tiling import Tiling

__all__ = ["EXACT", "JUDGED", "exact_limit", "largest_sample"]

EXACT = 2**53  # float64 holds every integer up to here
UNLIMITED = 2**64  # no sample is larger
JUDGED = 255  # an offer for a wide dtype must at least serve bytes; the call judges the samples


def largest_sample(problem: Problem) -> int:
    """Largest magnitude that the dtype of x allows."""
    return 1 if problem.x_dtype.kind == "b" else largest_magnitude(problem.x_dtype)


def exact_limit(problem: Problem, facts: KernelFacts, tiling: Tiling, factor: float) -> int:
    """Largest sample for which sums stay below 2**53, and the error, proven by `factor`, below one half."""
    if not facts.abs_sum:
        return UNLIMITED
    per_group = problem.channels[0] // problem.groups
    error = factor * math.sqrt(tiling.most_read(problem) * per_group) * facts.norm  # of samples of magnitude 1
    return min((EXACT - 1) // int(facts.abs_sum), math.ceil(0.5 / error) - 1, UNLIMITED)
