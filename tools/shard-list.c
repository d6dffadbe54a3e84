// SPDX-License-Identifier: Apache-2.0
// shard-list: which shards there are on an S3 store or a web server, and what stands for them on
// this machine.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/url.h"
#include "shards/shard-link.h"
#include "shards/shard-remote.h"
#include "system/cli.h"
#include "system/io.h"
#include "system/lines.h"
#include "system/log.h"

static const char *names_file, *links;
static struct remote_options remote = REMOTE_DEFAULTS;

static const struct cli_option options[] = {
    {.name = "names",
     .type = CLI_TEXT,
     .to = &names_file,
     .arg = "FILE",
     .help = "only these shards: names without .tar, blanks or line ends between"},
    {.name = "links",
     .type = CLI_TEXT,
     .to = &links,
     .arg = "DIR",
     .help = "keep a file STEM.tar in DIR for each shard, with its time"},
    SHARD_REMOTE_OPTIONS(remote),
};

static const struct cli cli = {
    .tool = "shard-list",
    .summary = "lists the shards of a folder on an S3 store or a web server",
    .operands = "FOLDER...",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .min_operands = 1,
    .max_operands = SIZE_MAX,
};

enum { CONNECTIONS = 16 };

struct words {
    char **of;
    size_t n, cap;
};

static void release_words(struct words *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->of[i]);
    free(w->of);
}

static int add_words(struct words *w, const char *line, struct err *e)
{
    for (;;) {
        line += strspn(line, " \t");
        size_t n = strcspn(line, " \t");
        if (!n)
            return 0;
        if (mem_grow(&w->of, &w->cap, w->n + 1, sizeof *w->of, e) ||
            !(w->of[w->n] = mem_alloc(n + 1, 1, e)))
            return -1;
        memcpy(w->of[w->n++], line, n);
        line += n;
    }
}

static int read_names(struct words *w, struct err *e)
{
    struct lines l = {0};
    if (!names_file)
        return 0;
    int rc = lines_read(&l, names_file, e);
    for (size_t i = 0; !rc && i < l.n; i++)
        rc = add_words(w, l.line[i], e);
    lines_release(&l);
    return rc;
}

static int write_list(const char *output, const struct shard_links *l, struct err *e)
{
    struct out o;
    if (out_open(&o, output, e))
        return -1;
    int rc = 0;
    for (size_t i = 0; !rc && i < l->n; i++) {
        const struct remote_entry *at = &l->links[i].at;
        char line[SHARD_LINK_MAX];
        int n = snprintf(line, sizeof line, "%s\t%llu\t%lld\t%s\n", at->name,
                         (unsigned long long)at->size, (long long)at->modified, at->etag);
        rc = n > 0 && n < (int)sizeof line ? out_write(&o, line, (size_t)n, e)
                                           : err_set(e, "the name of a shard is too long");
    }
    if (!rc)
        rc = out_commit(&o, e);
    out_abort(&o);
    return rc ? -1 : 0;
}

static int run(const struct cli_common *common, struct shard_links *l, struct words *w,
               struct err *e)
{
    if (read_names(w, e))
        return -1;
    struct remote *r = remote_new(&remote, e);
    int rc = r ? 0 : -1;
    for (size_t i = 0; !rc && i < common->n_operands; i++)
        rc = shard_links_find(l, r, common->operands[i],
                              names_file ? (const char *const *)w->of : NULL, w->n, CONNECTIONS, e);
    remote_free(r);
    if (rc || shard_links_sort(l, e))
        return -1;
    return links ? shard_links_write(l, links, e) : write_list(common->output, l, e);
}

int main(int argc, char **argv)
{
    struct cli_common common = CLI_COMMON_INIT;
    struct shard_links l = {0};
    struct words w = {0};
    struct log log;
    struct err e;
    int status;
    if (!cli_start(&cli, &common, argc, argv, &status))
        return status;
    log_init(&log, stderr, &cli, &common);
    for (size_t i = 0; i < common.n_operands; i++)
        if (!url_is(common.operands[i])) {
            log_error(&log, "%s: only s3://, https:// and http:// folders are listed; try --help",
                      common.operands[i]);
            cli_release(&cli, &common);
            return CLI_WRONG_USAGE;
        }
    status = run(&common, &l, &w, &e) ? CLI_FAILED : CLI_OK;
    if (status)
        log_error(&log, "%s", e.text);
    shard_links_release(&l);
    release_words(&w);
    cli_release(&cli, &common);
    return status;
}
