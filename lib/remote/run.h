// SPDX-License-Identifier: Apache-2.0
// Internal to lib/remote: the run's state, and one request.
#ifndef REMOTE_RUN_H
#define REMOTE_RUN_H

#include <pthread.h>
#include <stdatomic.h>

#include "remote/answer.h"
#include "remote/aws.h"
#include "remote/place.h"
#include "remote/remote.h"

enum { REMOTE_BLOCK_MAX = 8 << 20, REMOTE_CONNECTIONS = 32 };

struct remote {
    struct remote_options o;
    struct aws aws;
    size_t block;          // bytes of a buffer
    size_t n_blocks;       // of the object that is read; the one ahead has one more
    bool library, started; // libcurl is up, `aws` is read
    pthread_mutex_t lock;
    void **idle; // connections that are not in use (CURL *)
    size_t n_idle, cap_idle;
    uint8_t **buffers; // not in use
    size_t n_buffers, cap_buffers;
    atomic_bool reached; // some server has answered
    struct remote_object *ahead;
};

// Prepares the first request: loads the library and the credentials. Thread-safe. 0 or -1.
int remote_start(struct remote *r, struct err *e);
uint8_t *remote_take_buffer(struct remote *r, struct err *e);
void remote_give_buffer(struct remote *r, uint8_t *buffer);

struct http_request {
    const struct place *place;
    bool head;
    bool range; // bytes from to `to`
    uint64_t from, to;
    const char *if_match; // a strong tag, or ""
    // Takes bytes of an answer 200 or 206, n of them. 0, or -1 with *e set: end the request.
    int (*body)(void *ctx, const struct answer *a, const void *data, size_t n, struct err *e);
    // Called before the request is sent again; true: there was progress. It may change the range.
    bool (*again)(void *ctx, struct http_request *q);
    void *ctx;
    const atomic_bool *stop; // ends the request, or NULL
};

// Sends until there is an answer 200, 206, 404 or 416, which is in *a then. 0, or -1 with e set:
// another answer, or no more tries.
int http_send(struct remote *r, struct http_request *q, struct answer *a, struct err *e);
// Closes a connection of `idle`.
void http_close(void *connection);

#endif
