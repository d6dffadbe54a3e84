// SPDX-License-Identifier: Apache-2.0
#include "remote/remote.h"

#ifdef CLIPCID_REMOTE
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "remote/run.h"

enum { BLOCKS = 8, BLOCK_LEAST = 64 << 10, MEM_LEAST = 1 << 20 };

// Eight blocks of the memory, or as many of the largest blocks as it holds; one is for the file
// ahead.
static void divide(struct remote *r)
{
    uint64_t mem = r->o.mem > MEM_LEAST ? r->o.mem : MEM_LEAST, block = mem / BLOCKS;
    block = block < REMOTE_BLOCK_MAX ? block : REMOTE_BLOCK_MAX;
    r->block = (size_t)(block > BLOCK_LEAST ? block : BLOCK_LEAST);
    uint64_t n = mem / r->block - 1;
    r->n_blocks = n < REMOTE_CONNECTIONS ? (size_t)n : REMOTE_CONNECTIONS;
}

struct remote *remote_new(const struct remote_options *o, struct err *e)
{
    struct remote *r = mem_alloc(1, sizeof *r, e);
    if (!r)
        return NULL;
    r->o = *o;
    divide(r);
    pthread_mutex_init(&r->lock, NULL);
    return r;
}

int remote_start(struct remote *r, struct err *e)
{
    int rc = 0;
    pthread_mutex_lock(&r->lock);
    if (!r->library && !(r->library = curl_global_init(CURL_GLOBAL_DEFAULT) == 0))
        rc = err_machine(e, "libcurl cannot be used");
    if (!rc && !r->started && !(rc = aws_read(&r->aws, e)))
        r->started = true;
    pthread_mutex_unlock(&r->lock);
    if (rc)
        e->machine = true;
    return rc;
}

void remote_free(struct remote *r)
{
    if (!r)
        return;
    remote_close(r->ahead);
    for (size_t i = 0; i < r->n_idle; i++)
        http_close(r->idle[i]);
    for (size_t i = 0; i < r->n_buffers; i++)
        free(r->buffers[i]);
    free(r->idle);
    free(r->buffers);
    aws_release(&r->aws);
    pthread_mutex_destroy(&r->lock);
    if (r->library)
        curl_global_cleanup();
    free(r);
}

uint8_t *remote_take_buffer(struct remote *r, struct err *e)
{
    pthread_mutex_lock(&r->lock);
    uint8_t *b = r->n_buffers ? r->buffers[--r->n_buffers] : NULL;
    pthread_mutex_unlock(&r->lock);
    return b ? b : mem_alloc_unset(r->block, 1, e);
}

void remote_give_buffer(struct remote *r, uint8_t *buffer)
{
    struct err unused;
    pthread_mutex_lock(&r->lock);
    bool kept = buffer && !mem_grow(&r->buffers, &r->cap_buffers, r->n_buffers + 1,
                                    sizeof *r->buffers, &unused);
    if (kept)
        r->buffers[r->n_buffers++] = buffer;
    pthread_mutex_unlock(&r->lock);
    if (!kept)
        free(buffer);
}

#else // no libcurl
#include <stdlib.h>

#include "base/mem.h"

struct remote {
    struct remote_options o;
};

struct remote *remote_new(const struct remote_options *o, struct err *e)
{
    struct remote *r = mem_alloc(1, sizeof *r, e);
    if (r)
        r->o = *o;
    return r;
}

void remote_free(struct remote *r)
{
    free(r);
}

static int missing(struct err *e)
{
    return err_machine(e, "this build reads local files only: it was made without libcurl");
}

struct remote_object *remote_open(struct remote *r, const char *name, struct err *e)
{
    (void)r, (void)name;
    missing(e);
    return NULL;
}

void remote_ahead(struct remote *r, const char *name)
{
    (void)r, (void)name;
}

uint64_t remote_size(const struct remote_object *o)
{
    (void)o;
    return 0;
}

ssize_t remote_next(struct remote_object *o, const uint8_t **data, struct err *e)
{
    (void)o, (void)data;
    return missing(e);
}

uint64_t remote_skip(struct remote_object *o, uint64_t n)
{
    (void)o, (void)n;
    return 0;
}

void remote_close(struct remote_object *o)
{
    (void)o;
}

int remote_list(struct remote *r, const char *prefix, struct remote_list *l, struct err *e)
{
    (void)r, (void)prefix, (void)l;
    return missing(e);
}

int remote_look(struct remote *r, const char *name, struct remote_entry *one, struct err *e)
{
    (void)r, (void)name, (void)one;
    return missing(e);
}
#endif
