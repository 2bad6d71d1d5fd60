/* What limits.pyx can't say in Cython: loops for one instruction set level each, in a module compiled for the baseline.
 *
 * A multiply-add loop has CE_CHAINS independent sums: enough to fill two units of 4 to 8 cycles' latency, and few enough
 * for 16 registers beside the two constants. The baseline has no fused multiply-add: it multiplies, then adds. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define CE_CHAINS 12
#define CE_TARGET(features) __attribute__((target(features)))
#define CE_ANY_TARGET

static int64_t ce_nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* `turns` times CE_CHAINS vector multiply-adds; the sum is returned, so that no compiler leaves the work out. */
#define CE_MULTIPLY_ADD(name, target, element, bytes)                                                                  \
    typedef element name##_vec __attribute__((vector_size(bytes)));                                                    \
    target static double name(int64_t turns, double factor, double term)                                               \
    {                                                                                                                  \
        name##_vec zero = {0}, f = (element)factor - zero, t = (element)term - zero, sum[CE_CHAINS];                   \
        int64_t turn;                                                                                                  \
        int i;                                                                                                         \
        for (i = 0; i < CE_CHAINS; i++)                                                                                \
            sum[i] = t * (element)i;                                                                                   \
        for (turn = 0; turn < turns; turn++)                                                                           \
            for (i = 0; i < CE_CHAINS; i++)                                                                            \
                sum[i] = sum[i] * f + t;                                                                               \
        for (i = 1; i < CE_CHAINS; i++)                                                                                \
            sum[0] += sum[i];                                                                                          \
        return (double)sum[0][0];                                                                                      \
    }

typedef double (*ce_multiply_add_t)(int64_t turns, double factor, double term);

CE_MULTIPLY_ADD(ce_fma_base_f4, CE_ANY_TARGET, float, 16)
CE_MULTIPLY_ADD(ce_fma_base_f8, CE_ANY_TARGET, double, 16)
#if defined(__x86_64__)
CE_MULTIPLY_ADD(ce_fma_avx2_f4, CE_TARGET("avx2,fma"), float, 32)
CE_MULTIPLY_ADD(ce_fma_avx2_f8, CE_TARGET("avx2,fma"), double, 32)
CE_MULTIPLY_ADD(ce_fma_avx512_f4, CE_TARGET("avx512f"), float, 64)
CE_MULTIPLY_ADD(ce_fma_avx512_f8, CE_TARGET("avx512f"), double, 64)
#endif

/* The loop of a level and element type, and how many elements its vectors hold; NULL for a level of another CPU. */
static ce_multiply_add_t ce_multiply_add(const char *level, int is_double, int *lanes)
{
    int bytes = 16;
    ce_multiply_add_t loop = NULL;
    if (strcmp(level, "baseline") == 0 || strcmp(level, "arm64") == 0)
        loop = is_double ? ce_fma_base_f8 : ce_fma_base_f4;
#if defined(__x86_64__)
    else if (strcmp(level, "avx2") == 0) {
        bytes = 32;
        loop = is_double ? ce_fma_avx2_f8 : ce_fma_avx2_f4;
    } else if (strcmp(level, "avx512") == 0) {
        bytes = 64;
        loop = is_double ? ce_fma_avx512_f8 : ce_fma_avx512_f4;
    }
#endif
    *lanes = bytes / (is_double ? 8 : 4);
    return loop;
}

/* Stores that pass the caches by: they spare reading the lines that they replace. Every x86-64 has those of 16 bytes, and
 * four of them fill a line, so that wider ones are no faster. `to` is aligned to 16 bytes. */
#if defined(__x86_64__)
#include <emmintrin.h>
#define CE_STREAMS 1

static void ce_stream(void *to, const void *from, size_t bytes)
{
    __m128i *target = (__m128i *)to;
    const __m128i *source = (const __m128i *)from;
    size_t lines = bytes / 64, i;
    for (i = 0; i < lines; i++, source += 4, target += 4) {
        __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
        __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
        _mm_stream_si128(target, a);
        _mm_stream_si128(target + 1, b);
        _mm_stream_si128(target + 2, c);
        _mm_stream_si128(target + 3, d);
    }
    memcpy(target, source, bytes - lines * 64);
    _mm_sfence();
}
#else
#define CE_STREAMS 0

static void ce_stream(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}
#endif
