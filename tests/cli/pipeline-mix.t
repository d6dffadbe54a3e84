#!/usr/bin/env perl
# MIX: one training over finished folders, whose shards have the same names. The folders are not touched; the clusters are of all sets;
# what is made again after a change of one set; what does not go together is refused in a line. With the shared data, two sets of emoji.
use strict;
use warnings;
use Cwd qw(abs_path);
use Fcntl qw(:flock);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
use lib 'tests/cli';
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } qw(shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report cid-find);
my $dir = tempdir(CLEANUP => 1);
make_shards("$dir/a", 3, 12);
make_shards("$dir/b", 2, 12);
make_eval_set("$dir/eval/wds_things");
make_teacher("$dir/teacher");
make_student("$dir/student.json");
make_path("$dir/conf");
sub conf { my ($name, @lines) = @_; return spew("$dir/conf/$name.mk", join '', map { "$_\n" } @lines, "TEACHER := $dir/teacher", "STUDENT := $dir/student.json", 'T_big := 1', 'MEM := 512M'); }
conf('a', "SHARD_DIR := $dir/a/shards", 'SHARDS := 00000 00001 00002', 'BALANCE := --remove 0.2', 'MAX_DROPPED := 90');
conf('b', "SHARD_DIR := $dir/b/shards", 'SHARDS := 00000 00001', 'BALANCE := --remove 0.1', 'MAX_DROPPED := 90');
my @mixed = ('MIX := a=1 b=0.5', 'K := 3', "EVAL_SETS := $dir/eval/wds_things");
conf('mixed', @mixed, 'TRAIN := --steps 4 --batch 6');
my ($said, $w) = ('', "$dir/w");
sub make { my ($name, @args) = @_;
    my $rc = system("make -f pipeline.mk DATA=$name CONF=$dir/conf/$name.mk WORK=$w BIN=$bin @args >$dir/said 2>&1");
    $said = slurp("$dir/said");
    return $rc >> 8;
}
sub last_line { return (split /\n/, $said)[-1] // '' }
sub listing { return join '', map { scalar `cd $w/$_ && find . -type f -not -name .lock | LC_ALL=C sort | xargs stat -c '%n %Y %s'` } @_ }
# Labels of a file, little-endian 32 bits.
sub labels { my ($f, $n) = @_; return unpack 'l<*', substr slurp($f), -4 * $n }

# ---- the sets first
isnt(make('mixed'), 0, 'sets that are not made');
like(last_line(), qr{MIX: the set 'a' is not finished: there is no \S+/a/balance\.json; make -f pipeline\.mk DATA=a balance\.  Stop\.$}, 'are told, with what to do') or diag $said;
is(make($_, 'balance'), 0, "set $_") or diag $said for 'a', 'b';
my $before = listing('a', 'b');

# ---- the mixture
is(make('mixed'), 0, 'the mixture') or diag $said;
is(listing('a', 'b'), $before, '... leaves its sets as they are');
my @log = map { decode_json($_) } split /\n/, slurp("$w/mixed/student.jsonl");
is_deeply($log[-1]{sets}, { a => 16, b => 8 }, '... has samples of both by weight');
my ($k) = slurp("$w/mixed/centroids.npy") =~ /'shape': \((\d+),/;
is($k, 3, '... and one set of centroids');
is(scalar(my @y = labels("$w/mixed/labels/b.00001.npy", 12)), 12, '... a label for each row of each set');
ok(!-e "$w/a/labels" && !-e "$w/b/labels", '... in its own folder');
# Each sample has its own rows: a label is the nearest centroid of the row of its set.
is(system("$bin/kmeans-cluster -q --assign $w/mixed/centroids.npy --labels-dir $dir $w/b/embed/image/00001.npy"), 0, 'labels of a set by hand');
ok(join(' ', labels("$dir/00001.npy", 12)) eq join(' ', @y), '... are those of the mixture');
like(slurp("$w/mixed/report.html"), qr/60 samples.*16.*a=1 b=0\.5|a=1 b=0\.5/s, 'the report has the mixture');
is(make('mixed'), 0, 'again');
is($said, '', '... nothing to do');
is(make('mixed', 'status'), 0, 'status') or diag $said;
like($said, qr/^\[#{24}\] labels +5 \/ 5 +whole$/m, '... all shards of both sets');
is(system("$bin/cid-find -q -n 3 -m $dir/teacher $w/mixed 'a red thing' >$dir/found 2>$dir/said"), 0, 'cid-find in the mixture') or diag slurp("$dir/said");
like(slurp("$dir/found"), qr/\b[ab]\.0000\d\b/, '... names sets and shards');

# ---- changes
is(make('mixed', 'RUN=k2', 'K=2', 'cluster'), 0, 'a run beside it') or diag $said;
like($said, qr/^centroids: done/m, '... of other clusters');
conf('b', "SHARD_DIR := $dir/b/shards", 'SHARDS := 00000 00001', 'BALANCE := --remove 0.8', 'MAX_DROPPED := 90');
is(make('b', 'balance'), 0, 'another balance of a set') or diag $said;
is(make('mixed', 'train'), 0, '... and the mixture') or diag $said;
like($said, qr/^centroids: done.*^train-student: .*other balance-b .*kept as/ms, '... is made again, the old student kept') or diag $said;
is(make('mixed', "'MIX=a=1 b=2'", 'train'), 0, 'other weights') or diag $said;
unlike($said, qr/^(?:centroids|labels): done/m, '... keep the clusters');
like($said, qr/^train-student: .*other params/m, '... and train anew');
conf('a', "SHARD_DIR := $dir/a/shards", 'SHARDS := 00000 00001', 'BALANCE := --remove 0.2', 'MAX_DROPPED := 90');
is(make('a', 'balance'), 0, 'a shard less in a set') or diag $said;
is(make('mixed', 'cluster'), 0, '... and the mixture') or diag $said;
is(join(' ', map { m{([^/]*)\.tar$} } sort glob "$w/mixed/shards/*"), 'a.00000 a.00001 b.00000 b.00001', '... has it no more');
# The same bytes by parts, whatever reads them, is tests/cli/train-mix.t; here the terms of a mixture with a prior.
is(make('mixed', "'TRAIN=--steps 3 --batch 6 --loss clip=1,cluster_ce=0.1 --cluster-prior 1'", 'train'), 0, 'a prior of the clusters') or diag $said;

# ---- what does not go together
for (["'MIX=a=1 b'", qr/MIX: 'b': each set is NAME=WEIGHT/], ["'MIX=a=1 a=2'", qr/'a/], ["'MIX=a=1 mixed=1'", qr/MIX: 'mixed' is the mixture itself/], ["'MIX=a=0 b=1'", qr/'a': its weight is not above 0/],
    ['embed', qr/embed is made by the sets of a mixture: make -f \S+ DATA=a embed/], ['balance', qr/balance is made by the sets/], ['VIEWS=2', qr/VIEWS is set beside MIX/],
    ["'BALANCE=--remove 0.1'", qr/BALANCE is set beside MIX: that was decided by the sets/], ["'TRAIN=--epochs 2'", qr/sets of a mixture end apart: give the length by --steps/]) {
    isnt(make('mixed', $_->[0]), 0, "wrong: $_->[0]");
    like(last_line(), $_->[1], '... is told') or diag $said;
}
make_teacher("$dir/other", resize => 'squash');
isnt(make('mixed', "TEACHER=$dir/other"), 0, 'another teacher than that of the sets');
like(last_line(), qr/MIX: the embeddings of 'a' are of another teacher than TEACHER/, '... is told') or diag $said;
open my $lock, '+<', "$w/b/.lock" or die;
flock $lock, LOCK_EX or die;
isnt(make('mixed'), 0, 'a set that a run is at work in');
like(last_line(), qr{MIX: a run is at work in \S+/b: wait for its end}, '... is told') or diag $said;
close $lock;

# ---- two sets of real pictures, an average of the weights, looks while it trains, a cooldown
my $shared = abs_path($ENV{CLIP_CID_SHARED} // '../shared') // '';
SKIP: {
    skip 'no data: set CLIP_CID_SHARED', 6 unless -e "$shared/data/emoji-twitter/00003.tar";
    my ($d, $eval) = ("$shared/data", "$shared/data/eval/wds_openclipart16");
    conf($_, "SHARD_DIR := $d/emoji-$_", 'SHARDS := 00003', 'BALANCE := --remove 0.2') for 'twitter', 'google';
    conf('emoji', 'MIX := twitter=1 google=2', 'K := 8', "EVAL_SETS := $eval",
        "TRAIN := --steps 30 --batch 12 --ema 0.9 --schedule cooldown --cooldown 10 --eval-set $eval --eval-every 15");
    is(make($_, 'balance'), 0, "emoji: $_") or diag $said for 'twitter', 'google';
    is(make('emoji'), 0, 'a mixture of both') or diag $said;
    my @lines = map { decode_json($_) } split /\n/, slurp("$w/emoji/student.jsonl");
    is_deeply((grep { $_->{sets} } @lines)[-1]{sets}, { twitter => 120, google => 240 }, '... by weight');
    is(scalar(grep { ($_->{eval} // '') eq 'wds_openclipart16' } @lines), 4, '... looked at twice, with the average of its weights');
    like(slurp("$w/emoji/report.html"), qr/twitter=1 google=2/, '... and reported');
}
done_testing();
