"""The clone of the project whose benchmarks are run: asv needs its folder asv_bench and its history."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convengine.native import cpu

__all__ = ["Clone", "NoClone", "machine"]

CONFIGURATION = Path("asv_bench") / "asv.conf.json"


class NoClone(RuntimeError):
    """There is no clone, or it lacks its history."""


@dataclass(frozen=True, slots=True)
class Clone:
    """A clone, by its top folder and the commit that is checked out."""

    folder: Path
    commit: str

    @classmethod
    def find(cls, start: Path) -> "Clone":
        """Find it at `start`, in a folder above, or where convengine was installed from in place."""
        for folder in (start, *start.parents, Path(__file__).parents[2]):
            if _is_ours(folder / CONFIGURATION):
                return cls(folder, _git(folder, "rev-parse", "HEAD"))
        raise NoClone(
            f"the dashboard needs a clone of the project: its benchmarks are no part of what is installed; there is no "
            f"{CONFIGURATION} in {start} or above; change into a clone and run this again"
        )

    @property
    def benchmarks(self) -> Path:
        """Where asv finds the benchmarks."""
        return self.folder / "asv_bench" / "benchmarks"

    @property
    def history(self) -> Path:
        """What the project itself has measured, commit by commit."""
        return self.folder / "asv_bench" / "results"

    @property
    def store(self) -> Path:
        """What was measured here; git ignores it."""
        return self.folder / ".asv" / "results"

    def tips(self, commits: Sequence[str]) -> list[str]:
        """The checked-out commit and those of `commits` that it does not descend from: what asv is to call branches."""
        return _git(self.folder, "merge-base", "--independent", self.commit, *commits).split()

    @property
    def changed(self) -> bool:
        """Whether what is installed differs from the commit that the figures will be filed under.

        The clone's sources may be changed, or the installation be that of another commit: its Python files tell.
        """
        if _git(self.folder, "status", "--porcelain", "--untracked-files=no"):
            return True
        installed, here = Path(__file__).parents[1], self.folder / "convengine"
        return any(
            not (installed / name).is_file() or (installed / name).read_bytes() != (here / name).read_bytes()
            for name in (file.relative_to(here) for file in here.rglob("*.py"))
        )

    def subjects(self, commits: Iterable[str]) -> dict[str, str]:
        """The first lines of commits' messages, of those that the clone has: a shallow one lacks some."""
        found = {}
        for commit in commits:
            try:
                found[commit] = _git(self.folder, "log", "-1", "--format=%s", commit, "--")
            except NoClone:
                continue
        return found


def _is_ours(file: Path) -> bool:
    try:
        return bool(json.loads(file.read_text())["project"] == "convengine")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _git(folder: Path, *arguments: str) -> str:
    try:
        ran = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise NoClone("the dashboard needs git, to know which commit is measured; install it") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()
        raise NoClone(f"{folder} is no clone with a history: git says: {reason[0] if reason else error}") from None
    return ran.stdout.strip()


def machine() -> dict[str, Any]:
    """What asv writes beside results: a name, the CPU, the system; nothing of the user."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", platform.node()) or "here"
    try:
        memory = str(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        memory = ""
    return {
        "machine": name,
        "arch": platform.machine(),
        "cpu": cpu.name(),
        "num_cpu": str(cpu.available_workers()),
        "os": f"{platform.system()} {platform.release().partition('-')[0]}",
        "ram": memory,
        "version": 1,
    }
