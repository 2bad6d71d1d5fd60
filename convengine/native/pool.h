/* What pool.pyx can't say in Cython: the words that threads share, atomics, thread-local variables, signal masks.
 *
 * Private to pool.pyx: this defines the pool itself, and whoever includes it gets another one. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#define CE_ORDER __ATOMIC_SEQ_CST
#define ce_get(word) __atomic_load_n(word, CE_ORDER)
#define ce_put(word, value) __atomic_store_n(word, value, CE_ORDER)
#define ce_add(word, value) __atomic_fetch_add(word, value, CE_ORDER)
#define ce_and(word, value) __atomic_fetch_and(word, value, CE_ORDER)
#define ce_swap(word, seen, value) __atomic_compare_exchange_n(word, seen, value, 0, CE_ORDER, CE_ORDER)

#if defined(__x86_64__) || defined(__i386__)
#define ce_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define ce_pause() __asm__ __volatile__("isb" ::: "memory") /* yield does nothing on most arm64 CPUs */
#else
#define ce_pause() __asm__ __volatile__("" ::: "memory")
#endif

/* The door: free places in the upper half, helpers inside in the lower. */
#define CE_PLACE ((int64_t)1 << 32)
#define CE_INSIDE (CE_PLACE - 1)

/* Words that different threads write stand 128 bytes apart: x86 CPUs fetch lines in pairs, Apple's are that long. */
#define CE_APART __attribute__((aligned(128)))

static struct {
    CE_APART int64_t door;
    CE_APART int64_t next;     /* the first item that nobody has fetched */
    CE_APART int64_t taken;    /* 1 while a caller has the pool */
    int64_t alive;             /* helpers there are; only who has the pool changes it */
    int64_t forks;             /* how many forks lie between this process and the import */
    void (*task)(void *, Py_ssize_t, int);
    void *context;
    int64_t items;
    CE_APART int64_t sleepers; /* helpers on the condition variable */
    pthread_mutex_t mutex;
    pthread_cond_t opened;
} ce_pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER};

/* In a forked child: threads of the parent may have held or waited on these, and none of those threads is here. */
static void ce_reset_locks(void)
{
    ce_pool.mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    ce_pool.opened = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
}

static __thread int ce_engaged;           /* this thread works in a region now, or is a helper */
static __thread void *ce_scratch;
static __thread size_t ce_scratch_bytes;
static pthread_key_t ce_scratch_key;      /* its destructor frees the buffer when the thread ends */

static int64_t ce_now(void) /* nanoseconds */
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void ce_sleep(int64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    nanosleep(&t, NULL);
}

/* Start a detached thread that no signal reaches but its own faults', for faulthandler to report; 0, or an error. */
static int ce_create(void *(*body)(void *))
{
    sigset_t blocked, before;
    pthread_attr_t attributes;
    pthread_t thread;
    int error = pthread_attr_init(&attributes);
    if (error)
        return error;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_sigmask(SIG_SETMASK, &blocked, &before); /* the new thread inherits it, and has no moment without */
    error = pthread_create(&thread, &attributes, body, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}
