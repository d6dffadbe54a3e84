// SPDX-License-Identifier: Apache-2.0
// The first weights of a student: open_clip's initialisation, and what --init, --init-image and
// --init-text give of them (runs/setup.h).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/weights.h"
#include "runs/setup.h"

// Names of the tensors that something became of, as many as there is room for: "a, b and 7 more".
static size_t names(const struct clip_table *t, const struct clip_taking *k, enum clip_take how,
                    char *text, size_t room)
{
    size_t n = 0, shown = 0, at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < t->n; i++) {
        if (k->how[i] != how)
            continue;
        n++;
        if (shown + 1 < n || at + strlen(t->t[i].name) + 24 > room)
            continue;
        at += (size_t)snprintf(text + at, room - at, "%s%s", shown++ ? ", " : "", t->t[i].name);
    }
    if (n > shown)
        snprintf(text + at, room - at, " and %zu more", n - shown);
    return n;
}

static void say(const struct clip_table *t, const struct clip_taking *k, const char *option,
                const char *folder, struct log *log)
{
    char same[8], resized[200], made[200], cut[24] = "";
    size_t n = names(t, k, CLIP_TAKE_SAME, same, sizeof same), tensors = 0;
    size_t n_resized = names(t, k, CLIP_TAKE_RESIZED, resized, sizeof resized);
    size_t n_cut = names(t, k, CLIP_TAKE_CUT, same, sizeof same);
    if (n_cut)
        snprintf(cut, sizeof cut, ", %zu of them cut", n_cut);
    size_t n_made = names(t, k, CLIP_TAKE_NEW, made, sizeof made);
    for (size_t i = 0; i < t->n; i++)
        tensors += k->how[i] != CLIP_TAKE_NONE;
    log_note(log, "%s '%s': %zu of %zu tensors taken%s%s%s%s%s%s%s", option, folder,
             n + n_resized + n_cut, tensors, cut, n_resized ? ", resized: " : "", resized,
             n_made ? ", new: " : "", made, k->other[0] ? ", not taken: " : "", k->other);
    if (k->other_pictures)
        log_warn(log, "%s '%s': its pictures had another mean or standard deviation", option,
                 folder);
}

// All of the tower that is not trained must come from the teacher.
static int whole_tower(const struct clip_table *t, const struct clip_taking *k, struct err *e)
{
    for (size_t i = 0; i < t->n; i++)
        if (k->how[i] != CLIP_TAKE_NONE && k->how[i] != CLIP_TAKE_SAME)
            return err_set(e, "has no %s of the student's shape", t->t[i].name);
    return 0;
}

int train_init_take(const struct clip_table *t, const struct train_options *o, float *flat,
                    struct log *log, struct err *e)
{
    bool no_image = o->towers == LOSS_TEXT_TOWER, no_text = o->towers == LOSS_IMAGE_TOWER;
    const struct {
        const char *option, *folder;
        bool image, text, teacher;
    } from[] = {{"--init", o->init, !o->init_image && !no_image, !o->init_text && !no_text, false},
                {"--init-image", o->init_image, true, false, false},
                {"--init-text", o->init_text, false, true, false},
                {"--teacher", o->towers ? o->teacher : NULL, no_image, no_text, true}};
    struct clip_taking k = {.how = mem_alloc(t->n, sizeof *k.how, e)};
    int rc = k.how ? 0 : -1;
    for (size_t i = 0; i < sizeof from / sizeof *from && !rc; i++) {
        if (!from[i].folder)
            continue;
        k.tower[CLIP_VISION] = from[i].image;
        k.tower[CLIP_TEXT] = from[i].text;
        k.logits = !i;
        k.inherit = o->inherit && !from[i].teacher;
        if ((rc = clip_weights_take(from[i].folder, t, &k, flat, e)) ||
            (from[i].teacher && (rc = whole_tower(t, &k, e))))
            err_wrap(e, "%s", from[i].option);
        else
            say(t, &k, from[i].option, from[i].folder, log);
    }
    free(k.how);
    return rc;
}

int train_setup_weights(struct train_core *c, const struct train_options *o, struct log *log,
                        struct err *e)
{
    float *flat = mem_alloc(c->table.n_flat, sizeof *flat, e);
    if (!flat)
        return -1;
    for (size_t i = 0; i < c->table.n; i++)
        clip_init_tensor(&c->table, i, o->seed, flat + c->table.t[i].offset);
    int rc = train_init_take(&c->table, o, flat, log, e);
    if (!rc)
        rc = train_core_load(c, flat, e);
    free(flat);
    return rc;
}
