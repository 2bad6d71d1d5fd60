# Separable kernels: the sum of few outer products, each a column of taps and then a row of taps.
#
# One product is as exact as its kernel is (factoring.py). Where x holds NaN or infinity, or a column sum overflows, the
# output is not finite: a number that is not finite stays so under any tap, zero included, and under any sum. The
# converse need not hold: a finite direct sum may meet an infinite column sum, and two products inf - inf. So an output
# that is not finite is computed again as the direct method does, tap by tap, and is what that gives, to the bit.

cdef enum:
    UNEVEN = 0                 # rows of taps: any places,
    ADJACENT = 1               # a literal number of them, side by side,
    BY_LANES = 2               # many adjacent ones
    GROUPS = 4                 # vectors of taps that share loads
    MOST_LOADS = 12


def summation_order(Py_ssize_t width):
    """Order in which a row's taps are summed. Many go by lanes: tap p of each of GROUPS vectors, then tap p + 1."""
    if width <= CE_LANES:
        return np.arange(width)
    block = GROUPS * CE_LANES
    return np.concatenate([
        np.arange(first + lane, min(first + block, width), CE_LANES)
        for first in range(0, width, block) for lane in range(CE_LANES)
    ])


cdef inline void down_tile(const T* const* rows, Py_ssize_t step, const T* taps, Py_ssize_t height, Py_ssize_t j,
                           T* to, Py_ssize_t room, const int tall, const int wide) noexcept nogil:
    """A column of at least `tall` - 1 taps over rows `step` apart: `tall` rows and `wide` vectors of a strip.

    taps[a * TALL + r] is tap a - r, which strip row r gives to row a: side by side, so that each is read where it is
    needed. Of a plain column the compiler would carry them from row to row in registers, and spread them out each time.
    """
    cdef ce_vec acc[MOST][MOST]
    cdef ce_vec x[MOST]
    cdef const T* row
    cdef Py_ssize_t a
    cdef int r, v, e
    for r in range(tall):
        for v in range(wide):
            acc[r][v] = ce_zero()
    for e in range(tall - 1):
        row = rows[e * step] + j
        for v in range(wide):
            x[v] = ce_load(row + v * CE_LANES)
        for r in range(tall):
            if r <= e:
                for v in range(wide):
                    acc[r][v] = acc[r][v] + x[v] * taps[e * TALL + r]
    for a in range(tall - 1, height):
        row = rows[a * step] + j
        for v in range(wide):
            x[v] = ce_load(row + v * CE_LANES)
        for r in range(tall):
            for v in range(wide):
                acc[r][v] = acc[r][v] + x[v] * taps[a * TALL + r]
    for e in range(tall - 1):
        row = rows[(height + e) * step] + j
        for v in range(wide):
            x[v] = ce_load(row + v * CE_LANES)
        for r in range(tall):
            if r > e:
                for v in range(wide):
                    acc[r][v] = acc[r][v] + x[v] * taps[(height + e) * TALL + r]
    for r in range(tall):
        for v in range(wide):
            ce_store(to + r * room + v * CE_LANES, acc[r][v])


cdef inline void down(const T* const* rows, Py_ssize_t step, const T* taps, Py_ssize_t height, Py_ssize_t first,
                      Py_ssize_t count, T* to, Py_ssize_t room, const int tall, const int wide) noexcept nogil:
    """`tall` rows of a strip, `count` elements of each, at least a vector, from element `first` of the rows."""
    cdef Py_ssize_t j = 0
    while j + wide * CE_LANES <= count:
        down_tile(rows, step, taps, height, first + j, to + j, room, tall, wide)
        j += wide * CE_LANES
    while j < count:
        j = min(j, count - CE_LANES)
        down_tile(rows, step, taps, height, first + j, to + j, room, tall, 1)
        j += CE_LANES


