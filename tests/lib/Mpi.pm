# mpirun in a test: as root, more ranks than processors, and no word of a job that the test itself runs in.
package Mpi;
use strict;
use warnings;

delete @ENV{grep { /^(OMPI|PMI|PMIX|SLURM)_/ } keys %ENV};
$ENV{"OMPI_$_"} = 1 for qw(ALLOW_RUN_AS_ROOT ALLOW_RUN_AS_ROOT_CONFIRM MCA_rmaps_base_oversubscribe MCA_mpi_yield_when_idle);
$ENV{ASAN_OPTIONS} = join ':', grep { defined } $ENV{ASAN_OPTIONS}, 'detect_leaks=0' if $ENV{ASAN}; # MPI's own
1;
