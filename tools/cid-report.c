// SPDX-License-Identifier: Apache-2.0
// cid-report: what a pipeline made, as one page; or its ledger, counted again from the files.
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "system/cli.h"
#include "system/io.h"
#include "system/log.h"
#include "find/set.h"
#include "report/report.h"

static const char *shards, *title;
static bool ledger_only;

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
};
static const struct cli cli = {
    .tool = "cid-report",
    .summary = "writes a page about a pipeline's folder, and its ledger",
    .operands = "WORK_DIR",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .min_operands = 1,
    .max_operands = 1,
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

int main(int argc, char **argv)
{
    struct cli_common common = CLI_COMMON_INIT;
    struct log log;
    struct out o;
    struct err e;
    int status;
    if (!cli_start(&cli, &common, argc, argv, &status))
        return status;
    log_init(&log, stderr, &cli, &common);
    char *work = common.operands[0], whole[PATH_MAX];
    for (size_t n = strlen(work); n > 1 && work[n - 1] == '/';)
        work[--n] = '\0';
    const char *known = realpath(work, whole) ? whole : work; // "." has no name of its own
    if (!title)
        title = *path_base(known) ? path_base(known) : known;
    int rc = out_open(&o, common.output, &e);
    if (rc == 0) {
        rc = ledger_only ? write_sums(&o, work, &e) : report_write(&o, work, shards, title, &e);
        if (rc == 0)
            rc = out_commit(&o, &e);
        out_abort(&o);
    }
    if (rc)
        log_error(&log, "%s", e.text);
    cli_release(&cli, &common);
    return rc ? CLI_FAILED : CLI_OK;
}
