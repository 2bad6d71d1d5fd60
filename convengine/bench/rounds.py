"""The rounds: every library in its process, one after the other, again and again; results checked in the first."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from convengine.bench.checking import Reference, require
from convengine.bench.contest import Bound
from convengine.bench.contestants import Contestant
from convengine.bench.processes import Broken, Failed, Process
from convengine.bench.results import Comparison, Entry
from convengine.bench.tasks import Task

__all__ = ["Arena", "Settings"]

LIMITS = "convengine.bench.limits:Limits"
START_SECONDS = 120.0  # that a library may take to be imported
HOPELESS = 10.0  # a peer so many times slower than the best, and slow, is not run again
HOPELESS_SECONDS = 0.2
PAUSE = 0.02  # seconds between two turns, in which nothing runs


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure.

    Attributes
    ----------
    threads, rounds : int
        Threads of every library; how often each has its turn.
    seconds : float, optional
        That a turn measures; default: what each suite says.
    patience : float
        A route whose call would take longer, in seconds, is not tried.
    limit : float
        Seconds after which a turn is given up.

    Examples
    --------
    >>> from convengine.bench import Settings
    >>> Settings(threads=2, rounds=3)
    Settings(threads=2, rounds=3, seconds=None, patience=2.0, limit=120.0)
    """

    threads: int
    rounds: int = 5
    seconds: float | None = None
    patience: float = 2.0
    limit: float = 120.0


