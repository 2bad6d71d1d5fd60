"""Who takes part: our automatic choice, our methods one by one, and the peers that are installed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from convengine.bench.peers import PEERS
from convengine.native import cpu

__all__ = ["Contestant", "missing", "our_contestants", "peer_contestants"]

OURS = "convengine.bench.ours:Ours"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A line of a comparison, and how its process is made."""

    name: str
    entry: str
    is_ours: bool = False
    level: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def our_contestants(methods: Sequence[str], levels: Sequence[str]) -> list[Contestant]:
    """One for each method and level.

    Parameters
    ----------
    methods : sequence of str
        "auto" for the automatic choice, or a backend's name, or "backend/method" where `method` is how the name of
        the method starts: "cython/direct".
    levels : sequence of str
        Of `cpu.levels()`, to be forced; none: the best.

    Returns
    -------
    list of Contestant
        Level by level, in the order of the methods.

    Examples
    --------
    >>> from convengine.bench import our_contestants
    >>> [one.name for one in our_contestants(["auto", "cython/direct"], [])]
    ['convengine', 'cython/direct']
    >>> [one.name for one in our_contestants(["auto"], ["avx512", "avx2"])]
    ['convengine avx512', 'convengine avx2']
    """
    found = []
    for level in levels or [""]:
        for method in methods:
            backend, _, start = ("", "", "") if method == "auto" else method.partition("/")
            name = "convengine" if method == "auto" else method
            found.append(
                Contestant(
                    f"{name} {level}" if len(levels) > 1 else name,
                    OURS,
                    is_ours=True,
                    level=level or cpu.levels()[0],
                    arguments={"backend": backend or None, "method": start},
                    environment={"CONVENGINE_ISA": level} if level else {},
                )
            )
    return found


def peer_contestants(names: Sequence[str]) -> list[Contestant]:
    """Those that are installed.

    Parameters
    ----------
    names : sequence of str
        Of `PEERS`.

    Returns
    -------
    list of Contestant
        In the order of the names.

    Raises
    ------
    KeyError
        For a name that is not in `PEERS`.

    Examples
    --------
    >>> from convengine.bench import peer_contestants
    >>> [one.name for one in peer_contestants(["numpy", "ndimage"])]
    ['numpy', 'ndimage']
    """
    return [
        Contestant(name, PEERS[name].entry, environment=dict(PEERS[name].environment))
        for name in names
        if not PEERS[name].missing
    ]


def missing(names: Sequence[str]) -> dict[str, str]:
    """What to install for the others.

    Parameters
    ----------
    names : sequence of str
        As for `peer_contestants`.

    Returns
    -------
    dict of str to str
        A command for each name that `peer_contestants` leaves out.

    Raises
    ------
    KeyError
        As `peer_contestants`.

    Examples
    --------
    >>> from convengine.bench import missing
    >>> missing(["numpy", "ndimage"])  # which convengine needs itself
    {}
    """
    return {name: f"pip install {PEERS[name].install}" for name in names if PEERS[name].missing}
