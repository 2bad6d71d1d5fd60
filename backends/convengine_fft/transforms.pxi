# A tile's transforms: down its columns, a vector of columns at a time; along its rows, a vector of rows at a time,
# transposed into a strip. Two real tiles travel as real and imaginary part.
#
# A strip that the first-level cache can't hold goes in the blocks that the first stage leaves: each through all other
# stages before the next, and a vector further on than its length, since places a power of two apart share cache sets.

cdef struct Length:
    # One transform length as its stages: `radices` from the first forward one on, each with its span and roots.
    Py_ssize_t size
    Py_ssize_t block                                # places of a strip that go through the inner stages together
    Py_ssize_t apart                                # vectors of a strip between the places that the first stage joins
    int stages
    int radices[3]
    Py_ssize_t spans[3]
    const T* roots[3]


cdef struct Shape:
    # A tile of samples, and what its transforms need. For one long transform (a signal) `bends` are its roots.
    Length down, along
    Py_ssize_t step                                 # from row to row of a plane: a power of two would share cache sets
    const T* bends


cdef void stage_of(const Length* length, int s, Py_ssize_t size, Py_ssize_t apart, T* re, T* im, Py_ssize_t step,
                   bint forward) noexcept nogil:
    """Stage s of `size` places, in place."""
    cdef Py_ssize_t blocks = size // (length.radices[s] * length.spans[s])
    if forward:
        if length.radices[s] == 8:
            stage(re, im, step, blocks, length.spans[s], apart, length.roots[s], 8, True)
        else:
            stage(re, im, step, blocks, length.spans[s], apart, length.roots[s], 4, True)
    else:
        if length.radices[s] == 8:
            stage(re, im, step, blocks, length.spans[s], apart, length.roots[s], 8, False)
        else:
            stage(re, im, step, blocks, length.spans[s], apart, length.roots[s], 4, False)


