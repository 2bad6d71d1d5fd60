# The direct kernels: one source, compiled once per ISA level and element type (setup.py's table).
#
# Rows by pointer, columns by chunk. An item of work is a band of output rows and a chunk of output columns. For every
# input plane and padded row that it needs, a table holds a pointer: into x itself where the row can be read as it stands
# (same element type, adjacent samples, chunk clear of the left and right border), else to a row in the worker's scratch,
# fetched with its border, converted and, under a stride, sorted by phase. A border above or below is then another pointer,
# dilation and row stride are steps in the table, and the register tiles see nothing but rows of adjacent samples.
#
# A pixel with interleaved channels (x and out both channels last) is that many adjacent elements: kernel taps are
# `inner` elements apart, and the planes need no taking apart.
#
# Every output is summed in one order: bias, then planes, kernel rows, kernel columns ascending. So neither the tile that
# holds it, nor the band, the chunk, the number of workers or the batch change its bits. There is no scalar tail: a
# remainder is done by a tile that overlaps its neighbour, or in scratch.

from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyObject_GetBuffer, PyBuffer_Release
from libc.math cimport fmod, isnan, rint
from libc.stdint cimport INT64_MIN, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

import numpy as np

from convengine.native cimport pool

from convengine.errors import InvalidProblem
from convengine.plugin import workers as allowed_workers

cdef extern from *:
    """
    #include "vector.h"
    /* Register tiles: accumulators, one vector of x per column of vectors, and a broadcast tap must fit the registers
       (32 for AVX-512 and arm64, else 16). Sizes tried on Zen 4. */
    #if CE_VECTOR_BYTES == 64 || defined(__aarch64__)
    #define TILE_ROWS 4
    #define TILE_VECTORS 4
    #define STREAMS 8
    #define STREAM_VECTORS 3
    #define LINE_VECTORS 8
    #else
    #define TILE_ROWS 4
    #define TILE_VECTORS 2
    #define STREAMS 4
    #define STREAM_VECTORS 2
    #define LINE_VECTORS 8
    #endif
    #define PAIR_VECTORS 4

    /* double to half in one rounding: to float by rounding to odd, whose spare bits make the second rounding right. */
    static inline uint16_t ce_double_to_half(double value)
    {
        float near = (float)value;
        uint32_t bits;
        if ((double)near == value || value != value)
            return ce_float_to_half(near);
        bits = ce_bits_from_float(near);
        if ((near < 0 ? -(double)near : (double)near) > (value < 0 ? -value : value))
            bits--;
        return ce_float_to_half(ce_float_from_bits(bits | 1));
    }
    """
    ctypedef float T "CE_T"
    ctypedef float ce_vec
    const int CE_LANES
    const bint CE_FLOATING
    const int CODE "CE_CODE"
    const int TILE_ROWS, TILE_VECTORS, STREAMS, STREAM_VECTORS, LINE_VECTORS, PAIR_VECTORS
    ce_vec ce_load(const T*) noexcept nogil
    void ce_store(T*, ce_vec) noexcept nogil
    ce_vec ce_splat(T) noexcept nogil
    float ce_half_to_float(uint16_t) noexcept nogil
    uint16_t ce_double_to_half(double) noexcept nogil

cdef enum:
    MOST = 8                                        # largest side of any register tile

cdef enum:
    U1, I1, U2, I2, U4, I4, U8, I8, F2, F4, F8      # layout.CODES
    SATURATE = 0
    WRAP = 1
    RAISE = 2
    HELD_NAN = 1
    TOO_LARGE = 2
    NO_MEMORY = 4
    MOST_BATCH = 64                                 # NumPy's most axes
    SINGLE = 0                                      # tiles: one row,
    PAIR = 1                                        # two rows,
    SHARED = 2                                      # TILE_ROWS rows that share loads,
    UNROLLED_3 = 3                                  # the same for a kernel of literal size,
    UNROLLED_5 = 5
    UNROLLED_7 = 7
    STREAMS_FEW = 8                                 # two outputs,
    STREAMS_MANY = 9                                # STREAMS outputs that share loads

ctypedef fused plain:
    uint8_t
    int8_t
    uint16_t
    int16_t
    uint32_t
    int32_t
    uint64_t
    int64_t
    float
    double

ctypedef fused whole:
    uint8_t
    int8_t
    uint16_t
    int16_t
    uint32_t
    int32_t
    uint64_t
    int64_t


