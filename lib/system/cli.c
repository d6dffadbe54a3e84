// SPDX-License-Identifier: Apache-2.0
#include "system/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/isa.h"
#include "base/mem.h"
#include "system/threads.h"
#include "system/signals.h"

enum { COMMON_MAX = 7, NAME_MAX_CHARS = 64 };

static bool help_wanted, version_wanted;

// The common options as rows of the same table.
static size_t common_options(const struct cli *cli, struct cli_common *c,
                             struct cli_option out[COMMON_MAX])
{
    const struct cli_option rows[COMMON_MAX] = {
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
         .choices = "auto|always|never",
         .help = "a bar on a terminal, else a line a minute"},
        {.name = "help",
         .letter = 'h',
         .type = CLI_FLAG,
         .to = &help_wanted,
         .help = "print this help and exit"},
        {.name = "version",
         .letter = 'V',
         .type = CLI_FLAG,
         .to = &version_wanted,
         .help = "print the version and exit"},
    };
    size_t first = cli->no_output ? 1 : 0;
    memcpy(out, rows + first, (COMMON_MAX - first) * sizeof *rows);
    return COMMON_MAX - first;
}

// ---- values

static int bad_value(const struct cli_option *o, const char *text, const char *want, struct err *e)
{
    return err_set(e, "--%s: '%s' is not %s", o->name, text, want);
}

static int out_of_range(const struct cli_option *o, const char *text, struct err *e)
{
    if (o->max > 0)
        return err_set(e, "--%s: %s is not between %g and %g", o->name, text, o->min, o->max);
    return err_set(e, "--%s: %s is less than %g", o->name, text, o->min);
}

static int parse_uint(const struct cli_option *o, const char *text, struct err *e)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return bad_value(o, text, "a whole number", e);
    if ((double)v < o->min || (o->max > 0 && (double)v > o->max))
        return out_of_range(o, text, e);
    *(uint64_t *)o->to = v;
    return 0;
}

// A decimal number: strtod alone takes white space, "inf", "nan" and hexadecimal too. *end: what
// follows it, `text` itself where there is none.
static double decimal(const char *text, char **end)
{
    const char *p = text + (*text == '-' || *text == '+');
    *end = (char *)(uintptr_t)text;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X'))
        return 0;
    if ((*p < '0' || *p > '9') && *p != '.')
        return 0;
    return strtod(text, end);
}

static int parse_real(const struct cli_option *o, const char *text, struct err *e)
{
    char *end;
    double v = decimal(text, &end);
    if (end == text || *end || !isfinite(v))
        return bad_value(o, text, "a number", e);
    bool limited = o->min != 0 || o->max != 0;
    if (limited && (v < o->min || (o->max > o->min && v > o->max)))
        return out_of_range(o, text, e);
    *(double *)o->to = v;
    return 0;
}

static int parse_size(const struct cli_option *o, const char *text, struct err *e)
{
    char *end;
    double v = decimal(text, &end);
    static const char suffixes[] = "KMGT";
    const char *at = *end ? strchr(suffixes, *end) : NULL;
    if (at) {
        v *= (double)(1ull << (10 * (at - suffixes + 1)));
        end++;
        if (strcmp(end, "iB") == 0 || strcmp(end, "B") == 0)
            end += strlen(end);
    }
    if (*text < '0' || *text > '9' || *end || !(v < 9e18))
        return bad_value(o, text, "a size (as 2G)", e);
    if (v < o->min)
        return out_of_range(o, text, e);
    *(uint64_t *)o->to = (uint64_t)v;
    return 0;
}

// The k-th name of "a|b|c", its length in *n; NULL past the end.
static const char *choice_name(const char *choices, int k, size_t *n)
{
    const char *p = choices;
    for (; k > 0; k--) {
        p = strchr(p, '|');
        if (!p)
            return NULL;
        p++;
    }
    *n = strcspn(p, "|");
    return p;
}

static int parse_choice(const struct cli_option *o, const char *text, struct err *e)
{
    size_t n;
    const char *name;
    for (int k = 0; (name = choice_name(o->choices, k, &n)); k++) {
        if (strlen(text) == n && memcmp(text, name, n) == 0) {
            *(int *)o->to = k;
            return 0;
        }
    }
    return err_set(e, "--%s: '%s' is not one of %s", o->name, text, o->choices);
}

static int parse_list(const struct cli_option *o, const char *text, struct err *e)
{
    struct cli_list *l = o->to;
    if (!*text)
        return err_set(e, "--%s: the value is empty", o->name);
    const char **items = realloc(l->items, (l->n + 1) * sizeof *items);
    if (!items)
        return err_set(e, "--%s: out of memory", o->name);
    items[l->n++] = text;
    l->items = items;
    return 0;
}

