// Filters of one or two axes without steps, each sample read from memory once: a warp rolls down a strip of x.
//
// A strip is COLUMNS outputs wide. Its lanes put one row of samples after the other into shared memory, with the columns
// that reach beyond the strip, and each lane adds what a row gives to the HEIGHT rows of outputs that it touches: a ring
// of sums in registers, in which sum[a] has met the tap rows 0 .. a. An addition moves a sum one place on by writing its
// result there, so that the ring turns at no cost. A row is asked for while the one before it is added up.
//
// Every output sums its taps in row-major order, wherever it lies in a strip: no cut changes a bit. The taps are kernel
// parameters, which multiply-adds read from the constant bank as operands. Dilation down is a strip of every n-th row;
// dilation across, and channels that lie last, are a distance STEP between taps.
//
// A SEPARABLE kernel is a column times a row: what a row of taps makes of a row of samples is summed once, and added to
// each row of sums by its tap of the column. Sums that are not finite, since x is not or the row's part overflowed, are
// computed anew from the taps themselves.
//
// A lane's outputs are adjacent (ADJACENT), which shares its samples between taps and stores 16 bytes at once where they
// are aligned, or a warp apart, which writes whole lines at any alignment.

constexpr int LANES = 32, WARPS = 4;
constexpr int PER_LANE = 16 / sizeof(S);
constexpr int COLUMNS = LANES * PER_LANE;
constexpr int LOADS = (COLUMNS + (WIDTH - 1) * STEP + LANES - 1) / LANES;
constexpr int LINE = LOADS * LANES;

struct Arguments {
    Task task;
    S taps[SEPARABLE ? HEIGHT + WIDTH : HEIGHT * WIDTH];  // separable: the column, then the row
    S bias;
    X fill;
};

struct alignas(sizeof(S) * PER_LANE) Sums {
    S at[PER_LANE];
};

struct alignas(sizeof(O) * PER_LANE) Results {
    O at[PER_LANE];
};

// One strip of one image: `count` rows of outputs from row `top`, and columns from `first`. Places along an axis fit
// int, as direct.py sees to; what they are multiplied with does not.
struct Strip {
    const X* x;
    O* out;
    int top, count, first;
};

// The column of an element of a row, which its channel divides by `inner`: a floor, also left of the first.
__device__ inline int column_of(int element, int inner) {
    return (element < 0 ? element - (inner - 1) : element) / inner;
}

// Where the samples of a lane lie in a row of x; HIDDEN is the fill value, also for those that no output needs. In a strip
// that is PLAIN they lie one after the other, all inside x, so that nothing need be kept for them.
template <bool PLAIN>
struct Columns {
    long long at[LOADS];

    __device__ inline Columns(const Task& task, int first, int lane) {
        const int inner = task.inner, before = task.before[2];
        const int last = (static_cast<int>(task.out_size[2]) - before) * inner + (WIDTH - 1) * STEP;
        first -= before * inner;
#pragma unroll
        for (int q = 0; q < LOADS; ++q) {
            const int element = first + lane + q * LANES;
            const int column = column_of(element, inner);
            const int channel = element - column * inner;
            const int found = element < last ? placed<int>(column, task.size[2], task.rule[2]) : -1;
            at[q] = found < 0 ? HIDDEN : found * task.x_stride[2] + channel * task.x_inner;
        }
    }

    static constexpr long long HIDDEN = -(1LL << 62);  // offsets of reversed axes are negative

    __device__ inline X load_from(const X* row, int q, X fill) const {
        return at[q] == HIDDEN ? fill : load(row + at[q]);
    }
};

template <>
struct Columns<true> {
    int start;

    __device__ inline Columns(const Task& task, int first, int lane)
        : start(first - static_cast<int>(task.before[2] * task.inner) + lane) {}

    __device__ inline X load_from(const X* row, int q, X) const {
        return load(row + start + q * LANES);
    }
};

