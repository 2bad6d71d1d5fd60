# Boxes of integers: running sums, which are exact, down the rows and across; the width costs nothing.
#
# No sum passes what the direct one may reach: a running sum is one of some of its samples, and a difference of two
# rows, or of two column sums where the kernel has two columns, is at most twice the largest of them.

cdef enum:
    BOX_PRODUCTS = 8           # what an output costs, in multiply-adds


cdef inline void run_down(const T* const* rows, Py_ssize_t first, Py_ssize_t height, Py_ssize_t count,
                          T* sums) noexcept nogil:
    """Column sums over the rows of the first output row."""
    cdef Py_ssize_t j = 0, a
    cdef ce_vec total
    while j < count:
        j = min(j, count - CE_LANES)
        total = ce_load(rows[0] + first + j)
        for a in range(1, height):
            total = total + ce_load(rows[a] + first + j)
        ce_store(sums + j, total)
        j += CE_LANES


cdef inline void slide_down(const T* leaving, const T* entering, Py_ssize_t count, T* sums) noexcept nogil:
    """Column sums of the next output row. No vector may be added twice, so the last elements go one by one."""
    cdef Py_ssize_t j = 0
    while j + CE_LANES <= count:
        ce_store(sums + j, ce_load(sums + j) + (ce_load(entering + j) - ce_load(leaving + j)))
        j += CE_LANES
    for j in range(j, count):
        sums[j] += entering[j] - leaving[j]


cdef inline void run_across(const T* sums, Py_ssize_t width, Py_ssize_t inner, T tap, T bias, T* to, Py_ssize_t count,
                            T* spare) noexcept nogil:
    """Outputs of a row: a running sum for each of `inner` channels."""
    cdef Py_ssize_t reach = (width - 1) * inner, i, b
    cdef T total
    if width == 1:
        for i in range(count):
            to[i] = sums[i] * tap + bias
    elif inner == 1:
        total = 0
        for b in range(width):
            total += sums[b]
        to[0] = total * tap + bias
        for i in range(1, count):
            total += sums[i + reach] - sums[i - 1]
            to[i] = total * tap + bias
    else:
        for i in range(min(inner, count)):
            total = 0
            for b in range(width):
                total += sums[i + b * inner]
            spare[i] = total
        for i in range(inner, count):
            spare[i] = spare[i - inner] + (sums[i + reach] - sums[i - inner])
        for i in range(count):
            to[i] = spare[i] * tap + bias


cdef void item_box(Work* w, char* out, Py_ssize_t height, Py_ssize_t count, const T* const* rows, T* buffer,
                   T* sums) noexcept nogil:
    """Compute and store a band of outputs of a box."""
    cdef Py_ssize_t strips = pieces(count, w.strip), s, first, width, need, y
    cdef T* to
    cdef char* start
    for s in range(strips):
        share(count, strips, w.strip, s, &first, &width)
        need = max(width, CE_LANES) + (w.widths[2] - 1) * w.inner
        run_down(rows, first, w.widths[1], need, sums)
        for y in range(height):
            if y > 0:
                slide_down(rows[y - 1] + first, rows[y + w.widths[1] - 1] + first, need, sums)
            start = out + y * w.out_axis[1] + first * w.out_element
            to = <T*> start if w.out_direct else buffer
            run_across(sums, w.widths[2], w.inner, w.taps[0], w.bias[0], to, width, buffer + 2 * w.strip)
            if not w.out_direct:
                deliver(w.out_code, start, w.out_element, to, width, w.overflow, &w.status, &w.culprit)
