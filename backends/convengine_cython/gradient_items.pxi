# One item of the kernel's gradient: some output channels, input channels and kernel rows over a part of the outputs.

cdef struct Segment:
    # Output rows y .. y + height - 1 of one plane of an image, which are a unit's rows from `row` on.
    const char* x                                   # the image
    const char* dy                                  # the image's output plane z
    Py_ssize_t z, y, height, row


cdef struct Gradient:
    Work w                                          # `out` and its numbers are dy's
    bint x_real, dy_real                            # of a complex sum: an imaginary part that is zero is not stored
    bint x_direct, dy_direct                        # readable in place
    T* sums                                         # (parts, groups, streams, planes, *kernel)
    Py_ssize_t part_size, kernel_size
    # Units: blocks of `band` output rows, counted through all images, by chunks of columns. Those are of three kinds:
    # left edge, inside, right edge; only inside, whole vectors of x can be read in place.
    Py_ssize_t rows, units, parts
    Py_ssize_t starts[3]
    Py_ssize_t stops[3]
    Py_ssize_t sizes[3]
    Py_ssize_t counts[3]
    # Items: a part of the units, a group, blocks of streams, planes and kernel rows; and one of widths[0].
    Py_ssize_t block, blocks, slab, slabs, height, heights
    Py_ssize_t together                             # planes staged at once
    # scratch: elements of a dy stream; bytes before each piece
    Py_ssize_t stream
    size_t at_x, at_dy, at_tables, at_spans, at_segments, at_taps


cdef struct Unit:
    Py_ssize_t rows, segments, first, count, pitch
    bint inside
    Segment* segment
    # what of it an item has to do
    Py_ssize_t group, first_stream, streams, kz, ky, height
    const T* filled
    T* x
    T* dy
    const T** tables
    const T** spans
    Tap* taps


cdef void open_unit(const Gradient* g, Py_ssize_t number, Unit* u) noexcept nogil:
    """Find the rows and columns of a unit."""
    cdef const Work* w = &g.w
    cdef Py_ssize_t chunk = number % w.chunks, row = number // w.chunks * w.band, rest, at, n, image
    cdef Segment* s
    cdef int kind = 0, axis
    while chunk >= g.counts[kind]:
        chunk -= g.counts[kind]
        kind += 1
    u.first = g.starts[kind] + chunk * g.sizes[kind]
    u.count = min(g.sizes[kind], g.stops[kind] - u.first)
    u.pitch = (u.count + CE_LANES - 1) // CE_LANES * CE_LANES
    u.inside = kind == 1
    u.rows = min(w.band, g.rows - row)
    u.segments = at = 0
    while at < u.rows:
        s = u.segment + u.segments
        u.segments += 1
        s.row, s.y, rest = at, (row + at) % w.out_sizes[1], (row + at) // w.out_sizes[1]
        s.height = min(u.rows - at, w.out_sizes[1] - s.y)
        s.z, image = rest % w.out_sizes[0], rest // w.out_sizes[0]
        s.x, s.dy = w.x, w.out + s.z * w.out_axis[0]
        for axis in range(w.batch_axes - 1, -1, -1):
            n = image % w.batch[axis]
            image //= w.batch[axis]
            s.x += n * w.x_batch[axis]
            s.dy += n * w.out_batch[axis]
        at += s.height


cdef void stage_dy(const Gradient* g, const Unit* u) noexcept nogil:
    """Convert the unit's rows of an item's streams, with zeros up to whole vectors."""
    cdef const Work* w = &g.w
    cdef Py_ssize_t stream, channel, part, s, r, i
    cdef const char* row
    cdef T* to
    cdef const Segment* at
    for stream in range(u.streams):
        channel = u.group * w.outputs + (u.first_stream + stream) // w.out_parts
        part = (u.first_stream + stream) % w.out_parts
        to = u.dy + stream * g.stream
        for s in range(u.segments):
            at = u.segment + s
            row = at.dy + channel * w.out_channel + part * w.out_part + at.y * w.out_axis[1] + u.first * w.out_axis[2]
            for r in range(at.height):
                i = 0
                if not (part and g.dy_real):
                    fetch(w.out_code, row + r * w.out_axis[1], w.out_axis[2], to, u.count)
                    i = u.count
                for i in range(i, u.pitch):
                    to[i] = 0
                to += u.pitch


