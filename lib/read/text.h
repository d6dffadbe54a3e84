// SPDX-License-Identifier: Apache-2.0
// What is wrong with a caption.
#ifndef READ_TEXT_H
#define READ_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/samples.h"

// SAMPLE_OK, SAMPLE_NO_CAPTION (empty, or only white space as Unicode has it) or SAMPLE_BAD_UTF8;
// *at is the first byte that is not UTF-8.
enum sample_status read_caption_status(const uint8_t *text, size_t n, size_t *at);

// Whether the text starts with the byte order mark of UTF-16, in either order.
bool read_text_utf16(const uint8_t *text, size_t n);

#endif