// The samples of a row that a lane brings.
template <bool PLAIN>
__device__ inline void bring(const Arguments& given, const Strip& strip, const Columns<PLAIN>& columns, int row,
                             X* samples) {
    const Task& task = given.task;
    row = strip.top + row * static_cast<int>(task.dilation[1]) - static_cast<int>(task.before[1]);
    row = placed<int>(row, task.size[1], task.rule[1]);
#pragma unroll
    for (int q = 0; q < LOADS; ++q)
        samples[q] = row < 0 ? given.fill : columns.load_from(strip.x + row * task.x_stride[1], q, given.fill);
}

// The sum of an output by itself, for the few that are repaired; a call, so that its loops take no registers of the others.
__device__ __noinline__ S sum_at(const Arguments& given, const X* x, const S* taps, int row, int element) {
    const Task& task = given.task;
    const int inner = task.inner;
    row -= static_cast<int>(task.before[1]);
    element -= static_cast<int>(task.before[2]) * inner;
    S sum = 0;
#pragma unroll 1
    for (int a = 0; a < HEIGHT; ++a, row += task.dilation[1]) {
        const int y = placed<int>(row, task.size[1], task.rule[1]);
#pragma unroll 1
        for (int b = 0; b < WIDTH; ++b) {
            const int column = column_of(element + b * STEP, inner), channel = element + b * STEP - column * inner;
            const int found = placed<int>(column, task.size[2], task.rule[2]);
            const long long at = y * task.x_stride[1] + found * task.x_stride[2] + channel * task.x_inner;
            sum = added(sum, widened<S>(y < 0 || found < 0 ? given.fill : load(x + at)), load(taps++));
        }
    }
    return sum;
}

// Rounds and writes the outputs of a lane in one row, which begins at `row`.
template <bool PLAIN>
__device__ inline void put(const Task& task, O* row, int first, int lane, const S* sums, S bias) {
    Results results;
#pragma unroll
    for (int j = 0; j < PER_LANE; ++j) results.at[j] = rounded<O, SATURATE>(static_cast<S>(sums[j] + bias));
    if (PLAIN && ADJACENT && reinterpret_cast<unsigned long long>(row + first) % sizeof(Results) == 0) {
        store_all(row + first + lane * PER_LANE, results);
        return;
    }
    const int inner = task.inner, last = static_cast<int>(task.out_size[2]) * inner;
#pragma unroll
    for (int j = 0; j < PER_LANE; ++j) {
        const int element = first + (ADJACENT ? lane * PER_LANE + j : lane + j * LANES);
        const int column = PLAIN ? element : element / inner, channel = PLAIN ? 0 : element - column * inner;
        O* at = PLAIN ? row + element : row + column * task.out_stride[2] + channel * task.out_inner;
        if (PLAIN || element < last) store(at, results.at[j]);
    }
}

