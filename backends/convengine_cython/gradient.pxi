# The kernel's gradient: how its work is cut into items, and the class that Python sees.
#
# dk[d, c, a] = sum over images and outputs i of dy[d, i] * x[c, stride*i + dilation*a - before]. A unit is some output
# rows and columns, small enough for the cache. An item stages the unit's rows of its output channels, then those of its
# input channels, piece by piece, and multiplies rows with rows: whole vectors of products are summed in registers over
# all rows of the unit, and then added to the item's numbers. Parts are ranges of units with numbers of their own, added
# up at the end. How the work is cut, and so every rounding, follows from the problem alone: not from the workers, nor
# from where the samples lie.

# Tried on 2 cores of AMD Zen 4, 2026-11, in float32: layers of 64 to 512 channels at 56 x 56 to 7 x 7, filters of one
# 1024 x 1024 image. Kernels of one tap are staged too often for what they compute.
cdef enum:
    WIDEST = 2048                # columns of a unit
    TILE_BYTES = 65536           # of a unit's dy rows that one tile reads, most of them from the second-level cache
    FILTER_BYTES = 131072        # of a unit's dy rows for a filter, which reads them few times
    STAGED_BYTES = 32768         # of x rows staged at once, where one plane has fewer
    MOST_STAGED = 1048576        # of x rows of one plane, unless few kernel rows need more
    INSIDE_VECTORS = 8           # fewer are not worth a left and a right edge of their own
    UNIT_BYTES = 524288          # of a unit's dy rows: half of the second-level cache
    BLOCK = 32                   # output channels of an item, at least, where there are as many
    MOST_BLOCK = 128
    REUSE = 256                  # products of one staged sample, of x or dy, that pay for staging it
    FEW = 8                      # kernel rows or input channels of an item, at least, where there are as many
    ITEMS = 64                   # wanted, for many workers,
    LEAST_PRODUCTS = 524288      # but none smaller than this
    MOST_PRODUCTS = 67108864     # nor larger than this, for a prompt Ctrl-C, where that can be helped
    PARTS_BYTES = 33554432       # of all parts' numbers, where there is more than one part


cdef Py_ssize_t ceiling(Py_ssize_t total, Py_ssize_t size) noexcept nogil:
    return (total + size - 1) // size


cdef Py_ssize_t whole_vectors(Py_ssize_t count) noexcept nogil:
    return ceiling(count, CE_LANES) * CE_LANES


cdef void cut_columns(Gradient* g, Py_ssize_t widest) noexcept nogil:
    """Cut the columns into chunks; those inside are as many whole vectors as x has where no border is touched."""
    cdef Work* w = &g.w
    cdef Py_ssize_t count = w.out_sizes[2], first = min(w.before[2], count), last, n
    cdef int kind
    last = min(w.before[2] + w.sizes[2] - (w.widths[2] - 1) * w.dilation[2], count)
    last = first + max(last - first, 0) // CE_LANES * CE_LANES
    if w.streams > 1 or w.x_code != CODE or w.x_parts > 1 or w.stride[2] != 1 \
            or last - first < INSIDE_VECTORS * CE_LANES:
        first = last = 0
    g.starts[0], g.stops[0] = 0, first
    g.starts[1], g.stops[1] = first, last
    g.starts[2], g.stops[2] = last, count
    w.chunks = 0
    for kind in range(3):
        count = g.stops[kind] - g.starts[kind]
        n = ceiling(count, widest)
        g.sizes[kind] = whole_vectors(ceiling(count, max(n, 1)))
        g.counts[kind] = ceiling(count, g.sizes[kind]) if n else 0
        w.chunks += g.counts[kind]


cdef Py_ssize_t staged_rows(const Gradient* g) noexcept nogil:
    """At most so many rows of one plane of x are staged for a unit: those of its segments, or those needed of them."""
    cdef const Work* w = &g.w
    cdef Py_ssize_t segments = (w.band + w.out_sizes[1] - 2) // w.out_sizes[1] + 1
    cdef Py_ssize_t more = max((g.height - 1) * w.dilation[1] + 1 - w.stride[1], 0)
    return min(segments * min(w.band, w.out_sizes[1]) * g.height, w.band * w.stride[1] + segments * more)


