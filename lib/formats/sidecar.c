// SPDX-License-Identifier: Apache-2.0
#include "formats/sidecar.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "system/io.h"
#include "formats/json.h"
#include "base/mem.h"
#include "base/url.h"

int sidecar_init(struct sidecar *s, const char *tool, struct err *e)
{
    *s = (struct sidecar){0};
    s->tool = mem_strdup(tool, e);
    s->version = s->tool ? mem_strdup(CLIPCID_VERSION, e) : NULL;
    if (s->version)
        return 0;
    sidecar_release(s);
    return -1;
}

static void release_args(struct sidecar *s)
{
    for (size_t i = 0; i < s->n_args; i++)
        free(s->args[i]);
    free(s->args);
    s->args = NULL;
    s->n_args = 0;
}

void sidecar_release(struct sidecar *s)
{
    release_args(s);
    for (size_t i = 0; i < s->n_inputs; i++)
        free(s->inputs[i].name);
    free(s->inputs);
    sidecar_rows_release(&s->failed);
    free(s->tool);
    free(s->version);
    *s = (struct sidecar){0};
}

static const struct {
    const char *name;
    bool value;
} no_effect[] = {
    {"-t", true},
    {"--threads", true},
    {"-o", true},
    {"--output", true},
    {"-q", false},
    {"--quiet", false},
    {"-v", false},
    {"--verbose", false},
    {"--progress", true},
    {"--mem", true},
    {"--batch", true},
    {"--retries", true},
    {"--timeout", true},
    {"--resume", false},
    {"--no-resume", false},
    {"--each", false},
    {"--no-each", false},
    // A file a shard: which others were made with it, and where.
    {"--shards-from", true},
    {"--image-dir", true},
    {"--text-dir", true},
    {"--index-dir", true},
    {"--files-from", true},
};

// How many of the arguments from `arg` on (1, or 2 with a value of its own) have no effect on the
// result: 0 when it has one.
static int to_leave_out(const char *arg)
{
    for (size_t i = 0; i < sizeof no_effect / sizeof *no_effect; i++) {
        const char *name = no_effect[i].name;
        size_t n = strlen(name);
        if (strcmp(arg, name) == 0)
            return no_effect[i].value ? 2 : 1;
        if (strncmp(arg, name, n) == 0 && no_effect[i].value && (name[1] != '-' || arg[n] == '='))
            return 1; // --name=value, -nVALUE
    }
    return 0;
}

static int add_arg(struct sidecar *s, const char *arg, struct err *e)
{
    size_t room = 2 * strlen(arg) + 8;
    char *shown = mem_alloc(room, 1, e);
    if (!shown)
        return -1;
    url_show(arg, shown, room); // a pre-signed URL is a key
    s->args[s->n_args++] = shown;
    return 0;
}

// "-qvt4": the letters that have no effect go, with what belongs to them. What is left of the
// argument, NULL: nothing; *skip: how many arguments are used up.
static const char *less_letters(const char *arg, char *to, int *skip)
{
    const char *p = arg + 1;
    *skip = 1;
    for (; *p; p++) {
        char name[] = {'-', *p, '\0'};
        int n = to_leave_out(name);
        if (n == 2) { // takes a value: the rest, or the next argument
            *skip = p[1] ? 1 : 2;
            return NULL;
        }
        if (!n)
            break;
    }
    if (!*p)
        return NULL;
    sprintf(to, "-%s", p);
    return to;
}

// Adds the argument at argv[0] if it has an effect; how many arguments were looked at, or -1.
static int take_arg(struct sidecar *s, char *const *argv, struct err *e)
{
    const char *arg = argv[0];
    int skip = 1;
    if (arg[0] != '-' || !arg[1])
        return add_arg(s, arg, e) ? -1 : 1;
    if (arg[1] == '-') {
        skip = to_leave_out(arg);
        return skip ? skip : add_arg(s, arg, e) ? -1 : 1;
    }
    char *room = mem_alloc(strlen(arg) + 1, 1, e);
    if (!room)
        return -1;
    const char *left = less_letters(arg, room, &skip);
    int r = left && add_arg(s, left, e) ? -1 : skip;
    free(room);
    return r;
}

