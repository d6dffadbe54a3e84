// SPDX-License-Identifier: Apache-2.0
// The ranks of a tool: which back end it uses, who logs, how a failure is told. The option --comm
// of every tool that has ranks comes from here.
#ifndef COMM_OPEN_H
#define COMM_OPEN_H

#include "comm/comm.h"
#include "system/log.h"

#define COMM_DEFAULT "auto"
// A row of a tool's table of options; `to` is a const char * with COMM_DEFAULT in it.
#define COMM_OPTION(where)                                                                         \
    {                                                                                              \
        .name = "comm", .type = CLI_TEXT, .to = (where), .arg = "auto|none|mpi|FILE.so",           \
        .check = comm_name_check, .help = "how ranks talk to each other; auto: mpi if there are"   \
    }

// The same for a tool that has ranks on GPUs.
#define COMM_DEVICE_OPTION(where)                                                                  \
    {                                                                                              \
        .name = "comm", .type = CLI_TEXT, .to = (where), .arg = "auto|none|mpi|nccl|FILE.so",      \
        .check = comm_device_name_check,                                                           \
        .help = "how ranks talk to each other; auto: mpi if there are, nccl for GPUs"              \
    }

// 0 for auto, none, mpi and a name that ends with .so; the second takes nccl, too. Else -1.
int comm_name_check(const char *name, struct err *e);
int comm_device_name_check(const char *name, struct err *e);

// Opens the ranks of this process.
//   none     one rank
//   mpi      the plug-in comm-mpi.so, beside the program or in ../lib/clip-cid
//   nccl     mpi, and comm_open_device
//   FILE.so  another plug-in
//   auto     mpi where the environment says that there are several tasks (mpirun, srun), else none
// Refused: several tasks that are not as many ranks, as each would write the same outputs; a
// plug-in of another version. Ranks but 0 get a quiet log. 0 or -1; then comm_report says e.
int comm_open(struct comm *c, const char *name, struct log *l, struct err *e);
// Opens c->device for the ranks of `c`, by the plug-in comm-nccl.so: with `name` nccl, or auto
// where that plug-in is beside the program or in ../lib/clip-cid. Without it messages of device
// memory go through the host. stream: dev_ops.stream; NULL: the device is the host. All ranks call
// it. 0 or -1 on all.
int comm_open_device(struct comm *c, const char *name, void *stream, struct err *e);
// Before the device is closed; comm_close does not do it.
void comm_close_device(struct comm *c);
// Says e: rank 0 alone where all ranks have failed alike (comm_agree), else this rank, by its
// number and host; then the others are ended. May not return.
void comm_report(struct comm *c, struct log *l, const struct err *e);

#endif
