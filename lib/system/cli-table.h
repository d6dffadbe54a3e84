// SPDX-License-Identifier: Apache-2.0
// Private to cli*.c: the options of a tool and those that every tool has, as one table.
#ifndef SYSTEM_CLI_TABLE_H
#define SYSTEM_CLI_TABLE_H

#include "system/cli.h"

enum { CLI_COMMON_MAX = 7 };

struct cli_table {
    const struct cli *cli;
    struct cli_option common[CLI_COMMON_MAX];
    size_t n_common;
    bool help, version; // --help and --version set them
};

// The table of `cli` and of the common options, which are stored into *c; t stays where it is.
void cli_table_init(struct cli_table *t, const struct cli *cli, struct cli_common *c);
// Option i of the table, the tool's own first; NULL behind the last.
const struct cli_option *cli_table_at(const struct cli_table *t, size_t i);

// cli-values.c: stores the value `text` of an option that takes one. 0, or -1 where it is wrong.
int cli_set_value(const struct cli_option *o, const char *text, struct err *e);
// The k-th name of "a|b|c", its length in *n; NULL behind the last.
const char *cli_choice_name(const char *choices, int k, size_t *n);

#endif
