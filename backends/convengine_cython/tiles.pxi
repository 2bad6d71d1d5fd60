# The register tiles, and the loops that lay them along a row and over a band of rows.

cdef inline void tile_unrolled(const T* const* rows, Py_ssize_t step, const T* taps, T bias, Py_ssize_t j,
                               T* out, Py_ssize_t out_step, const bint stream, const int side,
                               const int tall, const int wide) noexcept nogil:
    """A tile of `tall` rows and `wide` vectors for a square kernel of literal size with adjacent taps.

    Each loaded vector serves every output row that it lies under: loads are the scarce part, not multiply-adds. The few
    taps of the smallest kernel stay in registers; those of larger ones are read anew in each row.
    """
    cdef ce_vec acc[MOST][MOST]
    cdef ce_vec x[MOST]
    cdef const T* row
    cdef T tap
    cdef int r, v, a, b
    for r in range(tall):
        for v in range(wide):
            acc[r][v] = ce_splat(bias)
    for a in range(side + tall - 1):
        row = rows[a * step] + j
        if side > 3:
            taps = ce_forget(taps)
        for b in range(side):
            for v in range(wide):
                x[v] = ce_load_once(row + b + v * CE_LANES)
            for r in range(tall):
                if a >= r and a - r < side:
                    tap = taps[(a - r) * side + b]
                    for v in range(wide):
                        acc[r][v] = acc[r][v] + x[v] * tap
    for r in range(tall):
        for v in range(wide):
            if stream:
                ce_stream(out + r * out_step + j + v * CE_LANES, acc[r][v])
            else:
                ce_store(out + r * out_step + j + v * CE_LANES, acc[r][v])


cdef inline void tile_shared(const T* const* rows, Py_ssize_t step, Py_ssize_t planes, Py_ssize_t span,
                             const Py_ssize_t* columns, const T* taps, Py_ssize_t height, Py_ssize_t width, T bias,
                             Py_ssize_t j, T* out, Py_ssize_t out_step, const bint stream, const int tall,
                             const int wide) noexcept nogil:
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
                    x[v] = ce_load_once(row + columns[b] + v * CE_LANES)
                for r in range(tall):
                    if r <= e:
                        for v in range(wide):
                            acc[r][v] = acc[r][v] + x[v] * taps[(e - r) * width + b]
        for a in range(tall - 1, height):
            row = rows[p * span + a * step] + j
            tap = taps + a * width
            for b in range(width):
                for v in range(wide):
                    x[v] = ce_load_once(row + columns[b] + v * CE_LANES)
                for r in range(tall):
                    for v in range(wide):
                        acc[r][v] = acc[r][v] + x[v] * tap[b - r * width]
        for e in range(tall - 1):
            row = rows[p * span + (height + e) * step] + j
            for b in range(width):
                for v in range(wide):
                    x[v] = ce_load_once(row + columns[b] + v * CE_LANES)
                for r in range(tall):
                    if r > e:
                        for v in range(wide):
                            acc[r][v] = acc[r][v] + x[v] * taps[(height + e - r) * width + b]
        taps = taps + height * width
    for r in range(tall):
        for v in range(wide):
            if stream:
                ce_stream(out + r * out_step + j + v * CE_LANES, acc[r][v])
            else:
                ce_store(out + r * out_step + j + v * CE_LANES, acc[r][v])


cdef inline void add_hankel(const T* row, const T* taps, ce_vec* acc, const int among, const int part,
                            const int parts) noexcept nogil:
    """Add `among` vectors of taps to `parts` times `part` vectors of one output row.

    Taps a vector apart meet the same vector of x in neighbouring outputs: in the Hankel matrix whose rows are vectors
    of x, part + among - 1 loads feed part * among multiply-adds. The parts go side by side, where one alone would wait
    for its own sums.
    """
    cdef ce_vec tap[HANKEL]
    cdef ce_vec x
    cdef Py_ssize_t p
    cdef int t, i
    for p in range(CE_LANES):
        for t in range(among):
            tap[t] = ce_splat(taps[t * CE_LANES + p])
        for i in range(part + among - 1):
            x = ce_load_once(row + p + i * CE_LANES)
            for t in range(among):
                if t <= i and i < part + t:
                    acc[i - t] = acc[i - t] + x * tap[t]
            if parts == 2:
                x = ce_load_once(row + p + (part + i) * CE_LANES)
                for t in range(among):
                    if t <= i and i < part + t:
                        acc[part + i - t] = acc[part + i - t] + x * tap[t]


