# How the work is cut into items, and what scratch an item needs.

cdef enum:
    L2_BYTES = 262144          # of x rows that a band reads, or of scratch: a quarter of the second-level cache
    ITEM_TAPS = 4194304        # multiply-adds of an item: 0.1 ms at best, some ms at worst, for a prompt Ctrl-C
    SERIAL_TAPS = 1000000      # below so many in all a second thread costs more than it gives
    DIRECT_COLUMNS = 8192
    EDGE_COLUMNS = 4096


cdef Py_ssize_t halved(Py_ssize_t value, Py_ssize_t least) noexcept nogil:
    return max(least, (value + 1) // 2)


cdef Py_ssize_t pieces(Py_ssize_t total, Py_ssize_t size) noexcept nogil:
    """Pieces of at least `size`: a remainder goes to the last one, which stays below twice the size."""
    return max(1, total // size) if total > 0 else 0


cdef void cut(Work* w, bint x_direct, int workers, Py_ssize_t images) noexcept nogil:
    """Choose bands, chunks and splits. They never change a result's bits, so they may follow the workers."""
    cdef Py_ssize_t reach = (w.widths[2] - 1) * w.dilation[2] * w.inner
    cdef Py_ssize_t planes = w.planes * w.widths[0], kernel = planes * w.widths[1] * w.widths[2]
    cdef Py_ssize_t least_band = w.tall * w.dilation[1] if w.streams == 1 and w.stride[1] == 1 else 1
    cdef Py_ssize_t least_chunk = 4 * LINE_VECTORS * CE_LANES, widest, used, needed
    cdef Py_ssize_t phases = min(w.stride[2], (w.widths[2] - 1) * w.dilation[2] + 1)
    w.out_row = w.out_sizes[2] * w.inner
    # Columns whose whole window lies inside x can be read in place; edges are at least one vector wide.
    w.direct_from = min(w.before[2] * w.inner, w.out_row)
    w.direct_to = min((w.before[2] + w.sizes[2]) * w.inner - reach, w.out_row)
    if w.direct_from > 0:
        w.direct_from = max(w.direct_from, CE_LANES)
    if w.direct_to < w.out_row:
        w.direct_to = min(w.direct_to, w.out_row - CE_LANES)
    if not x_direct or w.direct_to - w.direct_from < max(w.out_row // 2, CE_LEAST):
        w.direct_from = w.direct_to = w.out_row
    w.direct_chunk = min(w.out_row, DIRECT_COLUMNS)
    w.edge_chunk = min(w.out_row, EDGE_COLUMNS)
    w.split = w.blocks
    widest = w.direct_chunk if w.direct_to > w.direct_from else w.edge_chunk
    w.band = min(w.out_sizes[1], max(least_band, min(64, L2_BYTES // max(1, widest * planes * <Py_ssize_t> sizeof(T)))))
    while w.band * widest * kernel * w.split * w.tall_streams > ITEM_TAPS and w.band > least_band:
        w.band = halved(w.band, least_band)
    while w.band * widest * kernel * w.split * w.tall_streams > ITEM_TAPS and w.split > 1:
        w.split = halved(w.split, 1)
    while w.band * widest * kernel * w.split * w.tall_streams > ITEM_TAPS and widest > least_chunk:
        widest = halved(widest, least_chunk)
        w.direct_chunk = min(w.direct_chunk, widest)
        w.edge_chunk = min(w.edge_chunk, widest)
    while images * w.groups * w.out_sizes[0] * pieces(w.out_sizes[1], w.band) < 4 * workers and workers > 1 \
            and w.band > least_band:
        w.band = halved(w.band, least_band)
    while True:
        used = (2 * w.band - 2) * w.stride[1] + (w.widths[1] - 1) * w.dilation[1] + 1
        w.phase = max(2 * w.edge_chunk - 1, CE_LANES) + reach // w.stride[2] + 1
        w.row = phases * w.phase
        needed = min(used, (2 * w.band - 1) * w.widths[1])
        if planes * needed * w.row * <Py_ssize_t> sizeof(T) <= 2 * L2_BYTES:
            break
        if w.band > least_band:
            w.band = halved(w.band, least_band)
        elif w.edge_chunk > CE_LANES:
            w.edge_chunk = halved(w.edge_chunk, CE_LANES)
        else:
            break
    w.bands = pieces(w.out_sizes[1], w.band)
    w.splits = pieces(w.blocks, w.split)
    w.left_chunks = pieces(w.direct_from, w.edge_chunk)
    w.direct_chunks = pieces(w.direct_to - w.direct_from, w.direct_chunk)
    w.chunks = w.left_chunks + w.direct_chunks + pieces(w.out_row - w.direct_to, w.edge_chunk)
    w.span = used


cdef void lay_scratch(Work* w, bint edges) noexcept nogil:
    """Sizes of a worker's memory: output buffer, filled rows, fetched rows, row table."""
    cdef Py_ssize_t reach = (w.widths[2] - 1) * w.dilation[2] * w.inner
    cdef Py_ssize_t chunk = max(2 * w.edge_chunk - 1, CE_LANES), rows = 0, q
    cdef Py_ssize_t height = min(2 * w.band - 1, w.out_sizes[1])
    if w.direct_chunks > 0 and not w.out_direct:
        chunk = max(chunk, 2 * w.direct_chunk - 1)
    w.buffer = chunk * (height if w.streams == 1 else w.tall)
    for q in range((height - 1) * w.stride[1] + (w.widths[1] - 1) * w.dilation[1] + 1):
        rows += w.needed[q]
    if w.direct_chunks > 0:
        w.row = max(w.row, 2 * w.direct_chunk - 1 + reach)
    w.table = <size_t> w.buffer * sizeof(S) + <size_t> (w.x_parts * w.row) * sizeof(T)
    if edges:
        w.table += <size_t> (w.planes * w.widths[0] * rows * w.row) * sizeof(T)
    w.table = (w.table + 63) // 64 * 64
    w.memory = w.table + <size_t> (w.planes * w.widths[0] * w.span) * sizeof(void*)