@dataclass(slots=True)
class Arena:
    """The processes and files of a run; leaving it ends and removes them, however it is left."""

    settings: Settings
    versions: dict[str, str] = field(default_factory=dict)
    _processes: dict[str, Process] = field(default_factory=dict)
    _folder: Any = None
    _unusable: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> "Arena":
        self._folder = tempfile.TemporaryDirectory(prefix="convengine-bench-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.end()
        self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """Where arrays go from process to process."""
        return Path(self._folder.name)

    def ask(self, contestant: Contestant, request: dict[str, Any]) -> dict[str, Any]:
        """Ask a process that lives on, started if need be; Failed if it does not answer."""
        name = contestant.name
        if name in self._unusable:
            raise Failed(self._unusable[name])
        try:
            if name not in self._processes:
                self._start(contestant)
            return self._processes[name].ask(request, self.settings.limit)
        except Broken:
            self._processes.pop(name).end()
            raise

    def _start(self, contestant: Contestant) -> None:
        """Start a process that lives on; what can't be imported once is not tried again."""
        name = contestant.name
        self._processes[name] = self._started(contestant)
        try:
            self.versions[name] = self._processes[name].ask({"do": "hello"}, START_SECONDS)["version"]
        except Failed as error:
            self._unusable[name] = str(error)
            raise

    def ask_afresh(self, contestant: Contestant, request: dict[str, Any]) -> dict[str, Any]:
        """Ask a process that ends with its answer."""
        process = self._started(contestant)
        self._processes["afresh"] = process  # ended with the others should this be interrupted
        try:
            return process.ask(request, START_SECONDS + self.settings.limit)
        finally:
            self._processes.pop("afresh").end()

    def _started(self, contestant: Contestant) -> Process:
        return Process(contestant.entry, contestant.arguments, self.settings.threads, contestant.environment)

    def place(self, task: Task) -> Reference:
        """Lay the task's arrays down for the processes, and compute what is right."""
        x, kernel = task.arrays()
        np.save(self.folder / "x.npy", x)
        np.save(self.folder / "kernel.npy", kernel)
        return Reference.of(task, x, kernel)

    def limits(self) -> Contestant:
        """Who measures the machine."""
        return Contestant("limits", LIMITS, arguments={"threads": self.settings.threads})

    def compare(
        self,
        suite: str,
        task: Task,
        contestants: Sequence[Contestant],
        seconds: float,
        advance: Callable[[float], None],
    ) -> Comparison:
        """Run all rounds of one task, with turns of so many seconds, calling `advance(1)` after each."""
        comparison = Comparison(suite, task, [Entry(one.name, one.is_ours, one.level) for one in contestants])
        reference = self.place(task)
        turns = [
            *((one, entry) for one, entry in zip(contestants, comparison.entries, strict=True)),
            (self.limits(), None),
        ]
        for number in range(self.settings.rounds):
            first = number % len(turns)  # nobody always follows the same neighbour
            for contestant, entry in turns[first:] + turns[:first]:
                if entry is None:
                    self._measure_limits(contestant, comparison, seconds)
                elif entry.status == "ok" and not (number and _is_hopeless(entry, comparison)):
                    self._turn(contestant, entry, task, reference, seconds)
                    time.sleep(PAUSE)
                advance(1)
        return comparison

    def _turn(self, contestant: Contestant, entry: Entry, task: Task, reference: Reference, seconds: float) -> None:
        settings = self.settings
        request = {
            "do": "time",
            "task": task.to_dict(),
            "folder": str(self.folder),
            "routes": list(entry.routes) or None,
            "seconds": seconds,
            "patience": settings.patience,
        }
        try:
            answer = self.ask(contestant, request)
        except Failed as error:
            entry.end("failed", str(error))
            return
        if "refused" in answer:
            entry.end("refused", answer["refused"])
            entry.skipped = answer["skipped"]
            return
        if not entry.routes:
            entry.skipped = answer["skipped"]
            self._check(entry, answer["found"], task, reference)
        fastest = min(answer["found"], key=lambda found: float(found["seconds"]))
        entry.seconds.append(fastest["seconds"])
        entry.calls += fastest["calls"]
        entry.method = fastest["method"]
        entry.routes[fastest["route"]] += 1

    def _check(self, entry: Entry, found: Sequence[dict[str, Any]], task: Task, reference: Reference) -> None:
        """Hold the results of every route that is timed against their bounds."""
        errors = []
        for number, one in enumerate(found):
            entry.routes[one["route"]] = 0
            result = np.load(self.folder / f"result-{number}.npy")
            try:
                errors.append(require(task, reference, result, Bound(**one["bound"])))
            except AssertionError as error:
                entry.end("wrong", f"{one['route']}: {error}" if one["route"] else str(error))
        entry.error = max(errors, default=None)

    def _measure_limits(self, limits: Contestant, comparison: Comparison, seconds: float) -> None:
        levels = dict.fromkeys(entry.level for entry in comparison.ours)
        task = comparison.task
        found: dict[str, Any] = {}
        for level in levels:
            request = {"do": "limits", "task": task.to_dict(), "level": level}
            found = self.ask(limits, request | {"seconds": seconds / len(levels)})
            if found["flops"] is not None:
                comparison.flops.setdefault(level, []).append(found["flops"])
        if found:
            comparison.copy_seconds.append(found["copy_seconds"])
            comparison.copies.append(found["copy"])

    def memory(self, task: Task, contestant: Contestant) -> dict[str, Any]:
        """Peak bytes of one call beside x, the kernel and out; in two fresh processes, see convengine.bench.memory."""
        x, kernel = task.arrays()
        np.save(self.folder / "x.npy", x)
        np.save(self.folder / "kernel.npy", kernel)
        request = {"task": task.to_dict(), "folder": str(self.folder)}
        found = {"task": task.to_dict(), "title": str(task), "name": contestant.name, "reason": ""}
        try:
            loaded = self.ask_afresh(contestant, request | {"do": "modules"})["modules"]
            return found | self.ask_afresh(contestant, request | {"do": "memory", "modules": loaded})
        except Failed as error:
            return found | {"bytes": None, "method": "", "reason": str(error)}

    def machine(self, counts: Sequence[int], seconds: float) -> dict[str, Any]:
        """Peaks of every level, and copies of so many bytes."""
        request = {"do": "machine", "nbytes": list(counts), "seconds": seconds / 2}
        return self.ask_afresh(self.limits(), request)

    def regions(self) -> list[dict[str, Any]]:
        """What parallel regions cost."""
        found: list[dict[str, Any]] = self.ask_afresh(self.limits(), {"do": "pool"})["regions"]
        return found


def _is_hopeless(entry: Entry, comparison: Comparison) -> bool:
    best = comparison.best_peer
    return bool(
        not entry.ours
        and best is not None
        and entry.seconds
        and entry.median > max(HOPELESS * best.median, HOPELESS_SECONDS)
    )
