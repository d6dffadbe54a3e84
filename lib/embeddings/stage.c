// SPDX-License-Identifier: Apache-2.0
#include "embeddings/stage.h"

#include "system/memory-budget.h"

void embeddings_stage_memory(struct log *l, uint64_t *mem, bool given)
{
    char said[160];
    bool fits = memory_budget("", mem, given, said, sizeof said);
    if (*said && fits)
        log_note(l, "%s", said);
    else if (*said)
        log_warn(l, "%s", said);
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
