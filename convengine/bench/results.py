"""What was measured: times by rounds, and what follows from them."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from convengine.bench.tasks import Task

__all__ = ["Comparison", "Entry", "Lead", "Spread", "growth", "lead"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some numbers, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """None where there are no numbers."""
        return cls(statistics.median(values), min(values), max(values)) if values else None

    def to_dict(self) -> dict[str, float]:
        """Return plain values, for JSON."""
        return {"median": self.median, "least": self.least, "most": self.most}


@dataclass(slots=True)
class Entry:
    """How one library, or one of our methods, did one task.

    Attributes
    ----------
    name, ours
        Of the library or method; whether it is convengine's.
    seconds : list of float
        The median call of each round.
    routes : Counter of str
        In how many rounds each function, with its settings, was the fastest.
    method : str
        What convengine chose.
    calls : int
        All that were timed.
    error : float, optional
        The largest, over what its proven bound allows; 0 for integers that are right.
    status : {"ok", "wrong", "failed", "refused"}
        With its `reason`. Only an entry that is ok counts.
    skipped : list of str
        Other routes, and why they were not tried.
    """

    name: str
    ours: bool
    level: str = ""
    seconds: list[float] = field(default_factory=list)
    routes: Counter[str] = field(default_factory=Counter)
    method: str = ""
    calls: int = 0
    error: float | None = None
    status: str = "ok"
    reason: str = ""
    skipped: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether it was timed and is right."""
        return self.status == "ok" and bool(self.seconds)

    @property
    def median(self) -> float:
        """Seconds of a call, the median of the rounds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """How far the rounds lie apart, over their median."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def end(self, status: str, reason: str) -> None:
        """It takes no part in further rounds, and does not count."""
        self.status, self.reason = status, reason

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"median": self.median if self.seconds else None, "spread": self.spread if self.ok else None}


@dataclass(slots=True)
class Comparison:
    """One task, by everybody, with the machine's limits measured in the same rounds.

    Attributes
    ----------
    flops : dict of str to list of float
        Peak floating point operations per second by level, each round; of no level for integers.
    copy_seconds : list of float
        The fastest copy of as many bytes; `copies` says which.
    """

    suite: str
    task: Task
    entries: list[Entry]
    flops: dict[str, list[float]] = field(default_factory=dict)
    copy_seconds: list[float] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)

    @property
    def ours(self) -> list[Entry]:
        """Our lines; the first is the automatic choice, unless only methods were asked for."""
        return [entry for entry in self.entries if entry.ours]

    @property
    def peers(self) -> list[Entry]:
        """The other libraries."""
        return [entry for entry in self.entries if not entry.ours]

    @property
    def best_peer(self) -> Entry | None:
        """The fastest of those that are right."""
        return min((peer for peer in self.peers if peer.ok), key=lambda peer: peer.median, default=None)

    def ratio(self, entry: Entry) -> Spread | None:
        """The best peer's time over the entry's, round by round: above 1 the entry is ahead."""
        best = self.best_peer
        if best is None or not entry.ok:
            return None
        return Spread.of([theirs / ours for theirs, ours in zip(best.seconds, entry.seconds, strict=False)])

    def of_flops(self, entry: Entry) -> float | None:
        """The direct sum's operations per second over the peak: beyond 1 where a method saves multiplications."""
        peaks = self.flops.get(entry.level, [])
        if not entry.ok or not peaks:
            return None
        rates = [2 * self.task.products / seconds for seconds in entry.seconds]
        return statistics.median(rate / peak for rate, peak in zip(rates, peaks, strict=False))

    def of_copy(self, entry: Entry) -> float | None:
        """The fastest copy's time over the entry's: 1 is a filter as fast as the memory."""
        if not entry.ok or not self.copy_seconds:
            return None
        return statistics.median(copy / ours for copy, ours in zip(self.copy_seconds, entry.seconds, strict=False))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        best = self.best_peer
        entries = []
        for entry in self.entries:
            ratio = self.ratio(entry) if entry.ours else None
            derived: dict[str, Any] = {"best_peer_over_this": ratio and ratio.to_dict()} if entry.ours else {}
            derived |= {"of_flops": self.of_flops(entry), "of_copy": self.of_copy(entry)} if entry.ours else {}
            entries.append(entry.to_dict() | derived)
        return {
            "suite": self.suite,
            "task": self.task.to_dict(),
            "title": str(self.task),
            "products": self.task.products,
            "entries": entries,
            "best_peer": best and best.name,
            "limits": {"flops": self.flops, "copy_seconds": self.copy_seconds, "copies": self.copies},
        }


@dataclass(frozen=True, slots=True)
class Lead:
    """Our lead over the best peer in some tasks: the least, where it was, and the geometric mean."""

    entry: str
    tasks: int
    least: float
    least_at: str
    mean: float


def lead(comparisons: Sequence[Comparison], name: str) -> Lead | None:
    """The lead of one of our lines; None where no task has a peer."""
    found = [
        (ratio.median, str(comparison.task))
        for comparison in comparisons
        for entry in comparison.ours
        if entry.name == name and (ratio := comparison.ratio(entry)) is not None
    ]
    if not found:
        return None
    least, at = min(found)
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio, _ in found))
    return Lead(name, len(found), least, at, mean)


def growth(comparisons: Sequence[Comparison], name: str) -> tuple[float, str] | None:
    """The most that twice the samples cost of one of our lines, of tasks that differ in size alone; and where.

    Between two sizes that are not a doubling apart, the growth is that of a power law through both.
    """
    lines: dict[Any, list[tuple[int, float]]] = {}
    for comparison in comparisons:
        for entry in comparison.ours:
            if entry.name == name and entry.ok:
                task = comparison.task
                lines.setdefault((task.kind, task.dtype, task.kernel_shape), []).append((task.samples, entry.median))
    costs = [
        (math.exp(math.log(slow / fast) / math.log2(large / small)), f"{small} to {large} samples")
        for line in lines.values()
        for (small, fast), (large, slow) in pairwise(sorted(line))
        if large > small
    ]
    return max(costs, default=None)
