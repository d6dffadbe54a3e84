// SPDX-License-Identifier: Apache-2.0
// What teacher-embed reads and where its outputs go.
#include <string.h>
#include <unistd.h>

#include "embed/stage.h"
#include "system/io.h"

const char embed_stage_stdout[] = "-";

// Path of the image embeddings: --image-out or -o if given; else standard output, unless another
// output goes there, or standard output is a terminal and there are other outputs. NULL: none.
static const char *image_path(const struct embed_job *s)
{
    bool others = s->o->text_out || s->o->tokens_out;
    bool taken = (s->o->text_out && !strcmp(s->o->text_out, "-")) ||
                 (s->o->tokens_out && !strcmp(s->o->tokens_out, "-"));
    if (!s->o->images)
        return NULL;
    if (s->o->image_out || s->common->output != embed_stage_stdout)
        return s->o->image_out ? s->o->image_out : s->common->output;
    return taken || (others && isatty(STDOUT_FILENO)) ? NULL : s->common->output;
}

// A file a shard.
static int plan_folders(struct embed_job *s, struct err *e)
{
    if (!s->o->shards_from || s->o->shards.n || s->common->n_operands)
        return err_set(e, "--image-dir and --text-dir take their shards from --shards-from alone");
    if (s->o->image_out || s->o->text_out || s->o->tokens_out ||
        s->common->output != embed_stage_stdout)
        return err_set(e, "--image-dir and --text-dir go with no other output");
    if (!s->o->images && s->o->image_dir)
        return err_set(e, "--no-images leaves nothing for --image-dir");
    s->output.image_path = s->o->image_dir;
    s->output.text_path = s->o->text_dir;
    return 0;
}

static int plan_files(struct embed_job *s, struct err *e)
{
    bool output_given = s->common->output != embed_stage_stdout;
    struct embed_output *out = &s->output;
    if (s->o->index_dir)
        return err_set(e, "--index-dir goes with --image-dir and --text-dir");
    if (s->o->image_out && output_given)
        return err_set(e, "--image-out and -o both name the image embeddings");
    if (!s->o->shards.n && !s->o->shards_from && s->common->n_operands > 1)
        return err_set(e, "more than one samples stream (tar files need --shards)");
    out->text_path = s->o->text_out;
    out->tokens_path = s->o->tokens_out;
    if (!s->o->images && (s->o->image_out || output_given))
        return err_set(e, "--no-images leaves nothing for %s",
                       s->o->image_out ? "--image-out" : "-o");
    out->image_path = image_path(s);
    if (!out->image_path && !s->o->text_out && !s->o->tokens_out)
        return err_set(e, "nothing to do: --no-images without --text-out or --tokens-out");
    const char *all[] = {out->image_path, out->text_path, out->tokens_path};
    int to_stdout = 0;
    for (int i = 0; i < 3; i++)
        to_stdout += all[i] && !strcmp(all[i], "-");
    if (to_stdout && isatty(STDOUT_FILENO))
        return err_set(e, "arrays are not written to a terminal; use -o FILE or a pipe");
    return 0;
}

// The shards, in the order of the command line, then those of the list.
static int list_shards(struct embed_job *s, struct err *e)
{
    for (size_t i = 0; i < s->o->shards.n; i++)
        if (shard_list_add(&s->shards, s->o->shards.items[i], e))
            return -1;
    // What the shell made of a pattern behind --shards.
    for (size_t i = 0; (s->o->shards.n || s->o->shards_from) && i < s->common->n_operands; i++)
        if (shard_list_add(&s->shards, s->common->operands[i], e))
            return -1;
    for (size_t i = 0; i < s->list.n; i++)
        if (shard_list_add_name(&s->shards, s->list.line[i], e))
            return -1;
    return embed_in_folders(s) ? shard_list_check_names(&s->shards, e) : 0;
}

static int plan_pictures(struct embed_job *s, struct err *e)
{
    struct read_augment a = s->o->augment;
    a.random = s->o->crop;
    s->augment.crop = crop_params_default;
    if (read_augment_parse(&a, &s->augment, e))
        return -1;
    s->augmented = a.random || a.flip || a.jitter || a.gray > 0;
    if (s->augmented && !s->o->shards.n && !s->o->shards_from)
        return err_set(e, "--%s goes with --shards; shard-read makes the pictures of a stream",
                       a.random   ? "crop random"
                       : a.flip   ? "flip"
                       : a.jitter ? "jitter"
                                  : "gray");
    return 0;
}

// What goes where; usage errors.
static int plan(struct embed_job *s, struct err *e)
{
    struct embed_output *out = &s->output;
    if (!s->o->model)
        return err_set(e, "no model: -m DIR");
    if ((embed_in_folders(s) ? plan_folders(s, e) : plan_files(s, e)) || plan_pictures(s, e))
        return -1;
    s->captions = out->text_path || out->tokens_path;
    if (s->o->select && !s->o->shards.n && !s->o->shards_from)
        return err_set(e, "--select goes with --shards; a stream is selected by shard-read");
    if (s->o->caption && !s->o->shards.n && !s->o->shards_from)
        return err_set(e, "--caption goes with --shards; shard-read puts the captions of a stream");
    if (s->o->select && !(s->select = select_new(s->o->select, e)))
        return -1;
    if (s->o->shards_from && lines_read(&s->list, s->o->shards_from, e)) {
        e->machine = true;
        return -1;
    }
    if (list_shards(s, e))
        return -1;
    if (embed_in_folders(s))
        return 0;
    bool direct = s->o->shards.n || s->o->shards_from;
    const char *all[] = {out->image_path, out->text_path, out->tokens_path};
    char **inputs = direct ? s->shards.names : s->common->operands;
    return io_check_apart(all, 3, inputs, direct ? s->shards.n : s->common->n_operands, e);
}

int embed_stage_prepare(struct embed_job *s, const struct embed_stage_options *o,
                        const struct cli_common *common, bool *usage, struct err *e)
{
    s->o = o;
    s->common = common;
    int rc = plan(s, e);
    *usage = rc && !e->machine;
    return rc;
}
