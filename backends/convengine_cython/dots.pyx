# Filters of 8- and 16-bit integers by widening dot instructions: one source, compiled for the levels that have them.
#
# Work is cut and rows are found as in kernels.pyx, but a row holds bytes or 16-bit samples (T), and sums 32 bits (S):
#
#     u1   uint8_t by int8_t taps, four products to a lane: AVX-512 VNNI
#     i2   int16_t by int16_t taps, two products to a lane: everywhere
#
# x of the row's own type is read in place. Samples of the other sign are fetched shifted by half of their range, which
# the bias takes back, and bytes are widened for 16-bit rows. dots.py proves, per kernel, that every sum fits 32 bits.

cimport numpy as cnp
from cpython.buffer cimport PyBUF_STRIDES, PyObject_GetBuffer, PyBuffer_Release

from convengine.native cimport pool

from convengine.errors import InvalidProblem
from convengine.plugin import workers as allowed_workers

cdef extern from *:
    """
    #define CE_S int32_t
    #define CE_PER (CE_CODE == 0 ? 4 : 2)
    #define CE_LEAST (CE_LANES + CE_PER - 1)
    #define CE_BYTE_SHIFT (CE_PER == 4 ? 128 : 0)
    /* Vectors of outputs side by side: with CE_PER sums each, and TILE_ROWS rows, they must leave registers free. */
    #if CE_VECTOR_BYTES == 64 && CE_PER == 2
    #define DOT_VECTORS 2
    #else
    #define DOT_VECTORS 1
    #endif
    """

cnp.import_array()

include "convengine/native/vector.pxi"
include "convengine/native/sums.pxi"
include "work.pxi"

cdef extern from *:
    """
    #include "dots.h"
    """
    ctypedef int ce_sums
    const int PER "CE_PER"
    const int BYTE_SHIFT "CE_BYTE_SHIFT"            # of int8 samples
    const int WIDE "DOT_VECTORS"
    ce_sums ce_same(S) noexcept nogil
    ce_sums ce_tap(const S*) noexcept nogil
    ce_sums ce_dot(ce_sums, ce_vec, ce_sums) noexcept nogil
    ce_sums ce_clamp(ce_sums, ce_sums, ce_sums) noexcept nogil
    void ce_store_sums(void*, const ce_sums*) noexcept nogil
    void ce_store_halves(void*, const ce_sums*) noexcept nogil
    void ce_store_bytes(void*, const ce_sums*) noexcept nogil
    void ce_store_saturated(void*, const ce_sums*) noexcept nogil

ctypedef fused small:
    uint8_t
    int8_t
    uint16_t
    int16_t

cdef enum:
    SERIAL_DOTS = 4000000                           # below so many products a second thread costs more than it gives
    SUMS = 0                                        # what a tile stores: sums as they are, for the buffer;
    SATURATED_BYTES = 1                             # 8 bits saturated to uint8_t;
    BYTES = 2                                       # the lower 8,
    HALVES = 3                                      # 16
    WORDS = 4                                       # or 32 bits of what is clamped to [low, high]

cdef struct Dots:
    Work work                                       # first, so that an item's context is both
    const S* behind_taps                            # beside work.taps and work.columns: groups that end with a tap
    const Py_ssize_t* behind
    Py_ssize_t groups                               # of a kernel row
    bint dense                                      # they follow each other
    int store
    S low, high

include "dot_items.pxi"
include "dot_tiles.pxi"
include "places.pxi"
include "strips.pxi"
include "cutting.pxi"
include "binding.pxi"


