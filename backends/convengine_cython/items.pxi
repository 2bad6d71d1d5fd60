# What becomes of an item's rows: filters, several outputs at once, and methods of two passes.

cdef void item_filter(Work* w, Py_ssize_t g, char* out, Py_ssize_t height, Py_ssize_t count, const T** rows,
                      T* buffer) noexcept nogil:
    """Compute and store a band of a filter's outputs (one stream)."""
    cdef Py_ssize_t r, width
    cdef const T* taps = w.taps + g * w.group_taps
    if w.out_direct and count >= CE_LANES:
        band(w, rows, taps, w.bias[g], <T*> out, w.out_axis[1] // <Py_ssize_t> sizeof(T), height, count)
        return
    width = max(count, CE_LANES)
    band(w, rows, taps, w.bias[g], buffer, width, height, count)
    for r in range(height):
        deliver(w.out_code, out + r * w.out_axis[1], w.out_element, buffer + r * width, count, w.overflow,
                &w.status, &w.culprit)


cdef inline void pair_up(const T* real, const T* imag, char* to, Py_ssize_t step, Py_ssize_t count) noexcept nogil:
    """Store complex numbers, `step` bytes apart, from their parts."""
    cdef Py_ssize_t i
    if step == 2 * <Py_ssize_t> sizeof(T):
        for i in range(count):
            (<T*> to)[2 * i] = real[i]
            (<T*> to)[2 * i + 1] = imag[i]
    else:
        for i in range(count):
            (<T*> (to + i * step))[0] = real[i]
            (<T*> (to + i * step))[1] = imag[i]


cdef void item_streams(Work* w, Py_ssize_t g, Py_ssize_t block, Py_ssize_t blocks, char* out, Py_ssize_t height,
                       Py_ssize_t count, const T** rows, T* buffer) noexcept nogil:
    """Compute and store a band of several output channels (or of the parts of complex ones)."""
    cdef Py_ssize_t r, b, s, n, width = max(count, CE_LANES), first
    cdef const T* taps
    cdef const T* bias
    cdef T* to
    cdef Py_ssize_t to_step
    cdef char* row
    cdef bint direct = w.out_direct and count >= CE_LANES
    for r in range(height):
        for b in range(block, blocks):
            first = b * w.tall
            n = min(w.streams - first, w.tall)
            taps = w.taps + g * w.group_taps + b * w.block_taps
            bias = w.bias + (g * w.blocks + b) * w.tall
            row = out + r * w.out_axis[1]
            to, to_step = buffer, width
            if direct:
                to, to_step = <T*> (row + first * w.out_channel), w.out_channel // <Py_ssize_t> sizeof(T)
            if w.tall == SOME:
                line_streams(w, rows + r * w.stride[1], taps, bias, to, to_step, count, n, SOME, SOME_VECTORS)
            elif w.tall == 2:
                line_streams(w, rows + r * w.stride[1], taps, bias, to, to_step, count, n, 2, PAIR_VECTORS)
            else:
                line_streams(w, rows + r * w.stride[1], taps, bias, to, to_step, count, n, STREAMS, STREAM_VECTORS)
            if not direct and w.out_code == CODE and w.out_parts == 2 and w.out_part == <Py_ssize_t> sizeof(T):
                for s in range(0, n, 2):
                    pair_up(buffer + s * width, buffer + (s + 1) * width, row + (first + s) // 2 * w.out_channel,
                            w.out_element, count)
            elif not direct:
                for s in range(n):
                    deliver(w.out_code,
                            row + (first + s) // w.out_parts * w.out_channel + (first + s) % w.out_parts * w.out_part,
                            w.out_element, buffer + s * width, count, w.overflow, &w.status, &w.culprit)


cdef void item_outputs(Work* w, Py_ssize_t g, Py_ssize_t split, char* out, Py_ssize_t height, Py_ssize_t count,
                       const T** rows, S* buffer) noexcept nogil:
    """Compute and store `height` rows of `count` elements."""
    cdef T* strips
    cdef Py_ssize_t block, blocks
    if w.two_passes:
        strips = <T*> (<char*> buffer + w.strips)
        if w.rank > 0:
            item_separable(w, out, height, count, rows, buffer, strips)
        else:
            item_box(w, out, height, count, rows, buffer, strips)
    elif w.streams == 1:
        item_filter(w, g, out, height, count, rows, buffer)
    else:
        share(w.blocks, w.splits, w.split, split, &block, &blocks)
        item_streams(w, g, block, block + blocks, out, height, count, rows, buffer)
