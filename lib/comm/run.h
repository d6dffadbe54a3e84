// SPDX-License-Identifier: Apache-2.0
// What the files of lib/comm share. Internal.
#ifndef COMM_RUN_H
#define COMM_RUN_H

#include "comm/comm.h"

// comm/queue.c: ends the thread once it has done what it was given; NULL is safe.
void comm_queue_free(struct comm_queue *q);

#endif