cdef struct Work:
    # the problem
    int x_code, out_code, overflow, x_parts, out_parts
    Py_ssize_t groups, channels, outputs            # channels per group, in and out
    Py_ssize_t planes, streams, blocks              # real input planes, real outputs, register blocks of outputs, per group
    Py_ssize_t sizes[3]
    Py_ssize_t out_sizes[3]
    Py_ssize_t widths[3]
    Py_ssize_t stride[3]
    Py_ssize_t dilation[3]
    Py_ssize_t before[3]
    const Py_ssize_t* left[3]                       # index maps of the pads
    const Py_ssize_t* right[3]
    Py_ssize_t after                                # of the last axis
    const T* taps
    const T* bias
    Py_ssize_t group_taps, block_taps
    T fill[2]
    bint may_fill                                   # a whole row may be border
    Py_ssize_t tall_streams                         # streams of one register block
    int kind, tall                                  # which tile, and how many rows or streams it has
    # this call: where the samples lie, in bytes
    const char* x
    char* out
    int batch_axes
    Py_ssize_t batch[MOST_BATCH]
    Py_ssize_t x_batch[MOST_BATCH]
    Py_ssize_t out_batch[MOST_BATCH]
    Py_ssize_t x_axis[3]
    Py_ssize_t out_axis[3]
    Py_ssize_t x_channel, x_part, x_element, out_channel, out_part, out_element
    Py_ssize_t inner                                # interleaved channels that travel with a pixel
    bint out_direct                                 # results need no conversion
    # how it is cut: bands of rows; chunks of the columns, those from direct_from to direct_to read straight from x
    Py_ssize_t out_row, band, bands, chunks, left_chunks, direct_chunks, edge_chunk, direct_chunk, direct_from, direct_to
    Py_ssize_t split, splits                        # register blocks of outputs in one item
    Py_ssize_t span                                 # padded rows that a band needs
    const char* needed                              # which of them
    const Py_ssize_t* columns                       # offset of each kernel column in a row
    Py_ssize_t row, phase, buffer                   # elements of a scratch row, of one phase of it, of the output buffer
    size_t table, memory                            # bytes
    int status
    double culprit


# ---------------------------------------------------------------------------------------------- rows in, rows out

cdef inline void fetch_as(const plain* start, Py_ssize_t step, T* to, Py_ssize_t count) noexcept nogil:
    """Convert `count` samples, `step` bytes apart."""
    cdef Py_ssize_t i
    if step == <Py_ssize_t> sizeof(plain):
        for i in range(count):
            to[i] = <T> start[i]
    else:
        for i in range(count):
            to[i] = <T> (<const plain*> (<const char*> start + i * step))[0]


cdef void fetch(int code, const char* start, Py_ssize_t step, T* to, Py_ssize_t count) noexcept nogil:
    """Convert `count` samples of type `code`, `step` bytes apart."""
    cdef Py_ssize_t i
    if code == U1:
        fetch_as[uint8_t](<const uint8_t*> start, step, to, count)
    elif code == I1:
        fetch_as[int8_t](<const int8_t*> start, step, to, count)
    elif code == U2:
        fetch_as[uint16_t](<const uint16_t*> start, step, to, count)
    elif code == I2:
        fetch_as[int16_t](<const int16_t*> start, step, to, count)
    elif code == U4:
        fetch_as[uint32_t](<const uint32_t*> start, step, to, count)
    elif code == I4:
        fetch_as[int32_t](<const int32_t*> start, step, to, count)
    elif code == U8:
        fetch_as[uint64_t](<const uint64_t*> start, step, to, count)
    elif code == I8:
        fetch_as[int64_t](<const int64_t*> start, step, to, count)
    elif code == F4:
        fetch_as[float](<const float*> start, step, to, count)
    elif code == F8:
        fetch_as[double](<const double*> start, step, to, count)
    else:
        for i in range(count):
            to[i] = <T> ce_half_to_float((<const uint16_t*> (start + i * step))[0])


cdef inline void deliver_as(whole* start, Py_ssize_t step, const T* row, Py_ssize_t count, int overflow,
                            int64_t low, uint64_t high, double beyond, int* status, double* culprit) noexcept nogil:
    """Round and store integers; `beyond` is high + 1, exact as a double. Faults are noted, not raised."""
    cdef Py_ssize_t i
    cdef double real
    cdef int64_t value
    cdef uint64_t magnitude
    cdef whole* to
    for i in range(count):
        to = <whole*> (<char*> start + i * step)
        if CE_FLOATING:
            real = rint(<double> row[i])
            if isnan(real):
                status[0] |= HELD_NAN
                to[0] = 0
            elif real >= <double> low and real < beyond:
                to[0] = <whole> real
            elif overflow == SATURATE:
                to[0] = <whole> low if real < 0 else <whole> high
            elif overflow == WRAP and real - real == 0:
                real = fmod(real, 18446744073709551616.0)
                magnitude = <uint64_t> (-real if real < 0 else real)
                to[0] = <whole> (0 - magnitude if real < 0 else magnitude)
            else:
                status[0] |= TOO_LARGE
                culprit[0] = real
                to[0] = 0
        else:
            value = <int64_t> row[i]
            if overflow == WRAP or (value >= low and (value < 0 or <uint64_t> value <= high)):
                to[0] = <whole> value
            elif overflow == SATURATE:
                to[0] = <whole> low if value < low else <whole> high
            else:
                status[0] |= TOO_LARGE
                culprit[0] = <double> value
                to[0] = 0


