// SPDX-License-Identifier: Apache-2.0
// sem-balance: finds the rows of embeddings that mean the same, and keeps one of each.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "balance-report.h"
#include "balance.h"
#include "cli.h"
#include "io.h"
#include "ledger.h"
#include "log.h"
#include "mem.h"
#include "memory-budget.h"
#include "sig.h"
#include "simblock-files.h"
#include "simdev.h"

enum { CURVE_STEPS = 100, MEMBERS = 50 };

static double distance = 0.1, euclidean, share = -1, curve_to;
static uint64_t probe, seed = 1, biggest = 20, mem = (uint64_t)4 << 30;
static int rule, survivor;
static const char *keep_dir, *groups_dir, *cells, *labels_dir, *curve, *files_from, *ledger;
static const char *may_survive;
static const char *device = "cpu";
static bool distance_given, euclidean_given, share_given, survivor_given, mem_given;

static const struct cli_option options[] = {
    {.name = "keep-dir",
     .type = CLI_TEXT,
     .to = &keep_dir,
     .arg = "DIR",
     .help = "write a mask for each input"},
    {.name = "groups-dir",
     .type = CLI_TEXT,
     .to = &groups_dir,
     .arg = "DIR",
     .help = "write each row's kept row for each input"},
    {.name = "distance",
     .type = CLI_REAL,
     .to = &distance,
     .arg = "D",
     .min = 0,
     .max = 2,
     .given = &distance_given,
     .help = "join rows under this cosine distance"},
    {.name = "euclidean",
     .type = CLI_REAL,
     .to = &euclidean,
     .arg = "D",
     .min = 0,
     .max = 2,
     .given = &euclidean_given,
     .no_default = true,
     .help = "the same as a distance of unit rows"},
    {.name = "remove",
     .type = CLI_REAL,
     .to = &share,
     .arg = "SHARE",
     .min = 0,
     .max = 1,
     .given = &share_given,
     .no_default = true,
     .help = "find the distance that removes this share"},
    {.name = "rule",
     .type = CLI_CHOICE,
     .to = &rule,
     .choices = "union|semdedup",
     .help = "what goes: see the manual"},
    {.name = "survivor",
     .type = CLI_CHOICE,
     .to = &survivor,
     .choices = "center|hard|easy|first|random",
     .given = &survivor_given,
     .help = "who stays (semdedup: the order, hard)"},
    {.name = "may-survive",
     .type = CLI_TEXT,
     .to = &may_survive,
     .arg = "DIR",
     .help = "who may stay: masks, or text embeddings without zero rows"},
    {.name = "cells",
     .type = CLI_TEXT,
     .to = &cells,
     .arg = "CENTROIDS",
     .help = "compare within the cells of these [all with all]"},
    {.name = "probe",
     .type = CLI_UINT,
     .to = &probe,
     .arg = "N",
     .max = INT32_MAX,
     .help = "and with this many neighbour cells"},
    {.name = "labels-dir",
     .type = CLI_TEXT,
     .to = &labels_dir,
     .arg = "DIR",
     .help = "the cells of rows, known from kmeans-cluster"},
    {.name = "curve",
     .type = CLI_TEXT,
     .to = &curve,
     .arg = "FILE",
     .help = "write the kept share at many distances"},
    {.name = "curve-to",
     .type = CLI_REAL,
     .to = &curve_to,
     .arg = "D",
     .min = 0,
     .max = 2,
     .no_default = true,
     .help = "up to this distance [the greater of 0.2 and that of the run]"},
    {.name = "list",
     .type = CLI_UINT,
     .to = &biggest,
     .arg = "N",
     .max = 1000000,
     .help = "list the N biggest groups"},
    {.name = "seed", .type = CLI_UINT, .to = &seed, .arg = "S", .help = "of all random choices"},
    {.name = "device", .type = CLI_TEXT, .to = &device, .arg = "NAME", .help = "cpu or cuda[:N]"},
    {.name = "mem",
     .type = CLI_SIZE,
     .to = &mem,
     .arg = "SIZE",
     .given = &mem_given,
     .help = "memory to stay under"},
    {.name = "files-from",
     .type = CLI_TEXT,
     .to = &files_from,
     .arg = "FILE",
     .help = "more inputs, one a line"},
    {.name = "ledger",
     .type = CLI_TEXT,
     .to = &ledger,
     .arg = "FILE",
     .help = "add a line for each input to this ledger"},
};

