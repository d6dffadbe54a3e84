// SPDX-License-Identifier: Apache-2.0
#include "feed/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"

// -- words

struct words {
    char **list;
    size_t n, cap;
    char *word;
    size_t n_word, cap_word;
    bool in_word;
    bool used[N_NUMBERS];
};

static int put(struct words *w, char c, struct err *e)
{
    void *p = w->word;
    int rc = mem_grow(&p, &w->cap_word, w->n_word + 1, 1, e);
    w->word = p;
    if (!rc)
        w->word[w->n_word++] = c;
    w->in_word = true;
    return rc;
}

static int end_word(struct words *w, struct err *e)
{
    if (!w->in_word)
        return 0;
    void *p = w->list;
    if (put(w, '\0', e) || mem_grow(&p, &w->cap, w->n + 2, sizeof *w->list, e)) {
        w->list = p;
        return -1;
    }
    w->list = p;
    w->list[w->n++] = w->word;
    w->list[w->n] = NULL;
    w->word = NULL;
    w->n_word = w->cap_word = 0;
    w->in_word = false;
    return 0;
}

// Puts the number that a {name} at p stands for; the length of the name, 0 when p is none.
static size_t put_number(struct words *w, const char *p, const uint64_t value[N_NUMBERS],
                         struct err *e)
{
    static const char *const names[N_NUMBERS] = {
        [NUMBER_EPOCH] = "{epoch}", [NUMBER_SEED] = "{seed}",   [NUMBER_SKIP] = "{skip}",
        [NUMBER_PART] = "{part}",   [NUMBER_PARTS] = "{parts}", [NUMBER_VIEW] = "{view}"};
    for (size_t i = 0; i < N_NUMBERS; i++) {
        char text[32];
        size_t n = strlen(names[i]);
        if (strncmp(p, names[i], n))
            continue;
        snprintf(text, sizeof text, "%" PRIu64, value[i]);
        for (const char *t = text; *t; t++)
            if (put(w, *t, e))
                return 0;
        w->used[i] = true;
        return n;
    }
    return 0;
}

static int split(struct words *w, const char *p, const uint64_t value[N_NUMBERS], struct err *e)
{
    char quote = 0;
    while (*p) {
        size_t n = *p == '{' && quote != '\'' ? put_number(w, p, value, e) : 0;
        int rc = 0;
        if (n) {
            p += n;
            continue;
        }
        if (quote ? *p == quote : *p == '\'' || *p == '"') {
            quote = quote ? 0 : *p;
            w->in_word = true;
        } else if (*p == '\\' && quote != '\'' && p[1]) {
            rc = put(w, *++p, e);
        } else if (!quote && (*p == ' ' || *p == '\t' || *p == '\n')) {
            rc = end_word(w, e);
        } else {
            rc = put(w, *p, e);
        }
        if (rc)
            return -1;
        p++;
    }
    if (quote)
        return err_set(e, "the data command ends inside a quotation");
    return end_word(w, e);
}

char **train_words(const char *command, const uint64_t value[N_NUMBERS], bool used[N_NUMBERS],
                   struct err *e)
{
    struct words w = {0};
    int rc = split(&w, command, value, e);
    if (!rc && !w.n)
        rc = err_set(e, "the data command is empty");
    free(w.word);
    memcpy(used, w.used, sizeof w.used);
    if (!rc)
        return w.list;
    train_words_free(w.list);
    return NULL;
}

void train_words_free(char **words)
{
    for (size_t i = 0; words && words[i]; i++)
        free(words[i]);
    free(words);
}

// -- the stream

static int end_command(struct train_source *s, enum child_end how, struct err *e)
{
    return train_child_end(&s->child, how, e) ? err_wrap(e, "%s", s->name) : 0;
}

// What the command says of itself matters more than that its stream is short.
static int command_failed(struct train_source *s, struct err *e)
{
    struct err later;
    if (end_command(s, CHILD_FAILED, &later))
        *e = later;
    return -1;
}

static int open_command(struct train_source *s, struct err *e)
{
    const uint64_t value[N_NUMBERS] = {
        [NUMBER_EPOCH] = s->pos.epoch,
        [NUMBER_SEED] = s->set.seed,
        [NUMBER_SKIP] = s->pos.records,
        [NUMBER_PART] = s->set.part,
        [NUMBER_PARTS] = s->set.parts,
        [NUMBER_VIEW] = s->set.views ? s->pos.epoch % s->set.views : 0,
    };
    bool used[N_NUMBERS];
    char **words = train_words(s->set.command, value, used, e);
    if (!words)
        return -1;
    s->told = used[NUMBER_SKIP];
    int rc = train_child_start(&s->child, words, e);
    train_words_free(words);
    if (rc || train_child_wait_output(&s->child, e))
        return -1;
    s->reader = samples_open_fd(s->child.fd, s->name, e);
    return s->reader ? 0 : command_failed(s, e);
}

// The teacher has seen the pictures of one view, and these must be the same.
static int check_view(const struct train_source *s, struct err *e)
{
    const struct samples_header *h = samples_header(s->reader);
    uint64_t want = s->set.views ? s->pos.epoch % s->set.views : 0;
    if (!s->set.views || strcmp(h->tool, "shard-read") != 0)
        return 0;
    if (strcmp(h->crop, "random") != 0 && !h->flip && !(h->jitter_prob > 0) && !(h->gray > 0))
        return err_set(
            e, "%s: its pictures have no views: shard-read makes them with --crop random", s->name);
    uint64_t have = h->has_view ? h->view : h->epoch;
    return have == want ? 0
                        : err_set(e,
                                  "%s: its pictures are of view %" PRIu64 ", the teacher's rows of "
                                  "view %" PRIu64 ": give shard-read --view {view}",
                                  s->name, have, want);
}

