// SPDX-License-Identifier: Apache-2.0
// Rows of a tool's option table (system/cli.h) that say where it computes, and in which numbers.
#ifndef DEVICE_OPTIONS_H
#define DEVICE_OPTIONS_H

#include "device/dev.h"
#include "system/cli.h"

// `variable`: a const char *, first the default.
#define DEVICE_OPTION(variable)                                                                    \
    {                                                                                              \
        .name = "device", .type = CLI_TEXT, .to = &(variable), .arg = "NAME",                      \
        .check = dev_name_check, .help = "cpu or cuda[:N]"                                         \
    }
// `variable`: an int, an enum dev_type.
#define DTYPE_OPTION(variable)                                                                     \
    {                                                                                              \
        .name = "dtype", .type = CLI_CHOICE, .to = &(variable), .choices = "f32|bf16|auto",        \
        .help = "numbers to compute with"                                                          \
    }

#endif
