// SPDX-License-Identifier: Apache-2.0
// "failed": the rows of zeros, so that counting samples needs no reading of terabytes of
// embeddings.
#include <stdlib.h>

#include "base/mem.h"
#include "formats/sidecar.h"

// More are not listed: json_read_file has a limit.
enum { FAILED_MAX = 500000 };

int sidecar_rows_add(struct sidecar_rows *r, uint64_t row, struct err *e)
{
    void *p = r->at;
    int rc = mem_grow(&p, &r->cap, r->n + 1, sizeof *r->at, e);
    r->at = p;
    if (!rc)
        r->at[r->n++] = row;
    return rc;
}

void sidecar_rows_release(struct sidecar_rows *r)
{
    free(r->at);
    *r = (struct sidecar_rows){0};
}

int sidecar_put_failed(cJSON *o, const struct sidecar *s, struct err *e)
{
    if (!s->has_failed || s->failed.n > FAILED_MAX)
        return 0;
    cJSON *a = json_add_array(o, "failed", e);
    if (!a)
        return -1;
    for (size_t i = 0; i < s->failed.n; i++)
        if (json_add_u64(a, NULL, s->failed.at[i], e))
            return -1;
    return 0;
}

int sidecar_get_failed(const cJSON *o, struct sidecar *s, struct err *e)
{
    const cJSON *a = NULL;
    int rc = json_array(o, "failed", JSON_OPTIONAL, &a, e);
    if (rc <= 0)
        return rc;
    s->has_failed = true;
    for (const cJSON *c = a->child; c; c = c->next) {
        double x = cJSON_IsNumber(c) ? c->valuedouble : -1;
        if (!(x >= 0 && x < (double)s->rows) || x != (double)(uint64_t)x ||
            (s->failed.n && (uint64_t)x <= s->failed.at[s->failed.n - 1]))
            return err_set(e, "'failed' is not a list of rows, ascending");
        if (sidecar_rows_add(&s->failed, (uint64_t)x, e))
            return -1;
    }
    return 0;
}
