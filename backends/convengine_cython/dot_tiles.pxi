# The register tiles of dot instructions, and the loops that lay them along a row and over a band of rows.
#
# The taps of a kernel row come in groups of PER adjacent samples, packed into 32 bits; positions without a tap hold 0.
# A tile computes sums for the outputs j, j + PER, ... from the samples at j, those for j + 1, ... from the same load
# one sample on, and so for PER offsets; each loaded vector serves every output row that it lies under.

cdef inline void dot_group(const T* x, const S* taps, Py_ssize_t a, Py_ssize_t height, Py_ssize_t groups,
                           ce_sums* acc, const bint whole, const int tall, const int wide) noexcept nogil:
    """Add a group of taps of each kernel row that row `a` of x lies under; `whole` rows of x lie under `tall`."""
    cdef ce_vec samples[MOST]
    cdef ce_sums tap
    cdef int r, v, s
    for v in range(wide):
        for s in range(PER):
            samples[v * PER + s] = ce_load_once(x + v * CE_LANES + s)
    for r in range(tall):
        if whole or a >= r and a - r < height:
            tap = ce_tap(taps + (a - r) * groups)
            for v in range(wide * PER):
                acc[r * MOST + v] = ce_dot(acc[r * MOST + v], samples[v], tap)


cdef inline void dot_tile(const Dots* d, const T* const* rows, const S* taps, const Py_ssize_t* starts, Py_ssize_t j,
                          char* out, Py_ssize_t out_step, int store, Py_ssize_t height, Py_ssize_t groups,
                          const bint dense, const int tall, const int wide) noexcept nogil:
    """A tile of `tall` rows and `wide` times CE_LANES columns; `dense` groups follow each other."""
    cdef ce_sums acc[MOST * MOST]
    cdef const T* row
    cdef Py_ssize_t p, a, g
    cdef int r, v
    for r in range(tall):
        for v in range(wide * PER):
            acc[r * MOST + v] = ce_same(d.work.bias[0])
    for p in range(d.work.widths[0]):
        for a in range(height + tall - 1):
            row = rows[p * d.work.span + a * d.work.dilation[1]] + j + starts[0]
            if a >= tall - 1 and a < height:
                for g in range(groups):
                    dot_group(row + (PER * g if dense else starts[g] - starts[0]), taps + g, a, height, groups, acc,
                              True, tall, wide)
            else:
                for g in range(groups):
                    dot_group(row + (PER * g if dense else starts[g] - starts[0]), taps + g, a, height, groups, acc,
                              False, tall, wide)
        taps += height * groups
    for r in range(tall):
        for v in range(wide):
            dot_store(d, store, out + r * out_step, j + v * CE_LANES, acc + r * MOST + v * PER)


cdef inline void dot_store(const Dots* d, int store, char* row, Py_ssize_t j, ce_sums* sums) noexcept nogil:
    """Store CE_LANES sums at element j of a row."""
    cdef int s
    if store == SUMS:
        ce_store_sums(row + j * 4, sums)
    elif store == SATURATED_BYTES:
        ce_store_saturated(row + j, sums)
    else:
        for s in range(PER):
            sums[s] = ce_clamp(sums[s], ce_same(d.low), ce_same(d.high))
        if store == BYTES:
            ce_store_bytes(row + j, sums)
        elif store == HALVES:
            ce_store_halves(row + j * 2, sums)
        else:
            ce_store_sums(row + j * 4, sums)


