// Large kernels: overlap-save on tiles that are transformed, multiplied by the kernel's spectrum and transformed back,
// all in shared memory. A block takes two tiles of one image, neighbours in row-major order.
//
// Two real tiles travel as the real and the imaginary part of one complex tile: the kernel is real, so that its
// correlation keeps them apart. Each is scaled by a power of two to a 2-norm from 1 to 2, so that neither adds more than
// a factor to the other's error (proof: convengine/fft_error.py). Columns, then rows are transformed, by decimation in
// frequency forward and in time back: nothing is reordered, the spectrum lies as it falls. A signal is cut into segments
// of DOWN * ALONG samples, read as rows that follow each other: with a root of unity for each sample between columns and
// rows (the bends) that is one long transform.
//
// Samples that are not finite are zero in the transform; the outputs of a tile that held any are looked at, and those
// whose window holds one are summed tap by tap, as the definition says. Pairs follow from the image's tile grid, and all
// that is summed is summed in an order of its own: neither batch, grid, strides nor steps change a bit.
//
// Rows are an odd number of elements apart, so that lanes along a row and lanes down a column meet in no bank.

constexpr int SIZE = DOWN * ALONG, LINE = ALONG + 1;
constexpr int COLUMNS = 0, ROWS = 1;  // what a stage transforms
constexpr int GROUPS = 16;            // of partial sums
constexpr int MOST_EXPONENT = sizeof(S) == 4 ? 250 : 2000;  // of which either half is a power of two that S has

struct alignas(2 * sizeof(S)) Complex {
    S re, im;
};

struct Arguments {
    Task task;
    int dense[2], outputs[2], counts[2];  // outputs if the step were 1, those of a tile, and how many tiles
    int widths[2], step[2];               // of the dilated kernel; every so many outputs are wanted
    int exponent;                         // of two, taken out of the kernel
    int nonnegative;                      // whether samples that are not negative have such results
    S bias;
    X fill;
};

// ---- complex numbers

__device__ inline Complex operator+(Complex a, Complex b) {
    return {a.re + b.re, a.im + b.im};
}

__device__ inline Complex operator-(Complex a, Complex b) {
    return {a.re - b.re, a.im - b.im};
}

// a * b, or a * conj(b)
template <bool CONJUGATE>
__device__ inline Complex times(Complex a, Complex b) {
    const S im = CONJUGATE ? -b.im : b.im;
    return {added(-(a.im * im), a.re, b.re), added(a.im * b.re, a.re, im)};
}

// A quarter of a turn: -i forward, i back.
template <bool INVERSE>
__device__ inline Complex quarter(Complex a) {
    return INVERSE ? Complex{-a.im, a.re} : Complex{a.im, -a.re};
}

// An eighth of a turn.
template <bool INVERSE>
__device__ inline Complex eighth(Complex a) {
    const S half = static_cast<S>(0.70710678118654752440);
    return INVERSE ? Complex{(a.re - a.im) * half, (a.im + a.re) * half}
                   : Complex{(a.re + a.im) * half, (a.im - a.re) * half};
}

__device__ inline Complex load_complex(const Complex* at) {
#ifdef __CUDACC__
    if constexpr (same<S, float>) {
        const float2 found = __ldg(reinterpret_cast<const float2*>(at));
        return {found.x, found.y};
    } else {
        const double2 found = __ldg(reinterpret_cast<const double2*>(at));
        return {found.x, found.y};
    }
#else
    return __ldg(at);
#endif
}

