// SPDX-License-Identifier: Apache-2.0
// Neighbours: pictures of an evaluation set, and those nearest to each by the teacher and by a
// student, side by side.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "page/pictures.h"
#include "report/parts.h"

enum { TEXT = 8000, SHARDS = 10000 };

bool report_eval_folder(char folder[PATH_BYTES], const char *work, const char *dataset)
{
    char path[PATH_BYTES], text[TEXT];
    struct err ignored;
    FILE *f = path_format(path, &ignored, "%s/params/eval", work) ? NULL : fopen(path, "rb");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = '\0';
    if (f)
        fclose(f);
    char *rest = NULL;
    for (char *word = strtok_r(text, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
        for (size_t k = strlen(word); k > 1 && word[k - 1] == '/'; k--)
            word[k - 1] = '\0';
        if (!strcmp(path_base(word), dataset) && !path_format(path, &ignored, "%s/test", word) &&
            !access(path, R_OK))
            return path_format(folder, &ignored, "%s", word) == 0;
    }
    return false;
}

// A picture of the set by its name, "0.tar/KEY".
struct named {
    const char *name; // the result's
    struct page_pick pick;
};
struct named_list {
    struct named *at;
    size_t n, cap;
};

static struct named *find(const struct named_list *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->at[i].name, name))
            return &l->at[i];
    return NULL;
}

static int want(struct named_list *l, const cJSON *name, struct err *e)
{
    if (!cJSON_IsString(name) || find(l, name->valuestring))
        return 0;
    void *p = l->at;
    if (mem_grow(&p, &l->cap, l->n + 1, sizeof *l->at, e))
        return -1;
    l->at = p;
    l->at[l->n++] = (struct named){.name = name->valuestring};
    return 0;
}

static int want_example(struct named_list *l, const cJSON *x, struct err *e)
{
    static const char *const lists[2] = {"teacher", "student"};
    const cJSON *name;
    int rc = want(l, cJSON_GetObjectItemCaseSensitive(x, "of"), e);
    for (int k = 0; k < 2 && !rc; k++)
        cJSON_ArrayForEach(name, cJSON_GetObjectItemCaseSensitive(x, lists[k])) rc =
            rc ? rc : want(l, name, e);
    return rc;
}

// Those of one shard; what cannot be read has no picture.
static int load_shard(struct named_list *l, const char *path, unsigned number, struct thumb *t,
                      struct err *e)
{
    char name[PATH_BYTES];
    struct err ignored;
    struct shard_sample s;
    struct shard *shard = shard_open(path, NULL, &ignored);
    int rc = 0;
    while (shard && !rc && shard_next(shard, &s, &ignored) > 0) {
        struct named *of =
            path_format(name, &ignored, "%u.tar/%s", number, s.key) ? NULL : find(l, name);
        if (of && !of->pick.data)
            rc = page_pick_fill(&of->pick, &s, t, e);
    }
    shard_close(shard);
    return rc;
}

static int load(struct named_list *l, const char *folder, struct err *e)
{
    struct thumb t = {0};
    char path[PATH_BYTES];
    int rc = 0;
    for (unsigned i = 0; !rc && i < SHARDS; i++) {
        rc = path_format(path, e, "%s/test/%u.tar", folder, i);
        if (rc || access(path, R_OK))
            break;
        rc = load_shard(l, path, i, &t, e);
    }
    thumb_release(&t);
    return rc;
}

static bool has(const cJSON *list, const char *name)
{
    const cJSON *x;
    cJSON_ArrayForEach(x, list) if (cJSON_IsString(x) && !strcmp(x->valuestring, name)) return true;
    return false;
}

// A picture; with a frame where the other list has it too.
static void put_one(struct html *h, const struct named_list *l, const cJSON *name,
                    const cJSON *other)
{
    const struct named *of = cJSON_IsString(name) ? find(l, name->valuestring) : NULL;
    if (!of)
        return;
    struct page_pick pick = of->pick;
    pick.stays = other && has(other, of->name);
    html_raw(h, "<span title='");
    html_text(h, of->name);
    html_raw(h, *pick.caption ? ": " : "");
    html_text(h, pick.caption);
    html_raw(h, "'>");
    page_put_picture(h, &pick);
    html_raw(h, "</span>");
}

static void put_example(struct html *h, const struct named_list *l, const char *model,
                        const cJSON *x)
{
    const cJSON *of = cJSON_GetObjectItemCaseSensitive(x, "of"), *name;
    const cJSON *const list[2] = {cJSON_GetObjectItemCaseSensitive(x, "teacher"),
                                  cJSON_GetObjectItemCaseSensitive(x, "student")};
    const cJSON *common = cJSON_GetObjectItemCaseSensitive(x, "common");
    html_raw(h, "<div class='set many near'><div><small>picture</small>");
    put_one(h, l, of, NULL);
    html_raw(h, "</div>");
    for (int k = 0; k < 2; k++) {
        html_raw(h, "<div><small>");
        html_text(h, k ? model : "teacher");
        if (k && cJSON_IsNumber(common))
            html_put(h, ", %.0f %% in common", 100 * common->valuedouble);
        html_raw(h, "</small>");
        cJSON_ArrayForEach(name, list[k]) put_one(h, l, name, list[1 - k]);
        html_raw(h, "</div>");
    }
    html_raw(h, "</div>\n");
}

int report_put_near(struct html *h, const char *work, const char *model, const cJSON *result,
                    struct err *e)
{
    const cJSON *x, *list = cJSON_GetObjectItemCaseSensitive(result, "neighbours");
    const char *dataset = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, "dataset"));
    char folder[PATH_BYTES];
    struct named_list l = {0};
    int rc = 0;
    if (!cJSON_GetArraySize(list) || !dataset || !report_eval_folder(folder, work, dataset))
        return 0;
    cJSON_ArrayForEach(x, list) rc = rc ? rc : want_example(&l, x, e);
    rc = rc ? rc : load(&l, folder, e);
    if (!rc) {
        html_raw(h, "<h3>Neighbours in ");
        html_text(h, dataset);
        html_raw(h, ", ");
        html_text(h, model);
        html_raw(h, "</h3>\n<p>The pictures nearest to one picture, by the teacher and by the "
                    "student; a frame marks those that both have. From the one with the most of "
                    "the ten nearest in common to the one with the fewest, at equal steps of their "
                    "order.</p>\n");
        cJSON_ArrayForEach(x, list) put_example(h, &l, model, x);
    }
    for (size_t i = 0; i < l.n; i++)
        free(l.at[i].pick.data);
    free(l.at);
    return rc;
}
