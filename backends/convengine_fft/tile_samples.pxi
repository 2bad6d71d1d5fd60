# What a tile reads and writes: its samples with their border, its scale, its outputs.

cdef enum:
    MOST_BATCH = 64                                 # NumPy's most axes
    FILL = -1                                       # the source of a sample beyond a constant border
    PLAIN_ROW = 2048                                # bytes

cdef struct Tiles:
    # The problem, on two axes; a signal lies along the second, and the rows of its tiles follow each other.
    int x_code, out_code, overflow
    bint signal, integer
    Py_ssize_t sizes[2]
    Py_ssize_t before[2]
    const Py_ssize_t* left[2]                       # index maps of the pads
    const Py_ssize_t* right[2]
    Py_ssize_t stride[2]
    Py_ssize_t dense[2]                             # outputs if the stride were 1
    Py_ssize_t outputs[2]                           # those of one tile
    Py_ssize_t reads[2]                             # samples that they need
    Py_ssize_t counts[2]                            # tiles
    T fill, bias
    Shape shape
    const T* spectrum
    int exponent                                    # of two, taken out of the kernel
    # this call: where the samples lie, in bytes
    const char* x
    char* out
    int batch_axes
    Py_ssize_t batch[MOST_BATCH]
    Py_ssize_t x_batch[MOST_BATCH]
    Py_ssize_t out_batch[MOST_BATCH]
    Py_ssize_t x_axis[2]
    Py_ssize_t out_axis[2]
    bint x_direct, out_direct                       # rows are elements side by side
    Py_ssize_t pairs                                # of one image
    unsigned char* broken                           # per tile of each image: whether a sample was not finite
    size_t memory
    int status
    double culprit


cdef struct Run:
    # Samples of a row that follow each other in x, forwards, backwards or all the same.
    Py_ssize_t at, count, source, step


cdef struct Tile:
    Py_ssize_t y, x                                 # its first outputs
    Py_ssize_t height, width                        # how many there are
    bint wanted                                     # whether the stride takes any
    T* plane
    const T** rows                                  # where its samples are
    T** to                                          # where its outputs go
    Run* runs
    T scale                                         # of the samples, a power of two
    T back[2]                                       # of the outputs
    bint converted                                  # whether some of these are in the plane first
    bint broken, zero


cdef inline Py_ssize_t source(const Tiles* t, int axis, Py_ssize_t position) noexcept nogil:
    """Sample index at a position of an axis, 0 being its first sample."""
    if position < 0:
        return t.left[axis][position + t.before[axis]]
    if position < t.sizes[axis]:
        return position
    return t.right[axis][position - t.sizes[axis]]


cdef Py_ssize_t find_runs(const Tiles* t, Py_ssize_t first, Py_ssize_t count, Run* runs) noexcept nogil:
    """Cut `count` positions of the second axis into runs; how many there are."""
    cdef Py_ssize_t i = 0, n = 0, start, next
    cdef Run* run
    while i < count:
        run = runs + n
        n += 1
        run.at, run.step, run.count = i, 0, 1
        start = run.source = source(t, 1, first + i)
        if 0 <= first + i < t.sizes[1]:
            run.step, run.count = 1, min(count - i, t.sizes[1] - first - i)
        elif i + 1 < count:
            next = source(t, 1, first + i + 1)
            if (start == FILL) == (next == FILL) and -1 <= next - start <= 1:
                run.step = next - start
                while next == start + run.count * run.step and (start == FILL) == (next == FILL):
                    run.count += 1
                    if i + run.count == count:
                        break
                    next = source(t, 1, first + i + run.count)
        i += run.count
    return n


cdef void fetch_runs(const Tiles* t, const char* row, const Run* runs, Py_ssize_t n, T* to) noexcept nogil:
    cdef Py_ssize_t r, i
    for r in range(n):
        if runs[r].source == FILL:
            for i in range(runs[r].count):
                to[runs[r].at + i] = t.fill
        else:
            fetch(t.x_code, row + runs[r].source * t.x_axis[1], runs[r].step * t.x_axis[1], to + runs[r].at,
                  runs[r].count)