// A transform of 4 or 8 numbers, in their natural order.
template <int RADIX, bool INVERSE>
__device__ inline void butterfly(Complex* v) {
    if constexpr (RADIX == 4) {
        const Complex a = v[0] + v[2], b = v[0] - v[2], c = v[1] + v[3], d = quarter<INVERSE>(v[1] - v[3]);
        v[0] = a + c, v[1] = b + d, v[2] = a - c, v[3] = b - d;
    } else {
        static_assert(RADIX == 8, "stages are of radix 4 or 8");
        Complex even[4], odd[4];
#pragma unroll
        for (int p = 0; p < 4; ++p) even[p] = v[p] + v[p + 4], odd[p] = v[p] - v[p + 4];
        odd[1] = eighth<INVERSE>(odd[1]);
        odd[2] = quarter<INVERSE>(odd[2]);
        odd[3] = quarter<INVERSE>(eighth<INVERSE>(odd[3]));
        butterfly<4, INVERSE>(even);
        butterfly<4, INVERSE>(odd);
#pragma unroll
        for (int p = 0; p < 4; ++p) v[2 * p] = even[p], v[2 * p + 1] = odd[p];
    }
}

// ---- stages

// How far apart the numbers of a butterfly are, and where the roots of a stage begin. RADICES and STAGES are the
// variant's.
__device__ constexpr int span_of(int axis, int stage) {
    int span = 1;
    for (int later = stage + 1; later < STAGES[axis]; ++later) span *= RADICES[axis][later];
    return span;
}

__device__ constexpr int roots_before(int axis, int stage) {
    int roots = 0;
    for (int earlier = 0; earlier < stage; ++earlier) roots += span_of(axis, earlier) * (RADICES[axis][earlier] - 1);
    return roots;
}

// What is read beside the samples, in the order in which it lies.
struct Tables {
    const Complex *spectrum, *roots[2], *bends;
    const S* taps;

    __device__ inline explicit Tables(const S* given) {
        spectrum = reinterpret_cast<const Complex*>(given);  // by columns, as the lanes that multiply go down them
        roots[COLUMNS] = spectrum + SIZE;
        roots[ROWS] = roots[COLUMNS] + roots_before(COLUMNS, STAGES[COLUMNS]);
        bends = roots[ROWS] + roots_before(ROWS, STAGES[ROWS]);
        taps = reinterpret_cast<const S*>(bends + (SIGNAL ? SIZE : 0));
    }
};

// One stage of all columns or rows. Lanes go across the lines, so that they share their roots.
template <int AXIS, int STAGE, bool INVERSE, typename Fetch, typename Put>
__device__ inline void transform(const Tables& tables, Fetch fetch, Put put) {
    constexpr int RADIX = RADICES[AXIS][STAGE], SPAN = span_of(AXIS, STAGE), LINES = AXIS == ROWS ? DOWN : ALONG;
    constexpr bool BENT = SIGNAL && AXIS == COLUMNS && SPAN == 1;
    const Complex* roots = tables.roots[AXIS] + roots_before(AXIS, STAGE) - 1;
    for (int number = threadIdx.x; number < SIZE / RADIX; number += THREADS) {
        const int line = number % LINES, j = number / LINES % SPAN, first = number / LINES / SPAN * RADIX * SPAN + j;
        Complex v[RADIX];
#pragma unroll
        for (int q = 0; q < RADIX; ++q) {
            const int at = first + q * SPAN, row = AXIS == ROWS ? line : at, column = AXIS == ROWS ? at : line;
            v[q] = fetch(row, column);
            if (INVERSE && BENT) v[q] = times<true>(v[q], load_complex(tables.bends + row * ALONG + column));
            if (INVERSE && SPAN > 1 && q > 0) v[q] = times<true>(v[q], load_complex(roots + j * (RADIX - 1) + q));
        }
        butterfly<RADIX, INVERSE>(v);
#pragma unroll
        for (int q = 0; q < RADIX; ++q) {
            const int at = first + q * SPAN, row = AXIS == ROWS ? line : at, column = AXIS == ROWS ? at : line;
            if (!INVERSE && BENT) v[q] = times<false>(v[q], load_complex(tables.bends + row * ALONG + column));
            if (!INVERSE && SPAN > 1 && q > 0) v[q] = times<false>(v[q], load_complex(roots + j * (RADIX - 1) + q));
            put(row, column, v[q]);
        }
    }
}

