// SPDX-License-Identifier: Apache-2.0
#include "train/profile.h"

#include <inttypes.h>
#include <stdio.h>

static void rate(double flop, double seconds, char text[24])
{
    text[0] = '\0';
    if (flop > 0 && seconds > 0)
        snprintf(text, 24, "%.1f", flop / seconds / 1e9);
}

static void say_kinds(const struct dev_profile *p, double all, double steps, struct log *log)
{
    log_note(log, "%-24s %10s %12s %7s %12s", "kind of work", "calls", "ms a step", "share",
             "GFLOP/s");
    for (int k = 0; k < DEV_KINDS; k++) {
        const struct dev_cost *c = &p->kind[k];
        char speed[24];
        rate(c->flop, c->seconds, speed);
        if (c->calls || k == DEV_KIND_OTHER)
            log_note(log, "%-24s %10.0f %12.2f %6.1f%% %12s", dev_kind_names[k],
                     (double)c->calls / steps, 1e3 * c->seconds / steps, 100 * c->seconds / all,
                     speed);
    }
}

static void say_parts(const struct dev_profile *p, double all, double steps, struct log *log)
{
    log_note(log, "%-24s %10s %12s %7s %12s", "part", "forward", "backward", "share", "GFLOP/s");
    for (size_t i = 0; i < p->n_parts; i++) {
        const struct dev_cost *c = p->part[i].cost;
        double seconds = c[0].seconds + c[1].seconds;
        char speed[24];
        rate(c[0].flop + c[1].flop, seconds, speed);
        log_note(log, "%-24s %10.2f %12.2f %6.1f%% %12s", p->part[i].name,
                 1e3 * c[0].seconds / steps, 1e3 * c[1].seconds / steps, 100 * seconds / all,
                 speed);
    }
}

void train_profile_say(const struct dev_profile *p, uint64_t steps, struct log *log)
{
    double all = p->since - p->began, flop = 0;
    char speed[24];
    for (int k = 0; k < DEV_KINDS; k++)
        flop += p->kind[k].flop;
    rate(flop, all, speed);
    log_note(log, "profile of %" PRIu64 " steps: %.2f ms each, %.3f GFLOP, %s GFLOP/s", steps,
             1e3 * all / (double)steps, flop / (double)steps / 1e9, speed);
    say_kinds(p, all, (double)steps, log);
    say_parts(p, all, (double)steps, log);
}