cdef void deliver(int code, char* start, Py_ssize_t step, const T* row, Py_ssize_t count, int overflow,
                  int* status, double* culprit) noexcept nogil:
    """Round `count` sums once to type `code` and store them `step` bytes apart."""
    cdef Py_ssize_t i
    if code == F4:
        for i in range(count):
            (<float*> (start + i * step))[0] = <float> row[i]
    elif code == F8:
        for i in range(count):
            (<double*> (start + i * step))[0] = <double> row[i]
    elif code == F2:
        for i in range(count):
            (<uint16_t*> (start + i * step))[0] = ce_double_to_half(<double> row[i])
    elif code == U1:
        deliver_as[uint8_t](<uint8_t*> start, step, row, count, overflow, 0, 255, 256.0, status, culprit)
    elif code == I1:
        deliver_as[int8_t](<int8_t*> start, step, row, count, overflow, -128, 127, 128.0, status, culprit)
    elif code == U2:
        deliver_as[uint16_t](<uint16_t*> start, step, row, count, overflow, 0, 65535, 65536.0, status, culprit)
    elif code == I2:
        deliver_as[int16_t](<int16_t*> start, step, row, count, overflow, -32768, 32767, 32768.0, status, culprit)
    elif code == U4:
        deliver_as[uint32_t](<uint32_t*> start, step, row, count, overflow, 0, 4294967295, 4294967296.0, status, culprit)
    elif code == I4:
        deliver_as[int32_t](<int32_t*> start, step, row, count, overflow, -2147483648LL, 2147483647, 2147483648.0,
                            status, culprit)
    elif code == U8:
        deliver_as[uint64_t](<uint64_t*> start, step, row, count, overflow, 0, 18446744073709551615ULL,
                             18446744073709551616.0, status, culprit)
    else:
        deliver_as[int64_t](<int64_t*> start, step, row, count, overflow, INT64_MIN,
                            9223372036854775807ULL, 9223372036854775808.0, status, culprit)


# ------------------------------------------------------------------------------------------------ register tiles

cdef inline void tile_unrolled(const T* const* rows, Py_ssize_t step, const T* taps, T bias, Py_ssize_t j,
                               T* out, Py_ssize_t out_step, const int height, const int width,
                               const int tall, const int wide) noexcept nogil:
    """A tile of `tall` rows and `wide` vectors for a kernel of literal size with adjacent taps.

    Each loaded vector serves every output row that it lies under: loads are the scarce part, not multiply-adds.
    """
    cdef ce_vec acc[MOST][MOST]
    cdef ce_vec x[MOST]
    cdef const T* row
    cdef T tap
    cdef int r, v, a, b
    for r in range(tall):
        for v in range(wide):
            acc[r][v] = ce_splat(bias)
    for a in range(height + tall - 1):
        row = rows[a * step] + j
        for b in range(width):
            for v in range(wide):
                x[v] = ce_load(row + b + v * CE_LANES)
            for r in range(tall):
                if a >= r and a - r < height:
                    tap = taps[(a - r) * width + b]
                    for v in range(wide):
                        acc[r][v] = acc[r][v] + x[v] * tap
    for r in range(tall):
        for v in range(wide):
            ce_store(out + r * out_step + j + v * CE_LANES, acc[r][v])


cdef inline void tile_shared(const T* const* rows, Py_ssize_t step, Py_ssize_t planes, Py_ssize_t span,
                             const Py_ssize_t* columns, const T* taps, Py_ssize_t height, Py_ssize_t width, T bias,
                             Py_ssize_t j, T* out, Py_ssize_t out_step, const int tall, const int wide) noexcept nogil:
    """The same for any kernel of at least `tall` - 1 rows: rows that only some outputs need stand before and after."""
    cdef ce_vec acc[MOST][MOST]
    cdef ce_vec x[MOST]
    cdef const T* row
    cdef const T* tap
    cdef Py_ssize_t p, a, b
    cdef int r, v, e
    for r in range(tall):
        for v in range(wide):
            acc[r][v] = ce_splat(bias)
    for p in range(planes):
        for e in range(tall - 1):
            row = rows[p * span + e * step] + j
            for b in range(width):
                for v in range(wide):
                    x[v] = ce_load(row + columns[b] + v * CE_LANES)
                for r in range(tall):
                    if r <= e:
                        for v in range(wide):
                            acc[r][v] = acc[r][v] + x[v] * taps[(e - r) * width + b]
        for a in range(tall - 1, height):
            row = rows[p * span + a * step] + j
            tap = taps + a * width
            for b in range(width):
                for v in range(wide):
                    x[v] = ce_load(row + columns[b] + v * CE_LANES)
                for r in range(tall):
                    for v in range(wide):
                        acc[r][v] = acc[r][v] + x[v] * tap[b - r * width]
        for e in range(tall - 1):
            row = rows[p * span + (height + e) * step] + j
            for b in range(width):
                for v in range(wide):
                    x[v] = ce_load(row + columns[b] + v * CE_LANES)
                for r in range(tall):
                    if r > e:
                        for v in range(wide):
                            acc[r][v] = acc[r][v] + x[v] * taps[(height + e - r) * width + b]
        taps = taps + height * width
    for r in range(tall):
        for v in range(wide):
            ce_store(out + r * out_step + j + v * CE_LANES, acc[r][v])


