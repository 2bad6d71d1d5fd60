# cython: freethreading_compatible=True, language_level=3
"""What this machine can do at most: multiply-adds per second, copies, and what a parallel region costs.

A filter that reaches one of these cannot become faster. `convengine bench` measures them beside the filters.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from convengine.native cimport pool
from convengine.native import cpu


cdef extern from "peaks.h" nogil:
    ctypedef double (*multiply_add_t "ce_multiply_add_t")(int64_t turns, double factor, double term) noexcept nogil
    multiply_add_t multiply_add "ce_multiply_add"(const char* level, bint is_double, int* lanes)
    void stream "ce_stream"(void* target, const void* source, size_t count)
    int64_t nanoseconds "ce_nanoseconds"()
    bint STREAMS "CE_STREAMS"
    int CHAINS "CE_CHAINS"

cdef enum:
    PIECE = 1 << 17          # bytes that a worker copies at once: far below where memcpy itself passes the caches by
    ITEM_NS = 200_000        # what an item of multiply-adds takes: long beside fetching it, short beside a time slice
    ITEMS = 4                # of them for each worker in a region
    ALIGNMENT = 64


# ---- multiply-adds

ctypedef struct arithmetic_t:
    multiply_add_t loop
    int64_t turns
    double* sums


cdef void multiply(void* context, Py_ssize_t item, int worker) noexcept nogil:
    cdef arithmetic_t* a = <arithmetic_t*>context
    a.sums[item] = a.loop(a.turns, 0.5, 1.0)


def flops(str level, str element="float32", *, int workers=1, double seconds=0.02) -> float:
    """Measure the peak rate of multiply-adds in registers.

    Parameters
    ----------
    level : str
        One of `cpu.levels()`.
    element : {"float32", "float64"}
        Of the vectors.
    workers : int
        Threads.
    seconds : float
        How long to measure; the best of many short regions counts.

    Returns
    -------
    float
        Floating point operations per second, two for each multiply-add. "baseline" multiplies and adds apart.

    Raises
    ------
    ValueError
        If this CPU does not run the level, or the element is another; the text carries what it runs.

    Examples
    --------
    >>> from convengine.native import cpu, limits
    >>> limits.flops(cpu.levels()[0], seconds=1e-3) > 1e6
    True
    """
    if level not in cpu.levels():
        raise ValueError(f"level must be one that this CPU runs, {', '.join(cpu.levels())}; got {level!r}")
    if element not in ("float32", "float64"):
        raise ValueError(f"element must be float32 or float64; got {element!r}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1; got {workers}")
    cdef arithmetic_t a
    cdef int lanes = 0
    cdef int64_t start, taken, least = 0, until
    cdef Py_ssize_t items = ITEMS * workers
    cdef double[::1] sums = memoryview(bytearray(8 * items)).cast("d")
    cdef bytes encoded = level.encode()
    a.loop = multiply_add(encoded, element == "float64", &lanes)
    a.sums = &sums[0]
    a.turns = 1000
    start = nanoseconds()
    multiply(&a, 0, 0)  # the first is slow: AVX-512 units wake up
    start = nanoseconds()
    multiply(&a, 0, 0)
    a.turns = max(1000, 1000 * ITEM_NS // max(nanoseconds() - start, 1))
    until = nanoseconds() + <int64_t>(seconds * 1e9)
    with nogil:
        while True:
            start = nanoseconds()
            pool.run(multiply, &a, items, workers)
            taken = nanoseconds() - start
            least = taken if least == 0 else min(least, taken)
            if nanoseconds() >= until:
                break
    return 2.0 * CHAINS * lanes * a.turns * items / (least * 1e-9)


# ---- copies

ctypedef struct copy_t:
    const char* source
    char* target
    size_t count
    bint streams


cdef void copy_piece(void* context, Py_ssize_t item, int worker) noexcept nogil:
    cdef copy_t* c = <copy_t*>context
    cdef size_t first = <size_t>item * PIECE
    cdef size_t count = min(<size_t>PIECE, c.count - first)
    if c.streams:
        stream(c.target + first, c.source + first, count)
    else:
        memcpy(c.target + first, c.source + first, count)


def streams() -> bool:
    """Tell whether `copy` has stores that pass the caches by on this CPU."""
    return bool(STREAMS)


def copy(const unsigned char[::1] source, unsigned char[::1] target, *, bint nontemporal=False, int workers=1) -> None:
    """Copy bytes, in pieces that threads fetch one by one.

    Parameters
    ----------
    source, target : contiguous buffers of uint8, of one length
        The target starts at a multiple of 64.
    nontemporal : bool
        Whether stores pass the caches by; where the CPU has none such (see `streams`), this is a ValueError.
    workers : int
        Threads.

    Raises
    ------
    ValueError
        For buffers of two lengths, or a target that is not aligned.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine.native import limits
    >>> room = np.zeros(1000 + 64, np.uint8)
    >>> start = -room.ctypes.data % 64
    >>> target = room[start : start + 1000]
    >>> limits.copy(np.full(1000, 7, np.uint8), target)
    >>> bool((target == 7).all())
    True
    """
    if source.shape[0] != target.shape[0]:
        raise ValueError(f"source and target need one length; got {source.shape[0]} and {target.shape[0]} bytes")
    if nontemporal and not STREAMS:
        raise ValueError("nontemporal needs a CPU with such stores; this one has none here; see streams()")
    if source.shape[0] == 0:
        return
    if <size_t>&target[0] % ALIGNMENT:
        raise ValueError(f"target must start at a multiple of {ALIGNMENT}; got address {<size_t>&target[0]}")
    cdef copy_t c
    c.source = <const char*>&source[0]
    c.target = <char*>&target[0]
    c.count = source.shape[0]
    c.streams = nontemporal
    with nogil:
        pool.run(copy_piece, &c, (c.count + PIECE - 1) // PIECE, workers)


# ---- parallel regions

cdef void busy(void* context, Py_ssize_t item, int worker) noexcept nogil:
    cdef int64_t until = nanoseconds() + (<int64_t*>context)[0]
    while nanoseconds() < until:
        pass


def region(int workers, *, double idle=0.0, double work=1e-4, int repeats=50) -> list[float]:
    """Measure what a parallel region costs beyond its work.

    Parameters
    ----------
    workers : int
        Threads; the region has as many items.
    idle : float
        Seconds from one region to the next, in which the caller keeps its core and the helpers have nothing to do:
        below 50 us they still watch for work, after that they sleep.
    work : float
        Seconds that each item takes. A cost beyond it cannot be seen: the caller then does the items itself.
    repeats : int
        Regions that are measured, after one that is not.

    Returns
    -------
    list of float
        For each region its seconds less `work`: opening it, waking the helpers, waiting for the last.

    Examples
    --------
    >>> from convengine.native import limits
    >>> len(limits.region(2, work=1e-6, repeats=3))
    3
    """
    cdef int64_t work_ns = <int64_t>(work * 1e9), idle_ns = <int64_t>(idle * 1e9), start
    costs = []
    for repeat in range(repeats + 1):
        with nogil:
            busy(&idle_ns, 0, 0)
            start = nanoseconds()
            pool.run(busy, &work_ns, workers, workers)
            start = nanoseconds() - start
        if repeat:
            costs.append((start - work_ns) * 1e-9)
    return costs
