#!/usr/bin/env perl
# teacher-embed looks at the memory that its batches take before it reads anything, and names the batch that fits.
use strict;
use warnings;
use lib 'tests/lib';
use Test::More;
use Train;

plan skip_all => 'an address sanitizer needs all of the address space' if $ENV{ASAN};
shard('a.tar', 3, 'a');
my $embed = "$bin/teacher-embed -q -m $data/models/odd --tokenizer $vocab --image-out i.npy --text-out t.npy";
sub limited { my ($mib, $command) = @_; return run("bash -c \"ulimit -v \$(($mib * 1024)); exec $command\""); }
is(limited(700, "$embed --batch 65536 --shards a.tar"), 1, 'batches that do not fit');
like($said, qr/this needs [\d.]+ GiB \(model [\d.]+, batches of 65536 samples [\d.]+\); [\d.]+ GiB are free \(ulimit -v\): --batch \d+ fits$/m, '... are refused');
my ($fits) = $said =~ /--batch (\d+) fits/;
cmp_ok($fits // 0, '>', 1000, '... with a batch of some size');
$fits = int(($fits // 1) / 4);    # address space of threads and of what reads the shard
is(limited(700, "$embed --batch $fits --shards a.tar"), 0, '... that does') or diag $said;
ok(-e 'i.npy' && -e 't.npy', '... and makes its files');
done_testing;
