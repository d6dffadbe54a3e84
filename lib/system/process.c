// SPDX-License-Identifier: Apache-2.0
#include "system/process.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void read_line(const char *path, char *line, int room)
{
    line[0] = '\0';
    FILE *f = fopen(path, "re");
    if (!f)
        return;
    if (!fgets(line, room, f))
        line[0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    fclose(f);
}

// 0 where /proc does not have it, or has what is left of a process that was killed and not waited
// for. The name in parentheses may hold anything, so the fields are counted from its end.
static uint64_t start_of(long pid)
{
    char path[64], line[1024];
    uint64_t start = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    read_line(path, line, sizeof line);
    char *p = strrchr(line, ')');
    if (p && strchr("ZX", p[1] ? p[2] : 'X'))
        return 0;
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    if (p && sscanf(p, " %" SCNu64, &start) != 1)
        start = 0;
    return start;
}

void process_self(struct process *p)
{
    *p = (struct process){.pid = (long)getpid()};
    if (gethostname(p->host, sizeof p->host - 1))
        snprintf(p->host, sizeof p->host, "localhost");
    for (char *c = p->host; *c; c++) // it becomes part of file names and lines of text
        if (*c == '/' || (unsigned char)*c <= ' ')
            *c = '_';
    read_line("/proc/sys/kernel/random/boot_id", p->boot, sizeof p->boot);
    p->start = start_of(p->pid);
}

enum process_state process_look(const struct process *p)
{
    struct process self;
    process_self(&self);
    if (strcmp(p->host, self.host))
        return PROCESS_ELSEWHERE;
    if (p->boot[0] && self.boot[0] && strcmp(p->boot, self.boot))
        return PROCESS_GONE;
    uint64_t start = start_of(p->pid);
    if (start)
        return p->start && p->start != start ? PROCESS_GONE : PROCESS_ALIVE;
    bool no_proc = !start_of(self.pid);
    return no_proc && !kill((pid_t)p->pid, 0) ? PROCESS_ALIVE : PROCESS_GONE;
}
