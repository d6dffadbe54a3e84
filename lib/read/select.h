// SPDX-License-Identifier: Apache-2.0
// --select: conditions on the fields of a sample's json, all of which have to hold:
//
//     similarity>=0.3,punsafe<0.5,width>=200,status==success
//
// FIELD, one of < <= > >= == (or =) !=, VALUE. A field is a member of the outermost object. With ==
// and != a value that is not a number is compared as text; the others want numbers, of which a
// string may hold one. A field that is not there, null, NaN or not a number where one is wanted is
// missing.
#ifndef READ_SELECT_H
#define READ_SELECT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "formats/samples.h"

struct select;
// NULL: e says what is wrong with the text.
struct select *select_new(const char *text, struct err *e);
void select_free(struct select *s);
// SAMPLE_OK, or SAMPLE_NOT_SELECTED or SAMPLE_NO_FIELD with the reason. json: NULL where there is
// none.
enum sample_status select_sample(const struct select *s, const uint8_t *json, size_t n,
                                 struct err *why);

#endif
