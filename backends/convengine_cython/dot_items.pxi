# Rows in and rows out of an item of dot instructions.

cdef void fetch(int code, const char* start, Py_ssize_t step, T* to, Py_ssize_t count) noexcept nogil:
    """Read `count` samples of type `code`, `step` bytes apart, shifted into the range of T.

    The shift is of the whole range, 128 or 32768, so the highest bit flips.
    """
    if code == U1:
        fetch_as[uint8_t](<const uint8_t*> start, step, to, count, 0)
    elif code == I1:
        fetch_as[int8_t](<const int8_t*> start, step, to, count, BYTE_SHIFT)
    elif code == U2:
        fetch_as[uint16_t](<const uint16_t*> start, step, to, count, -32768)
    else:
        fetch_as[int16_t](<const int16_t*> start, step, to, count, 0)


cdef inline void fetch_as(const small* start, Py_ssize_t step, T* to, Py_ssize_t count, int shift) noexcept nogil:
    """Read `count` samples, `step` bytes apart."""
    cdef Py_ssize_t i
    if step == <Py_ssize_t> sizeof(small):
        for i in range(count):
            to[i] = <T> (start[i] + shift)
    else:
        for i in range(count):
            to[i] = <T> ((<const small*> (<const char*> start + i * step))[0] + shift)


cdef void item_outputs(Work* w, Py_ssize_t g, Py_ssize_t split, char* out, Py_ssize_t height, Py_ssize_t count,
                       const T** rows, S* buffer) noexcept nogil:
    """Compute and store `height` rows of `count` elements. A filter has one group and one output."""
    cdef const Dots* d = <const Dots*> w
    cdef Py_ssize_t r, width = max(count, CE_LANES)
    if w.out_direct and count >= CE_LANES:
        dot_band(d, rows, out, w.out_axis[1], d.store, height, count)
        return
    dot_band(d, rows, <char*> buffer, width * sizeof(S), SUMS, height, count)
    for r in range(height):
        deliver(w.out_code, out + r * w.out_axis[1], w.out_element, buffer + r * width, count, w.overflow,
                &w.status, &w.culprit)
