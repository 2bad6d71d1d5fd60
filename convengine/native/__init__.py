"""Compiled parts that backends share, plug-ins too: the CPU test, the thread pool, the vector header.

Compiled code says ``from convengine.native cimport pool``, and ``#include "vector.h"`` with the folder that `include`
names on the compiler's path.
"""

from collections.abc import Sequence
from pathlib import Path

try:
    from convengine.native import cpu
except ImportError as error:
    raise ImportError(
        f"convengine is imported from {Path(__file__).parents[1]}, which lacks its compiled parts: start Python in "
        "another folder than that of its sources, or install them in place, by pip install -e ."
    ) from error

__all__ = ["include", "isa_level"]


def isa_level(compiled: Sequence[str]) -> str:
    """Choose the instruction-set level to import a kernel module of.

    Parameters
    ----------
    compiled : sequence of str
        The levels that the kernels were compiled for, in any order, named as `cpu.levels` names them.

    Returns
    -------
    str
        The best level that is compiled and that this CPU runs; or the one that the environment variable CONVENGINE_ISA
        names, read at each call.

    Raises
    ------
    RuntimeError
        If CONVENGINE_ISA names a level that was not compiled or that this CPU can't run, or if no compiled level runs
        here; the text carries the level asked for, what this CPU runs and what was compiled.

    Examples
    --------
    >>> isa_level(["baseline", "arm64"]) in ("baseline", "arm64")
    True
    """
    runs = cpu.levels()
    asked = cpu.asked_level()
    facts = f"this CPU runs {', '.join(runs)}; compiled are {', '.join(compiled) or 'none'}"
    usable = [level for level in runs if level in compiled]
    if not usable:
        raise RuntimeError(f"a kernel needs a compiled level that this CPU runs; {facts}; build it on this machine")
    if not asked:
        return usable[0]
    if asked not in usable:
        raise RuntimeError(
            f"CONVENGINE_ISA needs a compiled level that this CPU runs; got {asked!r}; {facts}; "
            f"set it to {' or '.join(usable)}, or unset it"
        )
    return asked


def include() -> str:
    """Name the folder that holds vector.h, for the include path of a plug-in's compiler.

    Returns
    -------
    str
        An absolute path; pool.pxd lies there too, and Cython finds it by itself where convengine is installed.

    Examples
    --------
    >>> from pathlib import Path
    >>> (Path(include()) / "vector.h").exists()
    True
    """
    return str(Path(__file__).resolve().parent)