cdef inline void share_loads(const T* t, const T* taps, ce_vec* acc, const int groups, const int wide) noexcept nogil:
    """Taps a vector apart: wide + groups - 1 loads feed wide * groups multiply-adds."""
    cdef ce_vec x[MOST_LOADS]
    cdef int v, g
    for v in range(wide + groups - 1):
        x[v] = ce_load_once(t + v * CE_LANES)
    for g in range(groups):
        for v in range(wide):
            acc[v] = acc[v] + x[v + g] * taps[g]


cdef inline const T* share_lanes(const T* t, const T* taps, ce_vec* acc, Py_ssize_t left, const int groups,
                                 const int wide) noexcept nogil:
    """`left` taps, from groups - 1 vectors of them up to `groups`; where the next taps stand."""
    cdef Py_ssize_t lane, rest = left - (groups - 1) * CE_LANES
    for lane in range(rest):
        share_loads(t + lane, taps, acc, groups, wide)
        taps = taps + groups
    if groups > 1:
        for lane in range(rest, CE_LANES):
            share_loads(t + lane, taps, acc, groups - 1, wide)
            taps = taps + groups - 1
    return taps


cdef inline ce_vec adjacent(const T* t, ce_vec low, ce_vec high, const int lanes) noexcept nogil:
    """The vector `lanes` beyond t: by a shift and by a load in turn, since each would wait for more of its own."""
    if lanes == 0:
        return low
    if lanes % 2 == 0 and lanes < CE_LANES:
        return ce_between(t, low, high, lanes)
    return ce_load(t + lanes)


cdef inline ce_vec across_tile(const Work* w, const T* t, const Py_ssize_t* places, T bias, T* to, const int form,
                               const int width, const int wide, const bint stream) noexcept nogil:
    """Rows of taps over a strip: `wide` vectors of outputs. NaN is returned where one of them is not finite, else 0."""
    cdef ce_vec acc[MOST]
    cdef ce_vec x[MOST + 1]
    cdef ce_vec found = ce_zero()
    cdef const T* taps = w.across
    cdef Py_ssize_t left, b
    cdef const T* row
    cdef int q, v, c
    for v in range(wide):
        acc[v] = ce_zero()
    for q in range(w.rank):
        if form == ADJACENT:
            for v in range(wide + 1):
                x[v] = ce_load(t + v * CE_LANES)
            for c in range(width):
                for v in range(wide):
                    acc[v] = acc[v] + adjacent(t + v * CE_LANES, x[v], x[v + 1], c) * taps[c]
            taps = taps + width
        elif form == BY_LANES:
            row, left = t, w.widths[2]
            while left > 3 * CE_LANES:
                taps = share_lanes(row, taps, acc, min(left, GROUPS * CE_LANES), GROUPS, wide)
                row = row + GROUPS * CE_LANES
                left -= GROUPS * CE_LANES
            if left > 2 * CE_LANES:
                taps = share_lanes(row, taps, acc, left, 3, wide)
            elif left > CE_LANES:
                taps = share_lanes(row, taps, acc, left, 2, wide)
            elif left > 0:
                taps = share_lanes(row, taps, acc, left, 1, wide)
        else:
            for b in range(w.widths[2]):
                for v in range(wide):
                    acc[v] = acc[v] + ce_load(t + places[b] + v * CE_LANES) * taps[b]
            taps = taps + w.widths[2]
        t = t + w.room // w.rank
    for v in range(wide):
        acc[v] = acc[v] + ce_splat(bias)
        if CE_FLOATING:
            found = found + (acc[v] - acc[v])
        if stream:
            ce_stream(to + v * CE_LANES, acc[v])
        else:
            ce_store(to + v * CE_LANES, acc[v])
    return found