cdef inline void tile_streams(const T* const* rows, Py_ssize_t step, Py_ssize_t planes, Py_ssize_t span,
                              const Py_ssize_t* columns, const T* taps, Py_ssize_t height, Py_ssize_t width,
                              const T* bias, Py_ssize_t j, T* out, Py_ssize_t out_step, Py_ssize_t count,
                              const int tall, const int wide) noexcept nogil:
    """One output row of `tall` output channels: each loaded vector serves all of them. `count` of them are wanted."""
    cdef ce_vec acc[MOST][MOST]
    cdef ce_vec x[MOST]
    cdef const T* row
    cdef Py_ssize_t p, a, b
    cdef int r, v
    for r in range(tall):
        for v in range(wide):
            acc[r][v] = ce_splat(bias[r])
    for p in range(planes):
        for a in range(height):
            row = rows[p * span + a * step] + j
            for b in range(width):
                for v in range(wide):
                    x[v] = ce_load(row + columns[b] + v * CE_LANES)
                for r in range(tall):
                    for v in range(wide):
                        acc[r][v] = acc[r][v] + x[v] * taps[r]
                taps = taps + tall
    for r in range(tall):
        if r < count:
            for v in range(wide):
                ce_store(out + r * out_step + j + v * CE_LANES, acc[r][v])


# ------------------------------------------------------------------------------------------- tiles along one row

cdef inline void line_unrolled(const T* const* rows, Py_ssize_t step, const T* taps, T bias, T* out,
                               Py_ssize_t out_step, Py_ssize_t count, const int side, const int wide) noexcept nogil:
    """TILE_ROWS output rows of `count` samples."""
    cdef Py_ssize_t j = 0
    if count >= wide * CE_LANES:
        while j < count:
            j = min(j, count - wide * CE_LANES)
            tile_unrolled(rows, step, taps, bias, j, out, out_step, side, side, TILE_ROWS, wide)
            j += wide * CE_LANES
    else:
        while j < count:
            j = max(min(j, count - CE_LANES), 0)
            tile_unrolled(rows, step, taps, bias, j, out, out_step, side, side, TILE_ROWS, 1)
            j += CE_LANES


cdef inline void line_shared(const Work* w, const T* const* rows, Py_ssize_t step, const T* taps, T bias, T* out,
                             Py_ssize_t out_step, Py_ssize_t count, const int tall, const int wide) noexcept nogil:
    """`tall` output rows of `count` samples."""
    cdef Py_ssize_t j = 0, planes = w.planes * w.widths[0]
    if count >= wide * CE_LANES:
        while j < count:
            j = min(j, count - wide * CE_LANES)
            tile_shared(rows, step, planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, j, out, out_step,
                        tall, wide)
            j += wide * CE_LANES
    else:
        while j < count:
            j = max(min(j, count - CE_LANES), 0)
            tile_shared(rows, step, planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, j, out, out_step,
                        tall, 1)
            j += CE_LANES


cdef inline void line_streams(const Work* w, const T* const* rows, const T* taps, const T* bias, T* out,
                              Py_ssize_t out_step, Py_ssize_t count, Py_ssize_t streams,
                              const int tall, const int wide) noexcept nogil:
    """One output row of `count` samples, of up to `tall` streams."""
    cdef Py_ssize_t j = 0, planes = w.planes * w.widths[0]
    if count >= wide * CE_LANES:
        while j < count:
            j = min(j, count - wide * CE_LANES)
            tile_streams(rows, w.dilation[1], planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, j, out,
                         out_step, streams, tall, wide)
            j += wide * CE_LANES
    else:
        while j < count:
            j = max(min(j, count - CE_LANES), 0)
            tile_streams(rows, w.dilation[1], planes, w.span, w.columns, taps, w.widths[1], w.widths[2], bias, j, out,
                         out_step, streams, tall, 1)
            j += CE_LANES


