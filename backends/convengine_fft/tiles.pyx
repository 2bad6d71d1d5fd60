# Overlap-save over tiles with a transform of our own: one source, compiled once per ISA level and element type.
#
# Two tiles of one image are the real and the imaginary part of one complex tile: the kernel is real, so its
# correlation keeps them apart. Neither adds more than a factor to the other's error (proof:
# fft_error.pair_error_factor) while neither 2-norm is twice the other or more: else each is scaled by a power of two to
# between 1 and 2. A tile is transformed down its columns, along its rows, multiplied by the kernel's spectrum and
# transformed back, mostly inside the second-level cache.
#
# A signal is cut into segments of down * along samples, read as rows that follow each other: what is done to columns
# and rows, with a root of unity for each sample between, is one long transform (the four-step algorithm).
#
# Which tiles make a pair follows from the image's shape, and a tile's operations from its place in a pair: neither
# batch, workers, stride nor memory layout change a bit.

from libc.math cimport frexp, ldexp

from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyObject_GetBuffer, PyBuffer_Release

from convengine.native cimport pool

import numpy as np

from convengine.errors import InvalidProblem
from convengine.plugin import workers as allowed_workers

include "convengine/native/vector.pxi"
include "convengine/native/sums.pxi"
include "convengine/native/rows.pxi"
include "butterflies.pxi"
include "transforms.pxi"
include "tile_samples.pxi"

cdef extern from *:
    """
    /* Sums of squares between the inverse of this and this are good: no square that counts has over- or underflowed.
       The exponent keeps each of two factors in range. */
    #define SAFE_ENERGY (sizeof(CE_T) == 4 ? 0x1p100 : 0x1p900)
    #define MOST_EXPONENT (sizeof(CE_T) == 4 ? 250 : 2000)
    /* Sums of squares between the inverse of this and this need no scale for the sake of the range: what a transform
       loses to underflow is then 2**-70 of a norm at most. Below FAIR times the other's, a norm is below twice it. */
    #define PLAIN_ENERGY 0x1p60
    #define FAIR 3.9
    """
    const double SAFE_ENERGY
    const double PLAIN_ENERGY
    const double FAIR
    const int MOST_EXPONENT

cdef enum:
    FIRST_LEVEL = 32768        # bytes of a first-level cache
    SERIAL_SAMPLES = 32768     # below so many in all tiles a second thread costs more than it gives


cdef void begin(const Tiles* t, Py_ssize_t number, Tile* tile) noexcept nogil:
    """Which outputs a tile gives; none if there is no tile of that number."""
    cdef Py_ssize_t down = number // t.counts[1], y, x
    tile.y, tile.x = down * t.outputs[0], number % t.counts[1] * t.outputs[1]
    tile.height = tile.width = 0
    tile.wanted = False
    if down < t.counts[0]:
        tile.height = min(t.outputs[0], t.dense[0] - tile.y)
        tile.width = min(t.outputs[1], t.dense[1] - tile.x)
        y = (tile.y + t.stride[0] - 1) // t.stride[0] * t.stride[0]
        x = (tile.x + t.stride[1] - 1) // t.stride[1] * t.stride[1]
        tile.wanted = y < tile.y + tile.height and x < tile.x + tile.width


cdef void leave_out(const Tiles* t, Tile* tile) noexcept nogil:
    """Make zeros of a tile that there is not."""
    cdef Py_ssize_t r, i
    for r in range(t.shape.down.size):
        tile.rows[r] = tile.plane + r * t.shape.step
        for i in range(t.shape.along.size):
            tile.plane[r * t.shape.step + i] = 0
    tile.broken, tile.zero, tile.scale = False, True, 1
    tile.back[0], tile.back[1] = 0, 1


