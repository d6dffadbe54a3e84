// SPDX-License-Identifier: Apache-2.0
#include "runs/checkpoint-dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/path.h"
#include "system/process.h"

static const double ABANDONED = 3600; // seconds without a change, of a process elsewhere
#define DAMAGED "damaged-"

int checkpoint_path(char path[PATH_MAX], const char *out, const char *name, struct err *e)
{
    char dir[PATH_MAX];
    return path_join(dir, out, "checkpoints", e) || path_join(path, dir, name, e) ? -1 : 0;
}

int checkpoint_sync(const char *dir, struct err *e)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "cannot open '%s'", dir);
    int rc = fsync(fd) && errno != EINVAL ? err_errno(e, "cannot sync '%s'", dir) : 0;
    close(fd);
    return rc;
}

void checkpoint_remove(const char *path)
{
    struct err unused;
    char file[PATH_MAX];
    DIR *d = opendir(path);
    if (!d)
        return;
    for (struct dirent *f; (f = readdir(d));)
        if (strcmp(f->d_name, ".") && strcmp(f->d_name, "..") &&
            !path_join(file, path, f->d_name, &unused))
            unlink(file);
    closedir(d);
    rmdir(path);
}

// N of "step-N"; false when it is no such name.
static bool step_of(const char *name, uint64_t *step)
{
    char *end;
    if (strncmp(name, "step-", 5) || name[5] < '0' || name[5] > '9')
        return false;
    errno = 0;
    *step = strtoull(name + 5, &end, 10);
    return !*end && !errno;
}

static bool is_temporary(const char *name)
{
    size_t n = strlen(name);
    return !strncmp(name, ".step-", 6) && n > 10 && !strcmp(name + n - 4, ".tmp");
}

// Calls `each` with every name of OUT/checkpoints and its path. 0, or -1 when it cannot be read or
// `each` fails.
static int for_each(const char *out,
                    int (*each)(void *ctx, const char *name, const char *path, struct err *e),
                    void *ctx, struct err *e)
{
    char dir[PATH_MAX], path[PATH_MAX];
    if (path_join(dir, out, "checkpoints", e))
        return -1;
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : err_errno(e, "cannot open '%s'", dir);
    int rc = 0;
    for (struct dirent *f; !rc && (f = readdir(d));)
        rc = path_join(path, dir, f->d_name, e) || each(ctx, f->d_name, path, e) ? -1 : 0;
    closedir(d);
    return rc;
}

// -- lists

static int add_entry(void *ctx, const char *name, const char *path, struct err *e)
{
    struct checkpoint_list *l = ctx;
    struct stat st;
    uint64_t step;
    void *p = l->at;
    if (!step_of(name, &step) || stat(path, &st) || !S_ISDIR(st.st_mode))
        return 0;
    if (mem_grow(&p, &l->cap, l->n + 1, sizeof *l->at, e))
        return -1;
    l->at = p;
    l->at[l->n].step = step;
    snprintf(l->at[l->n++].name, sizeof l->at->name, "%s", name);
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct checkpoint_entry *x = a, *y = b;
    if (x->step != y->step)
        return x->step < y->step ? 1 : -1;
    return strcmp(x->name, y->name);
}

int checkpoint_list_read(struct checkpoint_list *l, const char *out, struct err *e)
{
    *l = (struct checkpoint_list){0};
    if (for_each(out, add_entry, l, e)) {
        checkpoint_list_release(l);
        return -1;
    }
    if (l->n)
        qsort(l->at, l->n, sizeof *l->at, newest_first);
    return 0;
}

void checkpoint_list_release(struct checkpoint_list *l)
{
    free(l->at);
    *l = (struct checkpoint_list){0};
}

// -- what is half made

// HOST and PID of ".step-N.HOST.PID.tmp"; false for the older ".step-N.PID.tmp".
static bool maker_of(const char *name, struct process *p)
{
    const char *host = strchr(name + 1, '.');
    const char *end = name + strlen(name) - 4, *dot = end - 1;
    while (dot > name && *dot != '.')
        dot--;
    if (!host || dot <= host)
        return false;
    *p = (struct process){.pid = strtol(dot + 1, NULL, 10)};
    snprintf(p->host, sizeof p->host, "%.*s", (int)(dot - host - 1), host + 1);
    return true;
}

static bool abandoned(const char *name, const char *path)
{
    struct process maker;
    struct stat st;
    if (!maker_of(name, &maker))
        return true;
    switch (process_look(&maker)) {
    case PROCESS_GONE:
        return true;
    case PROCESS_ELSEWHERE:
        return !stat(path, &st) && difftime(time(NULL), st.st_mtime) > ABANDONED;
    default:
        return maker.pid == (long)getpid();
    }
}

