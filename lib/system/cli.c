// SPDX-License-Identifier: Apache-2.0
#include "system/cli.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "system/cli-table.h"

void cli_table_init(struct cli_table *t, const struct cli *cli, struct cli_common *c)
{
    const struct cli_option rows[CLI_COMMON_MAX] = {
        {.name = "output",
         .letter = 'o',
         .type = CLI_TEXT,
         .to = &c->output,
         .arg = "FILE",
         .help = "write here; - is standard output"},
        {.name = "threads",
         .letter = 't',
         .type = CLI_UINT,
         .to = &c->threads,
         .arg = "N",
         .max = 4096,
         .help = "threads; 0 = all processors allowed"},
        {.name = "quiet", .letter = 'q', .type = CLI_FLAG, .to = &c->quiet, .help = "errors only"},
        {.name = "verbose", .letter = 'v', .type = CLI_FLAG, .to = &c->verbose, .help = "say more"},
        {.name = "progress",
         .type = CLI_CHOICE,
         .to = &c->progress,
         .choices = "auto|always|never|json",
         .help = "bar on a terminal, else a line a minute; json: lines"},
        {.name = "help",
         .letter = 'h',
         .type = CLI_FLAG,
         .to = &t->help,
         .help = "print this help and exit"},
        {.name = "version",
         .letter = 'V',
         .type = CLI_FLAG,
         .to = &t->version,
         .help = "print the version and exit"},
    };
    size_t first = cli->no_output ? 1 : 0;
    *t = (struct cli_table){.cli = cli, .n_common = CLI_COMMON_MAX - first};
    memcpy(t->common, rows + first, t->n_common * sizeof *rows);
}

const struct cli_option *cli_table_at(const struct cli_table *t, size_t i)
{
    if (i < t->cli->n_options)
        return &t->cli->options[i];
    i -= t->cli->n_options;
    return i < t->n_common ? &t->common[i] : NULL;
}

static const struct cli_option *find_long(const struct cli_table *t, const char *name, size_t n)
{
    const struct cli_option *o;
    for (size_t i = 0; (o = cli_table_at(t, i)); i++)
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
    return NULL;
}

static const struct cli_option *find_letter(const struct cli_table *t, char letter)
{
    const struct cli_option *o;
    for (size_t i = 0; (o = cli_table_at(t, i)); i++)
        if (o->letter && o->letter == letter)
            return o;
    return NULL;
}

static int set_flag(const struct cli_option *o, bool value)
{
    *(bool *)o->to = value;
    if (o->given)
        *o->given = true;
    return 0;
}

// "--name", "--name=value", "--name value", "--no-name". *used: whether `next` was taken.
static int parse_long(const struct cli_table *t, const char *arg, const char *next, bool *used,
                      struct err *e)
{
    const char *name = arg + 2, *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    const struct cli_option *o = find_long(t, name, n);
    if (!o && !eq && strncmp(name, "no-", 3) == 0) {
        o = find_long(t, name + 3, n - 3);
        if (o && o->type == CLI_FLAG)
            return set_flag(o, false);
        o = NULL;
    }
    if (!o)
        return err_set(e, "unknown option '%.*s'", (int)n + 2, arg);
    if (o->type == CLI_FLAG)
        return eq ? err_set(e, "--%s takes no argument", o->name) : set_flag(o, true);
    if (eq)
        return cli_set_value(o, eq + 1, e);
    if (!next)
        return err_set(e, "--%s needs an argument", o->name);
    *used = true;
    return cli_set_value(o, next, e);
}

// "-qv", "-t4", "-t 4".
static int parse_short(const struct cli_table *t, const char *arg, const char *next, bool *used,
                       struct err *e)
{
    for (const char *p = arg + 1; *p; p++) {
        const struct cli_option *o = find_letter(t, *p);
        if (!o)
            return err_set(e, "unknown option '-%c'", *p);
        if (o->type == CLI_FLAG) {
            set_flag(o, true);
            continue;
        }
        if (p[1])
            return cli_set_value(o, p + 1, e);
        if (!next)
            return err_set(e, "-%c needs an argument", *p);
        *used = true;
        return cli_set_value(o, next, e);
    }
    return 0;
}

// An empty name is a shell variable that was not set; with a file's name behind it, it would stand
// for the root folder. Options refuse one as well (cli_set_value).
static int check_operands(const struct cli *cli, const struct cli_common *common, struct err *e)
{
    size_t n = common->n_operands;
    for (size_t i = 0; i < n; i++)
        if (!*common->operands[i])
            return err_set(e, "operand %zu is empty", i + 1);
    if (n < cli->min_operands)
        return err_set(e, "missing operand: %s", cli->operands);
    if (n > cli->max_operands)
        return err_set(e, "too many operands");
    return 0;
}

enum cli_result cli_parse(const struct cli *cli, struct cli_common *common, int argc, char **argv,
                          struct err *e)
{
    struct cli_table t;
    cli_table_init(&t, cli, common);
    bool ended = false;
    common->n_operands = 0;
    common->operands = mem_alloc((size_t)argc + 1, sizeof *common->operands, e);
    if (!common->operands)
        return CLI_WRONG;
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (ended || arg[0] != '-' || arg[1] == '\0') {
            common->operands[common->n_operands++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            ended = true;
            continue;
        }
        bool used = false;
        int rc = arg[1] == '-' ? parse_long(&t, arg, next, &used, e)
                               : parse_short(&t, arg, next, &used, e);
        if (t.help)
            return CLI_HELP;
        if (t.version)
            return CLI_VERSION;
        if (rc)
            return CLI_WRONG;
        i += used;
    }
    return check_operands(cli, common, e) ? CLI_WRONG : CLI_RUN;
}

void cli_release(const struct cli *cli, struct cli_common *common)
{
    free(common->operands);
    common->operands = NULL;
    common->n_operands = 0;
    for (size_t i = 0; i < cli->n_options; i++) {
        if (cli->options[i].type == CLI_LIST) {
            struct cli_list *l = cli->options[i].to;
            free(l->items);
            *l = (struct cli_list){0};
        }
    }
}