static int parse_count(const struct cli_option *o, const char *text, struct err *e)
{
    char *end;
    double v = decimal(text, &end);
    bool percent = *end == '%';
    if (*text < '0' || *text > '9' || end == text || end[percent] || (percent && v > 100) ||
        (!percent && (v != floor(v) || v > 0x1p53)))
        return bad_value(o, text, "a count or a percentage", e);
    *(struct cli_count *)o->to = (struct cli_count){v, percent};
    return 0;
}

static int set_value(const struct cli_option *o, const char *text, struct err *e)
{
    if (o->given)
        *o->given = true;
    switch (o->type) {
    case CLI_UINT:
        return parse_uint(o, text, e);
    case CLI_REAL:
        return parse_real(o, text, e);
    case CLI_SIZE:
        return parse_size(o, text, e);
    case CLI_CHOICE:
        return parse_choice(o, text, e);
    case CLI_LIST:
        return parse_list(o, text, e);
    case CLI_COUNT:
        return parse_count(o, text, e);
    case CLI_TEXT:
        if (!*text && !o->may_be_empty)
            return err_set(e, "--%s: the value is empty", o->name);
        if (o->check && o->check(text, e))
            return err_wrap(e, "--%s", o->name);
        *(const char **)o->to = text;
        return 0;
    case CLI_FLAG:
        break;
    }
    return err_set(e, "--%s takes no argument", o->name);
}

// ---- the command line

struct table {
    struct cli_option common[COMMON_MAX];
    size_t n_common;
    const struct cli *cli;
};

static const struct cli_option *option_at(const struct table *t, size_t i)
{
    if (i < t->cli->n_options)
        return &t->cli->options[i];
    i -= t->cli->n_options;
    return i < t->n_common ? &t->common[i] : NULL;
}

static const struct cli_option *find_long(const struct table *t, const char *name, size_t n)
{
    const struct cli_option *o;
    for (size_t i = 0; (o = option_at(t, i)); i++)
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
    return NULL;
}

static const struct cli_option *find_letter(const struct table *t, char letter)
{
    const struct cli_option *o;
    for (size_t i = 0; (o = option_at(t, i)); i++)
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
static int parse_long(const struct table *t, const char *arg, const char *next, bool *used,
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
        return set_value(o, eq + 1, e);
    if (!next)
        return err_set(e, "--%s needs an argument", o->name);
    *used = true;
    return set_value(o, next, e);
}

// "-qv", "-t4", "-t 4".
static int parse_short(const struct table *t, const char *arg, const char *next, bool *used,
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
            return set_value(o, p + 1, e);
        if (!next)
            return err_set(e, "-%c needs an argument", *p);
        *used = true;
        return set_value(o, next, e);
    }
    return 0;
}

// An empty name is a shell variable that was not set; with a file's name behind it, it would stand
// for the root folder. Options refuse one as well (set_value).
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
    struct table t = {.cli = cli};
    t.n_common = common_options(cli, common, t.common);
    help_wanted = version_wanted = false;
    bool ended = false;
    common->operands = argv + 1;
    common->n_operands = 0;
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (ended || arg[0] != '-' || arg[1] == '\0') {
            common->operands[common->n_operands++] = arg; // never ahead of i
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            ended = true;
            continue;
        }
        bool used = false;
        int rc = arg[1] == '-' ? parse_long(&t, arg, next, &used, e)
                               : parse_short(&t, arg, next, &used, e);
        if (help_wanted)
            return CLI_HELP;
        if (version_wanted)
            return CLI_VERSION;
        if (rc)
            return CLI_WRONG;
        i += used;
    }
    return check_operands(cli, common, e) ? CLI_WRONG : CLI_RUN;
}

// ---- help

static void print_default(const struct cli_option *o, FILE *to)
{
    size_t n;
    const char *name;
    const struct cli_count *c;
    if (o->no_default)
        return;
    switch (o->type) {
    case CLI_UINT:
        fprintf(to, " [%llu]", (unsigned long long)*(const uint64_t *)o->to);
        break;
    case CLI_REAL:
        fprintf(to, " [%g]", *(const double *)o->to);
        break;
    case CLI_SIZE: {
        uint64_t v = *(const uint64_t *)o->to;
        int unit = 0;
        for (; unit < 4 && v && v % 1024 == 0; unit++)
            v /= 1024;
        fprintf(to, " [%llu%.1s]", (unsigned long long)v, &"\0KMGT"[unit]);
        break;
    }
    case CLI_CHOICE:
        name = choice_name(o->choices, *(const int *)o->to, &n);
        if (name)
            fprintf(to, " [%.*s]", (int)n, name);
        break;
    case CLI_TEXT:
        if (*(const char *const *)o->to)
            fprintf(to, " [%s]", *(const char *const *)o->to);
        break;
    case CLI_COUNT:
        c = o->to;
        fprintf(to, " [%g%s]", c->value, c->percent ? "%" : "");
        break;
    case CLI_FLAG:
        if (*(const bool *)o->to)
            fprintf(to, " [on]");
        break;
    case CLI_LIST:
        break;
    }
}

