// Layers as a product of matrices, weights by samples, of which the second is never written down: an implicit GEMM.
//
// A block computes the outputs of CHANNELS output channels of a group at POSITIONS places, which run through x, y, z
// and the batch as if they were one axis. The sum walks its terms tap by tap, through all input channels of the group
// under each, CHUNK terms at a time: weights and samples are put into shared memory, from where a thread multiplies
// EACH_CHANNEL weights with EACH_POSITION samples and keeps the sums in registers. A thread brings samples of one place
// alone, so that borders are looked at once for each tap. The next chunk is asked for while one is added up.
//
// Every output adds its terms in this one order, by itself: neither tiles nor the batch change a bit. So terms are not
// shared out among blocks (split-K), and products are those of the types of the sums: no tensor cores, which would cut
// float32 to TF32. The fill value is multiplied like a sample, and zeros are not skipped.
//
// With channels that lie last, neighbouring lanes read samples that lie `channels` apart; the lines that they touch
// serve the terms that follow, from the first-level cache.

constexpr int CHANNELS = CHANNEL_THREADS * EACH_CHANNEL, POSITIONS = POSITION_THREADS * EACH_POSITION;
constexpr int THREADS = CHANNEL_THREADS * POSITION_THREADS;
constexpr int CHUNK = 8;
constexpr int SAMPLES = CHUNK * POSITIONS / THREADS;                     // that a thread brings for a chunk
constexpr int WEIGHTS = (CHUNK * CHANNELS + THREADS - 1) / THREADS;      // at most
constexpr int BLOCKS = sizeof(S) + sizeof(Place) == 8 ? 2 : 1;           // that a multiprocessor should hold at once
constexpr int MOST = 16 / sizeof(S);                                     // numbers in one access of shared memory
constexpr int C_PACK = EACH_CHANNEL < MOST ? EACH_CHANNEL : MOST, P_PACK = EACH_POSITION < MOST ? EACH_POSITION : MOST;
static_assert(SAMPLES * THREADS == CHUNK * POSITIONS && POSITIONS % 32 == 0, "a warp brings one term at 32 places");

struct Arguments {
    Task task;  // whose `total` counts the places
    long long x_channel, out_channel;  // strides
    long long inputs, outputs;         // channels of a group
    long long terms;                   // of a sum
    long long tiles, groups;           // tiles of output channels in a group
    X fill;
};

template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

// The samples under one output, in the order of the sum.
struct Walk {
    const Arguments& given;
    const X* x;  // the group's first channel
    Place origin[3];
    int tap[3];
    Place channel;
    long long row, at;  // where the tap's row and its sample lie in a channel

    static constexpr long long HIDDEN = -(1LL << 62);  // the fill value; offsets of reversed axes are negative

    __device__ inline Place place(int axis) const {
        const Task& task = given.task;
        const Place found = origin[axis] + static_cast<Place>(tap[axis]) * static_cast<Place>(task.dilation[axis]);
        return placed<Place>(found, static_cast<Place>(task.size[axis]), task.rule[axis]);
    }

    __device__ inline void find_row() {
        const Place z = place(0), y = place(1);
        row = z < 0 || y < 0 ? HIDDEN : z * given.task.x_stride[0] + y * given.task.x_stride[1];
    }

    __device__ inline void find_sample() {
        const Place column = place(2);
        at = row == HIDDEN || column < 0 ? HIDDEN : row + column * given.task.x_stride[2];
    }

    __device__ inline void skip(int terms) {
        channel += terms;
        while (channel >= static_cast<Place>(given.inputs)) {
            channel -= static_cast<Place>(given.inputs);
            if (++tap[2] == given.task.taps[2]) {
                tap[2] = 0;
                if (++tap[1] == given.task.taps[1]) {
                    tap[1] = 0;
                    ++tap[0];
                }
                find_row();
            }
            find_sample();
        }
    }

    __device__ inline X sample() const {
        return at == HIDDEN ? given.fill : load(x + at + channel * given.x_channel);
    }
};

