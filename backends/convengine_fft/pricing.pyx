# cython: freethreading_compatible=True, language_level=3
"""What a call on compiled tiles takes, and which take the least: some dozens are compared for every new problem."""

from libc.math cimport fmax, log2

# Measured as RATES in compiled.py, whose model this is; it is off by up to 1.3 there. FAR from the least time of images
# of 1024 and 4096 squared, one and two workers.
cdef double CACHE = 800e3       # bytes: planes, spectrum and roots beyond these
cdef double STREAM = 0.12e-9    # cost so many seconds each
cdef double TOUCH = 0.03e-9     # per byte of samples and outputs
cdef double NEAR = 1 << 20      # bytes of x and out
cdef double FAR = 0.04e-9       # and seconds per byte beyond these, however many workers share them
cdef double ROW = 8e-9          # per row of each tile
cdef double PAIR = 0.3e-6
cdef double CALL = 5e-6
cdef double WASTE = 2.5         # times the least transformed samples along an axis, with a tile that may be the fastest

cdef enum:
    MOST = 64  # lengths of an axis


cdef struct cut_t:
    Py_ssize_t length, outputs, count  # of a tile's transform, of its results, and how many tiles


cdef inline Py_ssize_t rows_of(Py_ssize_t size) noexcept nogil:
    """Rows of a signal's tile: the power of two about its square root."""
    cdef Py_ssize_t bits = 0
    while size >> (bits + 1):
        bits += 1
    return <Py_ssize_t>1 << (bits // 2)


cdef class Costs:
    """What a price needs to know of a problem: bytes of a sample as computed, of planes and spectrum by the sample of a
    tile; 5 N log2 N a second; samples of an image, and its axes."""

    cdef double item, held, rate, samples
    cdef int ndim

    def __init__(self, int ndim, int item, double rate, samples):
        self.ndim, self.item, self.rate, self.samples = ndim, item, rate, samples
        self.held = (6 if ndim == 1 else 4) * item

    cdef double price(self, cut_t* down, cut_t* along, double images, double threads) noexcept nogil:
        """Estimated time of one call, without what all calls take; `down` is of one sample in a signal."""
        cdef double size = <double>down.length * along.length, rows = down.length
        cdef double outputs = <double>down.outputs * along.outputs, count = <double>down.count * along.count
        cdef double pair, moved, rounds, pairs = <double>((<Py_ssize_t>count + 1) // 2)
        if self.ndim == 1:
            rows = rows_of(along.length)
        pair = PAIR + 10 * size * log2(size) / self.rate + 2 * ROW * rows + STREAM * fmax(self.held * size - CACHE, 0)
        pair += TOUCH * 2 * (size + outputs) * self.item
        rounds = <double>(<Py_ssize_t>((images * pairs + threads - 1) // threads))
        moved = images * (self.samples + outputs * count) * self.item
        return rounds * pair + FAR * fmax(moved - NEAR, 0)

    def seconds(self, tile, outputs, counts, Py_ssize_t images, Py_ssize_t threads):
        """Estimated time of one call."""
        cdef cut_t down = [1, 1, 1], along
        cdef int last = self.ndim - 1
        if last:
            down.length, down.outputs, down.count = tile[0], outputs[0], counts[0]
        along.length, along.outputs, along.count = tile[last], outputs[last], counts[last]
        return CALL + self.price(&down, &along, images, threads)

    def tiles(self, lengths, widths, dense):
        """(tile, its outputs, how many) of each tile that can serve, for one image and two workers the cheapest first.

        Of the lengths, ascending: from the dilated kernel's width to the first that covers all.
        """
        cdef cut_t cuts[2][MOST]
        cdef cut_t* down
        cdef cut_t* along
        cdef int found[2]
        cdef int axis, i, j
        cuts[0][0], found[0] = cut_t(1, 1, 1), 1
        for axis in range(self.ndim):
            i = axis + 2 - self.ndim
            found[i] = cut(cuts[i], lengths, widths[axis], dense[axis])
        priced = []
        for i in range(found[0]):
            for j in range(found[1]):
                down, along = &cuts[0][i], &cuts[1][j]
                priced.append((self.price(down, along, 1, 2), i, j))
        priced.sort()
        result = []
        for _, i, j in priced:
            down, along = &cuts[0][i], &cuts[1][j]
            if self.ndim == 1:
                result.append(((along.length,), (along.outputs,), (along.count,)))
            else:
                result.append(((down.length, along.length), (down.outputs, along.outputs), (down.count, along.count)))
        return result


cdef int cut(cut_t* cuts, lengths, Py_ssize_t width, Py_ssize_t n) except -1:
    """Cut an axis of n results into tiles of each length; leave out what transforms far too much."""
    cdef Py_ssize_t length, outputs, count, least = 0
    cdef int found = 0, kept = 0, i
    for length in lengths:
        if length < width or found == MOST:
            continue
        outputs = min(length - width + 1, max(n, 1))
        count = (n + outputs - 1) // outputs
        cuts[found] = cut_t(length, outputs, count)
        found += 1
        least = length * count if found == 1 else min(least, length * count)
        if length >= width + n - 1:
            break
    for i in range(found):
        if cuts[i].length * cuts[i].count <= WASTE * least:
            cuts[kept] = cuts[i]
            kept += 1
    return kept
