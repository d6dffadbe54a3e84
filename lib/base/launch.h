// SPDX-License-Identifier: Apache-2.0
// What mpirun or srun says to the tasks that it starts.
#ifndef BASE_LAUNCH_H
#define BASE_LAUNCH_H

// The number of tasks that were started together, 1 where no launcher says it; *rank: this task's.
int launch_tasks(int *rank);
// This task's number among those of its host; 0 where no launcher says it.
int launch_local_rank(void);

#endif
