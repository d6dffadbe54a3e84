// SPDX-License-Identifier: Apache-2.0
#include "shards/shard-remote.h"

#include <stdbool.h>
#include <string.h>

#include "base/path.h"
#include "base/url.h"

static bool is_folder(const char *name)
{
    size_t n = url_path_end(name);
    return url_is(name) && name[n - 1] == '/';
}

static int add_folder(struct shard_list *to, const char *name, struct remote *r, struct err *e)
{
    struct remote_list l = {0};
    size_t before = to->n;
    if (strncmp(name, "s3://", 5)) {
        char shown[SHARD_NAME_MAX];
        url_show(name, shown, sizeof shown);
        return err_set(e, "%s: a web server's folder cannot be listed: name its shards", shown);
    }
    int rc = remote_list(r, name, &l, e) ? err_wrap(e, "cannot list '%s'", name) : 0;
    for (size_t i = 0; !rc && i < l.n; i++) {
        const char *base = path_base(l.entries[i].name);
        if (base[path_stem(base)])
            rc = shard_list_add_name(to, l.entries[i].name, e);
    }
    remote_list_release(&l);
    if (!rc && to->n == before)
        rc = err_machine(e, "no archives in '%s'", name);
    return rc;
}

static int expand(struct shard_list *l, struct remote *r, struct err *e)
{
    struct shard_list to = {0};
    int rc = 0;
    for (size_t i = 0; !rc && i < l->n; i++)
        rc = is_folder(l->names[i]) ? add_folder(&to, l->names[i], r, e)
                                    : shard_list_add_name(&to, l->names[i], e);
    shard_list_release(rc ? &to : l);
    if (!rc)
        *l = to;
    return rc;
}

int shard_remote_open(struct shard_list *l, const struct remote_options *o, struct remote **r,
                      struct err *e)
{
    bool folders = false;
    for (size_t i = 0; i < l->n; i++)
        folders |= is_folder(l->names[i]);
    *r = remote_new(o, e);
    return !*r || (folders && expand(l, *r, e)) ? -1 : 0;
}
