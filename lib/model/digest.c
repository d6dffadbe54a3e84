// SPDX-License-Identifier: Apache-2.0
#include "model/digest.h"

#include <cjson/cJSON.h>
#include <string.h>

static void add_tensor(struct digest *d, const struct st_tensor *t)
{
    digest_key(d, t->name);
    digest_key(d, st_dtype_name(t->dtype));
    digest_add(d, t->shape, (size_t)t->rank * sizeof *t->shape);
    digest_add(d, t->data, t->n_bytes);
}

int model_digest(const struct clip_weights *w, char hex[DIGEST_HEX], struct err *e)
{
    cJSON *j = clip_config_to_any(&w->table.cfg, e);
    char *text = j ? cJSON_PrintUnformatted(j) : NULL;
    struct digest *d = text ? digest_new(e) : NULL;
    if (j && !text)
        err_set(e, "out of memory");
    if (d) {
        digest_key(d, text);
        for (size_t i = 0; i < w->table.n; i++) {
            for (int k = 0; k < w->parts[i].n; k++)
                if (w->parts[i].st[k])
                    add_tensor(d, w->parts[i].st[k]);
            clip_weights_drop(w, i);
        }
        digest_hex(d, hex);
        digest_free(d);
    }
    cJSON_free(text);
    cJSON_Delete(j);
    return d ? 0 : -1;
}
