// SPDX-License-Identifier: Apache-2.0
// Kernel documentation: admin-guide/cgroup-v2.rst, admin-guide/cgroup-v1/memory.rst,
// filesystems/proc.rst.
#include "system/memory-limit.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 2 * PATH_MAX + 256 };

// Names of the files of one version of control groups.
struct cgroup_version {
    const char *limit, *used, *cache; // cache: the line of memory.stat
};
static const struct cgroup_version versions[] = {
    {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "},
    {"memory.max", "memory.current", "inactive_file "},
};
// Version 1 writes "no limit" as the largest multiple of a page.
static const uint64_t NO_LIMIT = UINT64_C(1) << 60;

struct cgroup {
    const char *root;
    int version;          // index of versions
    char mount[PATH_MAX]; // where the hierarchy is mounted
    char shown[PATH_MAX]; // the group that stands at the mount
    char path[PATH_MAX];  // the process's group
    bool mounted, member; // both were found
};

static FILE *open_under(const char *root, const char *path)
{
    char name[LINE];
    int n = snprintf(name, sizeof name, "%s%s", root, path);
    return n > 0 && (size_t)n < sizeof name ? fopen(name, "re") : NULL;
}

// The number after `name` at the start of a line of the file; UINT64_MAX when there is none.
static uint64_t number_in(const char *root, const char *path, const char *name)
{
    char line[512];
    uint64_t n = UINT64_MAX;
    FILE *f = open_under(root, path);
    if (!f)
        return n;
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name))) {
            if (sscanf(line + strlen(name), "%" SCNu64, &n) != 1)
                n = UINT64_MAX;
            break;
        }
    fclose(f);
    return n;
}

static void lower(struct memory_limit *m, uint64_t left, uint64_t total, const char *by)
{
    if (left >= m->left && m->left != UINT64_MAX)
        return;
    m->left = left;
    m->total = total;
    snprintf(m->by, sizeof m->by, "%s", by);
}

static void look_at_system(const char *root, struct memory_limit *m)
{
    uint64_t there = number_in(root, "/proc/meminfo", "MemAvailable:");
    uint64_t total = number_in(root, "/proc/meminfo", "MemTotal:");
    if (there < UINT64_MAX / 1024)
        lower(m, there * 1024, total < UINT64_MAX / 1024 ? total * 1024 : UINT64_MAX, "the system");
}

static void look_at_ulimit(const char *root, struct memory_limit *m)
{
    uint64_t limit = number_in(root, "/proc/self/limits", "Max address space");
    uint64_t used = number_in(root, "/proc/self/status", "VmSize:");
    if (limit == UINT64_MAX || used >= UINT64_MAX / 1024)
        return;
    used *= 1024;
    lower(m, limit > used ? limit - used : 0, limit, "ulimit -v");
}

// "ID PARENT DEVICE SHOWN MOUNT OPTIONS [FIELDS] - TYPE SOURCE SUPER", spaces in names as \040,
// which no control group has in practice.
static void find_mount(struct cgroup *g)
{
    char line[LINE], shown[PATH_MAX], mount[PATH_MAX];
    FILE *f = open_under(g->root, "/proc/self/mountinfo");
    while (f && !g->mounted && fgets(line, sizeof line, f)) {
        const char *tail = strstr(line, " - ");
        char type[32], super[512];
        if (!tail || sscanf(line, "%*s %*s %*s %4095s %4095s", shown, mount) != 2 ||
            sscanf(tail, " - %31s %*s %511s", type, super) != 2)
            continue;
        g->mounted = g->version ? !strcmp(type, "cgroup2")
                                : !strcmp(type, "cgroup") && strstr(super, "memory");
    }
    if (f)
        fclose(f);
    if (!g->mounted)
        return;
    snprintf(g->shown, sizeof g->shown, "%s", shown);
    snprintf(g->mount, sizeof g->mount, "%s", mount);
}

// "N:CONTROLLERS:PATH"; version 2 has no controllers.
static void find_member(struct cgroup *g)
{
    char line[LINE];
    FILE *f = open_under(g->root, "/proc/self/cgroup");
    while (f && !g->member && fgets(line, sizeof line, f)) {
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        names++;
        for (char *save, *name = strtok_r(names, ",", &save); name && !g->version;
             name = strtok_r(NULL, ",", &save))
            g->member = g->member || !strcmp(name, "memory");
        if (g->version)
            g->member = !*names;
        snprintf(g->path, sizeof g->path, "%s", path);
    }
    if (f)
        fclose(f);
}

static uint64_t group_number(const struct cgroup *g, const char *path, const char *file,
                             const char *name)
{
    char full[LINE];
    int n = snprintf(full, sizeof full, "%s%s/%s", g->mount, path, file);
    return n > 0 && (size_t)n < sizeof full ? number_in(g->root, full, name) : UINT64_MAX;
}

static void look_at_group(const struct cgroup *g, const char *path, struct memory_limit *m)
{
    const struct cgroup_version *v = &versions[g->version];
    char by[MEMORY_BY];
    uint64_t limit = group_number(g, path, v->limit, ""), used = group_number(g, path, v->used, "");
    uint64_t cache = group_number(g, path, "memory.stat", v->cache);
    if (limit >= NO_LIMIT || used == UINT64_MAX)
        return;
    if (cache != UINT64_MAX)
        used = used > cache ? used - cache : 0;
    snprintf(by, sizeof by, "control group %.80s", *path ? path : "/");
    lower(m, limit > used ? limit - used : 0, limit, by);
}

// The group and all above it up to the mount: each may have a limit of its own.
static void look_at_groups(const char *root, int version, struct memory_limit *m)
{
    struct cgroup g = {.root = root, .version = version};
    find_mount(&g);
    find_member(&g);
    if (!g.mounted || !g.member)
        return;
    // A container sees its own group at the mount, whatever /proc/self/cgroup calls it.
    size_t n = strcmp(g.shown, "/") ? strlen(g.shown) : 0;
    char *path = g.path;
    if (!strncmp(path, g.shown, n) && (path[n] == '/' || !path[n]))
        path += n;
    else
        *path = '\0';
    if (strstr(path, "/.."))
        *path = '\0';
    for (;;) {
        char *slash = strrchr(path, '/');
        if (slash && !slash[1]) {
            *slash = '\0';
            continue;
        }
        look_at_group(&g, path, m);
        if (!slash)
            return;
        *slash = '\0';
    }
}

void memory_limit_read(const char *root, struct memory_limit *m)
{
    *m = (struct memory_limit){UINT64_MAX, UINT64_MAX, "the system"};
    look_at_system(root, m);
    look_at_ulimit(root, m);
    look_at_groups(root, 0, m);
    look_at_groups(root, 1, m);
}
