// SPDX-License-Identifier: Apache-2.0
#include "system/progress.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "system/io.h"
#include "system/process.h"
#include "system/signals.h"

enum { BAR_CELLS = 24, JSON_ROOM = 1600, FILE_SECONDS = 2 };

static double interval(const struct log *l)
{
    return l->json ? 1 : l->bar ? 0.2 : 60;
}

static double rate_of(const struct progress *p, double now)
{
    uint64_t mine = p->done > p->before ? p->done - p->before : 0;
    return now > p->start ? (double)mine / (now - p->start) : 0;
}

// Seconds, or -1: not known.
static double left_of(const struct progress *p, double now)
{
    double rate = rate_of(p, now);
    return p->total && rate > 0 && p->done <= p->total ? (double)(p->total - p->done) / rate : -1;
}

static void time_text(char *to, size_t room, double seconds)
{
    unsigned long s = seconds > 0 ? (unsigned long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(to, room, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(to, room, "%lu:%02lu", s / 60, s % 60);
}

void progress_text(const struct progress *p, double now, char *text)
{
    char of[32] = "", share[16] = "", left[40] = "", t[24];
    double rate = rate_of(p, now), seconds = left_of(p, now);
    if (p->total) {
        snprintf(share, sizeof share, "%3.0f%% ", 100 * (double)p->done / (double)p->total);
        snprintf(of, sizeof of, "/%llu", (unsigned long long)p->total);
    }
    if (seconds >= 0) {
        time_text(t, sizeof t, seconds);
        snprintf(left, sizeof left, " %s left", t);
    }
    snprintf(text, PROGRESS_TEXT, "%s%llu%s %s %.*f/s%s%s%s", share, (unsigned long long)p->done,
             of, p->unit, rate < 10 ? 1 : 0, rate, left, p->extra[0] ? ", " : "", p->extra);
}

int progress_json(const struct progress *p, double now, char *text, int room)
{
    char total[32] = "null", left[32] = "null", words[PROGRESS_TEXT];
    struct process self;
    process_self(&self);
    progress_text(p, now, words);
    if (p->total)
        snprintf(total, sizeof total, "%llu", (unsigned long long)p->total);
    if (left_of(p, now) >= 0)
        snprintf(left, sizeof left, "%.1f", left_of(p, now));
    int n = snprintf(text, (size_t)room,
                     "{\"tool\":\"%s\",\"unit\":\"%s\",\"done\":%llu,\"total\":%s,"
                     "\"seconds\":%.1f,\"rate\":%.1f,\"left\":%s,\"note\":\"%s\",\"text\":\"%s\","
                     "\"host\":\"%s\",\"pid\":%ld,\"time\":%lld}",
                     p->log->tool, p->unit, (unsigned long long)p->done, total, now - p->start,
                     rate_of(p, now), left, p->extra, words + strspn(words, " "), self.host,
                     (long)getpid(), (long long)time(NULL));
    return n > 0 && n < room ? n : 0;
}

// The file is replaced, so that a reader on another machine sees a whole one. It is worth nothing
// after the run, so a failure to write it is none of the run.
static void write_file(struct progress *p, double now)
{
    char text[JSON_ROOM], tmp[LOG_PATH + 8];
    int n = progress_json(p, now, text, sizeof text - 1);
    snprintf(tmp, sizeof tmp, "%s.new", p->log->progress_file);
    int fd = n ? open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    p->next_out = now + FILE_SECONDS;
    if (fd < 0)
        return;
    text[n++] = '\n';
    int rc = io_write_all(fd, text, (size_t)n);
    if (close(fd) || rc || rename(tmp, p->log->progress_file))
        unlink(tmp);
}

static void print(struct progress *p, double now, bool as_line)
{
    char text[PROGRESS_TEXT], line[JSON_ROOM], cells[BAR_CELLS + 1];
    progress_text(p, now, text);
    if (as_line) {
        log_line(p->log, text + strspn(text, " "));
        return;
    }
    if (p->log->json) {
        if (progress_json(p, now, line, sizeof line))
            log_raw(p->log, line);
        return;
    }
    double share = p->total ? (double)p->done / (double)p->total : 0;
    memset(cells, '.', BAR_CELLS);
    memset(cells, '#', (size_t)((share > 1 ? 1 : share) * BAR_CELLS));
    cells[BAR_CELLS] = '\0';
    snprintf(line, sizeof line, "%s%s%s%s", p->total ? "[" : "", p->total ? cells : "",
             p->total ? "] " : "", text);
    log_bar(p->log, line);
}

void progress_start(struct progress *p, struct log *l, uint64_t total, const char *unit)
{
    double now = clock_seconds();
    *p = (struct progress){.log = l, .unit = unit, .total = total, .start = now};
    p->next = l->json ? now : now + interval(l);
    p->next_out = now;
    progress_to(p, 0);
}

void progress_from(struct progress *p, uint64_t done)
{
    p->before = done;
    progress_to(p, done);
}

void progress_to(struct progress *p, uint64_t done)
{
    p->done = done;
    if (signals_progress_wanted())
        print(p, clock_seconds(), true);
    if (!p->log->progress && !p->log->progress_file[0])
        return;
    double now = clock_seconds();
    if (p->log->progress_file[0] && now >= p->next_out)
        write_file(p, now);
    if (!p->log->progress || now < p->next)
        return;
    p->next = now + interval(p->log);
    print(p, now, !p->log->bar && !p->log->json);
}

void progress_end(struct progress *p)
{
    double now = clock_seconds();
    if (p->log->progress_file[0])
        write_file(p, now);
    if (p->log->progress && p->log->json)
        print(p, now, false);
    log_bar(p->log, "");
}
