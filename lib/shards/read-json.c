// SPDX-License-Identifier: Apache-2.0
#include "shards/read-json.h"

#include "formats/json-scan.h"
#include "shards/read-text.h"
#include "system/lines.h"

enum { DEPTH_MAX = 512 };

int read_json_check(const uint8_t *text, size_t n, struct err *e)
{
    struct json_scan s = {.text = (const char *)text,
                          .at = lines_mark(text, n),
                          .n = n,
                          .depth = DEPTH_MAX,
                          .python = true};
    size_t at;
    if (read_caption_status(text, n, &at) == SAMPLE_BAD_UTF8)
        return err_set(e, "json is not UTF-8 at byte %zu", at);
    int rc = json_scan_value(&s);
    if (rc == 0) {
        json_scan_space(&s);
        rc = s.at < n ? -1 : 0;
    }
    return rc ? err_set(e, "json is broken at byte %zu", s.at) : 0;
}
