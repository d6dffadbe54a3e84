// SPDX-License-Identifier: Apache-2.0
// The page's first part: data, models and options. Each fact comes from the sidecar or state of a
// result, not from today's configuration, so it is true of the results shown.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "formats/json.h"
#include "base/mem.h"
#include "formats/npy.h"
#include "report/parts.h"
#include "formats/sidecar.h"

static void row_begin(struct html *h, const char *what)
{
    html_raw(h, "<tr><td>");
    html_text(h, what);
    html_raw(h, "</td><td class='text'>");
}

static void row_end(struct html *h)
{
    html_raw(h, "</td></tr>\n");
}

// The value after an option of a recorded command line, or NULL.
static const char *argument(const struct sidecar *s, const char *option, const char *long_option)
{
    size_t n = strlen(long_option);
    for (size_t i = 0; i < s->n_args; i++) {
        if ((strcmp(s->args[i], option) == 0 || strcmp(s->args[i], long_option) == 0) &&
            i + 1 < s->n_args)
            return s->args[i + 1];
        if (strncmp(s->args[i], long_option, n) == 0 && s->args[i][n] == '=')
            return s->args[i] + n + 1;
    }
    return NULL;
}

// The array's header and sidecar: 1, 0 not there, -1.
static int open_array(const char *path, struct npy_header *header, struct sidecar *s, struct err *e)
{
    struct npy a;
    *s = (struct sidecar){0};
    if (access(path, F_OK))
        return 0;
    if (npy_open(&a, path, e))
        return -1;
    *header = a.h;
    npy_close(&a);
    return sidecar_read(path, s, e) < 0 ? -1 : 1;
}

static void put_versions(struct html *h, const struct sidecar *s)
{
    if (s->tool && s->version) {
        html_raw(h, "; ");
        html_text(h, s->tool);
        html_raw(h, " ");
        html_text(h, s->version);
    }
}

static int put_teacher(struct html *h, const char *work, struct err *e)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    struct path_names l = {0};
    struct sidecar s = {0};
    struct npy_header header;
    int rc = path_format(folder, e, "%s/embed/image", work);
    rc = rc ? rc : path_names_of(&l, folder, ".npy", e);
    if (rc == 0 && l.n) {
        rc = path_format(path, e, "%s/%s", folder, l.names[0]);
        int there = rc == 0 ? open_array(path, &header, &s, e) : -1;
        rc = there < 0 ? -1 : 0;
        if (there > 0) {
            const char *model = argument(&s, "-m", "--model");
            row_begin(h, "teacher");
            html_text(h, model ? model : "not recorded");
            html_put(h, "; %" PRIu64 " columns", header.dim);
            if (s.model[0])
                html_put(h, "; digest %s", s.model);
            put_versions(h, &s);
            row_end(h);
        }
    }
    sidecar_release(&s);
    path_names_free(&l);
    return rc;
}

static int put_balance(struct html *h, const char *work, struct err *e)
{
    cJSON *o;
    int there = report_read_balance(work, &o, e);
    if (there <= 0)
        return there;
    const char *rule = "?";
    double distance = 0, share = 0, kept = 0, usable = 0, groups = 0;
    int rc = json_string(o, "rule", JSON_OPTIONAL, &rule, e) < 0 ||
                     json_double(o, "distance", JSON_OPTIONAL, &distance, e) < 0 ||
                     json_double(o, "removed_share", JSON_OPTIONAL, &share, e) < 0 ||
                     json_double(o, "kept", JSON_OPTIONAL, &kept, e) < 0 ||
                     json_double(o, "usable", JSON_OPTIONAL, &usable, e) < 0 ||
                     json_double(o, "groups", JSON_OPTIONAL, &groups, e) < 0
                 ? err_wrap(e, "%s/balance.json", work)
                 : 0;
    if (rc == 0) {
        row_begin(h, "balance");
        html_text(h, rule);
        html_put(h, ", cosine distance %.4g; %.0f of %.0f kept (%.1f %% dropped), %.0f groups",
                 distance, kept, usable, 100 * share, groups);
        row_end(h);
    }
    cJSON_Delete(o);
    return rc;
}

static int put_clusters(struct html *h, const char *work, struct err *e)
{
    char path[PATH_BYTES];
    struct sidecar s;
    struct npy_header header;
    if (path_format(path, e, "%s/centroids.npy", work))
        return -1;
    int there = open_array(path, &header, &s, e);
    if (there > 0) {
        row_begin(h, "clusters");
        html_put(h, "K = %" PRIu64 " of %" PRIu64 " columns", header.rows, header.dim);
        if (s.tool)
            html_put(h, "; seed %" PRIu64, s.seed);
        put_versions(h, &s);
        row_end(h);
    }
    sidecar_release(&s);
    return there < 0 ? -1 : 0;
}

