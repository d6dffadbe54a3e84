// SPDX-License-Identifier: Apache-2.0
// Pictures of two classes that a model takes for each other, from the evaluation set itself
// (CLIP_benchmark's folder).
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "page/pictures.h"
#include "report/parts.h"
#include "system/lines.h"

enum { EACH = 4, LOOK = 5000 }; // pictures of a class; samples looked at

struct confused {
    long class[2]; // numbers of the classes
    size_t have[2];
    uint64_t seen;
    struct page_pick pick[2][EACH];
    struct thumb thumb;
};

// The places of the two names among the classes. False: one is not among them.
static bool find_classes(struct confused *t, const char *folder, const char *const names[2])
{
    char path[PATH_BYTES];
    struct err ignored;
    struct lines l = {0};
    t->class[0] = t->class[1] = -1;
    if (path_format(path, &ignored, "%s/classnames.txt", folder) || lines_read(&l, path, &ignored))
        return false;
    for (size_t i = l.n; i-- > 0;)
        for (int k = 0; k < 2; k++)
            if (!strcmp(l.line[i], names[k]))
                t->class[k] = (long)i;
    lines_release(&l);
    return t->class[0] >= 0 && t->class[1] >= 0;
}

static int take(struct confused *t, const struct shard_sample *s, struct err *e)
{
    const struct shard_member *m = shard_find(s, "cls");
    if (!m)
        return 0;
    long class = strtol((const char *)m->data, NULL, 10);
    for (int k = 0; k < 2; k++)
        if (class == t->class[k] && t->have[k] < EACH)
            return page_pick_fill(&t->pick[k][t->have[k]++], s, &t->thumb, e);
    return 0;
}

static bool enough(const struct confused *t)
{
    return (t->have[0] == EACH && t->have[1] == EACH) || t->seen >= LOOK;
}

// Samples of one shard; what cannot be read has no pictures to show.
static int look(struct confused *t, const char *path, struct err *e)
{
    struct err ignored;
    struct shard_sample s;
    struct shard *shard = shard_open(path, NULL, &ignored);
    int rc = 0;
    while (shard && rc == 0 && !enough(t) && shard_next(shard, &s, &ignored) > 0) {
        t->seen++;
        rc = take(t, &s, e);
    }
    shard_close(shard);
    return rc;
}

static void put_class(struct html *h, const struct page_pick *pick, size_t n, const char *name)
{
    html_raw(h, "<div><small>");
    html_text(h, name);
    html_raw(h, "</small>");
    for (size_t i = 0; i < n; i++)
        if (pick[i].data)
            page_put_picture(h, &pick[i]);
    html_raw(h, "</div>");
}

int report_put_confused(struct html *h, const char *work, const char *dataset, const char *label,
                        const char *predicted, struct err *e)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    const char *const names[2] = {label, predicted};
    struct confused t = {.seen = 0};
    if (!report_eval_folder(folder, work, dataset) || !find_classes(&t, folder, names))
        return 0;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && !enough(&t); i++) {
        rc = path_format(path, e, "%s/test/%u.tar", folder, i);
        if (rc || access(path, R_OK))
            break;
        rc = look(&t, path, e);
    }
    if (rc == 0 && t.have[0] + t.have[1]) {
        html_raw(h, "<div class='set many'>");
        put_class(h, t.pick[0], t.have[0], label);
        put_class(h, t.pick[1], t.have[1], predicted);
        html_raw(h, "</div>\n");
    }
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < t.have[k]; i++)
            free(t.pick[k][i].data);
    thumb_release(&t.thumb);
    return rc;
}
