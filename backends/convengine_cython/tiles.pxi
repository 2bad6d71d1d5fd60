# The register tiles, and the loops that lay them along a row and over a band of rows.

cdef inline void tile_unrolled(const T* const* rows, Py_ssize_t step, const T* taps, T bias, Py_ssize_t j,
                               T* out, Py_ssize_t out_step, const int height, const int width,
                               const int tall, const int wide) noexcept nogil:
    """A tile of `tall` rows and `wide` vectors for a kernel of literal size with adjacent taps.

    Each loaded vector serves every output row that it lies under: loads are the scarce part, not multiply-adds.
    """
    cdef ce_vec acc[MOST][MOST]
    cdef ce_vec x[MOST]
    cdef const T* row
    cdef T tap
    cdef int r, v, a, b
    for r in range(tall):
        for v in range(wide):
            acc[r][v] = ce_splat(bias)
    for a in range(height + tall - 1):
        row = rows[a * step] + j
        for b in range(width):
            for v in range(wide):
                x[v] = ce_load(row + b + v * CE_LANES)
            for r in range(tall):
                if a >= r and a - r < height:
                    tap = taps[(a - r) * width + b]
                    for v in range(wide):
                        acc[r][v] = acc[r][v] + x[v] * tap
    for r in range(tall):
        for v in range(wide):
            ce_store(out + r * out_step + j + v * CE_LANES, acc[r][v])


cdef inline void tile_shared(const T* const* rows, Py_ssize_t step, Py_ssize_t planes, Py_ssize_t span,
                             const Py_ssize_t* columns, const T* taps, Py_ssize_t height, Py_ssize_t width, T bias,
                             Py_ssize_t j, T* out, Py_ssize_t out_step, const int tall, const int wide) noexcept nogil:
    """The same for any kernel of at least `tall` - 1 rows: rows that only some outputs need stand before and after."""
    cdef ce_vec acc[MOST][MOST]
    cdef ce_vec x[MOST]
    cdef const T* row
    cdef const T* tap
    cdef Py_ssize_t p, a, b
    cdef int r, v, e
    for r in range(tall):
        for v in range(wide):
            acc[r][v] = ce_splat(bias)
    for p in range(planes):
        for e in range(tall - 1):
            row = rows[p * span + e * step] + j
            for b in range(width):
                for v in range(wide):
                    x[v] = ce_load(row + columns[b] + v * CE_LANES)
                for r in range(tall):
                    if r <= e:
                        for v in range(wide):
                            acc[r][v] = acc[r][v] + x[v] * taps[(e - r) * width + b]
        for a in range(tall - 1, height):
            row = rows[p * span + a * step] + j
            tap = taps + a * width
            for b in range(width):
                for v in range(wide):
                    x[v] = ce_load(row + columns[b] + v * CE_LANES)
                for r in range(tall):
                    for v in range(wide):
                        acc[r][v] = acc[r][v] + x[v] * tap[b - r * width]
        for e in range(tall - 1):
            row = rows[p * span + (height + e) * step] + j
            for b in range(width):
                for v in range(wide):
                    x[v] = ce_load(row + columns[b] + v * CE_LANES)
                for r in range(tall):
                    if r > e:
                        for v in range(wide):
                            acc[r][v] = acc[r][v] + x[v] * taps[(height + e - r) * width + b]
        taps = taps + height * width
    for r in range(tall):
        for v in range(wide):
            ce_store(out + r * out_step + j + v * CE_LANES, acc[r][v])


cdef inline void tile_streams(const T* const* rows, Py_ssize_t step, Py_ssize_t planes, Py_ssize_t span,
                              const Py_ssize_t* columns, const T* taps, Py_ssize_t height, Py_ssize_t width,
                              const T* bias, Py_ssize_t j, T* out, Py_ssize_t out_step, Py_ssize_t count,
                              const int tall, const int wide) noexcept nogil:
    """One output row of `tall` output channels: each loaded vector serves all of them. `count` of them are wanted."""
    cdef ce_vec acc[MOST][MOST]
    cdef ce_vec x[MOST]
    cdef const T* row
    cdef Py_ssize_t p, a, b
    cdef int r, v
    for r in range(tall):
        for v in range(wide):
            acc[r][v] = ce_splat(bias[r])
    for p in range(planes):
        for a in range(height):
            row = rows[p * span + a * step] + j
            for b in range(width):
                for v in range(wide):
                    x[v] = ce_load(row + columns[b] + v * CE_LANES)
                for r in range(tall):
                    for v in range(wide):
                        acc[r][v] = acc[r][v] + x[v] * taps[r]
                taps = taps + tall
    for r in range(tall):
        if r < count:
            for v in range(wide):
                ce_store(out + r * out_step + j + v * CE_LANES, acc[r][v])


