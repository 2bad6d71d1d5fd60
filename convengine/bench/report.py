"""A whole run: suites in, everything that was measured out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from convengine.bench.contestants import Contestant
from convengine.bench.machine import Load, describe
from convengine.bench.results import Comparison, growth, lead
from convengine.bench.rounds import Arena, Settings
from convengine.bench.suites import Suite

__all__ = ["Report", "Run"]

# What a turn and a start take beyond the seconds that are measured: arrays, warming up, trials; importing a library.
TURN_SECONDS, START_SECONDS = 0.25, 1.5
BUSY = 0.1  # of the CPUs' time in others' hands: figures are then worth little


@dataclass(slots=True)
class Report:
    """Everything that was measured, and on what.

    Attributes
    ----------
    machine, settings, versions, missing : dict
        Where and how; the versions of who took part; what to install for who did not.
    comparisons : list of Comparison
    memory, regions : list of dict
        Peak bytes of calls; costs of parallel regions.
    limits : dict of lists
        Peaks and copies.
    others : float, optional
        The share of the CPUs' time that went to other programs meanwhile.
    """

    machine: dict[str, Any]
    settings: Settings
    command: str
    missing: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    memory: list[dict[str, Any]] = field(default_factory=list)
    limits: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    regions: list[dict[str, Any]] = field(default_factory=list)
    others: float | None = None

    @property
    def busy(self) -> bool:
        """Whether other programs took so much that the figures are worth little."""
        return self.others is not None and self.others > BUSY

    @property
    def ok(self) -> bool:
        """Whether every result was right, and none of ours is missing."""
        entries = [entry for comparison in self.comparisons for entry in comparison.entries]
        broken = any(entry.status == "wrong" or (entry.ours and entry.status == "failed") for entry in entries)
        return not broken and not any(line["reason"] for line in self.memory)

    @property
    def suites(self) -> dict[str, list[Comparison]]:
        """The comparisons of each suite."""
        found: dict[str, list[Comparison]] = {}
        for comparison in self.comparisons:
            found.setdefault(comparison.suite, []).append(comparison)
        return found

    def summary(self) -> list[dict[str, Any]]:
        """For each suite and each of our lines: the least lead, the geometric mean, the cost of twice the samples."""
        lines = []
        for suite, comparisons in self.suites.items():
            for name in dict.fromkeys(entry.name for one in comparisons for entry in one.ours):
                ahead, cost = lead(comparisons, name), growth(comparisons, name)
                if ahead is not None or cost is not None:
                    doubling = {"cost": cost[0], "at": cost[1]} if cost else None
                    lines.append({"suite": suite, "name": name, "lead": ahead and asdict(ahead), "doubling": doubling})
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "command": self.command,
            "machine": self.machine,
            "settings": asdict(self.settings),
            "versions": self.versions,
            "missing": self.missing,
            "others": self.others,
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "summary": self.summary(),
            "memory": self.memory,
            "limits": self.limits,
            "regions": self.regions,
            "ok": self.ok,
        }


@dataclass(frozen=True, slots=True)
class Run:
    """What is to be run, by whom."""

    suites: Mapping[str, Suite]
    contestants: Sequence[Contestant]
    settings: Settings

    @property
    def ours(self) -> list[Contestant]:
        """Our lines."""
        return [one for one in self.contestants if one.is_ours]

    @property
    def turns(self) -> int:
        """How often `advance(1)` will be called."""
        return sum(self._turns(suite) for suite in self.suites.values())

    def _turns(self, suite: Suite) -> int:
        timed = self.settings.rounds * (len(self.contestants) + 1)
        each = {"time": timed, "memory": len(self.ours)}
        return len(suite.tasks()) * each[suite.measure] if suite.measure in each else 1

    @property
    def estimate(self) -> float:
        """Seconds that it may take; slow peers on large arrays add to that."""
        turns = sum(
            self._turns(suite) * (TURN_SECONDS + (self.settings.seconds or suite.seconds))
            for suite in self.suites.values()
        )
        return turns + len(self.contestants) * START_SECONDS

    def report(self, command: str, missing: dict[str, str], advance: Callable[[float], None]) -> Report:
        """Run it."""
        levels = sorted({one.level for one in self.ours if one.environment})
        report = Report(describe(self.settings.threads, levels), self.settings, command, missing)
        load = Load()
        with Arena(self.settings) as arena:
            for name, suite in self.suites.items():
                self._suite(arena, report, name, suite, advance)
            report.versions = arena.versions
        report.others = load.others()
        return report

    def _suite(self, arena: Arena, report: Report, name: str, suite: Suite, advance: Callable[[float], None]) -> None:
        seconds = self.settings.seconds or suite.seconds
        match suite.measure:
            case "memory":
                for task in suite.tasks():
                    for one in self.ours:
                        report.memory.append(arena.memory(task, one))
                        advance(1)
            case "limits":
                report.limits = arena.machine([4 * size**2 for size in suite.sizes], seconds)
                advance(1)
            case "pool":
                report.regions = arena.regions()
                advance(1)
            case _:
                for task in suite.tasks():
                    report.comparisons.append(arena.compare(name, task, self.contestants, seconds, advance))