cdef inline bint across_line(const Work* w, const T* t, const Py_ssize_t* places, T bias, T* to, Py_ssize_t count,
                             const int form, const int width, const int wide) noexcept nogil:
    """`count` outputs of a row; whether one of them is not finite. Two vectors wait less for each other than one."""
    cdef ce_vec found = ce_zero()
    cdef Py_ssize_t j = 0
    while j + wide * CE_LANES <= count:
        found = found + across_tile(w, t + j, places, bias, to + j, form, width, wide, False)
        j += wide * CE_LANES
    while j < count:
        if count - j > 2 * CE_LANES and count >= wide * CE_LANES:
            j = count - wide * CE_LANES
            found = found + across_tile(w, t + j, places, bias, to + j, form, width, wide, False)
            j = count
        elif count - j > CE_LANES and count >= 2 * CE_LANES:
            j = min(j, count - 2 * CE_LANES)
            found = found + across_tile(w, t + j, places, bias, to + j, form, width, 2, False)
            j += 2 * CE_LANES
        else:
            j = max(min(j, count - CE_LANES), 0)
            found = found + across_tile(w, t + j, places, bias, to + j, form, width, 1, False)
            j += CE_LANES
    return CE_FLOATING and ce_sum(found) != 0


cdef inline bint stream_line(const Work* w, const T* t, const Py_ssize_t* places, T bias, T* to, Py_ssize_t count,
                             const int form, const int width, const int wide) noexcept nogil:
    """The same past the caches: whole vectors, aligned. No line of memory is stored to in both ways, which is slow."""
    cdef ce_vec found = ce_zero()
    cdef Py_ssize_t j = (-<Py_ssize_t> <size_t> to // <Py_ssize_t> sizeof(T)) & (CE_LANES - 1), last, i
    cdef T few[64]
    if j > 0:
        found = across_tile(w, t, places, bias, few, form, width, 1, False)
        for i in range(j):
            to[i] = few[i]
    while j + wide * CE_LANES <= count:
        found = found + across_tile(w, t + j, places, bias, to + j, form, width, wide, True)
        j += wide * CE_LANES
    while j + CE_LANES <= count:
        found = found + across_tile(w, t + j, places, bias, to + j, form, width, 1, True)
        j += CE_LANES
    if j < count:
        last = count - CE_LANES
        found = found + across_tile(w, t + last, places, bias, few, form, width, 1, False)
        for i in range(j, count):
            to[i] = few[i - last]
    return CE_FLOATING and ce_sum(found) != 0


cdef inline bint across_form(const Work* w, const T* t, const Py_ssize_t* places, T bias, T* to, Py_ssize_t count,
                             const int form, const int width, const int wide) noexcept nogil:
    if w.stream and count >= 2 * wide * CE_LANES and <size_t> to % sizeof(T) == 0:
        return stream_line(w, t, places, bias, to, count, form, width, wide)
    return across_line(w, t, places, bias, to, count, form, width, wide)


cdef bint across(const Work* w, const T* t, const Py_ssize_t* places, T bias, T* to, Py_ssize_t count) noexcept nogil:
    """The row of outputs over a row of a strip, by the loop that fits the taps; whether one is not finite."""
    cdef Py_ssize_t width = w.widths[2]
    if w.stride[2] != 1 or w.dilation[2] * w.inner != 1:
        return across_form(w, t, places, bias, to, count, UNEVEN, 0, ACROSS_VECTORS)
    if width > CE_LANES:
        return across_form(w, t, places, bias, to, count, BY_LANES, 0, HANKEL_PART)
    if width == 3:
        return across_form(w, t, places, bias, to, count, ADJACENT, 3, ACROSS_VECTORS)
    if width == 5:
        return across_form(w, t, places, bias, to, count, ADJACENT, 5, ACROSS_VECTORS)
    if width == 7:
        return across_form(w, t, places, bias, to, count, ADJACENT, 7, ACROSS_VECTORS)
    if width == 9:
        return across_form(w, t, places, bias, to, count, ADJACENT, 9, ACROSS_VECTORS)
    if width == 11:
        return across_form(w, t, places, bias, to, count, ADJACENT, 11, ACROSS_VECTORS)
    if width == 13:
        return across_form(w, t, places, bias, to, count, ADJACENT, 13, ACROSS_VECTORS)
    if width == 15:
        return across_form(w, t, places, bias, to, count, ADJACENT, 15, ACROSS_VECTORS)
    return across_form(w, t, places, bias, to, count, UNEVEN, 0, ACROSS_VECTORS)


cdef void put_right(const Work* w, const T* const* rows, Py_ssize_t first, T bias, T* to, Py_ssize_t count,
                    T* spare) noexcept nogil:
    """Put the direct sums in the place of outputs that are not finite."""
    cdef Py_ssize_t j = 0, i
    while j < count:
        j = max(min(j, count - CE_LANES), 0)
        tile_shared(rows, w.dilation[1], 1, w.span, w.columns, w.taps, w.widths[1], w.widths[2], bias, first + j,
                    spare - first, 0, False, 1, 1)
        j += CE_LANES
    for i in range(count):
        if to[i] - to[i] != 0:
            to[i] = spare[i]


cdef inline void separable_rows(Work* w, const T* const* rows, char* out, Py_ssize_t out_step, Py_ssize_t count,
                                T* buffer, T* strip, const Py_ssize_t* places, const int tall) noexcept nogil:
    """`tall` output rows whose x rows are a dilation apart, strip by strip."""
    cdef Py_ssize_t strips = pieces(count, w.strip), s, first, width, need, f, length = w.room // w.rank
    cdef Py_ssize_t reach = (w.widths[2] - 1) * w.dilation[2] * w.inner // w.stride[2], phases = phases_of(w)
    cdef int q, r
    cdef T* to
    cdef char* start
    cdef bint direct
    for s in range(strips):
        share(count, strips, w.strip, s, &first, &width)
        need = max(width, CE_LANES) + reach
        for q in range(w.rank):
            for f in range(phases):
                down(rows, w.dilation[1], w.down + q * TALL * (w.widths[1] + TALL - 1), w.widths[1],
                     first + f * w.phase, need, strip + q * length + f * w.stretch, w.room, tall, DOWN_VECTORS)
        direct = w.out_direct and width >= CE_LANES
        for r in range(tall):
            start = out + r * out_step + first * w.out_element
            to = <T*> start if direct else buffer
            if across(w, strip + r * w.room, places, w.bias[0], to, width):
                put_right(w, rows + r * (w.dilation[1] if tall > 1 else 0), first, w.bias[0], to, width,
                          buffer + 2 * w.strip)
            if not direct:
                deliver(w.out_code, start, w.out_element, to, width, w.overflow, &w.status, &w.culprit)


cdef void item_separable(Work* w, char* out, Py_ssize_t height, Py_ssize_t count, const T* const* rows, T* buffer,
                         T* strip) noexcept nogil:
    """Compute and store a band of outputs of a separable kernel."""
    cdef Py_ssize_t* places = <Py_ssize_t*> (strip + TALL * w.room)
    cdef Py_ssize_t d = w.dilation[1], phase, t, n, b, a
    for b in range(w.widths[2]):
        a = w.order[b] * w.dilation[2]
        places[b] = a * w.inner if w.stride[2] == 1 else a % w.stride[2] * w.stretch + a // w.stride[2]
    if w.stride[1] != 1:
        d = 1
    for phase in range(min(d, height)):
        n = (height - phase + d - 1) // d
        t = 0
        while t < n:
            if n >= TALL and w.widths[1] >= TALL - 1 and w.stride[1] == 1:
                t = min(t, n - TALL)
                separable_rows(w, rows + phase + t * d, out + (phase + t * d) * w.out_axis[1], d * w.out_axis[1],
                               count, buffer, strip, places, TALL)
                t += TALL
            elif n >= LOW and w.widths[1] >= LOW - 1 and w.stride[1] == 1:
                t = min(t, n - LOW)
                separable_rows(w, rows + phase + t * d, out + (phase + t * d) * w.out_axis[1], d * w.out_axis[1],
                               count, buffer, strip, places, LOW)
                t += LOW
            else:
                separable_rows(w, rows + (phase + t * d) * w.stride[1], out + (phase + t * d) * w.out_axis[1], 0,
                               count, buffer, strip, places, 1)
                t += 1
