// SPDX-License-Identifier: Apache-2.0
// A shard from memory under small limits: any bytes must give samples, an end or an error. As they
// come, joined with themselves, and compressed, so that a spoilt archive is reached through a
// filter.
#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>

#include "shards/shard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The number of samples. `skip`: bytes are passed over.
static size_t read_all(const uint8_t *data, size_t size, bool skip)
{
    struct shard_limits lim = {.member_bytes = 1 << 20, .sample_bytes = 1 << 21, .members = 8};
    struct err e;
    struct shard_sample s;
    struct shard *sh = shard_open_memory(data, size, &lim, &e);
    if (!sh)
        abort();
    shard_pass_over(sh, skip);
    volatile size_t sum = 0; // every byte is looked at
    size_t n = 0;
    int rc;
    while ((rc = shard_next(sh, &s, &e)) > 0) {
        if (s.index != n++)
            abort();
        sum += strlen(s.key);
        for (size_t i = 0; i < s.n_members; i++) {
            sum += strlen(s.members[i].ext);
            for (size_t j = 0; j <= s.members[i].size; j++)
                sum += s.members[i].data[j];
        }
    }
    if (rc < 0 && e.machine) // there is memory: the input is to blame
        abort();
    if (shard_next(sh, &s, &e) != rc)
        abort();
    shard_close(sh);
    (void)sum;
    return n;
}

// gzip or zstd of the bytes, at `to`. Bytes used, 0: no room.
static size_t pack(const uint8_t *data, size_t size, bool zstd, uint8_t *to, size_t room)
{
    struct archive *a = archive_write_new();
    struct archive_entry *en = archive_entry_new();
    size_t used = 0;
    archive_write_set_format_raw(a);
    int rc = zstd ? archive_write_add_filter_zstd(a) : archive_write_add_filter_gzip(a);
    archive_write_set_bytes_per_block(a, 0);
    archive_entry_set_filetype(en, AE_IFREG);
    bool good = rc == ARCHIVE_OK && archive_write_open_memory(a, to, room, &used) == ARCHIVE_OK &&
                archive_write_header(a, en) == ARCHIVE_OK &&
                archive_write_data(a, data, size) >= 0 && archive_write_close(a) == ARCHIVE_OK;
    archive_entry_free(en);
    archive_write_free(a);
    return good ? used : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n = read_all(data, size, false), room = 2 * size + (1 << 16);
    read_all(data, size, true);
    uint8_t *p = malloc(room);
    if (!p || size > 1 << 18) {
        free(p);
        return 0;
    }
    memcpy(p, data, size);
    memcpy(p + size, data, size);
    // What the first of two holds is there, but for a last sample whose end may be in doubt now.
    if (read_all(p, 2 * size, false) + 1 < n)
        abort();
    size_t used = pack(data, size, n % 2, p, room);
    if (used)
        read_all(p, used, false);
    free(p);
    return 0;
}