int sidecar_set_args(struct sidecar *s, int argc, char *const *argv, struct err *e)
{
    release_args(s);
    if (argc < 2)
        return 0;
    s->args = mem_alloc((size_t)argc, sizeof *s->args, e);
    if (!s->args)
        return -1;
    bool options = true;
    for (int i = 1; i < argc; i++) {
        options = options && strcmp(argv[i], "--");
        int used = options ? take_arg(s, argv + i, e) : add_arg(s, argv[i], e) ? -1 : 1;
        if (used < 0)
            return -1;
        i += used - 1;
    }
    return 0;
}

int sidecar_add_input(struct sidecar *s, const char *path, const char *hex, struct err *e)
{
    size_t cap = s->n_inputs;
    void *p = s->inputs;
    // Doubling as a power of two: the capacity is not kept.
    if ((cap & (cap - 1)) == 0 && mem_grow(&p, &cap, cap ? cap * 2 : 1, sizeof *s->inputs, e))
        return -1;
    s->inputs = p;
    struct sidecar_input *in = &s->inputs[s->n_inputs];
    *in = (struct sidecar_input){.name = mem_strdup(path_base(path), e)};
    if (!in->name)
        return -1;
    snprintf(in->hex, sizeof in->hex, "%s", hex ? hex : "");
    s->n_inputs++;
    return 0;
}

static char *name_of(const char *npy_path, struct err *e)
{
    size_t n = strlen(npy_path) + sizeof ".json";
    char *s = mem_alloc(n, 1, e);
    if (s)
        snprintf(s, n, "%s.json", npy_path);
    return s;
}

static int add_digest(cJSON *o, const char *name, const char *hex, struct err *e)
{
    return *hex ? json_add_string(o, name, hex, e) : 0;
}

static int add_input_sum(cJSON *a, const struct sidecar *s, struct err *e)
{
    char hex[DIGEST_HEX], name[48];
    struct digest *d = digest_new(e);
    if (!d)
        return -1;
    for (size_t i = 0; i < s->n_inputs; i++) {
        digest_key(d, s->inputs[i].name);
        digest_key(d, s->inputs[i].hex);
    }
    digest_hex(d, hex);
    digest_free(d);
    snprintf(name, sizeof name, "%zu files", s->n_inputs);
    cJSON *in = json_add_object(a, NULL, e);
    return in && !json_add_string(in, "name", name, e) ? add_digest(in, "digest", hex, e) : -1;
}

static int add_inputs(cJSON *o, const struct sidecar *s, struct err *e)
{
    enum { LISTED = 8 << 20, EACH = 100 }; // bytes; half of what json_read_file takes
    size_t bytes = 0;
    cJSON *a = json_add_array(o, "inputs", e);
    if (!a)
        return -1;
    for (size_t i = 0; i < s->n_inputs; i++)
        bytes += 2 * strlen(s->inputs[i].name) + EACH; // with escapes
    if (bytes > LISTED)
        return add_input_sum(a, s, e);
    for (size_t i = 0; i < s->n_inputs; i++) {
        cJSON *in = json_add_object(a, NULL, e);
        if (!in || json_add_string(in, "name", s->inputs[i].name, e) ||
            add_digest(in, "digest", s->inputs[i].hex, e))
            return -1;
    }
    return 0;
}

static int add_all(cJSON *o, const struct sidecar *s, struct err *e)
{
    if (json_add_string(o, "tool", s->tool ? s->tool : "", e) ||
        json_add_string(o, "version", s->version ? s->version : "", e))
        return -1;
    cJSON *args = json_add_array(o, "arguments", e);
    if (!args)
        return -1;
    for (size_t i = 0; i < s->n_args; i++)
        if (json_add_string(args, NULL, s->args[i], e))
            return -1;
    if (json_add_u64(o, "seed", s->seed, e) || json_add_u64(o, "rows", s->rows, e) ||
        add_digest(o, "keys", s->keys, e) || add_digest(o, "data", s->data, e) ||
        add_digest(o, "sample", s->sample, e) || add_digest(o, "model", s->model, e) ||
        sidecar_put_logits(o, s, e) || (s->of && json_add_string(o, "of", s->of, e)) ||
        (s->partial && json_add_bool(o, "partial", true, e)) || sidecar_put_failed(o, s, e))
        return -1;
    return add_inputs(o, s, e);
}

