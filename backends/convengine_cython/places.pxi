# One item of work: which band of rows and chunk of columns it is, and its table of row pointers.
#
# What becomes of the rows, `item_outputs`, is the including module's: items.pxi or dot_items.pxi.

cdef enum:
    BLOCK_COLUMNS = 16  # adjacent in memory, whose rows are fetched together
    ALIASED = 512       # bytes: columns so far apart, or a multiple, push each other out of the caches


cdef inline Py_ssize_t source(const Work* w, int axis, Py_ssize_t position) noexcept nogil:
    """Sample index at a padded position of an axis, -1 for the fill value."""
    position -= w.before[axis]
    if position < 0:
        return w.left[axis][position + w.before[axis]]
    if position < w.sizes[axis]:
        return position
    return w.right[axis][position - w.sizes[axis]]


cdef inline void gather(const Work* w, const char* row, const Py_ssize_t* pixels, Py_ssize_t count, T fill,
                        T* to) noexcept nogil:
    """Border samples of a row: the pixels of an index map, each with its interleaved channels; -1 is the fill value."""
    cdef Py_ssize_t i, c
    for i in range(count):
        if pixels[i] < 0:
            for c in range(w.inner):
                to[i * w.inner + c] = fill
        else:
            fetch(w.x_code, row + pixels[i] * w.inner * w.x_element, w.x_element, to + i * w.inner, w.inner)


