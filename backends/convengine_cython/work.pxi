# What the kernels share: vectors and tile sizes, the codes of sample types, a piece of work.

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
    #define SOME_VECTORS 5
    #define LINE_VECTORS 8
    #define DOWN_VECTORS 4
    #define HANKEL_VECTORS 8
    #else
    #define TILE_ROWS 4
    #define TILE_VECTORS 2
    #define STREAMS 4
    #define STREAM_VECTORS 2
    #define SOME_VECTORS 2
    #define LINE_VECTORS 8
    #define DOWN_VECTORS 2
    #define HANKEL_VECTORS 4
    #endif
    #define ACROSS_VECTORS 8
    #define PAIR_VECTORS 4
    #define SOME 4

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
    const int TILE_ROWS, TILE_VECTORS, STREAMS, STREAM_VECTORS, LINE_VECTORS, PAIR_VECTORS, SOME, SOME_VECTORS
    const int DOWN_VECTORS, ACROSS_VECTORS, HANKEL_VECTORS
    ce_vec ce_load(const T*) noexcept nogil
    ce_vec ce_load_once(const T*) noexcept nogil
    void ce_store(T*, ce_vec) noexcept nogil
    void ce_stream(T*, ce_vec) noexcept nogil
    void ce_stream_end() noexcept nogil
    ce_vec ce_zero() noexcept nogil
    ce_vec ce_splat(T) noexcept nogil
    T ce_sum(ce_vec) noexcept nogil
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
    STREAMS_SOME = 9                                # three or four,
    STREAMS_MANY = 10                               # STREAMS outputs that share loads

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
    const T* taps
    const T* bias
    Py_ssize_t group_taps, block_taps
    T fill[2]
    bint may_fill                                   # a whole row may be border
    Py_ssize_t tall_streams                         # streams of one register block
    int kind, tall                                  # which tile, and how many rows or streams it has
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
    # how it is cut: bands of rows; chunks of the columns, those from direct_from to direct_to read straight from x
    Py_ssize_t out_row, band, bands, chunks, left_chunks, direct_chunks
    Py_ssize_t edge_chunk, direct_chunk, direct_from, direct_to
    Py_ssize_t split, splits                        # register blocks of outputs in one item
    Py_ssize_t span                                 # padded rows that a band needs
    const char* needed                              # which of them
    const Py_ssize_t* columns                       # offset of each kernel column in a row
    Py_ssize_t row, phase, buffer                   # elements of a scratch row, of a phase of it, of the output buffer
    Py_ssize_t strip, stretch, room                 # columns of a strip; elements of a phase of it, of a row of it
    bint past_cache                                 # results are stored past the caches
    size_t table, strips, memory                    # bytes
    int status
    double culprit
