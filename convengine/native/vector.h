/* The vector type and the half-precision conversions of the kernels, for GCC and Clang on any CPU.
 *
 * One vector type per translation unit, chosen by two macros before the header is included:
 *
 *     CE_T             element: float, double, int32_t or int64_t; for dots.h, uint8_t or int16_t
 *     CE_VECTOR_BYTES  16, 32 or 64: the widest register of the ISA level that this unit is compiled for
 *
 * give ce_vec, CE_LANES, ce_load, ce_load_once, ce_store, ce_stream, ce_zero, ce_splat, ce_mask, ce_and, ce_sum and
 * ce_transpose. A ce_vec is an arithmetic type: a + b * c is a vector FMA where the level has one and
 * -ffp-contract=fast is given; Cython takes it for a number (ctypedef float ce_vec).
 * Without CE_T there are only the conversions, ce_half_to_float and ce_float_to_half. */
#ifndef CONVENGINE_VECTOR_H
#define CONVENGINE_VECTOR_H

#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if !defined(__GNUC__)
#error "convengine's vector.h needs the vector extensions of GCC or Clang"
#endif

/* Always inline: a vector that travels through a call may go through memory. */
#define CE_INLINE static inline __attribute__((always_inline, unused))

#ifdef CE_T

#if !defined(CE_VECTOR_BYTES) || (CE_VECTOR_BYTES != 16 && CE_VECTOR_BYTES != 32 && CE_VECTOR_BYTES != 64)
#error "with CE_T, define CE_VECTOR_BYTES as 16, 32 or 64 before vector.h is included"
#endif

/* In registers; and in memory: aligned as one element, so that a load may start at any, and may_alias, so that it may
 * read an array of any type. */
typedef CE_T ce_vec __attribute__((vector_size(CE_VECTOR_BYTES)));
typedef CE_T ce_memory __attribute__((vector_size(CE_VECTOR_BYTES), aligned(sizeof(CE_T)), may_alias));

#define CE_LANES ((int)(CE_VECTOR_BYTES / sizeof(CE_T)))

CE_INLINE ce_vec ce_load(const CE_T *from) { return *(const ce_memory *)from; }

/* Loads into a register to stay there: a compiler may else read the memory again for each use. */
CE_INLINE ce_vec ce_load_once(const CE_T *from)
{
    ce_vec value = ce_load(from);
#if defined(__x86_64__)
    __asm__("" : "+v"(value));
#elif defined(__aarch64__)
    __asm__("" : "+w"(value));
#endif
    return value;
}

/* The vector `lanes` elements beyond `from`, less than CE_LANES, of elements of 4 or 8 bytes. The two vectors at `from`
 * are given: where one instruction shifts them, it spares a load that would split a line of the cache. */
