#!/usr/bin/env perl
# distill-train on what can be read only once: standard input and pipes with a name have one epoch, and more are refused
# before the first step.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use POSIX qw(mkfifo);
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
my $said;
sub run { my $rc = system('bash', '-c', "@_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
is(run("$bin/shard-read -q --size 29 -o s $data/shards/00002.tar"), 0, 'samples') or diag $said;
my $train = "$bin/distill-train -q --student $data/models/odd/open_clip_config.json --tokenizer $data/tokenizer/openai --loss clip=1 --batch 2 -o st";
mkfifo('fifo', 0600) or die;
my %ways = ('- < s' => 'standard input', '<(cat s)' => '/dev/fd/\d+', '/dev/stdin < <(cat s)' => '/dev/stdin', 'fifo' => 'fifo');
for my $input (sort keys %ways) {
    remove_tree('st');
    is(run("$train --epochs 2 --epoch-samples 4 $input"), 1, "$input: two epochs"); # nobody writes into the FIFO
    like($said, qr/^distill-train: $ways{$input} can be read only once, so it has one epoch/, 'refused');
    ok(!-s 'st/log.jsonl', 'before the first step');
    next if $input eq 'fifo';
    remove_tree('st');
    is(run("$train --epochs 1 --epoch-samples 4 $input"), 0, "$input: one epoch") or diag $said;
}
remove_tree('st');
is(run("$train --epochs 2 --epoch-samples 4 /dev/stdin < s"), 0, '/dev/stdin that is a file has two') or diag $said;
done_testing();