static int clean_one(void *ctx, const char *name, const char *path, struct err *e)
{
    (void)ctx;
    (void)e;
    if (is_temporary(name) && abandoned(name, path))
        checkpoint_remove(path);
    return 0;
}

int checkpoint_dir_clean(const char *out, struct err *e)
{
    return for_each(out, clean_one, NULL, e);
}

static int temporary(char tmp[PATH_MAX], const char *out, uint64_t step, const char *what,
                     struct err *e)
{
    struct process self;
    char name[NAME_MAX + 64];
    process_self(&self);
    snprintf(name, sizeof name, ".step-%08" PRIu64 "%s.%s.%ld.tmp", step, what, self.host,
             self.pid);
    return checkpoint_path(tmp, out, name, e);
}

int checkpoint_dir_begin(const char *out, uint64_t step, char tmp[PATH_MAX], struct err *e)
{
    char dir[PATH_MAX];
    if (path_join(dir, out, "checkpoints", e))
        return -1;
    if (mkdir(dir, 0777) && errno != EEXIST)
        return err_errno(e, "cannot make '%s'", dir);
    if (temporary(tmp, out, step, "", e))
        return -1;
    if (mkdir(tmp, 0777) && errno != EEXIST)
        return err_errno(e, "cannot make '%s'", tmp);
    return 0;
}

// Renames first: a folder that is removed file by file must not look like a checkpoint.
static int remove_named(const char *out, uint64_t step, const char *path, struct err *e)
{
    char old[PATH_MAX];
    if (temporary(old, out, step, "-old", e))
        return -1;
    checkpoint_remove(old);
    if (rename(path, old))
        return errno == ENOENT ? 0 : err_errno(e, "cannot remove '%s'", path);
    checkpoint_remove(old);
    return 0;
}

int checkpoint_dir_commit(const char *out, uint64_t step, const char *tmp, char path[PATH_MAX],
                          struct err *e)
{
    char name[64], dir[PATH_MAX];
    snprintf(name, sizeof name, "step-%08" PRIu64, step);
    int rc = checkpoint_sync(tmp, e) || checkpoint_path(path, out, name, e) ||
             path_join(dir, out, "checkpoints", e) || remove_named(out, step, path, e);
    if (!rc && rename(tmp, path))
        rc = err_errno(e, "cannot name '%s'", path);
    if (rc)
        checkpoint_remove(tmp);
    return rc || checkpoint_sync(dir, e) ? -1 : 0;
}

static int remove_entry(const char *out, const struct checkpoint_entry *c, struct err *e)
{
    char path[PATH_MAX];
    return checkpoint_path(path, out, c->name, e) || remove_named(out, c->step, path, e) ? -1 : 0;
}

int checkpoint_dir_prune(const char *out, uint64_t upto, const struct checkpoint_keep *keep,
                         struct err *e)
{
    struct checkpoint_list l;
    size_t seen = 0;
    int rc = checkpoint_list_read(&l, out, e);
    for (size_t i = 0; i < l.n && !rc; i++) {
        uint64_t step = l.at[i].step;
        bool stays = (keep->every && step % keep->every == 0) || (keep->best && step == keep->best);
        if (step <= upto && ++seen > keep->newest && !stays)
            rc = remove_entry(out, &l.at[i], e);
    }
    checkpoint_list_release(&l);
    return rc;
}

int checkpoint_dir_drop_after(const char *out, uint64_t step, struct err *e)
{
    struct checkpoint_list l;
    int rc = checkpoint_list_read(&l, out, e);
    for (size_t i = 0; i < l.n && !rc; i++) // the newest first: what is left is always a run
        if (l.at[i].step > step)
            rc = remove_entry(out, &l.at[i], e);
    checkpoint_list_release(&l);
    return rc;
}

int checkpoint_dir_set_aside(const char *out, const char *name, char aside[PATH_MAX], struct err *e)
{
    char path[PATH_MAX], to[NAME_MAX + 16];
    snprintf(to, sizeof to, DAMAGED "%s", name);
    if (checkpoint_path(path, out, name, e) || checkpoint_path(aside, out, to, e))
        return -1;
    checkpoint_remove(aside);
    return rename(path, aside) ? err_errno(e, "cannot rename '%s'", path) : 0;
}

struct removal {
    const char *out;
};

static int remove_one(void *ctx, const char *name, const char *path, struct err *e)
{
    uint64_t step;
    const char *plain = strncmp(name, DAMAGED, strlen(DAMAGED)) ? name : name + strlen(DAMAGED);
    if (is_temporary(name))
        return clean_one(NULL, name, path, e);
    const struct removal *r = ctx;
    return step_of(plain, &step) ? remove_named(r->out, step, path, e) : 0;
}

int checkpoint_dir_remove_all(const char *out, struct err *e)
{
    struct removal r = {out};
    return for_each(out, remove_one, &r, e);
}