cdef void item(void* context, Py_ssize_t number, int worker) noexcept nogil:
    """One pair of tiles of one image."""
    cdef Tiles* t = <Tiles*> context
    cdef Py_ssize_t pair = number % t.pairs, image = number // t.pairs, n, width, last, r, i
    cdef Py_ssize_t down = t.shape.down.size, plane = down * t.shape.step, strip = 2 * strip_of(&t.shape.along)
    cdef const char* x = t.x
    cdef char* out = t.out
    cdef Tile tiles[2]
    cdef T* memory
    cdef void** pointers
    cdef int axis, k
    cdef bint straight, plain
    cdef T bias = 0 if t.integer else t.bias
    cdef Py_ssize_t rest = image
    cdef double energies[2]
    for k in range(2):
        begin(t, 2 * pair + k, &tiles[k])
    if not tiles[0].wanted and not tiles[1].wanted:
        return
    for axis in range(t.batch_axes - 1, -1, -1):
        n = rest % t.batch[axis]
        rest //= t.batch[axis]
        x += n * t.x_batch[axis]
        out += n * t.out_batch[axis]
    memory = <T*> pool.scratch(t.memory)
    if memory == NULL:
        t.status |= NO_MEMORY
        return
    pointers = <void**> (memory + 2 * plane + strip)
    for k in range(2):
        tiles[k].plane = memory + k * plane
        tiles[k].rows = <const T**> (pointers + 2 * k * down)
        tiles[k].to = <T**> (pointers + (2 * k + 1) * down)
        tiles[k].runs = <Run*> (pointers + 4 * down)
    plain = may_go_plain(t, &tiles[0]) and may_go_plain(t, &tiles[1])
    if plain:
        load_plain(t, x, &tiles[0])
        load_plain(t, x, &tiles[1])
        columns_forward(&t.shape, tiles[0].rows, tiles[1].rows, 1, 1, tiles[0].plane, tiles[1].plane, energies)
        plain = is_even(energies[0], energies[1])
    for k in range(0 if plain else 2):
        if tiles[k].height:
            load_tile(t, x, &tiles[k])
            if tiles[k].broken and tiles[k].wanted:
                t.broken[image * t.counts[0] * t.counts[1] + 2 * pair + k] = 1
        else:
            leave_out(t, &tiles[k])
    memory = memory + 2 * plane
    width = max(widest(t, &tiles[0]), widest(t, &tiles[1]))
    # A last vector that overlaps its neighbour reads what must not have been overwritten: then all goes into out.
    straight = t.out_direct and width >= CE_LANES and (not tiles[1].height or tiles[1].width == tiles[0].width) \
        and not (tiles[0].zero and tiles[1].zero)
    for k in range(2):
        aim(t, out, &tiles[k], straight, width, memory)
    if tiles[0].zero and tiles[1].zero:
        for k in range(2):
            for r in range(down):
                for i in range(t.shape.along.size):
                    tiles[k].plane[r * t.shape.step + i] = bias
    else:
        last = width - CE_LANES if straight else width
        if not plain:
            columns_forward(&t.shape, tiles[0].rows, tiles[1].rows, tiles[0].scale, tiles[1].scale, tiles[0].plane,
                            tiles[1].plane, energies)
        rows_through(&t.shape, tiles[0].plane, tiles[1].plane, memory, t.spectrum)
        columns_back(&t.shape, tiles[0].plane, tiles[1].plane, width, last, tiles[0].to, tiles[1].to, tiles[0].back,
                     tiles[1].back, bias)
    for k in range(2):
        if tiles[k].converted:
            deliver_rows(t, out, &tiles[k])


