"""The performance dashboard: asv's benchmarks of a clone, measured, kept, and made into pages that need no network.

`convengine dashboard` shows what is built here: a front page that answers the questions people come with, and asv's own
pages behind it. docs/decisions/0013-dashboard.md says what is kept where.
"""

from convengine.dashboard.clone import Clone, NoClone
from convengine.dashboard.measuring import SELECTIONS, Failed, is_measured, measure
from convengine.dashboard.serving import serve, server_of
from convengine.dashboard.site import build, place

__all__ = [
    "SELECTIONS",
    "Clone",
    "Failed",
    "NoClone",
    "build",
    "is_measured",
    "measure",
    "place",
    "serve",
    "server_of",
]
