// SPDX-License-Identifier: Apache-2.0
#include "eval/results.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/json.h"
#include "base/mem.h"

// Keeps a line when it is a result of this model. 0, or -1: no memory.
static int add_old(struct eval_results *r, const char *line, size_t n, const char *model,
                   struct err *e)
{
    struct err ignored; // a line that is no result is of no use, whatever it is
    const char *inputs = NULL, *of = NULL;
    cJSON *o = json_parse(line, n, NULL, &ignored);
    int rc = 0;
    if (o && json_string(o, "inputs", JSON_OPTIONAL, &inputs, &ignored) > 0 &&
        json_string(o, "pretrained", JSON_OPTIONAL, &of, &ignored) > 0 && digest_is_hex(inputs) &&
        strcmp(of, model) == 0) {
        void *p = r->old;
        rc = mem_grow(&p, &r->cap_old, r->n_old + 1, sizeof *r->old, e);
        r->old = p;
        char *text = rc == 0 ? mem_alloc(n + 2, 1, e) : NULL;
        rc = text ? 0 : -1;
        if (text) {
            memcpy(text, line, n);
            text[n] = '\n';
            struct eval_old_line *l = &r->old[r->n_old++];
            l->text = text;
            memcpy(l->inputs, inputs, DIGEST_HEX);
        }
    }
    cJSON_Delete(o);
    return rc;
}

static int read_old(struct eval_results *r, const char *model, struct err *e)
{
    struct map m;
    if (access(r->path, F_OK))
        return 0;
    if (map_open(&m, r->path, e))
        return -1;
    const char *p = (const char *)m.data, *end = p + m.n, *stop;
    int rc = 0;
    for (; rc == 0 && p < end && (stop = memchr(p, '\n', (size_t)(end - p))); p = stop + 1)
        rc = add_old(r, p, (size_t)(stop - p), model, e);
    map_close(&m);
    return rc;
}

int eval_results_open(struct eval_results *r, const char *path, const char *model, struct err *e)
{
    *r = (struct eval_results){.path = path};
    if (out_open(&r->out, path, e))
        return -1;
    r->stream = r->out.is_stdout || r->out.direct;
    if (r->stream)
        return 0;
    out_abort(&r->out); // it can be written; each set opens it again
    if (read_old(r, model, e) == 0)
        return 0;
    eval_results_release(r);
    return -1;
}

char *eval_results_take(struct eval_results *r, const char *inputs)
{
    for (size_t i = 0; i < r->n_old; i++) {
        char *text = r->old[i].text;
        if (!text || strcmp(r->old[i].inputs, inputs) != 0)
            continue;
        r->old[i].text = NULL;
        return text;
    }
    return NULL;
}

// The file anew: this run's lines and, while it is not finished, the earlier ones not taken yet.
static int rewrite_file(struct eval_results *r, bool finished, struct err *e)
{
    struct out o;
    if (out_open(&o, r->path, e))
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->n; i++)
        rc = out_write(&o, r->line[i], strlen(r->line[i]), e);
    for (size_t i = 0; rc == 0 && !finished && i < r->n_old; i++)
        if (r->old[i].text)
            rc = out_write(&o, r->old[i].text, strlen(r->old[i].text), e);
    rc = rc ? rc : out_commit(&o, e);
    out_abort(&o);
    return rc;
}

int eval_results_add(struct eval_results *r, char *line, struct err *e)
{
    void *p = r->line;
    int rc = mem_grow(&p, &r->cap, r->n + 1, sizeof *r->line, e);
    r->line = p;
    if (rc) {
        free(line);
        return -1;
    }
    r->line[r->n++] = line;
    if (!r->stream)
        return rewrite_file(r, false, e);
    return out_write(&r->out, line, strlen(line), e) || out_flush(&r->out, e) ? -1 : 0;
}

int eval_results_finish(struct eval_results *r, struct err *e)
{
    if (r->stream)
        return out_commit(&r->out, e);
    return r->n ? rewrite_file(r, true, e) : 0;
}

void eval_results_release(struct eval_results *r)
{
    out_abort(&r->out);
    for (size_t i = 0; i < r->n; i++)
        free(r->line[i]);
    for (size_t i = 0; i < r->n_old; i++)
        free(r->old[i].text);
    free(r->line);
    free(r->old);
    *r = (struct eval_results){.out = {.fd = -1}};
}
