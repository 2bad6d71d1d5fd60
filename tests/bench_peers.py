"""Libraries that the tests of the benchmark invent: right ones, wrong ones, and those that break down."""

import os
import sys
import time

import numpy as np
from scipy import ndimage

from convengine.bench.contest import Route, Run, direct


def filtered(job):
    mode = "constant" if job.task.boundary == "constant" else "mirror"
    sums = ndimage.correlate(job.x.astype(float), job.kernel.astype(float), mode=mode)
    if not job.task.is_float:
        sums = np.clip(sums, np.iinfo(job.task.dtype).min, np.iinfo(job.task.dtype).max)
    return sums.astype(job.task.dtype)


class Right:
    """Knows three ways: one that is slow, one that would take hours, one that breaks down; and the best."""

    def version(self):
        return "Right 1.0"

    def _way(self, job, seconds=0.0, broken=False):
        def call():
            if broken:
                raise ArithmeticError("no such way")
            time.sleep(seconds)
            return filtered(job)

        return lambda: Run(call, direct(job.task))

    def routes(self, job):
        return [
            Route("slow", self._way(job, 0.01)),
            Route("endless", self._way(job, 1e6), rate=1.0),
            Route("broken", self._way(job, broken=True)),
            Route("best", self._way(job)),
        ]


class Chatty(Right):
    """Writes to standard output, as some libraries do."""

    def version(self):
        print("loading ...")
        os.write(1, b"{not an answer}\n")
        return "Chatty 1.0"


class Wrong(Right):
    """Answers with the neighbour's result, in one way: of several as fast as each other any might be timed."""

    def routes(self, job):
        return [Route("best", lambda: Run(lambda: np.roll(filtered(job), 1, -1), direct(job.task)))]


class Refuses(Right):
    def routes(self, job):
        return f"has no {job.task.dtype}"


class Raises(Right):
    def routes(self, job):
        raise RuntimeError("out of\norder")


class Dies(Right):
    def routes(self, job):
        sys.stderr.write("fatal: core melted\n")
        sys.stderr.flush()
        os._exit(3)


class Hangs(Right):
    def routes(self, job):
        time.sleep(1000)


class Unloadable(Right):
    def version(self):
        raise ImportError("libmissing.so: cannot open")


class Hungry(Right):
    """Takes 48 MiB for each call, and gives them back."""

    def routes(self, job):
        def call():
            np.ones(48 << 20, np.uint8)

        return [Route("", lambda: Run(call, direct(job.task), method="hungry"))]
