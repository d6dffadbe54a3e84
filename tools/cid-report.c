// SPDX-License-Identifier: Apache-2.0
// cid-report: what a pipeline made, as one page; or its ledger, counted again from the files.
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "io.h"
#include "log.h"
#include "report.h"

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
     .help = "write the ledger's sums as text instead of the page"},
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
    struct report_names names;
    struct ledger l;
    char *text = NULL;
    size_t n = 0;
    if (report_names_get(&names, work, e))
        return -1;
    int rc = report_ledger(work, &names, &l, e);
    report_names_free(&names);
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
    char *work = common.operands[0];
    for (size_t n = strlen(work); n > 1 && work[n - 1] == '/';)
        work[--n] = '\0';
    const char *slash = strrchr(work, '/');
    if (!title)
        title = slash ? slash + 1 : work;
    int rc = out_open(&o, common.output, &e);
    if (rc == 0) {
        rc = ledger_only ? write_sums(&o, work, &e) : report_write(&o, work, shards, title, &e);
        if (rc == 0)
            rc = out_commit(&o, &e);
        out_abort(&o);
    }
    if (rc)
        log_error(&log, "%s", e.text);
    return rc ? CLI_FAILED : CLI_OK;
}
