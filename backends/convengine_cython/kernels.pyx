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

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBUF_STRIDES, PyObject_GetBuffer, PyBuffer_Release
from libc.string cimport memcmp

import numpy as np

from convengine.native cimport pool

from convengine.errors import InvalidProblem
from convengine.plugin import workers as allowed_workers

cnp.import_array()

include "convengine/native/vector.pxi"
include "convengine/native/sums.pxi"
include "convengine/native/rows.pxi"
include "work.pxi"
include "tiles.pxi"
include "strips.pxi"
include "separable.pxi"
include "box.pxi"
include "places.pxi"
include "items.pxi"
include "cutting.pxi"
include "binding.pxi"
include "gradient_tiles.pxi"
include "gradient_items.pxi"


cdef class Cut:
    """The work, cut for x and out that lie in memory in one way, and for so many workers. Immutable once made."""

    cdef Work work
    cdef bytes shape, x_strides, out_strides
    cdef bytearray needed, columns                  # what `work` points to
    cdef int workers
    cdef bint serial                                # too little work for a second worker
    cdef Py_ssize_t items

    def __init__(self, cnp.ndarray x, cnp.ndarray out):
        self.shape = (<const char*> cnp.PyArray_DIMS(x))[:x.ndim * sizeof(cnp.npy_intp)]
        self.x_strides = (<const char*> cnp.PyArray_STRIDES(x))[:x.ndim * sizeof(cnp.npy_intp)]
        self.out_strides = (<const char*> cnp.PyArray_STRIDES(out))[:out.ndim * sizeof(cnp.npy_intp)]

    cdef bint fits(self, cnp.ndarray x, cnp.ndarray out):
        """Whether x and out lie as those that this was made for."""
        cdef size_t size = x.ndim * sizeof(cnp.npy_intp)
        return <size_t> len(self.shape) == size == <size_t> len(self.out_strides) == \
            out.ndim * sizeof(cnp.npy_intp) \
            and memcmp(cnp.PyArray_DIMS(x), <const char*> self.shape, size) == 0 \
            and memcmp(cnp.PyArray_STRIDES(x), <const char*> self.x_strides, size) == 0 \
            and memcmp(cnp.PyArray_STRIDES(out), <const char*> self.out_strides, size) == 0


cdef class DirectFilter:
    """A kernel packed for one problem; called with x and out. Thread-safe: a call works on its own copy of `work`."""

    cdef Work work
    cdef Cut last                                   # the latest call's, for the next one that is alike
    cdef object layout, taps, bias, out_shape, out_dtype, empty
    cdef Py_ssize_t total, outputs, item_size, out_item_size

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
        self.outputs = w.tall_streams * w.blocks * w.groups * w.out_sizes[0] * w.out_sizes[1] * w.out_sizes[2]
        self.total = w.planes * w.widths[0] * w.widths[1] * w.widths[2] * self.outputs

    @property
    def nbytes(self):
        """Bytes that it holds: packed taps and border maps."""
        return self.taps.nbytes + self.bias.nbytes + sum(indices.nbytes for indices in self.layout.maps)

    cdef _choose_tile(self):
        cdef Work* w = &self.work
        cdef Py_ssize_t side = w.widths[1]
        cdef bint square = CE_FLOATING and w.planes * w.widths[0] == 1 and side == w.widths[2] and w.dilation[2] == 1
        if w.streams > 1:
            w.tall = 2 if w.streams <= 2 else SOME if w.streams <= SOME else STREAMS
            return
        w.line, w.tall = line_single, 1
        if w.planes * w.widths[0] * side == 1 and w.widths[2] >= 2 * CE_LANES and w.dilation[2] == 1 \
                and w.stride[2] == 1:
            w.line = line_hankel
        if w.stride[1] != 1:
            return
        if square and w.stride[2] == 1 and side == 3 and w.out_sizes[1] >= THREE_ROWS:
            w.line, w.tall = line_3, THREE_ROWS
        elif square and w.stride[2] == 1 and side in (5, 7, 9) and side <= MOST_UNROLLED \
                and w.out_sizes[1] >= SQUARE_ROWS:
            w.line, w.tall = line_5 if side == 5 else line_7 if side == 7 else line_9, SQUARE_ROWS
        elif side >= TILE_ROWS - 1 and w.out_sizes[1] >= TILE_ROWS:
            w.line, w.tall = line_tall, TILE_ROWS
        elif side == 2 and w.out_sizes[1] >= 2:
            w.line, w.tall = line_pair, 2

    def __call__(self, cnp.ndarray x not None, out=None):
        """Filter x, canonical, any strides, into out."""
        cdef Work w
        cdef Cut cut
        cdef cnp.ndarray target = self.empty(self.out_shape, self.out_dtype) if out is None else out
        if not cnp.PyArray_ISWRITEABLE(target):
            raise ValueError("out is read-only")
        with cython.critical_section(self):
            cut = self.last
        if cut is None or not cut.fits(x, target) or not (cut.serial or cut.workers == allowed_workers()):
            cut = self._cut(x, target)
            with cython.critical_section(self):
                self.last = cut
        w = cut.work
        w.x, w.out = <const char*> cnp.PyArray_DATA(x), <char*> cnp.PyArray_DATA(target)
        with nogil:
            pool.run(item, &w, cut.items, <int> min(<Py_ssize_t> cut.workers, cut.items))
        raise_fault(&w, self.out_dtype)
        return target

    cdef Cut _cut(self, cnp.ndarray x, cnp.ndarray out):
        """Cut the work for x and out as they lie in memory."""
        cdef Cut made = Cut(x, out)
        cdef Work* w = &made.work
        cdef Py_ssize_t images, a, b
        cdef bint x_direct
        w[0] = self.work
        images = bind(w, x, out, self.layout.ndim, self.layout.layer, self.item_size, self.out_item_size)
        if w.inner > 1 and w.streams == 1:  # the other tiles take adjacent taps
            if w.line == line_3 or w.line == line_5 or w.line == line_7 or w.line == line_9:
                w.line, w.tall = line_tall, TILE_ROWS
            elif w.line == line_hankel:
                w.line = line_single
        x_direct = w.x_code == CODE and w.stride[2] == 1 and w.x_element == <Py_ssize_t> sizeof(T)
        w.out_direct = w.out_code == CODE and w.out_parts == 1 and w.out_element == <Py_ssize_t> sizeof(T)
        w.stream = w.out_direct and self.outputs * w.inner * images * <Py_ssize_t> sizeof(T) > CACHED
        made.serial = is_serial(<double> self.total * w.inner * images, <double> self.outputs * w.inner * images)
        made.workers = 1 if made.serial else allowed_workers()
        cut(w, x_direct, made.workers, images)
        # Which padded rows a band needs, and where in a row each kernel column lies.
        made.needed, made.columns = bytearray(w.span), bytearray(w.widths[2] * sizeof(Py_ssize_t))
        cdef char* flags = made.needed
        cdef Py_ssize_t* offsets = <Py_ssize_t*> <char*> made.columns
        mark_needed(w, flags)
        for b in range(w.widths[2]):
            a = b * w.dilation[2]
            offsets[b] = a * w.inner if w.stride[2] == 1 else a % w.stride[2] * w.phase + a // w.stride[2]
        w.needed, w.columns = flags, offsets
        lay_scratch(w)
        made.items = images * w.groups * w.splits * w.out_sizes[0] * w.bands * w.chunks
        return made


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
include "two_passes.pxi"
