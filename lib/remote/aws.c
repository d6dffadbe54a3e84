// SPDX-License-Identifier: Apache-2.0
#include "remote/aws.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/path.h"
#include "remote/ini.h"
#include "system/lines.h"

// Reading one file: what is looked for, and whether it was there.
struct answer_reading {
    struct aws *a;
    const char *profile;
    bool config;      // ~/.aws/config, whose sections are called "profile NAME"
    bool found;       // the profile
    char *services;   // the profile's group of endpoints
    char *source;     // where its keys come from, a source that is not supported
    bool no_endpoint; // those of files are to be ignored
    bool memory;      // ran out
};

static const char *variable(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

static bool yes(const char *name)
{
    const char *v = variable(name);
    return v && (!strcasecmp(v, "yes") || !strcasecmp(v, "true") || !strcmp(v, "1"));
}

// Sets *to, unless it has a value already.
static void fill(struct answer_reading *r, char **to, const char *value)
{
    if (*to || !value)
        return;
    *to = strdup(value);
    r->memory |= !*to;
}

static bool is_profile(const struct answer_reading *r, const char *section)
{
    static const char word[] = "profile";
    if (!strcmp(section, r->profile) && (!r->config || !strcmp(section, "default")))
        return true;
    if (!r->config || strncmp(section, word, sizeof word - 1))
        return false;
    section += sizeof word - 1;
    return (*section == ' ' || *section == '\t') &&
           !strcmp(section + strspn(section, " \t"), r->profile);
}

// Names of the sources of keys that are not supported.
static bool other_source(const char *name)
{
    static const char *const names[] = {"sso_session", "sso_start_url", "credential_process",
                                        "role_arn", "web_identity_token_file"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i]))
            return true;
    return false;
}

static void take(void *ctx, const struct ini_value *v)
{
    struct answer_reading *r = ctx;
    if (!is_profile(r, v->section))
        return;
    r->found = true;
    if (*v->group)
        return;
    if (!strcmp(v->name, "aws_access_key_id"))
        fill(r, &r->a->id, v->value);
    else if (!strcmp(v->name, "aws_secret_access_key"))
        fill(r, &r->a->secret, v->value);
    else if (!strcmp(v->name, "aws_session_token"))
        fill(r, &r->a->token, v->value);
    else if (!strcmp(v->name, "region"))
        fill(r, &r->a->region, v->value);
    else if (!strcmp(v->name, "endpoint_url") && !r->no_endpoint)
        fill(r, &r->a->endpoint, v->value);
    else if (!strcmp(v->name, "ca_bundle"))
        fill(r, &r->a->ca, v->value);
    else if (other_source(v->name))
        fill(r, &r->source, v->name);
}

// The first pass over ~/.aws/config: the endpoint of S3 alone goes before one for all services, so
// the group of services must be known.
static void take_services(void *ctx, const struct ini_value *v)
{
    struct answer_reading *r = ctx;
    if (is_profile(r, v->section) && !*v->group && !strcmp(v->name, "services"))
        fill(r, &r->services, v->value);
}

static void take_service(void *ctx, const struct ini_value *v)
{
    struct answer_reading *r = ctx;
    if (strncmp(v->section, "services ", 9) == 0 && !strcmp(v->section + 9, r->services) &&
        !strcmp(v->group, "s3") && !strcmp(v->name, "endpoint_url"))
        fill(r, &r->a->endpoint, v->value);
}

// The file's text, "" where there is none; NULL with e set.
static char *text_of(const char *path, struct err *e)
{
    struct lines l = {0};
    if (access(path, F_OK) && (errno == ENOENT || errno == ENOTDIR))
        return mem_strdup("", e);
    if (lines_read(&l, path, e))
        return NULL;
    size_t n = 1;
    for (size_t i = 0; i < l.n; i++)
        n += strlen(l.line[i]) + 1;
    char *text = mem_alloc(n, 1, e), *p = text;
    for (size_t i = 0; text && i < l.n; i++)
        p += sprintf(p, "%s\n", l.line[i]);
    lines_release(&l);
    return text;
}

static void wipe(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
    free(s);
}

static int scan(struct answer_reading *r, const char *path,
                void (*visit)(void *ctx, const struct ini_value *v), struct err *e)
{
    char *text = text_of(path, e);
    if (!text)
        return -1;
    char *copy = text;
    size_t n = strlen(text);
    ini_each(copy, visit, r);
    explicit_bzero(text, n);
    free(text);
    return r->memory ? err_machine(e, "out of memory") : 0;
}

