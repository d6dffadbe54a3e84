// SPDX-License-Identifier: Apache-2.0
// The words of progress: total, rate, time left; what an earlier run made is not in the rate.
#include "system/progress.h"

#include <string.h>

#include "unit/tap.h"

static struct log quiet = {.tool = "a-tool"};

static const char *words(const struct progress *p, double now)
{
    static char text[PROGRESS_TEXT];
    progress_text(p, now, text);
    return text;
}

static void test_text(void)
{
    struct progress p = {.log = &quiet, .unit = "samples", .total = 10000, .done = 4200};
    ok(!strcmp(words(&p, 6), " 42% 4200/10000 samples 700/s 0:08 left"), "share, rate, time left");
    ok(!strcmp(words(&p, 6000), " 42% 4200/10000 samples 0.7/s 2:18:06 left"),
       "hours, and rates under ten");
    ok(!strcmp(words(&p, 0), " 42% 4200/10000 samples 0.0/s"), "no time has passed: no rate");
    p.before = 4000;
    ok(!strcmp(words(&p, 10), " 42% 4200/10000 samples 20/s 4:50 left"),
       "the rate is of what this run has done");
    p.before = 5000;
    ok(!strcmp(words(&p, 10), " 42% 4200/10000 samples 0.0/s"), "less than before: no rate");
    p.before = 0;
    p.total = 0;
    ok(!strcmp(words(&p, 6), "4200 samples 700/s"), "no total");
    p.total = 4000;
    ok(!strcmp(words(&p, 6), "105% 4200/4000 samples 700/s"), "more than the total: no time left");
    snprintf(p.extra, sizeof p.extra, "loss 3.2");
    p.total = 4200;
    ok(!strcmp(words(&p, 6), "100% 4200/4200 samples 700/s 0:00 left, loss 3.2"), "a note");
}

static void test_json(void)
{
    char text[2000];
    struct progress p = {.log = &quiet, .unit = "steps", .total = 40, .done = 10};
    snprintf(p.extra, sizeof p.extra, "loss 1.5");
    int n = progress_json(&p, 5, text, sizeof text);
    static const char start[] =
        "{\"tool\":\"a-tool\",\"unit\":\"steps\",\"done\":10,\"total\":40,"
        "\"seconds\":5.0,\"rate\":2.0,\"left\":15.0,\"note\":\"loss 1.5\","
        "\"text\":\"25% 10/40 steps 2.0/s 0:15 left, loss 1.5\",\"host\":\"";
    ok(n == (int)strlen(text) && n > 0, "its length");
    ok(strncmp(text, start, sizeof start - 1) == 0, "the line: %s", text);
    ok(text[n - 1] == '}', "ends with its brace");
    p.total = 0;
    progress_json(&p, 5, text, sizeof text);
    ok(strstr(text, "\"total\":null,") && strstr(text, "\"left\":null,"), "no total: null");
    ok(progress_json(&p, 5, text, 40) == 0, "a line that does not fit is none");
}

int main(void)
{
    test_text();
    test_json();
    return tap_done();
}