CE_INLINE ce_vec ce_between(const CE_T *from, ce_vec low, ce_vec high, int lanes)
{
#if CE_VECTOR_BYTES == 64 && !defined(__clang__)
    typedef int32_t words __attribute__((vector_size(64)));
    typedef int64_t longs __attribute__((vector_size(64)));
    (void)from;
    if (sizeof(CE_T) == 8)
        return (ce_vec)__builtin_shuffle((longs)low, (longs)high, (longs){0, 1, 2, 3, 4, 5, 6, 7} + lanes);
    return (ce_vec)__builtin_shuffle((words)low, (words)high,
                                     (words){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + lanes);
#else
    (void)low;
    (void)high;
    return ce_load(from + lanes);
#endif
}

CE_INLINE void ce_store(CE_T *to, ce_vec value) { *(ce_memory *)to = value; }

/* Stores past the caches, to an address aligned as the vector: for results that no cache would hold. Ordered against
 * other threads by ce_fence. */
CE_INLINE void ce_stream(CE_T *to, ce_vec value)
{
#if defined(__x86_64__) && CE_VECTOR_BYTES == 64
    _mm512_stream_si512((void *)to, (__m512i)value);
#elif defined(__x86_64__) && CE_VECTOR_BYTES == 32
    _mm256_stream_si256((void *)to, (__m256i)value);
#elif defined(__x86_64__)
    _mm_stream_si128((void *)to, (__m128i)value);
#else
    ce_store(to, value);
#endif
}

CE_INLINE void ce_fence(void)
{
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

/* The same pointer, of which the compiler no longer knows where it points: what is read through it is read again, not
 * kept in registers that a tile has no room for. */
CE_INLINE const CE_T *ce_forget(const CE_T *pointer)
{
    __asm__("" : "+r"(pointer));
    return pointer;
}

CE_INLINE ce_vec ce_zero(void) { return (ce_vec){0}; }

/* x - 0 is x for every x; 0 + x would turn -0.0 into 0.0. The compiler leaves one broadcast. */
CE_INLINE ce_vec ce_splat(CE_T value) { return value - ce_zero(); }

/* What a comparison of two vectors gives: as many integers of the element's size, -1 for true. */
typedef __typeof__(((ce_vec){0}) == ((ce_vec){0})) ce_flags;

/* All bits of the first `count` lanes, for ce_and: a lane that it clears is zero, which a product with 0 may not be. */
CE_INLINE ce_vec ce_mask(int count)
{
    ce_flags lanes;
    int i;
    for (i = 0; i < CE_LANES; i++)
        lanes[i] = -(i < count);
    return (ce_vec)lanes;
}

CE_INLINE ce_vec ce_and(ce_vec a, ce_vec b) { return (ce_vec)((ce_flags)a & (ce_flags)b); }

/* The lanes' sum, of elements of 4 or 8 bytes, in one order at every call. Written so that it stays in registers. */
CE_INLINE CE_T ce_sum(ce_vec value)
{
    enum { LANES = 16 / sizeof(CE_T) };
    typedef CE_T part __attribute__((vector_size(16)));
    part parts[CE_VECTOR_BYTES / 16], sum;
    memcpy(parts, &value, sizeof value);
#if CE_VECTOR_BYTES == 64
    sum = (parts[0] + parts[2]) + (parts[1] + parts[3]);
#elif CE_VECTOR_BYTES == 32
    sum = parts[0] + parts[1];
#else
    sum = parts[0];
#endif
    if (LANES == 2)
        return sum[0] + sum[1];
    return (sum[0] + sum[2 % LANES]) + (sum[1] + sum[3 % LANES]);
}

/* Bytes of an element, for the preprocessor. */
#define CE_BYTES_float 4
#define CE_BYTES_double 8
#define CE_BYTES_uint8_t 1
#define CE_BYTES_int16_t 2
#define CE_BYTES_int32_t 4
#define CE_BYTES_int64_t 8
#define CE_JOIN(a, b) a##b
#define CE_BYTES(type) CE_JOIN(CE_BYTES_, type)

#if CE_BYTES(CE_T) >= 4
/* Which elements of two vectors, counted through, make element j of a shuffled one. */
#define CE_PART ((int)(16 / sizeof(CE_T)))
#define CE_FROM(other, at) (((other) ? CE_LANES : 0) + (at))
/* Blocks of s elements, those at odd places of the one vector exchanged with those at even places of the other. */
#define CE_ONE(j, s) CE_FROM((j) & (s), (j) & ~(s))
#define CE_OTHER(j, s) CE_FROM((j) & (s), (j) | (s))
/* In each 16 bytes, the elements of both in turn: of the s-th half of these bytes. */
#define CE_IN_TURN(j, s) CE_FROM((j) & 1, (j) / CE_PART * CE_PART + (j) % CE_PART / 2 + (s) * (CE_PART / 2))

/* F(j, s) for all elements j of a vector. */
#define CE_COUNT (CE_VECTOR_BYTES / CE_BYTES(CE_T))
#define CE_EACH_2(F, s, j) F((j), s), F((j) + 1, s)
#define CE_EACH_4(F, s, j) CE_EACH_2(F, s, j), CE_EACH_2(F, s, j + 2)
#define CE_EACH_8(F, s, j) CE_EACH_4(F, s, j), CE_EACH_4(F, s, j + 4)
#define CE_EACH_16(F, s, j) CE_EACH_8(F, s, j), CE_EACH_8(F, s, j + 8)
#if CE_COUNT == 16
#define CE_EACH(F, s) CE_EACH_16(F, s, 0)
#elif CE_COUNT == 8
#define CE_EACH(F, s) CE_EACH_8(F, s, 0)
#elif CE_COUNT == 4
#define CE_EACH(F, s) CE_EACH_4(F, s, 0)
#else
#define CE_EACH(F, s) CE_EACH_2(F, s, 0)
#endif
#define CE_SHUFFLE(one, other, F, s) __builtin_shufflevector(one, other, CE_EACH(F, s))

#define CE_EXCHANGE(v, s)                                   \
    for (i = 0; i < CE_LANES; i++)                          \
        if (!(i & (s))) {                                   \
            ce_vec one = v[i], other = v[i + (s)];          \
            v[i] = CE_SHUFFLE(one, other, CE_ONE, s);       \
            v[i + (s)] = CE_SHUFFLE(one, other, CE_OTHER, s); \
        }

/* Transposes CE_LANES vectors as the rows of a square: first the 16-byte parts as wholes, then the elements in each. Most
 * of these shuffles are one instruction. */
CE_INLINE void ce_transpose(ce_vec *v)
{
    int i;
#if CE_VECTOR_BYTES >= 64
    CE_EXCHANGE(v, 2 * CE_PART)
#endif
#if CE_VECTOR_BYTES >= 32
    CE_EXCHANGE(v, CE_PART)
#endif
    for (i = 0; i < CE_LANES; i += CE_PART) {
#if CE_BYTES(CE_T) == 8
        ce_vec one = v[i], other = v[i + 1];
#else
        ce_vec one = CE_SHUFFLE(v[i], v[i + 2], CE_IN_TURN, 0), other = CE_SHUFFLE(v[i + 1], v[i + 3], CE_IN_TURN, 0);
        ce_vec third = CE_SHUFFLE(v[i], v[i + 2], CE_IN_TURN, 1), last = CE_SHUFFLE(v[i + 1], v[i + 3], CE_IN_TURN, 1);
        v[i + 2] = CE_SHUFFLE(third, last, CE_IN_TURN, 0);
        v[i + 3] = CE_SHUFFLE(third, last, CE_IN_TURN, 1);
#endif
        v[i] = CE_SHUFFLE(one, other, CE_IN_TURN, 0);
        v[i + 1] = CE_SHUFFLE(one, other, CE_IN_TURN, 1);
    }
}
#endif

#endif /* CE_T */

CE_INLINE float ce_float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

CE_INLINE uint32_t ce_bits_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* A NaN comes out quiet with its payload kept, as the CPU's instruction does, so that levels agree bit for bit. */
CE_INLINE float ce_half_to_float_portable(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
    if (magnitude > 0x7c00) /* NaN */
        return ce_float_from_bits(sign | 0x7fc00000 | magnitude << 13);
    if (magnitude == 0x7c00) /* infinity */
        return ce_float_from_bits(sign | 0x7f800000);
    if (magnitude < 0x0400) /* zero or subnormal: a multiple of 2^-24, exact in float */
        return ce_float_from_bits(sign | ce_bits_from_float((float)magnitude * 0x1p-24f));
    return ce_float_from_bits(sign | ((magnitude << 13) + 0x38000000)); /* the exponent's bias goes from 15 to 127 */
}

/* Rounds half to even. Needs the default rounding mode, as all of the engine does. */
CE_INLINE uint16_t ce_float_to_half_portable(float value)
{
    uint32_t bits = ce_bits_from_float(value), magnitude = bits & 0x7fffffff;
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7f800000) /* NaN */
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x477ff000) /* 65520 lies halfway between the largest half and 2^16: from there on infinity */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) /* subnormal: a float beside 0.5 has the same steps of 2^-24, so adding 0.5 rounds */
        return (uint16_t)(sign | (ce_bits_from_float(ce_float_from_bits(magnitude) + 0.5f) - 0x3f000000));
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
}

/* The instructions of F16C. A unit compiled without -mf16c may call them too, from functions with the same target
 * attribute, once it has asked the CPU. */
#if defined(__x86_64__)
#define CE_TARGET_F16C __attribute__((target("f16c")))

CE_INLINE CE_TARGET_F16C float ce_half_to_float_f16c(uint16_t half)
{
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
}

CE_INLINE CE_TARGET_F16C uint16_t ce_float_to_half_f16c(float value)
{
    return (uint16_t)_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(value), _MM_FROUND_TO_NEAREST_INT));
}
#endif

CE_INLINE float ce_half_to_float(uint16_t half)
{
#if defined(__F16C__) && defined(__x86_64__)
    return ce_half_to_float_f16c(half);
#else
    return ce_half_to_float_portable(half);
#endif
}

CE_INLINE uint16_t ce_float_to_half(float value)
{
#if defined(__F16C__) && defined(__x86_64__)
    return ce_float_to_half_f16c(value);
#else
    return ce_float_to_half_portable(value);
#endif
}

#endif /* CONVENGINE_VECTOR_H */
