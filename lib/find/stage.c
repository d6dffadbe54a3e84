// SPDX-License-Identifier: Apache-2.0
#include "find/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "find/query.h"
#include "find/search.h"
#include "find/show.h"
#include "system/io.h"

struct find_job {
    const struct find_stage_options *o;
    const struct cli_common *common;
    struct log *log;
    struct find_set set, texts;
    struct find_search search;
    struct find_top top;
    char title[600];
};

static const char *text_of(const struct cli_common *c)
{
    return c->n_operands > 1 ? c->operands[1] : NULL;
}

int find_stage_check(const struct find_stage_options *o, const struct cli_common *common,
                     struct err *e)
{
    const char *text = text_of(common), *outputs[] = {common->output, o->page};
    int questions = (text != NULL) + (o->image != NULL) + (o->key != NULL) + (o->group != NULL) +
                    o->cluster_given + o->worst + o->dropped;
    bool near = text || o->image || o->key;
    if (questions != 1)
        return err_set(e,
                       "one question: TEXT, --image, --key, --cluster, --group, --worst or "
                       "--dropped%s",
                       questions ? ", not several" : "");
    if ((text || o->image) && !o->model)
        return err_set(e, "%s needs -m MODEL, the one that made the embeddings",
                       text ? "TEXT" : "--image");
    if (o->probe_given && !near)
        return err_set(e, "--probe goes with TEXT, --image or --key");
    if (o->exact && !o->probe_given)
        return err_set(e, "--exact goes with --probe: without it every row is compared");
    if (o->among && (o->cluster_given || o->worst || o->dropped || o->group))
        return err_set(e, "--among captions goes with TEXT, --image or --key");
    if (o->kept && (o->dropped || o->group))
        return err_set(e, "--kept does not go with --%s", o->dropped ? "dropped" : "group");
    return io_check_apart(outputs, 2, NULL, 0, e);
}

// Of the rows that the exact answer has, the share that the probed one has too.
static double recall(const struct find_top *exact, const struct find_top *probed)
{
    size_t both = 0;
    for (size_t i = 0; i < exact->n; i++)
        for (size_t k = 0; k < probed->n; k++)
            both += exact->hit[i].row == probed->hit[k].row;
    return exact->n ? (double)both / (double)exact->n : 1;
}

static int compare_with_exact(struct find_job *j, const float *q, struct err *e)
{
    struct find_top exact;
    if (find_top_init(&exact, j->o->n, e))
        return -1;
    int rc = find_nearest(&j->search, q, &exact, e);
    if (!rc)
        log_note(j->log, "recall %.4f: of the %zu nearest of all rows, those among the probed ones",
                 recall(&exact, &j->top), exact.n);
    find_top_release(&exact);
    return rc;
}

static int nearest(struct find_job *j, const float *q, struct err *e)
{
    uint64_t looked;
    if (!j->o->probe_given)
        return find_nearest(&j->search, q, &j->top, e);
    if (find_probe(&j->search, q, j->o->probe, &j->top, &looked, e))
        return -1;
    log_note(j->log, "%llu of %llu rows compared, in the %llu nearest clusters",
             (unsigned long long)looked, (unsigned long long)j->set.files.set.rows,
             (unsigned long long)j->o->probe);
    return j->o->exact ? compare_with_exact(j, q, e) : 0;
}

static int by_query(struct find_job *j, struct err *e)
{
    const struct find_stage_options *o = j->o;
    float *q = mem_alloc(j->set.files.set.dim, sizeof *q, e);
    struct find_query query = {.model = o->model,
                               .tokenizer = o->tokenizer,
                               .text = text_of(j->common),
                               .image = o->image,
                               .device = o->device,
                               .threads = (int)j->common->threads};
    uint64_t row;
    int rc = q ? 0 : -1;
    if (!rc && o->key)
        rc = find_set_row(&j->set, o->key, &row, e) || find_set_vector(&j->set, row, q, e) ? -1 : 0;
    else if (!rc)
        rc = find_query(&query, &j->set, q, e);
    rc = rc ? rc : nearest(j, q, e);
    free(q);
    return rc;
}

static int by_cluster(struct find_job *j, struct err *e)
{
    uint64_t looked;
    if (find_cluster(&j->search, j->o->cluster, &j->top, &looked, e))
        return -1;
    log_note(j->log, "%llu rows in cluster %llu", (unsigned long long)looked,
             (unsigned long long)j->o->cluster);
    return 0;
}

static int search(struct find_job *j, struct err *e)
{
    const struct find_stage_options *o = j->o;
    uint64_t row;
    if (o->cluster_given)
        return by_cluster(j, e);
    if (o->group)
        return find_set_row(&j->set, o->group, &row, e) || find_group(&j->search, row, &j->top, e)
                   ? -1
                   : 0;
    if (o->dropped)
        return find_dropped(&j->search, &j->top, e);
    if (!o->worst)
        return by_query(j, e);
    return find_set_open(&j->texts, j->set.work, "text", j->set.threads, e) ||
                   find_worst(&j->search, &j->texts, &j->top, e)
               ? -1
               : 0;
}

static void make_title(struct find_job *j)
{
    const struct find_stage_options *o = j->o;
    const char *text = text_of(j->common);
    char cluster[32];
    snprintf(cluster, sizeof cluster, "%llu", (unsigned long long)o->cluster);
    if (o->worst || o->dropped)
        snprintf(j->title, sizeof j->title, "%s",
                 o->worst ? "Captions that fit least"
                          : "Dropped, and least like what is kept for them");
    else
        snprintf(j->title, sizeof j->title, "%s %s",
                 o->cluster_given ? "Cluster"
                 : o->group       ? "The group of"
                                  : "Nearest to",
                 o->cluster_given ? cluster
                 : o->group       ? o->group
                 : o->key         ? o->key
                 : o->image       ? o->image
                                  : text);
}

int find_stage_run(const struct find_stage_options *o, const struct cli_common *common,
                   struct log *l, uint64_t *rows, struct err *e)
{
    struct find_job j = {.o = o, .common = common, .log = l};
    const char *outputs[] = {common->output, o->page};
    int rc = io_check_outputs(outputs, 2, e) || find_top_init(&j.top, o->n, e) ||
                     find_set_open(&j.set, common->operands[0], o->among ? "text" : "image",
                                   (int)common->threads, e)
                 ? -1
                 : 0;
    j.search = (struct find_search){.set = &j.set, .log = l, .kept = o->kept};
    rc = rc ? rc : search(&j, e);
    make_title(&j);
    const struct find_show show = {
        .set = &j.set, .shards = o->shards, .page = o->page, .title = j.title, .pairs = o->dropped};
    rc = rc ? rc : find_show(&show, &j.top, common->output, e);
    *rows = j.set.files.set.rows;
    find_top_release(&j.top);
    find_set_close(&j.set);
    find_set_close(&j.texts);
    return rc;
}
