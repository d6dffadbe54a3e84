// SPDX-License-Identifier: Apache-2.0
#include "base/version.h"

#include "base/isa.h"

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif
// The optional parts, as the Makefile names them.
static const char parts[] = ""
#ifdef CLIPCID_FAISS
                            ", faiss"
#endif
#ifdef CLIPCID_REMOTE
                            ", remote"
#endif
#ifdef CLIPCID_SENTENCEPIECE
                            ", sentencepiece"
#endif
    ;

int version_print(FILE *to, const char *tool, const char *devices)
{
    char level[100];
    isa_describe(level, sizeof level);
    const char *commit = build_commit;
    fprintf(to, "%s (clip-cid) %s\ncommit: %s\ncompiler: %s\nvector instructions: %s\n", tool,
            CLIPCID_VERSION, commit && *commit ? commit : "unknown", COMPILER, level);
    if (devices)
        fprintf(to, "devices: %s\n", devices);
    fprintf(to, "built with: %s\n", *parts ? parts + 2 : "no optional parts");
    return fflush(to) || ferror(to) ? -1 : 0;
}