cdef class DotFilter:
    """A kernel packed for one problem; called with x and out. Thread-safe: a call works on its own copy of `dots`."""

    cdef Dots dots
    cdef object layout, pack, packs, out_shape, out_dtype, empty
    cdef Py_ssize_t item_size, out_item_size

    def __init__(self, layout, pack, out_shape, out_dtype, x_item_size, empty):
        """`pack` packs the taps of an x with so many interleaved channels; `layout` is shifted as x will be."""
        cdef Dots* d = &self.dots
        cdef Work* w = &d.work
        self.layout, self.pack, self.packs = layout, pack, {}
        self.out_shape, self.out_dtype, self.empty = out_shape, out_dtype, empty
        self.item_size, self.out_item_size = x_item_size, out_dtype.itemsize
        describe(w, layout)
        w.blocks = w.tall_streams = 1
        w.tall = TILE_ROWS if w.out_sizes[1] >= TILE_ROWS else 1
        w.bias = <const S*> address(layout.bias)
        self._choose_store()

    cdef _choose_store(self):
        cdef Dots* d = &self.dots
        cdef int size = self.out_item_size, code = d.work.out_code
        d.low, d.high = -2147483647 - 1, 2147483647
        d.store = BYTES if size == 1 else HALVES if size == 2 else WORDS
        if d.work.overflow == SATURATE:
            if code == U1 or code == U2 or code == U4:
                d.low, d.high = 0, 255 if size == 1 else 65535 if size == 2 else d.high
            elif size < 4:
                d.low, d.high = -128 if size == 1 else -32768, 127 if size == 1 else 32767
            if code == U1:
                d.store = SATURATED_BYTES

    @property
    def nbytes(self):
        """Bytes that it holds: packed taps and border maps."""
        return sum(packed.nbytes for packed in self.packs.values()) + sum(maps.nbytes for maps in self.layout.maps)

    def __call__(self, cnp.ndarray x not None, out=None):
        """Filter x, canonical, any strides, into out."""
        cdef Dots d = self.dots
        cdef cnp.ndarray target = self.empty(self.out_shape, self.out_dtype) if out is None else out
        if not cnp.PyArray_ISWRITEABLE(target):
            raise ValueError("out is read-only")
        d.work.x, d.work.out = <const char*> cnp.PyArray_DATA(x), <char*> cnp.PyArray_DATA(target)
        self._run(&d, x, target)
        raise_fault(&d.work, self.out_dtype)
        return target

    cdef _run(self, Dots* d, cnp.ndarray x, cnp.ndarray out):
        cdef Work* w = &d.work
        cdef Py_ssize_t images = bind(w, x, out, self.layout.ndim, 0, self.item_size, self.out_item_size)
        cdef Py_ssize_t items, products, g
        cdef int workers = 1
        packed = self.packs.get(w.inner)
        if packed is None:
            packed = self.packs[w.inner] = self.pack(w.inner)
        d.groups, d.dense = packed.groups, packed.dense
        products = images * w.inner * w.out_sizes[0] * w.out_sizes[1] * w.out_sizes[2] \
            * w.widths[0] * w.widths[1] * d.groups * PER
        if products > SERIAL_DOTS:
            workers = allowed_workers()
        w.out_direct = w.out_element == self.out_item_size and (w.overflow != RAISE or w.out_code == I4) \
            and self.out_item_size <= <Py_ssize_t> sizeof(S)
        # Rows with borders are fetched whole: few bytes, in one pass, where their ends apart cost a cache miss each.
        cut(w, w.x_code == CODE and w.stride[2] == 1 and w.x_element == <Py_ssize_t> sizeof(T)
            and w.before[2] + w.after == 0, workers, images)
        cdef bytearray needed = bytearray(w.span)
        mark_needed(w, needed)
        w.needed = needed
        # Where in a row each group lies: under a stride the rows are sorted by phase.
        cdef Py_ssize_t columns_bytes = 2 * d.groups * sizeof(Py_ssize_t)
        cdef bytearray columns = bytearray(columns_bytes)
        cdef Py_ssize_t* offsets = <Py_ssize_t*> <char*> columns
        cdef const Py_ssize_t* phases = <const Py_ssize_t*> address(packed.phases)
        cdef const Py_ssize_t* elements = <const Py_ssize_t*> address(packed.elements)
        for g in range(2 * d.groups):
            offsets[g] = phases[g] * w.phase + elements[g]
        w.columns, d.behind = offsets, offsets + d.groups
        w.taps = <const S*> address(packed.taps)
        d.behind_taps = w.taps + w.widths[0] * w.widths[1] * d.groups
        lay_scratch(w)
        items = images * w.splits * w.out_sizes[0] * w.bands * w.chunks
        with nogil:
            pool.run(item, w, items, <int> min(<Py_ssize_t> workers, items))
