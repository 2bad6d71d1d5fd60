/* The widening dot instructions: sums of products of small integers, several products to a 32-bit lane.
 *
 * Include vector.h first, with
 *
 *     CE_T    the samples: uint8_t, by int8_t taps, CE_PER 4; or int16_t, by int16_t taps, CE_PER 2
 *     CE_PER  samples, and so products, in a lane
 *
 * ce_sums holds CE_LANES / CE_PER sums, int32_t. All arithmetic is modulo 2^32: a sum is exact if it fits, whatever
 * its parts do. A tile keeps CE_PER of them side by side, q[0] to q[CE_PER - 1], because ce_dot meets samples at every
 * CE_PER-th position: lane i of q[s] is output CE_PER*i + s. The stores put them in order.
 *
 * Bytes need AVX-512 VNNI. 16-bit samples have an instruction on every x86-64, and plain C elsewhere. */
#ifndef CONVENGINE_DOTS_H
#define CONVENGINE_DOTS_H

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CE_SUM_LANES (CE_VECTOR_BYTES / 4)

typedef int32_t ce_sums __attribute__((vector_size(CE_VECTOR_BYTES), aligned(4), may_alias));
typedef uint32_t ce_words __attribute__((vector_size(CE_VECTOR_BYTES), aligned(4), may_alias));

/* A number in every lane. */
CE_INLINE ce_sums ce_same(int32_t value) { return value - (ce_sums){0}; }

/* The same for a tap in memory, which is read where it is used: kept, the taps of an unrolled tile would crowd the sums
 * out of 16 registers. */
CE_INLINE ce_sums ce_tap(const int32_t *tap)
{
#if defined(__x86_64__) && CE_VECTOR_BYTES < 64
    __asm__ volatile("" : "+r"(tap)); /* as if it were another address each time */
#endif
    return ce_same(*tap);
}

/* sum + the products of each lane's samples and taps */
CE_INLINE ce_sums ce_dot(ce_sums sum, ce_vec x, ce_sums taps)
{
#if CE_PER == 4 && defined(__AVX512VNNI__)
    return (ce_sums)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)taps);
#elif CE_PER == 4
#error "dots of bytes need AVX-512 VNNI"
#elif defined(__AVX512VNNI__)
    return (ce_sums)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)x, (__m512i)taps);
#elif defined(__SSE2__)
#if defined(__AVX512BW__)
    sum = (ce_sums)_mm512_add_epi32((__m512i)sum, _mm512_madd_epi16((__m512i)x, (__m512i)taps));
#elif defined(__AVX2__)
    sum = (ce_sums)_mm256_add_epi32((__m256i)sum, _mm256_madd_epi16((__m256i)x, (__m256i)taps));
#else
    sum = (ce_sums)_mm_add_epi32((__m128i)sum, _mm_madd_epi16((__m128i)x, (__m128i)taps));
#endif
    __asm__("" : "+v"(sum)); /* GCC may else put off the additions, until the products no longer fit the registers */
    return sum;
#else
    ce_sums odd = (ce_sums)x >> 16, even = (ce_sums)((ce_words)x << 16) >> 16; /* little-endian: even ones lie low */
    ce_sums odd_taps = taps >> 16, even_taps = (ce_sums)((ce_words)taps << 16) >> 16;
    return (ce_sums)((ce_words)sum + (ce_words)odd * (ce_words)odd_taps + (ce_words)even * (ce_words)even_taps);
#endif
}

CE_INLINE ce_sums ce_clamp(ce_sums value, ce_sums low, ce_sums high)
{
#if defined(__AVX512F__)
    return (ce_sums)_mm512_min_epi32(_mm512_max_epi32((__m512i)value, (__m512i)low), (__m512i)high);
#elif defined(__AVX2__)
    return (ce_sums)_mm256_min_epi32(_mm256_max_epi32((__m256i)value, (__m256i)low), (__m256i)high);
#else
    ce_sums below = value < low, above = value > high;
    return (value & ~(below | above)) | (low & below) | (high & above);
#endif
}

