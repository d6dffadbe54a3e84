// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "base/isa.h"

int main(int argc, char **argv)
{
    struct err e;
    if (isa_check(&e) || isa_start(argv, &e)) {
        fprintf(stderr, "golden: %s\n", e.text);
        return 1;
    }
    if (argc == 3 && !strcmp(argv[1], "model"))
        return golden_model(argv[2]);
    bool bf16 = argc == 4 && !strcmp(argv[3], "bf16");
    if (golden_train && (argc == 3 || bf16) && !strcmp(argv[1], "train"))
        return golden_train(argv[2], bf16);
    if (argc == 6 && !strcmp(argv[1], "make"))
        return golden_make(argv[2], argv[3], argv[4], strtoull(argv[5], NULL, 10));
    if (golden_agree && argc == 5 && !strcmp(argv[1], "agree"))
        return golden_agree(argv[2], argv[3], strtod(argv[4], NULL));
    fprintf(stderr, "usage: golden model DIR\n"
                    "       golden train DIR [bf16]\n"
                    "       golden agree A.npy B.npy BOUND\n"
                    "       golden make CONFIG DIR f32|f16|bf16 SEED\n");
    return 2;
}