static const struct cli cli = {
    .tool = "sem-balance",
    .summary = "finds rows of embeddings that mean the same, and keeps one of each",
    .operands = "EMB.npy...",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .min_operands = 0,
    .max_operands = SIZE_MAX,
};

struct job {
    struct log log;
    struct cli_common common;
    struct sim_files files;
    struct sim_origin origin;
    struct dev dev; // with --device
    struct sim_dev sim;
    struct progress bar;
    struct balance_result result;
    float *centroids;
    uint8_t *may;    // per row, with --may-survive
    uint64_t barred; // rows that may not
    size_t n_cells;
    char cells_hex[DIGEST_HEX];
    bool made_keep_dir, made_groups_dir;
};

// NULL: the processor searches.
static struct sim_dev *searcher(struct job *j)
{
    return j->dev.op ? &j->sim : NULL;
}

static int known_cells(void *ctx, uint64_t first, uint64_t count, size_t top, int32_t *labels,
                       struct err *e)
{
    struct job *j = ctx;
    return sim_files_labels(&j->files, labels_dir, first, count, top, labels, e);
}

static bool on_progress(void *ctx, double done, double total)
{
    struct job *j = ctx;
    j->bar.total = (uint64_t)(total / 1e6) + 1;
    progress_to(&j->bar, (uint64_t)(done / 1e6));
    return !sig_stop_wanted();
}

// For the cells, and for pairs of as many rows as make the copies small against the products. What
// it takes of this machine's memory goes off `mem`.
static int open_device(struct job *j, struct err *e)
{
    enum { AT_ONCE = 1 << 20 };
    uint64_t rows = j->files.set.rows < AT_ONCE ? j->files.set.rows : AT_ONCE;
    struct sim_dev_need need = {.dim = j->files.set.dim,
                                .right = j->n_cells > rows ? j->n_cells : rows,
                                .top = cells && !labels_dir ? probe + 1 : 0,
                                .pairs = true};
    if (need.top > j->n_cells)
        need.top = j->n_cells; // as many as there are
    if (!j->dev.op)
        return 0;
    if (sim_dev_init_within(&j->sim, &j->dev, &need, &mem, e))
        return -1;
    log_note(&j->log, "%s", sim_dev_memory(&j->sim));
    return 0;
}

static uint64_t may_bytes(const struct job *j)
{
    return j->may && j->files.set.rows < mem ? j->files.set.rows : 0;
}

static int balance(struct job *j, struct err *e)
{
    if (open_device(j, e))
        return -1;
    struct balance_options o = {.rule = rule ? BALANCE_SEMDEDUP : BALANCE_UNION,
                                .survivor = (enum balance_survivor)survivor,
                                .distance = distance,
                                .centroids = j->centroids,
                                .n_cells = j->n_cells,
                                .probe = probe,
                                .remove = share,
                                .may_survive = j->may,
                                .seed = seed,
                                .mem = mem - may_bytes(j),
                                .threads = (int)j->common.threads,
                                .device = searcher(j),
                                .progress = on_progress,
                                .ctx = j};
    if (labels_dir)
        o.cells = known_cells;
    if (euclidean_given)
        o.distance = euclidean * euclidean / 2; // of unit rows: |x - y|^2 = 2 (1 - x.y)
    if (curve)
        o.curve_to = curve_to > 0 ? curve_to : fmax(0.2, o.distance);
    progress_start(&j->bar, &j->log, 0, "million pairs");
    int r = balance_run(&j->files.source, &o, &j->result, e);
    progress_end(&j->bar);
    if (!r && searcher(j))
        log_detail(&j->log, "%s", sim_dev_counts(&j->sim));
    return r;
}

// ---- outputs

static int write_keep(struct job *j, size_t part, struct err *e)
{
    const struct npy_part *p = &j->files.set.parts[part];
    struct npy_writer w;
    char *path = sim_files_path(&j->files, part, keep_dir, e);
    if (!path || npy_create(&w, path, NPY_U1, 0, NULL, p->rows, e)) {
        free(path);
        return -1;
    }
    int r = npy_write(&w, j->result.keep + p->first, p->rows, e);
    if (r)
        npy_abort(&w);
    else
        r = sim_files_commit(&j->files, part, path, &w, &j->origin, e);
    free(path);
    return r;
}

