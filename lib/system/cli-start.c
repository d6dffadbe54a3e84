// SPDX-License-Identifier: Apache-2.0
// What a tool's main begins with, and the text of --help.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/isa.h"
#include "system/cli-table.h"
#include "system/signals.h"
#include "system/threads.h"
#include "base/version.h"

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
        name = cli_choice_name(o->choices, *(const int *)o->to, &n);
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
    char left[256];
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
    struct cli_table t;
    cli_table_init(&t, cli, &shown);
    fprintf(to, "usage: %s [options]%s%s\n%s\n\n", cli->tool, cli->operands ? " " : "",
            cli->operands ? cli->operands : "", cli->summary);
    const struct cli_option *o;
    for (size_t i = 0; (o = cli_table_at(&t, i)); i++)
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
    const char *devices = cli->devices ? cli->devices() : NULL;
    return answered(cli, version_print(stdout, cli->tool, devices) != 0, status);
}

// The machine's fault: *status stays CLI_FAILED.
static bool failed(const struct cli *cli, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", cli->tool, e->text);
    return false;
}

bool cli_start(const struct cli *cli, struct cli_common *common, int argc, char **argv, int *status)
{
    struct err e;
    *status = CLI_FAILED;
    if (hold_descriptors())
        return false;
    if (isa_start(argv, &e)) // before the signals: it may start the program again
        return failed(cli, &e);
    signals_install();
    if (asks_for_help(argc, argv))
        return answered(cli, cli_help(cli, common, stdout) != 0, status);
    if (isa_check(&e))
        return wrong_usage(cli, &e, status);
    enum cli_result result = cli_parse(cli, common, argc, argv, &e);
    if (result != CLI_RUN)
        cli_release(cli, common);
    switch (result) {
    case CLI_VERSION:
        return print_version(cli, status);
    case CLI_WRONG:
        return e.machine ? failed(cli, &e) : wrong_usage(cli, &e, status);
    case CLI_HELP: // "-qh"; a plain -h was answered above
        return answered(cli, cli_help(cli, common, stdout) != 0, status);
    case CLI_RUN:
        break;
    }
    if (common->threads == 0)
        common->threads = (uint64_t)threads_cpus();
    return true;
}
