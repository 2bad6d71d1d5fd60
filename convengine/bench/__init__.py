"""Benchmarks: convengine and the libraries that users could pick instead, side by side on this machine.

`convengine bench` prints what is computed here; docs/guide/benchmarks.md says how it is measured, and what is fair.
"""

from convengine.bench.contestants import missing, our_contestants, peer_contestants
from convengine.bench.peers import PEERS
from convengine.bench.report import Report, Run
from convengine.bench.rounds import Settings
from convengine.bench.suites import DEFAULT, SUITES, Suite

__all__ = [
    "DEFAULT",
    "PEERS",
    "SUITES",
    "Report",
    "Run",
    "Settings",
    "Suite",
    "missing",
    "our_contestants",
    "peer_contestants",
]