static int write_groups(struct job *j, size_t part, struct err *e)
{
    enum { BUFFER = 8192 };
    const struct npy_part *p = &j->files.set.parts[part];
    struct npy_writer w;
    int64_t rows[BUFFER];
    char *path = sim_files_path(&j->files, part, groups_dir, e);
    if (!path || npy_create(&w, path, NPY_I8, 0, NULL, p->rows, e)) {
        free(path);
        return -1;
    }
    int r = 0;
    for (uint64_t at = 0; at < p->rows && !r; at += BUFFER) {
        uint64_t n = p->rows - at < BUFFER ? p->rows - at : BUFFER;
        for (uint64_t i = 0; i < n; i++) {
            uint32_t g = j->result.group[p->first + at + i];
            rows[i] = g == BALANCE_NONE ? -1 : (int64_t)g;
        }
        r = npy_write(&w, rows, n, e);
    }
    if (r)
        npy_abort(&w);
    else
        r = sim_files_commit(&j->files, part, path, &w, &j->origin, e);
    free(path);
    return r;
}

static int write_ledger(struct job *j, size_t part, struct err *e)
{
    const struct npy_part *p = &j->files.set.parts[part];
    const char *slash = strrchr(p->path, '/');
    struct ledger_row line;
    uint64_t failed = 0, same = 0;
    if (ledger_row_init(&line, "balance", slash ? slash + 1 : p->path, e))
        return -1;
    for (uint64_t i = p->first; i < p->first + p->rows; i++) {
        line.out += j->result.keep[i];
        failed += j->result.group[i] == BALANCE_NONE;
        same += j->result.group[i] != BALANCE_NONE && !j->result.keep[i];
    }
    line.in = p->rows;
    int r = (failed && ledger_drop(&line, "failed-row", failed, e)) ||
            (same && ledger_drop(&line, "same-meaning", same, e)) ||
            ledger_append(ledger, &line, e);
    ledger_row_release(&line);
    return r ? -1 : 0;
}

static int add_figures(cJSON *o, const struct job *j, struct err *e)
{
    const struct balance_result *r = &j->result;
    static const char *const survivors[] = {"center", "hard", "easy", "first", "random"};
    struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"rows", r->rows},
                  {"usable", r->usable},
                  {"zero", r->zero},
                  {"not_finite", r->not_finite},
                  {"not_unit", r->rescaled},
                  {"kept", r->kept},
                  {"removed", r->usable - r->kept},
                  {"groups", r->kept},
                  {"largest", r->largest},
                  {"pairs", r->pairs},
                  {"compared", r->compared},
                  {"cells", j->n_cells ? j->n_cells : 1},
                  {"empty_cells", r->empty_cells},
                  {"biggest_cell", r->biggest_cell},
                  {"probe", probe}};
    double usable = (double)r->usable;
    if (json_add_string(o, "rule", rule ? "semdedup" : "union", e) ||
        json_add_string(o, "survivor", survivors[survivor], e) ||
        json_add_double(o, "distance", r->distance, e) ||
        json_add_double(o, "euclidean", sqrt(2 * r->distance), e) ||
        json_add_double(o, "removed_share", usable > 0 ? 1 - (double)r->kept / usable : 0, e))
        return -1;
    if (j->may && json_add_u64(o, "kept_that_may_not", r->barred, e))
        return -1;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (json_add_u64(o, counts[i].name, counts[i].value, e))
            return -1;
    return 0;
}

static int write_report(struct job *j, struct err *e)
{
    cJSON *o = cJSON_CreateObject();
    int r = o ? 0 : err_set(e, "out of memory");
    if (!r)
        r = add_figures(o, j, e) ||
            balance_report_groups(o, &j->result, &j->files, biggest, MEMBERS, e) ||
            json_write_file(j->common.output, o, e);
    cJSON_Delete(o);
    return r ? -1 : 0;
}

