#!/usr/bin/env perl
# Every loss term, its gradients by every tensor, and ten steps of training against the reference's
# in float64: needs the folder with the goldens, CLIP_CID_SHARED or ../shared.
use strict;
use warnings;
use Test::More;
my $bin = $ENV{BIN} // 'bin';
my $shared = $ENV{CLIP_CID_SHARED} // '../shared';
plan skip_all => 'no goldens: set CLIP_CID_SHARED' unless -e "$shared/golden/train";
my $said = `$bin/golden train $shared/golden/train 2>&1`;
is($?, 0, 'golden/train') or diag $said;
unlike($said, qr/NOT OK/, 'within the bounds');
is(() = $said =~ /^grad_\w+\.safetensors\s+ok/mg, 14, 'seven terms, whole and in recomputed pieces');
like($said, qr/^trajectory of two ranks\s+ok/m, 'ten steps of two ranks');
is(() = $said =~ /^final\.safetensors\s+ok/mg, 2, 'their last weights too');
$said = `$bin/golden train $shared/golden/train bf16 2>&1`;
is($?, 0, 'in bfloat16') or diag $said;
isnt(system("$bin/golden train tests/data/models/none >/dev/null 2>&1"), 0, 'no such folder');
done_testing();
