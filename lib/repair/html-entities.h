// SPDX-License-Identifier: Apache-2.0
// Named and numeric character references of HTML, and the two ways in which CLIP's tokenizer
// resolves them: ftfy's cautious one and Python's html.unescape.
#ifndef REPAIR_HTML_ENTITIES_H
#define REPAIR_HTML_ENTITIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTML_NAME_MAX = 31 }; // longest name, without '&' and ';'

// Value of the reference called name[0..n): 1 or 2 code points into out; 0 = no such name. With
// `bare`, only the 106 names that need no semicolon count. Thread-safe.
int html_entity_find(const char *name, size_t n, bool bare, int32_t out[2]);

// Both resolve references in c[0..n) in place and return the new length (never larger).
// As html.unescape of Python 3 (the HTML standard's rules): semicolon optional where the standard
// allows, the longest known bare prefix otherwise, numbers 0x80-0x9f as windows-1252, invalid
// numbers dropped, surrogates and numbers too large as U+FFFD.
size_t html_unescape(int32_t *c, size_t n);
// As ftfy's unescape_html: whole references that end in a semicolon only; a lower-case name
// written in capitals gives the capital (&EACUTE;).
size_t html_unescape_strict(int32_t *c, size_t n);

#endif
