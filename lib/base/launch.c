// SPDX-License-Identifier: Apache-2.0
#include "base/launch.h"

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>

// The nearest launcher first: in a job of Slurm mpirun's variables are the right ones.
static const struct {
    const char *tasks, *rank, *local;
} launchers[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"}, // OpenMPI
    {"PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"},                                    // MPICH, Intel
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"},                      // srun
};

static int number(const char *name)
{
    const char *text = getenv(name);
    char *end;
    long n = text ? strtol(text, &end, 10) : 0;
    return text && *text && !*end && n > 0 && n < INT_MAX ? (int)n : 0;
}

int launch_tasks(int *rank)
{
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        int n = number(launchers[i].tasks);
        *rank = number(launchers[i].rank);
        if (n)
            return n;
    }
    *rank = 0;
    return 1;
}

int launch_local_rank(void)
{
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++)
        if (number(launchers[i].tasks))
            return number(launchers[i].local);
    return 0;
}