// The stages from FIRST on and before LAST, in the plane.
template <int AXIS, int FIRST, int LAST>
__device__ inline void forward(const Tables& tables, Complex* plane) {
    if constexpr (FIRST < LAST) {
        transform<AXIS, FIRST, false>(
            tables, [=](int row, int column) { return plane[row * LINE + column]; },
            [=](int row, int column, Complex value) { plane[row * LINE + column] = value; });
        __syncthreads();
        forward<AXIS, FIRST + 1, LAST>(tables, plane);
    }
}

// The same stages back, the last first.
template <int AXIS, int FIRST, int LAST>
__device__ inline void back(const Tables& tables, Complex* plane) {
    if constexpr (FIRST < LAST) {
        transform<AXIS, LAST - 1, true>(
            tables, [=](int row, int column) { return plane[row * LINE + column]; },
            [=](int row, int column, Complex value) { plane[row * LINE + column] = value; });
        __syncthreads();
        back<AXIS, FIRST, LAST - 1>(tables, plane);
    }
}

// The last stage of the rows, the product of the spectra, and the first stage back.
__device__ inline void multiply(const Tables& tables, Complex* plane) {
    constexpr int RADIX = RADICES[ROWS][STAGES[ROWS] - 1];
    for (int number = threadIdx.x; number < SIZE / RADIX; number += THREADS) {
        const int row = number % DOWN, first = number / DOWN * RADIX;
        Complex v[RADIX];
#pragma unroll
        for (int q = 0; q < RADIX; ++q) v[q] = plane[row * LINE + first + q];
        butterfly<RADIX, false>(v);
#pragma unroll
        for (int q = 0; q < RADIX; ++q)
            v[q] = times<false>(v[q], load_complex(tables.spectrum + (first + q) * DOWN + row));
        butterfly<RADIX, true>(v);
#pragma unroll
        for (int q = 0; q < RADIX; ++q) plane[row * LINE + first + q] = v[q];
    }
    __syncthreads();
}

// ---- samples and outputs

struct Tile {
    int y, x, height, width;  // its outputs, none if there is no such tile
    int rows, columns;        // of samples that they need
    bool wanted;              // whether the step takes any
};

__device__ inline Tile tile_at(const Arguments& given, int number) {
    const int down = number / given.counts[1], across = number % given.counts[1];
    Tile tile{down * given.outputs[0], across * given.outputs[1], 0, 0, 0, 0, false};
    if (down < given.counts[0]) {
        tile.height = min(given.outputs[0], given.dense[0] - tile.y);
        tile.width = min(given.outputs[1], given.dense[1] - tile.x);
        tile.rows = tile.height - 1 + given.widths[0];
        tile.columns = tile.width - 1 + given.widths[1];
        const int y = (tile.y + given.step[0] - 1) / given.step[0] * given.step[0];
        const int x = (tile.x + given.step[1] - 1) / given.step[1] * given.step[1];
        tile.wanted = y < tile.y + tile.height && x < tile.x + tile.width;
    }
    return tile;
}

// The sample at an element of the plane; what no output needs is zero.
__device__ inline S sample_at(const Arguments& given, const X* x, const Tile& tile, int row, int column) {
    const Task& task = given.task;
    if (SIGNAL) column += row * ALONG, row = 0;
    if (row >= tile.rows || column >= tile.columns) return 0;
    row += tile.y - static_cast<int>(task.before[1]);
    column += tile.x - static_cast<int>(task.before[2]);
    row = SIGNAL ? 0 : placed<int>(row, task.size[1], task.rule[1]);
    column = placed<int>(column, task.size[2], task.rule[2]);
    if (row < 0 || column < 0) return widened<S>(given.fill);
    return widened<S>(load(x + row * task.x_stride[1] + column * task.x_stride[2]));
}

