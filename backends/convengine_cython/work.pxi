# What the kernels share: tile sizes, and a piece of work.

cdef extern from *:
    """
    #ifndef CE_LEAST
    #define CE_LEAST CE_LANES
    #endif
    /* Register tiles: accumulators, one vector of x per column of vectors, and a broadcast tap must fit the registers
       (32 for AVX-512 and arm64, else 16). Sizes tried on Zen 4. */
    #if CE_VECTOR_BYTES == 64 || defined(__aarch64__)
    #define TILE_ROWS 4
    #define TILE_VECTORS 4
    #define STREAMS 8
    #define STREAM_VECTORS 3
    #define SOME_VECTORS 5
    #define LINE_VECTORS 8
    #define THREE_ROWS 4
    #define THREE_VECTORS 4
    #define SQUARE_ROWS 4
    #define SQUARE_VECTORS 4
    #define HANKEL_PART 8
    #define HANKEL_PARTS 1
    #define DOWN_VECTORS 4
    #else
    #define TILE_ROWS 4
    #define TILE_VECTORS 2
    #define STREAMS 4
    #define STREAM_VECTORS 2
    #define SOME_VECTORS 2
    #define LINE_VECTORS 8
    #define THREE_ROWS 6
    #define THREE_VECTORS 2
    #define SQUARE_ROWS 3
    #define SQUARE_VECTORS 3
    #define HANKEL_PART 4
    #define HANKEL_PARTS 2
    #define DOWN_VECTORS 2
    #endif
    #define ACROSS_VECTORS 8
    #define PAIR_VECTORS 4
    #define SOME 4
    /* Up to which side a square kernel's loops are unrolled whole: without fused multiply-adds the copies cost more. */
    #if CE_VECTOR_BYTES == 16 && !defined(__aarch64__)
    #define MOST_UNROLLED 3
    #else
    #define MOST_UNROLLED 9
    #endif
    """
    const int CE_LEAST                              # columns of the narrowest chunk that is read in place
    const int TILE_ROWS, TILE_VECTORS, STREAMS, STREAM_VECTORS, LINE_VECTORS, PAIR_VECTORS, SOME, SOME_VECTORS
    const int THREE_ROWS, THREE_VECTORS, SQUARE_ROWS, SQUARE_VECTORS, HANKEL_PART, HANKEL_PARTS, MOST_UNROLLED
    const int DOWN_VECTORS, ACROSS_VECTORS

cdef enum:
    MOST = 8                                        # largest side of any register tile
    HANKEL = 4                                      # taps a vector apart that share loads

cdef enum:
    MOST_BATCH = 64                                 # NumPy's most axes

ctypedef void (*line_t)(const Work*, const T* const*, const T*, T, T*, Py_ssize_t, Py_ssize_t) noexcept nogil

cdef struct Work:
    # the problem
    int x_code, out_code, overflow, x_parts, out_parts
    Py_ssize_t groups, channels, outputs            # channels per group, in and out
    Py_ssize_t planes, streams, blocks              # of a group: real input planes, real outputs, blocks of them
    Py_ssize_t sizes[3]
    Py_ssize_t out_sizes[3]
    Py_ssize_t widths[3]
    Py_ssize_t stride[3]
    Py_ssize_t dilation[3]
    Py_ssize_t before[3]
    const Py_ssize_t* left[3]                       # index maps of the pads
    const Py_ssize_t* right[3]
    Py_ssize_t after                                # of the last axis
    const S* taps
    const S* bias
    Py_ssize_t group_taps, block_taps
    T fill[2]
    bint may_fill                                   # a whole row may be border
    Py_ssize_t tall_streams                         # streams of one register tile; 1 in a filter
    line_t line                                     # of a filter: what computes `tall` output rows
    Py_ssize_t tall                                 # rows, or streams, of one register tile
    # of a method that goes down the rows first, then across
    bint two_passes
    int rank                                        # outer products in the kernel's place; 0: a box
    const T* down                                   # their columns, as down_tile has them
    const T* across                                 # (rank, width): their rows, in the order of summation,
    const Py_ssize_t* order                         # and which kernel column each tap is
    Py_ssize_t products                             # multiply-adds of an output
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
    bint stream                                     # and no cache would hold them
    # how it is cut: bands of rows, chunks of columns; those from direct_from to direct_to read straight from x
    Py_ssize_t out_row, band, bands, chunk, chunks, edge_chunk, direct_from, direct_to
    Py_ssize_t split, splits                        # register blocks of outputs in one item
    Py_ssize_t span                                 # padded rows that a band needs
    const char* needed                              # which of them
    const Py_ssize_t* columns                       # offset of each kernel column in a row
    Py_ssize_t row, phase, filled, buffer           # elements of a scratch row, its phase, a filled row, the results
    Py_ssize_t strip, stretch, room                 # columns of a strip; elements of a phase of it, of a row of it
    size_t table, strips, memory                    # bytes
    int status
    double culprit
