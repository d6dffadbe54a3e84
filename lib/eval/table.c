// SPDX-License-Identifier: Apache-2.0
#include "eval/table.h"

#include <stdio.h>
#include <string.h>

#include "system/io.h"

static const char *const facts[] = {"dataset", "model", "pretrained", "task", "language"};
enum { FACTS = sizeof facts / sizeof *facts };

int eval_table_add(struct eval_table *t, const cJSON *result, struct err *e)
{
    if (!t->rows && !(t->rows = cJSON_CreateArray()))
        return err_set(e, "out of memory");
    cJSON *copy = cJSON_Duplicate(result, true);
    if (copy && cJSON_AddItemToArray(t->rows, copy))
        return 0;
    cJSON_Delete(copy);
    return err_set(e, "out of memory");
}

void eval_table_release(struct eval_table *t)
{
    cJSON_Delete(t->rows);
    *t = (struct eval_table){0};
}

// A cell: quoted where it has a comma, a quotation mark or an end of line (RFC 4180).
static int put_text(struct out *o, const char *text, struct err *e)
{
    if (!strpbrk(text, ",\"\r\n"))
        return out_write(o, text, strlen(text), e);
    int rc = out_write(o, "\"", 1, e);
    for (; *text && !rc; text++)
        rc = *text == '"' ? out_write(o, "\"\"", 2, e) : out_write(o, text, 1, e);
    return rc ? rc : out_write(o, "\"", 1, e);
}

static const char *fact(const cJSON *row, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(row, name);
    return cJSON_IsString(v) ? v->valuestring : "";
}

static int put_head(struct out *o, const cJSON *columns, struct err *e)
{
    const cJSON *c;
    int rc = 0;
    cJSON_ArrayForEach(c, columns)
    {
        rc = rc || put_text(o, c->string, e) || out_write(o, ",", 1, e) ? -1 : 0;
    }
    for (size_t i = 0; i < FACTS && !rc; i++)
        rc = put_text(o, facts[i], e) || out_write(o, ",", 1, e) ? -1 : 0;
    return rc ? rc : out_write(o, "model_fullname\n", 15, e);
}

static int put_row(struct out *o, const cJSON *columns, const cJSON *row, struct err *e)
{
    const cJSON *c, *metrics = cJSON_GetObjectItemCaseSensitive(row, "metrics");
    char number[40];
    int rc = 0;
    cJSON_ArrayForEach(c, columns)
    {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(metrics, c->string);
        number[0] = '\0';
        if (cJSON_IsNumber(v))
            snprintf(number, sizeof number, "%.17g", v->valuedouble);
        rc = rc || put_text(o, number, e) || out_write(o, ",", 1, e) ? -1 : 0;
    }
    for (size_t i = 0; i < FACTS && !rc; i++)
        rc = put_text(o, fact(row, facts[i]), e) || out_write(o, ",", 1, e) ? -1 : 0;
    char name[5000];
    snprintf(name, sizeof name, "%s %s", fact(row, "model"), fact(row, "pretrained"));
    return rc || put_text(o, name, e) || out_write(o, "\n", 1, e) ? -1 : 0;
}

// An object with the name of every metric, in the order they are met. NULL: no memory.
static cJSON *all_metrics(const cJSON *rows)
{
    const cJSON *row, *v;
    cJSON *all = cJSON_CreateObject();
    cJSON_ArrayForEach(row, rows)
    {
        const cJSON *metrics = cJSON_GetObjectItemCaseSensitive(row, "metrics");
        cJSON_ArrayForEach(v, metrics)
        {
            if (all && !cJSON_GetObjectItemCaseSensitive(all, v->string) &&
                !cJSON_AddTrueToObject(all, v->string)) {
                cJSON_Delete(all);
                all = NULL;
            }
        }
    }
    return all;
}

int eval_table_write(const struct eval_table *t, const char *path, struct err *e)
{
    struct out o;
    const cJSON *row;
    cJSON *columns = all_metrics(t->rows);
    if (!columns)
        return err_set(e, "out of memory");
    if (out_open(&o, path, e)) {
        cJSON_Delete(columns);
        return -1;
    }
    int rc = put_head(&o, columns, e);
    cJSON_ArrayForEach(row, t->rows)
    {
        rc = rc ? rc : put_row(&o, columns, row, e);
    }
    rc = rc || out_commit(&o, e) ? -1 : 0;
    out_abort(&o);
    cJSON_Delete(columns);
    return rc;
}
