// SPDX-License-Identifier: Apache-2.0
#include "system/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY // a state on the stack
#include <xxhash.h>

#include "system/io.h"
#include "base/mem.h"

struct digest {
    XXH3_state_t *state;
};

struct digest *digest_new(struct err *e)
{
    struct digest *d = mem_alloc(1, sizeof *d, e);
    if (!d)
        return NULL;
    d->state = XXH3_createState();
    if (!d->state) {
        free(d);
        err_set(e, "out of memory");
        return NULL;
    }
    digest_reset(d);
    return d;
}

void digest_free(struct digest *d)
{
    if (!d)
        return;
    XXH3_freeState(d->state);
    free(d);
}

void digest_reset(struct digest *d)
{
    XXH3_128bits_reset(d->state);
}

void digest_add(struct digest *d, const void *data, size_t n)
{
    if (n)
        XXH3_128bits_update(d->state, data, n);
}

void digest_key(struct digest *d, const char *key)
{
    digest_add(d, key, strlen(key) + 1);
}

static void hex_of(XXH128_hash_t h, char hex[DIGEST_HEX])
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, h);
    for (int i = 0; i < 16; i++) {
        hex[2 * i] = "0123456789abcdef"[c.digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[c.digest[i] & 15];
    }
    hex[32] = '\0';
}

void digest_hex(const struct digest *d, char hex[DIGEST_HEX])
{
    hex_of(XXH3_128bits_digest(d->state), hex);
}

void digest_chain(uint8_t chain[DIGEST_BYTES], const char *key)
{
    XXH3_state_t s;
    XXH128_canonical_t c;
    XXH3_128bits_reset(&s);
    XXH3_128bits_update(&s, chain, DIGEST_BYTES);
    XXH3_128bits_update(&s, key, strlen(key) + 1);
    XXH128_canonicalFromHash(&c, XXH3_128bits_digest(&s));
    memcpy(chain, c.digest, DIGEST_BYTES);
}

void digest_bytes(const void *data, size_t n, char hex[DIGEST_HEX])
{
    hex_of(XXH3_128bits(data, n), hex);
}

uint64_t digest_u64(const void *data, size_t n)
{
    return XXH3_64bits(data, n);
}

static int add_file(struct digest *d, int fd, uint8_t *buf, size_t room)
{
    for (;;) {
        ssize_t k = io_read_full(fd, buf, room);
        if (k <= 0)
            return (int)k;
        digest_add(d, buf, (size_t)k);
    }
}

int digest_file(const char *path, char hex[DIGEST_HEX], struct err *e)
{
    enum { ROOM = 1 << 20 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "cannot open '%s'", path);
    uint8_t *buf = mem_alloc(ROOM, 1, e);
    struct digest *d = buf ? digest_new(e) : NULL;
    int rc = -1;
    if (d && add_file(d, fd, buf, ROOM))
        err_errno(e, "cannot read '%s'", path);
    else if (d) {
        digest_hex(d, hex);
        rc = 0;
    }
    digest_free(d);
    free(buf);
    close(fd);
    return rc;
}

bool digest_is_hex(const char *s)
{
    return strlen(s) == 32 && strspn(s, "0123456789abcdef") == 32;
}

uint64_t digest_u64_two(const void *a, size_t n_a, const void *b, size_t n_b)
{
    XXH3_state_t s;
    XXH3_64bits_reset(&s);
    if (n_a)
        XXH3_64bits_update(&s, a, n_a);
    if (n_b)
        XXH3_64bits_update(&s, b, n_b);
    return XXH3_64bits_digest(&s);
}