// The path of a file of ~/.aws, "" where there is no home. 0 or -1.
static int file_of(char to[PATH_BYTES], const char *name, const char *file, struct err *e)
{
    const char *given = variable(name), *home = variable("HOME");
    to[0] = '\0';
    if (given)
        return path_format(to, e, "%s", given);
    return home ? path_format(to, e, "%s/.aws/%s", home, file) : 0;
}

static int read_files(struct answer_reading *r, struct err *e)
{
    char credentials[PATH_BYTES], config[PATH_BYTES];
    if (file_of(credentials, "AWS_SHARED_CREDENTIALS_FILE", "credentials", e) ||
        file_of(config, "AWS_CONFIG_FILE", "config", e))
        return -1;
    // A key of the environment goes with its own secret and token, never with those of a file.
    bool keys = r->a->id || r->a->secret;
    if (keys)
        fill(r, &r->a->id, ""), fill(r, &r->a->secret, ""), fill(r, &r->a->token, "");
    if (*credentials && scan(r, credentials, take, e))
        return -1;
    r->config = true;
    if (!*config)
        return 0;
    if (!r->no_endpoint && scan(r, config, take_services, e))
        return -1;
    if (r->services && scan(r, config, take_service, e))
        return -1;
    return scan(r, config, take, e);
}

static void read_environment(struct answer_reading *r)
{
    struct aws *a = r->a;
    fill(r, &a->id, variable("AWS_ACCESS_KEY_ID"));
    fill(r, &a->secret, variable("AWS_SECRET_ACCESS_KEY"));
    if (a->id)
        fill(r, &a->token, variable("AWS_SESSION_TOKEN"));
    fill(r, &a->region, variable("AWS_REGION"));
    fill(r, &a->region, variable("AWS_DEFAULT_REGION"));
    fill(r, &a->endpoint, variable("AWS_ENDPOINT_URL_S3"));
    fill(r, &a->endpoint, variable("AWS_ENDPOINT_URL"));
    fill(r, &a->ca, variable("AWS_CA_BUNDLE"));
    r->no_endpoint = yes("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") || a->endpoint;
}

static void finish(struct answer_reading *r)
{
    struct aws *a = r->a;
    char **all[] = {&a->id, &a->secret, &a->token, &a->endpoint, &a->ca};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        fill(r, all[i], "");
    fill(r, &a->region, "us-east-1");
    if (r->memory)
        return;
    for (size_t n = strlen(a->endpoint); n && a->endpoint[n - 1] == '/'; n--)
        a->endpoint[n - 1] = '\0';
    if (yes("AWS_NO_SIGN_REQUEST"))
        *a->id = *a->secret = *a->token = '\0';
}

static int check(const struct answer_reading *r, struct err *e)
{
    const struct aws *a = r->a;
    if (variable("AWS_PROFILE") && !r->found && !*a->id)
        return err_set(e, "AWS_PROFILE is '%s': no such profile in ~/.aws/credentials or config",
                       r->profile);
    if (!*a->id != !*a->secret)
        return err_set(e, "half a pair of keys for S3: %s is set, %s is not",
                       *a->id ? "the access key id" : "the secret access key",
                       *a->id ? "the secret access key" : "the access key id");
    if (r->source && !*a->id && !yes("AWS_NO_SIGN_REQUEST"))
        return err_set(e,
                       "the keys of profile '%s' come by %s, which is not supported: "
                       "`aws configure export-credentials --format env` writes them as variables",
                       r->profile, r->source);
    return 0;
}

int aws_read(struct aws *a, struct err *e)
{
    *a = (struct aws){0};
    struct answer_reading r = {.a = a, .profile = variable("AWS_PROFILE")};
    if (!r.profile)
        r.profile = "default";
    read_environment(&r);
    int rc = read_files(&r, e);
    if (!rc) {
        finish(&r);
        rc = r.memory ? err_machine(e, "out of memory") : check(&r, e);
    }
    free(r.services);
    free(r.source);
    if (rc)
        aws_release(a);
    return rc;
}

bool aws_anonymous(const struct aws *a)
{
    return !*a->id;
}

void aws_release(struct aws *a)
{
    wipe(a->id);
    wipe(a->secret);
    wipe(a->token);
    free(a->region);
    free(a->endpoint);
    free(a->ca);
    *a = (struct aws){0};
}
