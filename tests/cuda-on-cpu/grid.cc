// SPDX-License-Identifier: Apache-2.0
// Blocks of fibers: a thread runs until it waits; a thread that never waits never costs more than
// one switch, and its stack serves the next.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include "cuda_runtime.h"
#include "order.h"

namespace cuda_on_cpu
{
place here;

namespace
{
const size_t STACK = 128 << 10;
const unsigned WARP = 32, MAX_THREADS = 1024, SLOT = 32;

struct warp_state {
    unsigned char slot[2][WARP * SLOT];
    unsigned arrived, turn;
};

enum wait_for { NOTHING, THE_WARP, THE_BLOCK, DONE };

struct fiber {
    place at;
    wait_for waits;
    unsigned turn; // of the barrier that it waits for
    bool started;
    void *stack;
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
};

struct block_state {
    fiber f[MAX_THREADS];
    warp_state w[MAX_THREADS / WARP];
    unsigned threads, live, arrived, turn;
    fiber *now;
    void (*body)(void *);
    void *ctx;
    std::vector<void *> stacks;
    unsigned char *shared_page; // mapping of shared memory
    size_t shared_room, shared_bytes;
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
} B;

[[noreturn]] void die(const char *what)
{
    fprintf(stderr, "cuda-on-cpu: %s (block %u, thread %u)\n", what, here.block.x, here.thread.x);
    abort();
}

#if defined(__x86_64__)
extern "C" void cuda_on_cpu_switch(void **save, void *load);
asm(".text\n"
    ".globl cuda_on_cpu_switch\n"
    ".hidden cuda_on_cpu_switch\n"
    ".type cuda_on_cpu_switch,@function\n"
    "cuda_on_cpu_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size cuda_on_cpu_switch, .-cuda_on_cpu_switch\n");
#endif

void leave(fiber *f)
{
#if defined(__x86_64__)
    cuda_on_cpu_switch(&f->sp, B.sp);
#else
    swapcontext(&f->context, &B.context);
#endif
}

void barrier_if_full()
{
    if (B.arrived && B.arrived == B.live) {
        B.arrived = 0;
        B.turn++;
    }
}

void fiber_main()
{
    fiber *f = B.now;
    B.body(B.ctx);
    f->waits = DONE;
    B.live--;
    barrier_if_full();
    leave(f);
    abort();
}

void *stack_take()
{
    if (!B.stacks.empty()) {
        void *s = B.stacks.back();
        B.stacks.pop_back();
        return s;
    }
    void *s = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED || mprotect(s, 4096, PROT_NONE))
        die("no memory for a stack");
    return s;
}

void enter(fiber *f)
{
    B.now = f;
    here = f->at;
    if (!f->started) {
        f->started = true;
        f->stack = stack_take();
#if defined(__x86_64__)
        void **top = (void **)((char *)f->stack + STACK) - 2;
        *top = (void *)fiber_main;
        f->sp = top - 6;
#else
        getcontext(&f->context);
        f->context.uc_stack.ss_sp = f->stack;
        f->context.uc_stack.ss_size = STACK;
        f->context.uc_link = nullptr;
        makecontext(&f->context, fiber_main, 0);
#endif
    }
#if defined(__x86_64__)
    cuda_on_cpu_switch(&B.sp, f->sp);
#else
    swapcontext(&B.context, &f->context);
#endif
    if (f->waits == DONE)
        B.stacks.push_back(f->stack);
}

bool can_run(const fiber *f)
{
    unsigned w = f->at.thread.x / WARP;
    return f->waits == NOTHING || (f->waits == THE_WARP && B.w[w].turn != f->turn) ||
           (f->waits == THE_BLOCK && B.turn != f->turn);
}

// Lets the threads of a warp run until none can; true when one did.
bool run_warp(unsigned w)
{
    bool any = false, again = true;
    while (again) {
        again = false;
        for (unsigned i = 0; i < WARP; i++) {
            unsigned t = w * WARP + (order() == ORDER_FORWARD ? i : WARP - 1 - i);
            if (t >= B.threads || !can_run(&B.f[t]))
                continue;
            B.f[t].waits = NOTHING;
            enter(&B.f[t]);
            any = again = true;
        }
    }
    return any;
}

void shared_fit(size_t bytes)
{
    size_t page = 4096, need = (bytes + page - 1) / page * page;
    if (need > B.shared_room) {
        size_t room = need + page;
        void *p = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect((char *)p + need, page, PROT_NONE))
            die("no shared memory");
        if (B.shared_page)
            munmap(B.shared_page, B.shared_room + page);
        B.shared_page = (unsigned char *)p;
        B.shared_room = need;
    }
    B.shared_bytes = (bytes + 15) / 16 * 16;
}

