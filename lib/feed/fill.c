// SPDX-License-Identifier: Apache-2.0
// Fills a batch from its streams (feed/data-run.h).
#include "feed/data-run.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "train/drop.h"

int data_sweep(void *ctx, const struct samples_reader *stream, struct err *e)
{
    struct data_stream *p = ctx;
    if (train_names_check(&p->names, stream, e))
        return -1;
    for (int i = 0; i < ROWS_FOLDERS; i++)
        if (p->has[i] && train_rows_sweep(&p->rows[i], stream, e))
            return -1;
    return 0;
}

size_t data_mixed(const struct train_data *d)
{
    return d->set.mix ? d->set.mix->n : 0;
}

const char *data_folder(const struct train_data *d, size_t i, int k, uint64_t epoch)
{
    const struct train_stream *of = data_mixed(d) ? &d->set.streams[i % data_mixed(d)] : NULL;
    if (k == ROWS_LABELS)
        return of ? of->labels : d->set.labels;
    const struct teacher_dirs *dirs = of ? of->dirs[k % 2] : d->set.dirs[k % 2];
    return dirs ? teacher_dir(dirs, (size_t)k / 2, dirs->views ? epoch % dirs->views : 0) : NULL;
}

bool data_takes(const struct train_data *d, int tower)
{
    enum loss_towers only = d->set.towers;
    return !only || (only == LOSS_IMAGE_TOWER) == (tower == CLIP_VISION);
}

// "00000.tar\t17\tKEY", of a mixture "SET/00000.tar..."
static int add_key(struct batch_slot *s, const char *set, const struct samples_record *r,
                   struct err *e)
{
    void *p = s->keys;
    size_t n = strlen(set) + strlen(r->shard_name) + strlen(r->key) + 25;
    if (mem_grow(&p, &s->cap_keys, s->n_keys + n, 1, e))
        return -1;
    s->keys = p;
    s->n_keys +=
        (size_t)snprintf(s->keys + s->n_keys, n, "%s%s%s\t%llu\t%s\n", set, *set ? "/" : "",
                         r->shard_name, (unsigned long long)r->ordinal, r->key);
    return 0;
}

static int lacks(struct data_stream *p, enum train_lack what)
{
    p->usable.lack[what]++;
    *(what == LACK_LABEL          ? &p->counts.no_label
      : what <= LACK_TEACHER_TEXT ? &p->counts.no_teacher
                                  : &p->counts.incomplete) += 1;
    return 0;
}

// The tokens of a caption into row i: 1, 0 when it cannot be used.
static int take_caption(struct train_data *d, struct data_stream *p, struct batch_slot *s, size_t i,
                        const struct samples_record *r, struct err *e)
{
    size_t context = (size_t)d->cfg.context, n;
    bool own = i >= d->first && i - d->first < d->own;
    enum text_status t =
        tokenizer_encode(d->tok, r->caption, r->caption_bytes, context,
                         s->tokens + (own ? i - d->first : d->own) * context, &n, e);
    if (t == TEXT_ERROR)
        return -1;
    return t == TEXT_OK ? 1 : lacks(p, LACK_UTF8);
}

// Sample into row i: 1, or 0 when it lacks something. Of other ranks' rows the picture is not kept.
static int take(struct train_data *d, struct data_stream *p, struct batch_slot *s, size_t i,
                const struct samples_record *r, struct err *e)
{
    bool own = i >= d->first && i - d->first < d->own;
    bool picture = data_takes(d, CLIP_VISION), caption = data_takes(d, CLIP_TEXT);
    if (picture && !r->image)
        return lacks(p, LACK_PICTURE);
    if (caption && !r->caption)
        return lacks(p, LACK_CAPTION);
    for (int k = 0; k < ROWS_FOLDERS; k++) {
        size_t at = i * d->dim[k];
        void *to = k == ROWS_LABELS ? (void *)(s->labels + at) : s->teacher[k] + at;
        int rc = d->has[k] ? train_rows_get(&p->rows[k], r, to, e) : 1;
        if (rc < 0)
            return -1;
        if (!rc)
            return lacks(p, k == ROWS_LABELS ? LACK_LABEL : (enum train_lack)(k % 2));
    }
    if (picture && r->image_bytes != d->picture)
        return err_set(e, "a picture of %zu bytes where the model takes %zu", r->image_bytes,
                       d->picture);
    int rc = caption ? take_caption(d, p, s, i, r, e) : 1;
    if (rc <= 0)
        return rc;
    if (own)
        s->draw[i - d->first] = train_drop_draw(d->set.seed, p->source.pos.epoch, r->key);
    if (own && picture)
        memcpy(s->pixels + (i - d->first) * d->picture, r->image, d->picture);
    return 1;
}