static void print_option(const struct cli_option *o, FILE *to)
{
    enum { LEFT = 30 };
    char left[4 * NAME_MAX_CHARS];
    const char *arg = o->type == CLI_FLAG     ? NULL
                      : o->type == CLI_CHOICE ? o->choices
                      : o->arg                ? o->arg
                                              : "X";
    char letter[8] = "    ";
    if (o->letter)
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name, arg ? " " : "", arg ? arg : "");
    if (strlen(left) >= LEFT)
        fprintf(to, "%s\n%*s", left, LEFT, "");
    else
        fprintf(to, "%-*s", LEFT, left);
    fprintf(to, "%s", o->help);
    print_default(o, to);
    fputc('\n', to);
}

int cli_help(const struct cli *cli, const struct cli_common *common, FILE *to)
{
    struct cli_common shown = *common;
    struct table t = {.cli = cli};
    t.n_common = common_options(cli, &shown, t.common);
    help_wanted = version_wanted = false; // not shown as defaults
    fprintf(to, "usage: %s [options]%s%s\n%s\n\n", cli->tool, cli->operands ? " " : "",
            cli->operands ? cli->operands : "", cli->summary);
    const struct cli_option *o;
    for (size_t i = 0; (o = option_at(&t, i)); i++)
        print_option(o, to);
    fprintf(to, "\n%s(1) has the details.\n", cli->tool);
    return fflush(to) || ferror(to) ? -1 : 0;
}

// --help must show the defaults, so it is looked for before anything is set.
static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

// Reserves the descriptors 0 to 2 where the caller closed them, so that a later open() cannot reuse
// them. /dev/null, opened with the wrong access mode, makes any use of them fail with EBADF.
static int hold_descriptors(void)
{
    static const int wrong_way[] = {O_WRONLY, O_RDONLY, O_WRONLY};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", wrong_way[fd]) != fd)
            return -1;
    return 0;
}

// The exit status after --help or --version; a failed write is reported.
static bool answered(const struct cli *cli, bool failed, int *status)
{
    if (failed)
        fprintf(stderr, "%s: cannot write standard output: %s\n", cli->tool, strerror(errno));
    *status = failed ? CLI_FAILED : CLI_OK;
    return false;
}

static bool wrong_usage(const struct cli *cli, const struct err *e, int *status)
{
    fprintf(stderr, "%s: %s; try --help\n", cli->tool, e->text);
    *status = CLI_WRONG_USAGE;
    return false;
}

static bool print_version(const struct cli *cli, int *status)
{
    char level[100];
    isa_describe(level, sizeof level);
    printf("%s (clip-cid) %s\nvector instructions: %s\n", cli->tool, CLIPCID_VERSION, level);
    return answered(cli, fflush(stdout) != 0, status);
}

bool cli_start(const struct cli *cli, struct cli_common *common, int argc, char **argv, int *status)
{
    struct err e;
    *status = CLI_FAILED;
    if (hold_descriptors())
        return false;
    if (isa_start(argv, &e)) { // before the signals: it may start the program again
        fprintf(stderr, "%s: %s\n", cli->tool, e.text);
        return false;
    }
    signals_install();
    if (asks_for_help(argc, argv))
        return answered(cli, cli_help(cli, common, stdout) != 0, status);
    if (isa_check(&e))
        return wrong_usage(cli, &e, status);
    switch (cli_parse(cli, common, argc, argv, &e)) {
    case CLI_VERSION:
        return print_version(cli, status);
    case CLI_WRONG:
        return wrong_usage(cli, &e, status);
    case CLI_HELP: // "-qh"; a plain -h was answered above
        return answered(cli, cli_help(cli, common, stdout) != 0, status);
    case CLI_RUN:
        break;
    }
    if (common->threads == 0)
        common->threads = (uint64_t)threads_cpus();
    return true;
}

void cli_release(const struct cli *cli)
{
    for (size_t i = 0; i < cli->n_options; i++) {
        if (cli->options[i].type == CLI_LIST) {
            struct cli_list *l = cli->options[i].to;
            free(l->items);
            *l = (struct cli_list){0};
        }
    }
}

uint64_t cli_count_of(const struct cli_count *c, uint64_t total)
{
    return c->percent ? (uint64_t)(c->value / 100 * (double)total) : (uint64_t)c->value;
}