cdef void line(const Work* w, int kind, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
               Py_ssize_t count) noexcept nogil:
    """The output rows of one tile height, by the loop that fits the kernel."""
    cdef Py_ssize_t step = w.dilation[1]
    if CE_FLOATING and kind == UNROLLED_3:
        line_unrolled(rows, step, taps, bias, out, out_step, count, 3, TILE_VECTORS)
    elif CE_FLOATING and kind == UNROLLED_5:
        line_unrolled(rows, step, taps, bias, out, out_step, count, 5, 2)
    elif CE_FLOATING and kind == UNROLLED_7:
        line_unrolled(rows, step, taps, bias, out, out_step, count, 7, 2)
    elif kind == SHARED:
        line_shared(w, rows, step, taps, bias, out, out_step, count, TILE_ROWS, TILE_VECTORS)
    elif kind == PAIR:
        line_shared(w, rows, step, taps, bias, out, out_step, count, 2, PAIR_VECTORS)
    else:
        line_shared(w, rows, step, taps, bias, out, out_step, count, 1, LINE_VECTORS)


cdef void band(const Work* w, const T* const* rows, const T* taps, T bias, T* out, Py_ssize_t out_step,
               Py_ssize_t height, Py_ssize_t count) noexcept nogil:
    """`height` output rows of a filter. Under row dilation d the rows that share x are d apart."""
    cdef Py_ssize_t d = w.dilation[1], phase, t, n
    if w.stride[1] != 1:
        for t in range(height):
            line(w, SINGLE, rows + t * w.stride[1], taps, bias, out + t * out_step, out_step, count)
        return
    for phase in range(min(d, height)):
        n = (height - phase + d - 1) // d
        t = 0
        while t < n:
            if n >= w.tall:
                t = min(t, n - w.tall)
                line(w, w.kind, rows + phase + t * d, taps, bias, out + (phase + t * d) * out_step, out_step * d, count)
                t += w.tall
            else:
                line(w, SINGLE, rows + phase + t * d, taps, bias, out + (phase + t * d) * out_step, out_step, count)
                t += 1


# ------------------------------------------------------------------------------------------------- one work item

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
    """to[i] = the sample at padded element first + i*step of a row of x."""
    cdef Py_ssize_t inner = w.inner, before = w.before[2] * inner, beyond = before + w.sizes[2] * inner
    cdef Py_ssize_t i = 0, at, pixel, n
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


