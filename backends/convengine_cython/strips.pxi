# Methods that pass a band twice: down its rows into a strip, narrow enough for the first-level cache, then across it.
#
# A strip is a run of an item's columns. It holds, for each row of a tile and each outer product, what the columns of
# taps make of the table's rows: the phases of a stride one after the other, as in a scratch row, each `stretch`
# elements long. What an output adds up, and in which order, follows from the kernel alone.

cdef enum:
    STRIP_BYTES = 4096         # of one row of a strip, at least; less than twice as many at most
    TALL = 6                   # rows of a strip,
    LOW = 4                    # and of kernels that have no TALL - 1 rows
    SPAN_BYTES = 262144       # of the rows that one strip row is made from: a quarter of the second-level cache
    STRIP_TAPS = 8388608       # multiply-adds of an item: some 0.2 ms at best
    MOST_BAND = 128
    LEAST_EDGE = 256           # columns fetched at once


cdef Py_ssize_t phases_of(const Work* w) noexcept nogil:
    """Phases of a stride that the kernel's columns fall into."""
    return min(w.stride[2], (w.widths[2] - 1) * w.dilation[2] + 1)


cdef void cut_strips(Work* w, int workers, Py_ssize_t images) noexcept nogil:
    """Choose bands and chunks: chunks whose rows stay in the second-level cache while the tiles go down, tall bands."""
    cdef Py_ssize_t size = sizeof(T), lines = w.widths[1] + TALL - 1, tall
    cdef Py_ssize_t least = TALL * w.dilation[1] if w.stride[1] == 1 else 1
    w.split = w.blocks
    w.strip = max(STRIP_BYTES // size // max(w.rank, 1), CE_LANES)
    w.edge_chunk = min(w.out_row, EDGE_COLUMNS)
    w.chunk = w.edge_chunk
    if w.direct_to > w.direct_from:
        w.chunk = min(w.out_row, max(w.strip, min(DIRECT_COLUMNS, SPAN_BYTES // (lines * size))))
        w.edge_chunk = min(w.edge_chunk, max(w.direct_from, w.out_row - w.direct_to, <Py_ssize_t> CE_LANES))
    w.band = min(w.out_sizes[1], max(least, min(MOST_BAND, STRIP_TAPS // max(1, w.chunk * w.products))))
    while images * w.out_sizes[0] * pieces(w.out_sizes[1], w.band) * pieces(w.out_row, w.chunk) < 4 * workers \
            and workers > 1 and w.band > least:
        w.band = halved(w.band, least)
    while True:
        measure_rows(w)
        tall = min(w.span, (2 * w.band - 1) * w.widths[1])
        if tall * w.row * size <= 2 * L2_BYTES:
            break
        if w.edge_chunk > LEAST_EDGE:
            w.edge_chunk = halved(w.edge_chunk, LEAST_EDGE)
        elif w.band > least:
            w.band = halved(w.band, least)
        elif w.edge_chunk > CE_LANES:
            w.edge_chunk = halved(w.edge_chunk, CE_LANES)
        else:
            break


cdef void lay_strips(Work* w) noexcept nogil:
    """Append the strips, and the places of the taps in them, to a worker's memory."""
    cdef Py_ssize_t reach = (w.widths[2] - 1) * w.dilation[2] * w.inner, rows = TALL if w.rank > 0 else 1
    w.stretch = 2 * w.strip - 1 + reach // w.stride[2] + 1 + CE_LANES  # a shift reads a vector ahead
    w.stretch = (w.stretch + CE_LANES - 1) // CE_LANES * CE_LANES
    w.room = max(w.rank, 1) * phases_of(w) * w.stretch
    w.strips = (w.memory + 63) // 64 * 64
    w.memory = w.strips + <size_t> (rows * w.room) * sizeof(T) + <size_t> w.widths[2] * sizeof(Py_ssize_t)
