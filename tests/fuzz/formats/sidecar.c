// SPDX-License-Identifier: Apache-2.0
// Any bytes as a sidecar: refused, or one that is written and read back the same.
#include <string.h>

#include "fuzz/file.h"
#include "formats/sidecar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_and_read(const char *npy, const struct sidecar *s)
{
    struct sidecar back;
    struct err e;
    if (sidecar_write(npy, s, &e) || sidecar_read(npy, &back, &e) != 1)
        abort();
    if (back.rows != s->rows || back.seed != s->seed || strcmp(back.keys, s->keys) != 0 ||
        back.n_inputs != s->n_inputs || back.n_args != s->n_args || back.scale != s->scale ||
        back.has_bias != s->has_bias || back.bias != s->bias)
        abort();
    sidecar_release(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char npy[64], json[72];
    struct sidecar s;
    struct err e;
    snprintf(npy, sizeof npy, "/tmp/fuzz-sidecar.%ld.npy", (long)getpid());
    snprintf(json, sizeof json, "%s.json", npy);
    fuzz_file_put(json, data, size);
    if (sidecar_read(npy, &s, &e) == 1) {
        write_and_read(npy, &s);
        sidecar_release(&s);
    }
    unlink(json);
    return 0;
}