cdef void item_rows(const Work* w, const char* x, Py_ssize_t z, Py_ssize_t y, Py_ssize_t height, Py_ssize_t first,
                    Py_ssize_t count, bint direct, const T** rows, T* filled, T* scratch) noexcept nogil:
    """Fill the table of row pointers for `height` output rows from y and `count` output elements from `first`."""
    cdef Py_ssize_t stride = w.stride[2], phases = min(stride, (w.widths[2] - 1) * w.dilation[2] + 1), reach, total
    cdef Py_ssize_t c, kz, q, zs, ys, f, n, i, end, used = (height - 1) * w.stride[1] + (w.widths[1] - 1) * w.dilation[1] + 1
    cdef int part
    cdef const char* plane
    cdef const T** table = rows
    reach = (w.widths[2] - 1) * w.dilation[2] * w.inner
    total = (w.before[2] + w.sizes[2] + w.after) * w.inner
    end = max(count, CE_LANES) + reach // stride + 1
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
                            n = min(count + reach // stride + 1, (total - first * stride - f + stride - 1) // stride)
                            fetch_row(w, plane + ys * w.x_axis[1], first * stride + f, stride, n, w.fill[part],
                                      scratch + f * w.phase)
                            for i in range(n, end):  # what only lanes without an output read
                                scratch[f * w.phase + i] = 0
                        table[q] = scratch
                        scratch += w.row
                table += w.span


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
            if w.kind == STREAMS_FEW:
                line_streams(w, rows + r * w.stride[1], taps, bias, to, to_step, count, n, 2, PAIR_VECTORS)
            else:
                line_streams(w, rows + r * w.stride[1], taps, bias, to, to_step, count, n, STREAMS, STREAM_VECTORS)
            if not direct:
                for s in range(n):
                    deliver(w.out_code,
                            row + (first + s) // w.out_parts * w.out_channel + (first + s) % w.out_parts * w.out_part,
                            w.out_element, buffer + s * width, count, w.overflow, &w.status, &w.culprit)


cdef inline void share(Py_ssize_t total, Py_ssize_t parts, Py_ssize_t size, Py_ssize_t part, Py_ssize_t* first,
                       Py_ssize_t* count) noexcept nogil:
    """Part `part` of `total` things cut into pieces of `size`, the last one taking the remainder."""
    first[0] = part * size
    count[0] = total - first[0] if part == parts - 1 else size


cdef void item(void* context, Py_ssize_t number, int worker) noexcept nogil:
    """One band of rows and chunk of columns of one image and group of channels."""
    cdef Work* w = <Work*> context
    cdef Py_ssize_t chunk = number % w.chunks, b, z, g, split, n, y, height, first, count, block, blocks
    cdef const char* x = w.x
    cdef char* out = w.out
    cdef char* memory
    cdef T* filled
    cdef T* buffer
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
    filled = <T*> memory
    buffer = filled + w.x_parts * w.row
    scratch = buffer + w.buffer
    rows = <const T**> (memory + w.table)
    if w.may_fill:
        for axis in range(w.x_parts):
            for n in range(w.row):
                filled[axis * w.row + n] = w.fill[axis]
    item_rows(w, x + g * w.channels * w.x_channel, z, y, height, first, count, direct, rows, filled, scratch)
    out += g * w.outputs * w.out_channel + z * w.out_axis[0] + y * w.out_axis[1] + first * w.out_element
    if w.streams == 1:
        item_filter(w, g, out, height, count, rows, buffer)
    else:
        share(w.blocks, w.splits, w.split, split, &block, &blocks)
        item_streams(w, g, block, block + blocks, out, height, count, rows, buffer)


# ---------------------------------------------------------------------------------------------- cutting the work

cdef enum:
    L2_BYTES = 262144          # of x rows that a band reads, or of scratch: a quarter of the second-level cache
    ITEM_TAPS = 4194304        # multiply-adds of an item: 0.1 ms at full speed, some ms at the slowest, so that Ctrl-C is prompt
    SERIAL_TAPS = 1000000      # below so many in all a second thread costs more than it gives
    DIRECT_COLUMNS = 8192
    EDGE_COLUMNS = 4096


cdef Py_ssize_t halved(Py_ssize_t value, Py_ssize_t least) noexcept nogil:
    return max(least, (value + 1) // 2)


cdef Py_ssize_t pieces(Py_ssize_t total, Py_ssize_t size) noexcept nogil:
    """Pieces of at least `size`: a remainder goes to the last one, which stays below twice the size."""
    return max(1, total // size) if total > 0 else 0


cdef void cut(Work* w, bint x_direct, int workers, Py_ssize_t images) noexcept nogil:
    """Choose bands, chunks and splits. They never change a result's bits, so they may follow the workers."""
    cdef Py_ssize_t reach = (w.widths[2] - 1) * w.dilation[2] * w.inner
    cdef Py_ssize_t planes = w.planes * w.widths[0], kernel = planes * w.widths[1] * w.widths[2]
    cdef Py_ssize_t least_band = w.tall * w.dilation[1] if w.streams == 1 and w.stride[1] == 1 else 1
    cdef Py_ssize_t least_chunk = 4 * LINE_VECTORS * CE_LANES, widest, used, needed
    cdef Py_ssize_t phases = min(w.stride[2], (w.widths[2] - 1) * w.dilation[2] + 1), r, a
    w.out_row = w.out_sizes[2] * w.inner
    # Columns whose whole window lies inside x can be read in place; edges are at least one vector wide.
    w.direct_from = min(w.before[2] * w.inner, w.out_row)
    w.direct_to = min((w.before[2] + w.sizes[2]) * w.inner - reach, w.out_row)
    if w.direct_from > 0:
        w.direct_from = max(w.direct_from, CE_LANES)
    if w.direct_to < w.out_row:
        w.direct_to = min(w.direct_to, w.out_row - CE_LANES)
    if not x_direct or w.direct_to - w.direct_from < max(w.out_row // 2, CE_LANES):
        w.direct_from = w.direct_to = w.out_row
    w.direct_chunk = min(w.out_row, DIRECT_COLUMNS)
    w.edge_chunk = min(w.out_row, EDGE_COLUMNS)
    w.split = w.blocks
    widest = w.direct_chunk if w.direct_to > w.direct_from else w.edge_chunk
    w.band = min(w.out_sizes[1], max(least_band, min(64, L2_BYTES // max(1, widest * planes * <Py_ssize_t> sizeof(T)))))
    while w.band * widest * kernel * w.split * w.tall_streams > ITEM_TAPS and w.band > least_band:
        w.band = halved(w.band, least_band)
    while w.band * widest * kernel * w.split * w.tall_streams > ITEM_TAPS and w.split > 1:
        w.split = halved(w.split, 1)
    while w.band * widest * kernel * w.split * w.tall_streams > ITEM_TAPS and widest > least_chunk:
        widest = halved(widest, least_chunk)
        w.direct_chunk = min(w.direct_chunk, widest)
        w.edge_chunk = min(w.edge_chunk, widest)
    while images * w.groups * w.out_sizes[0] * pieces(w.out_sizes[1], w.band) < 4 * workers and workers > 1 \
            and w.band > least_band:
        w.band = halved(w.band, least_band)
    while True:
        used = (2 * w.band - 2) * w.stride[1] + (w.widths[1] - 1) * w.dilation[1] + 1
        w.phase = max(2 * w.edge_chunk - 1, CE_LANES) + reach // w.stride[2] + 1
        w.row = phases * w.phase
        needed = min(used, (2 * w.band - 1) * w.widths[1])
        if planes * needed * w.row * <Py_ssize_t> sizeof(T) <= 2 * L2_BYTES:
            break
        if w.band > least_band:
            w.band = halved(w.band, least_band)
        elif w.edge_chunk > CE_LANES:
            w.edge_chunk = halved(w.edge_chunk, CE_LANES)
        else:
            break
    w.bands = pieces(w.out_sizes[1], w.band)
    w.splits = pieces(w.blocks, w.split)
    w.left_chunks = pieces(w.direct_from, w.edge_chunk)
    w.direct_chunks = pieces(w.direct_to - w.direct_from, w.direct_chunk)
    w.chunks = w.left_chunks + w.direct_chunks + pieces(w.out_row - w.direct_to, w.edge_chunk)
    w.span = used


cdef void lay_scratch(Work* w, bint edges) noexcept nogil:
    """Sizes of a worker's memory: filled rows, output buffer, fetched rows, row table."""
    cdef Py_ssize_t reach = (w.widths[2] - 1) * w.dilation[2] * w.inner
    cdef Py_ssize_t chunk = max(2 * w.edge_chunk - 1, CE_LANES), rows = 0, q, height = min(2 * w.band - 1, w.out_sizes[1])
    if w.direct_chunks > 0 and not w.out_direct:
        chunk = max(chunk, 2 * w.direct_chunk - 1)
    w.buffer = chunk * (height if w.streams == 1 else w.tall)
    for q in range((height - 1) * w.stride[1] + (w.widths[1] - 1) * w.dilation[1] + 1):
        rows += w.needed[q]
    if w.direct_chunks > 0:
        w.row = max(w.row, 2 * w.direct_chunk - 1 + reach)
    w.table = <size_t> (w.x_parts * w.row + w.buffer) * sizeof(T)
    if edges:
        w.table += <size_t> (w.planes * w.widths[0] * rows * w.row) * sizeof(T)
    w.table = (w.table + 63) // 64 * 64
    w.memory = w.table + <size_t> (w.planes * w.widths[0] * w.span) * sizeof(void*)


# ---------------------------------------------------------------------------------------------------- the filter

cdef class DirectFilter:
    """A kernel packed for one problem; called with x and out. Thread-safe: a call works on its own copy of `work`."""

    cdef Work work
    cdef object layout, taps, bias, out_shape, out_dtype, empty
    cdef Py_ssize_t total, item_size, out_item_size

    def __init__(self, layout, out_shape, out_dtype, x_item_size, empty):
        cdef Work* w = &self.work
        cdef int axis, part
        cdef Py_ssize_t streams
        self.layout, self.out_shape, self.out_dtype, self.empty = layout, out_shape, out_dtype, empty
        self.item_size, self.out_item_size = x_item_size, out_dtype.itemsize
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
        self._choose_tile()
        w.blocks = (w.streams + w.tall - 1) // w.tall if w.streams > 1 else 1
        w.tall_streams = w.tall if w.streams > 1 else 1
        self.taps, self.bias = pack(layout.taps, layout.bias, w.tall_streams)
        w.taps, w.bias = <const T*> address(self.taps), <const T*> address(self.bias)
        w.block_taps = w.planes * w.widths[0] * w.widths[1] * w.widths[2] * w.tall_streams
        w.group_taps = w.blocks * w.block_taps
        self.total = w.block_taps * w.blocks * w.groups * w.out_sizes[0] * w.out_sizes[1] * w.out_sizes[2]

    cdef _choose_tile(self):
        cdef Work* w = &self.work
        if w.streams > 1:
            w.kind = STREAMS_FEW if w.streams <= 2 else STREAMS_MANY
            w.tall = 2 if w.streams <= 2 else STREAMS
        elif w.widths[1] >= TILE_ROWS - 1 and w.stride[1] == 1 and w.out_sizes[1] >= TILE_ROWS:
            w.kind, w.tall = SHARED, TILE_ROWS
            if CE_FLOATING and w.planes * w.widths[0] == 1 and w.widths[1] == w.widths[2] \
                    and w.dilation[2] == 1 and w.stride[2] == 1 and w.widths[1] in (3, 5, 7):
                w.kind = <int> w.widths[1]
        elif w.widths[1] == 2 and w.stride[1] == 1 and w.out_sizes[1] >= 2:
            w.kind, w.tall = PAIR, 2
        else:
            w.kind, w.tall = SINGLE, 1

    def __call__(self, x, out=None):
        """Filter x, canonical, any strides, into out."""
        cdef Work w = self.work
        cdef Py_buffer source_buffer
        cdef Py_buffer target_buffer
        if out is None:
            out = self.empty(self.out_shape, self.out_dtype)
        PyObject_GetBuffer(x, &source_buffer, PyBUF_STRIDES)
        try:
            PyObject_GetBuffer(out, &target_buffer, PyBUF_STRIDES | PyBUF_WRITABLE)
            try:
                self._run(&w, &source_buffer, &target_buffer)
            finally:
                PyBuffer_Release(&target_buffer)
        finally:
            PyBuffer_Release(&source_buffer)
        if w.status & NO_MEMORY:
            raise MemoryError(f"no memory for {w.memory} bytes of scratch in a worker")
        if w.status & HELD_NAN:
            raise InvalidProblem(f"dtype={self.out_dtype} needs numbers; the result holds NaN; ask for a float dtype")
        if w.status & TOO_LARGE:
            raise OverflowError(f"a result of {w.culprit:.17g} does not fit dtype={self.out_dtype}; use overflow='saturate'")
        return out

    cdef _run(self, Work* w, Py_buffer* x, Py_buffer* out):
        cdef int axis, spatial = self.layout.ndim, layer = self.layout.layer, batch = x.ndim - spatial - layer
        cdef int workers = 1
        cdef Py_ssize_t images = 1, items, a, r, b
        cdef bint x_direct
        w.x, w.out = <const char*> x.buf, <char*> out.buf
        w.status = 0
        for axis in range(3):
            w.x_axis[axis] = w.out_axis[axis] = 0
        for axis in range(spatial):
            w.x_axis[3 - spatial + axis] = x.strides[x.ndim - spatial + axis]
            w.out_axis[3 - spatial + axis] = out.strides[out.ndim - spatial + axis]
        w.x_channel = x.strides[batch] if layer else 0
        w.out_channel = out.strides[batch] if layer else 0
        w.x_part, w.out_part = self.item_size // w.x_parts, self.out_item_size // w.out_parts
        w.x_element, w.out_element = w.x_axis[2], w.out_axis[2]
        w.inner, w.batch_axes = 1, 0
        for axis in range(batch):
            if not layer and w.inner == 1 and w.x_parts == w.out_parts == 1 and w.stride[2] == 1 and x.shape[axis] > 1 \
                    and x.strides[axis] == self.item_size and w.x_axis[2] == x.shape[axis] * self.item_size \
                    and out.strides[axis] == self.out_item_size and w.out_axis[2] == x.shape[axis] * self.out_item_size:
                w.inner, w.x_element, w.out_element = x.shape[axis], self.item_size, self.out_item_size
                continue
            w.batch[w.batch_axes] = x.shape[axis]
            w.x_batch[w.batch_axes], w.out_batch[w.batch_axes] = x.strides[axis], out.strides[axis]
            w.batch_axes += 1
            images *= x.shape[axis]
        if w.inner > 1 and w.kind > SHARED and w.streams == 1:
            w.kind = SHARED  # the unrolled tiles take adjacent taps
        x_direct = w.x_code == CODE and w.stride[2] == 1 and w.x_element == <Py_ssize_t> sizeof(T)
        w.out_direct = w.out_code == CODE and w.out_parts == 1 and w.out_element == <Py_ssize_t> sizeof(T)
        if self.total * w.inner * images > SERIAL_TAPS:
            workers = allowed_workers()
        cut(w, x_direct, workers, images)
        # Which padded rows a band needs, and where in a row each kernel column lies.
        cdef bytearray needed = bytearray(w.span)
        cdef Py_ssize_t columns_bytes = w.widths[2] * sizeof(Py_ssize_t)
        cdef bytearray columns = bytearray(columns_bytes)
        cdef char* flags = needed
        cdef Py_ssize_t* offsets = <Py_ssize_t*> <char*> columns
        if w.stride[1] == 1 and w.dilation[1] == 1:
            for a in range(w.span):
                flags[a] = 1
        else:
            for a in range(w.widths[1]):
                for r in range(2 * w.band - 1):
                    flags[a * w.dilation[1] + r * w.stride[1]] = 1
        for b in range(w.widths[2]):
            a = b * w.dilation[2]
            offsets[b] = a * w.inner if w.stride[2] == 1 else a % w.stride[2] * w.phase + a // w.stride[2]
        w.needed, w.columns = flags, offsets
        lay_scratch(w, w.direct_chunks < w.chunks)
        items = images * w.groups * w.splits * w.out_sizes[0] * w.bands * w.chunks
        with nogil:
            pool.run(item, w, items, <int> min(<Py_ssize_t> workers, items))


cdef void* address(array) except NULL:
    """Where a C-contiguous array's samples are. The array must outlive the pointer."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    cdef void* at = view.buf
    PyBuffer_Release(&view)
    return at if at != NULL else <void*> 1  # an empty array may have none; nothing is read there


def pack(taps, bias, tall):
    """Put the taps of `tall` outputs side by side; outputs that fill a block up are zero and never stored."""
    groups, streams = taps.shape[:2]
    if tall == 1:
        return taps, bias
    blocks = -(-streams // tall)
    wide = np.zeros((groups, blocks * tall, taps[0, 0].size), taps.dtype)
    wide[:, :streams] = taps.reshape(groups, streams, -1)
    added = np.zeros((groups, blocks * tall), bias.dtype)
    added[:, :streams] = bias
    packed = wide.reshape(groups, blocks, tall, -1).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(packed), added
