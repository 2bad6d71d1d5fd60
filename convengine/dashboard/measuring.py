"""Runs asv's benchmarks on the convengine that is installed, and files what they find under the clone's commit."""

import fcntl
import json
import os
import platform
import re
import signal
import site
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
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
        r"^overhead\.(SmallCall|Planning|Import)",
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
GRACE = 10.0  # seconds that asv may take to end


class Failed(RuntimeError):
    """asv ended with an error; the text has its last lines."""


def configuration(clone: Clone, folder: Path, commits: Sequence[str] = ()) -> Path:
    """Write a configuration of asv that keeps everything in `folder` and knows of the commits; return its file."""
    values = json.loads((clone.folder / CONFIGURATION).read_text())
    values |= {"repo": str(clone.folder), "branches": clone.tips(commits), "benchmark_dir": str(clone.benchmarks)}
    values |= {name: str(folder / name) for name in ("results_dir", "html_dir", "env_dir")}
    file = folder / "asv.conf.json"
    file.write_text(json.dumps(values))
    return file


def is_measured(clone: Clone, selection: str) -> bool:
    """Whether this machine has measured the commit already; the full selection holds the quick one."""
    done = _done(clone)
    return done.is_file() and (selection in (words := done.read_text().split()) or "full" in words)


def measure(clone: Clone, selection: str, advance: Callable[[float], None]) -> list[str]:
    """Run a selection, calling `advance` with shares of the whole, and add the results to the clone's store.

    What is found before an interruption is added, too.

    Returns
    -------
    list of str
        The benchmarks that failed in some case.

    Raises
    ------
    Failed
        If asv does, or if another dashboard measures in this clone.
    """
    here = machine()
    clone.store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="convengine-dashboard-") as name, _alone(clone.store / "lock"):
        folder = Path(name)
        # asv keeps what it knows of machines in the user's home: it gets one that goes when it is done.
        (folder / ".asv-machine.json").write_text(json.dumps({"version": 1, here["machine"]: here}))
        patterns = [part for pattern in SELECTIONS[selection] for part in ("--bench", pattern)]
        attributes = [part for value in QUICK for part in ("-a", value)] if selection == "quick" else []
        command = ["run", "--config", str(configuration(clone, folder)), "-E", f"existing:{sys.executable}"]
        command += ["--set-commit-hash", clone.commit, "--machine", here["machine"], *patterns, *attributes]
        try:
            run_asv(command, folder, advance)
        except BaseException:  # Ctrl-C too: what was found until then is kept
            _file(clone, folder / "results_dir", selection)
            raise
        failed = _file(clone, folder / "results_dir", selection)
        if failed is None:
            raise Failed("asv measured nothing: is a benchmark's name or parameter gone?")
        done = _done(clone)
        done.write_text(f"{done.read_text() if done.is_file() else ''}{selection}\n")
        return failed


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold a lock: two at once would spoil each other's times."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failed("another dashboard measures in this clone; wait for its end") from None
        yield


def _file(clone: Clone, results: Path, selection: str) -> list[str] | None:
    """Add what asv has written to the store; return what failed, or None where there is nothing."""
    here = machine()
    found = [path for path in (results / here["machine"]).glob("*.json") if path.stem != "machine"]
    if not found:
        return None
    target = clone.store / here["machine"]
    target.mkdir(parents=True, exist_ok=True)
    _write(clone.store / "benchmarks.json", json.loads((results / "benchmarks.json").read_text()))
    _write(target / "machine.json", here)
    raw = json.loads(found[0].read_text())
    _add(raw, target / f"{clone.commit[:8]}-{ENVIRONMENT}.json", SELECTIONS[selection])
    # asv writes null for a case that failed, NaN for one that was refused or not asked for.
    return [name for name, columns in raw["results"].items() if columns[0] is None or None in columns[0]]


def run_asv(arguments: list[str], home: Path, advance: Callable[[float], None]) -> None:
    """Run asv, whose home is `home`.

    It has a process group of its own, so that Ctrl-C reaches it once, from here: it then ends the benchmark that runs.
    """
    environment = os.environ | {"HOME": str(home), "PYTHONUNBUFFERED": "1", "PYTHONUSERBASE": site.getuserbase()}
    environment.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    environment.setdefault("GIT_CONFIG_GLOBAL", str(Path.home() / ".gitconfig"))
    last: deque[str] = deque(maxlen=TOLD)
    reached = 0.0
    with subprocess.Popen(
        [sys.executable, "-m", "asv", *arguments],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last.append(line.decode(errors="replace").rstrip())
                if percent := PERCENT.match(line):
                    now = float(percent[1]) / 100
                    advance(max(now - reached, 0.0))
                    reached = max(reached, now)
        except BaseException:  # Ctrl-C too: nothing may go on running
            process.send_signal(signal.SIGINT)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    # 2: some benchmarks failed, which shows in the pages as a missing value
    if process.returncode not in (0, 2):
        raise Failed("asv failed: " + " / ".join(line for line in last if line.strip()))


def _done(clone: Clone) -> Path:
    return clone.store / str(machine()["machine"]) / f"{clone.commit[:8]}-{ENVIRONMENT}.done"


def _add(new: dict[str, Any], file: Path, patterns: Sequence[str] = (".",)) -> None:
    """Write a result file; what it holds of cases that the patterns did not ask for stays.

    The interpreter's path, which asv writes in three places, becomes its version.
    """
    new["env_name"], new["python"] = ENVIRONMENT, platform.python_version()
    new["params"]["python"] = new["python"].rpartition(".")[0]
    if file.is_file():
        old = json.loads(file.read_text())
        for name, columns in old["results"].items():
            new["results"][name] = _merged(name, columns, new["results"].get(name), patterns)
    _write(file, new)


def _merged(name: str, old: list[Any], new: list[Any] | None, patterns: Sequence[str]) -> list[Any]:
    """Columns of a benchmark, case by case: the new ones where they were asked for."""
    if new is None:
        return old
    if not old[0] or not new[0] or old[1:3] != new[1:3]:
        return new  # all failed, or other parameters or another version: not to be mixed
    cases = [f"{name}({', '.join(texts)})" if texts else name for texts in product(*new[1])]  # as asv matches them
    asked = [any(re.search(pattern, case) for pattern in patterns) for case in cases]
    size = max(len(old), len(new))
    merged = []
    for column in range(size):
        before, after = (row[column] if column < len(row) else None for row in (old, new))
        if column != 1 and isinstance(before, list) and isinstance(after, list) and len(before) == len(asked):
            after = [a if wanted else b for a, b, wanted in zip(after, before, asked, strict=True)]
        merged.append(after)
    return merged


def _write(file: Path, value: Any) -> None:
    """Whole, or as it was."""
    with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".partial", delete=False) as partial:
        partial.write(json.dumps(value))
    Path(partial.name).chmod(0o644)  # as other files, not a temporary one's
    Path(partial.name).replace(file)
