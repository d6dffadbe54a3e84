#!/usr/bin/env perl
# distill-train on ranks with a GPU each, the CUDA sources on the stand-in: by way of the host, and from device to device by
# comm-nccl.so on NCCL's stand-in, the same bytes for 1, 2 and 4 ranks; each task of a host takes a GPU of its own.
use strict;
use warnings;
use lib 'tests/lib';
use Mpi;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use Test::More;
$SIG{$_} = 'DEFAULT' for qw(HUP INT TERM USR2);
use Train;
my $source = abs_path("$data/../..");
my $build = $Train::build;

plan skip_all => 'no mpirun or no mpicc' if system('command -v mpirun >/dev/null && command -v mpicc >/dev/null');
plan skip_all => 'no tools on the stand-in' unless -x "$build/cuda-tools/distill-train";
mkdir 'bin';
is(system("mpicc -std=c11 -O2 -fPIC -shared -I$source/lib -o bin/comm-mpi.so $source/plugins/comm-mpi.c"), 0, 'ranks over MPI');
my $nccl = "cc -std=c11 -O2 -Wall -Wextra -Werror -fPIC -shared -I$source/lib";
copy("$build/cuda-tools/distill-train", 'bin/distill-train') && chmod 0755, 'bin/distill-train';
$ENV{CUDA_ON_CPU_DEVICES} = 2;

shard('a/00000.tar', 24, 'a');
is(run("$bin/shard-read -q --size 29 -o s.samples a/00000.tar"), 0, 'samples') or diag $said;
embed('t', 'a/00000.tar');
clusters('t', '-k 9');
my $files = '--teacher-image image-t --teacher-text text-t --labels labels-t --centroids c-t.npy --sample-rate 0.5';
my $train = "bin/distill-train --device cuda --student student.json --tokenizer $vocab --batch 8 -t 1 --progress never $files "
    . '--accumulate 4 --steps 2 --checkpoint-every 2';
sub mpi { my ($ranks, $command) = @_; return run("timeout 100 mpirun -q -n $ranks $command"); }
sub made {
    my ($dir) = @_;
    my ($last) = (sort glob "$dir/checkpoints/step-*")[-1];
    return join "\0", map { /time\.json$|log\.jsonl$/ ? () : s{^\Q$dir\E/}{}r . "\n" . slurp($_) } sort grep { -f } glob("$dir/* $last/*");
}

is(run("$train -o one s.samples"), 0, 'one process') or diag $said;
ok(length(made('one')) > 50_000, '... a model and a checkpoint');
is(mpi(2, "$train -o host-2 s.samples"), 0, 'two ranks, by way of the host') or diag $said;
ok(made('host-2') eq made('one'), '... the same bytes');
unlike($said, qr/NCCL/, '... without NCCL');
is(mpi(2, "$train --comm nccl -o none s.samples"), 1, '--comm nccl without the plug-in');
like($said, qr/^distill-train: no comm-nccl\.so in '.*' or its \.\.\/lib\/clip-cid: build it with make CUDA=1 NCCL=1$/m, '... says how to make it');
is(() = $said =~ /no comm-nccl/g, 1, '... once');
is(system("$nccl -I$source/tests/cuda-on-cpu -o bin/comm-nccl.so $source/plugins/comm-nccl.c"), 0, 'from device to device');
for my $ranks (2, 4) {
    is(mpi($ranks, "$train --comm nccl -o nccl-$ranks s.samples"), 0, "$ranks ranks") or diag $said;
    ok(made("nccl-$ranks") eq made('one'), '... the same bytes');
    like($said, qr/NCCL moves rows and gradients from GPU to GPU/, '... said');
}
is(mpi(2, "$train --project --loss instance,clip,feature -o auto s.samples"), 0, 'auto takes it where it is there') or diag $said;
like($said, qr/NCCL moves/, '... said');
is(run("$train --project --loss instance,clip,feature -o alone s.samples"), 0, 'one process');
ok(made('auto') eq made('alone'), '... the same bytes');
is(mpi(3, "$train --batch 6 --accumulate 3 -o three s.samples"), 0, 'three ranks, whose sums go through the host') or diag $said;
is(mpi(2, "$train --device cpu --comm nccl -o cpu s.samples"), 1, '--comm nccl on processors');
like($said, qr/^distill-train: --comm nccl is for --device cuda$/m, '... is refused');
copy('bin/comm-mpi.so', 'bin/comm-nccl.so');
is(mpi(2, "$train --comm nccl -o wrong s.samples"), 1, 'a plug-in that is for something else');
like($said, qr/cannot use '.*comm-nccl\.so': it is no plug-in of clip-cid for this/, '... is named');
for my $task (0, 1, 2) {
    local @ENV{qw(SLURM_STEP_NUM_TASKS SLURM_LOCALID)} = (3, $task);
    run("$build/cuda-tools/teacher-embed -m $data/models/odd --device cuda --shards a/00000.tar -o x.npy");
    like($said, qr/on cuda:@{[$task % 2]} /, "task $task of a host with two GPUs takes GPU " . $task % 2);
}
SKIP: {
    my ($cuda) = grep { -e "$_/include/nccl.h" } glob('/usr/local/cuda*');
    skip 'no nccl.h', 1 unless $cuda;
    is(system("$nccl -isystem $cuda/include -c -o real.o $source/plugins/comm-nccl.c"), 0, 'it compiles with the real header');
}
done_testing();
