// SPDX-License-Identifier: Apache-2.0
// Sums over parts whose bytes do not depend on the number of ranks. A step's parts 0 .. P - 1 lie
// on ranks in runs of P / size. Parts are joined in one binary tree, neighbours first: (0 + 1) + (2
// + 3) ...; the lower levels are a rank's own (comm_tree_local), the upper ones are ranks
// (recursive halving). With P and size powers of two, all of it is the same tree for any size.
// Another size gives the tree over ranks with leaves missing: the result then depends on it, unless
// the join is associative (integers).
#ifndef COMM_TREE_H
#define COMM_TREE_H

#include "comm/comm.h"

// x[i] = x[i] joined with y[i] for n items. Must be commutative bit for bit, as a + b is.
typedef void comm_join_fn(void *ctx, void *x, const void *y, size_t n);

// Joins part[0 .. n) of `items` items each into part[0], which is returned; the others are used up.
void *comm_tree_local(void *const *part, size_t n, size_t items, comm_join_fn *join, void *ctx);

// Joins the x[items] of all ranks, `bytes` an item; afterwards rank r has the result in its own
// place of x, items [comm_share(c, items, r), comm_share(c, items, r + 1)); the rest of x is used
// up. room: comm_tree_room bytes. Gives and takes (size - 1) / size of x. 0 or -1.
int comm_tree_scatter(struct comm *c, const char *what, void *x, size_t items, size_t bytes,
                      comm_join_fn *join, void *ctx, void *room, struct err *e);
// The same, with cut[size + 1] in place of shares: rank r's are items [cut[r], cut[r + 1]).
int comm_tree_scatter_at(struct comm *c, const char *what, void *x, const size_t *cut, size_t bytes,
                         comm_join_fn *join, void *ctx, void *room, struct err *e);
// The same with equal shares, and the result gathered: all of x on all ranks.
int comm_tree_all(struct comm *c, const char *what, void *x, size_t items, size_t bytes,
                  comm_join_fn *join, void *ctx, void *room, struct err *e);
// Bytes of `room`; 0 with one rank. With cuts: for shares of `most` items at most.
size_t comm_tree_room(const struct comm *c, size_t items, size_t bytes);
size_t comm_tree_room_at(const struct comm *c, size_t most, size_t bytes);
// Gathers the ranks' places of x, as comm_tree_scatter leaves them.
int comm_tree_gather(struct comm *c, const char *what, void *x, size_t items, size_t bytes,
                     struct err *e);
int comm_tree_gather_at(struct comm *c, const char *what, void *x, const size_t *cut, size_t bytes,
                        struct err *e);

// Joins: float32 sums, int64 sums.
void comm_add_f32(void *ctx, void *x, const void *y, size_t n);
void comm_add_i64(void *ctx, void *x, const void *y, size_t n);

#endif
