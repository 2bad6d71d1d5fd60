"""Finds the backends: entry points of the group ``convengine.backends``, each loaded when first asked for.

A plug-in that cannot be loaded becomes one that refuses everything with its error.
"""

import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from convengine.plugin import API, Backend, BackendInfo, Offer, Plan, Refusal, Solve
from convengine.problem import KernelFacts, Problem

__all__ = ["GROUP", "Broken", "all_backends", "forget", "get", "info", "names", "several", "stand_in"]

GROUP = "convengine.backends"
MOST_KEPT = 64  # sets of names, of those that may run


@dataclass(frozen=True)
class Broken:
    """Stands for a plug-in that could not be loaded: refuses with the reason."""

    name: str
    reason: str

    def offers(self, problem: Problem, facts: KernelFacts) -> Refusal:
        """Refuse."""
        return Refusal(self.reason)

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> Plan:
        """Refuse: no offer was made."""
        raise RuntimeError(self.reason)

    def info(self) -> BackendInfo:
        """Say why it is not usable."""
        return BackendInfo(usable=False, reason=self.reason, device="")


@dataclass
class _Registry:
    lock: Any = field(default_factory=threading.RLock)
    points: dict[str, list[EntryPoint]] | None = None
    loaded: dict[str, Backend] = field(default_factory=dict)
    several: dict[tuple[str, ...], tuple[tuple[str, Backend], ...]] = field(default_factory=dict)


_registry = _Registry()
if hasattr(os, "register_at_fork"):  # a forked child may find the lock in the hands of a thread that it lacks
    os.register_at_fork(after_in_child=lambda: setattr(_registry, "lock", threading.RLock()))


def _points() -> dict[str, list[EntryPoint]]:
    if (found_before := _registry.points) is not None:
        return found_before
    with _registry.lock:
        if _registry.points is None:
            found: dict[str, dict[tuple[str, str], EntryPoint]] = defaultdict(dict)
            for point in entry_points(group=GROUP):
                # An editable install and its metadata folder may both list one distribution.
                found[point.name][point.value, _distribution(point)] = point
            _registry.points = {name: list(found[name].values()) for name in sorted(found)}
        return _registry.points


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown distribution"


def names() -> tuple[str, ...]:
    """Names of all installed backends, sorted."""
    return tuple(_points())


def get(name: str) -> Backend:
    """Return the backend of an installed name, loading it on first use; KeyError if there is none."""
    backend = _registry.loaded.get(name)
    if backend is None:
        with _registry.lock:
            backend = _registry.loaded.get(name) or _load(name, _points()[name])
            _registry.loaded[name] = backend
    return backend


def several(names: tuple[str, ...]) -> tuple[tuple[str, Backend], ...]:
    """Return backends with their names, sorted; KeyError for a name that is not installed."""
    found = _registry.several.get(names)
    if found is None:
        with _registry.lock:  # held, so that none is replaced meanwhile
            found = tuple((name, get(name)) for name in sorted(names))
            if len(_registry.several) >= MOST_KEPT:
                _registry.several.clear()
            _registry.several[names] = found
    return found


def _load(name: str, points: list[EntryPoint]) -> Backend:
    if len(points) > 1:
        owners = " and ".join(sorted(f"{_distribution(point)} ({point.value})" for point in points))
        return Broken(name, f"several plug-ins are called {name!r}: {owners}; uninstall all but one")
    point = points[0]
    try:
        loaded: Any = point.load()
        backend = loaded() if isinstance(loaded, type) else loaded
        built, called = getattr(backend, "api", API), getattr(backend, "name", name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # whatever a plug-in does at import, SystemExit too, only it must suffer
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Broken(name, f"could not be loaded from {_distribution(point)}: {text}")
    if built != API:
        return Broken(name, f"{_distribution(point)} was built for plug-in API {built}; this is API {API}; update it")
    if not isinstance(backend, Backend):
        return Broken(
            name, f"{_distribution(point)}: {point.value} has no name, offers and plan, which a backend needs"
        )
    if called != name:
        return Broken(name, f"{_distribution(point)}: its name is {called!r}, but its entry point says {name!r}")
    return backend


def all_backends() -> Iterator[tuple[str, Backend]]:
    """Every installed backend, loaded, by name."""
    for name in names():
        yield name, get(name)


def info(name: str) -> BackendInfo:
    """Say what an installed backend is, on this machine."""
    backend = get(name)
    describe = getattr(backend, "info", None)
    if describe is None:
        dist = _points()[name][0].dist
        return BackendInfo(usable=True, version=dist.version if dist else "")
    try:
        described = describe()
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a plug-in's fault is its own refusal
        return BackendInfo(usable=False, reason=f"info() failed: {type(error).__name__}: {error}", device="")
    return described if isinstance(described, BackendInfo) else BackendInfo(usable=True)


def stand_in(name: str, backend: Backend) -> None:
    """Let another backend answer for an installed name, in this process, until `forget`."""
    with _registry.lock:
        _registry.loaded[name] = backend
        _registry.several.clear()


def forget() -> None:
    """Drop what was found and loaded, so that newly installed plug-ins are seen."""
    with _registry.lock:
        _registry.points = None
        _registry.loaded.clear()
        _registry.several.clear()
