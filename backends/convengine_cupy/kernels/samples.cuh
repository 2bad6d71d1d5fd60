// Samples of every type, where they lie, and the description of a problem that all kernels take.
//
// A complete source is this file, the types and sizes of one variant (variants.py writes them) and one of the kernels.
// Nothing is included, so that NVRTC needs no headers and CuPy's cache on disk sees all of the text. The tests compile
// the same text for the host, where __ldg and __stwb look at every address, and bring what is here for CUDA alone.

struct Half {
    unsigned short bits;
};

#ifdef __CUDACC__
__device__ inline float float_of(Half value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

__device__ inline Half half_of(float value) {
    Half result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}

__device__ inline Half half_of(double value) {  // not by way of float, which would round twice
    Half result;
    asm("cvt.rn.f16.f64 %0, %1;" : "=h"(result.bits) : "d"(value));
    return result;
}

// Shared memory of as many bytes as a launch asks for.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

// Results that lie one after the other, in one access of at most 32 bytes; their place is aligned to that.
template <typename T, typename Pack>
__device__ inline void store_all(T* at, const Pack& values) {
    *reinterpret_cast<Pack*>(at) = values;
}
#endif

template <typename A, typename B>
constexpr bool same = false;
template <typename A>
constexpr bool same<A, A> = true;

template <typename T>
__device__ inline T load(const T* at) {
    return __ldg(at);
}

__device__ inline Half load(const Half* at) {
    return Half{__ldg(&at->bits)};
}

template <typename T>
__device__ inline void store(T* at, T value) {
    __stwb(at, value);
}

__device__ inline void store(Half* at, Half value) {
    __stwb(&at->bits, value.bits);
}

// A sample as a number of the sum's type; exact, but for 64-bit integers among floats.
template <typename S, typename X>
__device__ inline S widened(X value) {
    if constexpr (same<X, Half>)
        return static_cast<S>(float_of(value));
    else
        return static_cast<S>(value);
}

// sum + a * b, for floats with one rounding; integers modulo 2**32 or 2**64, as NumPy has them.
__device__ inline float added(float sum, float a, float b) {
    return fmaf(a, b, sum);
}

__device__ inline double added(double sum, double a, double b) {
    return fma(a, b, sum);
}

__device__ inline int added(int sum, int a, int b) {
    return static_cast<int>(static_cast<unsigned>(sum) + static_cast<unsigned>(a) * static_cast<unsigned>(b));
}

__device__ inline long long added(long long sum, long long a, long long b) {
    typedef unsigned long long U;
    return static_cast<long long>(static_cast<U>(sum) + static_cast<U>(a) * static_cast<U>(b));
}

// A sum as a result: floats are rounded once to a float, integers saturate or wrap. Sums of floats never become integers
// here: NaN among them would have to be an error.
template <typename O, bool SATURATE, typename S>
__device__ inline O rounded(S sum) {
    if constexpr (same<O, S>) {
        return sum;
    } else if constexpr (same<O, Half>) {
        return half_of(sum);
    } else if constexpr (same<S, float> || same<S, double> || !SATURATE) {
        return static_cast<O>(sum);
    } else if constexpr (same<O, unsigned long long>) {
        return sum < 0 ? 0 : static_cast<O>(sum);
    } else {
        constexpr bool SIGNED = static_cast<O>(-1) < static_cast<O>(0);
        constexpr long long HIGH = static_cast<long long>(~0ULL >> (64 - 8 * sizeof(O) + SIGNED));
        constexpr long long LOW = SIGNED ? -HIGH - 1 : 0;
        return static_cast<O>(sum < LOW ? LOW : sum > HIGH ? HIGH : sum);
    }
}

// Spatial axes are three, z, y, x; those that a problem lacks have one sample and one tap. "Inner" is a batch axis whose
// samples lie between those of the x axis, as the colours of a photograph do: both are walked as one. Strides are in
// samples. Python writes this structure, see layout.py.
struct Task {
    long long batch[8], x_batch[8], out_batch[8];  // sizes and strides of the batch axes, the fastest first
    long long size[3], out_size[3], before[3];     // samples, outputs, and samples added before the first
    long long x_stride[3], out_stride[3];
    long long inner, x_inner, out_inner;  // size and strides
    long long step[3], dilation[3], taps[3], rule[3];
    long long rows, bands, chunks, total;  // how the rolling kernel is cut; warps, or outputs of the general kernel
};

enum Rule { CONSTANT, EDGE, REFLECT, SYMMETRIC, WRAP };

// The sample at a position of an axis of n samples, -1 for the fill value.
template <typename Index>
__device__ inline Index placed(Index at, Index n, long long rule) {
    if (at >= 0 && at < n) return at;
    if (rule == CONSTANT) return -1;
    if (rule == EDGE) return at < 0 ? 0 : n - 1;
    const Index shared_edge = rule == REFLECT;
    Index period = rule == WRAP ? n : 2 * (n - shared_edge);
    if (period == 0) period = 1;  // one sample, reflected
    at %= period;
    if (at < 0) at += period;
    return at < n ? at : 2 * n - 1 - shared_edge - at;
}

// Takes the index of an image off `number`, and moves both pointers to the image.
template <typename X, typename O, typename Index>
__device__ inline void find_image(const Task& task, Index number, const X** x, O** out) {
    for (int axis = 0; axis < 8 && number > 0; ++axis) {
        const Index length = static_cast<Index>(task.batch[axis]), at = number % length;
        number /= length;
        *x += static_cast<long long>(at) * task.x_batch[axis];
        *out += static_cast<long long>(at) * task.out_batch[axis];
    }
}
