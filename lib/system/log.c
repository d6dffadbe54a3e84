// SPDX-License-Identifier: Apache-2.0
#include "system/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"

enum { LINE_MAX_CHARS = 1200 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void log_init(struct log *l, FILE *to, const struct cli *cli, const struct cli_common *common)
{
    *l = (struct log){.to = to,
                      .tool = cli->tool,
                      .quiet = common->quiet,
                      .verbose = common->verbose,
                      .start = clock_seconds()};
    bool terminal = isatty(fileno(to));
    const char *file = getenv("CLIP_CID_PROGRESS");
    l->progress = common->progress != CLI_PROGRESS_NEVER && !common->quiet;
    l->json = common->progress == CLI_PROGRESS_JSON;
    l->bar = l->progress && !l->json && (terminal || common->progress == CLI_PROGRESS_ALWAYS);
    if (file && !common->quiet && strlen(file) < sizeof l->progress_file)
        snprintf(l->progress_file, sizeof l->progress_file, "%s", file);
    unsetenv("CLIP_CID_PROGRESS");
}

static void erase_bar(struct log *l)
{
    if (l->bar_chars)
        fprintf(l->to, "\r%*s\r", l->bar_chars, "");
    l->bar_chars = 0;
}

void log_bar(struct log *l, const char *text)
{
    pthread_mutex_lock(&lock);
    erase_bar(l);
    if (*text)
        l->bar_chars = fprintf(l->to, "%s", text);
    fflush(l->to);
    pthread_mutex_unlock(&lock);
}

static void put_line(struct log *l, const char *before, const char *between, const char *text)
{
    pthread_mutex_lock(&lock);
    erase_bar(l);
    fprintf(l->to, "%s%s%s\n", before, between, text);
    fflush(l->to);
    pthread_mutex_unlock(&lock);
}

void log_line(struct log *l, const char *text)
{
    put_line(l, l->tool, ": ", text);
}

void log_raw(struct log *l, const char *text)
{
    put_line(l, "", "", text);
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
