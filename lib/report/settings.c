// SPDX-License-Identifier: Apache-2.0
// The settings of a run's stages, as the pipeline has written them down (WORK/params), and how
// those of two runs differ.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report/parts.h"

enum { SETTING = 2000 };

// A small file's text, one line, "" where there is none.
static void read_setting(char text[SETTING], const char *work, const char *name)
{
    char path[PATH_BYTES];
    struct err ignored; // a folder made by hand has none
    text[0] = '\0';
    FILE *f = path_format(path, &ignored, "%s/params/%s", work, name) ? NULL : fopen(path, "rb");
    if (!f)
        return;
    size_t n = fread(text, 1, SETTING - 1, f);
    fclose(f);
    text[n] = '\0';
    for (char *p = text; *p; p++)
        if (*p == '\n')
            *p = p[1] ? ' ' : '\0';
}

// Lists of shards and files, and marks of the pipeline's own.
static bool is_setting(const char *name)
{
    size_t n = strlen(name);
    return strcmp(name, "shards") && strcmp(name, "preflight") && strncmp(name, "looked", 6) &&
           !(n > 5 && !strcmp(name + n - 5, ".list")) && !(n > 4 && !strcmp(name + n - 4, ".new"));
}

// The version of a stamp's form stands before it: "2 --epochs 8".
static const char *words(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits && text[digits] == ' ' ? text + digits + 1 : text;
}

// Without the digest of the files' contents at its end, which says nothing to a reader.
static void drop_digest(char *text)
{
    char *space = strrchr(text, ' ');
    if (space && strlen(space + 1) >= 16 &&
        strspn(space + 1, "0123456789abcdef") == strlen(space + 1))
        *space = '\0';
}

// The texts of one setting for showing. False: there is nothing to show.
static bool shown_texts(char text[2][SETTING], const char *const *works, size_t n, const char *name)
{
    for (size_t k = 0; k < n; k++)
        read_setting(text[k], works[k], name);
    if (n == 2 && !strcmp(text[0], text[1]))
        return false;
    for (size_t k = 0; k < n; k++)
        drop_digest(text[k]);
    if (n == 2 && !strcmp(text[0], text[1])) { // it is the contents that differ
        for (size_t k = 0; k < n; k++)
            read_setting(text[k], works[k], name);
    }
    return true;
}

int report_put_settings(struct html *h, const char *const *works, size_t n, struct err *e)
{
    char path[PATH_BYTES], text[2][SETTING];
    struct path_names names = {0};
    for (size_t i = 0; i < n; i++)
        if (path_format(path, e, "%s/params", works[i]) || path_names_of(&names, path, "", e))
            return -1;
    size_t shown = 0;
    for (size_t i = 0; i < names.n; i++) {
        if (!is_setting(names.names[i]) || (i && !strcmp(names.names[i], names.names[i - 1])))
            continue;
        if (!shown_texts(text, works, n, names.names[i]))
            continue;
        if (!shown++)
            html_raw(h, n == 2 ? "<h2 id='settings'>Settings that differ</h2>\n<div class='wide'>"
                                 "<table>\n"
                               : "<h3>Settings of the stages</h3>\n<div class='wide'><table>\n");
        html_raw(h, "<tr><td>");
        html_text(h, names.names[i]);
        for (size_t k = 0; k < n; k++) {
            html_raw(h, "</td><td class='text'>");
            html_text(h, words(text[k]));
        }
        html_raw(h, "</td></tr>\n");
    }
    if (shown)
        html_raw(h, "</table></div>\n");
    path_names_free(&names);
    return 0;
}
