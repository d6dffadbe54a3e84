// SPDX-License-Identifier: Apache-2.0
// Files on other machines, read by HTTP: objects of S3 stores (s3://BUCKET/KEY) and web servers
// that answer ranges (https://, http://). A file is read in blocks by several connections ahead of
// the reader. What fails for a while is asked for again (lost connections, time-outs, the statuses
// 408, 429, 500, 502, 503, 504), from the byte that is missing on, after a wait that doubles, or as
// long as Retry-After says. A file that is another than at its first byte (ETag, Last-Modified,
// length) is an error. Messages hold no secrets: names are shown by url_show.
//
// All errors have e->machine set: the same name may be read without error next time.
#ifndef REMOTE_H
#define REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct remote_options {
    uint64_t mem;     // bytes of buffers for all files together, 1 MiB at least
    uint64_t retries; // of one request that brings nothing
    uint64_t timeout; // seconds to connect, and without a byte
};
#define REMOTE_DEFAULTS                                                                            \
    {                                                                                              \
        .mem = 64u << 20, .retries = 8, .timeout = 30                                              \
    }

// Who we are, connections and buffers, for all files of a run. One thread uses it at a time, but
// for remote_look.
struct remote;
// Costs nothing: the settings of aws.h are read at the first name. That is also where a build
// without libcurl says so. NULL with e set: no memory.
struct remote *remote_new(const struct remote_options *o, struct err *e);
void remote_free(struct remote *r); // after its objects are closed; safe on NULL

struct remote_object;
// Opens a file: its length is known then. NULL with e set, without the name in it.
struct remote_object *remote_open(struct remote *r, const char *name, struct err *e);
// Begins to read a file that will be opened next, one block of it. Its errors come at remote_open.
void remote_ahead(struct remote *r, const char *name);
uint64_t remote_size(const struct remote_object *o);
// The bytes at the reader's place, in the object's memory until the next call: their number, 0 at
// the end, -1 with e set. The place moves behind them.
ssize_t remote_next(struct remote_object *o, const uint8_t **data, struct err *e);
// Moves the place on by n bytes, not behind the end. Returns by how many.
uint64_t remote_skip(struct remote_object *o, uint64_t n);
void remote_close(struct remote_object *o); // safe on NULL

// What is known of a file without reading it.
struct remote_entry {
    char *name;       // the whole name, owned
    char *etag;       // owned, "" = none
    uint64_t size;    // bytes
    int64_t modified; // seconds since 1970, -1 = not said
};
struct remote_list {
    struct remote_entry *entries;
    size_t n, cap;
};
// Appends the objects whose names are the prefix and more without a further slash, sorted by their
// bytes as stores give them. `prefix`: s3://BUCKET/ or s3://BUCKET/FOLDER/. 0 or -1.
int remote_list(struct remote *r, const char *prefix, struct remote_list *l, struct err *e);
// 1: *one is what the server says of that file (HEAD). 0: it is not there. -1 with e set.
int remote_look(struct remote *r, const char *name, struct remote_entry *one, struct err *e);
void remote_entry_release(struct remote_entry *one);
void remote_list_release(struct remote_list *l);

#endif