// The removed share at a few distances up to that of the curve.
static void tell_curve(struct job *j)
{
    const struct balance_result *r = &j->result;
    char line[160];
    int n = 0;
    for (int i = 1; i <= 8; i *= 2) {
        double d = r->reach * i / 8;
        size_t under = 0, over = r->n_merges;
        while (under < over) { // merges ascend
            size_t mid = under + (over - under) / 2;
            if (r->merges[mid] < d)
                under = mid + 1;
            else
                over = mid;
        }
        n += snprintf(line + n, sizeof line - (size_t)n, "%s%.4f at %.4g", n ? ", " : "",
                      r->usable ? (double)under / (double)r->usable : 0.0, d);
    }
    log_note(&j->log, "removed at distances: %s", line);
}

// A distance that suits one encoder joins everything with another.
static void warn_of_much(struct job *j)
{
    const struct balance_result *r = &j->result;
    double usable = (double)r->usable, removed = usable > 0 ? 1 - (double)r->kept / usable : 0;
    bool big = r->largest > 100 && (double)r->largest > 0.01 * usable;
    bool many = !share_given && removed > 1.0 / 3;
    if (!big && !many)
        return;
    log_warn(
        &j->log,
        "distance %.4g removes %.0f %% of the rows, and the largest group has %llu (%.1f %%): "
        "rows that are only alike may be joined. Look at --curve FILE, which tells the share for "
        "each distance, or give the share with --remove",
        r->distance, 100 * removed, (unsigned long long)r->largest,
        usable > 0 ? 100 * (double)r->largest / usable : 0.0);
}

static void tell(struct job *j)
{
    const struct balance_result *r = &j->result;
    log_note(&j->log,
             "%llu rows: %llu zero, %llu not finite, %llu not unit; distance %.6g: %llu pairs of "
             "%.4g compared, largest group %llu",
             (unsigned long long)r->rows, (unsigned long long)r->zero,
             (unsigned long long)r->not_finite, (unsigned long long)r->rescaled, r->distance,
             (unsigned long long)r->pairs, (double)r->compared, (unsigned long long)r->largest);
    log_detail(&j->log, "cells %.2f s, pairs %.2f s (%s products, %.0f GFLOP/s), groups %.2f s",
               r->seconds[0], r->seconds[1], r->kernel,
               2e-9 * (double)r->compared * (double)j->files.set.dim / fmax(r->seconds[1], 1e-9),
               r->seconds[2]);
    log_note(&j->log, "%llu of %llu usable rows kept, %.4f removed", (unsigned long long)r->kept,
             (unsigned long long)r->usable,
             r->usable ? 1 - (double)r->kept / (double)r->usable : 0.0);
    if (j->may)
        log_note(&j->log,
                 "%llu rows may not survive; %llu of them stay, alone in their groups or "
                 "among their like",
                 (unsigned long long)j->barred, (unsigned long long)r->barred);
    if (curve)
        tell_curve(j);
    warn_of_much(j);
}

// The report comes last: where it is, everything is.
static int write_all(struct job *j, struct err *e)
{
    j->origin.with = cells;
    j->origin.with_hex = j->cells_hex;
    for (size_t i = 0; i < j->files.set.n_parts; i++) {
        if ((keep_dir && write_keep(j, i, e)) || (groups_dir && write_groups(j, i, e)) ||
            (ledger && write_ledger(j, i, e)))
            return -1;
        if (sig_stop_wanted())
            return err_set(e, "stopped");
    }
    if (curve && balance_report_curve(curve, &j->result, CURVE_STEPS, e))
        return -1;
    return write_report(j, e);
}

// ---- the run

static void fit_memory(struct job *j)
{
    char said[160];
    bool fits = memory_budget("", &mem, mem_given, said, sizeof said);
    if (*said)
        fits ? log_note(&j->log, "%s", said) : log_warn(&j->log, "%s", said);
}

// Before any input is read: what fails here would fail after hours of comparing.
static int check_outputs(struct job *j, struct err *e)
{
    const char *files[] = {j->common.output, curve, ledger};
    if (io_check_outputs(files, sizeof files / sizeof *files, e))
        return -1;
    return (keep_dir && io_make_folder(keep_dir, &j->made_keep_dir, e)) ||
                   (groups_dir && io_make_folder(groups_dir, &j->made_groups_dir, e))
               ? -1
               : 0;
}

