// SPDX-License-Identifier: Apache-2.0
// A shard from memory under small limits: any bytes must give samples, an end or an error.
#include <stdlib.h>
#include <string.h>

#include "shard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shard_limits lim = {.member_bytes = 1 << 20, .sample_bytes = 1 << 21, .members = 8};
    struct err e;
    struct shard_sample s;
    struct shard *sh = shard_open_memory(data, size, &lim, &e);
    if (!sh)
        abort();
    size_t sum = 0, n = 0;
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
    if (shard_next(sh, &s, &e) != rc)
        abort();
    shard_close(sh);
    return sum == (size_t)-1;
}