int sidecar_write(const char *npy_path, const struct sidecar *s, struct err *e)
{
    if (io_is_stream(npy_path))
        return 0;
    char *path = name_of(npy_path, e);
    cJSON *o = path ? cJSON_CreateObject() : NULL;
    int rc = o ? add_all(o, s, e) : -1;
    if (path && !o)
        err_set(e, "out of memory");
    if (rc == 0)
        rc = json_write_file(path, o, e);
    cJSON_Delete(o);
    free(path);
    return rc;
}

int sidecar_check(const char *npy_path, struct err *e)
{
    char *path = name_of(npy_path, e);
    int r = path ? io_check_existing(path, e) : -1;
    free(path);
    return r;
}

static int get_digest(const cJSON *o, const char *name, char hex[DIGEST_HEX], struct err *e)
{
    const char *s = "";
    if (json_string(o, name, JSON_OPTIONAL, &s, e) < 0)
        return -1;
    if (*s && !digest_is_hex(s))
        return err_set(e, "'%s' is not a digest", name);
    strcpy(hex, s);
    return 0;
}

static int get_string(const cJSON *o, const char *name, char **out, struct err *e)
{
    const char *s = "";
    if (json_string(o, name, JSON_OPTIONAL, &s, e) < 0)
        return -1;
    *out = mem_strdup(s, e);
    return *out ? 0 : -1;
}

static int get_args(const cJSON *o, struct sidecar *s, struct err *e)
{
    const cJSON *a = NULL;
    if (json_array(o, "arguments", JSON_OPTIONAL, &a, e) < 0)
        return -1;
    if (!a || !a->child)
        return 0;
    s->args = mem_alloc((size_t)cJSON_GetArraySize(a), sizeof *s->args, e);
    if (!s->args)
        return -1;
    for (const cJSON *c = a->child; c; c = c->next) {
        if (!cJSON_IsString(c))
            return err_set(e, "'arguments' is not a list of strings");
        if (add_arg(s, c->valuestring, e))
            return -1;
    }
    return 0;
}

static int get_inputs(const cJSON *o, struct sidecar *s, struct err *e)
{
    const cJSON *a = NULL;
    if (json_array(o, "inputs", JSON_OPTIONAL, &a, e) < 0)
        return -1;
    for (const cJSON *c = a ? a->child : NULL; c; c = c->next) {
        const char *name;
        char hex[DIGEST_HEX];
        if (!cJSON_IsObject(c))
            return err_set(e, "'inputs' is not a list of objects");
        if (json_string(c, "name", JSON_REQUIRED, &name, e) < 0 ||
            get_digest(c, "digest", hex, e) || sidecar_add_input(s, name, hex, e))
            return -1;
    }
    return 0;
}

// Other words than those known tell nothing.
static int get_of(const cJSON *o, struct sidecar *s, struct err *e)
{
    static const char *const known[] = {"image", "text"};
    const char *of = "";
    if (json_string(o, "of", JSON_OPTIONAL, &of, e) < 0)
        return -1;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(of, known[i]))
            s->of = known[i];
    return 0;
}

static int get_all(const cJSON *o, struct sidecar *s, struct err *e)
{
    if (!cJSON_IsObject(o))
        return err_set(e, "not a JSON object");
    if (get_string(o, "tool", &s->tool, e) || get_string(o, "version", &s->version, e) ||
        json_u64(o, "seed", JSON_OPTIONAL, &s->seed, e) < 0 ||
        json_u64(o, "rows", JSON_REQUIRED, &s->rows, e) < 0 || get_digest(o, "keys", s->keys, e) ||
        get_digest(o, "data", s->data, e) || get_digest(o, "sample", s->sample, e) ||
        get_digest(o, "model", s->model, e) || sidecar_get_logits(o, s, e) || get_of(o, s, e) ||
        json_bool(o, "partial", JSON_OPTIONAL, &s->partial, e) < 0)
        return -1;
    return sidecar_get_failed(o, s, e) || get_args(o, s, e) || get_inputs(o, s, e) ? -1 : 0;
}

