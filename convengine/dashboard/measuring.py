"""Runs asv's benchmarks on the convengine that is installed, and files what they find under the clone's commit."""

import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convengine.dashboard.clone import CONFIGURATION, Clone, machine

__all__ = ["SELECTIONS", "Failed", "configuration", "is_measured", "measure"]

# What is run, as asv's --bench takes it: everything; or, in some minutes, what the front page shows.
IMAGES = r"filters\.Images\.time_call\(.*, {n}, {k}, 'float32', 'all'\)"
SELECTIONS: dict[str, tuple[str, ...]] = {
    "quick": (
        IMAGES.format(n=1024, k="(3|7|15|31|63)"),
        IMAGES.format(n=r"\d+", k=7),
        r"^comparisons\.",
        r"^overhead\.(SmallCall|Import)",
        r"filters\.Stages\..*\('convengine'",
    ),
    "full": (".",),
}
# Of the quick selection: one process a case and short samples, enough to choose a backend by, not to find regressions.
QUICK = ("processes=1", "warmup_time=0.02", "sample_time=0.005", "repeat=(2, 5, 0.15)")
# asv's name for the environment that is there; its own holds the path of the interpreter.
ENVIRONMENT = f"existing-py{sys.version_info.major}.{sys.version_info.minor}"
PERCENT = re.compile(rb"^\[\s*(\d+\.\d+)%\]")
TOLD = 12  # lines of asv's output that an error shows


class Failed(RuntimeError):
    """asv ended with an error; the text has its last lines."""


def configuration(clone: Clone, folder: Path, **more: Any) -> Path:
    """Write a configuration of asv that keeps everything in `folder`; return its file."""
    values = json.loads((clone.folder / CONFIGURATION).read_text())
    values |= {"repo": str(clone.folder), "branches": [clone.branch], "benchmark_dir": str(clone.benchmarks)}
    values |= {name: str(folder / name) for name in ("results_dir", "html_dir", "env_dir")}
    file = folder / "asv.conf.json"
    file.write_text(json.dumps(values | more))
    return file


def is_measured(clone: Clone, selection: str) -> bool:
    """Whether this machine has measured the commit already; the full selection holds the quick one."""
    done = _done(clone)
    return done.is_file() and (selection in (words := done.read_text().split()) or "full" in words)


def measure(clone: Clone, selection: str, advance: Callable[[float], None]) -> None:
    """Run a selection, calling `advance` with shares of the whole, and add the results to the clone's store.

    Raises
    ------
    Failed
        If asv does.
    """
    here = machine()
    with tempfile.TemporaryDirectory(prefix="convengine-dashboard-") as name:
        folder = Path(name)
        # asv keeps what it knows of machines in the user's home: it gets one that goes when it is done.
        (folder / ".asv-machine.json").write_text(json.dumps({"version": 1, here["machine"]: here}))
        patterns = [part for pattern in SELECTIONS[selection] for part in ("--bench", pattern)]
        attributes = [part for value in QUICK for part in ("-a", value)] if selection == "quick" else []
        command = ["run", "--config", str(configuration(clone, folder)), "-E", f"existing:{sys.executable}"]
        command += ["--set-commit-hash", clone.commit, "--machine", here["machine"], *patterns, *attributes]
        run_asv(command, folder, advance)
        found = [path for path in (folder / "results_dir" / here["machine"]).glob("*.json") if path.stem != "machine"]
        if not found:
            raise Failed("asv measured nothing: is a benchmark's name or parameter gone?")
        target = clone.store / here["machine"]
        target.mkdir(parents=True, exist_ok=True)
        _write(clone.store / "benchmarks.json", json.loads((folder / "results_dir" / "benchmarks.json").read_text()))
        _write(target / "machine.json", here)
        _add(json.loads(found[0].read_text()), target / f"{clone.commit[:8]}-{ENVIRONMENT}.json")
        done = _done(clone)
        done.write_text(f"{done.read_text() if done.is_file() else ''}{selection}\n")


def run_asv(arguments: list[str], home: Path, advance: Callable[[float], None]) -> None:
    """Run asv, whose home is `home`; Ctrl-C reaches it too, and it is waited for."""
    environment = os.environ | {"HOME": str(home), "PYTHONUNBUFFERED": "1"}
    environment.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    last: deque[str] = deque(maxlen=TOLD)
    reached = 0.0
    with subprocess.Popen(
        [sys.executable, "-m", "asv", *arguments],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last.append(line.decode(errors="replace").rstrip())
                if percent := PERCENT.match(line):
                    now = float(percent[1]) / 100
                    advance(max(now - reached, 0.0))
                    reached = max(reached, now)
        except BaseException:
            process.terminate()
            raise
    # 2: some benchmarks failed, which shows in the pages as a missing value
    if process.returncode not in (0, 2):
        raise Failed("asv failed: " + " / ".join(line for line in last if line.strip()))


def _done(clone: Clone) -> Path:
    return clone.store / str(machine()["machine"]) / f"{clone.commit[:8]}.done"


def _add(new: dict[str, Any], file: Path) -> None:
    """Write a result file; what it holds of cases that were not run this time stays.

    The interpreter's path, which asv writes in three places, becomes its version.
    """
    new["env_name"], new["python"] = ENVIRONMENT, platform.python_version()
    new["params"]["python"] = new["python"].rpartition(".")[0]
    if file.is_file():
        old = json.loads(file.read_text())
        for name, columns in old["results"].items():
            new["results"][name] = _merged(columns, new["results"].get(name))
    _write(file, new)


def _merged(old: list[Any], new: list[Any] | None) -> list[Any]:
    """Columns of a benchmark, value by value: the new ones where there are any."""
    if new is None or not new[0]:
        return old
    if not old[0] or old[1:3] != new[1:3]:
        return new  # other parameters or another version: not to be mixed
    was, now = old[0], new[0]
    measured = [_is_number(value) for value in now]
    merged = []
    for column, (before, after) in enumerate(_padded(old, new)):
        if column == 1 or not (isinstance(after, list) and isinstance(before, list)) or len(before) != len(was):
            merged.append(after)
        else:
            merged.append([a if m else b for a, b, m in zip(after, before, measured, strict=True)])
    return merged


def _padded(old: list[Any], new: list[Any]) -> list[tuple[Any, Any]]:
    size = max(len(old), len(new))
    return list(zip(old + [None] * (size - len(old)), new + [None] * (size - len(new)), strict=True))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _write(file: Path, value: Any) -> None:
    """Whole, or as it was."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(value))
    partial.replace(file)
