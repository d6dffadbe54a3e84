// SPDX-License-Identifier: Apache-2.0
// cid-report: what a pipeline made, as one page; two runs side by side; or the ledger, counted
// again from the files.
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "system/cli.h"
#include "system/io.h"
#include "system/log.h"
#include "system/signals.h"
#include "find/set.h"
#include "report/report.h"

static const char *shards, *title;
static bool ledger_only, watch;
enum { AGAIN = 5 }; // seconds between two looks with --watch

static const struct cli_option options[] = {
    {.name = "shards",
     .type = CLI_TEXT,
     .to = &shards,
     .arg = "DIR",
     .help = "folder of the tar files, to show pictures from"},
    {.name = "title",
     .type = CLI_TEXT,
     .to = &title,
     .may_be_empty = true,
     .arg = "TEXT",
     .help = "instead of the folder's name"},
    {.name = "ledger",
     .type = CLI_FLAG,
     .to = &ledger_only,
     .help = "print the ledger's sums as text; nothing else is written"},
    {.name = "watch",
     .type = CLI_FLAG,
     .to = &watch,
     .help = "write the page anew while the folder changes, until stopped"},
};
static const struct cli cli = {
    .tool = "cid-report",
    .summary = "writes a page about a pipeline's folder, or two, and its ledger",
    .operands = "WORK_DIR [WORK_DIR]",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .min_operands = 1,
    .max_operands = 2,
};

static int write_sums(struct out *o, const char *work, struct err *e)
{
    struct path_names names;
    struct ledger l;
    char *text = NULL;
    size_t n = 0;
    if (find_names_get(&names, work, e))
        return -1;
    if (names.n == 0 && access(work, X_OK)) {
        path_names_free(&names);
        return err_errno(e, "cannot read '%s'", work);
    }
    int rc = report_ledger(work, &names, false, &l, e);
    path_names_free(&names);
    if (rc)
        return -1;
    FILE *f = open_memstream(&text, &n);
    rc = f ? ledger_print(&l, report_stages, f, e) : err_errno(e, "cannot write");
    if (f && fclose(f) && rc == 0)
        rc = err_errno(e, "cannot write");
    if (rc == 0)
        rc = out_write(o, text, n, e);
    free(text);
    ledger_release(&l);
    return rc;
}

static int write_once(const struct cli_common *c, struct log *l, const char *name, struct err *e)
{
    struct out o;
    char **work = c->operands;
    const char *both[2] = {work[0], c->n_operands > 1 ? work[1] : NULL};
    const struct report_page page = {
        .work = work[0], .title = name, .shards = shards, .log = l, .watched = watch ? AGAIN : 0};
    if (out_open(&o, c->output, e))
        return -1;
    int rc = ledger_only ? write_sums(&o, work[0], e)
             : both[1]   ? report_compare(&o, both, title, e)
                         : report_write(&o, &page, e);
    if (rc == 0)
        rc = out_commit(&o, e);
    out_abort(&o);
    return rc;
}

// A folder in which stages are at work may be between two files: that is told, and looked at again.
static int watch_folder(const struct cli_common *c, struct log *l, const char *name, struct err *e)
{
    uint64_t seen = 0;
    while (!signals_stop_wanted()) {
        uint64_t now = report_stamp(c->operands[0]);
        if (now != seen && write_once(c, l, name, e) && !signals_stop_wanted())
            log_warn(l, "%s; looking again", e->text);
        seen = now;
        for (int i = 0; i < 10 * AGAIN && !signals_stop_wanted(); i++)
            poll(NULL, 0, 100);
    }
    return write_once(c, l, name, e);
}

static int run(const struct cli_common *c, struct log *l)
{
    struct err e;
    char *work = c->operands[0], whole[PATH_MAX];
    bool two = c->n_operands > 1;
    if ((two && (ledger_only || watch || shards)) ||
        (watch && (ledger_only || io_is_stream(c->output)))) {
        log_error(l, "%s; try --help",
                  two ? "two folders go with neither --ledger, --watch nor --shards"
                      : "--watch goes with -o FILE, and not with --ledger");
        return CLI_WRONG_USAGE;
    }
    for (size_t n = strlen(work); n > 1 && work[n - 1] == '/';)
        work[--n] = '\0';
    const char *known = realpath(work, whole) ? whole : work; // "." has no name of its own
    const char *name = title ? title : *path_base(known) ? path_base(known) : known;
    if (watch)
        signals_catch_stop();
    int rc = watch ? watch_folder(c, l, name, &e) : write_once(c, l, name, &e);
    if (rc)
        log_error(l, "%s", e.text);
    return rc ? CLI_FAILED : CLI_OK;
}

int main(int argc, char **argv)
{
    struct cli_common common = CLI_COMMON_INIT;
    struct log log;
    int status;
    if (!cli_start(&cli, &common, argc, argv, &status))
        return status;
    log_init(&log, stderr, &cli, &common);
    status = run(&common, &log);
    cli_release(&cli, &common);
    return status;
}
