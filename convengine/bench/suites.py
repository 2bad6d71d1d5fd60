"""The named lists of tasks, each the question that it answers."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from convengine.bench.tasks import Task

__all__ = ["DEFAULT", "SUITES", "Suite"]

DENSE = (15, 21, 31, 47, 63, 95, 127)
SMALL = (3, 5, 7, 9, 11)
# Each image has twice the pixels of the one before: 256 * sqrt(2)**n a side.
DOUBLING = (256, 362, 512, 724, 1024, 1448, 2048, 2896, 4096, 5793, 8192)
TAPS = (15, 63, 255, 1023, 4095, 16383, 99999)


@dataclass(frozen=True, slots=True)
class Suite:
    """Every size with every width in every dtype; or, of another `measure` than "time", what that one says.

    Attributes
    ----------
    title : str
        The question that it answers.
    sizes, widths : tuple of int
        Of x and of the kernel along each axis, in samples.
    dtypes : tuple of str
        Of x.
    kind : {"image", "gaussian", "signal"}
        Of its tasks; a signal has one axis, the others two.
    measure : {"time", "memory", "limits", "pool"}
        What is measured: the time of calls, their peak memory, the machine's peaks and copies, the cost of parallel
        regions.
    seconds : float
        That a turn measures, unless the settings say another time.

    Examples
    --------
    >>> from convengine.bench import SUITES, Suite
    >>> [str(task) for task in Suite("two kernels", sizes=(256,), widths=(3, 5)).tasks()]
    ['float32 256x256 * 3x3', 'float32 256x256 * 5x5']
    >>> [str(task) for task in SUITES["direct"].narrowed([512], [3], ["float64"]).tasks()]
    ['float64 512x512 * 3x3']
    """

    title: str
    sizes: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    dtypes: tuple[str, ...] = ("float32",)
    kind: str = "image"
    measure: str = "time"  # "memory", "limits", "pool"
    seconds: float = 0.3  # of a turn

    def narrowed(self, sizes: Iterable[int], widths: Iterable[int], dtypes: Iterable[str]) -> "Suite":
        """Return it with other sizes, widths or dtypes, where any are given.

        Parameters
        ----------
        sizes, widths, dtypes : iterable
            Instead of its own; an empty one leaves them.

        Returns
        -------
        Suite
        """
        return replace(
            self,
            sizes=tuple(sizes) or self.sizes,
            widths=tuple(widths) or self.widths,
            dtypes=tuple(dtypes) or self.dtypes,
        )

    def tasks(self) -> list[Task]:
        """The tasks; a signal shorter than its kernel is none.

        Returns
        -------
        list of Task
            Dtype by dtype, size by size, in the order of the widths.
        """
        return [
            self._task(size, width, dtype)
            for dtype in self.dtypes
            for size in self.sizes
            for width in self.widths
            if self.kind != "signal" or width <= size
        ]

    def _task(self, size: int, width: int, dtype: str) -> Task:
        axes = 1 if self.kind == "signal" else 2
        return Task(self.kind, (size,) * axes, (width,) * axes, dtype)


DEFAULT = "quick"
SUITES = {
    "quick": Suite("float32 images of 1024 x 1024: about a minute", (1024,), (3, 5, 7, 11, 15, 31, 63), seconds=0.1),
    "small": Suite("single calls on small images", (8, 16, 32, 64), (3,)),
    "direct": Suite("small kernels", (256, 1024, 4096), SMALL),
    "large": Suite("large kernels", (1024, 4096), DENSE),
    "float64": Suite("double precision", (256, 1024, 4096), (*SMALL, 15, 31, 63), ("float64",)),
    "uint8": Suite("8-bit images, integer kernels", (256, 1024, 4096), SMALL, ("uint8",)),
    "gaussian": Suite("Gaussians given as plain kernels", (1024, 4096), (*SMALL, 15, 21, 31, 47, 63), kind="gaussian"),
    "signals": Suite("signals, short and long", (10**4, 10**5, 10**6, 10**7), TAPS, kind="signal"),
    "scaling": Suite("twice the pixels, and again", DOUBLING, (5,)),
    "memory": Suite("peak memory of one call", (1024, 4096), (3, 7, 11, 31, 63, 127), measure="memory"),
    "limits": Suite("what this machine can do at most", (256, 1024, 4096, 8192), measure="limits"),
    "pool": Suite("what a parallel region costs", measure="pool"),
}
