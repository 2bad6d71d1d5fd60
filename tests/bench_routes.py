"""Run in a process of its own: every route of a peer on small tasks, each result held against its bound.

Prints JSON: for each task a refusal, or the error over its bound of each route.
"""

import json
import sys
from importlib import import_module

import numpy as np

from convengine.bench.checking import Reference, require
from convengine.bench.contest import Job
from convengine.bench.tasks import Task

TASKS = [
    Task("image", (20, 31), (3, 3), "float32"),
    Task("image", (40, 31), (8, 9), "float32"),
    Task("image", (20, 31), (4, 5), "float64"),
    Task("image", (20, 31), (5, 3), "uint8"),
    Task("image", (20, 31), (3, 3), "int16"),
    Task("image", (20, 31), (3, 3), "int64"),
    Task("gaussian", (40, 31), (7, 5), "float32"),
    Task("gaussian", (40, 31), (3, 3), "float64"),
    Task("signal", (300,), (15,), "float32"),
    Task("signal", (300,), (64,), "float32"),
    Task("signal", (300,), (9,), "float64"),
]


def main():
    module, name = sys.argv[1].split(":")
    subject = getattr(import_module(module), name)()
    told = {"version": subject.version()}
    for task in TASKS:
        x, kernel = task.arrays()
        reference = Reference.of(task, x, kernel)
        job = Job(task, x, kernel, np.zeros(task.shape, task.dtype), 2)
        routes = subject.routes(job)
        if isinstance(routes, str):
            told[str(task)] = routes
            continue
        told[str(task)] = {}
        for route in routes:
            run = route.start()
            job.out.fill(1)
            result = np.asarray(run.result(run.call()))
            told[str(task)][route.name] = require(task, reference, result, run.bound)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
