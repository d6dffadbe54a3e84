// SPDX-License-Identifier: Apache-2.0
#include "balance/joins-file.h"

#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'C', 'I', 'D', 'J', 'O', 'I', 'N', '1'};

struct file_head {
    char magic[8];
    char options[40], rows[40];
    uint64_t part, parts, n;
};

enum { MOST_PARTS = 1 << 20 };

int balance_joins_save(const char *path, const struct balance_tag *tag, uint64_t part,
                       uint64_t parts, const void *joins, size_t n, struct err *e)
{
    struct out o = {.fd = -1};
    struct file_head h = {.part = part, .parts = parts, .n = n};
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.options, tag->options, sizeof tag->options);
    memcpy(h.rows, tag->rows, sizeof tag->rows);
    uint64_t sum = digest_u64_two(&h, sizeof h, joins, n);
    int r = out_open(&o, path, e) || out_write(&o, &h, sizeof h, e) || out_write(&o, joins, n, e) ||
            out_write(&o, &sum, sizeof sum, e) || out_commit(&o, e);
    out_abort(&o);
    return r ? -1 : 0;
}

static int parse(struct balance_joins_file *f, const struct balance_tag *tag, struct err *e)
{
    struct file_head h;
    uint64_t sum;
    if (f->map.n < sizeof magic || memcmp(f->map.data, magic, sizeof magic) != 0)
        return err_set(e, "not a part of sem-balance, or of another version");
    if (f->map.n < sizeof h + sizeof sum)
        return err_set(e, "damaged part");
    memcpy(&h, f->map.data, sizeof h);
    memcpy(&sum, f->map.data + f->map.n - sizeof sum, sizeof sum);
    if (h.n != f->map.n - sizeof h - sizeof sum || h.parts > MOST_PARTS || h.part >= h.parts ||
        digest_u64(f->map.data, f->map.n - sizeof sum) != sum)
        return err_set(e, "damaged part");
    h.options[sizeof h.options - 1] = h.rows[sizeof h.rows - 1] = '\0';
    if (strcmp(h.rows, tag->rows) != 0)
        return err_set(e, "a part of other inputs");
    if (strcmp(h.options, tag->options) != 0)
        return err_set(e, "a part that was made with other options");
    f->joins = f->map.data + sizeof h;
    f->n = h.n;
    f->part = h.part;
    f->parts = h.parts;
    return 0;
}

int balance_joins_open(struct balance_joins_file *f, const char *path,
                       const struct balance_tag *tag, struct err *e)
{
    *f = (struct balance_joins_file){0};
    if (map_open(&f->map, path, e))
        return -1;
    if (parse(f, tag, e) == 0)
        return 0;
    balance_joins_close(f);
    return err_wrap(e, "%s", path);
}

void balance_joins_close(struct balance_joins_file *f)
{
    map_close(&f->map);
    *f = (struct balance_joins_file){0};
}

static bool number(const char **text, uint64_t *to)
{
    *to = 0;
    const char *from = *text;
    for (; **text >= '0' && **text <= '9' && *to <= MOST_PARTS; ++*text)
        *to = *to * 10 + (uint64_t)(**text - '0');
    return *text > from && *to >= 1 && *to <= MOST_PARTS;
}

bool balance_part_parse(const char *text, uint64_t *part, uint64_t *parts)
{
    bool good =
        number(&text, part) && *text++ == '/' && number(&text, parts) && !*text && *part <= *parts;
    *part -= good;
    return good;
}
