// SPDX-License-Identifier: Apache-2.0
#include "comm/open.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/path.h"
#include "system/process.h"

// The launchers' words, the nearest one first: mpirun's in a job of Slurm holds, not the job's.
static const struct {
    const char *tasks, *rank;
} launchers[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"}, // OpenMPI's mpirun
    {"PMI_SIZE", "PMI_RANK"},                         // MPICH's, Intel's
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"},         // srun
};

static int number(const char *name)
{
    const char *text = name ? getenv(name) : NULL;
    char *end;
    long n = text ? strtol(text, &end, 10) : 0;
    return text && *text && !*end && n > 0 && n < INT_MAX ? (int)n : 0;
}

// How many tasks the environment speaks of (at least 1), and which one this is.
static int tasks(int *rank)
{
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        int n = number(launchers[i].tasks);
        *rank = number(launchers[i].rank);
        if (n)
            return n;
    }
    *rank = 0;
    return 1;
}

static bool is_plugin(const char *name)
{
    size_t n = strlen(name);
    return n > 3 && !strcmp(name + n - 3, ".so");
}

int comm_name_check(const char *name, struct err *e)
{
    if (!strcmp(name, "auto") || !strcmp(name, "none") || !strcmp(name, "mpi") || is_plugin(name))
        return 0;
    return err_set(e, "unknown way for ranks to talk: %s (auto, none, mpi, FILE.so)", name);
}

// comm-mpi.so beside the program, or where it is installed.
static int find_plugin(char path[PATH_BYTES], struct err *e)
{
    static const char *const places[] = {"", "/../lib/clip-cid"};
    char self[PATH_BYTES] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return err_errno(e, "cannot read '/proc/self/exe'");
    self[n] = '\0';
    self[path_base(self) - self - 1] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (path_format(path, e, "%s%s/comm-mpi.so", self, places[i]))
            return -1;
        if (access(path, F_OK) == 0)
            return 0;
    }
    return err_set(e,
                   "no comm-mpi.so in '%s' or its ../lib/clip-cid: build it with make MPI=1 and "
                   "this machine's MPI",
                   self);
}

static int start(struct comm_backend *b, const char *path, struct err *e)
{
    // Never closed: an MPI that was opened once cannot be taken out of a process.
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!so)
        return err_set(e, "cannot use '%s': %s", path, dlerror());
    union {
        void *p;
        comm_plugin_fn *open;
    } found = {.p = dlsym(so, COMM_PLUGIN_NAME)};
    if (!found.p)
        return err_set(e, "cannot use '%s': it is no plug-in of clip-cid", path);
    if (found.open(COMM_VERSION, b))
        return err_set(e, "cannot use '%s': %s", path, b->why);
    return 0;
}

static int open_plugin(struct comm *c, const char *name, struct err *e)
{
    char path[PATH_BYTES];
    if (strcmp(name, "mpi") ? path_format(path, e, "%s%s", strchr(name, '/') ? "" : "./", name)
                            : find_plugin(path, e))
        return -1;
    struct comm_backend *b = mem_alloc(1, sizeof *b, e);
    if (!b || start(b, path, e)) {
        free(b);
        return -1;
    }
    *c = (struct comm){.rank = b->rank, .size = b->size, .backend = b, .owned = true};
    return 0;
}

static int check_size(struct comm *c, const char *name, int n, int rank, struct err *e)
{
    if (n == 1 || n == c->size)
        return 0;
    c->alike = true; // all the tasks say this: the first will do
    c->rank = rank;
    if (!c->backend)
        return err_set(e, "%d tasks were started, and each would do all the work: --comm mpi", n);
    return err_set(e,
                   "%d tasks were started, but '%s' makes %d rank%s of them: srun --mpi=pmix, and "
                   "a comm-mpi.so of this machine's MPI",
                   n, name, c->size, c->size == 1 ? "" : "s");
}

// A plug-in that cannot be used, or a library behind it, is a host's fault: one task of each says
// it.
static void tell_host(struct comm *c, int n, struct err *e)
{
    static const char *const local[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID",
                                        "SLURM_LOCALID"};
    struct process self;
    if (n == 1)
        return;
    process_self(&self);
    err_wrap(e, "%s", self.host);
    c->alike = true;
    for (size_t i = 0; i < sizeof local / sizeof *local && !c->rank; i++)
        c->rank = number(local[i]);
}

int comm_open(struct comm *c, const char *name, struct log *l, struct err *e)
{
    int rank, n = tasks(&rank);
    *c = (struct comm)COMM_ALONE;
    if (!strcmp(name, "auto"))
        name = n > 1 ? "mpi" : "none";
    if (strcmp(name, "none") && open_plugin(c, name, e)) {
        tell_host(c, n, e);
        return -1;
    }
    if (check_size(c, name, n, rank, e))
        return -1;
    if (c->rank > 0) {
        l->quiet = true;
        l->bar = l->progress = false;
        l->progress_file[0] = 0;
    }
    return 0;
}

void comm_report(struct comm *c, struct log *l, const struct err *e)
{
    struct process self;
    if (c->alike || c->size == 1) {
        if (c->rank == 0)
            log_error(l, "%s", e->text);
        return;
    }
    process_self(&self);
    log_error(l, "rank %d (%s): %s", c->rank, self.host, e->text);
    comm_abort(c, 1);
}
