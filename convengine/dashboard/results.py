"""asv's result files, read."""

import json
import math
from ast import literal_eval
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

__all__ = ["PEERS", "Measured", "Step", "load", "read_steps", "result_files"]

# What peers are called on pages.
PEERS = {"opencv": "OpenCV", "ndimage": "scipy.ndimage", "signal": "scipy.signal", "torch": "PyTorch"}

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one machine found for one commit.

    Attributes
    ----------
    machine, cpu, threads, python : str
        Where.
    commit : str
    committed, measured : datetime
    values : dict
        By benchmark, then by the values of its parameters; only what was measured.
    """

    machine: str
    cpu: str
    threads: str
    python: str
    commit: str
    committed: datetime
    measured: datetime
    values: dict[str, dict[Key, float]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Step:
    """A step up that asv found in a benchmark on one machine: the values before and after, and the commits."""

    case: str
    machine: str
    before: float
    after: float
    since: str

    @property
    def growth(self) -> float:
        """How many times as much."""
        return self.after / self.before if self.before else math.inf


def result_files(folder: Path) -> list[Path]:
    """The result files below a folder, which has a folder for each machine."""
    return sorted(file for file in folder.glob("*/*.json") if file.name != "machine.json")


def load(folder: Path) -> list[Measured]:
    """Read every result file below `folder`; by date of commit.

    Raises
    ------
    ValueError
        If one is none; the text names it.
    """
    found = []
    for file in result_files(folder):
        try:
            found.append(_read(json.loads(file.read_text())))
        except (ValueError, KeyError, TypeError) as error:
            where = f"{file.parent.name}/{file.name}"
            raise ValueError(f"{where} holds no results of asv ({type(error).__name__}); remove it") from None
    return sorted(found, key=lambda one: (one.committed, one.machine))


def read_steps(pages: Path) -> list[Step]:
    """What asv's page of regressions lists, the last step of each benchmark."""
    hashes = json.loads((pages / "index.json").read_text())["revision_to_hash"]
    steps = []
    for case, path, _, _, _, _, jumps in json.loads((pages / "regressions.json").read_text())["regressions"]:
        where = next(part.removeprefix("machine-") for part in path.split("/") if part.startswith("machine-"))
        _, revision, before, after = jumps[-1]
        steps.append(Step(case, where, before, after, hashes[str(revision)]))
    return steps


def _read(raw: dict[str, Any]) -> Measured:
    columns = raw["result_columns"]
    values, started = {}, [0]
    for benchmark, cells in raw["results"].items():
        row = dict(zip(columns, cells, strict=False))
        values[benchmark] = dict(_cases(row))
        started.append(row.get("started_at") or 0)
    where = raw["params"]
    return Measured(
        where["machine"],
        where.get("cpu", ""),
        where.get("num_cpu", ""),
        where.get("python", ""),
        raw["commit_hash"],
        _date(raw["date"]),
        _date(max(started)),
        values,
    )


def _cases(row: dict[str, Any]) -> Iterator[tuple[Key, float]]:
    results = row["result"] or []
    for texts, value in zip(product(*row["params"]), results, strict=False):
        if isinstance(value, int | float) and math.isfinite(value):
            yield tuple(map(_value, texts)), float(value)


def _value(text: str) -> Any:
    """A parameter as it was, from its repr."""
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _date(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
