// SPDX-License-Identifier: Apache-2.0
// cli: every type of option in its good and bad forms.
#include <stdlib.h>
#include <string.h>

#include "system/cli.h"
#include "unit/tap.h"

static uint64_t size_px = 224, mem = 1ull << 31;
static double share = 0.5;
static const char *name = NULL;
static bool flip, shortcuts = true, size_given;
static int crop;
static struct cli_list lists;
static struct cli_count bad = {5, true};

static const struct cli_option options[] = {
    {.name = "size",
     .type = CLI_UINT,
     .to = &size_px,
     .arg = "N",
     .min = 1,
     .max = 4096,
     .help = "pixels a side",
     .given = &size_given},
    {.name = "share",
     .type = CLI_REAL,
     .to = &share,
     .arg = "X",
     .min = 0,
     .max = 1,
     .help = "share"},
    {.name = "name", .letter = 'm', .type = CLI_TEXT, .to = &name, .arg = "S", .help = "name"},
    {.name = "flip", .type = CLI_FLAG, .to = &flip, .help = "flip"},
    {.name = "shortcuts", .type = CLI_FLAG, .to = &shortcuts, .help = "shortcuts"},
    {.name = "mem", .type = CLI_SIZE, .to = &mem, .arg = "SIZE", .help = "memory"},
    {.name = "crop", .type = CLI_CHOICE, .to = &crop, .choices = "center|random", .help = "crop"},
    {.name = "in", .type = CLI_LIST, .to = &lists, .arg = "F", .help = "inputs"},
    {.name = "max-bad", .type = CLI_COUNT, .to = &bad, .arg = "N|P%", .help = "limit"},
};
static const struct cli cli = {.tool = "try",
                               .summary = "tries",
                               .operands = "FILE...",
                               .options = options,
                               .n_options = sizeof options / sizeof *options,
                               .min_operands = 1,
                               .max_operands = 3};
static struct cli_common common;
static struct err e;

// Parses a space-separated command line.
static enum cli_result parse(const char *line)
{
    static char copy[512];
    static char *argv[32];
    int argc = 0;
    free(common.operands); // of the parse before
    common = (struct cli_common)CLI_COMMON_INIT;
    snprintf(copy, sizeof copy, "try %s", line);
    for (char *p = strtok(copy, " "); p; p = strtok(NULL, " "))
        argv[argc++] = p;
    e.text[0] = '\0';
    return cli_parse(&cli, &common, argc, argv, &e);
}

static void test_good(void)
{
    ok(parse("--size 32 a --share=0.25 -m x -qt4 --flip --no-shortcuts b -- --c") == CLI_RUN,
       "mixed line %s", e.text);
    ok(size_px == 32 && size_given && share == 0.25 && !strcmp(name, "x") && flip && !shortcuts,
       "values");
    ok(common.quiet && common.threads == 4 && common.n_operands == 3 &&
           !strcmp(common.operands[2], "--c"),
       "common options and operands");
    ok(parse("--mem 1.5G --crop random --in a --in b --max-bad 7 -o f -") == CLI_RUN, "more");
    ok(mem == 3ull << 29 && crop == 1 && lists.n == 2 && !strcmp(lists.items[1], "b"), "values");
    ok(cli_count_of(&bad, 100) == 7 && !bad.percent, "a count");
    ok(parse("--max-bad 2.5% f") == CLI_RUN && cli_count_of(&bad, 1000) == 25, "a share");
    ok(parse("--version") == CLI_VERSION && parse("--size 1 --help") == CLI_HELP, "questions");
    ok(parse("-V") == CLI_VERSION && parse("-qh f") == CLI_HELP, "their letters");
}

static void test_bad(void)
{
    static const char *const lines[][2] = {
        {"--size x f", "--size: 'x' is not a whole number"},
        {"--size -1 f", "--size: '-1' is not a whole number"},
        {"--size 0 f", "--size: 0 is not between 1 and 4096"},
        {"--size 5000 f", "--size: 5000 is not between 1 and 4096"},
        {"--share nan f", "--share: 'nan' is not a number"},
        {"--share 1.5 f", "--share: 1.5 is not between 0 and 1"},
        {"--mem 2X f", "--mem: '2X' is not a size (as 2G)"},
        {"--crop left f", "--crop: 'left' is not one of center|random"},
        {"--max-bad 101% f", "--max-bad: '101%' is not a count or a percentage"},
        {"--max-bad 1e30 f", "--max-bad: '1e30' is not a count or a percentage"},
        {"--max-bad 0x10 f", "--max-bad: '0x10' is not a count or a percentage"},
        {"--share 0x1p-1 f", "--share: '0x1p-1' is not a number"},
        {"--share inf f", "--share: 'inf' is not a number"},
        {"--mem 0x10 f", "--mem: '0x10' is not a size (as 2G)"},
        {"--name= f", "--name: the value is empty"},
        {"--in= f", "--in: the value is empty"},
        {"--flip=1 f", "--flip takes no argument"},
        {"--sizes 1 f", "unknown option '--sizes'"},
        {"--no-size f", "unknown option '--no-size'"},
        {"-x f", "unknown option '-x'"},
        {"f --name", "--name needs an argument"},
        {"", "missing operand: FILE..."},
        {"a b c d", "too many operands"},
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        ok(parse(lines[i][0]) == CLI_WRONG && !strcmp(e.text, lines[i][1]), "'%s': %s", lines[i][0],
           e.text);
}

static void test_help(void)
{
    size_px = 224;
    mem = 2ull << 30;
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    free(common.operands);
    common = (struct cli_common)CLI_COMMON_INIT;
    ok(cli_help(&cli, &common, f) == 0, "help");
    fclose(f);
    ok(strstr(text, "--size N") && strstr(text, "pixels a side [224]") && strstr(text, "[2G]") &&
           strstr(text, "-t, --threads N") && strstr(text, "--crop center|random"),
       "the live defaults");
    free(text);
}

int main(void)
{
    test_good();
    test_bad();
    test_help();
    cli_release(&cli, &common);
    return tap_done();
}