cdef inline void tile_hankel(const T* row, const T* taps, Py_ssize_t width, T bias, T* out, const bint stream,
                             const int part, const int parts) noexcept nogil:
    """`parts` times `part` vectors of one output row, for many taps: HANKEL vectors of them at once, or two."""
    cdef ce_vec acc[MOST]
    cdef Py_ssize_t b = 0
    cdef int v
    for v in range(part * parts):
        acc[v] = ce_splat(bias)
    while b + HANKEL * CE_LANES <= width:
        add_hankel(row + b, taps + b, acc, HANKEL, part, parts)
        b += HANKEL * CE_LANES
    if b + 2 * CE_LANES <= width:
        add_hankel(row + b, taps + b, acc, 2, part, parts)
        b += 2 * CE_LANES
    while b < width:
        for v in range(part * parts):
            acc[v] = acc[v] + ce_load(row + b + v * CE_LANES) * taps[b]
        b += 1
    for v in range(part * parts):
        if stream:
            ce_stream(out + v * CE_LANES, acc[v])
        else:
            ce_store(out + v * CE_LANES, acc[v])


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


cdef inline void line_unrolled(const Work* w, const T* const* rows, const T* taps, T bias, T* out,
                               Py_ssize_t out_step, Py_ssize_t count, const int side,
                               const int tall, const int wide) noexcept nogil:
    """`tall` output rows of `count` samples."""
    cdef Py_ssize_t step = w.dilation[1], j = 0, last = count - wide * CE_LANES
    cdef Py_ssize_t aligned = streamed_from(w, out, out_step)
    if aligned >= 0 and last >= 0:
        if aligned > 0:
            tile_unrolled(rows, step, taps, bias, 0, out, out_step, False, side, tall, wide)
            j = aligned
        while j <= last:
            tile_unrolled(rows, step, taps, bias, j, out, out_step, True, side, tall, wide)
            j += wide * CE_LANES
    while j <= last:
        tile_unrolled(rows, step, taps, bias, j, out, out_step, False, side, tall, wide)
        j += wide * CE_LANES
    while j < count:
        j = max(min(j, count - CE_LANES), 0)
        tile_unrolled(rows, step, taps, bias, j, out, out_step, False, side, tall, 1)
        j += CE_LANES


