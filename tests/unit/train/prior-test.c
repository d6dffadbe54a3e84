// SPDX-License-Identifier: Apache-2.0
// The prior of --cluster-prior: shares of labels under masks, and their mean by weight over the
// sets of a mixture.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "formats/npy-write.h"
#include "unit/tap.h"
#include "train/prior.h"

static char dir[] = "/tmp/prior-test-XXXXXX";

// DIR/folder/name with n items; true if it was written.
static bool put(const char *folder, const char *name, enum npy_type type, const void *items,
                uint64_t n)
{
    char path[PATH_BYTES];
    struct npy_writer w;
    struct err e;
    if (path_format(path, &e, "%s/%s", dir, folder))
        return false;
    mkdir(path, 0777);
    if (path_format(path, &e, "%s/%s/%s", dir, folder, name) ||
        npy_create(&w, path, type, 0, NULL, n, &e))
        return false;
    return !npy_write(&w, items, n, &e) && !npy_commit(&w, &e);
}

static bool is_log(const float *prior, size_t i, double share, double tau)
{
    return prior[i] == (float)(tau * log(share));
}

int main(void)
{
    const int32_t a[] = {0, 0, 1, -1, 2, 0}, b[] = {1, 1, 1, 2}, none[] = {-1, -1};
    const uint8_t keep[] = {1, 1, 1, 1, 0, 1};
    char la[PATH_BYTES], lb[PATH_BYTES], ka[PATH_BYTES], ln[PATH_BYTES];
    float prior[4];
    struct err e = {.text = ""};
    if (!mkdtemp(dir) || path_format(la, &e, "%s/la", dir) || path_format(lb, &e, "%s/lb", dir) ||
        path_format(ka, &e, "%s/ka", dir) || path_format(ln, &e, "%s/ln", dir))
        return 1;
    ok(put("la", "0.npy", NPY_I4, a, 6) && put("lb", "0.npy", NPY_I4, b, 2) &&
           put("lb", "1.npy", NPY_I4, b + 2, 2) && put("ka", "0.npy", NPY_U1, keep, 6) &&
           put("ln", "0.npy", NPY_I4, none, 2),
       "files of labels");
    const struct prior_set one = {la, NULL, "0.npy", 7}, masked = {la, ka, "0.npy", 3},
                           two = {lb, NULL, "0.npy\n1.npy\n", 1}, empty = {ln, NULL, "0.npy", 1};
    ok(!train_prior(&one, 1, 2, 4, prior, &e) && is_log(prior, 0, 3 / 5.0, 2) &&
           is_log(prior, 1, 1 / 5.0, 2) && is_log(prior, 2, 1 / 5.0, 2),
       "shares of one set, whatever its weight");
    ok(is_log(prior, 3, 0.5 / 5, 2), "a label that no row has counts as half of one");
    ok(!train_prior(&masked, 1, 1, 4, prior, &e) && is_log(prior, 0, 3 / 4.0, 1) &&
           is_log(prior, 2, 0.5 / 4, 1),
       "rows that the mask leaves");
    const struct prior_set mix[] = {masked, two};
    ok(!train_prior(mix, 2, 1, 4, prior, &e) &&
           is_log(prior, 0, 0.75 * (3 / 4.0) + 0.25 * (0 / 4.0), 1) &&
           is_log(prior, 1, 0.75 * (1 / 4.0) + 0.25 * (3 / 4.0), 1) &&
           is_log(prior, 2, 0.75 * 0 + 0.25 * (1 / 4.0), 1),
       "of two sets the mean by weight, 3 to 1");
    ok(is_log(prior, 3, 0.75 * (0.5 / 4) + 0.25 * (0.5 / 4), 1), "... and half a row of each");
    ok(train_prior(&empty, 1, 1, 4, prior, &e) && strstr(e.text, "no sample of"),
       "a set without labels is refused: %s", e.text);
    char command[PATH_BYTES];
    ok(!path_format(command, &e, "rm -rf %s", dir) && !system(command), "removed");
    return tap_done();
}
