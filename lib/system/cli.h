// SPDX-License-Identifier: Apache-2.0
// Command lines. A tool has one table of options; parsing, --help (its defaults are the live
// values) and the check against the man page all come from that table.
//
//     static const struct cli_option options[] = {
//         {.name = "size", .type = CLI_UINT, .to = &size, .arg = "N", .min = 1, .max = 4096,
//          .help = "pixels a side"}, ...};
//     static const struct cli cli = {.tool = "shard-read", .operands = "SHARD...", ...};
//     struct cli_common common = CLI_COMMON_INIT;
//     int status;
//     if (!cli_start(&cli, &common, argc, argv, &status)) return status;
//     common.operands[0 .. common.n_operands)
#ifndef SYSTEM_CLI_H
#define SYSTEM_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_WRONG_USAGE = 2 }; // exit statuses

enum cli_type {
    CLI_FLAG,   // bool: --x sets true, --no-x false
    CLI_UINT,   // uint64_t in [min, max] (max 0 = no limit)
    CLI_REAL,   // double in [min, max] (both 0 = any finite value)
    CLI_TEXT,   // const char *, not empty
    CLI_SIZE,   // uint64_t bytes, suffixes K M G T (powers of 1024)
    CLI_CHOICE, // int: position in `choices`, "a|b|c"
    CLI_LIST,   // struct cli_list: may be given more than once; no item is empty
    CLI_COUNT,  // struct cli_count: N (at most 2^53), or P% of all
};

struct cli_list {
    const char **items; // allocated by the parser, freed by cli_release
    size_t n;
};

struct cli_count {
    double value;
    bool percent;
};

struct cli_option {
    const char *name; // long, without the dashes
    char letter;      // short form or 0
    enum cli_type type;
    void *to;            // the variable, of the type above; holds the default
    const char *arg;     // name of the argument in --help
    const char *choices; // for CLI_CHOICE
    double min, max;
    const char *help;                               // one line
    bool no_default;                                // the default is not worth printing
    bool may_be_empty;                              // CLI_TEXT: '' is a value
    int (*check)(const char *value, struct err *e); // CLI_TEXT: 0, or -1 for a wrong one; or NULL
    bool *given;                                    // set to true when the option appears; or NULL
};

struct cli {
    const char *tool;
    const char *summary;  // one line: what it does
    const char *operands; // "SHARD...", "[SAMPLES]"
    const struct cli_option *options;
    size_t n_options;
    size_t min_operands, max_operands; // max 0 with min 0 = none; SIZE_MAX = any number
    bool no_output;                    // the tool has no -o of the common kind
    const char *(*devices)(void);      // for --version: what --device may name; or NULL
};

// What every tool has: -o -t -q -v --progress --help --version.
struct cli_common {
    const char *output; // "-" = standard output
    uint64_t threads;   // as given; cli_start replaces 0 by the processors allowed
    bool quiet;
    bool verbose;
    int progress;    // enum cli_progress
    char **operands; // allocated by the parser, freed by cli_release; the strings are argv's
    size_t n_operands;
};
enum cli_progress { CLI_PROGRESS_AUTO, CLI_PROGRESS_ALWAYS, CLI_PROGRESS_NEVER, CLI_PROGRESS_JSON };
#define CLI_COMMON_INIT                                                                            \
    {                                                                                              \
        .output = "-", .threads = 1                                                                \
    }

// What the parser found: run the tool, print help or version, or a wrong command line (e says why).
enum cli_result { CLI_RUN, CLI_HELP, CLI_VERSION, CLI_WRONG };
// Options may stand anywhere, "--" ends them. argv stays as it is. After any result, cli_release.
enum cli_result cli_parse(const struct cli *cli, struct cli_common *common, int argc, char **argv,
                          struct err *e);
// The --help text. Call before the values change, or the defaults are wrong. 0, or -1 when the
// stream failed.
int cli_help(const struct cli *cli, const struct cli_common *common, FILE *to);

// Everything a main does first: installs the signal handlers, parses, answers --help and --version
// on stdout, a wrong command line on stderr. True: go on, and cli_release at the end. False: return
// *status; nothing is left allocated.
bool cli_start(const struct cli *cli, struct cli_common *common, int argc, char **argv,
               int *status);
// Frees what the parser allocated: operands and lists.
void cli_release(const struct cli *cli, struct cli_common *common);

// N or P% against a total: the count allowed.
uint64_t cli_count_of(const struct cli_count *c, uint64_t total);

#endif