cdef void* address(array) except NULL:
    """Where a C-contiguous array's samples are. The array must outlive the pointer."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    cdef void* at = view.buf
    PyBuffer_Release(&view)
    return at if at != NULL else <void*> 1  # an empty array may have none; nothing is read there


cdef class TileFilter:
    """A kernel's spectrum for one problem; called with x and out. Thread-safe: a call works on its own `tiles`."""

    cdef Tiles tiles
    cdef object layout, spectrum, out_shape, out_dtype, repair, empty

    def __init__(self, layout, kernel, out_shape, out_dtype, empty, repair):
        cdef Tiles* t = &self.tiles
        cdef int axis
        self.layout, self.out_shape, self.out_dtype, self.empty = layout, out_shape, out_dtype, empty
        self.repair = repair
        t.x_code, t.out_code, t.overflow = layout.x_code, layout.out_code, layout.overflow
        t.signal, t.integer, t.exponent = layout.signal, layout.integer, layout.exponent
        for axis in range(2):
            t.sizes[axis], t.before[axis] = layout.sizes[axis], layout.before[axis]
            t.left[axis] = <const Py_ssize_t*> address(layout.maps[2 * axis])
            t.right[axis] = <const Py_ssize_t*> address(layout.maps[2 * axis + 1])
            t.stride[axis], t.dense[axis] = layout.stride[axis], layout.dense[axis]
            t.outputs[axis], t.reads[axis] = layout.outputs[axis], layout.reads[axis]
            t.counts[axis] = layout.counts[axis]
        t.fill, t.bias = (<const T*> address(layout.numbers))[0], (<const T*> address(layout.numbers))[1]
        t.pairs = (t.counts[0] * t.counts[1] + 1) // 2
        set_length(&t.shape.down, layout.down)
        set_length(&t.shape.along, layout.along)
        t.shape.step = t.shape.along.size + CE_LANES
        t.shape.bends = <const T*> address(layout.bends) if layout.bends is not None else NULL
        t.memory = sizeof(T) * (2 * t.shape.down.size * t.shape.step + 2 * strip_of(&t.shape.along)) \
            + 4 * t.shape.down.size * sizeof(void*) + t.shape.along.size * sizeof(Run)
        self.spectrum = np.empty(2 * t.shape.down.size * t.shape.along.size, kernel.dtype)
        self._transform(kernel)
        t.spectrum = <const T*> address(self.spectrum)

    cdef _transform(self, kernel):
        """The spectrum of a kernel that lies in a tile, in the order in which the stages leave it."""
        cdef Tiles* t = &self.tiles
        cdef Py_ssize_t down = t.shape.down.size, plane = down * t.shape.step, r
        cdef T* memory = <T*> pool.scratch(t.memory)
        cdef const T** rows
        cdef const T* taps = <const T*> address(kernel)
        cdef double energies[2]
        if memory == NULL:
            raise MemoryError(f"no memory for {t.memory} bytes of scratch")
        rows = <const T**> (memory + 2 * plane + 2 * strip_of(&t.shape.along))
        for r in range(down):
            rows[r] = taps + r * t.shape.along.size
            rows[down + r] = memory + plane + r * t.shape.step
        for r in range(plane):
            memory[plane + r] = 0
        columns_forward(&t.shape, rows, rows + down, 1, 1, memory, memory + plane, energies)
        spectrum_of(&t.shape, memory, memory + plane, memory + 2 * plane, <T*> address(self.spectrum))

    @property
    def nbytes(self):
        """Bytes that it holds: spectrum, roots and border maps."""
        return self.spectrum.nbytes + self.layout.nbytes

    def __call__(self, x, out=None):
        """Filter x, canonical, any strides, into out."""
        cdef Tiles t = self.tiles
        cdef Py_buffer source_buffer
        cdef Py_buffer target_buffer
        if out is None:
            out = self.empty(self.out_shape, self.out_dtype)
        PyObject_GetBuffer(x, &source_buffer, PyBUF_STRIDES)
        try:
            PyObject_GetBuffer(out, &target_buffer, PyBUF_STRIDES | PyBUF_WRITABLE)
            try:
                broken = self._run(&t, &source_buffer, &target_buffer)
            finally:
                PyBuffer_Release(&target_buffer)
        finally:
            PyBuffer_Release(&source_buffer)
        if t.status & NO_MEMORY:
            raise MemoryError(f"no memory for {t.memory} bytes of scratch in a worker")
        if t.status & HELD_NAN:
            raise InvalidProblem(f"dtype={self.out_dtype} needs numbers; the result holds NaN; ask for a float dtype")
        if t.status & TOO_LARGE:
            raise OverflowError(
                f"a result of {t.culprit:.17g} does not fit dtype={self.out_dtype}; use overflow='saturate'"
            )
        if broken is not None:
            self.repair(x, out, broken)
        return out

    cdef _run(self, Tiles* t, Py_buffer* x, Py_buffer* out):
        """Filter; return one flag per tile of each image if any held NaN or infinity."""
        cdef int axis, spatial = 1 if t.signal else 2, batch = x.ndim - spatial, workers = 1
        cdef Py_ssize_t images = 1, items
        cdef bytearray broken
        t.x, t.out, t.status = <const char*> x.buf, <char*> out.buf, 0
        t.x_axis[0] = t.out_axis[0] = 0
        for axis in range(spatial):
            t.x_axis[2 - spatial + axis] = x.strides[batch + axis]
            t.out_axis[2 - spatial + axis] = out.strides[batch + axis]
        t.batch_axes = batch
        for axis in range(batch):
            t.batch[axis] = x.shape[axis]
            t.x_batch[axis], t.out_batch[axis] = x.strides[axis], out.strides[axis]
            images *= x.shape[axis]
        t.x_direct = t.x_code == CODE and t.x_axis[1] == <Py_ssize_t> sizeof(T)
        t.out_direct = t.out_code == CODE and t.out_axis[1] == <Py_ssize_t> sizeof(T) and t.stride[1] == 1 \
            and not t.integer
        items = images * t.pairs
        broken = bytearray(images * t.counts[0] * t.counts[1])
        t.broken = <unsigned char*> <char*> broken
        if items * 2 * t.shape.down.size * t.shape.along.size > SERIAL_SAMPLES:
            workers = allowed_workers()
        with nogil:
            pool.run(item, t, items, <int> min(<Py_ssize_t> workers, items))
        return broken if 1 in broken else None


cdef set_length(Length* length, stages):
    """From (radix, span, roots) of each stage."""
    cdef int s
    length.size, length.stages = 1, len(stages)
    for s in range(length.stages):
        length.radices[s], length.spans[s] = stages[s][0], stages[s][1]
        length.roots[s] = <const T*> address(stages[s][2])
        length.size *= length.radices[s]
    length.block, length.apart = length.size, length.spans[0]
    if 2 * length.size * CE_VECTOR_BYTES >= FIRST_LEVEL:
        length.block, length.apart = length.spans[0], length.spans[0] + 1
