#!/usr/bin/env perl
# distill-train --profile: a table by kind of work and by part whose times are those of the steps; no byte of the result changes.
use strict;
use warnings;
use lib 'tests/lib';
use List::Util qw(sum);
use Test::More;
use Train;

shard('a/00000.tar', 40, 'a');
is(run("$bin/shard-read -q --size 29 -o s.samples a/00000.tar"), 0, 'samples') or diag $said;
my $train = "$bin/distill-train --student student.json --tokenizer $vocab --batch 8 --loss clip --progress never --data 'cat s.samples' --steps 8";
is(run("$train -o plain"), 0, 'a run') or diag $said;
unlike($said, qr/profile/, '... without a profile');
for my $more ('', '--accumulate 2 --recompute') {
    is(run("$train $more --profile 5 --overwrite -o profiled"), 0, "profiled $more") or diag $said;
    my ($ms) = $said =~ /profile of 5 steps: ([\d.]+) ms each, [\d.]+ GFLOP, [\d.]+ GFLOP\/s\n/;
    my ($kinds, $parts) = $said =~ /: kind of work .*?\n(.*?)[^\n]*: part +forward.*?\n(.*?)[^\n]*: 8 steps/s;
    my @kind = $kinds =~ /: ([a-zA-Z, ]+?) +\d+ +([\d.]+) +([\d.]+)%/g;
    my @part = $parts =~ /: ([a-z, ]+?(?: block \d+)?) +([\d.]+) +([\d.]+) +([\d.]+)%/g;
    my %ms = map { $kind[3 * $_] => $kind[3 * $_ + 1] } 0 .. $#kind / 3;
    my %back = map { $part[4 * $_] => $part[4 * $_ + 2] } 0 .. $#part / 4;
    is(join(' ', grep { !exists $ms{$_} } 'linear', 'linear, by the weight', 'attention', 'attention, backward', 'layer norm', 'AdamW', 'everything else'), '', '... the kinds of work');
    is(join(' ', grep { !exists $back{$_} } 'image stem', 'image block 0', 'image head', 'text stem', 'text block 0', 'text head', 'losses', 'update'), '', '... the parts');
    cmp_ok(abs(sum(values %ms) - $ms), '<', 0.1 + 0.02 * $ms, "... the kinds are all of $ms ms");
    cmp_ok(sum(map { $part[4 * $_ + 1] + $part[4 * $_ + 2] } 0 .. $#part / 4), '<', 0.2 + 1.02 * $ms, '... the parts no more');
    cmp_ok($back{'image block 0'}, '>', 0, '... a block has its backward');
    unlike($said, qr/profile of.*profile of/s, '... once');
}
is(run("$train --profile 5 --overwrite -o profiled"), 0, 'profiled') or diag $said;
ok(slurp('profiled/open_clip_model.safetensors') eq slurp('plain/open_clip_model.safetensors'), '... the same bytes');
is(run("$train --profile 50 --overwrite -o profiled"), 0, 'more steps than there are') or diag $said;
like($said, qr/warning: --profile 50: the run has ended after 7 steps behind its first\n.*profile of 7 steps: /, '... says so, and tells of those that there are') or diag $said;
is(run("$train --profile 50 --steps 1 --overwrite -o profiled"), 0, 'none to profile') or diag $said;
like($said, qr/--profile 50: the run has ended after 0 steps/, '... says so');
is(run("$train --profile 0 -o wrong"), 2, 'none');
done_testing();