cdef void fetch_tile(const Tiles* t, const char* x, Tile* tile) noexcept nogil:
    """Copy a tile's samples into its plane, with their border; what no output needs is zero."""
    cdef Py_ssize_t columns = t.shape.along.size, y = tile.y - t.before[0], left = tile.x - t.before[1]
    cdef Py_ssize_t height = tile.height - 1 + t.reads[0] - (t.outputs[0] - 1)
    cdef Py_ssize_t width = tile.width - 1 + t.reads[1] - (t.outputs[1] - 1)
    cdef Py_ssize_t r, i, n = 0, count, from_row
    cdef T* row
    if not t.signal:
        n = find_runs(t, left, width, tile.runs)
    for r in range(t.shape.down.size):
        row = tile.plane + r * t.shape.step
        tile.rows[r] = row
        count, from_row = 0, 0
        if t.signal:
            count = max(min(width - r * columns, columns), 0)
            n = find_runs(t, left + r * columns, count, tile.runs)
        elif r < height:
            count, from_row = width, source(t, 0, y + r)
        if from_row == FILL:
            for i in range(count):
                row[i] = t.fill
        elif count:
            fetch_runs(t, x + from_row * t.x_axis[0], tile.runs, n, row)
        for i in range(count, columns):
            row[i] = 0


cdef inline bint is_inside(const Tiles* t, const Tile* tile) noexcept nogil:
    """Whether a tile is full, and all its samples are of x: none of a border, none left zero."""
    cdef Py_ssize_t y = tile.y - t.before[0], left = tile.x - t.before[1]
    cdef Py_ssize_t columns = t.shape.along.size * (t.shape.down.size if t.signal else 1)
    if tile.height < t.outputs[0] or tile.width < t.outputs[1] or t.reads[1] < columns \
            or left < 0 or left + columns > t.sizes[1]:
        return False
    return t.signal or (t.reads[0] >= t.shape.down.size and y >= 0 and y + t.shape.down.size <= t.sizes[0])


cdef bint read_in_place(const Tiles* t, const char* x, Tile* tile) noexcept nogil:
    """Point at a tile's samples where they stand in x, if all do, as they are needed."""
    cdef Py_ssize_t r, apart = t.shape.along.size * <Py_ssize_t> sizeof(T) if t.signal else t.x_axis[0]
    if not t.x_direct or not is_inside(t, tile):
        return False
    x += (tile.y - t.before[0]) * t.x_axis[0] + (tile.x - t.before[1]) * t.x_axis[1]
    for r in range(t.shape.down.size):
        tile.rows[r] = <const T*> (x + r * apart)
    return True


