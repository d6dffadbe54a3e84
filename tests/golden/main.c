// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "golden.h"

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "model"))
        return golden_model(argv[2]);
    if (golden_train && argc == 3 && !strcmp(argv[1], "train"))
        return golden_train(argv[2]);
    fprintf(stderr, "usage: golden model DIR | golden train DIR\n");
    return 2;
}