void run_block(const cudaLaunchConfig_t &c, unsigned index)
{
    B.threads = B.live = c.blockDim.x;
    B.arrived = B.turn = 0;
    if (B.shared_bytes)
        memset(shared(), 0xff, B.shared_bytes);
    for (unsigned t = 0; t < B.threads; t++) {
        fiber *f = &B.f[t];
        f->at = {{t, 0, 0}, {index, 0, 0}, c.blockDim, c.gridDim, t % WARP};
        f->waits = NOTHING;
        f->started = false;
    }
    unsigned warps = (B.threads + WARP - 1) / WARP;
    for (unsigned w = 0; w < warps; w++)
        B.w[w].arrived = B.w[w].turn = 0;
    while (B.live) {
        bool any = false;
        for (unsigned i = 0; i < warps; i++)
            any |= run_warp(order() == ORDER_FORWARD ? i : warps - 1 - i);
        if (!any)
            die("threads wait for each other: not all of them reach a barrier");
    }
}
} // namespace

void *shared()
{
    return B.shared_page + B.shared_room - B.shared_bytes;
}

void barrier()
{
    fiber *f = B.now;
    unsigned turn = B.turn;
    B.arrived++;
    barrier_if_full();
    if (B.turn != turn)
        return;
    f->waits = THE_BLOCK;
    f->turn = turn;
    leave(f);
}

unsigned char *warp(unsigned mask, const void *mine, size_t n, void (*work)(unsigned char *))
{
    fiber *f = B.now;
    warp_state *w = &B.w[f->at.thread.x / WARP];
    unsigned turn = w->turn;
    unsigned char *all = w->slot[turn & 1];
    if (mask != 0xffffffffu || n > SLOT)
        die("warp functions here want all lanes");
    if (n)
        memcpy(all + SLOT * f->at.lane, mine, n);
    w->arrived |= 1u << f->at.lane;
    if (w->arrived == mask) {
        w->arrived = 0;
        w->turn++;
        if (work)
            work(all);
        return all;
    }
    f->waits = THE_WARP;
    f->turn = turn;
    leave(f);
    return all;
}

void run_grid(const cudaLaunchConfig_t &c, void (*body)(void *), void *ctx)
{
    B.body = body;
    B.ctx = ctx;
    shared_fit(c.dynamicSmemBytes);
    unsigned n = c.gridDim.x;
    for (unsigned i = 0; i < n; i++)
        run_block(c, order_block(i, n));
}

namespace
{
std::map<const void *, int> &shared_allowed()
{
    static std::map<const void *, int> m;
    return m;
}
const int SHARED_DEFAULT = 48 << 10, SHARED_MOST = 99 << 10;
} // namespace

cudaError_t allow_shared(const void *kernel, int bytes)
{
    if (bytes < 0 || bytes > SHARED_MOST)
        return cudaErrorInvalidValue;
    shared_allowed()[kernel] = bytes;
    return cudaSuccess;
}

cudaError_t check_launch(const cudaLaunchConfig_t *c, const void *kernel)
{
    auto it = shared_allowed().find(kernel);
    size_t most = (size_t)(it == shared_allowed().end() ? SHARED_DEFAULT : it->second);
    most = most < (size_t)SHARED_DEFAULT ? (size_t)SHARED_DEFAULT : most;
    bool flat = c->gridDim.y == 1 && c->gridDim.z == 1 && c->blockDim.y == 1 && c->blockDim.z == 1;
    bool fits = c->gridDim.x >= 1 && c->gridDim.x <= 0x7fffffffu && c->blockDim.x >= 1 &&
                c->blockDim.x <= MAX_THREADS && c->dynamicSmemBytes <= most;
    return flat && fits ? cudaSuccess : cudaErrorInvalidConfiguration;
}
} // namespace cuda_on_cpu
