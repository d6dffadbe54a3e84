// SPDX-License-Identifier: Apache-2.0
// Class names and templates in every form: what they hold, which of several lists is meant, and
// what is said of those that cannot be read.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "eval/list.h"
#include "unit/tap.h"

static char dir[] = "/tmp/eval-list-XXXXXX";
static struct err e;

static const char *put(const char *name, const char *text, size_t n)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (f && fwrite(text, 1, n, f) != n)
        ok(false, "cannot write %s", path);
    if (f)
        fclose(f);
    return path;
}

// The items joined by '|', or "error: ...".
static const char *read_as(const char *path, enum eval_list_kind kind, const char *set)
{
    static char all[1000];
    struct eval_lines l;
    if (eval_list_read(&l, path, kind, set, &e)) {
        snprintf(all, sizeof all, "error: %s", e.text);
        return all;
    }
    size_t n = 0;
    all[0] = '\0';
    for (size_t i = 0; i < l.n && n < sizeof all; i++)
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i ? "|" : "", l.lines[i]);
    eval_lines_release(&l);
    return all;
}

static void is_list(const char *name, const char *text, enum eval_list_kind kind, const char *want)
{
    const char *got = read_as(put(name, text, strlen(text)), kind, "wds_food101");
    ok(!strcmp(got, want), "%s: %.60s: '%s'", name, want, got);
}

// The message names the file, the record and the fault.
static void is_refused(const char *name, const char *text, enum eval_list_kind kind,
                       const char *want)
{
    const char *got = read_as(put(name, text, strlen(text)), kind, "wds_food101");
    ok(!strncmp(got, "error: ", 7) && strstr(got, name) && strstr(got, want), "%s: %s: %s", name,
       want, got);
}

static const enum eval_list_kind C = EVAL_LIST_CLASSES, T = EVAL_LIST_TEMPLATES,
                                 W = EVAL_LIST_WORDS;

static void test_lines(void)
{
    is_list("a.txt", "a cat\na dog\n", C, "a cat|a dog");
    is_list("a.txt",
            "\xef\xbb\xbf"
            "a cat\r\n\r\n a dog\t\r\n",
            C, "a cat|a dog");
    is_list("a.txt", "caf\xc3\xa9\n[x\n", C, "caf\xc3\xa9|[x");
    is_list("a.txt", "{c}\na {c}\n", T, "{c}|a {c}");
    is_list("a.txt", "a photo of a {}.\n{} and {c} {}\n", T, "a photo of a {c}.|{} and {c} {}");
    is_list("a.txt", "[\"a cat\",\n \"a dog\"]\n", C, "a cat|a dog");
    is_list("a.txt", "['a cat', \"a dog\", ]\n", C, "a cat|a dog");
    is_list("a.txt", "[2]\n", W, "[2]");
    is_refused("a.txt", "a cat\ncaf\xe9\n", C, "line 2 is not UTF-8");
    is_refused("a.txt", "\n \n", C, "no class names");
    is_refused("a.txt", "{c}\n\nno place\n", T, "line 3: template 'no place' has no {c}");
    const char *got = read_as(put("u.txt",
                                  "\xff\xfe"
                                  "a\0",
                                  4),
                              C, "s");
    ok(strstr(got, "u.txt' is UTF-16"), "%s", got);
    got = read_as(put("u.txt", "a\0b\n", 4), C, "s");
    ok(strstr(got, "u.txt' holds a NUL"), "%s", got);
}

static void test_json(void)
{
    is_list("a.json", "[\"a cat\", \"a dog\"]", C, "a cat|a dog");
    is_list("a.json", "\xef\xbb\xbf[\"a \\u00e9\"]\r\n", C, "a \xc3\xa9");
    is_list("a.json", "{\"cifar10\": [\"x\"], \"food101\": [\"a cat\", \"a dog\"]}", C,
            "a cat|a dog");
    is_list("a.json", "{\"wds/food-101\": [\"x\"], \"wds/food101\": [\"y\"]}", C, "y");
    is_list("a.json", "{\"classes\": [\"x\"], \"templates\": [\"a {c}\"]}", T, "a {c}");
    is_list("a.json", "{\"classes\": [\"x\"], \"templates\": [\"a {c}\"]}", C, "x");
    is_list("a.json", "{\"other\": [\"x\", \"y\"]}", C, "x|y");
    is_list("a.json", "{\"1\": \"a dog\", \"0\": \"a cat\"}", C, "a cat|a dog");
    is_list("a.json", "{\"0\": [\"n01\", \"tench\"], \"1\": [\"n02\", \"goldfish\"]}", C,
            "tench|goldfish");
    is_refused("a.json", "{\"0\": \"a\", \"2\": \"b\", \"3\": \"c\"}", C, "");
    is_refused("a.json", "[\"a cat\", 3]", C, "item 2 is not a text");
    is_refused("a.json", "[\"a cat\"", C, "offset");
    is_refused("a.json", "[]", C, "no class names");
    is_refused("a.json", "3", C, "neither an array nor an object");
    is_refused("a.json", "{\"a\": [\"x\"], \"b\": [\"y\"]}", C,
               "several lists; FILE:NAME takes one of: a, b");
    is_refused("a.json", "{\"food101\": {\"tench\": [\"a fish\"]}}", T,
               "texts of its own for each class");
    static const char two[] = "{\"a\": [\"x\"], \"b\": [\"y\"]}";
    char path[220];
    snprintf(path, sizeof path, "%s:b", put("a.json", two, strlen(two)));
    ok(!strcmp(read_as(path, C, "s"), "y"), "FILE:NAME");
    path[strlen(path) - 1] = 'q';
    ok(strstr(read_as(path, C, "s"), "no list of that name; FILE:NAME takes one of: a, b"), "%s",
       e.text);
}

