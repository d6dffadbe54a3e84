// SPDX-License-Identifier: Apache-2.0
// Parts of the page of report.h. Each writes its headings only where it has something to show.
#ifndef REPORT_PARTS_H
#define REPORT_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "formats/json.h"
#include "formats/ledger.h"
#include "page/html.h"
#include "system/log.h"
#include "base/path.h"

// The head of the page: data, teacher, balance, clusters, students, versions, date, from the files
// (sidecars, balance.json, configs, state.json). 0 or -1.
int report_put_about(struct html *h, const char *work, size_t shards, uint64_t rows, struct err *e);
// Of n_works folders; prefixes: a name of each before its models, or NULL.
int report_put_evaluation(struct html *h, const char *const *works, const char *const *prefixes,
                          size_t n_works, struct err *e);
int report_put_training(struct html *h, const char *work, struct err *e);
int report_put_balance(struct html *h, const char *work, struct err *e);
// Reads WORK/balance.json: 1, *o belongs to the caller; 0: there is none; -1.
int report_read_balance(const char *work, cJSON **o, struct err *e);
// Examples of what was lost in reading, a few of each reason. shards: as of report_write.
int report_put_lost(struct html *h, const char *work, const char *shards,
                    const struct path_names *names, const struct ledger *ledger, struct err *e);
// The folder of an evaluation set among the words of WORK/params/eval. False: it is not there.
bool report_eval_folder(char folder[PATH_BYTES], const char *work, const char *dataset);
// Pictures of an evaluation set with those nearest to them by the teacher and by a model: the
// examples of a result of zs-eval, its list "neighbours". Nothing where there is none. 0 or -1.
int report_put_near(struct html *h, const char *work, const char *model, const cJSON *result,
                    struct err *e);
// Pictures of two classes of an evaluation set of the run: of the class that was meant, and of the
// one that was taken for it. Nothing where the set's folder, which WORK/params/eval names, is not
// to be found. 0 or -1.
int report_put_confused(struct html *h, const char *work, const char *dataset, const char *label,
                        const char *predicted, struct err *e);
// The settings of one run, or of two where they differ.
int report_put_settings(struct html *h, const char *const *works, size_t n, struct err *e);
// Pictures: the largest groups, and clusters with those nearest to their centroids.
int report_put_groups(struct html *h, const char *work, const char *shards,
                      const struct path_names *names, uint64_t rows, struct err *e);
int report_put_clusters(struct html *h, const char *work, const char *shards,
                        const struct path_names *names, uint64_t rows, struct log *l,
                        struct err *e);

// Purity of the clusters against classes: those of the samples (their member cls, or a field of
// their json; at most 20,000 are looked at), and of evaluation sets whose rows by the teacher are
// in WORK/eval/rows. Nothing where there are none. shards: as of report_write.
int report_put_purity(struct html *h, const char *work, const char *shards,
                      const struct path_names *names, struct err *e);

// Names of the models in `work`: its folders that hold a model's config, checkpoints or a log.
int report_models(struct path_names *l, const char *work, struct err *e);

#endif
