// SPDX-License-Identifier: Apache-2.0
// Lists of shards of which some are on other machines.
#ifndef SHARD_REMOTE_H
#define SHARD_REMOTE_H

#include "base/err.h"
#include "remote/remote.h"
#include "shards/shard-list.h"
#include "system/cli.h"

// *r is for reading the URLs of the list, and those that links (shard-link.h) lead to. Each s3://
// name that ends with a slash is replaced by the objects directly below it that are called like
// archives (.tar, .tar.gz ...), in the order of their names. The caller frees *r, on an error too.
// Errors: a folder without such objects, or one of a web server, which cannot be listed. 0 or -1.
int shard_remote_open(struct shard_list *l, const struct remote_options *o, struct remote **r,
                      struct err *e);

// The options of a tool that reads shards; `o`: its struct remote_options.
#define SHARD_REMOTE_OPTIONS(o)                                                                    \
    {.name = "mem",                                                                                \
     .type = CLI_SIZE,                                                                             \
     .to = &(o).mem,                                                                               \
     .arg = "SIZE",                                                                                \
     .min = 1 << 20,                                                                               \
     .max = 1ull << 40,                                                                            \
     .help = "memory to read remote shards ahead"},                                                \
        {.name = "retries",                                                                        \
         .type = CLI_UINT,                                                                         \
         .to = &(o).retries,                                                                       \
         .arg = "N",                                                                               \
         .max = 1000,                                                                              \
         .help = "of a request for a remote shard that brings nothing"},                           \
    {                                                                                              \
        .name = "timeout", .type = CLI_UINT, .to = &(o).timeout, .arg = "SECONDS", .min = 1,       \
        .max = 86400, .help = "without a byte of a remote shard"                                   \
    }

#endif
