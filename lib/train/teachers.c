// SPDX-License-Identifier: Apache-2.0
#include "train/teachers.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char VIEW[] = "{view}";
static const double SCALE = 100; // where CLIP's logit_scale ends

// A name with each {view} replaced; heap.
static char *name_of(const char *at, size_t n, size_t view, struct err *e)
{
    char number[24], *to;
    size_t len = (size_t)snprintf(number, sizeof number, "%zu", view), used = 0, step;
    if (!(to = mem_alloc(n + n / (sizeof VIEW - 1) * len + 1, 1, e)))
        return NULL;
    for (size_t i = 0; i < n; i += step) {
        bool is = n - i >= sizeof VIEW - 1 && !memcmp(at + i, VIEW, sizeof VIEW - 1);
        step = is ? sizeof VIEW - 1 : 1;
        memcpy(to + used, is ? number : at + i, is ? len : 1);
        used += is ? len : 1;
    }
    to[used] = '\0';
    return to;
}

static int add_teacher(struct teacher_dirs *d, const char *at, size_t n, struct err *e)
{
    if (!n)
        return err_set(e, "a folder without a name");
    if (d->teachers == LOSS_TEACHERS_MAX)
        return err_set(e, "more than %d teachers", (int)LOSS_TEACHERS_MAX);
    for (size_t v = 0; v < d->views; v++)
        if (!(d->dir[d->teachers * d->views + v] = name_of(at, n, v, e)))
            return -1;
    d->teachers++;
    return 0;
}

int teacher_dirs_parse(struct teacher_dirs *d, const char *list, size_t views, struct err *e)
{
    bool has = strstr(list, VIEW);
    *d = (struct teacher_dirs){.views = views ? views : 1};
    if (has && !views)
        return err_set(e, "'%s' needs --views A, their number", list);
    if (!(d->dir = mem_alloc(LOSS_TEACHERS_MAX * d->views, sizeof *d->dir, e)))
        return -1;
    for (const char *p = list;; p++) {
        size_t n = strcspn(p, ",");
        if (add_teacher(d, p, n, e)) {
            teacher_dirs_release(d);
            return -1;
        }
        p += n;
        if (!*p)
            return 0;
    }
}

void teacher_dirs_release(struct teacher_dirs *d)
{
    for (size_t i = 0; d->dir && i < LOSS_TEACHERS_MAX * d->views; i++)
        free(d->dir[i]);
    free(d->dir);
    *d = (struct teacher_dirs){0};
}

const char *teacher_dir(const struct teacher_dirs *d, size_t teacher, size_t view)
{
    return teacher < d->teachers ? d->dir[teacher * d->views + view % d->views] : NULL;
}

int teacher_scales(const char *list, size_t n, const double *told, float *to, struct err *e)
{
    size_t have = 0;
    for (size_t i = 0; i < n && !list; i++)
        to[i] = (float)(told[i] > 0 ? told[i] : SCALE);
    for (const char *p = list; p; p = *p ? p + 1 : NULL) {
        char *end;
        float x = strtof(p, &end);
        if (end == p || (*end && *end != ',') || !isfinite(x) || x < 0)
            return err_set(e, "--teacher-scale: '%s' is not a list of numbers from 0 on", list);
        if (have < n)
            to[have] = x;
        have++;
        p = end;
    }
    if (list && have != 1 && have != n)
        return err_set(e, "--teacher-scale: %zu numbers for %zu teachers", have, n);
    for (size_t i = 1; i < n && have == 1; i++)
        to[i] = to[0];
    return 0;
}