static void test_python(void)
{
    static const char metadata[] =
        "\n# prompts\nimport os\n\nOPENAI_IMAGENET_TEMPLATES = (\n"
        "    lambda c: f'a bad photo of a {c}.',  # it's one\n"
        "    lambda c: f\"the {c}'s {{x}}.\",\n)\n\n"
        "# a smaller one\nSIMPLE_IMAGENET_TEMPLATES = (\n    lambda c: f'itap of a {c}.',\n)\n\n\n"
        "IMAGENET_CLASSNAMES = (\n    \"tench\", \"goldfish\", 'rock'\n    ' crab',\n)\n"
        "def f(x):\n    return [y for y in x if y == ']']\n";
    is_list("a.py", metadata, C, "tench|goldfish|rock crab");
    is_refused("a.py", metadata, T,
               "several lists; FILE:NAME takes one of: OPENAI_IMAGENET_TEMPLATES, ");
    char path[220];
    snprintf(path, sizeof path, "%s:OPENAI_IMAGENET_TEMPLATES",
             put("a.py", metadata, strlen(metadata)));
    const char *got = read_as(path, T, "s");
    ok(!strcmp(got, "a bad photo of a {c}.|the {c}'s {x}."), "FILE:NAME: %s", got);
    is_list("a.py", "templates = ['a {}.', 'b {} {}.']\r\n", T, "a {c}.|b {c} {c}.");
    is_list("a.py", "[ 'a', \"b\" , ]", C, "a|b");
    is_list("a.py", "x: list = [ r'a\\n', 'b\\n\\x41\\u00e9\\'', u'''c\n'd' ''' ]\n", C,
            "a\\n|b\nA\xc3\xa9'|c\n'd' ");
    is_list("a.py", "t = [lambda name: 'a {}'.format(name), lambda n: (f'b '\n f'{n}')]", T,
            "a {c}|b {c}");
    is_list("a.py", "names = {'cifar10': ['x'], 'n': {'y': [1]}, 'food101': ('a', 'b')}", C, "a|b");
    is_list("a.py", "broken = [f(x)]\nfood101 = ['a']\n", C, "a");
    is_list("a.py", "a = ['x' \\\n 'y']", C, "xy");
    is_refused("a.py", "names = [\n'a',\nf(x)]\n", C, "line 3: something that is not a text");
    is_refused("a.py", "t = [\n lambda c: f'a {c.lower()}']", T,
               "'t': line 2: a field that is not the class alone");
    is_refused("a.py", "t = [lambda c: 'a ' + c]", T, "line 1");
    is_refused("a.py", "names = ['a', b'c']", C, "bytes");
    is_refused("a.py", "names = ['a',\n'b'", C, "line 1: a bracket is not closed");
    is_refused("a.py", "names = ['a',\n'b\n]", C, "line 2: a text without its end");
    is_refused("a.py", "names = '''", C, "line 1: a text without its end");
    is_refused("a.py", "n = {'a': b'x', b'c': ['d']", C, "");
    is_refused("a.py", "x = 1\n", C, "no list of texts");
    is_refused("a.py", "", C, "no list of texts");
    is_refused("a.py", "x = ['\\ud800']", C, "no character");
    is_refused("a.py", "x = ['\\x4']", C, "too few digits");
    is_refused("a.py", "x = ['\\", C, "");
}

int main(void)
{
    if (!mkdtemp(dir)) {
        ok(false, "no folder");
        return tap_done();
    }
    test_lines();
    test_json();
    test_python();
    static const char *const files[] = {"a.txt", "a.json", "a.py", "u.txt"};
    for (size_t i = 0; i < 4; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    return tap_done();
}