// The sum at an output, in the order of the definition, and whether its window holds what is not finite.
__device__ __noinline__ bool sum_at(const Arguments& given, const X* x, const S* taps, int row, int column, S* sum) {
    const Task& task = given.task;
    bool broken = false;
    *sum = 0;
    row -= static_cast<int>(task.before[1]);
    column -= static_cast<int>(task.before[2]);
#pragma unroll 1
    for (int a = 0; a < task.taps[1]; ++a) {
        const int below = row + a * static_cast<int>(task.dilation[1]);
        const int y = SIGNAL ? 0 : placed<int>(below, task.size[1], task.rule[1]);
#pragma unroll 1
        for (int b = 0; b < task.taps[2]; ++b) {
            const int at = placed<int>(column + b * static_cast<int>(task.dilation[2]), task.size[2], task.rule[2]);
            const bool found = y >= 0 && at >= 0;
            const S sample =
                widened<S>(found ? load(x + y * task.x_stride[1] + at * task.x_stride[2]) : given.fill);
            if (sample - sample != 0) broken = true;
            *sum = added(*sum, sample, load(taps++));
        }
    }
    return broken;
}

// The largest, or the sum, of what the threads have of both tiles: the same for all threads, in an order that is fixed.
template <bool SUM>
__device__ inline Complex of_all(Complex mine, Complex* partial) {
    const auto both = [](Complex a, Complex b) {
        return SUM ? a + b : Complex{a.re > b.re ? a.re : b.re, a.im > b.im ? a.im : b.im};
    };
    partial[threadIdx.x] = mine;
    __syncthreads();
    if (threadIdx.x < GROUPS) {
        for (int i = threadIdx.x + GROUPS; i < THREADS; i += GROUPS) mine = both(mine, partial[i]);
        partial[threadIdx.x] = mine;
    }
    __syncthreads();
    Complex all = partial[0];
    for (int i = 1; i < GROUPS; ++i) all = both(all, partial[i]);
    __syncthreads();
    return all;
}

// A power of two in two factors, of which one alone might be out of range.
struct Scale {
    S first, second;

    __device__ inline explicit Scale(int exponent)
        : first(ldexp(S(1), exponent / 2)), second(ldexp(S(1), exponent - exponent / 2)) {}

    __device__ inline S operator()(S value) const { return value * first * second; }
};

__device__ inline int exponent_of(S value) {  // value = fraction * 2**exponent, the fraction from 1/2 to 1
    int exponent;
    frexp(value, &exponent);
    return exponent;
}

