// SPDX-License-Identifier: Apache-2.0
#include "train-source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"
#include "mem.h"

// -- words

struct words {
    char **list;
    size_t n, cap;
    char *word;
    size_t n_word, cap_word;
    bool in_word;
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
static size_t put_number(struct words *w, const char *p, const uint64_t value[3], struct err *e)
{
    static const char *const names[] = {"{epoch}", "{seed}", "{skip}"};
    for (size_t i = 0; i < 3; i++) {
        char text[32];
        size_t n = strlen(names[i]);
        if (strncmp(p, names[i], n))
            continue;
        snprintf(text, sizeof text, "%" PRIu64, value[i]);
        for (const char *t = text; *t; t++)
            if (put(w, *t, e))
                return 0;
        return n;
    }
    return 0;
}

static int split(struct words *w, const char *p, const uint64_t value[3], struct err *e)
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

char **train_words(const char *command, uint64_t epoch, uint64_t seed, uint64_t skip, struct err *e)
{
    struct words w = {0};
    uint64_t value[3] = {epoch, seed, skip};
    int rc = split(&w, command, value, e);
    if (!rc && !w.n)
        rc = err_set(e, "the data command is empty");
    free(w.word);
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

// In the child: the command with `out` as its standard output. When that cannot be, errno goes to
// `status`, which a command that runs has closed.
static void become(char **words, int out, int status)
{
    if (dup2(out, STDOUT_FILENO) >= 0)
        execvp(words[0], words);
    int why = errno;
    io_write_all(status, &why, sizeof why);
    _exit(127);
}

static int open_pipes(int data[2], int status[2], struct err *e)
{
    if (pipe2(data, O_CLOEXEC))
        return err_errno(e, "cannot make a pipe");
    if (!pipe2(status, O_CLOEXEC))
        return 0;
    err_errno(e, "cannot make a pipe");
    close(data[0]);
    close(data[1]);
    return -1;
}

static int start_child(struct train_source *s, char **words, struct err *e)
{
    int data[2], status[2], why = 0;
    if (open_pipes(data, status, e))
        return -1;
    pid_t pid = fork();
    if (!pid)
        become(words, data[1], status[1]);
    if (pid < 0)
        why = errno;
    close(data[1]);
    close(status[1]);
    if (pid > 0 && io_read_full(status[0], &why, sizeof why) == sizeof why)
        waitpid(pid, NULL, 0);
    close(status[0]);
    if (why) {
        close(data[0]);
        errno = why;
        return err_errno(e, "cannot run the data command '%s'", words[0]);
    }
    s->child = pid;
    s->fd = data[0];
    return 0;
}

static int end_child(struct train_source *s, bool early, struct err *e)
{
    int status;
    pid_t pid = s->child;
    if (!pid)
        return 0;
    close(s->fd);
    s->child = 0;
    if (early)
        kill(pid, SIGTERM);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(e, "the data command");
    if (early || (WIFEXITED(status) && !WEXITSTATUS(status)))
        return 0;
    if (WIFSIGNALED(status))
        return err_set(e, "the data command of epoch %" PRIu64 " was ended by signal %d",
                       s->pos.epoch, WTERMSIG(status));
    return err_set(e, "the data command of epoch %" PRIu64 " ended with status %d", s->pos.epoch,
                   WEXITSTATUS(status));
}

static int open_command(struct train_source *s, uint64_t skip, struct err *e)
{
    char **words = train_words(s->command, s->pos.epoch, s->seed, skip, e);
    if (!words)
        return -1;
    int rc = start_child(s, words, e);
    train_words_free(words);
    if (!rc && !(s->reader = samples_open_fd(s->fd, s->name, e))) {
        struct err later;
        // What the command says of itself matters more than that its stream is short.
        if (end_child(s, false, &later))
            *e = later;
        return -1;
    }
    return rc;
}

static int drop_records(struct train_source *s, uint64_t n, const char *keys, struct err *e)
{
    struct samples_record r;
    char have[DIGEST_HEX];
    for (uint64_t i = 0; i < n; i++) {
        int rc = samples_next(s->reader, &r, e);
        if (rc <= 0)
            return rc ? -1
                      : err_set(e,
                                "%s: has %" PRIu64
                                " samples, the checkpoint was made after %" PRIu64,
                                s->name, i, n);
    }
    samples_keys(s->reader, have);
    if (keys[0] && strcmp(have, keys))
        return err_set(
            e, "%s: its first %" PRIu64 " samples are not those that the checkpoint was made with",
            s->name, n);
    return 0;
}

// The epoch s->pos.epoch from its record s->pos.records on.
static int open_epoch(struct train_source *s, struct err *e)
{
    uint64_t skip = s->pos.records;
    bool told = s->command && strstr(s->command, "{skip}");
    snprintf(s->name, sizeof s->name, s->command ? "data of epoch %" PRIu64 : "samples",
             s->pos.epoch);
    s->skipped = told && skip;
    if (s->command) {
        if (open_command(s, told ? skip : 0, e))
            return -1;
    } else if (!(s->reader = samples_open(s->path, e))) {
        return -1;
    }
    return told ? 0 : drop_records(s, skip, s->pos.keys, e);
}

// Standard input, a pipe with a name, a process substitution.
static bool read_once(const char *path)
{
    struct stat st;
    return !strcmp(path, "-") || (!stat(path, &st) && !S_ISREG(st.st_mode));
}

int train_source_open(struct train_source *s, const char *path, const char *command, uint64_t seed,
                      uint64_t epochs, const struct train_pos *pos, struct err *e)
{
    *s = (struct train_source){.path = path, .command = command, .seed = seed, .epochs = epochs};
    s->pos = *pos;
    s->once = !command && read_once(path);
    if (s->once && (pos->epoch || (epochs > 1 && epochs != UINT64_MAX)))
        return err_set(e,
                       "%s can be read only once, so it has one epoch; --data 'CMD' has as many as "
                       "you like",
                       strcmp(path, "-") ? path : "standard input");
    if (open_epoch(s, e)) {
        train_source_close(s);
        return -1;
    }
    return 0;
}

static int next_epoch(struct train_source *s, struct err *e)
{
    if (s->ended && s->ended(s->ctx, s->reader, e))
        return -1;
    samples_close(s->reader);
    s->reader = NULL;
    if (end_child(s, false, e))
        return -1;
    s->pos = (struct train_pos){.epoch = s->pos.epoch + 1};
    if (s->once || s->pos.epoch >= s->epochs)
        return 0;
    return open_epoch(s, e) ? -1 : 1;
}

int train_source_next(struct train_source *s, struct samples_record *r, bool *fresh, struct err *e)
{
    *fresh = samples_count(s->reader) == 0;
    for (;;) {
        int rc = samples_next(s->reader, r, e);
        if (rc) {
            s->pos.records += rc > 0;
            return rc;
        }
        if (!s->pos.records)
            return err_set(e, "%s: no samples", s->name);
        if ((rc = next_epoch(s, e)) <= 0)
            return rc;
        *fresh = true;
    }
}

void train_source_pos(const struct train_source *s, struct train_pos *pos)
{
    *pos = s->pos;
    pos->keys[0] = '\0';
    if (s->reader && !s->skipped)
        samples_keys(s->reader, pos->keys);
}

void train_source_close(struct train_source *s)
{
    struct err e;
    if (s->reader)
        samples_close(s->reader);
    s->reader = NULL;
    end_child(s, true, &e);
}
