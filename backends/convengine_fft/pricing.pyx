# cython: freethreading_compatible=True, language_level=3
"""What a call on tiles takes, compiled ones or SciPy's; and which take the least: a new problem compares hundreds."""

from libc.math cimport fmax, log2

# ---- how an axis is cut

cdef enum:
    AXES = 3
    LENGTHS = 32   # of tiles along an axis
    TILES = 1024   # that are compared

cdef struct cut_t:
    Py_ssize_t length, outputs, count  # of a tile's transform, of its results, and how many tiles


cdef class Cheapest:
    """The tiles of a problem, the cheapest first, as (lengths, their outputs, how many); of equals the smallest."""

    cdef cut_t cuts[AXES][LENGTHS]
    cdef int found[AXES]
    cdef double prices[TILES]
    cdef int ndim, total

    def __cinit__(self):
        self.ndim = self.total = 0

    def __iter__(self):
        return self

    def __next__(self):
        cdef int at, best = -1
        cdef cut_t tile[AXES]
        for at in range(self.total):
            if self.prices[at] >= 0 and (best < 0 or self.prices[at] < self.prices[best]):
                best = at
        if best < 0:
            raise StopIteration
        self.prices[best] = -1
        self.pick(best, tile)
        lengths = tile[0].length, tile[1].length, tile[2].length
        outputs = tile[0].outputs, tile[1].outputs, tile[2].outputs
        counts = tile[0].count, tile[1].count, tile[2].count
        return lengths[:self.ndim], outputs[:self.ndim], counts[:self.ndim]

    cdef void pick(self, int number, cut_t* tile) noexcept nogil:
        """A tile by its number: the last axis runs fastest."""
        cdef int axis
        for axis in range(AXES):
            tile[axis] = cut_t(1, 1, 1)
        for axis in range(self.ndim - 1, -1, -1):
            tile[axis] = self.cuts[axis][number % self.found[axis]]
            number //= self.found[axis]

    cdef int cut(self, lengths, widths, dense, double waste) except -1:
        """Cut each axis into tiles of every length that holds its kernel, up to the first that covers all.

        Leaves out what transforms `waste` times more than needed. Returns how many tiles there are.
        """
        cdef Py_ssize_t length, width, n, outputs, count, least
        cdef int axis, found, i
        if not len(lengths) == len(widths) == len(dense) <= AXES:
            raise ValueError(f"lengths, widths and outputs must be of as many axes; got {lengths}, {widths}, {dense}")
        self.ndim, self.total = len(widths), 1
        for axis in range(self.ndim):
            width, n, found, least = widths[axis], dense[axis], 0, 0
            for length in lengths[axis]:
                if length < width:
                    continue
                if found == LENGTHS:
                    raise ValueError(f"an axis may have {LENGTHS} lengths of tiles; got {lengths[axis]}")
                outputs = min(length - width + 1, max(n, 1))
                count = (n + outputs - 1) // outputs
                self.cuts[axis][found] = cut_t(length, outputs, count)
                found += 1
                least = length * count if found == 1 else min(least, length * count)
                if length >= width + n - 1:
                    break
            self.found[axis] = 0
            for i in range(found):
                if self.cuts[axis][i].length * self.cuts[axis][i].count <= waste * max(least, 1):
                    self.cuts[axis][self.found[axis]] = self.cuts[axis][i]
                    self.found[axis] += 1
            self.total *= self.found[axis]
        if self.total > TILES:
            raise ValueError(f"{self.total} tiles are too many to compare")
        return self.total


# ---- compiled tiles: measured as RATES in compiled.py, off by up to 1.3 there; FAR from the least time of images of
# 1024 and 4096 squared, one and two workers

