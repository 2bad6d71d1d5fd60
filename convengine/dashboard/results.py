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

__all__ = ["Measured", "load"]

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


def load(folder: Path) -> list[Measured]:
    """Read every result file below `folder`; by date of commit."""
    files = [file for file in folder.glob("*/*.json") if file.name != "machine.json"]
    return sorted(map(_read, map(json.loads, map(Path.read_text, files))), key=lambda one: (one.committed, one.machine))


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