// Asks for the terms of a chunk: samples from the one at which `walk` stands, and weights, which lie term by term.
// Beyond the last term, both are zero.
__device__ inline void bring(Walk& walk, const S* weights, Place first_term, int channels, int thread, X* samples,
                             S* taps) {
    const Place terms = walk.given.terms;
    Place term = first_term + thread / POSITIONS * SAMPLES;
#pragma unroll
    for (int q = 0; q < SAMPLES; ++q, ++term) {
        samples[q] = X();
        if (term < terms) {
            samples[q] = walk.sample();
            walk.skip(1);
        }
    }
    if (term < terms) walk.skip(CHUNK - SAMPLES);
#pragma unroll
    for (int q = 0; q < WEIGHTS; ++q) {
        const int number = thread + q * THREADS;
        const Place row = first_term + number / CHANNELS;
        const int channel = number % CHANNELS;
        taps[q] = 0;
        if (number < CHUNK * CHANNELS && row < terms && channel < channels)
            taps[q] = load(weights + row * walk.given.outputs + channel);
    }
}

// What a thread keeps: its sums are those of the packs of channels and of places that begin at its own, and then of
// those as many threads further on.
__device__ inline constexpr int spread(int number, int pack, int threads) {
    return number / pack * pack * threads + number % pack;
}