cdef void fetch_row(const Work* w, const char* row, Py_ssize_t first, Py_ssize_t step, Py_ssize_t count, T fill,
                    T* to) noexcept nogil:
    """to[i] = the sample at padded element first + i*step of a row of x."""
    cdef Py_ssize_t inner = w.inner, before = w.before[2], beyond = before + w.sizes[2]
    cdef Py_ssize_t i = 0, at, pixel, n
    if step == 1 and (inner == 1 or (first % inner == 0 and count % inner == 0)):
        if inner > 1:
            first //= inner
            count //= inner
        n = min(max(before - first, 0), count)
        gather(w, row, w.left[2] + first, n, fill, to)
        at = max(first, before) - before
        i = min(max(min(first + count, beyond) - before - at, 0), count - n)
        fetch(w.x_code, row + at * inner * w.x_element, w.x_element, to + n * inner, i * inner)
        i += n
        gather(w, row, w.right[2] + (first + i - beyond), count - i, fill, to + i * inner)
        return
    before, beyond = before * inner, beyond * inner
    while i < count:
        at = first + i * step
        if before <= at < beyond:
            n = min(count - i, (beyond - at + step - 1) // step)
            fetch(w.x_code, row + (at - before) * w.x_element, step * w.x_element, to + i, n)
            i += n
        else:
            pixel = source(w, 2, at // inner)
            if pixel < 0:
                to[i] = fill
            else:
                fetch(w.x_code, row + (pixel * inner + at % inner) * w.x_element, 0, to + i, 1)
            i += 1


cdef inline void fetch_plain(const Work* w, const T* row, Py_ssize_t first, Py_ssize_t count, T fill,
                             T* to) noexcept nogil:
    """The same for a row of adjacent samples of the kernels' own type, one after the other and without conversion.

    At the edges of a small image the rows are many and short: fetched one by one they would cost as much as its sums.
    """
    cdef Py_ssize_t before = w.before[2], i = 0, n, pixel
    while i < count and first + i < before:
        pixel = w.left[2][first + i]
        to[i] = fill if pixel < 0 else row[pixel]
        i += 1
    n = min(count, before + w.sizes[2] - first)
    row += first - before
    if n - i >= CE_LANES:
        while i < n:
            i = min(i, n - CE_LANES)
            ce_store(to + i, ce_load(row + i))
            i += CE_LANES
    else:
        while i < n:
            to[i] = row[i]
            i += 1
    row -= first - before
    while i < count:
        pixel = w.right[2][first + i - before - w.sizes[2]]
        to[i] = fill if pixel < 0 else row[pixel]
        i += 1


cdef void fetch_columns(const Work* w, const char* plane, Py_ssize_t y, Py_ssize_t used, Py_ssize_t first,
                        Py_ssize_t count, T fill, const T** table, T* scratch) noexcept nogil:
    """Fetch the rows of a plane whose columns are adjacent in memory, as in Fortran order, a few columns at a time.

    One row after the other would read every cache line as often as it holds rows: from the second-level cache, at a
    stride that prefetching knows, unless columns a power of two apart share few places in it.
    """
    cdef Py_ssize_t at = 0, q, ys, i
    cdef const char* row
    cdef bint inside, own = w.x_code == CODE
    cdef T* to
    while at < count:
        to = scratch + at
        inside = count - at >= BLOCK_COLUMNS and first + at >= w.before[2] \
            and first + at + BLOCK_COLUMNS <= w.before[2] + w.sizes[2]
        for q in range(used):
            if not w.needed[q]:
                continue
            ys = source(w, 1, y * w.stride[1] + q)
            if ys >= 0:
                row = plane + ys * w.x_axis[1]
                if not inside:
                    fetch_row(w, row, first + at, 1, min(count - at, BLOCK_COLUMNS), fill, to)
                else:
                    row += (first + at - w.before[2]) * w.x_element
                    if own:
                        for i in range(BLOCK_COLUMNS):
                            to[i] = (<const T*> (row + i * w.x_element))[0]
                    else:
                        fetch(w.x_code, row, w.x_element, to, BLOCK_COLUMNS)
                table[q] = to - at
                to += w.row
        at += BLOCK_COLUMNS


cdef void item_rows(const Work* w, const char* x, Py_ssize_t z, Py_ssize_t y, Py_ssize_t height, Py_ssize_t first,
                    Py_ssize_t count, bint direct, const T** rows, T* filled, T* scratch) noexcept nogil:
    """Fill the table of row pointers for `height` output rows from y and `count` output elements from `first`."""
    cdef Py_ssize_t stride = w.stride[2], phases = min(stride, (w.widths[2] - 1) * w.dilation[2] + 1), reach, total
    cdef Py_ssize_t c, kz, q, zs, ys, f, n = 0, i, end
    cdef Py_ssize_t used = (height - 1) * w.stride[1] + (w.widths[1] - 1) * w.dilation[1] + 1
    cdef int part
    cdef const char* plane
    cdef const T** table = rows
    cdef bint plain = w.x_code == CODE and w.x_element == <Py_ssize_t> sizeof(T) and stride == 1 and w.inner == 1
    cdef Py_ssize_t down = max(w.x_axis[1], -w.x_axis[1]), along = max(w.x_element, -w.x_element)
    cdef bint columns = stride == 1 and w.inner == 1 and 0 < down < along and along % ALIASED == 0
    reach = (w.widths[2] - 1) * w.dilation[2] * w.inner
    total = (w.before[2] + w.sizes[2] + w.after) * w.inner
    end = max(count, CE_LANES) + reach // stride + 1
    n = min(count + reach + 1, total - first)  # as below for a stride of 1, without a division in each row
    for c in range(w.channels):
        for part in range(w.x_parts):
            for kz in range(w.widths[0]):
                zs = source(w, 0, z * w.stride[0] + kz * w.dilation[0])
                plane = x + c * w.x_channel + part * w.x_part + zs * w.x_axis[0]
                if columns and zs >= 0:
                    fetch_columns(w, plane, y, used, first, n, w.fill[part], table, scratch)
                for q in range(used):
                    if not w.needed[q]:
                        continue
                    ys = source(w, 1, y * w.stride[1] + q)
                    if zs < 0 or ys < 0:
                        table[q] = filled + part * w.filled
                    elif direct:
                        table[q] = <const T*> (plane + ys * w.x_axis[1]) + (first - w.before[2] * w.inner)
                    elif plain:
                        fetch_plain(w, <const T*> (plane + ys * w.x_axis[1]), first, n, w.fill[part], scratch)
                        for i in range(n, end):
                            scratch[i] = 0
                        table[q] = scratch
                        scratch += w.row
                    elif columns:
                        for i in range(n, end):
                            scratch[i] = 0
                        scratch += w.row
                    else:
                        for f in range(phases):
                            if stride > 1:
                                n = min(count + reach // stride + 1,
                                        (total - first * stride - f + stride - 1) // stride)
                            fetch_row(w, plane + ys * w.x_axis[1], first * stride + f, stride, n, w.fill[part],
                                      scratch + f * w.phase)
                            for i in range(n, end):  # what only lanes without an output read
                                scratch[f * w.phase + i] = 0
                        table[q] = scratch
                        scratch += w.row
                table += w.span


cdef inline void share(Py_ssize_t total, Py_ssize_t parts, Py_ssize_t size, Py_ssize_t part, Py_ssize_t* first,
                       Py_ssize_t* count) noexcept nogil:
    """Part `part` of `total` things cut into pieces of `size`, the last one taking the remainder."""
    first[0] = part * size
    count[0] = total - first[0] if part == parts - 1 else size


cdef void item(void* context, Py_ssize_t number, int worker) noexcept nogil:
    """One band of rows and chunk of columns of one image and group of channels."""
    cdef Work* w = <Work*> context
    cdef Py_ssize_t chunk = number % w.chunks, b, z, g, split, n, y, height, first, count, end, stop
    cdef const char* x = w.x
    cdef char* out = w.out
    cdef char* memory
    cdef T* filled
    cdef S* buffer
    cdef T* scratch
    cdef const T** rows
    cdef int axis
    cdef bint direct
    number //= w.chunks
    b = number % w.bands
    number //= w.bands
    z = number % w.out_sizes[0]
    number //= w.out_sizes[0]
    split = number % w.splits
    number //= w.splits
    g = number % w.groups
    number //= w.groups
    for axis in range(w.batch_axes - 1, -1, -1):
        n = number % w.batch[axis]
        number //= w.batch[axis]
        x += n * w.x_batch[axis]
        out += n * w.out_batch[axis]
    share(w.out_sizes[1], w.bands, w.band, b, &y, &height)
    share(w.out_row, w.chunks, w.chunk, chunk, &first, &count)
    memory = <char*> pool.scratch(w.memory)
    if memory == NULL:
        w.status |= NO_MEMORY
        return
    buffer = <S*> memory
    filled = <T*> (buffer + w.buffer)
    scratch = filled + w.x_parts * w.filled
    rows = <const T**> (memory + w.table)
    if w.may_fill:
        for axis in range(w.x_parts):
            for n in range(w.filled):
                filled[axis * w.filled + n] = w.fill[axis]
    x += g * w.channels * w.x_channel
    out += g * w.outputs * w.out_channel + z * w.out_axis[0] + y * w.out_axis[1]
    end = first + count
    while first < end:  # the columns at the left border, those that read x in place, those at the right border
        direct = w.direct_from <= first < w.direct_to
        stop = min(end, w.direct_to if direct else w.direct_from if first < w.direct_from else end)
        if not direct and stop - first >= 2 * w.edge_chunk:
            stop = first + w.edge_chunk
        item_rows(w, x, z, y, height, first, stop - first, direct, rows, filled, scratch)
        item_outputs(w, g, split, out + first * w.out_element, height, stop - first, rows, buffer)
        first = stop
    if w.stream:
        ce_fence()
