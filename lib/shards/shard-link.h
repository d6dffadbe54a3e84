// SPDX-License-Identifier: Apache-2.0
// A small file that represents a shard on another machine, so that make and shell tests can use its
// name and its time. Text: a line with the mark, the shard's URL, and its properties, TAB before
// each value:
//
//     clip-cid remote shard
//     s3://bucket/laion/00000.tar
//     bytes	368640
//     time	1369353600
//     etag	"0f343b0931126a20f133d67c2b018a3b"
#ifndef SHARD_LINK_H
#define SHARD_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "remote/remote.h"
#include "shards/shard-list.h"

enum { SHARD_LINK_MAX = SHARD_NAME_MAX + 1024 }; // bytes of the file

// True if the n bytes of text begin as a link; url[SHARD_NAME_MAX] then gets its URL, or "" if the
// link is damaged.
bool shard_link_read(const char *text, size_t n, char *url);
// The same for the file at `path`; false if it cannot be read.
bool shard_link_of(const char *path, char *url);
// Bytes of all shards of the list together, or 0 if that is not known: one is not a file of this
// machine. A shard that is missing has none.
uint64_t shard_link_bytes(const struct shard_list *l);
// The text of a link, NUL-terminated, into to[SHARD_LINK_MAX]. 0 or -1: the name is too long.
int shard_link_text(const struct remote_entry *at, char *to, struct err *e);

// Archives of a folder on another machine.
struct shard_links {
    struct shard_link {
        char *stem; // owned
        struct remote_entry at;
    } * links;
    size_t n, cap;
};
// Appends the archives of `folder`, an s3:// or http(s):// name. An S3 store is asked for a list;
// of a web server each file FOLDER/NAME.tar of the n names is looked for, on `threads` connections.
// With names, only those shards are taken, in any case. 0 or -1.
int shard_links_find(struct shard_links *l, struct remote *r, const char *folder,
                     const char *const *names, size_t n, int threads, struct err *e);
// Sorts by stem; refuses two shards of one stem. 0 or -1.
int shard_links_sort(struct shard_links *l, struct err *e);
void shard_links_release(struct shard_links *l);
// Writes a link STEM.tar for each into the folder and removes other links; files that are no links
// stay. A new link gets its shard's time, a link whose text has changed the present time; unchanged
// links are not touched. 0 or -1.
int shard_links_write(const struct shard_links *l, const char *folder, struct err *e);

#endif
