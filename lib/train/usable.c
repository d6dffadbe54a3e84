// SPDX-License-Identifier: Apache-2.0
#include "train/usable.h"

#include <inttypes.h>
#include <stdio.h>

// What the message says about samples that lack it, and where to look.
static const struct {
    const char *says, *look;
} lacks[N_LACKS] = {
    [LACK_TEACHER_IMAGE] = {"without row in --teacher-image",
                            "a row of zeros is a sample that teacher-embed could not embed"},
    [LACK_TEACHER_TEXT] = {"without row in --teacher-text",
                           "a row of zeros is a sample that teacher-embed could not embed"},
    [LACK_LABEL] = {"without label",
                    "-1 in --labels is a sample whose embedding kmeans-cluster could not use"},
    [LACK_PICTURE] = {"without picture", "shard-read -v names the pictures that it cannot decode"},
    [LACK_CAPTION] = {"without caption", "a caption is the member KEY.txt of a shard"},
    [LACK_UTF8] = {"with a caption that is not UTF-8", "captions in shards are UTF-8"},
};

static int none(const struct train_usable *u, uint64_t n, const char *name, struct err *e)
{
    char text[320] = "";
    size_t at = 0;
    int most = 0;
    for (int i = 0; i < N_LACKS; i++) {
        if (u->lack[i] > u->lack[most])
            most = i;
        if (u->lack[i] && at < sizeof text)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%" PRIu64 " %s", at ? ", " : "",
                                   u->lack[i], lacks[i].says);
    }
    return err_set(e, "%s: none of its %" PRIu64 " samples can be trained on: %s; %s", name, n,
                   text, lacks[most].look);
}

int train_usable_end(struct train_usable *u, const char *name, struct err *e)
{
    uint64_t n = u->used;
    for (int i = 0; i < N_LACKS; i++)
        n += u->lack[i];
    if (n && !u->used && !u->earlier)
        return none(u, n, name, e);
    *u = (struct train_usable){0};
    return 0;
}
