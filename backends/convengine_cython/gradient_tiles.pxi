# The register tiles of the kernel's gradient: sums over rows of products of several dy rows with several taps' x rows.

cdef extern from *:
    """
    /* Sums in registers, a vector of x for each tap and one of dy must fit (32, else 16 registers). Sizes tried on
       Zen 4. */
    #if CE_VECTOR_BYTES == 64 || defined(__aarch64__)
    #define TALLEST 8
    #define WIDER 5
    #else
    #define TALLEST 4
    #define WIDER 2
    #endif
    """
    const int TALLEST, WIDER
    ce_vec ce_mask(int) noexcept nogil
    ce_vec ce_and(ce_vec, ce_vec) noexcept nogil


cdef struct Tap:
    # One number of the gradient: the x rows that dy's are multiplied with, where in them, and where the sum goes.
    const T** rows
    Py_ssize_t column, out


cdef struct Product:
    # Rows of dy and of x, `height` of each, of `vectors` whole vectors and `tail` samples.
    const T** rows[MOST]
    Py_ssize_t columns[MOST]
    const T* dy
    Py_ssize_t dy_row, dy_stream
    Py_ssize_t height, vectors
    int tail
    T sums[MOST][MOST]


cdef inline void tile_products(Product* p, const int tall, const int wide) noexcept nogil:
    """Sums of products of `tall` streams of dy with `wide` taps: each loaded vector serves a row or column of sums.

    Behind a row's end dy holds zeros and x whatever lies there, which a mask clears: 0 * NaN would be NaN.
    """
    cdef ce_vec acc[MOST][MOST]
    cdef ce_vec x[MOST]
    cdef ce_vec d, mask = ce_mask(p.tail)
    cdef const T* at[MOST]
    cdef const T* dy = p.dy
    cdef Py_ssize_t j, r, dy_stream = p.dy_stream, end = p.vectors * CE_LANES
    cdef int t, k
    for t in range(tall):
        for k in range(wide):
            acc[t][k] = ce_splat(0)
    for r in range(p.height):
        for k in range(wide):
            at[k] = p.rows[k][r] + p.columns[k]
        j = 0
        while j < end:
            for k in range(wide):
                x[k] = ce_load(at[k] + j)
            for t in range(tall):
                d = ce_load_once(dy + t * dy_stream + j)
                for k in range(wide):
                    acc[t][k] = acc[t][k] + x[k] * d
            j += CE_LANES
        if p.tail:
            for k in range(wide):
                x[k] = ce_and(ce_load(at[k] + end), mask)
            for t in range(tall):
                d = ce_load_once(dy + t * dy_stream + end)
                for k in range(wide):
                    acc[t][k] = acc[t][k] + x[k] * d
        dy = dy + p.dy_row
    for t in range(tall):
        for k in range(wide):
            p.sums[t][k] = ce_sum(acc[t][k])


cdef void products(Product* p, int tall, int wide) noexcept nogil:
    """Run the tile of a size that `tallness` and `wideness` gave."""
    if tall == 1:
        if wide == 1:
            tile_products(p, 1, 1)
        elif wide == 3:
            tile_products(p, 1, 3)
        elif wide == MOST:
            tile_products(p, 1, MOST)
        else:
            tile_products(p, 1, WIDER)
    elif tall == 2:
        if wide == 1:
            tile_products(p, 2, 1)
        elif wide == 3:
            tile_products(p, 2, 3)
        else:
            tile_products(p, 2, WIDER)
    elif tall == 3:
        if wide == 1:
            tile_products(p, 3, 1)
        elif wide == 3:
            tile_products(p, 3, 3)
        else:
            tile_products(p, 3, WIDER)
    elif tall == 4:
        if wide == 1:
            tile_products(p, 4, 1)
        elif wide == 3:
            tile_products(p, 4, 3)
        else:
            tile_products(p, 4, WIDER)
    else:
        tile_products(p, TALLEST, 3)


cdef Py_ssize_t tallness(Py_ssize_t streams) noexcept nogil:
    """Height of the next tile over that many streams of dy."""
    if streams >= TALLEST:
        return TALLEST
    return streams if streams <= 4 else (streams + 1) // 2


cdef Py_ssize_t wideness(Py_ssize_t tall, Py_ssize_t taps) noexcept nogil:
    """Width of the next tile over that many taps; it may be wider than they are many, and then repeats the last one."""
    cdef Py_ssize_t widest = max(WIDER, 3)
    if tall == 1:
        return MOST if taps > 4 else 3 if taps > 1 else 1  # fewer sums than an addition has cycles would wait
    if tall <= 4 and taps >= widest:
        return widest
    if tall <= 4 and taps == WIDER:
        return WIDER
    return 3 if tall > 4 or taps > 1 else 1


cdef void add_products(Product* p, Py_ssize_t tall, Py_ssize_t wide, const Tap* taps, Py_ssize_t count, T* out,
                       Py_ssize_t out_stream) noexcept nogil:
    """Run a tile and add its sums, those of `count` taps, to the gradient."""
    cdef Py_ssize_t t, k
    products(p, <int> tall, <int> wide)
    for t in range(tall):
        for k in range(min(wide, count)):
            out[t * out_stream + taps[k].out] += p.sums[t][k]