static int open_inputs(struct job *j, struct err *e)
{
    const char *files[] = {j->common.output, curve};
    const char *dirs[] = {keep_dir, groups_dir};
    if (sim_files_open_listed(&j->files, j->common.operands, j->common.n_operands, files_from, e) ||
        sim_files_check_outputs(&j->files, files, 2, dirs, 2, e))
        return -1;
    if (j->files.n_bare)
        log_note(&j->log, "%zu of %zu inputs have no sidecar: rows are matched by number alone",
                 j->files.n_bare, j->files.set.n_parts);
    return 0;
}

static int run(struct job *j, struct err *e)
{
    int threads = (int)j->common.threads;
    if (check_outputs(j, e))
        return -1;
    fit_memory(j);
    if ((strcmp(device, "cpu") && dev_open(&j->dev, device, DEV_BF16, threads, false, e)) ||
        open_inputs(j, e))
        return -1;
    if (cells) {
        j->centroids = sim_files_centroids(&j->files, cells, &j->n_cells, j->cells_hex, e);
        size_t top = probe < j->n_cells ? probe + 1 : j->n_cells;
        if (!j->centroids || (labels_dir && sim_files_check_labels(&j->files, labels_dir, top,
                                                                   j->cells_hex, cells, e)))
            return -1;
    }
    uint64_t listing = balance_report_bytes(biggest, MEMBERS, j->files.set.rows);
    if (listing > mem)
        return err_set(e, "--list %llu may need %llu MiB: see --mem", (unsigned long long)biggest,
                       (unsigned long long)(listing >> 20));
    if (may_survive && !(j->may = sim_files_may(&j->files, may_survive, &j->barred, e)))
        return -1;
    if (balance(j, e))
        return -1;
    tell(j);
    return write_all(j, e);
}

static int check_options(const struct cli_common *common, struct err *e)
{
    if (distance_given + euclidean_given + share_given > 1)
        return err_set(e, "only one of --distance, --euclidean and --remove");
    if (rule && survivor_given && survivor == BALANCE_CENTER)
        return err_set(e, "--rule semdedup orders rows: --survivor hard, easy, first or random");
    if (rule && probe)
        return err_set(e, "--rule semdedup looks within cells only: no --probe");
    if (probe && !cells)
        return err_set(e, "--probe goes with --cells");
    if (labels_dir && !cells)
        return err_set(e, "--labels-dir goes with --cells");
    if (curve_to > 0 && !curve)
        return err_set(e, "--curve-to goes with --curve");
    if (!common->n_operands && !files_from)
        return err_set(e, "missing operand: %s", cli.operands);
    if (rule && !survivor_given)
        survivor = BALANCE_HARD;
    return 0;
}

int main(int argc, char **argv)
{
    struct job j = {.common = CLI_COMMON_INIT};
    struct err e;
    char **args = mem_alloc((size_t)argc + 1, sizeof *args, &e);
    int status = CLI_FAILED;
    if (args)
        memcpy(args, argv, (size_t)argc * sizeof *args); // cli_start reorders them
    if (!args)
        fprintf(stderr, "%s: %s\n", cli.tool, e.text);
    if (!args || !cli_start(&cli, &j.common, argc, argv, &status)) {
        free(args);
        return status;
    }
    log_init(&j.log, stderr, &cli, &j.common);
    j.origin = (struct sim_origin){.tool = cli.tool, .argc = argc, .argv = args, .seed = seed};
    if (check_options(&j.common, &e)) {
        log_error(&j.log, "%s; try --help", e.text);
        status = CLI_WRONG_USAGE;
    } else {
        sig_catch_stop();
        status = run(&j, &e) ? CLI_FAILED : CLI_OK;
        if (status) {
            log_error(&j.log, "%s", e.text);
        } else {
            char counts[96];
            snprintf(counts, sizeof counts, "%llu rows, %llu kept",
                     (unsigned long long)j.result.rows, (unsigned long long)j.result.kept);
            log_footer(&j.log, j.result.rows, counts);
        }
    }
    balance_release(&j.result);
    sim_dev_release(&j.sim);
    dev_close(&j.dev);
    sim_files_close(&j.files);
    free(j.centroids);
    free(j.may);
    free(args);
    cli_release(&cli);
    if (status && j.made_keep_dir)
        rmdir(keep_dir); // where nothing is in it
    if (status && j.made_groups_dir)
        rmdir(groups_dir);
    if (status == CLI_FAILED && sig_stop_signal())
        sig_die_of_stop();
    return status;
}