// The stream of epoch s->pos.epoch; what stands before s->pos is passed over when the first sample
// is asked for.
static int open_epoch(struct train_source *s, struct err *e)
{
    int n = snprintf(s->name, sizeof s->name, s->set.command ? "data of epoch %" PRIu64 : "samples",
                     s->pos.epoch);
    if (s->set.parts)
        snprintf(s->name + n, sizeof s->name - (size_t)n, ", part %" PRIu64 "/%" PRIu64,
                 s->set.part, s->set.parts);
    s->told = false;
    s->behind = s->pos.records;
    s->unknown = false;
    if (s->set.command)
        return open_command(s, e) || check_view(s, e) ? -1 : 0;
    s->reader = samples_open(s->set.path, e);
    return s->reader ? check_view(s, e) : -1;
}

static int other_samples(const struct train_source *s, struct err *e)
{
    return err_set(
        e, "%s: its first %" PRIu64 " samples are not those that the checkpoint was made with",
        s->name, s->behind);
}

static int too_few(const struct train_source *s, uint64_t n, struct err *e)
{
    return err_set(e, "%s: has %" PRIu64 " samples, the checkpoint was made after %" PRIu64,
                   s->name, n, s->behind);
}

static int check_keys(const struct train_source *s, const char *have, struct err *e)
{
    return s->pos.keys[0] && strcmp(have, s->pos.keys) ? other_samples(s, e) : 0;
}

// Reads what a resumed run has had, and compares its keys.
static int drop_records(struct train_source *s, struct err *e)
{
    struct samples_record r;
    char have[DIGEST_HEX];
    for (uint64_t i = 0; i < s->behind; i++) {
        int rc = atomic_load(&s->stopped) ? err_set(e, "stopped") : samples_next(s->reader, &r, e);
        if (rc <= 0)
            return rc ? -1 : too_few(s, i, e);
    }
    samples_chain(s->reader, have);
    return check_keys(s, have, e);
}

// The command has left it out; a shard-read says which samples these were. `have`: the chain before
// the first sample that came.
static int check_skipped(struct train_source *s, const char *have, struct err *e)
{
    uint64_t n;
    s->unknown = !samples_skipped(s->reader, &n);
    if (s->unknown) {
        atomic_store(&s->ever_unknown, true);
        return 0;
    }
    if (n > s->behind)
        return other_samples(s, e);
    return n < s->behind ? too_few(s, n, e) : check_keys(s, have, e);
}

// The next sample of the open stream; before the first one, what a resumed run has had is seen to.
static int next_record(struct train_source *s, struct samples_record *r, struct err *e)
{
    char before[DIGEST_HEX];
    bool skipped = s->behind && s->told;
    if (s->behind && !skipped && drop_records(s, e))
        return -1;
    int rc = samples_next(s->reader, r, e);
    if (rc >= 0 && skipped) {
        samples_chain_before(s->reader, before);
        if (check_skipped(s, before, e))
            return -1;
    }
    s->behind = 0;
    return rc;
}

// Standard input, a pipe with a name, a process substitution.
static bool read_once(const char *path)
{
    struct stat st;
    return !strcmp(path, "-") || (!stat(path, &st) && !S_ISREG(st.st_mode));
}

int train_source_open(struct train_source *s, const struct train_source_set *set,
                      const struct train_pos *pos, struct err *e)
{
    *s = (struct train_source){.set = *set, .pos = *pos};
    train_child_init(&s->child);
    s->once = !set->command && read_once(set->path);
    if (s->once && (pos->epoch || (set->epochs > 1 && set->epochs != UINT64_MAX)))
        return err_set(e,
                       "%s can be read only once, so it has one epoch; --data 'CMD' has as many as "
                       "you like",
                       strcmp(set->path, "-") ? set->path : "standard input");
    return open_epoch(s, e);
}

static int next_epoch(struct train_source *s, struct err *e)
{
    if (s->ended && s->ended(s->ctx, s->reader, e))
        return -1;
    samples_close(s->reader);
    s->reader = NULL;
    if (end_command(s, CHILD_DONE, e))
        return -1;
    s->pos = (struct train_pos){.epoch = s->pos.epoch + 1};
    if (s->once || s->pos.epoch >= s->set.epochs)
        return 0;
    return open_epoch(s, e) ? -1 : 1;
}

int train_source_next(struct train_source *s, struct samples_record *r, bool *fresh, struct err *e)
{
    *fresh = !s->begun;
    s->begun = true;
    for (;;) {
        int rc = next_record(s, r, e);
        // A stream that is cut off was cut off by its command: how that ended says why.
        if (rc < 0)
            return s->set.command && samples_failed(s->reader) ? command_failed(s, e) : -1;
        if (rc) {
            s->pos.records++;
            return rc;
        }
        if (!s->pos.records)
            return err_set(e,
                           "%s: no samples: the shards are empty, or --keep, --skip, --limit or "
                           "--part of shard-read left all of them out",
                           s->name);
        if ((rc = next_epoch(s, e)) <= 0)
            return rc;
        *fresh = true;
    }
}

void train_source_pos(const struct train_source *s, struct train_pos *pos)
{
    *pos = s->pos;
    pos->keys[0] = '\0';
    if (s->reader && !s->unknown)
        samples_chain(s->reader, pos->keys);
}

void train_source_stop(struct train_source *s, int sig)
{
    atomic_store(&s->stopped, true);
    train_child_stop(&s->child, sig);
}

void train_source_close(struct train_source *s)
{
    if (s->reader)
        samples_close(s->reader);
    s->reader = NULL;
    train_child_release(&s->child);
}