cdef inline void line_unrolled(const T* const* rows, Py_ssize_t step, const T* taps, T bias, T* out,
                               Py_ssize_t out_step, Py_ssize_t count, const int side, const int wide) noexcept nogil:
    """TILE_ROWS output rows of `count` samples."""
    cdef Py_ssize_t j = 0
    if count >= wide * CE_LANES:
        while j < count:
            j = min(j, count - wide * CE_LANES)
            tile_unrolled(rows, step, taps, bias, j, out, out_step, side, side, TILE_ROWS, wide)
            j += wide * CE_LANES
    else:
        while j < count:
            j = max(min(j, count - CE_LANES), 0)
            tile_unrolled(rows, step, taps, bias, j, out, out_step, side, side, TILE_ROWS, 1)
            j += CE_LANES


cdef inline void line_shared(const Work* w, const T* const* rows, Py_ssize_t step, const T* taps, T bias, T* out,
                             Py_ssize_t out_step, Py_ssize_t count, const int tall, const int wide) noexcept nogil:
    """`tall` output rows of `count` samples."""
    cdef Py_ssize_t j = 0, planes = w.planes * w.widths[0]
    if count >= wide * CE_LANES:
        while j < count:
            j = min(j, count - wide * CE_LANES)
            tile_shared(rows, step, planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, j, out, out_step,
                        tall, wide)
            j += wide * CE_LANES
    else:
        while j < count:
            j = max(min(j, count - CE_LANES), 0)
            tile_shared(rows, step, planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, j, out, out_step,
                        tall, 1)
            j += CE_LANES


cdef inline void line_streams(const Work* w, const T* const* rows, const T* taps, const T* bias, T* out,
                              Py_ssize_t out_step, Py_ssize_t count, Py_ssize_t streams,
                              const int tall, const int wide) noexcept nogil:
    """One output row of `count` samples, of up to `tall` streams."""
    cdef Py_ssize_t j = 0, planes = w.planes * w.widths[0], vectors
    while j < count:
        vectors = (count - j + CE_LANES - 1) // CE_LANES
        if vectors >= wide and vectors != wide + 1 and count >= wide * CE_LANES:  # the loads of taps bind one alone
            j = min(j, count - wide * CE_LANES)
            tile_streams(rows, w.dilation[1], planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, j, out,
                         out_step, streams, tall, wide)
            j += wide * CE_LANES
        elif vectors >= 2 and count >= 2 * CE_LANES:
            j = min(j, count - 2 * CE_LANES)
            tile_streams(rows, w.dilation[1], planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, j, out,
                         out_step, streams, tall, 2)
            j += 2 * CE_LANES
        else:
            j = max(min(j, count - CE_LANES), 0)
            tile_streams(rows, w.dilation[1], planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, j, out,
                         out_step, streams, tall, 1)
            j += CE_LANES


cdef void line(const Work* w, int kind, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
               Py_ssize_t count) noexcept nogil:
    """The output rows of one tile height, by the loop that fits the kernel."""
    cdef Py_ssize_t step = w.dilation[1]
    if CE_FLOATING and kind == UNROLLED_3:
        line_unrolled(rows, step, taps, bias, out, out_step, count, 3, TILE_VECTORS)
    elif CE_FLOATING and kind == UNROLLED_5:
        line_unrolled(rows, step, taps, bias, out, out_step, count, 5, 2)
    elif CE_FLOATING and kind == UNROLLED_7:
        line_unrolled(rows, step, taps, bias, out, out_step, count, 7, 2)
    elif kind == SHARED:
        line_shared(w, rows, step, taps, bias, out, out_step, count, TILE_ROWS, TILE_VECTORS)
    elif kind == PAIR:
        line_shared(w, rows, step, taps, bias, out, out_step, count, 2, PAIR_VECTORS)
    else:
        line_shared(w, rows, step, taps, bias, out, out_step, count, 1, LINE_VECTORS)


cdef void band(const Work* w, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
               Py_ssize_t height, Py_ssize_t count) noexcept nogil:
    """`height` output rows of a filter. Under row dilation d the rows that share x are d apart."""
    cdef Py_ssize_t d = w.dilation[1], phase, t, n
    if w.stride[1] != 1:
        for t in range(height):
            line(w, SINGLE, rows + t * w.stride[1], taps, bias, out + t * out_step, out_step, count)
        return
    for phase in range(min(d, height)):
        n = (height - phase + d - 1) // d
        t = 0
        while t < n:
            if n >= w.tall:
                t = min(t, n - w.tall)
                line(w, w.kind, rows + phase + t * d, taps, bias, out + (phase + t * d) * out_step, out_step * d, count)
                t += w.tall
            else:
                line(w, SINGLE, rows + phase + t * d, taps, bias, out + (phase + t * d) * out_step, out_step, count)
                t += 1
