// What the kernels of convengine_cupy need of CUDA, for a host compiler: so that every variant runs where there is no GPU.
//
// Threads that meet at barriers, a warp or a block, are fibres, which run one after the other from barrier to barrier,
// forth and back in turn, in every other block back first: what is read without the barrier that it needs is then wrong.
// Every address of x, the taps and out that is read or written is looked at.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#define __device__
#define __global__
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __noinline__
#define __grid_constant__
#define DYNAMIC_SHARED(name) static __align__(16) unsigned char name[1 << 18]

using std::frexp;
using std::ldexp;
using std::max;
using std::min;

struct Place {
    unsigned x;
};
static Place threadIdx, blockIdx;

struct Range {
    uintptr_t from, to;
};
static Range readable[2], writable;
static long long stores;
static std::string fault;

static bool holds(const Range& range, const void* at, size_t bytes) {
    const uintptr_t place = reinterpret_cast<uintptr_t>(at);
    return place >= range.from && place + bytes <= range.to;
}

template <typename T>
static T __ldg(const T* at) {
    if (holds(readable[0], at, sizeof(T)) || holds(readable[1], at, sizeof(T))) return *at;
    fault = "a read outside of x and the taps";
    return T();
}

template <typename T>
static void __stwb(T* at, T value) {
    ++stores;
    if (holds(writable, at, sizeof(T)))
        *at = value;
    else
        fault = "a write outside of out";
}

// ---- what samples.cuh has for CUDA alone

struct Half;

template <typename H>
static float float_of(H value) {
    const int exponent = value.bits >> 10 & 31, part = value.bits & 1023;
    double magnitude = std::ldexp(exponent ? 1024 + part : part, (exponent ? exponent : 1) - 25);
    if (exponent == 31) magnitude = part ? NAN : INFINITY;
    return static_cast<float>(value.bits >> 15 ? -magnitude : magnitude);
}

template <typename H = Half>
static H half_of(double value) {
    const double magnitude = std::fabs(value);
    unsigned bits;
    if (std::isnan(value)) {
        bits = 0x7e00;
    } else if (magnitude >= 65520) {  // half way to what would come after the largest number
        bits = 0x7c00;
    } else if (magnitude < std::ldexp(1, -14)) {
        bits = static_cast<unsigned>(std::nearbyint(std::ldexp(magnitude, 24)));
    } else {
        const int exponent = std::ilogb(magnitude);
        bits = (exponent + 14) * 1024 + static_cast<unsigned>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
    }
    return H{static_cast<unsigned short>(bits + (std::signbit(value) ? 0x8000 : 0))};
}

template <typename T, typename Pack>
static void store_all(T* at, const Pack& values) {
    if (reinterpret_cast<uintptr_t>(at) % sizeof(Pack)) fault = "a write that is not aligned";
    for (size_t i = 0; i < sizeof(Pack) / sizeof(T); ++i) __stwb(at + i, values.at[i]);
}

// ---- threads

constexpr int MOST_THREADS = 512;
static ucontext_t scheduler, lanes[MOST_THREADS];
static bool finished[MOST_THREADS];
static int current;
static void (*work)(void**);
static void** arguments;
static std::vector<char> stacks(MOST_THREADS << 16);

static void lane_main() {
    work(arguments);
    finished[current] = true;
    swapcontext(&lanes[current], &scheduler);
}

static void __syncwarp() {
    swapcontext(&lanes[current], &scheduler);
}

static void __syncthreads() {
    swapcontext(&lanes[current], &scheduler);
}

static void run_together(unsigned first, int count) {
    for (int lane = 0; lane < count; ++lane) {
        finished[lane] = false;
        getcontext(&lanes[lane]);
        lanes[lane].uc_stack.ss_sp = stacks.data() + (lane << 16);
        lanes[lane].uc_stack.ss_size = 1 << 16;
        lanes[lane].uc_link = nullptr;
        makecontext(&lanes[lane], lane_main, 0);
    }
    int running = count;
    for (bool forth = blockIdx.x % 2 == 0; running > 0; forth = !forth) {
        int ended = 0;
        for (int i = 0; i < count; ++i) {
            current = forth ? i : count - 1 - i;
            threadIdx.x = first + current;
            swapcontext(&scheduler, &lanes[current]);
            ended += finished[current];
        }
        if (ended != 0 && ended != count) {
            fault = "threads that part at a barrier";
            return;
        }
        running -= ended;
    }
}

// `together`: how many threads meet at a barrier, 1 where there are none.
static const char* launch(void (*kernel)(void**), int together, unsigned grid, unsigned block, void** given,
                          const uintptr_t* ranges, long long* written) {
    readable[0] = {ranges[0], ranges[1]};
    readable[1] = {ranges[4], ranges[5]};
    writable = {ranges[2], ranges[3]};
    stores = 0;
    fault.clear();
    work = kernel;
    arguments = given;
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x)
        for (unsigned thread = 0; thread < block; thread += together) {
            threadIdx.x = thread;
            if (together > 1)
                run_together(thread, together);
            else
                kernel(given);
        }
    *written = stores;
    return fault.c_str();
}
