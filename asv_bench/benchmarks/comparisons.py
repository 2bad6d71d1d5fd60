"""Ours against theirs, the machine and the proof. Lower is better: what goes up is a regression."""

from statistics import median

import convengine as ce
from convengine.bench.contestants import our_contestants, peer_contestants
from convengine.bench.rounds import Arena, Settings
from convengine.bench.tasks import Task
from convengine.native import cpu
from convengine.testing import covering_cases

from .subjects import FILTERING, PATIENCE, refuse

ROUNDS, SECONDS = 5, 0.05
# name: kind, shape, kernel's shape, dtype
PROBLEMS = {
    "image 256, 3x3": ("image", (256, 256), (3, 3), "float32"),
    "image 1024, 3x3": ("image", (1024, 1024), (3, 3), "float32"),
    "image 1024, 7x7": ("image", (1024, 1024), (7, 7), "float32"),
    "image 1024, 31x31": ("image", (1024, 1024), (31, 31), "float32"),
    "image 4096, 5x5": ("image", (4096, 4096), (5, 5), "float32"),
    "float64 image 1024, 7x7": ("image", (1024, 1024), (7, 7), "float64"),
    "uint8 image 1024, 7x7": ("image", (1024, 1024), (7, 7), "uint8"),
    "Gaussian 1024, 15x15": ("gaussian", (1024, 1024), (15, 15), "float32"),
    "signal 1e6, 63 taps": ("signal", (10**6,), (63,), "float32"),
    "signal 1e6, 4095 taps": ("signal", (10**6,), (4095,), "float32"),
}


class _Compared:
    """Everybody in turn, each in a process of its own, results checked, as `convengine bench` does it."""

    def setup_cache(self):
        """What all benchmarks below share: by problem, our time over each library's, and over the machine's limit."""
        contestants = [*our_contestants(["auto"], []), *peer_contestants(FILTERING)]
        found = {}
        with Arena(Settings(threads=cpu.available_workers(), rounds=ROUNDS, patience=PATIENCE)) as arena:
            for name, problem in PROBLEMS.items():
                comparison = arena.compare("asv", Task(*problem), contestants, SECONDS, lambda step: None)
                (ours,) = comparison.ours
                if not ours.ok:
                    found[name] = ours.reason
                    continue
                shares = [share for share in (comparison.of_flops(ours), comparison.of_copy(ours)) if share]
                found[name] = {"limit": 1 / max(shares)} | {
                    peer.name: median(mine / other for mine, other in zip(ours.seconds, peer.seconds, strict=False))
                    for peer in comparison.peers
                    if peer.ok
                }
        return found

    setup_cache.timeout = 900

    def setup(self, found, *params):
        *library, problem = params
        if isinstance(found[problem], str):
            raise AssertionError(found[problem])
        if (library[0] if library else "limit") not in found[problem]:
            refuse("is not installed, has no such filter, or is too slow")


class Ratio(_Compared):
    """Our time over a library's, all threads: 0.5 is twice as fast."""

    version = "1"
    params = (FILTERING, list(PROBLEMS))
    param_names = ("library", "problem")
    unit = "ours / theirs"

    def track_time(self, found, library, problem):
        return found[problem][library]


class Limit(_Compared):
    """Our time over the least that the machine allows a direct sum: its multiply-adds, or copying the array."""

    version = "1"
    params = (list(PROBLEMS),)
    param_names = ("problem",)
    unit = "time / limit"

    def track_time(self, found, problem):
        return found[problem]["limit"]


class Accuracy:
    """The largest error of a backend over its proven bound, on some hundred problems; 1 is what the proof allows."""

    version = "1"
    params = (["cython", "fft", "scipy", "torch", "cupy"],)
    param_names = ("backend",)
    unit = "error / bound"
    timeout = 300

    def setup(self, backend):
        (self.found,) = ce.crosscheck(backends=backend, cases=covering_cases()[::8]).backends
        if self.found.reason or not self.found.cases:
            refuse(self.found.reason or "refuses all of them")

    def track_error(self, backend):
        if self.found.failures:
            raise AssertionError("; ".join(self.found.failures.values()))
        return self.found.largest
