// SPDX-License-Identifier: Apache-2.0
#include "embeddings/stage.h"

#include <string.h>

#include "system/memory-budget.h"

int embeddings_stage_begin(struct dev *d, const char *device, int threads, uint64_t *mem,
                           bool given, struct log *l, struct err *e)
{
    char said[160];
    bool fits = memory_budget("", mem, given, said, sizeof said);
    if (*said && fits)
        log_note(l, "%s", said);
    else if (*said)
        log_warn(l, "%s", said);
    return strcmp(device, "cpu") ? dev_open(d, device, DEV_BF16, threads, false, e) : 0;
}

int embeddings_stage_search(struct search_device *s, struct dev *d,
                            const struct search_device_need *need, uint64_t *mem, struct log *l,
                            struct err *e)
{
    if (!d->op)
        return 0;
    if (search_device_init_within(s, d, need, mem, e))
        return -1;
    log_note(l, "%s", search_device_memory(s));
    return 0;
}

int embeddings_stage_open(struct embedding_files *f, const struct cli_common *common,
                          const char *files_from, const char *const *files, size_t n_files,
                          const char *const *dirs, size_t n_dirs, struct log *l, struct err *e)
{
    if (embedding_files_open_listed(f, common->operands, common->n_operands, files_from, e) ||
        embedding_files_check_outputs(f, files, n_files, dirs, n_dirs, e))
        return -1;
    if (f->n_bare)
        log_note(l, "%zu of %zu inputs have no sidecar: rows are matched by number alone",
                 f->n_bare, f->set.n_parts);
    return 0;
}
