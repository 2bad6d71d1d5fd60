# Rows in: samples of any type become elements. After vector.pxi and sums.pxi.

cdef extern from *:
    """
    /* Rows of float16, by the CPU's instructions where the level has them. */
    static void ce_get_float16(const uint16_t *from, CE_T *to, Py_ssize_t count)
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
    """
    void ce_get_float16(const uint16_t*, T*, Py_ssize_t) noexcept nogil

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

cdef inline void fetch_as(const plain* start, Py_ssize_t step, T* to, Py_ssize_t count) noexcept nogil:
    """Convert `count` samples, `step` bytes apart. Steps that are literal here become vectors."""
    cdef Py_ssize_t i
    if step == <Py_ssize_t> sizeof(plain):
        for i in range(count):
            to[i] = <T> start[i]
    elif step == 2 * <Py_ssize_t> sizeof(plain):
        for i in range(count):
            to[i] = <T> start[2 * i]
    elif step == 3 * <Py_ssize_t> sizeof(plain):
        for i in range(count):
            to[i] = <T> start[3 * i]
    elif step == 4 * <Py_ssize_t> sizeof(plain):
        for i in range(count):
            to[i] = <T> start[4 * i]
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
    elif step == sizeof(uint16_t):
        ce_get_float16(<const uint16_t*> start, to, count)
    else:
        for i in range(count):
            to[i] = <T> ce_half_to_float((<const uint16_t*> (start + i * step))[0])
