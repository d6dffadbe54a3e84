// SPDX-License-Identifier: Apache-2.0
// Any bytes as a ledger: refused, or rows that are sorted, summed, written and read back.
#include "fuzz/file.h"
#include "formats/ledger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct ledger *l, const char *path)
{
    static const char *const stages[] = {"index", "embed", "train", NULL};
    struct ledger back;
    struct ledger_row sum;
    struct err e;
    if (ledger_sort(l, stages, &e))
        abort();
    for (size_t i = 0; i < l->n; i++)
        ledger_row_check(&l->rows[i], &e);
    if (ledger_sum(l, "embed", &sum, &e) == 1)
        ledger_row_release(&sum);
    ledger_check(l, stages, &e);
    if (ledger_write(path, l, &e) || ledger_read(&back, path, &e) || back.n != l->n)
        abort();
    ledger_release(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64], lock[72];
    struct ledger l;
    struct err e;
    snprintf(path, sizeof path, "/tmp/fuzz-ledger.%ld.tsv", (long)getpid());
    snprintf(lock, sizeof lock, "%s.lock", path);
    fuzz_file_put(path, data, size);
    if (!ledger_read(&l, path, &e)) {
        use(&l, path);
        ledger_release(&l);
    }
    unlink(path);
    unlink(lock);
    return 0;
}
