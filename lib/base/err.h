// SPDX-License-Identifier: Apache-2.0
// Error values. Library functions return 0, or -1 with `struct err` filled in; they never print or
// exit.
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

enum { ERR_TEXT_MAX = 768 };

struct err {
    char text[ERR_TEXT_MAX]; // one line, no capital, no full stop, control characters replaced
    // A system call failed or memory ran out: the same input may be read without error next time.
    // A reader that passes over damaged samples must not pass over this.
    bool machine;
};

// Formats the message, replaces control characters by '?', returns -1 so that callers can `return
// err_set(...)`. Clears `machine`.
int err_set(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// As err_set, followed by ": " and strerror(errno). Sets `machine`.
int err_errno(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// As err_set. Sets `machine`.
int err_machine(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Puts "prefix: " before the message that is there: adds the file or record as the error goes up.
// Keeps `machine`.
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Replaces control characters (C0, DEL, C1, each by one '?') in place; names from hostile archives
// must not send escapes to a terminal. Other bytes that are no UTF-8 stay.
void err_strip_controls(char *s);

#endif