cdef void cut_gradient(Gradient* g, Py_ssize_t images) noexcept nogil:
    """Choose units, parts and items."""
    cdef Work* w = &g.w
    cdef Py_ssize_t reach = (w.widths[2] - 1) * w.dilation[2], plane = w.widths[1] * w.widths[2]
    cdef Py_ssize_t size = sizeof(T), most, widest, least, wanted, base, room
    cdef double work
    g.rows = images * w.out_sizes[0] * w.out_sizes[1]
    work = <double> g.rows * w.out_sizes[2] * g.part_size
    wanted = <Py_ssize_t> min(work / LEAST_PRODUCTS + 1, <double> ITEMS)
    g.block, most = 1, FILTER_BYTES // size
    if w.streams > 1:
        g.block = min(max(BLOCK, ceiling(REUSE, plane)), MOST_BLOCK)
        g.block = ceiling(ceiling(w.streams, ceiling(w.streams, g.block)), TALLEST) * TALLEST
        g.block = min(g.block, w.streams)
        most = max(min(TILE_BYTES // TALLEST, UNIT_BYTES // g.block) // size, CE_LANES)
    g.blocks = ceiling(w.streams, g.block)
    cut_columns(g, min(most, WIDEST))
    widest = max(g.sizes[0], max(g.sizes[1], g.sizes[2]))
    w.band = min(max(most // widest, 1), g.rows)
    w.phase = widest + reach // w.stride[2] + 1
    w.row = min(w.stride[2], reach + 1) * w.phase
    g.height = w.widths[1]
    while staged_rows(g) * w.row * size > MOST_STAGED and g.height > FEW:
        g.height = halved(g.height, FEW)
    # Items first by what needs no numbers of its own, then by parts.
    g.slab, least = w.planes, max(FEW, ceiling(REUSE, plane))
    base = w.groups * g.blocks * w.widths[0]
    while base * ceiling(w.planes, g.slab) * ceiling(w.widths[1], g.height) < wanted and g.slab > least:
        g.slab = halved(g.slab, least)
    g.parts = ceiling(wanted, base * ceiling(w.planes, g.slab) * ceiling(w.widths[1], g.height))
    while ceiling(g.rows, w.band) * w.chunks < g.parts and w.band > (1 if w.streams > 1 else FEW):
        w.band = halved(w.band, 1)
    g.units = ceiling(g.rows, w.band) * w.chunks
    room = min(max(PARTS_BYTES // (g.part_size * size), 1), g.units)
    g.parts = min(g.parts, room)
    while work / (base * ceiling(w.planes, g.slab) * ceiling(w.widths[1], g.height) * g.parts) > MOST_PRODUCTS:
        if g.parts < room:
            g.parts = min(2 * g.parts, room)
        elif g.slab > FEW:
            g.slab = halved(g.slab, FEW)
        elif g.height > FEW:
            g.height = halved(g.height, FEW)
        else:
            break
    g.slabs = ceiling(w.planes, g.slab)
    g.heights = ceiling(w.widths[1], g.height)
    g.together = 1
    if w.streams > 1:
        g.together = STAGED_BYTES // (staged_rows(g) * w.row * size)
        g.together = min(max(g.together, 1), g.slab)


cdef size_t after(size_t start, Py_ssize_t count, size_t size) noexcept nogil:
    """Where the next piece of scratch lies behind `count` things: at a cache line."""
    return (start + <size_t> count * size + 63) // 64 * 64


cdef void lay_gradient_scratch(Gradient* g) noexcept nogil:
    """Lay out a worker's memory."""
    cdef Work* w = &g.w
    cdef Py_ssize_t lines = g.together * g.height
    g.stream = w.band * whole_vectors(max(g.sizes[0], max(g.sizes[1], g.sizes[2])))
    if g.stream // CE_LANES % 2 == 0:
        g.stream += CE_LANES  # streams a power of two apart would share their cache sets
    g.at_x = after(0, w.x_parts * w.row, sizeof(T))
    g.at_dy = after(g.at_x, g.together * staged_rows(g) * w.row, sizeof(T))
    g.at_tables = after(g.at_dy, g.block * g.stream, sizeof(T))
    g.at_spans = after(g.at_tables, lines * w.band, sizeof(void*))
    g.at_segments = after(g.at_spans, w.span, sizeof(void*))
    g.at_taps = after(g.at_segments, w.band, sizeof(Segment))
    w.memory = after(g.at_taps, lines * w.widths[2], sizeof(Tap))


cdef class KernelGradient:
    """The gradient of one problem's kernel; called with x and dy. Thread-safe."""

    cdef Gradient gradient
    cdef object layout

    def __init__(self, layout):
        cdef Gradient* g = &self.gradient
        cdef Work* w = &g.w
        cdef int axis, part
        cdef Py_ssize_t images = 1
        self.layout = layout
        w.x_code, w.out_code = layout.x_code, layout.dy_code
        g.x_real, g.dy_real = layout.x_real, layout.dy_real
        w.x_parts = w.out_parts = layout.parts
        w.groups, w.channels, w.outputs = layout.groups, layout.channels, layout.outputs
        w.planes, w.streams, w.inner = w.channels * w.x_parts, w.outputs * w.out_parts, 1
        g.kernel_size = 1
        for axis in range(3):
            w.sizes[axis], w.out_sizes[axis] = layout.borders.sizes[axis], layout.out[axis]
            w.widths[axis], w.before[axis] = layout.widths[axis], layout.borders.before[axis]
            w.stride[axis], w.dilation[axis] = layout.stride[axis], layout.dilation[axis]
            w.left[axis] = <const Py_ssize_t*> address(layout.borders.maps[2 * axis])
            w.right[axis] = <const Py_ssize_t*> address(layout.borders.maps[2 * axis + 1])
            g.kernel_size *= w.widths[axis]
        w.after = len(layout.borders.maps[5])
        w.may_fill = any(len(indices) and indices.min() < 0 for indices in layout.borders.maps[:4])
        for part in range(w.x_parts):
            w.fill[part] = (<const T*> address(layout.fill))[part]
        for size in layout.batch:
            images *= size
        g.part_size = w.groups * w.streams * w.planes * g.kernel_size
        if images * w.out_sizes[0] * w.out_sizes[1] * w.out_sizes[2] * g.part_size:
            cut_gradient(g, images)
            w.span = (min(w.band, w.out_sizes[1]) - 1) * w.stride[1] + (g.height - 1) * w.dilation[1] + 1
            lay_gradient_scratch(g)

    def __call__(self, x, dy):
        """Multiply x with dy, both canonical, any strides.

        Gives the sums of each part, (parts, groups, streams, planes, *kernel); no part where there is nothing to sum.
        """
        cdef Gradient g = self.gradient
        cdef Py_buffer source_buffer
        cdef Py_buffer other_buffer
        layout = self.layout
        sums = np.zeros((g.parts, layout.groups, g.w.streams, g.w.planes, *layout.widths), layout.element)
        if g.parts == 0:
            return sums
        g.sums = <T*> address(sums)
        PyObject_GetBuffer(x, &source_buffer, PyBUF_STRIDES)
        try:
            PyObject_GetBuffer(dy, &other_buffer, PyBUF_STRIDES)
            try:
                self._run(&g, &source_buffer, &other_buffer)
            finally:
                PyBuffer_Release(&other_buffer)
        finally:
            PyBuffer_Release(&source_buffer)
        if g.w.status & NO_MEMORY:
            raise MemoryError(f"no memory for {g.w.memory} bytes of scratch in a worker")
        return sums

    cdef _run(self, Gradient* g, Py_buffer* x, Py_buffer* dy):
        cdef Work* w = &g.w
        cdef int axis, spatial = self.layout.ndim, batch = len(self.layout.batch), workers = 1
        cdef bint layer = x.ndim > spatial + batch
        cdef Py_ssize_t a, b, r, items, stride = w.stride[2]
        w.x, w.out, w.status, w.batch_axes = <const char*> x.buf, <char*> dy.buf, 0, batch
        for axis in range(3):
            w.x_axis[axis] = w.out_axis[axis] = 0
        for axis in range(spatial):
            w.x_axis[3 - spatial + axis] = x.strides[x.ndim - spatial + axis]
            w.out_axis[3 - spatial + axis] = dy.strides[dy.ndim - spatial + axis]
        for axis in range(batch):
            w.batch[axis], w.x_batch[axis], w.out_batch[axis] = x.shape[axis], x.strides[axis], dy.strides[axis]
        w.x_channel = x.strides[batch] if layer else 0
        w.out_channel = dy.strides[batch] if layer else 0
        w.x_part, w.out_part, w.x_element = x.itemsize // 2, dy.itemsize // 2, w.x_axis[2]
        g.x_direct = w.x_code == CODE and w.x_element == <Py_ssize_t> sizeof(T)
        g.dy_direct = w.streams == 1 and w.out_code == CODE and w.out_axis[2] == <Py_ssize_t> sizeof(T) \
            and w.out_axis[1] % <Py_ssize_t> sizeof(T) == 0
        # Which padded rows a unit needs, and where in a row each kernel column lies.
        cdef bytearray needed = bytearray(w.span)
        cdef Py_ssize_t columns_bytes = w.widths[2] * sizeof(Py_ssize_t)
        cdef bytearray columns = bytearray(columns_bytes)
        cdef char* flags = needed
        cdef Py_ssize_t* offsets = <Py_ssize_t*> <char*> columns
        for a in range(g.height):
            for r in range(min(w.band, w.out_sizes[1])):
                flags[a * w.dilation[1] + r * w.stride[1]] = 1
        for b in range(w.widths[2]):
            a = b * w.dilation[2]
            offsets[b] = a % stride * w.phase + a // stride
        w.needed, w.columns = flags, offsets
        if not is_serial(<double> g.rows * w.out_sizes[2] * g.part_size, 0):
            workers = allowed_workers()
        items = g.parts * w.groups * g.blocks * g.slabs * w.widths[0] * g.heights
        with nogil:
            pool.run(gradient_item, g, items, <int> min(<Py_ssize_t> workers, items))
