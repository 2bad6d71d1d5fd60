# Rows out: sums become samples, rounded once. After vector.pxi.

from libc.math cimport fmod, isnan, rint
from libc.stdint cimport INT64_MIN, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from *:
    """
    #define CE_IS_NAN(value) (CE_FLOATING && (value) != (value)) /* in a vector's loop, where isnan would end it */
    /* Added to a small number, then taken away, it rounds half to even: the sum has no bits below the one. */
    #define TO_EVEN (sizeof(CE_S) == 4 ? (CE_S)0x1.8p23f : (CE_S)0x1.8p52)

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

    /* Only of float sums: a double would be rounded twice. */
    static void ce_put_float16(const CE_S *from, uint16_t *to, Py_ssize_t count)
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
    const S TO_EVEN
    bint is_nan "CE_IS_NAN"(S) noexcept nogil
    uint16_t ce_double_to_half(double) noexcept nogil
    void ce_put_float16(const S*, uint16_t*, Py_ssize_t) noexcept nogil

cdef enum:
    U1, I1, U2, I2, U4, I4, U8, I8, F2, F4, F8      # sample types: codes.py, setup.py
    SATURATE = 0                                    # what becomes of a rounded value that does not fit
    WRAP = 1
    RAISE = 2
    HELD_NAN = 1                                    # what is noted of the rounding, bit by bit
    TOO_LARGE = 2
    NO_MEMORY = 4

ctypedef fused whole:
    uint8_t
    int8_t
    uint16_t
    int16_t
    uint32_t
    int32_t
    uint64_t
    int64_t


cdef inline bint deliver_plainly(whole* to, const S* row, Py_ssize_t count, int overflow, int64_t low, uint64_t high,
                                 int* status) noexcept nogil:
    """Round and store adjacent integers by a loop without branches, for vectors; False where they need looking at.

    Not for integers of the sum's size and more: a float sum may hold no limit of theirs exactly.
    """
    cdef Py_ssize_t i
    cdef S value
    cdef int nans = 0
    if CE_FLOATING:
        if overflow != SATURATE or sizeof(whole) >= sizeof(S):
            return False
        for i in range(count):
            value = row[i]
            nans |= is_nan(value)
            value = value if value > <S> low else <S> low  # NaN, too
            value = value if value < <S> high else <S> high
            value = (value + TO_EVEN) - TO_EVEN
            if sizeof(whole) < 4:
                to[i] = <whole> <int32_t> value  # vectors of AVX2 have no other conversion
            else:
                to[i] = <whole> <int64_t> value
        if nans:
            status[0] |= HELD_NAN
        return True
    if overflow == WRAP or sizeof(whole) >= sizeof(S) and low < 0:
        for i in range(count):
            to[i] = <whole> row[i]
        return True
    if overflow != SATURATE or sizeof(whole) >= sizeof(S):
        return False
    for i in range(count):
        value = row[i]
        value = value if value > <S> low else <S> low
        value = value if value < <S> high else <S> high
        to[i] = <whole> value
    return True


cdef inline void deliver_as(whole* start, Py_ssize_t step, const S* row, Py_ssize_t count, int overflow,
                            int64_t low, uint64_t high, double beyond, int* status, double* culprit) noexcept nogil:
    """Round and store integers; `beyond` is high + 1, exact as a double. Faults are noted, not raised."""
    cdef Py_ssize_t i
    cdef double real
    cdef int64_t value
    cdef uint64_t magnitude
    cdef whole* to
    if step == <Py_ssize_t> sizeof(whole) and deliver_plainly(start, row, count, overflow, low, high, status):
        return
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


cdef void deliver(int code, char* start, Py_ssize_t step, const S* row, Py_ssize_t count, int overflow,
                  int* status, double* culprit) noexcept nogil:
    """Round `count` sums once to type `code` and store them `step` bytes apart."""
    cdef Py_ssize_t i
    if code == F4:
        for i in range(count):
            (<float*> (start + i * step))[0] = <float> row[i]
    elif code == F8:
        for i in range(count):
            (<double*> (start + i * step))[0] = <double> row[i]
    elif code == F2 and step == sizeof(uint16_t) and sizeof(S) == sizeof(float):
        ce_put_float16(row, <uint16_t*> start, count)
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