cdef void inner_of(const Shape* shape, Py_ssize_t c, T* re, T* im, bint forward) noexcept nogil:
    """The inner stage of the vector of columns at c."""
    cdef const Length* down = &shape.down
    cdef const T* bends = NULL
    cdef Py_ssize_t columns = shape.along.size, size = down.size * columns
    cdef int radix = down.radices[down.stages - 1]
    if shape.bends != NULL:
        bends = shape.bends + c
    if forward:
        if radix == 8:
            inner_stage(re, im, shape.step, down.size // 8, bends, size, columns, 8, True)
        else:
            inner_stage(re, im, shape.step, down.size // 4, bends, size, columns, 4, True)
    else:
        if radix == 8:
            inner_stage(re, im, shape.step, down.size // 8, bends, size, columns, 8, False)
        else:
            inner_stage(re, im, shape.step, down.size // 4, bends, size, columns, 4, False)


cdef void columns_forward(const Shape* shape, const T* const* one, const T* const* other, T one_scale, T other_scale,
                          T* re, T* im, double* energies) noexcept nogil:
    """From two tiles, by rows, into the planes. Gives the sums of their squares, as scaled."""
    cdef const Length* down = &shape.down
    cdef Py_ssize_t v, c, vectors = shape.along.size // CE_LANES
    cdef int s
    energies[0] = energies[1] = 0
    if down.radices[0] == 8:
        entry_stage(one, other, one_scale, other_scale, re, im, shape.step, vectors, down.spans[0], down.roots[0],
                    energies, 8)
    else:
        entry_stage(one, other, one_scale, other_scale, re, im, shape.step, vectors, down.spans[0], down.roots[0],
                    energies, 4)
    for v in range(vectors):
        c = v * CE_LANES
        for s in range(1, down.stages - 1):
            stage_of(down, s, down.size, down.spans[s], re + c, im + c, shape.step, True)
        inner_of(shape, c, re + c, im + c, True)


cdef void columns_back(const Shape* shape, T* re, T* im, Py_ssize_t width, Py_ssize_t last, T* const* one,
                       T* const* other, const T* one_scales, const T* other_scales, T bias) noexcept nogil:
    """From the planes to two tiles, by rows: the first `width` columns."""
    cdef const Length* down = &shape.down
    cdef Py_ssize_t v, c, vectors = (width + CE_LANES - 1) // CE_LANES
    cdef int s
    for v in range(vectors):
        c = v * CE_LANES
        inner_of(shape, c, re + c, im + c, False)
        for s in range(down.stages - 2, 0, -1):
            stage_of(down, s, down.size, down.spans[s], re + c, im + c, shape.step, False)
    if down.radices[0] == 8:
        exit_stage(re, im, shape.step, vectors, last, down.spans[0], down.roots[0], one, other, one_scales,
                   other_scales, bias, 8)
    else:
        exit_stage(re, im, shape.step, vectors, last, down.spans[0], down.roots[0], one, other, one_scales,
                   other_scales, bias, 4)


cdef void transpose(const T* start, Py_ssize_t step, T* to, Py_ssize_t to_step, Py_ssize_t squares, Py_ssize_t apart,
                    Py_ssize_t to_apart) noexcept nogil:
    """Transpose squares of CE_LANES vectors."""
    cdef ce_vec v[16]
    cdef Py_ssize_t n
    cdef int i
    for n in range(squares):
        for i in range(CE_LANES):
            v[i] = ce_load(start + i * step)
        ce_transpose(v)
        for i in range(CE_LANES):
            ce_store(to + i * to_step, v[i])
        start += apart
        to += to_apart


cdef void rows_in(const Shape* shape, const T* re, const T* im, T* strip_re, T* strip_im) noexcept nogil:
    """A vector of rows into the strip, and the first stage."""
    cdef const Length* along = &shape.along
    cdef Py_ssize_t block = along.block, c = 0, at = 0
    while c < along.size:
        transpose(re + c, shape.step, strip_re + at, CE_LANES, block // CE_LANES, CE_LANES, CE_LANES * CE_LANES)
        transpose(im + c, shape.step, strip_im + at, CE_LANES, block // CE_LANES, CE_LANES, CE_LANES * CE_LANES)
        c += block
        at += along.apart * CE_LANES
    stage_of(along, 0, along.size, along.apart, strip_re, strip_im, CE_LANES, True)


cdef void rows_out(const Shape* shape, T* strip_re, T* strip_im, T* re, T* im) noexcept nogil:
    """The last stage, and from the strip to a vector of rows."""
    cdef const Length* along = &shape.along
    cdef Py_ssize_t block = along.block, c = 0, at = 0
    stage_of(along, 0, along.size, along.apart, strip_re, strip_im, CE_LANES, False)
    while c < along.size:
        transpose(strip_re + at, CE_LANES, re + c, shape.step, block // CE_LANES, CE_LANES * CE_LANES, CE_LANES)
        transpose(strip_im + at, CE_LANES, im + c, shape.step, block // CE_LANES, CE_LANES * CE_LANES, CE_LANES)
        c += block
        at += along.apart * CE_LANES


cdef inline Py_ssize_t strip_of(const Length* along) noexcept nogil:
    """Elements of one part, real or imaginary, of a strip."""
    return along.radices[0] * along.apart * CE_LANES


cdef void rows_through(const Shape* shape, T* re, T* im, T* strip, const T* spectrum) noexcept nogil:
    """Along all rows forward, times the kernel's spectrum, and back."""
    cdef const Length* along = &shape.along
    cdef T* strip_im = strip + strip_of(along)
    cdef Py_ssize_t y, b, at, block = along.block
    cdef int s
    for y in range(shape.down.size // CE_LANES):
        rows_in(shape, re, im, strip, strip_im)
        for b in range(along.size // block):
            at = b * along.apart * CE_LANES
            for s in range(1, along.stages - 1):
                stage_of(along, s, block, along.spans[s], strip + at, strip_im + at, CE_LANES, True)
            if along.radices[along.stages - 1] == 8:
                product_stage(strip + at, strip_im + at, block // 8, spectrum, 8)
            else:
                product_stage(strip + at, strip_im + at, block // 4, spectrum, 4)
            for s in range(along.stages - 2, 0, -1):
                stage_of(along, s, block, along.spans[s], strip + at, strip_im + at, CE_LANES, False)
            spectrum += 2 * block * CE_LANES
        rows_out(shape, strip, strip_im, re, im)
        re += CE_LANES * shape.step
        im += CE_LANES * shape.step


cdef void spectrum_of(const Shape* shape, T* re, T* im, T* strip, T* spectrum) noexcept nogil:
    """Of a kernel that went down the columns: along the rows, and conjugated, so that the product correlates."""
    cdef const Length* along = &shape.along
    cdef T* strip_im = strip + strip_of(along)
    cdef Py_ssize_t y, b, f, lane, at, block = along.block
    cdef int s
    for y in range(shape.down.size // CE_LANES):
        rows_in(shape, re, im, strip, strip_im)
        for b in range(along.size // block):
            at = b * along.apart * CE_LANES
            for s in range(1, along.stages - 1):
                stage_of(along, s, block, along.spans[s], strip + at, strip_im + at, CE_LANES, True)
            if along.radices[along.stages - 1] == 8:
                inner_stage(strip + at, strip_im + at, CE_LANES, block // 8, NULL, 0, 0, 8, True)
            else:
                inner_stage(strip + at, strip_im + at, CE_LANES, block // 4, NULL, 0, 0, 4, True)
            for f in range(block):
                for lane in range(CE_LANES):
                    spectrum[lane] = strip[at + f * CE_LANES + lane]
                    spectrum[CE_LANES + lane] = -strip_im[at + f * CE_LANES + lane]
                spectrum += 2 * CE_LANES
        re += CE_LANES * shape.step
        im += CE_LANES * shape.step