__device__ inline void add_chunk(S (&sum)[EACH_CHANNEL][EACH_POSITION], const S* samples, const S* taps) {
#pragma unroll
    for (int term = 0; term < CHUNK; ++term) {
        Pack<S, C_PACK> tap[EACH_CHANNEL / C_PACK];
        Pack<S, P_PACK> sample[EACH_POSITION / P_PACK];
#pragma unroll
        for (int i = 0; i < EACH_CHANNEL / C_PACK; ++i)
            tap[i] = *reinterpret_cast<const Pack<S, C_PACK>*>(taps + term * CHANNELS + i * C_PACK * CHANNEL_THREADS);
#pragma unroll
        for (int j = 0; j < EACH_POSITION / P_PACK; ++j)
            sample[j] =
                *reinterpret_cast<const Pack<S, P_PACK>*>(samples + term * POSITIONS + j * P_PACK * POSITION_THREADS);
#pragma unroll
        for (int i = 0; i < EACH_CHANNEL; ++i)
#pragma unroll
            for (int j = 0; j < EACH_POSITION; ++j)
                sum[i][j] = added(sum[i][j], sample[j / P_PACK].at[j % P_PACK], tap[i / C_PACK].at[i % C_PACK]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
KERNEL(const X* __restrict__ x, O* __restrict__ out, const S* __restrict__ taps,
       const __grid_constant__ Arguments given) {
    __shared__ __align__(16) S shared_samples[2][CHUNK * POSITIONS];
    __shared__ __align__(16) S shared_taps[2][CHUNK * CHANNELS];
    __shared__ long long places[POSITIONS];  // of the outputs, in their channel
    const Task& task = given.task;
    const int thread = threadIdx.x;
    // Blocks that share samples follow each other.
    Index block = blockIdx.x;
    const Index tile = block % static_cast<Index>(given.tiles);
    block /= static_cast<Index>(given.tiles);
    const Index group = block % static_cast<Index>(given.groups);
    const Index first = block / static_cast<Index>(given.groups) * POSITIONS, total = task.total;
    const long long first_channel = static_cast<long long>(tile) * CHANNELS;
    const long long left = given.outputs - first_channel;
    const int channels = left < CHANNELS ? static_cast<int>(left) : CHANNELS;

    Walk walk{given, x, {0, 0, 0}, {0, 0, 0}, 0, 0, 0};
    O* result = out;
    // Threads beyond the last place bring samples of that one again, and keep what they make of them to themselves.
    Index number = first + thread % POSITIONS;
    if (number >= total) number = total - 1;
#pragma unroll
    for (int axis = 2; axis >= 0; --axis) {
        const Index at = number % static_cast<Index>(task.out_size[axis]);
        number /= static_cast<Index>(task.out_size[axis]);
        walk.origin[axis] = static_cast<Place>(at) * static_cast<Place>(task.step[axis]);
        walk.origin[axis] -= static_cast<Place>(task.before[axis]);
        result += static_cast<long long>(at) * task.out_stride[axis];
    }
    find_image(task, number, &walk.x, &result);
    walk.x += static_cast<long long>(group) * given.inputs * given.x_channel;
    if (thread < POSITIONS) places[thread] = result - out;

    // The taps are (groups, terms, outputs), and behind them the biases of all channels.
    const S* weights = taps + static_cast<long long>(group) * given.terms * given.outputs + first_channel;
    const int channel_of_mine = thread / POSITION_THREADS * C_PACK, place_of_mine = thread % POSITION_THREADS * P_PACK;
    S sum[EACH_CHANNEL][EACH_POSITION];
#pragma unroll
    for (int i = 0; i < EACH_CHANNEL; ++i)
#pragma unroll
        for (int j = 0; j < EACH_POSITION; ++j) sum[i][j] = 0;
    X samples[SAMPLES];
    S asked[WEIGHTS];
    const Place terms = given.terms;
    if (terms > 0) {
        walk.find_row();
        walk.find_sample();
        if (thread / POSITIONS * SAMPLES < terms) walk.skip(thread / POSITIONS * SAMPLES);
        bring(walk, weights, 0, channels, thread, samples, asked);
    }
    int turn = 0;
    for (Place term = 0; term < terms; term += CHUNK, turn ^= 1) {
        // Two buffers in turn: who writes one has met at the barrier, since it was read, all those who read it.
#pragma unroll
        for (int q = 0; q < SAMPLES; ++q)
            shared_samples[turn][(thread / POSITIONS * SAMPLES + q) * POSITIONS + thread % POSITIONS] =
                widened<S>(samples[q]);
#pragma unroll
        for (int q = 0; q < WEIGHTS; ++q)
            if (thread + q * THREADS < CHUNK * CHANNELS) shared_taps[turn][thread + q * THREADS] = asked[q];
        __syncthreads();
        if (term + CHUNK < terms) bring(walk, weights, term + CHUNK, channels, thread, samples, asked);
        add_chunk(sum, shared_samples[turn] + place_of_mine, shared_taps[turn] + channel_of_mine);
    }
    if (terms == 0) __syncthreads();  // for `places`

    const S* biases = taps + given.groups * given.terms * given.outputs + group * given.outputs + first_channel;
    O* target = out + (static_cast<long long>(group) * given.outputs + first_channel) * given.out_channel;
#pragma unroll
    for (int j = 0; j < EACH_POSITION; j += P_PACK) {
        const int place = place_of_mine + spread(j, P_PACK, POSITION_THREADS);
        bool adjacent = first + place < total;  // a last place that is there again is not adjacent
#pragma unroll
        for (int k = 1; k < P_PACK; ++k) adjacent = adjacent && places[place + k] == places[place] + k;
#pragma unroll
        for (int i = 0; i < EACH_CHANNEL; ++i) {
            const int channel = channel_of_mine + spread(i, C_PACK, CHANNEL_THREADS);
            if (channel >= channels) continue;
            const S bias = load(biases + channel);
            O* plane = target + channel * given.out_channel;
            Pack<O, P_PACK> results;
#pragma unroll
            for (int k = 0; k < P_PACK; ++k) results.at[k] = rounded<O, SATURATE>(static_cast<S>(sum[i][j + k] + bias));
            if (adjacent && reinterpret_cast<unsigned long long>(plane + places[place]) % sizeof(results) == 0) {
                store_all(plane + places[place], results);
                continue;
            }
#pragma unroll
            for (int k = 0; k < P_PACK; ++k)
                if (first + place + k < total) store(plane + places[place + k], results.at[k]);
        }
    }
}