cdef void stage_x(const Gradient* g, const Unit* u, Py_ssize_t first, Py_ssize_t planes) noexcept nogil:
    """Have the x rows that the unit's rows meet in some planes, and tables of them for every plane and kernel row."""
    cdef const Work* w = &g.w
    cdef Py_ssize_t stride = w.stride[2], reach = (w.widths[2] - 1) * w.dilation[2]
    cdef Py_ssize_t phases = min(stride, reach + 1), total = w.before[2] + w.sizes[2] + w.after
    cdef Py_ssize_t p, channel, part, s, q, r, a, f, zs, ys
    cdef bint direct = u.inside and g.x_direct
    cdef const char* plane
    cdef const Segment* at
    cdef const T** table = u.tables
    cdef T* to = u.x
    for p in range(first, first + planes):
        channel, part = u.group * w.channels + p // w.x_parts, p % w.x_parts
        for s in range(u.segments):
            at = u.segment + s
            zs = source(w, 0, at.z * w.stride[0] + u.kz * w.dilation[0])
            plane = at.x + channel * w.x_channel + part * w.x_part + zs * w.x_axis[0]
            for q in range((at.height - 1) * w.stride[1] + (u.height - 1) * w.dilation[1] + 1):
                if not w.needed[q]:
                    continue
                ys = source(w, 1, at.y * w.stride[1] + u.ky * w.dilation[1] + q)
                if zs < 0 or ys < 0 or (part and g.x_real):
                    u.spans[q] = u.filled + part * w.row
                elif direct:
                    u.spans[q] = <const T*> (plane + ys * w.x_axis[1]) + (u.first - w.before[2])
                else:
                    for f in range(phases):
                        fetch_row(w, plane + ys * w.x_axis[1], u.first * stride + f, stride,
                                  min(u.count + reach // stride + 1,
                                      (total - u.first * stride - f + stride - 1) // stride),
                                  w.fill[part], to + f * w.phase)
                    u.spans[q] = to
                    to += w.row
            for a in range(u.height):
                for r in range(at.height):
                    table[a * u.rows + at.row + r] = u.spans[r * w.stride[1] + a * w.dilation[1]]
        table += u.height * u.rows


cdef Py_ssize_t list_taps(const Gradient* g, const Unit* u, Py_ssize_t planes) noexcept nogil:
    """List the taps of the planes that are staged, kernel rows and columns ascending; how many they are."""
    cdef const Work* w = &g.w
    cdef Py_ssize_t p, a, b
    cdef Tap* tap = u.taps
    for p in range(planes):
        for a in range(u.height):
            for b in range(w.widths[2]):
                tap.rows, tap.column = u.tables + (p * u.height + a) * u.rows, w.columns[b]
                tap.out = p * g.kernel_size + a * w.widths[2] + b
                tap += 1
    return planes * u.height * w.widths[2]


cdef inline void take_taps(Product* p, const Tap* taps, Py_ssize_t count, Py_ssize_t wide,
                           Py_ssize_t row) noexcept nogil:
    """Put taps into a tile; a tile that is wider than what is left repeats the last one."""
    cdef Py_ssize_t k
    for k in range(wide):
        p.rows[k] = taps[min(k, count - 1)].rows + row
        p.columns[k] = taps[min(k, count - 1)].column


cdef void unit_streams(const Gradient* g, const Unit* u, Py_ssize_t count, T* out) noexcept nogil:
    """Multiply the rows of several streams with those of `count` taps."""
    cdef const Work* w = &g.w
    cdef Product p
    cdef Py_ssize_t stream = 0, tall, wide, i
    p.dy_row, p.dy_stream, p.height = u.pitch, g.stream, u.rows
    p.vectors, p.tail = u.count // CE_LANES, <int> (u.count % CE_LANES)
    while stream < u.streams:
        tall = tallness(u.streams - stream)
        p.dy = u.dy + stream * g.stream
        i = 0
        while i < count:
            wide = wideness(tall, count - i)
            take_taps(&p, u.taps + i, count - i, wide, 0)
            add_products(&p, tall, wide, u.taps + i, count - i, out + stream * w.planes * g.kernel_size,
                         w.planes * g.kernel_size)
            i += wide
        stream += tall


cdef void unit_filter(const Gradient* g, const Unit* u, T* out) noexcept nogil:
    """Multiply the rows of one stream: those that meet one x row under several kernel rows are a tile's streams.

    A kernel row's first or last output rows may meet x rows that the tile's other kernel rows do not; they go alone.
    """
    cdef const Work* w = &g.w
    cdef Product p
    cdef const T* dy
    cdef const Segment* at
    cdef const Tap* taps
    cdef Py_ssize_t s, a, b, t, tall, wide, common, lead, width = w.widths[2], step = w.dilation[1]
    p.vectors, p.tail = u.count // CE_LANES, <int> (u.count % CE_LANES)
    for s in range(u.segments):
        at = u.segment + s
        dy, p.dy_row = u.dy + at.row * u.pitch, u.pitch
        if g.dy_direct and p.tail == 0:
            dy = <const T*> (at.dy + u.group * w.out_channel + at.y * w.out_axis[1]) + u.first
            p.dy_row = w.out_axis[1] // <Py_ssize_t> sizeof(T)
        p.dy_stream = -step * p.dy_row
        a = 0
        while a < u.height:
            tall = min(u.height - a, 4)
            if u.height - a == 5 or u.height - a == 6 or u.height - a == 9:
                tall = 3  # not 4 and a rest of one or two
            common = at.height - (tall - 1) * step
            if w.stride[1] != 1 or common <= 0:
                tall, common = 1, at.height
            b = 0
            while b < width:
                wide = wideness(tall, width - b)
                taps = u.taps + a * width + b
                lead = (tall - 1) * step
                p.dy, p.height = dy + lead * p.dy_row, common
                take_taps(&p, taps + (tall - 1) * width, width - b, wide, at.row)
                add_products(&p, tall, wide, taps, width - b, out, width)
                for t in range(tall if tall > 1 else 0):
                    lead = (tall - 1 - t) * step
                    if lead:
                        p.dy, p.height = dy, lead
                        take_taps(&p, taps + t * width, width - b, wide, at.row)
                        add_products(&p, 1, wide, taps + t * width, width - b, out, 0)
                    lead += common
                    if lead < at.height:
                        p.dy, p.height = dy + lead * p.dy_row, at.height - lead
                        take_taps(&p, taps + t * width, width - b, wide, at.row + lead)
                        add_products(&p, 1, wide, taps + t * width, width - b, out, 0)
                b += wide
            a += tall


cdef void gradient_item(void* context, Py_ssize_t number, int worker) noexcept nogil:
    """Add the products of an item's units to its numbers of the gradient."""
    cdef Gradient* g = <Gradient*> context
    cdef Work* w = &g.w
    cdef Unit u
    cdef Py_ssize_t part, first, planes, p, n, unit, i
    cdef T* out
    cdef T* filled
    cdef char* memory = <char*> pool.scratch(w.memory)
    if memory == NULL:
        w.status |= NO_MEMORY
        return
    u.ky, number = number % g.heights * g.height, number // g.heights
    u.kz, number = number % w.widths[0], number // w.widths[0]
    first, number = number % g.slabs * g.slab, number // g.slabs
    u.first_stream, number = number % g.blocks * g.block, number // g.blocks
    u.group, part = number % w.groups, number // w.groups
    u.height = min(g.height, w.widths[1] - u.ky)
    u.streams = min(g.block, w.streams - u.first_stream)
    planes = min(g.slab, w.planes - first)
    filled = <T*> memory
    u.filled, u.x, u.dy = filled, <T*> (memory + g.at_x), <T*> (memory + g.at_dy)
    u.tables, u.spans = <const T**> (memory + g.at_tables), <const T**> (memory + g.at_spans)
    u.segment, u.taps = <Segment*> (memory + g.at_segments), <Tap*> (memory + g.at_taps)
    if w.may_fill or g.x_real:
        for p in range(w.x_parts):
            for i in range(w.row):
                filled[p * w.row + i] = w.fill[p]
    for unit in range(part * g.units // g.parts, (part + 1) * g.units // g.parts):
        open_unit(g, unit, &u)
        if not g.dy_direct or u.count % CE_LANES:
            stage_dy(g, &u)
        p = first
        while p < first + planes:
            n = min(g.together, first + planes - p)
            stage_x(g, &u, p, n)
            out = g.sums + part * g.part_size + ((u.group * w.streams + u.first_stream) * w.planes + p) * g.kernel_size
            out += (u.kz * w.widths[1] + u.ky) * w.widths[2]
            p += n
            n = list_taps(g, &u, n)
            if w.streams > 1:
                unit_streams(g, &u, n, out)
            else:
                unit_filter(g, &u, out)
