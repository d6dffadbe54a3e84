// SPDX-License-Identifier: Apache-2.0
// distill-train: trains a CLIP student from samples and a teacher's stored embeddings.
#include "comm/open.h"
#include "system/cli.h"
#include "system/log.h"
#include "system/signals.h"
#include "runs/plan.h"
#include "runs/run.h"
#include "distill-train-table.h"

static const struct cli cli = {
    .tool = "distill-train",
    .summary = "trains a CLIP student from samples and a teacher's stored embeddings",
    .operands = "[SAMPLES]",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .devices = dev_names,
    .max_operands = 1,
    .no_output = true,
};

int main(int argc, char **argv)
{
    static struct train_run run; // static, as a thread that hangs in a read still sees them
    struct cli_common common = CLI_COMMON_INIT;
    struct comm comm = COMM_ALONE;
    static struct train_plan plan;
    struct log log;
    struct err e;
    int status;
    if (!cli_start(&cli, &common, argc, argv, &status))
        return status;
    log_init(&log, stderr, &cli, &common);
    o.threads = (int)common.threads;
    o.resume |= o.extend || o.resume_from_given;
    o.command = o.data.n ? o.data.items[o.data.n - 1] : NULL;
    if (common.n_operands)
        o.path = common.operands[0];
    if ((common.n_operands && o.data.n
             ? err_set(&e, "SAMPLES '%s' and --data: give one of them", o.path)
             : train_plan_init(&plan, &o, &e))) {
        log_error(&log, "%s; try --help", e.text);
        cli_release(&cli, &common);
        return CLI_WRONG_USAGE;
    }
    signals_catch_stop();
    int rc = train_run_ranks(&run, &plan, &comm, &log);
    train_run_release(&run);
    comm_close(&comm);
    train_plan_release(&plan);
    cli_release(&cli, &common);
    if (rc > 0)
        signals_die_of_stop();
    return rc ? CLI_FAILED : CLI_OK;
}
