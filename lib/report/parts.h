// SPDX-License-Identifier: Apache-2.0
// Parts of the page of report.h. Each writes its headings only where it has something to show.
#ifndef REPORT_PARTS_H
#define REPORT_PARTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "page/html.h"
#include "base/path.h"

// The head of the page: data, teacher, balance, clusters, students, versions, date, from the files
// (sidecars, balance.json, configs, state.json). 0 or -1.
int report_put_about(struct html *h, const char *work, size_t shards, uint64_t rows, struct err *e);
int report_put_evaluation(struct html *h, const char *work, struct err *e);
int report_put_training(struct html *h, const char *work, struct err *e);

// Names of the models in `work`: its folders that hold a model's config, checkpoints or a log.
int report_models(struct path_names *l, const char *work, struct err *e);

#endif
