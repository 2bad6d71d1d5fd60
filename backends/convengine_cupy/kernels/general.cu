// Any strides, steps and sizes, up to three axes: one thread computes one output, tap by tap in row-major order.
//
// Threads run along the inner axis, then along x, so that neighbours read neighbours. Every tap costs a read, from the
// first-level cache as a rule: small kernels with a step are still bound by the memory, large ones are not.

constexpr int BLOCK = 128;

struct Arguments {
    Task task;
    S bias;
    X fill;
};

// The sum at one output, whose window begins at `origin`. Windows that lie inside x have no test in their loops.
template <bool INSIDE>
__device__ inline S sum_of(const Task& task, const X* x, const S* taps, const long long* origin, X fill) {
    S sum = 0;
    for (long long c = 0; c < task.taps[0]; ++c) {
        long long z = origin[0] + c * task.dilation[0];
        if (!INSIDE) z = placed(z, task.size[0], task.rule[0]);
        for (long long a = 0; a < task.taps[1]; ++a) {
            long long y = origin[1] + a * task.dilation[1];
            if (!INSIDE) y = placed(y, task.size[1], task.rule[1]);
            const X* row = x + z * task.x_stride[0] + y * task.x_stride[1];
            for (long long b = 0; b < task.taps[2]; ++b) {
                long long column = origin[2] + b * task.dilation[2];
                if (!INSIDE) column = placed(column, task.size[2], task.rule[2]);
                // The fill value is multiplied, too: with a tap that is infinite it may be NaN.
                const bool found = INSIDE || (z >= 0 && y >= 0 && column >= 0);
                const X sample = found ? load(row + column * task.x_stride[2]) : fill;
                sum = added(sum, widened<S>(sample), load(taps++));
            }
        }
    }
    return sum;
}

extern "C" __global__ void __launch_bounds__(BLOCK)
KERNEL(const X* __restrict__ x, O* __restrict__ out, const S* __restrict__ taps, const __grid_constant__ Arguments given) {
    const Task& task = given.task;
    Index number = static_cast<Index>(blockIdx.x) * BLOCK + threadIdx.x;
    if (number >= static_cast<Index>(task.total)) return;
    const X* image = x;
    O* result = out;
    const Index channel = number % static_cast<Index>(task.inner);
    number /= static_cast<Index>(task.inner);
    image += static_cast<long long>(channel) * task.x_inner;
    result += static_cast<long long>(channel) * task.out_inner;
    long long origin[3];
    bool inside = true;
#pragma unroll
    for (int axis = 2; axis >= 0; --axis) {
        const Index at = number % static_cast<Index>(task.out_size[axis]);
        number /= static_cast<Index>(task.out_size[axis]);
        origin[axis] = static_cast<long long>(at) * task.step[axis] - task.before[axis];
        const long long last = origin[axis] + (task.taps[axis] - 1) * task.dilation[axis];
        inside = inside && origin[axis] >= 0 && last < task.size[axis];
        result += static_cast<long long>(at) * task.out_stride[axis];
    }
    find_image(task, number, &image, &result);
    const S sum = inside ? sum_of<true>(task, image, taps, origin, given.fill)
                         : sum_of<false>(task, image, taps, origin, given.fill);
    store(result, rounded<O, SATURATE>(static_cast<S>(sum + given.bias)));
}
