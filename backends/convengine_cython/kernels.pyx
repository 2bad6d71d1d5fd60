# The direct kernels: one source, compiled once per ISA level and element type (setup.py's table).
#
# Rows by pointer, columns by chunk. An item of work is a band of output rows and a chunk of output columns. For every
# input plane and padded row that it needs, a table holds a pointer: into x itself where the row can be read as it
# stands (same element type, adjacent samples, chunk clear of the left and right border), else to a row in the worker's
# scratch, fetched with its border, converted and, under a stride, sorted by phase. A border above or below is then
# another pointer, dilation and row stride are steps in the table, and the register tiles see nothing but rows of
# adjacent samples.
#
# A pixel with interleaved channels (x and out both channels last) is that many adjacent elements: kernel taps are
# `inner` elements apart, and the planes need no taking apart.
#
# Every output is summed in one order: bias, then planes, kernel rows, kernel columns ascending. So neither the tile
# that holds it, nor the band, the chunk, the number of workers or the batch change its bits. There is no scalar tail:
# a remainder is done by a tile that overlaps its neighbour, or in scratch.

from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyObject_GetBuffer, PyBuffer_Release
from libc.math cimport fmod, isnan, rint
from libc.stdint cimport INT64_MIN, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

import numpy as np

from convengine.native cimport pool

from convengine.errors import InvalidProblem
from convengine.plugin import workers as allowed_workers

include "work.pxi"
include "rows.pxi"
include "sums.pxi"
include "tiles.pxi"
include "places.pxi"
include "items.pxi"
include "cutting.pxi"
include "binding.pxi"
include "gradient_tiles.pxi"
include "gradient_items.pxi"


cdef class DirectFilter:
    """A kernel packed for one problem; called with x and out. Thread-safe: a call works on its own copy of `work`."""

    cdef Work work
    cdef object layout, taps, bias, out_shape, out_dtype, empty
    cdef Py_ssize_t total, item_size, out_item_size

    def __init__(self, layout, out_shape, out_dtype, x_item_size, empty):
        cdef Work* w = &self.work
        self.layout, self.out_shape, self.out_dtype, self.empty = layout, out_shape, out_dtype, empty
        self.item_size, self.out_item_size = x_item_size, out_dtype.itemsize
        describe(w, layout)
        self._choose_tile()
        w.blocks = (w.streams + w.tall - 1) // w.tall if w.streams > 1 else 1
        w.tall_streams = w.tall if w.streams > 1 else 1
        self.taps, self.bias = pack(layout.taps, layout.bias, w.tall_streams)
        w.taps, w.bias = <const T*> address(self.taps), <const T*> address(self.bias)
        w.block_taps = w.planes * w.widths[0] * w.widths[1] * w.widths[2] * w.tall_streams
        w.group_taps = w.blocks * w.block_taps
        self.total = w.block_taps * w.blocks * w.groups * w.out_sizes[0] * w.out_sizes[1] * w.out_sizes[2]

    @property
    def nbytes(self):
        """Bytes that it holds: packed taps and border maps."""
        return self.taps.nbytes + self.bias.nbytes + sum(indices.nbytes for indices in self.layout.maps)

    cdef _choose_tile(self):
        cdef Work* w = &self.work
        if w.streams > 1:
            w.kind = STREAMS_FEW if w.streams <= 2 else STREAMS_SOME if w.streams <= SOME else STREAMS_MANY
            w.tall = 2 if w.streams <= 2 else SOME if w.streams <= SOME else STREAMS
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
        raise_fault(&w, self.out_dtype)
        return out

    cdef _run(self, Work* w, Py_buffer* x, Py_buffer* out):
        cdef int workers = 1, layer = self.layout.layer
        cdef Py_ssize_t images = bind(w, x, out, self.layout.ndim, layer, self.item_size, self.out_item_size)
        cdef Py_ssize_t items, a, b
        cdef bint x_direct
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
        mark_needed(w, flags)
        for b in range(w.widths[2]):
            a = b * w.dilation[2]
            offsets[b] = a * w.inner if w.stride[2] == 1 else a % w.stride[2] * w.phase + a // w.stride[2]
        w.needed, w.columns = flags, offsets
        lay_scratch(w, w.direct_chunks < w.chunks)
        items = images * w.groups * w.splits * w.out_sizes[0] * w.bands * w.chunks
        with nogil:
            pool.run(item, w, items, <int> min(<Py_ssize_t> workers, items))


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


include "gradient.pxi"
