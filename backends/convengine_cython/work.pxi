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
    #define THREE_ROWS 4
    #define THREE_VECTORS 4
    #define SQUARE_ROWS 4
    #define SQUARE_VECTORS 4
    #define HANKEL_PART 8
    #define HANKEL_PARTS 1
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
    #endif
    #define PAIR_VECTORS 4
    #define SOME 4
    /* Up to which side a square kernel's loops are unrolled whole: without fused multiply-adds the copies cost more. */
    #if CE_VECTOR_BYTES == 16 && !defined(__aarch64__)
    #define MOST_UNROLLED 3
    #else
    #define MOST_UNROLLED 9
    #endif

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

    /* Rows of halves, by the CPU's instructions where the level has them. */
    static void ce_load_halves(const uint16_t *from, CE_T *to, Py_ssize_t count)
    {
        Py_ssize_t i = 0;
    #if defined(__F16C__) && defined(__x86_64__)
        for (; i + 8 <= count; i += 8) {
            float wide[8];
            int n;
            _mm256_storeu_ps(wide, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
            for (n = 0; n < 8; n++)
                to[i + n] = (CE_T)wide[n];
        }
    #endif
        for (; i < count; i++)
            to[i] = (CE_T)ce_half_to_float(from[i]);
    }

    /* Only of float sums: a double would be rounded twice. */
    static void ce_store_halves(const CE_T *from, uint16_t *to, Py_ssize_t count)
    {
        Py_ssize_t i = 0;
    #if defined(__F16C__) && defined(__x86_64__)
        for (; i + 8 <= count; i += 8) {
            float narrow[8];
            int n;
            for (n = 0; n < 8; n++)
                narrow[n] = (float)from[i + n];
            _mm_storeu_si128((__m128i *)(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(narrow), _MM_FROUND_TO_NEAREST_INT));
        }
    #endif
        for (; i < count; i++)
            to[i] = ce_float_to_half((float)from[i]);
    }
    """
    ctypedef float T "CE_T"
    ctypedef float ce_vec
    const int CE_LANES
    const bint CE_FLOATING
    const int CODE "CE_CODE"
    const int TILE_ROWS, TILE_VECTORS, STREAMS, STREAM_VECTORS, LINE_VECTORS, PAIR_VECTORS, SOME, SOME_VECTORS
    const int THREE_ROWS, THREE_VECTORS, SQUARE_ROWS, SQUARE_VECTORS, HANKEL_PART, HANKEL_PARTS, MOST_UNROLLED
    const size_t CE_VECTOR_BYTES
    ce_vec ce_load(const T*) noexcept nogil
    ce_vec ce_load_once(const T*) noexcept nogil
    void ce_store(T*, ce_vec) noexcept nogil
    void ce_stream(T*, ce_vec) noexcept nogil
    void ce_fence() noexcept nogil
    const T* ce_forget(const T*) noexcept nogil
    ce_vec ce_splat(T) noexcept nogil
    float ce_half_to_float(uint16_t) noexcept nogil
    uint16_t ce_double_to_half(double) noexcept nogil
    void ce_load_halves(const uint16_t*, T*, Py_ssize_t) noexcept nogil
    void ce_store_halves(const T*, uint16_t*, Py_ssize_t) noexcept nogil

cdef enum:
    MOST = 8                                        # largest side of any register tile
    HANKEL = 4                                      # taps a vector apart that share loads

cdef enum:
    U1, I1, U2, I2, U4, I4, U8, I8, F2, F4, F8      # layout.CODES
    SATURATE = 0
    WRAP = 1
    RAISE = 2
    HELD_NAN = 1
    TOO_LARGE = 2
    NO_MEMORY = 4
    MOST_BATCH = 64                                 # NumPy's most axes

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
    const T* taps
    const T* bias
    Py_ssize_t group_taps, block_taps
    T fill[2]
    bint may_fill                                   # a whole row may be border
    Py_ssize_t tall_streams                         # streams of one register tile; 1 in a filter
    line_t line                                     # of a filter: what computes `tall` output rows
    Py_ssize_t tall                                 # rows, or streams, of one register tile
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
    Py_ssize_t row, phase, filled, buffer           # elements of a scratch row, a phase of it, a filled row, the results
    size_t table, memory                            # bytes
    int status
    double culprit