/* The lower and the upper halves of two vectors, lane by lane in turn. */
#if CE_SUM_LANES == 16
#define CE_LOWER 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define CE_UPPER 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif CE_SUM_LANES == 8
#define CE_LOWER 0, 8, 1, 9, 2, 10, 3, 11
#define CE_UPPER 4, 12, 5, 13, 6, 14, 7, 15
#else
#define CE_LOWER 0, 4, 1, 5
#define CE_UPPER 2, 6, 3, 7
#endif
CE_INLINE ce_sums ce_lower(ce_sums a, ce_sums b) { return __builtin_shufflevector(a, b, CE_LOWER); }
CE_INLINE ce_sums ce_upper(ce_sums a, ce_sums b) { return __builtin_shufflevector(a, b, CE_UPPER); }

/* Store CE_LANES sums in order, as they are. */
CE_INLINE void ce_store_sums(void *to, const ce_sums *q)
{
    ce_sums *at = (ce_sums *)to;
#if CE_PER == 4
    ce_sums a = ce_lower(q[0], q[2]), b = ce_lower(q[1], q[3]), c = ce_upper(q[0], q[2]), d = ce_upper(q[1], q[3]);
    at[0] = ce_lower(a, b);
    at[1] = ce_upper(a, b);
    at[2] = ce_lower(c, d);
    at[3] = ce_upper(c, d);
#else
    at[0] = ce_lower(q[0], q[1]);
    at[1] = ce_upper(q[0], q[1]);
#endif
}

/* The same, their lower 16 bits. */
CE_INLINE void ce_store_halves(void *to, const ce_sums *q)
{
    ce_sums *at = (ce_sums *)to;
    ce_sums a = (q[0] & 0xffff) | (ce_sums)((ce_words)q[1] << 16);
#if CE_PER == 4
    ce_sums b = (q[2] & 0xffff) | (ce_sums)((ce_words)q[3] << 16);
    at[0] = ce_lower(a, b);
    at[1] = ce_upper(a, b);
#else
    at[0] = a;
#endif
}

/* The same, their lower 8 bits. */
CE_INLINE void ce_store_bytes(void *to, const ce_sums *q)
{
#if CE_PER == 4
    ce_words low = ((ce_words)q[0] & 255) | ((ce_words)q[1] & 255) << 8;
    ce_words high = ((ce_words)q[2] & 255) | (ce_words)q[3] << 8;
    *(ce_sums *)to = (ce_sums)((low & 0xffff) | high << 16);
#else
    typedef uint16_t pairs __attribute__((vector_size(CE_VECTOR_BYTES / 2)));
    pairs narrow = __builtin_convertvector(((ce_words)q[0] & 255) | ((ce_words)q[1] & 255) << 8, pairs);
    memcpy(to, &narrow, sizeof narrow);
#endif
}

/* Store CE_LANES sums in order, saturated to uint8_t. */
CE_INLINE void ce_store_saturated(void *to, const ce_sums *q)
{
#if CE_PER == 4
    /* Packing saturates and stays within 128 bits, which hold the 16 outputs of one 128-bit lane, by q: transpose. */
    const __m512i order = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
    __m512i low = _mm512_packs_epi32((__m512i)q[0], (__m512i)q[1]);
    __m512i high = _mm512_packs_epi32((__m512i)q[2], (__m512i)q[3]);
    _mm512_storeu_si512(to, _mm512_shuffle_epi8(_mm512_packus_epi16(low, high), order));
#else
    ce_sums clamped[2] = {ce_clamp(q[0], ce_same(0), ce_same(255)), ce_clamp(q[1], ce_same(0), ce_same(255))};
    ce_store_bytes(to, clamped);
#endif
}

#endif /* CONVENGINE_DOTS_H */