cdef inline Py_ssize_t streamed_from(const Work* w, const T* out, Py_ssize_t out_step) noexcept nogil:
    """The first column that lies aligned in every row, from where stores may pass by the caches; -1: they shall not."""
    cdef size_t astray = <size_t> out % CE_VECTOR_BYTES
    if not w.stream or out_step * <Py_ssize_t> sizeof(T) % CE_VECTOR_BYTES or astray % sizeof(T):
        return -1
    return <Py_ssize_t> ((CE_VECTOR_BYTES - astray) % CE_VECTOR_BYTES // sizeof(T))


cdef inline void line_shared(const Work* w, const T* const* rows, Py_ssize_t step, const T* taps, T bias, T* out,
                             Py_ssize_t out_step, Py_ssize_t count, const int tall, const int wide) noexcept nogil:
    """`tall` output rows of `count` samples."""
    cdef Py_ssize_t j = 0, planes = w.planes * w.widths[0], aligned = streamed_from(w, out, 0)  # of one row
    if tall == 1 and aligned >= 0 and count >= 2 * wide * CE_LANES:
        if aligned > 0:
            tile_shared(rows, step, planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, 0, out, out_step,
                        False, tall, wide)
            j = aligned
        while j + wide * CE_LANES <= count:
            tile_shared(rows, step, planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, j, out, out_step,
                        True, tall, wide)
            j += wide * CE_LANES
    if count >= wide * CE_LANES:
        while j < count:
            j = min(j, count - wide * CE_LANES)
            tile_shared(rows, step, planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, j, out, out_step,
                        False, tall, wide)
            j += wide * CE_LANES
    else:
        while j < count:
            j = max(min(j, count - CE_LANES), 0)
            tile_shared(rows, step, planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, j, out, out_step,
                        False, tall, 1)
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


# The output rows of one tile height, a function for each tile: Work holds the one that fits the kernel.

cdef void line_3(const Work* w, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
                 Py_ssize_t count) noexcept nogil:
    line_unrolled(w, rows, taps, bias, out, out_step, count, 3, THREE_ROWS, THREE_VECTORS)


cdef void line_5(const Work* w, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
                 Py_ssize_t count) noexcept nogil:
    line_unrolled(w, rows, taps, bias, out, out_step, count, 5, SQUARE_ROWS, SQUARE_VECTORS)


cdef void line_7(const Work* w, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
                 Py_ssize_t count) noexcept nogil:
    line_unrolled(w, rows, taps, bias, out, out_step, count, 7, SQUARE_ROWS, SQUARE_VECTORS)


cdef void line_9(const Work* w, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
                 Py_ssize_t count) noexcept nogil:
    line_unrolled(w, rows, taps, bias, out, out_step, count, 9, SQUARE_ROWS, SQUARE_VECTORS)


cdef void line_tall(const Work* w, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
                    Py_ssize_t count) noexcept nogil:
    line_shared(w, rows, w.dilation[1], taps, bias, out, out_step, count, TILE_ROWS, TILE_VECTORS)


cdef void line_pair(const Work* w, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
                    Py_ssize_t count) noexcept nogil:
    line_shared(w, rows, w.dilation[1], taps, bias, out, out_step, count, 2, PAIR_VECTORS)


cdef void line_hankel(const Work* w, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
                      Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t j = 0, aligned = streamed_from(w, out, 0), last = count - HANKEL_PART * HANKEL_PARTS * CE_LANES
    if aligned >= 0 and last >= 0:
        if aligned > 0:
            tile_hankel(rows[0], taps, w.widths[2], bias, out, False, 1, 1)
            j = aligned
        while j <= last:
            tile_hankel(rows[0] + j, taps, w.widths[2], bias, out + j, True, HANKEL_PART, HANKEL_PARTS)
            j += HANKEL_PART * HANKEL_PARTS * CE_LANES
    while j <= last:
        tile_hankel(rows[0] + j, taps, w.widths[2], bias, out + j, False, HANKEL_PART, HANKEL_PARTS)
        j += HANKEL_PART * HANKEL_PARTS * CE_LANES
    while j < count:
        j = max(min(j, count - CE_LANES), 0)
        tile_hankel(rows[0] + j, taps, w.widths[2], bias, out + j, False, 1, 1)
        j += CE_LANES


cdef void line_single(const Work* w, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
                      Py_ssize_t count) noexcept nogil:
    line_shared(w, rows, w.dilation[1], taps, bias, out, out_step, count, 1, LINE_VECTORS)


cdef void band(const Work* w, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
               Py_ssize_t height, Py_ssize_t count) noexcept nogil:
    """`height` output rows of a filter. Under row dilation d the rows that share x are d apart."""
    cdef Py_ssize_t d = w.dilation[1], phase, t, n
    if w.stride[1] != 1:
        for t in range(height):
            w.line(w, rows + t * w.stride[1], taps, bias, out + t * out_step, out_step, count)
        return
    for phase in range(min(d, height)):
        n = (height - phase + d - 1) // d
        t = 0
        while t < n:
            if n >= w.tall:
                t = min(t, n - w.tall)
                w.line(w, rows + phase + t * d, taps, bias, out + (phase + t * d) * out_step, out_step * d, count)
                t += w.tall
            else:
                line_single(w, rows + phase + t * d, taps, bias, out + (phase + t * d) * out_step, out_step, count)
                t += 1
