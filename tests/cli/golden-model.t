#!/usr/bin/env perl
# Embeddings against those of an independent float64 implementation: models in tests/data, and the
# larger set of a shared folder where there is one. Odd head widths, layer scale, QuickGELU,
# bfloat16, any batch size and number of threads.
use strict;
use warnings;
use Test::More;
my $bin = $ENV{BIN} // 'bin';
my $shared = $ENV{CLIP_CID_SHARED} // '../shared';
my @dirs = ('tests/data/models/odd', 'tests/data/models/quick', glob("$shared/golden/models/*"));
for my $dir (@dirs) {
    my $said = `$bin/golden model $dir 2>&1`;
    is($?, 0, $dir) or diag $said;
}
isnt(system("$bin/golden model tests/data/models/none >/dev/null 2>&1"), 0, 'no such folder');
done_testing();
