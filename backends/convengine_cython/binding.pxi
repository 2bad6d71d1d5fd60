# What a prepared filter knows of its problem, and what a call adds: where the samples lie; and what went wrong.

cdef describe(Work* w, layout):
    """Note a problem's numbers. The layout must outlive them: the index maps are its own."""
    cdef int axis, part
    w.x_code, w.out_code, w.overflow = layout.x_code, layout.out_code, layout.overflow
    w.x_parts, w.out_parts = layout.x_parts, layout.out_parts
    w.groups, w.channels, w.outputs = layout.groups, layout.channels, layout.outputs
    w.planes, w.streams = w.channels * w.x_parts, w.outputs * w.out_parts
    for axis in range(3):
        w.sizes[axis], w.out_sizes[axis] = layout.sizes[axis], layout.out[axis]
        w.widths[axis], w.before[axis] = layout.widths[axis], layout.before[axis]
        w.stride[axis], w.dilation[axis] = layout.stride[axis], layout.dilation[axis]
        w.left[axis] = <const Py_ssize_t*> address(layout.maps[2 * axis])
        w.right[axis] = <const Py_ssize_t*> address(layout.maps[2 * axis + 1])
    w.after = len(layout.maps[5])
    w.may_fill = any(len(indices) and indices.min() < 0 for indices in layout.maps[:4])
    for part in range(w.x_parts):
        w.fill[part] = (<const T*> address(layout.fill))[part]


cdef Py_ssize_t bind(Work* w, cnp.ndarray x, cnp.ndarray out, int spatial, int layer, Py_ssize_t x_item,
                     Py_ssize_t out_item):
    """Note how the samples of x and out lie. Returns how many images there are, beside interleaved channels."""
    cdef int axis, batch = x.ndim - spatial - layer
    cdef Py_ssize_t images = 1
    for axis in range(3):
        w.x_axis[axis] = w.out_axis[axis] = 0
    for axis in range(spatial):
        w.x_axis[3 - spatial + axis] = x.strides[x.ndim - spatial + axis]
        w.out_axis[3 - spatial + axis] = out.strides[out.ndim - spatial + axis]
    w.x_channel = x.strides[batch] if layer else 0
    w.out_channel = out.strides[batch] if layer else 0
    w.x_part, w.out_part = x_item // w.x_parts, out_item // w.out_parts
    w.x_element, w.out_element = w.x_axis[2], w.out_axis[2]
    w.inner, w.batch_axes = 1, 0
    for axis in range(batch):
        if not layer and w.inner == 1 and w.x_parts == w.out_parts == 1 and w.stride[2] == 1 and x.shape[axis] > 1 \
                and x.strides[axis] == x_item and w.x_axis[2] == x.shape[axis] * x_item \
                and out.strides[axis] == out_item and w.out_axis[2] == x.shape[axis] * out_item:
            w.inner, w.x_element, w.out_element = x.shape[axis], x_item, out_item
            continue
        w.batch[w.batch_axes] = x.shape[axis]
        w.x_batch[w.batch_axes], w.out_batch[w.batch_axes] = x.strides[axis], out.strides[axis]
        w.batch_axes += 1
        images *= x.shape[axis]
    return images


cdef void mark_needed(const Work* w, char* needed) noexcept:
    """Mark the padded rows that a band needs."""
    cdef Py_ssize_t a, r
    if w.stride[1] == 1 and w.dilation[1] == 1:
        for a in range(w.span):
            needed[a] = 1
    else:
        for a in range(w.widths[1]):
            for r in range(2 * w.band - 1):
                needed[a * w.dilation[1] + r * w.stride[1]] = 1


cdef raise_fault(const Work* w, out_dtype):
    """Raise what the items noted."""
    if w.status & NO_MEMORY:
        raise MemoryError(f"no memory for {w.memory} bytes of scratch in a worker")
    if w.status & HELD_NAN:
        raise InvalidProblem(f"dtype={out_dtype} needs numbers; the result holds NaN; ask for a float dtype")
    if w.status & TOO_LARGE:
        raise OverflowError(
            f"a result of {w.culprit:.17g} does not fit dtype={out_dtype}; use overflow='saturate'"
        )


cdef void* address(array) except NULL:
    """Where a C-contiguous array's samples are. The array must outlive the pointer."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    cdef void* at = view.buf
    PyBuffer_Release(&view)
    return at if at != NULL else <void*> 1  # an empty array may have none; nothing is read there
