// SPDX-License-Identifier: Apache-2.0
// Private to lib/stream: the files of a run.
#ifndef STREAM_OUTPUTS_H
#define STREAM_OUTPUTS_H

#include "stream/stream.h"

// Opens the stream, and the index and the pixels where they are wanted. After -1 too,
// stream_outputs_close.
int stream_outputs_open(struct stream *t, struct err *e);
// Gives all of them their names, the stream last. 0 or -1.
int stream_outputs_commit(struct stream *t, struct err *e);
void stream_outputs_close(struct stream *t); // removes what was not committed

#endif
