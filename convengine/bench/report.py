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
    machine, settings : dict, Settings
        Where and how.
    command : str
        What it was asked by.
    versions, missing : dict of str to str
        The versions of who took part; what to install for who did not.
    comparisons : list of Comparison
        Of every task that was timed.
    memory, regions : list of dict
        Peak bytes of calls; costs of parallel regions.
    limits : dict of lists
        Peaks and copies.
    others : float, optional
        The share of the CPUs' time that went to other programs meanwhile, 0 to 1.

    Examples
    --------
    >>> from convengine.bench import Report, Settings
    >>> from convengine.bench.results import Comparison, Entry
    >>> from convengine.bench.tasks import Task
    >>> entries = [Entry("convengine", ours=True, seconds=[0.25]), Entry("numpy", ours=False, seconds=[1.0])]
    >>> comparison = Comparison("small", Task("image", (64, 64), (3, 3), "float32"), entries)
    >>> report = Report({}, Settings(threads=1), "convengine bench", {}, comparisons=[comparison])
    >>> report.ok, report.summary()[0]["lead"]["least"]
    (True, 4.0)
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
        """For each suite and each of our lines: the least lead, the geometric mean, the cost of twice the samples.

        Returns
        -------
        list of dict
            A lead is the best peer's time over ours, as `Lead` has it; None where there is no peer. "doubling" is the
            cost and where it was the most, or None.
        """
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
    """What is to be run, by whom.

    Attributes
    ----------
    suites : mapping of str to Suite
        By the names that the report has.
    contestants : sequence of Contestant
        Ours and the peers.
    settings : Settings
        How to measure.

    Examples
    --------
    >>> from convengine.bench import SUITES, Run, Settings, our_contestants
    >>> run = Run({"small": SUITES["small"]}, our_contestants(["auto"], []), Settings(threads=1, rounds=2))
    >>> run.turns  # 4 tasks, 2 rounds, of convengine and of the machine's limits
    16
    >>> round(run.estimate, 1)
    10.3
    """

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
        """Run it.

        Parameters
        ----------
        command : str
            What it was asked by, for the report.
        missing : dict of str to str
            Who does not take part, and what to install, for the report.
        advance : callable
            Called with 1 after each of the `turns`.

        Returns
        -------
        Report
        """
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