extern "C" __global__ void __launch_bounds__(THREADS)
KERNEL(const X* __restrict__ x, O* __restrict__ out, const S* __restrict__ numbers,
       const __grid_constant__ Arguments given) {
    DYNAMIC_SHARED(memory);
    Complex* plane = reinterpret_cast<Complex*>(memory);
    Complex* partial = plane + DOWN * LINE;
    int* flags = reinterpret_cast<int*>(partial + THREADS);  // by tile: not finite, negative
    const Task& task = given.task;
    const Tables tables(numbers);

    const int pairs = (given.counts[0] * given.counts[1] + 1) / 2;
    const int pair = blockIdx.x % static_cast<unsigned>(pairs);
    unsigned number = blockIdx.x / static_cast<unsigned>(pairs);
    const Tile tiles[2] = {tile_at(given, 2 * pair), tile_at(given, 2 * pair + 1)};
    if (!tiles[0].wanted && !tiles[1].wanted) return;
    const X* image = x;
    O* result = out;
    if (SIGNAL) {  // the rows are signals
        const unsigned signals = static_cast<unsigned>(task.size[1]);
        image += number % signals * task.x_stride[1];
        result += number % signals * task.out_stride[1];
        number /= signals;
    }
    find_image(task, number, &image, &result);

    if (threadIdx.x < 4) flags[threadIdx.x] = 0;
    __syncthreads();
    const auto noted = [=](S value, int tile) -> S {
        if (value < 0) flags[2 + tile] = 1;
        if (value - value == 0) return value;
        flags[tile] = 1;
        return 0;
    };
    const auto larger = [](S most, S value) { return value > most ? value : -value > most ? -value : most; };
    Complex peak{0, 0};
    for (int number = threadIdx.x; number < SIZE; number += THREADS) {
        const int row = number / ALONG, column = number % ALONG;
        const Complex value{noted(sample_at(given, image, tiles[0], row, column), 0),
                            noted(sample_at(given, image, tiles[1], row, column), 1)};
        peak = {larger(peak.re, value.re), larger(peak.im, value.im)};
        plane[row * LINE + column] = value;
    }
    peak = of_all<false>(peak, partial);

    int exponents[2] = {exponent_of(peak.re), exponent_of(peak.im)};
    const Scale by_peak[2] = {Scale(-exponents[0]), Scale(-exponents[1])};
    Complex energy{0, 0};
    for (int number = threadIdx.x; number < SIZE; number += THREADS) {
        const Complex value = plane[number / ALONG * LINE + number % ALONG];
        const Complex scaled{by_peak[0](value.re), by_peak[1](value.im)};
        energy = {added(energy.re, scaled.re, scaled.re), added(energy.im, scaled.im, scaled.im)};
    }
    energy = of_all<true>(energy, partial);
    // The energy lies from 4**e to 4**(e + 1); a shift rounds down, where a division would round to zero.
    exponents[0] += (exponent_of(energy.re) - 1) >> 1;
    exponents[1] += (exponent_of(energy.im) - 1) >> 1;
    const Scale scales[2] = {Scale(-exponents[0]), Scale(-exponents[1])};

    transform<COLUMNS, 0, false>(
        tables,
        [=](int row, int column) -> Complex {
            const Complex value = plane[row * LINE + column];
            return {scales[0](value.re), scales[1](value.im)};
        },
        [=](int row, int column, Complex value) { plane[row * LINE + column] = value; });
    __syncthreads();
    forward<COLUMNS, 1, STAGES[COLUMNS]>(tables, plane);
    forward<ROWS, 0, STAGES[ROWS] - 1>(tables, plane);
    multiply(tables, plane);
    back<ROWS, 0, STAGES[ROWS] - 1>(tables, plane);
    back<COLUMNS, 1, STAGES[COLUMNS]>(tables, plane);

    const auto limited = [](int exponent) { return max(min(exponent, MOST_EXPONENT), -MOST_EXPONENT); };
    const Scale unscales[2] = {Scale(limited(exponents[0] + given.exponent)),
                               Scale(limited(exponents[1] + given.exponent))};
    const bool zero[2] = {peak.re == 0, peak.im == 0};
    const bool broken[2] = {flags[0] != 0, flags[1] != 0};
    const bool clipped[2] = {given.nonnegative && !flags[2], given.nonnegative && !flags[3]};
    const bool steps = given.step[0] > 1 || given.step[1] > 1;
    const auto deliver = [&](const int number, int row, int column, S value) {
        const Tile& tile = tiles[number];
        if (SIGNAL) column += row * ALONG, row = 0;
        if (row >= tile.height || column >= tile.width) return;
        row += tile.y, column += tile.x;
        O* at = result + row * task.out_stride[1] + column * task.out_stride[2];
        if (steps) {  // divisions take time
            if (row % given.step[0] || column % given.step[1]) return;
            at = result + row / given.step[0] * task.out_stride[1] + column / given.step[1] * task.out_stride[2];
        }
        S sum = zero[number] ? S(0) : unscales[number](value);  // a partner's rounding errors are not a tile of zeros
        if (clipped[number] && sum < 0) sum = 0;
        S exact;
        if (broken[number] && sum_at(given, image, tables.taps, row, column, &exact)) sum = exact;
        store(at, rounded<O, SATURATE>(static_cast<S>(sum + given.bias)));
    };
    transform<COLUMNS, 0, true>(
        tables, [=](int row, int column) { return plane[row * LINE + column]; },
        [&](int row, int column, Complex value) {
            deliver(0, row, column, value.re);
            deliver(1, row, column, value.im);
        });
}
