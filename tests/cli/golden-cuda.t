#!/usr/bin/env perl
# The CUDA device, run on the processor, against the reference's embeddings, gradients and training
# run, in float32 and bfloat16: the CPU's bounds, and the same lines with blocks in another order.
use strict;
use warnings;
use Test::More;
my $bin = $ENV{BIN} // 'bin';
my $shared = $ENV{CLIP_CID_SHARED} // '../shared';
my @runs = map { "model $_" } 'tests/data/models/odd', 'tests/data/models/quick', glob("$shared/golden/models/*");
push @runs, "train $shared/golden/train", "train $shared/golden/train bf16" if -e "$shared/golden/train";
for my $run (@runs) {
    my $said = `$bin/golden-cuda $run 2>&1`;
    is($?, 0, $run) or diag $said;
    my $again = `CUDA_ON_CPU_ORDER=reverse $bin/golden-cuda $run 2>&1`;
    is($again, $said, 'the same with blocks in reverse');
}
done_testing();
