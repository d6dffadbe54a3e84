// SPDX-License-Identifier: Apache-2.0
#include "system/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "system/signals.h"

enum { LINE_MAX_CHARS = 1200, BAR_CELLS = 24 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void log_init(struct log *l, FILE *to, const struct cli *cli, const struct cli_common *common)
{
    *l = (struct log){.to = to,
                      .tool = cli->tool,
                      .quiet = common->quiet,
                      .verbose = common->verbose,
                      .start = clock_seconds()};
    bool terminal = isatty(fileno(to));
    l->progress = common->progress != CLI_PROGRESS_NEVER && !common->quiet;
    l->bar = l->progress && (terminal || common->progress == CLI_PROGRESS_ALWAYS);
}

static void erase_bar(struct log *l)
{
    if (l->bar_chars)
        fprintf(l->to, "\r%*s\r", l->bar_chars, "");
    l->bar_chars = 0;
}

__attribute__((format(printf, 3, 0))) static void say(struct log *l, const char *prefix,
                                                      const char *fmt, va_list ap)
{
    char line[LINE_MAX_CHARS];
    vsnprintf(line, sizeof line, fmt, ap);
    err_strip_controls(line);
    pthread_mutex_lock(&lock);
    erase_bar(l);
    fprintf(l->to, "%s: %s%s\n", l->tool, prefix, line);
    fflush(l->to);
    pthread_mutex_unlock(&lock);
}

void log_error(struct log *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(l, "", fmt, ap);
    va_end(ap);
}

void log_warn(struct log *l, const char *fmt, ...)
{
    if (l->quiet)
        return;
    va_list ap;
    va_start(ap, fmt);
    say(l, "warning: ", fmt, ap);
    va_end(ap);
}

void log_note(struct log *l, const char *fmt, ...)
{
    if (l->quiet)
        return;
    va_list ap;
    va_start(ap, fmt);
    say(l, "", fmt, ap);
    va_end(ap);
}

void log_detail(struct log *l, const char *fmt, ...)
{
    if (!l->verbose || l->quiet)
        return;
    va_list ap;
    va_start(ap, fmt);
    say(l, "", fmt, ap);
    va_end(ap);
}

// ---- progress

static double interval(const struct log *l)
{
    return l->bar ? 0.2 : 60;
}

void progress_start(struct progress *p, struct log *l, uint64_t total, const char *unit)
{
    *p = (struct progress){.log = l, .unit = unit, .total = total, .start = clock_seconds()};
    p->next = p->start + interval(l);
}

static void time_text(char *to, size_t room, double seconds)
{
    unsigned long s = seconds > 0 ? (unsigned long)seconds : 0;
    if (s >= 3600)
        snprintf(to, room, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(to, room, "%lu:%02lu", s / 60, s % 60);
}

// "[#####.....]  42% 4200/10000 samples 710/s 0:08 left"
static void progress_line(const struct progress *p, char *line, size_t room)
{
    char bar[BAR_CELLS + 16] = "", left[32] = "", cells[BAR_CELLS + 1];
    double seconds = clock_seconds() - p->start, rate = seconds > 0 ? (double)p->done / seconds : 0;
    if (p->total) {
        double share = (double)p->done / (double)p->total;
        int full = (int)((share > 1 ? 1 : share) * BAR_CELLS);
        memset(cells, '.', BAR_CELLS);
        memset(cells, '#', (size_t)full);
        cells[BAR_CELLS] = '\0';
        snprintf(bar, sizeof bar, "[%s] %3.0f%% ", cells, 100 * share);
        if (rate > 0 && p->done <= p->total) {
            char t[24];
            time_text(t, sizeof t, (double)(p->total - p->done) / rate);
            snprintf(left, sizeof left, " %s left", t);
        }
    }
    char of[32] = "";
    if (p->total)
        snprintf(of, sizeof of, "/%llu", (unsigned long long)p->total);
    snprintf(line, room, "%s%llu%s %s %.*f/s%s%s%s", p->log->bar ? bar : "",
             (unsigned long long)p->done, of, p->unit, rate < 10 ? 1 : 0, rate, left,
             p->extra[0] ? " " : "", p->extra);
}

static void progress_print(struct progress *p, bool as_bar)
{
    char line[LINE_MAX_CHARS];
    struct log *l = p->log;
    progress_line(p, line, sizeof line);
    pthread_mutex_lock(&lock);
    erase_bar(l);
    if (as_bar)
        l->bar_chars = fprintf(l->to, "%s", line);
    else
        fprintf(l->to, "%s: %s\n", l->tool, line);
    fflush(l->to);
    pthread_mutex_unlock(&lock);
}

void progress_to(struct progress *p, uint64_t done)
{
    p->done = done;
    if (signals_progress_wanted())
        progress_print(p, false);
    if (!p->log->progress)
        return;
    double t = clock_seconds();
    if (t < p->next)
        return;
    p->next = t + interval(p->log);
    progress_print(p, p->log->bar);
}

void progress_end(struct progress *p)
{
    pthread_mutex_lock(&lock);
    erase_bar(p->log);
    fflush(p->log->to);
    pthread_mutex_unlock(&lock);
}

// ---- footer

double log_seconds(const struct log *l)
{
    return clock_seconds() - l->start;
}

uint64_t log_peak_memory(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)u.ru_maxrss * 1024;
}

// The command as it was typed, read from the kernel, since the log is not given argv.
static void print_command(struct log *l)
{
    FILE *f = fopen("/proc/self/cmdline", "rb");
    if (!f)
        return;
    char line[LINE_MAX_CHARS];
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    for (size_t i = 0; i < n; i++)
        if (line[i] == '\0')
            line[i] = ' ';
    while (n && line[n - 1] == ' ')
        n--;
    line[n] = '\0';
    log_note(l, "clip-cid %s: %s", CLIPCID_VERSION, line);
}

void log_footer(struct log *l, uint64_t records, const char *counts)
{
    if (l->quiet)
        return;
    double s = log_seconds(l);
    if (l->verbose)
        print_command(l);
    log_note(l, "%s; %.1f s, %.0f/s, %.0f MB peak", counts, s, s > 0 ? (double)records / s : 0,
             (double)log_peak_memory() / 1e6);
}
