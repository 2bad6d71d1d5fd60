# How the work is cut into items, and what scratch an item needs.

cdef enum:
    CACHED = 16777216          # larger results pass by the caches: half of a third-level cache of 32 MB
    L2_BYTES = 262144          # of x rows that a band reads, or of scratch: a quarter of the second-level cache
    ITEM_TAPS = 4194304        # multiply-adds of an item: 0.1 ms at best, some ms at worst, for a prompt Ctrl-C
    SERIAL_VECTORS = 40000     # vector multiply-adds that one thread does alone, see is_serial
    NARROW_BYTES = 1024        # of a row that is fetched whole: 64^2 took 1.9 us so and 2.9 by edges, 128^2 6.1 and 7.8
    DIRECT_COLUMNS = 8192
    EDGE_COLUMNS = 4096


cdef Py_ssize_t halved(Py_ssize_t value, Py_ssize_t least) noexcept nogil:
    return max(least, (value + 1) // 2)


cdef Py_ssize_t pieces(Py_ssize_t total, Py_ssize_t size) noexcept nogil:
    """Pieces of at least `size`: a remainder goes to the last one, which stays below twice the size."""
    return max(1, total // size) if total > 0 else 0


cdef inline bint is_serial(double products, double outputs) noexcept nogil:
    """Whether a second thread would cost more than it gives.

    One thread does about 2.5 vector multiply-adds per nanosecond, and an output costs as much as four more, so that the
    limit stands for 16 us. Measured on two cores of AMD Zen 4, 2026-11: with a helper that still watches for work 22 us
    become 12; one that sleeps begins 20 to 50 us later, and waking it keeps the caller for 2 to 7.
    """
    return products + 4 * outputs <= <double> SERIAL_VECTORS * CE_LANES


cdef inline bint narrow(const Work* w) noexcept nogil:
    """Whether fetching a row with its borders costs less than two edges of its own."""
    return w.inner == w.planes * w.widths[0] == 1 and w.direct_to - w.direct_from < w.out_row \
        and w.out_row * <Py_ssize_t> sizeof(T) <= NARROW_BYTES


cdef void find_direct(Work* w, bint x_direct) noexcept nogil:
    """Find the columns whose whole window can be read in place; edges are at least one vector wide."""
    cdef Py_ssize_t reach = (w.widths[2] - 1) * w.dilation[2] * w.inner
    w.out_row = w.out_sizes[2] * w.inner
    w.direct_from = min(w.before[2] * w.inner, w.out_row)
    w.direct_to = min((w.before[2] + w.sizes[2]) * w.inner - reach, w.out_row)
    if w.direct_from > 0:
        w.direct_from = max(w.direct_from, CE_LANES)
    if w.direct_to < w.out_row:
        w.direct_to = min(w.direct_to, w.out_row - CE_LANES)
    if not x_direct or w.direct_to - w.direct_from < max(w.out_row // 2, CE_LEAST) or narrow(w):
        w.direct_from = w.direct_to = w.out_row


cdef void measure_rows(Work* w) noexcept nogil:
    """Padded rows that a band needs, and the elements of a scratch row."""
    cdef Py_ssize_t reach = (w.widths[2] - 1) * w.dilation[2] * w.inner
    w.span = (2 * w.band - 2) * w.stride[1] + (w.widths[1] - 1) * w.dilation[1] + 1
    w.phase = max(2 * w.edge_chunk - 1, CE_LANES) + reach // w.stride[2] + 1
    w.row = phases_of(w) * w.phase


cdef void count_pieces(Work* w) noexcept nogil:
    """How many bands, splits and chunks there are."""
    if w.direct_to <= w.direct_from:
        w.chunk = w.edge_chunk
    w.bands = pieces(w.out_sizes[1], w.band)
    w.splits = pieces(w.blocks, w.split)
    w.chunks = pieces(w.out_row, w.chunk)


cdef void cut(Work* w, bint x_direct, int workers, Py_ssize_t images) noexcept nogil:
    """Choose bands, chunks and splits. They never change a result's bits, so they may follow the workers."""
    cdef Py_ssize_t planes = w.planes * w.widths[0], kernel = planes * w.widths[1] * w.widths[2]
    cdef Py_ssize_t least_band = w.tall * w.dilation[1] if w.streams == 1 and w.stride[1] == 1 else 1
    cdef Py_ssize_t least_chunk = 4 * LINE_VECTORS * CE_LANES, needed
    find_direct(w, x_direct)
    if w.two_passes:
        cut_strips(w, workers, images)
        count_pieces(w)
        return
    w.edge_chunk = min(w.out_row, EDGE_COLUMNS)
    w.chunk = w.edge_chunk
    if w.direct_to > w.direct_from:
        w.chunk = min(w.out_row, DIRECT_COLUMNS)
        w.edge_chunk = min(w.edge_chunk, max(w.direct_from, w.out_row - w.direct_to, <Py_ssize_t> CE_LANES))
    w.split = w.blocks
    w.band = max(least_band, min(64, L2_BYTES // max(1, w.chunk * planes * <Py_ssize_t> sizeof(T))))
    w.band = min(w.out_sizes[1], w.band)
    while w.band * w.chunk * kernel * w.split * w.tall_streams > ITEM_TAPS and w.band > least_band:
        w.band = halved(w.band, least_band)
    while w.band * w.chunk * kernel * w.split * w.tall_streams > ITEM_TAPS and w.split > 1:
        w.split = halved(w.split, 1)
    while w.band * w.chunk * kernel * w.split * w.tall_streams > ITEM_TAPS and w.chunk > least_chunk:
        w.chunk = halved(w.chunk, least_chunk)
        w.edge_chunk = min(w.edge_chunk, w.chunk)
    while images * w.groups * w.out_sizes[0] * pieces(w.out_sizes[1], w.band) < 4 * workers and workers > 1 \
            and w.band > least_band:
        w.band = halved(w.band, least_band)
    while images * w.groups * w.out_sizes[0] * pieces(w.out_sizes[1], w.band) * pieces(w.out_row, w.chunk) \
            < 4 * workers and workers > 1 and w.chunk > least_chunk:  # signals
        w.chunk = halved(w.chunk, least_chunk)
        w.edge_chunk = min(w.edge_chunk, w.chunk)
    w.band = max(least_band, w.band - w.band % least_band)  # whole tiles: a remainder is computed twice
    while True:
        measure_rows(w)
        needed = min(w.span, (2 * w.band - 1) * w.widths[1])
        if planes * needed * w.row * <Py_ssize_t> sizeof(T) <= 2 * L2_BYTES:
            break
        if w.band > least_band:
            w.band = halved(w.band, least_band)
        elif w.edge_chunk > CE_LANES:
            w.edge_chunk = halved(w.edge_chunk, CE_LANES)
        else:
            break
    count_pieces(w)


cdef void lay_scratch(Work* w) noexcept nogil:
    """Sizes of a worker's memory: filled rows, results, fetched rows, row table."""
    cdef Py_ssize_t reach = (w.widths[2] - 1) * w.dilation[2] * w.inner
    cdef Py_ssize_t chunk = max(2 * w.edge_chunk - 1, CE_LANES), rows = 0, q
    cdef Py_ssize_t height = min(2 * w.band - 1, w.out_sizes[1])
    cdef bint edges = w.direct_from > 0 or w.direct_to < w.out_row or w.direct_from == w.direct_to
    w.filled = w.row
    if w.direct_to > w.direct_from:
        w.filled = max(w.row, 2 * w.chunk - 1 + reach)
        if not w.out_direct:
            chunk = max(chunk, 2 * w.chunk - 1)
    w.buffer = 4 * w.strip if w.two_passes else chunk * (height if w.streams == 1 else w.tall)
    for q in range((height - 1) * w.stride[1] + (w.widths[1] - 1) * w.dilation[1] + 1):
        rows += w.needed[q]
    w.table = <size_t> w.buffer * sizeof(S) + <size_t> (w.x_parts * w.filled) * sizeof(T)
    if edges:
        w.table += <size_t> (w.planes * w.widths[0] * rows * w.row) * sizeof(T)
    w.table = (w.table + 63) // 64 * 64
    w.memory = w.table + <size_t> (w.planes * w.widths[0] * w.span) * sizeof(void*)
    if w.two_passes:
        lay_strips(w)
