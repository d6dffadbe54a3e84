// SPDX-License-Identifier: Apache-2.0
#include "comm/open.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/path.h"
#include "base/launch.h"
#include "system/process.h"

static bool is_plugin(const char *name)
{
    size_t n = strlen(name);
    return n > 3 && !strcmp(name + n - 3, ".so");
}

static int name_check(const char *name, bool device, struct err *e)
{
    if (!strcmp(name, "auto") || !strcmp(name, "none") || !strcmp(name, "mpi") || is_plugin(name) ||
        (device && !strcmp(name, "nccl")))
        return 0;
    return err_set(e, "unknown way for ranks to talk: %s (auto, none, mpi, %sFILE.so)", name,
                   device ? "nccl, " : "");
}

int comm_name_check(const char *name, struct err *e)
{
    return name_check(name, false, e);
}

int comm_device_name_check(const char *name, struct err *e)
{
    return name_check(name, true, e);
}

// The plug-in `file` beside the program, or where it is installed: 0, 1 there is none, -1.
static int find_plugin(const char *file, const char *made_by, char path[PATH_BYTES], struct err *e)
{
    static const char *const places[] = {"", "/../lib/clip-cid"};
    char self[PATH_BYTES] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return err_errno(e, "cannot read '/proc/self/exe'");
    self[n] = '\0';
    self[path_base(self) - self - 1] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (path_format(path, e, "%s%s/%s", self, places[i], file))
            return -1;
        if (access(path, F_OK) == 0)
            return 0;
    }
    err_set(e, "no %s in '%s' or its ../lib/clip-cid: build it with %s", file, self, made_by);
    return 1;
}

// The function of the plug-in. Never closed: an MPI that was opened once cannot be taken out of a
// process.
static void *load(const char *path, const char *function, struct err *e)
{
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!so) {
        err_set(e, "cannot use '%s': %s", path, dlerror());
        return NULL;
    }
    void *found = dlsym(so, function);
    if (!found)
        err_set(e, "cannot use '%s': it is no plug-in of clip-cid for this", path);
    return found;
}

static int start(struct comm_backend *b, const char *path, struct err *e)
{
    union {
        void *p;
        comm_plugin_fn *open;
    } found = {.p = load(path, COMM_PLUGIN_NAME, e)};
    if (!found.p)
        return -1;
    if (found.open(COMM_VERSION, b))
        return err_set(e, "cannot use '%s': %s", path, b->why);
    return 0;
}

static int open_plugin(struct comm *c, const char *name, struct err *e)
{
    char path[PATH_BYTES];
    int r = is_plugin(name)
                ? path_format(path, e, "%s%s", strchr(name, '/') ? "" : "./", name)
                : find_plugin("comm-mpi.so", "make MPI=1 and this machine's MPI", path, e);
    if (r)
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
    struct process self;
    if (n == 1)
        return;
    process_self(&self);
    err_wrap(e, "%s", self.host);
    c->alike = true;
    c->rank = launch_local_rank();
}

int comm_open(struct comm *c, const char *name, struct log *l, struct err *e)
{
    int rank, n = launch_tasks(&rank);
    *c = (struct comm)COMM_ALONE;
    if (!strcmp(name, "auto"))
        name = n > 1 ? "mpi" : "none";
    if (!strcmp(name, "nccl"))
        name = "mpi";
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

// Opens the plug-in at `path` on every rank, or on none.
static int open_device(struct comm *c, const char *path, void *stream, struct err *e)
{
    union {
        void *p;
        comm_device_fn *open;
    } found = {.p = load(path, COMM_DEVICE_NAME, e)};
    struct comm_backend *b = found.p ? mem_alloc(1, sizeof *b, e) : NULL;
    if (comm_agree(c, b ? 0 : -1, e)) {
        free(b);
        return -1;
    }
    b->rank = c->rank;
    b->size = c->size;
    int rc = found.open(COMM_VERSION, c->backend, stream, b);
    if (rc)
        err_set(e, "cannot use '%s': %s", path, b->why);
    if (comm_agree(c, rc, e)) {
        if (!rc)
            b->close(b);
        free(b);
        return -1;
    }
    c->device = b;
    return 0;
}

int comm_open_device(struct comm *c, const char *name, void *stream, struct err *e)
{
    char path[PATH_BYTES];
    bool wanted = !strcmp(name, "nccl"), any;
    if (wanted && !stream)
        return err_set(e, "--comm nccl is for --device cuda");
    if (c->size == 1 || !stream || !(wanted || !strcmp(name, "auto")))
        return 0;
    int r = find_plugin("comm-nccl.so", "make CUDA=1 NCCL=1", path, e);
    if (comm_agree(c, r < 0 || (r && wanted) ? -1 : 0, e) ||
        comm_any(c, "plug-ins", r != 0, &any, e))
        return -1;
    return any ? 0 : open_device(c, path, stream, e);
}

void comm_close_device(struct comm *c)
{
    if (!c->device)
        return;
    c->device->close(c->device);
    free(c->device);
    c->device = NULL;
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
