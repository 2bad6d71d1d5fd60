# Rows in and rows out: samples of any type become elements, sums become samples, rounded once. After vector.pxi.

from libc.math cimport fmod, isnan, rint
from libc.stdint cimport INT64_MIN, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from *:
    """
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
    uint16_t ce_double_to_half(double) noexcept nogil
    void ce_load_halves(const uint16_t*, T*, Py_ssize_t) noexcept nogil
    void ce_store_halves(const T*, uint16_t*, Py_ssize_t) noexcept nogil

cdef enum:
    U1, I1, U2, I2, U4, I4, U8, I8, F2, F4, F8      # sample types: codes.py, setup.py
    SATURATE = 0                                    # what becomes of a rounded value that does not fit
    WRAP = 1
    RAISE = 2
    HELD_NAN = 1                                    # what is noted of the rounding, bit by bit
    TOO_LARGE = 2
    NO_MEMORY = 4

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
        ce_load_halves(<const uint16_t*> start, to, count)
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
    elif code == F2 and step == sizeof(uint16_t) and sizeof(T) == sizeof(float):
        ce_store_halves(row, <uint16_t*> start, count)
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
        deliver_as[uint32_t](<uint32_t*> start, step, row, count, overflow, 0, 4294967295, 4294967296.0,
                             status, culprit)
    elif code == I4:
        deliver_as[int32_t](<int32_t*> start, step, row, count, overflow, -2147483648LL, 2147483647, 2147483648.0,
                            status, culprit)
    elif code == U8:
        deliver_as[uint64_t](<uint64_t*> start, step, row, count, overflow, 0, 18446744073709551615ULL,
                             18446744073709551616.0, status, culprit)
    else:
        deliver_as[int64_t](<int64_t*> start, step, row, count, overflow, INT64_MIN,
                            9223372036854775807ULL, 9223372036854775808.0, status, culprit)