int sidecar_read(const char *npy_path, struct sidecar *s, struct err *e)
{
    *s = (struct sidecar){0};
    char *path = name_of(npy_path, e);
    if (!path)
        return -1;
    if (strcmp(npy_path, "-") == 0 || (access(path, F_OK) && errno == ENOENT)) {
        free(path);
        return 0;
    }
    cJSON *o = json_read_file(path, NULL, e);
    int rc = o ? 1 : -1;
    if (o && get_all(o, s, e)) {
        rc = err_wrap(e, "%s", path);
        sidecar_release(s);
    }
    cJSON_Delete(o);
    free(path);
    return rc;
}

int sidecar_set_data(struct sidecar *s, struct npy_writer *w, struct err *e)
{
    s->rows = w->rows;
    npy_writer_digest(w, s->data);
    return npy_writer_sample(w, s->sample, e);
}

// True if the sidecar was written for this array. A crash between writing the two, or another
// program, can leave a new one beside an old one.
static int check_data(const char *npy_path, const struct sidecar *s, struct err *e)
{
    enum { SMALL = 1 << 20 };
    char hex[DIGEST_HEX];
    struct npy a;
    if (!*s->sample && !*s->data)
        return 0;
    if (npy_open(&a, npy_path, e))
        return -1;
    const char *want = *s->sample ? s->sample : s->data;
    size_t bytes = a.h.rows * a.h.row_bytes;
    bool small = bytes <= SMALL;
    if (*s->sample)
        npy_sample(&a, hex);
    else if (small)
        digest_bytes(a.data, bytes, hex);
    int r = (*s->sample || small) && strcmp(hex, want) != 0;
    npy_close(&a);
    return r ? err_set(e,
                       "%s is not the array that its sidecar was written for: make it again, or "
                       "remove the sidecar if the array is right",
                       npy_path)
             : 0;
}

int sidecar_open(const char *npy_path, uint64_t rows, struct sidecar *s, struct err *e)
{
    int rc = sidecar_read(npy_path, s, e);
    if (rc <= 0)
        return rc;
    if (s->rows == rows) {
        if (check_data(npy_path, s, e) == 0)
            return rc;
        sidecar_release(s);
        return -1;
    }
    err_set(e, "%s has %llu rows, but its sidecar says %llu: one of them is stale", npy_path,
            (unsigned long long)rows, (unsigned long long)s->rows);
    sidecar_release(s);
    return -1;
}

bool sidecar_same_command(const struct sidecar *a, const struct sidecar *b)
{
    if (!a->tool || !b->tool || strcmp(a->tool, b->tool) != 0 ||
        strcmp(a->version, b->version) != 0 || a->seed != b->seed || a->n_args != b->n_args)
        return false;
    for (size_t i = 0; i < a->n_args; i++)
        if (strcmp(a->args[i], b->args[i]) != 0)
            return false;
    return true;
}

bool sidecar_same_inputs(const struct sidecar *a, const struct sidecar *b)
{
    if (a->n_inputs != b->n_inputs)
        return false;
    for (size_t i = 0; i < a->n_inputs; i++)
        if (strcmp(a->inputs[i].name, b->inputs[i].name) != 0 || !*a->inputs[i].hex ||
            strcmp(a->inputs[i].hex, b->inputs[i].hex) != 0)
            return false;
    return true;
}

static int same(const char *what, const char *a_name, const char *a, const char *b_name,
                const char *b, struct err *e)
{
    if (!*a || !*b)
        return 0;
    if (strcmp(a, b) == 0)
        return 1;
    return err_set(e, "%s and %s %s (%.8s..., %.8s...)", a_name, b_name, what, a, b);
}

int sidecar_same_keys(const char *a_name, const struct sidecar *a, const char *b_name,
                      const struct sidecar *b, struct err *e)
{
    // A file without sidecar has an empty one, with no tool: its rows are not checked.
    if (a->tool && b->tool && a->rows != b->rows)
        return err_set(e, "%s has %llu rows, but %s has %llu", a_name, (unsigned long long)a->rows,
                       b_name, (unsigned long long)b->rows);
    return same("are not of the same samples: their key digests differ", a_name, a->keys, b_name,
                b->keys, e);
}

int sidecar_same_model(const char *a_name, const struct sidecar *a, const char *b_name,
                       const struct sidecar *b, struct err *e)
{
    return same("come from different models", a_name, a->model, b_name, b->model, e);
}