// "embed_dim 512; pictures 12 x 768, texts 12 x 512 (layers x width)"
// Layers and width of a tower: open_clip's names, or Hugging Face's.
static void tower_sizes(const cJSON *model, const char *const name[2], double *layers,
                        double *width)
{
    struct err ignored; // a config of another form says less
    const cJSON *o = NULL;
    bool hf = json_object(model, name[0], JSON_OPTIONAL, &o, &ignored) <= 0;
    if (hf && json_object(model, name[1], JSON_OPTIONAL, &o, &ignored) <= 0)
        return;
    json_double(o, hf ? "num_hidden_layers" : "layers", JSON_OPTIONAL, layers, &ignored);
    json_double(o, hf ? "hidden_size" : "width", JSON_OPTIONAL, width, &ignored);
}

static int put_config(struct html *h, const char *path, struct err *e)
{
    static const char *const vision[2] = {"vision_cfg", "vision_config"};
    static const char *const texts[2] = {"text_cfg", "text_config"};
    cJSON *o = json_read_file(path, NULL, e);
    if (!o)
        return -1;
    const cJSON *inner = cJSON_GetObjectItemCaseSensitive(o, "model_cfg"),
                *model = inner ? inner : o;
    double il = 0, iw = 0, tl = 0, tw = 0, dim;
    struct err ignored;
    tower_sizes(model, vision, &il, &iw);
    tower_sizes(model, texts, &tl, &tw);
    dim = iw; // SiglipModel's
    json_double(model, "projection_dim", JSON_OPTIONAL, &dim, &ignored);
    json_double(model, "embed_dim", JSON_OPTIONAL, &dim, &ignored);
    html_put(h, "%.0f columns; pictures %.0f x %.0f, texts %.0f x %.0f (layers x width)", dim, il,
             iw, tl, tw);
    cJSON_Delete(o);
    return 0;
}

// The options that a checkpoint records; digests of files, which say nothing to a reader, left out.
static int put_options(struct html *h, const char *path, struct err *e)
{
    cJSON *o = json_read_file(path, NULL, e);
    if (!o)
        return -1;
    const cJSON *v, *options = cJSON_GetObjectItemCaseSensitive(o, "options");
    const char *between = "<br>trained with ";
    cJSON_ArrayForEach(v, options)
    {
        if (cJSON_IsString(v) && (!*v->valuestring || digest_is_hex(v->valuestring)))
            continue;
        html_raw(h, between);
        between = ", ";
        html_text(h, v->string);
        html_raw(h, " ");
        if (cJSON_IsString(v))
            html_text(h, v->valuestring);
        else if (cJSON_IsBool(v))
            html_raw(h, cJSON_IsTrue(v) ? "yes" : "no");
        else
            html_put(h, "%.6g", v->valuedouble);
    }
    cJSON_Delete(o);
    return 0;
}

static int put_student(struct html *h, const char *work, const char *name, struct err *e)
{
    char path[PATH_BYTES], what[300];
    struct path_names steps = {0};
    snprintf(what, sizeof what, "model %s", name);
    row_begin(h, what);
    int rc = path_format(path, e, "%s/%s/open_clip_config.json", work, name);
    if (rc == 0 && access(path, F_OK))
        rc = path_format(path, e, "%s/%s/config.json", work, name);
    if (rc == 0 && access(path, F_OK) == 0)
        rc = put_config(h, path, e);
    else if (rc == 0)
        html_raw(h, "not finished");
    rc = rc ? rc : path_format(path, e, "%s/%s/checkpoints", work, name);
    rc = rc ? rc : path_names_of(&steps, path, "", e);
    if (rc == 0 && steps.n) {
        rc = path_format(path, e, "%s/%s/checkpoints/%s/state.json", work, name,
                         steps.names[steps.n - 1]);
        if (rc == 0 && access(path, F_OK) == 0)
            rc = put_options(h, path, e);
    }
    row_end(h);
    path_names_free(&steps);
    return rc;
}

int report_put_about(struct html *h, const char *work, size_t shards, uint64_t rows, struct err *e)
{
    struct path_names models = {0};
    char date[32];
    time_t now = time(NULL);
    struct tm t;
    strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &t));
    html_raw(h, "<table class='about'>\n");
    row_begin(h, "this page");
    html_put(h, "%s, clip-cid %s, of ", date, CLIPCID_VERSION);
    html_text(h, work);
    row_end(h);
    if (shards) {
        row_begin(h, "data");
        html_put(h, "%zu shards, %" PRIu64 " samples", shards, rows);
        row_end(h);
    }
    int rc = put_teacher(h, work, e) || put_balance(h, work, e) || put_clusters(h, work, e) ||
                     report_models(&models, work, e)
                 ? -1
                 : 0;
    for (size_t i = 0; rc == 0 && i < models.n; i++)
        rc = put_student(h, work, models.names[i], e);
    html_raw(h, "</table>\n");
    path_names_free(&models);
    return rc;
}