// The next sample, as train_source_next gives it; an epoch that is over must have had a usable one.
static int next_sample(struct data_stream *p, struct samples_record *r, bool *fresh, struct err *e)
{
    int rc = train_source_next(&p->source, r, fresh, e);
    if (rc >= 0 && p->source.pos.epoch != p->epoch &&
        train_usable_end(&p->usable, p->epoch_name, e))
        return -1;
    p->epoch = p->source.pos.epoch;
    if (rc > 0 && *fresh)
        snprintf(p->epoch_name, sizeof p->epoch_name, "%s", p->source.name);
    return rc;
}

// Fills the stream's rows: 1, 0 at the end of the data, -1.
static int fill_stream(struct train_data *d, struct data_stream *p, struct batch_slot *s,
                       struct err *e)
{
    uint32_t shards = 0;
    size_t sets = data_mixed(d);
    const char *set = sets ? d->set.mix->set[(size_t)(p - d->streams) % sets].name : "";
    for (size_t i = p->row; i < p->end;) {
        struct samples_record r;
        bool fresh;
        int rc = next_sample(p, &r, &fresh, e);
        if (rc <= 0) {
            d->left = i - p->row;
            return rc;
        }
        if (fresh)
            train_names_restart(&p->names);
        for (int k = 0; k < ROWS_FOLDERS && fresh; k++)
            if (d->has[k]) {
                train_rows_restart(&p->rows[k]);
                p->rows[k].dir = data_folder(d, (size_t)(p - d->streams), k, p->epoch);
            }
        if ((fresh || r.shard >= shards) && data_sweep(p, p->source.reader, e))
            return -1;
        shards = r.shard + 1;
        p->counts.read++;
        if ((rc = take(d, p, s, i, &r, e)) < 0 || (rc && add_key(s, set, &r, e)))
            return err_wrap(e, "%s: record %llu (%s)", r.shard_name, (unsigned long long)r.ordinal,
                            r.key);
        p->counts.used += rc > 0;
        p->usable.used += rc > 0;
        i += rc > 0;
    }
    return 1;
}

// Rows of each set in the next batch, or in one piece of it, from row `at`; the sets one after the
// other.
static void deal_rows(const struct mix *m, struct data_stream *streams, size_t at, size_t n)
{
    uint64_t used[MIX_MOST];
    size_t rows[MIX_MOST];
    for (size_t i = 0; i < m->n; i++)
        used[i] = streams[i].counts.used;
    mix_deal(m, used, n, rows);
    for (size_t i = 0; i < m->n; i++) {
        streams[i].row = at;
        streams[i].end = at += rows[i];
    }
}

static void deal_pieces(struct train_data *d)
{
    size_t sets = data_mixed(d), n = d->set.dealt ? d->set.batch / d->set.dealt : d->set.batch;
    for (size_t i = 0; sets && i < d->n_streams; i += sets)
        deal_rows(d->set.mix, &d->streams[i], (d->first_stream + i) / sets * n, n);
}

int data_fill(struct train_data *d, struct batch_slot *s, struct err *e)
{
    deal_pieces(d);
    s->n_keys = 0;
    for (size_t i = 0; i < d->n_streams; i++) {
        struct data_stream *p = &d->streams[i];
        int rc = fill_stream(d, p, s, e);
        if (rc <= 0)
            return rc;
        train_source_pos(&p->source, &s->places[i].pos);
        s->places[i].counts = p->counts;
    }
    s->b.keys = s->keys;
    s->b.n_keys = s->n_keys;
    return 1;
}
