// SPDX-License-Identifier: Apache-2.0
// Any bytes as a samples stream: an error or whole samples. As they come, and once more with the
// checksums put right, so that what stands behind them is reached.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/samples-format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const uint8_t *data, size_t size)
{
    struct samples_record s;
    struct err e;
    struct samples_reader *r = samples_open_memory(data, size, &e);
    uint64_t n = 0;
    volatile uint64_t sum = 0; // every byte is looked at
    int rc;
    if (!r)
        return;
    while ((rc = samples_next(r, &s, &e)) == 1) {
        if (s.row != n++ || s.shard >= samples_n_shards(r) || !s.key || !s.shard_name || !s.reason)
            abort();
        sum += strlen(s.key) + strlen(s.reason) + strlen(s.shard_name);
        for (size_t i = 0; s.image && i < s.image_bytes; i++)
            sum += s.image[i];
        for (size_t i = 0; s.caption && i <= s.caption_bytes; i++)
            sum += (uint8_t)s.caption[i];
    }
    (void)sum;
    struct err again;
    if (samples_next(r, &s, &again) != rc || (rc && strcmp(e.text, again.text)))
        abort();
    samples_close(r);
}

static void mend(uint8_t *p, size_t n)
{
    if (n < SAMPLES_TOP)
        return;
    uint64_t len = SAMPLES_TOP + samples_get32(p + 12);
    size_t at = 0;
    while (len <= n - at && n - at - len >= SAMPLES_SUM) {
        samples_put64(p + at + len, digest_u64(p + at, (size_t)len));
        at += (size_t)len + SAMPLES_SUM;
        if (n - at < SAMPLES_BLOCK)
            return;
        len = samples_get64(p + at + 8);
        if (len > n)
            return;
        len += SAMPLES_BLOCK;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_all(data, size);
    uint8_t *p = malloc(size + 1);
    if (!p)
        return 0;
    memcpy(p, data, size);
    mend(p, size);
    read_all(p, size);
    free(p);
    return 0;
}
