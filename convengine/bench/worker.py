"""The process of one library: reads requests on standard input, one JSON text a line, and answers in the same way.

What libraries print goes to standard error: standard output belongs to the answers.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from convengine.bench import memory
from convengine.bench.contest import Job, Route, Run
from convengine.bench.tasks import Task
from convengine.bench.timing import measure

__all__ = ["main"]

TRIAL = 0.05  # seconds that each route is timed to find the fastest
MOST_TEXT = 300  # characters of an error


def main() -> None:
    """Serve the library that the command line names, until standard input ends."""
    entry, arguments, threads = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        _confine(threads)
        module, name = entry.split(":")
        subject = getattr(import_module(module), name)(**arguments)
        _serve(subject, threads, answers)


def _confine(threads: int) -> None:
    """Leave the process as many CPUs as it may have threads: some libraries can't be told otherwise."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _serve(subject: Any, threads: int, answers: TextIO) -> None:
    for line in sys.stdin:
        try:
            answer = _answer(subject, threads, json.loads(line))
        except Exception as error:  # noqa: BLE001  # whatever a library raises is the parent's to tell
            text = "; ".join(line.strip() for line in str(error).splitlines())[:MOST_TEXT]
            answer = {"failed": f"{type(error).__name__}: {text}" if text else type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(subject: Any, threads: int, request: dict[str, Any]) -> dict[str, Any]:
    match request["do"]:
        case "hello":
            return {"version": subject.version()}
        case "time":
            return _timed(subject, threads, request)
        case "limits":
            return dict(subject.at(Task.from_dict(request["task"]), request["level"], request["seconds"]))
        case "machine":
            counts = request["nbytes"]
            copies = [found for count in counts for found in subject.copies(count, request["seconds"])]
            return {"peaks": subject.peaks(), "copies": copies}
        case "pool":
            return {"regions": subject.regions()}
        case "modules":
            return {"modules": memory.modules(subject, _job(request, threads))}
        case "memory":
            return memory.peak(subject, lambda: _job(request, threads), request["modules"])
    raise ValueError(f"unknown request {request['do']!r}")


def _job(request: dict[str, Any], threads: int) -> Job:
    task, folder = Task.from_dict(request["task"]), Path(request["folder"])
    x, kernel = np.load(folder / "x.npy"), np.load(folder / "kernel.npy")
    return Job(task, x, kernel, np.zeros(task.shape, task.dtype), threads)


def _timed(subject: Any, threads: int, request: dict[str, Any]) -> dict[str, Any]:
    """Time the route that was asked for, or the fastest of all."""
    job, seconds = _job(request, threads), request["seconds"]
    routes = subject.routes(job)
    if isinstance(routes, str):
        return {"refused": routes}
    skipped: list[str] = []
    found = {route.name: route for route in routes}
    if request["route"] is None:
        name = _fastest(job.task, routes, request["patience"], skipped)
        if name is None:
            return {"refused": "; ".join(skipped)}
    else:
        name = request["route"]
    run = found[name].start()
    timing = measure(run.call, seconds)
    if request["result"]:
        job.out.fill(1)  # what a call before left there must not pass for this one's
        np.save(Path(request["folder"]) / request["result"], np.asarray(run.result(run.call())))
    return {"seconds": timing.seconds, "calls": timing.calls, "route": name, "method": run.method,
            "bound": asdict(run.bound), "skipped": skipped}  # fmt: skip


def _fastest(task: Task, routes: list[Route], patience: float, skipped: list[str]) -> str | None:
    """The name of the fastest route; None if none is left after those that would take too long or break down."""
    times = {}
    for route, run in _started(task, routes, patience, skipped):
        try:
            times[route.name] = measure(run.call, TRIAL).seconds
        except Exception as error:  # noqa: BLE001  # a route that breaks down is one that is not taken
            skipped.append(f"{route.name}: {type(error).__name__}: {error}")
    return min(times, key=times.__getitem__, default=None)


def _started(task: Task, routes: list[Route], patience: float, skipped: list[str]) -> Iterator[tuple[Route, Run]]:
    for route in routes:
        expected = task.products / route.rate if route.rate else 0.0
        if expected > patience:
            skipped.append(f"{route.name}: a call would take some {expected:.2g} s")
        else:
            yield route, route.start()


if __name__ == "__main__":
    main()