cdef double CACHE = 800e3       # bytes: planes, spectrum and roots beyond these
cdef double STREAM = 0.12e-9    # cost so many seconds each
cdef double TOUCH = 0.03e-9     # per byte of samples and outputs
cdef double NEAR = 1 << 20      # bytes of x and out
cdef double FAR = 0.04e-9       # and seconds per byte beyond these, however many workers share them
cdef double ROW = 8e-9          # per row of each tile
cdef double PAIR = 0.3e-6
cdef double CALL = 5e-6
cdef double SERIAL = 32768      # samples in all tiles that one thread does alone: SERIAL_SAMPLES in tiles.pyx
cdef double WASTE = 2.5         # times the least transformed samples along an axis, with a tile that may be the fastest


cdef class Costs:
    """What a price of compiled tiles depends on: axes, bytes of a sample as computed, 5 N log2 N a second."""

    cdef double item, held, rate
    cdef int ndim

    def __init__(self, int ndim, int item, double rate):
        self.ndim, self.item, self.rate = ndim, item, rate
        self.held = (6 if ndim == 1 else 4) * item  # bytes of planes and spectrum by the sample of a tile

    cdef double price(self, cut_t* tile, double samples, double images, double threads) noexcept nogil:
        """Estimated time of one call, without what all calls take."""
        cdef double size = <double>tile[0].length * tile[1].length, rows = tile[0].length
        cdef double outputs = <double>tile[0].outputs * tile[1].outputs, count = <double>tile[0].count * tile[1].count
        cdef double pair, moved, rounds, pairs = <double>((<Py_ssize_t>count + 1) // 2)
        if self.ndim == 1:
            rows = rows_of(tile[0].length)
        pair = PAIR + 10 * size * log2(size) / self.rate + 2 * ROW * rows + STREAM * fmax(self.held * size - CACHE, 0)
        pair += TOUCH * 2 * (size + outputs) * self.item
        if images * pairs * 2 * size <= SERIAL:
            threads = 1
        rounds = <double>(<Py_ssize_t>((images * pairs + threads - 1) // threads))
        moved = images * (samples + outputs * count) * self.item
        return rounds * pair + FAR * fmax(moved - NEAR, 0)

    def seconds(self, tile, outputs, counts, double samples, Py_ssize_t images, Py_ssize_t threads):
        """Estimated time of one call, on so many images of so many samples."""
        cdef cut_t found[AXES]
        cdef int axis
        for axis in range(AXES):
            found[axis] = cut_t(1, 1, 1)
        for axis in range(self.ndim):
            found[axis] = cut_t(tile[axis], outputs[axis], counts[axis])
        return CALL + self.price(found, samples, images, threads)

    def tiles(self, lengths, widths, dense, double samples):
        """The tiles that can serve, for one image of so many samples and two workers the cheapest first."""
        cdef Cheapest order = Cheapest()
        cdef cut_t tile[AXES]
        cdef int number
        for number in range(order.cut([lengths] * self.ndim, widths, dense, WASTE)):
            order.pick(number, tile)
            order.prices[number] = self.price(tile, samples, 1, 2)
        return order


cdef inline Py_ssize_t rows_of(Py_ssize_t size) noexcept nogil:
    """Rows of a signal's tile: the power of two about its square root."""
    cdef Py_ssize_t bits = 0
    while size >> (bits + 1):
        bits += 1
    return <Py_ssize_t>1 << (bits // 2)


# ---- SciPy's transforms: measured in one thread on 2 cores of AMD Zen 4, 2026-11, by `timeit` of scipy.fft.rfftn,
# fftn, irfftn, ifftn, numpy.multiply over batches of 0.5 MB, and of whole filters over 16^2 to 1024^2 and 2e6 samples.
# Rough: other programs ran beside, and whole filters took 0.6 to 1.4 times what these constants say

cdef double TRANSFORM = 0.04e-9        # per byte of a sample and N log2 N: 0.13-0.20 ns float32, 0.19-0.31 float64
cdef double MULTIPLY = 0.1e-9          # per byte of a sample of N: one product of two spectra, added over channels
cdef double COPIES = 0.25e-9           # per byte of a sample of N: copied in, searched for its peak, copied out
cdef double TILE = 20e-6               # Python's share of one tile
cdef double SCIPY_CALL = 100e-6        # Python's share of one call
cdef double CROWDED = 1.6              # times TRANSFORM and COPIES for tiles too large for caches and vectors
cdef double CROWD = 4 << 20            # bytes: above four of these, or in 1-D above a quarter


cdef list doublings(widths, dense):
    """Lengths to compare along each axis: powers of two, from the kernel's width to that of one tile for all."""
    cdef int axis, ndim = len(widths), most = 16 if ndim == 1 else 8 if ndim == 2 else 6
    cdef Py_ssize_t length, least, whole
    cdef list lengths = [], axis_lengths
    for axis in range(ndim):
        # A spectrum of one number would let NumPy vectorise its product over the batch, and round it otherwise.
        least = length = 1 if axis < ndim - 1 else 2
        least = max(least, widths[axis])
        whole = max(least, dense[axis] - 1 + widths[axis])
        while length < least:
            length *= 2
        axis_lengths = [length]
        while length < whole and len(axis_lengths) < most:
            length *= 2
            axis_lengths.append(length)
        lengths.append(axis_lengths)
    return lengths


cdef class OverlapCosts:
    """What a price of SciPy's tiles depends on: axes, bytes of a sample as computed, channels and groups."""

    cdef double item, both, products, held
    cdef int ndim

    def __init__(self, int ndim, int item, channels, int groups):
        self.ndim, self.item, self.both = ndim, item, channels[0] + channels[1]
        self.products = channels[0] // groups * channels[1]
        self.held = (3 * channels[0] + 4 * channels[1]) * item  # bytes of working memory by the sample of a tile

    cdef double price(self, double size, double count, double images, double workers) noexcept nogil:
        """Estimated time of one call; only the transforms share the workers."""
        cdef double streams = self.both * (TRANSFORM * fmax(1, log2(size)) / workers + COPIES)
        # pocketfft's vectors hold up to four transforms: rows of one tile, but of a line only further tiles.
        if self.held * size > (CROWD / 4 if self.ndim == 1 else 4 * CROWD):
            streams *= CROWDED
        return SCIPY_CALL + images * count * (size * self.item * (streams + self.products * MULTIPLY) + TILE)

    def seconds(self, size, count, images, workers):
        """Estimated time of one call on `count` tiles an image."""
        return self.price(size, count, images, workers)

    def tiles(self, widths, dense, double most):
        """The tiles of `most` samples at most that can serve, for one image and one worker the cheapest first."""
        cdef Cheapest order = Cheapest()
        cdef cut_t tile[AXES]
        cdef int number
        cdef double size, count
        for number in range(order.cut(doublings(widths, dense), widths, dense, float("inf"))):
            order.pick(number, tile)
            size = <double>tile[0].length * tile[1].length * tile[2].length
            count = <double>tile[0].count * tile[1].count * tile[2].count
            order.prices[number] = self.price(size, count, 1, 1) if size <= most else -1
        return order


def least(int item, widths, double outputs, double threads, Py_ssize_t length, double rate):
    """A time that no call for so many outputs is said to take less than.

    Every sample of a transform would be a result, of the shortest that holds the kernel: from `length` on, at a `rate`
    no tile exceeds; SciPy's where there are no others, at a rate of 0.
    """
    cdef double size = 1, seconds, own, pair
    for width in widths:
        size *= <Py_ssize_t>width
    seconds = SCIPY_CALL + outputs * item * (2 * TRANSFORM * fmax(1, log2(size)) / threads + 2 * COPIES)
    if rate == 0:
        return seconds
    size = 1
    for width in widths:
        size *= max(length, <Py_ssize_t>width)
    pair = PAIR + 10 * size * log2(size) / rate if outputs > 0 else 0
    own = outputs * (5 * log2(size) / rate + 2 * TOUCH * item) / threads
    return min(seconds, CALL + fmax(pair, own))
