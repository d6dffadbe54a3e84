// SPDX-License-Identifier: Apache-2.0
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/memory-limit.h"
#include "unit/tap.h"

static char root[] = "/tmp/memory-limit-test.XXXXXX";

// Writes a file of the made-up system, folders and all.
static void put(const char *path, const char *text)
{
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *p = strchr(full + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        mkdir(full, 0777);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    if (!f || fputs(text, f) < 0 || fclose(f))
        exit(1);
}

static void is(uint64_t left, uint64_t total, const char *by, const char *what)
{
    struct memory_limit m;
    memory_limit_read(root, &m);
    ok(m.left == left && m.total == total && !strcmp(m.by, by), "%s: %llu of %llu, %s", what,
       (unsigned long long)m.left, (unsigned long long)m.total, m.by);
}

static void clear(void)
{
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    if (system(command) || mkdir(root, 0777))
        exit(1);
}

static const char meminfo[] = "MemTotal:  2000 kB\nMemFree:  1 kB\nMemAvailable:  1000 kB\n";
static const char two[] = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";

static void version_two(void)
{
    clear();
    put("/proc/meminfo", meminfo);
    put("/proc/self/mountinfo", two);
    put("/proc/self/cgroup", "0::/slurm/job_1/step_0\n");
    put("/sys/fs/cgroup/memory.max", "max\n");
    put("/sys/fs/cgroup/slurm/job_1/step_0/memory.max", "max\n");
    put("/sys/fs/cgroup/slurm/job_1/step_0/memory.current", "5\n");
    is(1024000, 2048000, "the system", "no limit");
    put("/sys/fs/cgroup/slurm/job_1/memory.max", "500000\n");
    put("/sys/fs/cgroup/slurm/job_1/memory.current", "450000\n");
    is(50000, 500000, "control group /slurm/job_1", "a limit of the group above");
    put("/sys/fs/cgroup/slurm/job_1/memory.stat",
        "anon 1\nfile 440000\nactive_file 40000\ninactive_file 400000\n");
    is(450000, 500000, "control group /slurm/job_1", "page cache that is given back");
    put("/sys/fs/cgroup/slurm/job_1/step_0/memory.max", "300000\n");
    is(299995, 300000, "control group /slurm/job_1/step_0", "a lower one of its own");
    put("/sys/fs/cgroup/slurm/job_1/step_0/memory.max", "4\n");
    is(0, 4, "control group /slurm/job_1/step_0", "nothing is left");
    put("/proc/self/cgroup", "0::/../elsewhere\n");
    put("/sys/fs/cgroup/memory.max", "7000\n");
    put("/sys/fs/cgroup/memory.current", "1000\n");
    is(6000, 7000, "control group /", "a group outside of what is mounted: the mount");
}

static void version_one(void)
{
    clear();
    put("/proc/meminfo", meminfo);
    put("/proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
    put("/proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc/inner\n0::/\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "800000\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "700000\n");
    put("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 600000\n");
    put("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/inner/memory.usage_in_bytes", "10\n");
    is(700000, 800000, "control group /", "version 1 in a container");
    put("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "20000\n");
    is(19990, 20000, "control group /inner", "a group inside it");
}

int main(void)
{
    if (!mkdtemp(root))
        return 1;
    is(UINT64_MAX, UINT64_MAX, "the system", "nothing is known");
    version_two();
    version_one();
    clear();
    put("/proc/meminfo", meminfo);
    put("/proc/self/limits", "Limit      Soft Limit  Hard Limit  Units\n"
                             "Max address space         600000               unlimited bytes\n");
    put("/proc/self/status", "Name:\tx\nVmSize:\t     500 kB\n");
    is(88000, 600000, "ulimit -v", "a limit of the shell");
    put("/proc/self/limits", "Max address space         unlimited            unlimited  bytes\n");
    is(1024000, 2048000, "the system", "or none");
    clear();
    rmdir(root);
    return tap_done();
}
