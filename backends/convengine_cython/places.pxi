# One item of work: which band of rows and chunk of columns it is, and its table of row pointers.
#
# What becomes of the rows, `item_outputs`, is the including module's: items.pxi or dot_items.pxi.

cdef inline Py_ssize_t source(const Work* w, int axis, Py_ssize_t position) noexcept nogil:
    """Sample index at a padded position of an axis, -1 for the fill value."""
    position -= w.before[axis]
    if position < 0:
        return w.left[axis][position + w.before[axis]]
    if position < w.sizes[axis]:
        return position
    return w.right[axis][position - w.sizes[axis]]


cdef void fetch_row(const Work* w, const char* row, Py_ssize_t first, Py_ssize_t step, Py_ssize_t count, T fill,
                    T* to) noexcept nogil:
    """to[i] = the sample at padded element first + i*step of a row of x.

    Divisions are kept to where they are needed: short rows are as many as samples in the borders.
    """
    cdef Py_ssize_t inner = w.inner, before = w.before[2] * inner, beyond = before + w.sizes[2] * inner
    cdef Py_ssize_t i = 0, at, pixel, channel, n
    while i < count:
        at = first + i * step
        if before <= at < beyond:
            n = count - i
            if at + (n - 1) * step >= beyond:
                n = (beyond - at + step - 1) // step
            fetch(w.x_code, row + (at - before) * w.x_element, step * w.x_element, to + i, n)
            i += n
        else:
            pixel, channel = at, 0
            if inner > 1:
                pixel, channel = at // inner, at % inner
            pixel = source(w, 2, pixel)
            if pixel < 0:
                to[i] = fill
            else:
                fetch(w.x_code, row + (pixel * inner + channel) * w.x_element, 0, to + i, 1)
            i += 1


cdef void item_rows(const Work* w, const char* x, Py_ssize_t z, Py_ssize_t y, Py_ssize_t height, Py_ssize_t first,
                    Py_ssize_t count, bint direct, const T** rows, T* filled, T* scratch) noexcept nogil:
    """Fill the table of row pointers for `height` output rows from y and `count` output elements from `first`."""
    cdef Py_ssize_t stride = w.stride[2], phases = min(stride, (w.widths[2] - 1) * w.dilation[2] + 1), reach, left
    cdef Py_ssize_t c, kz, q, zs, ys, f, n, i, end
    cdef Py_ssize_t used = (height - 1) * w.stride[1] + (w.widths[1] - 1) * w.dilation[1] + 1
    cdef int part
    cdef const char* plane
    cdef const T** table = rows
    reach = (w.widths[2] - 1) * w.dilation[2] * w.inner // stride + 1
    left = (w.before[2] + w.sizes[2] + w.after) * w.inner - first * stride
    end = max(count, CE_LANES) + reach
    for c in range(w.channels):
        for part in range(w.x_parts):
            for kz in range(w.widths[0]):
                zs = source(w, 0, z * w.stride[0] + kz * w.dilation[0])
                plane = x + c * w.x_channel + part * w.x_part + zs * w.x_axis[0]
                for q in range(used):
                    if not w.needed[q]:
                        continue
                    ys = source(w, 1, y * w.stride[1] + q)
                    if zs < 0 or ys < 0:
                        table[q] = filled + part * w.row
                    elif direct:
                        table[q] = <const T*> (plane + ys * w.x_axis[1]) + (first - w.before[2] * w.inner)
                    else:
                        for f in range(phases):
                            n = min(count + reach, left if stride == 1 else (left - f + stride - 1) // stride)
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
    cdef Py_ssize_t chunk = number % w.chunks, b, z, g, split, n, y, height, first, count
    cdef const char* x = w.x
    cdef char* out = w.out
    cdef char* memory
    cdef T* filled
    cdef S* buffer
    cdef T* scratch
    cdef const T** rows
    cdef int axis
    cdef bint direct = False
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
    if chunk < w.left_chunks:
        share(w.direct_from, w.left_chunks, w.edge_chunk, chunk, &first, &count)
    elif chunk < w.left_chunks + w.direct_chunks:
        share(w.direct_to - w.direct_from, w.direct_chunks, w.direct_chunk, chunk - w.left_chunks, &first, &count)
        first += w.direct_from
        direct = True
    else:
        share(w.out_row - w.direct_to, w.chunks - w.left_chunks - w.direct_chunks, w.edge_chunk,
              chunk - w.left_chunks - w.direct_chunks, &first, &count)
        first += w.direct_to
    memory = <char*> pool.scratch(w.memory)
    if memory == NULL:
        w.status |= NO_MEMORY
        return
    buffer = <S*> memory
    filled = <T*> (buffer + w.buffer)
    scratch = filled + w.x_parts * w.row
    rows = <const T**> (memory + w.table)
    if w.may_fill:
        for axis in range(w.x_parts):
            for n in range(w.row):
                filled[axis * w.row + n] = w.fill[axis]
    item_rows(w, x + g * w.channels * w.x_channel, z, y, height, first, count, direct, rows, filled, scratch)
    out += g * w.outputs * w.out_channel + z * w.out_axis[0] + y * w.out_axis[1] + first * w.out_element
    item_outputs(w, g, split, out, height, count, rows, buffer)