template <bool PLAIN>
__device__ inline void roll(const Arguments& given, const Strip& strip, const S* taps, S* lines, int lane) {
    const Task& task = given.task;
    const Columns<PLAIN> columns(task, strip.first, lane);
    const int rows = strip.count + HEIGHT - 1;
    O* target = strip.out + strip.top * task.out_stride[1];
    S sum[HEIGHT][PER_LANE];
#pragma unroll
    for (int a = 0; a < HEIGHT; ++a)
#pragma unroll
        for (int j = 0; j < PER_LANE; ++j) sum[a][j] = 0;
    X samples[LOADS];
    bring(given, strip, columns, 0, samples);
    for (int row = 0; row < rows; ++row) {
        // Two lines in turn: who writes one has met at the barrier, since it was read, all those who read it.
        S* line = lines + (row & 1) * LINE;
#pragma unroll
        for (int q = 0; q < LOADS; ++q) line[lane + q * LANES] = widened<S>(samples[q]);
        __syncwarp();
        if (row + 1 < rows) bring(given, strip, columns, row + 1, samples);
        constexpr int PACKS = ADJACENT ? (PER_LANE + WIDTH - 1 + PER_LANE - 1) / PER_LANE : 1;
        Sums window[PACKS];
        if (ADJACENT) {
#pragma unroll
            for (int q = 0; q < PACKS; ++q) window[q] = reinterpret_cast<const Sums*>(line)[lane + q];
        }
        S part[PER_LANE];  // separable: what the row of taps makes of this row
#pragma unroll
        for (int b = 0; b < WIDTH; ++b)
#pragma unroll
            for (int j = 0; j < PER_LANE; ++j) {
                const S sample = ADJACENT ? window[(j + b) / PER_LANE % PACKS].at[(j + b) % PER_LANE]
                                          : line[lane + j * LANES + b * STEP];
                if (SEPARABLE) {
                    part[j] = added(b > 0 ? part[j] : S(0), sample, given.taps[HEIGHT + b]);
                } else {
#pragma unroll
                    for (int a = HEIGHT - 1; a >= 0; --a) {
                        const S before = b > 0 ? sum[a][j] : a > 0 ? sum[a - 1][j] : S(0);
                        sum[a][j] = added(before, sample, given.taps[a * WIDTH + b]);
                    }
                }
            }
        if (SEPARABLE) {
#pragma unroll
            for (int j = 0; j < PER_LANE; ++j)
#pragma unroll
                for (int a = HEIGHT - 1; a >= 0; --a)
                    sum[a][j] = added(a > 0 ? sum[a - 1][j] : S(0), part[j], given.taps[a]);
        }
        if (row >= HEIGHT - 1) {
            if (SEPARABLE && !same<S, int> && !same<S, long long>) {
#pragma unroll
                for (int j = 0; j < PER_LANE; ++j) {
                    const int element = strip.first + (ADJACENT ? lane * PER_LANE + j : lane + j * LANES);
                    const int y = strip.top + (row - (HEIGHT - 1)) * static_cast<int>(task.dilation[1]);
                    if (sum[HEIGHT - 1][j] - sum[HEIGHT - 1][j] != 0)
                        sum[HEIGHT - 1][j] = sum_at(given, strip.x, taps, y, element);
                }
            }
            put<PLAIN>(task, target, strip.first, lane, sum[HEIGHT - 1], given.bias);
            target += task.dilation[1] * task.out_stride[1];
        }
    }
}

extern "C" __global__ void __launch_bounds__(LANES * WARPS)
KERNEL(const X* __restrict__ x, O* __restrict__ out, const S* __restrict__ taps, const __grid_constant__ Arguments given) {
    __shared__ __align__(16) S lines[WARPS][2 * LINE];
    const Task& task = given.task;
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    unsigned number = blockIdx.x * WARPS + warp;
    if (number >= task.total) return;
    const unsigned chunk = number % static_cast<unsigned>(task.chunks);
    number /= static_cast<unsigned>(task.chunks);
    const unsigned band = number % static_cast<unsigned>(task.bands);
    number /= static_cast<unsigned>(task.bands);
    const int apart = task.dilation[1];  // rows whose windows share rows of x
    const int height = task.out_size[1], width = task.out_size[2], inner = task.inner;
    const int each = task.rows;
    Strip strip{x, out, 0, each, static_cast<int>(chunk) * COLUMNS};
    strip.top = static_cast<int>(band) % apart + static_cast<int>(band) / apart * each * apart;
    if (strip.top >= height) return;
    if (strip.count > (height - strip.top + apart - 1) / apart) strip.count = (height - strip.top + apart - 1) / apart;
    find_image(task, number, &strip.x, &strip.out);
    const int start = strip.first - static_cast<int>(task.before[2]) * inner;
    const bool dense = task.x_stride[2] == inner && task.out_stride[2] == inner &&
                       (inner == 1 || (task.x_inner == 1 && task.out_inner == 1));
    const bool plain = dense && start >= 0 && start + LINE <= static_cast<int>(task.size[2]) * inner &&
                       strip.first + COLUMNS <= width * inner;
    if (plain)
        roll<true>(given, strip, taps, lines[warp], lane);
    else
        roll<false>(given, strip, taps, lines[warp], lane);
}
