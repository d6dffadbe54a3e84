// SPDX-License-Identifier: Apache-2.0
// What --mem becomes on a machine of 1000 MiB.
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/memory-budget.h"
#include "unit/tap.h"

int main(void)
{
    char root[] = "/tmp/memory-budget-test.XXXXXX", path[64], said[160];
    const uint64_t mib = 1 << 20;
    if (!mkdtemp(root))
        return 1;
    snprintf(path, sizeof path, "%s/proc", root);
    mkdir(path, 0700);
    strcat(path, "/meminfo");
    FILE *f = fopen(path, "w");
    if (!f || fputs("MemTotal: 2048000 kB\nMemAvailable: 1024000 kB\n", f) < 0 || fclose(f))
        return 1;
    uint64_t mem = 500 * mib;
    ok(memory_budget(root, &mem, false, said, sizeof said) && mem == 500 * mib && !*said,
       "a default that fits is kept");
    mem = 4096 * mib;
    ok(memory_budget(root, &mem, false, said, sizeof said) && mem == 900 * mib,
       "one that does not is lowered: %s", said);
    mem = 950 * mib;
    ok(memory_budget(root, &mem, true, said, sizeof said) && mem == 950 * mib && !*said,
       "a given one may take all");
    mem = 4096 * mib;
    ok(!memory_budget(root, &mem, true, said, sizeof said) && mem == 4096 * mib &&
           strstr(said, "the system leaves 1.0 GiB"),
       "and is kept where it is more, with a warning: %s", said);
    unlink(path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
    rmdir(root);
    return tap_done();
}
