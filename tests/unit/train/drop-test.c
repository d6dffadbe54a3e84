// SPDX-License-Identifier: Apache-2.0
// Which patches patch dropout keeps: how many, each once, in order, each as often as another, and
// others for another seed, epoch or key.
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "train/drop.h"
#include "unit/tap.h"

enum { PATCHES = 49, KEEP = 24, DRAWS = 20000 };

static void counts(void)
{
    ok(train_drop_keep(0, 196) == 0, "none is left out: all");
    ok(train_drop_keep(0.5, 196) == 98 && train_drop_keep(0.75, 49) == 12, "open_clip's counts");
    ok(train_drop_keep(0.999, 49) == 1, "one stays");
}

static void uniform(void)
{
    int32_t pick[KEEP], room[PATCHES];
    size_t times[PATCHES] = {0}, together = 0, disorder = 0;
    for (size_t i = 0; i < DRAWS; i++) {
        char key[32];
        snprintf(key, sizeof key, "%09zu", i);
        train_drop_pick(train_drop_draw(1, 0, key), PATCHES, KEEP, pick, room);
        bool first = false, last = false;
        for (size_t k = 0; k < KEEP; k++) {
            disorder += pick[k] < 0 || pick[k] >= PATCHES || (k && pick[k] <= pick[k - 1]);
            times[pick[k]]++;
            first |= pick[k] == 3;
            last |= pick[k] == 40;
        }
        together += first && last;
    }
    ok(!disorder, "each patch once, in order");
    double mean = (double)DRAWS * KEEP / PATCHES, chi = 0;
    for (size_t p = 0; p < PATCHES; p++)
        chi += ((double)times[p] - mean) * ((double)times[p] - mean) / mean;
    ok(chi < 60, "each as often as another: %g of 48", chi); // without replacement: half of chi^2
    double pairs = (double)DRAWS * KEEP * (KEEP - 1) / (PATCHES * (PATCHES - 1.0));
    ok(together > 0.95 * pairs && together < 1.05 * pairs, "two together as often: %zu of %g",
       together, pairs);
}

static void of_what(void)
{
    int32_t a[KEEP], b[KEEP], room[PATCHES];
    const uint64_t draw[] = {
        train_drop_draw(1, 2, "a"), train_drop_draw(1, 2, "a"), train_drop_draw(2, 2, "a"),
        train_drop_draw(1, 3, "a"), train_drop_draw(1, 2, "b"),
    };
    train_drop_pick(draw[0], PATCHES, KEEP, a, room);
    for (size_t i = 1; i < sizeof draw / sizeof *draw; i++) {
        train_drop_pick(draw[i], PATCHES, KEEP, b, room);
        ok(!memcmp(a, b, sizeof a) == (i == 1), "seed, epoch and key, and no other thing: %zu", i);
    }
}

int main(void)
{
    counts();
    uniform();
    of_what();
    return tap_done();
}