cdef inline void dot_line(const Dots* d, const T* const* rows, char* out, Py_ssize_t out_step, int store,
                          Py_ssize_t count, Py_ssize_t height, Py_ssize_t groups, const bint dense, const int tall,
                          const int wide) noexcept nogil:
    """`tall` output rows of `count` columns, at least CE_LANES of them stored.

    Where groups hold zeros, their samples may lie behind a row's last one, even outside x. So only a row's first tile
    takes groups that start with a tap; the others take those that end with one, and reach back instead.
    """
    cdef Py_ssize_t j = 0, columns = wide * CE_LANES if count >= wide * CE_LANES + PER - 1 else CE_LANES
    cdef const S* taps
    cdef const Py_ssize_t* starts
    while j < count:
        j = max(min(j, count - columns), 0)
        taps, starts = d.behind_taps, d.behind
        if j < PER - 1:
            taps, starts = d.work.taps, d.work.columns
        if wide > 1 and columns > CE_LANES:
            dot_tile(d, rows, taps, starts, j, out, out_step, store, height, groups, dense, tall, wide)
        else:
            dot_tile(d, rows, taps, starts, j, out, out_step, store, height, groups, dense, tall, 1)
        j += columns


cdef void dot_rows(const Dots* d, const T* const* rows, char* out, Py_ssize_t out_step, int store, Py_ssize_t count,
                   bint tall) noexcept nogil:
    """TILE_ROWS output rows, or one, by the loop that fits the kernel."""
    cdef Py_ssize_t height = d.work.widths[1]
    cdef bint square = d.groups == (height + PER - 1) // PER
    if not tall:
        dot_line(d, rows, out, out_step, store, count, height, d.groups, False, 1, WIDE)
    elif not d.dense:
        dot_line(d, rows, out, out_step, store, count, height, d.groups, False, TILE_ROWS, WIDE)
    elif square and height == 3:
        dot_line(d, rows, out, out_step, store, count, 3, (3 + PER - 1) // PER, True, TILE_ROWS, WIDE)
    elif square and height == 5:
        dot_line(d, rows, out, out_step, store, count, 5, (5 + PER - 1) // PER, True, TILE_ROWS, WIDE)
    elif square and height == 7:
        dot_line(d, rows, out, out_step, store, count, 7, (7 + PER - 1) // PER, True, TILE_ROWS, WIDE)
    elif square and height == 9:
        dot_line(d, rows, out, out_step, store, count, 9, (9 + PER - 1) // PER, True, TILE_ROWS, WIDE)
    elif square and height == 11 and WIDE == 1:  # of two vectors, it outgrows what the CPU keeps decoded
        dot_line(d, rows, out, out_step, store, count, 11, (11 + PER - 1) // PER, True, TILE_ROWS, WIDE)
    elif height == 1:
        dot_line(d, rows, out, out_step, store, count, 1, d.groups, True, TILE_ROWS, WIDE)
    elif height == 2:
        dot_line(d, rows, out, out_step, store, count, 2, d.groups, True, TILE_ROWS, WIDE)
    elif height == 3:
        dot_line(d, rows, out, out_step, store, count, 3, d.groups, True, TILE_ROWS, WIDE)
    elif height == 4:
        dot_line(d, rows, out, out_step, store, count, 4, d.groups, True, TILE_ROWS, WIDE)
    elif height == 5:
        dot_line(d, rows, out, out_step, store, count, 5, d.groups, True, TILE_ROWS, WIDE)
    else:
        dot_line(d, rows, out, out_step, store, count, height, d.groups, True, TILE_ROWS, WIDE)


cdef void dot_band(const Dots* d, const T* const* rows, char* out, Py_ssize_t out_step, int store, Py_ssize_t height,
                   Py_ssize_t count) noexcept nogil:
    """`height` output rows, `out_step` bytes apart. Under row dilation d the rows that share x are d apart."""
    cdef Py_ssize_t apart = d.work.dilation[1], phase, t, n
    if d.work.stride[1] != 1:
        for t in range(height):
            dot_rows(d, rows + t * d.work.stride[1], out + t * out_step, out_step, store, count, False)
        return
    for phase in range(min(apart, height)):
        n = (height - phase + apart - 1) // apart
        t = 0
        while t < n:
            if n >= TILE_ROWS:
                t = min(t, n - TILE_ROWS)
            dot_rows(d, rows + phase + t * apart, out + (phase + t * apart) * out_step, out_step * apart, store, count,
                     n >= TILE_ROWS)
            t += TILE_ROWS if n >= TILE_ROWS else 1