cdef double energy(const Shape* shape, const T* const* rows) noexcept nogil:
    """The sum of a tile's squares: row sums of elements, added up in double."""
    cdef ce_vec sums[4]
    cdef ce_vec value
    cdef Py_ssize_t r, v
    cdef double total = 0
    cdef int k
    for r in range(0, shape.down.size, 4):
        for k in range(4):
            sums[k] = ce_zero()
        for v in range(shape.along.size // CE_LANES):
            for k in range(4):
                value = ce_load(rows[r + k] + v * CE_LANES)
                sums[k] = sums[k] + value * value
        total += <double> ce_sum((sums[0] + sums[1]) + (sums[2] + sums[3]))
    return total


cdef inline int half_exponent(double total) noexcept nogil:
    """The e for which total lies in [4**e, 4**(e + 1))."""
    cdef int exponent
    frexp(total, &exponent)
    return (exponent - 1) >> 1                      # rounds down, where a division would round to zero


cdef inline T power(int exponent) noexcept nogil:
    return <T> ldexp(1.0, exponent)


cdef void clean(const Shape* shape, Tile* tile, int* exponent) noexcept nogil:
    """Of a tile in its plane, zero what is not finite, and scale the rest so that its largest is about 1."""
    cdef Py_ssize_t r, i
    cdef T* row
    cdef T peak = 0, value, first, second
    for r in range(shape.down.size):
        row = tile.plane + r * shape.step
        for i in range(shape.along.size):
            value = row[i]
            if value - value != 0:
                tile.broken = True
                row[i] = 0
            else:
                peak = max(peak, -value if value < 0 else value)
    exponent[0] = 0
    tile.zero = peak == 0
    if tile.zero:
        return
    frexp(<double> peak, exponent)
    first = power(-(exponent[0] // 2))              # in two factors: one alone may be out of range
    second = power(exponent[0] // 2 - exponent[0])
    for r in range(shape.down.size):
        row = tile.plane + r * shape.step
        for i in range(shape.along.size):
            row[i] = row[i] * first * second


cdef inline void set_scale(const Tiles* t, Tile* tile, int exponent) noexcept nogil:
    """Note that samples of a tile were divided by 2**exponent, for its outputs."""
    exponent = max(min(exponent + t.exponent, MOST_EXPONENT), -MOST_EXPONENT)
    tile.scale = 1
    tile.back[0] = power(exponent // 2)
    tile.back[1] = power(exponent - exponent // 2)


cdef void load_tile(const Tiles* t, const char* x, Tile* tile) noexcept nogil:
    """Find a tile's samples, and the power of two that brings their 2-norm to between 1 and 2."""
    cdef bint in_place = read_in_place(t, x, tile)
    cdef int exponent = 0, more
    cdef double total, most = SAFE_ENERGY
    tile.broken = tile.zero = False
    if not in_place:
        fetch_tile(t, x, tile)
    total = energy(&t.shape, tile.rows)
    if not 1 / most <= total <= most:               # squares that over- or underflowed, zeros, or NaN
        if in_place:
            fetch_tile(t, x, tile)
        clean(&t.shape, tile, &exponent)
        total = 1 if tile.zero else energy(&t.shape, tile.rows)
    more = half_exponent(total)
    set_scale(t, tile, exponent + more)
    tile.scale = power(-more)
    if tile.zero:
        tile.back[0] = 0


cdef inline bint may_go_plain(const Tiles* t, const Tile* tile) noexcept nogil:
    """Whether to try a tile as it is. Says the same wherever the samples lie in memory, for it decides on bits.

    A pass that adds up squares brings samples into the caches row by row: rows shorter than PLAIN_ROW gain by it.
    """
    return (t.signal or t.shape.along.size * <Py_ssize_t> sizeof(T) >= PLAIN_ROW) and is_inside(t, tile)


cdef void load_plain(const Tiles* t, const char* x, Tile* tile) noexcept nogil:
    """Find a tile's samples as they are."""
    tile.broken = tile.zero = False
    set_scale(t, tile, 0)
    if not read_in_place(t, x, tile):
        fetch_tile(t, x, tile)


cdef inline bint is_even(double one, double other) noexcept nogil:
    """Whether the tiles of a pair, of these sums of squares, may go as they are: one 2-norm is below twice the other.

    A power of two that both were scaled by would change no more than exponents: the bound is that of scaled tiles.
    """
    cdef double most = PLAIN_ENERGY
    return 1 / most <= one <= most and 1 / most <= other <= most and one < FAIR * other and other < FAIR * one


cdef inline Py_ssize_t outputs_in(const Tiles* t, const Tile* tile, Py_ssize_t r) noexcept nogil:
    """How many outputs row r of a tile holds."""
    if t.signal:
        return max(min(tile.width - r * t.shape.along.size, t.shape.along.size), 0)
    return tile.width if r < tile.height else 0


cdef inline Py_ssize_t widest(const Tiles* t, const Tile* tile) noexcept nogil:
    return outputs_in(t, tile, 0)


cdef char* place(const Tiles* t, char* out, const Tile* tile, Py_ssize_t r, Py_ssize_t* first) noexcept nogil:
    """Where the outputs of row r go, and the first of them that the stride takes; NULL if it takes none."""
    cdef Py_ssize_t y = tile.y + (0 if t.signal else r), x = tile.x + (r * t.shape.along.size if t.signal else 0)
    first[0] = 0
    if t.stride[0] > 1 or t.stride[1] > 1:          # divisions take time
        if y % t.stride[0]:
            return NULL
        y //= t.stride[0]
        first[0] = (t.stride[1] - x % t.stride[1]) % t.stride[1]
        x = (x + first[0]) // t.stride[1]
    if first[0] >= outputs_in(t, tile, r):
        return NULL
    return out + y * t.out_axis[0] + x * t.out_axis[1]


cdef void aim(const Tiles* t, char* out, Tile* tile, bint straight, Py_ssize_t width, T* waste) noexcept nogil:
    """Say where each row of a tile's outputs goes: into out, or where it must be converted into the plane."""
    cdef Py_ssize_t r, first
    cdef char* at
    tile.converted = False
    for r in range(t.shape.down.size):
        at = place(t, out, tile, r, &first)
        if at == NULL:
            tile.to[r] = waste
        elif straight and outputs_in(t, tile, r) == width:
            tile.to[r] = <T*> at
        else:
            tile.to[r] = tile.plane + r * t.shape.step
            tile.converted = True


cdef void deliver_rows(Tiles* t, char* out, Tile* tile) noexcept nogil:
    """Round and store the rows that are in the plane."""
    cdef Py_ssize_t r, i, first, n
    cdef char* at
    cdef T* row
    for r in range(t.shape.down.size):
        row = tile.plane + r * t.shape.step
        at = place(t, out, tile, r, &first)
        if at == NULL or tile.to[r] != row:
            continue
        n = (outputs_in(t, tile, r) - first + t.stride[1] - 1) // t.stride[1]
        if first or t.stride[1] > 1:
            for i in range(n):
                row[i] = row[first + i * t.stride[1]]
        if t.integer:
            for i in range(n):
                row[i] = <T> rint(<double> row[i]) + t.bias
        deliver(t.out_code, at, t.out_axis[1], row, n, t.overflow, &t.status, &t.culprit)
