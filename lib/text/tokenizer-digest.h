// SPDX-License-Identifier: Apache-2.0
// Tells vocabularies apart, whichever of their forms they are read from.
#ifndef TEXT_TOKENIZER_DIGEST_H
#define TEXT_TOKENIZER_DIGEST_H

#include "system/digest.h"
#include "base/err.h"

// The digest of the tokens, their ids and the merges of the vocabulary at `path` (file or folder,
// see tokenizer.h). 0 or -1.
int tokenizer_digest(const char *path, char hex[DIGEST_HEX], struct err *e);

#endif
