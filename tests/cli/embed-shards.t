#!/usr/bin/env perl
# teacher-embed --shards-from LIST --image-dir DIR --text-dir DIR: a file a shard from one process that loads the model once,
# the bytes of one process a shard; what is there and belongs is passed over, what does not is made again; a shard that fails
# is named and the others are made; after kill -9 the same command goes on.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Temp qw(tempdir);
use Test::More;
use Time::HiRes qw(sleep);
use lib 'tests/cli';
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $dir = tempdir(CLEANUP => 1);
make_shards($dir, 4, 12);
make_teacher("$dir/teacher");
chdir $dir or die;
my $n = 64;
mkdir 's';
copy(sprintf('shards/%05d.tar', $_ % 4), sprintf('s/%02d.tar', $_)) or die for 0 .. $n - 1;
my @names = map { sprintf '%02d', $_ } 0 .. $n - 1;
spew('list', join '', map { "s/$_.tar\n" } @names);
my $said;
sub run { my $rc = system("$bin/teacher-embed -v -m teacher @_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub made { my ($d) = @_; return join '', map { slurp("$d-i/$_.npy"), slurp("$d-i/$_.npy.json"), slurp("$d-t/$_.npy"), slurp("$d-t/$_.npy.json") } @names; }
sub into { my ($d, $list) = @_; return "--shards-from $list --image-dir $d-i --text-dir $d-t"; }

# ---- 64 shards in one process
is(run(into('a', 'list'), '-t 2'), 0, "$n shards") or diag $said;
is(() = $said =~ /model loaded/g, 1, 'the model is loaded once');
like($said, qr/768 samples.*; 64 shards, 0 were there/, 'the account');
is(scalar(grep { -s "a-i/$_.npy" && -s "a-i/$_.npy.json" && -s "a-t/$_.npy" && -s "a-t/$_.npy.json" } @names), $n, 'four files a shard');
SKIP: {
    skip 'no strace', 1 if system('command -v strace >/dev/null') || system('strace -o /dev/null true 2>/dev/null');
    system("strace -f -qq -e trace=openat -o trace $bin/teacher-embed -m teacher --no-resume " . into('b', 'list') . ' 2>said');
    my @opened = grep { /open_clip_model\.safetensors/ && !/ENOENT/ } split /\n/, slurp('trace');
    is(scalar @opened, 1, 'strace: the weights are opened once');
}

# ---- the same bytes one by one
for (@names) {
    spew('one', "s/$_.tar\n");
    run(into('c', 'one'), '--batch 5') == 0 or die $said;
}
ok(made('c') eq made('a'), 'the same bytes one by one, sidecars too');
is(run("--shards s/07.tar --image-out x.npy --text-out y.npy"), 0, 'one shard as before');
ok(slurp('x.npy') eq slurp('a-i/07.npy') && slurp('y.npy') eq slurp('a-t/07.npy'), 'the same arrays');

# ---- again: what belongs is passed over
my $whole = made('a');
is(run(into('a', 'list')), 0, 'again');
like($said, qr/0 samples.*; 0 shards, 64 were there/, 'nothing is to be done');
# A spoilt file, a lost one, texts of other samples, a shard that is newer.
my $f = slurp('a-i/05.npy');
substr($f, -3, 1) ^= "\xff";
spew('a-i/05.npy', $f);
unlink 'a-t/06.npy';
copy("a-t/01.npy$_", "a-t/08.npy$_") for '', '.json';
system('touch', 's/09.tar');
is(run(into('a', 'list')), 0, 'after damage');
like($said, qr/; 4 shards, 60 were there/, 'four are made again') or diag $said;
ok(made('a') eq $whole, 'the same bytes');
is(run(into('a', 'list'), '--out-dtype f32'), 0, 'other options');
like($said, qr/; 64 shards, 0 were there/, 'all are made again');
is(run(into('a', 'list'), '--no-resume'), 0, 'asked for');
like($said, qr/; 64 shards, 0 were there/, 'all are made again');
ok(made('a') eq $whole, 'the same bytes');

# ---- a shard that fails is named, the others are made
rename 's/10.tar', 'gone';
copy('s/11.tar', 'whole') or die;
truncate 's/11.tar', 9000;
is(run(into('d', 'list')), 1, 'a missing and a damaged shard');
like($said, qr{s/10\.tar}, 'the missing one is named');
like($said, qr{s/11\.tar: .*--partial}, 'and the damaged one');
like($said, qr/2 of 64 shards failed/, 'and counted');
is(scalar(grep { !-e "d-i/$_.npy" } @names), 2, 'the others are there');
is(scalar(() = glob('d-*/.*.tmp')), 0, 'nothing half done');
is(run(into('d', 'list'), '--partial'), 1, 'the damaged one in part');
like($said, qr/1 of 64 shards failed/, 'the missing one is left');
rename 'gone', 's/10.tar';
rename 'whole', 's/11.tar';
is(run(into('d', 'list')), 0, 'once they are there');
ok(made('d') eq $whole, 'the bytes of the undisturbed run');

# ---- the index
mkdir 'index';
for (@names) { system("$bin/shard-read -q --images no -o /dev/null --index index/$_.tsv s/$_.tar") == 0 or die; }
is(run(into('d', 'list'), '--index-dir index'), 0, 'with an index');
like($said, qr/64 were there/, 'they belong');
ok(made('d') eq $whole, 'nothing is made again');
copy('index/01.tsv', 'kept') or die;
(my $t = slurp('index/01.tsv')) =~ s/00003/xx/;
spew('index/01.tsv', $t);
spew('index/02.tsv', '');
is(run(into('d', 'list'), '--index-dir index'), 1, 'an index of other keys');
like($said, qr{s/01\.tar: 12 samples were read, its index has 12 or other keys}, 'the shard is named');
like($said, qr{s/02\.tar: 12 samples were read, its index has 0 or}, 'and the other');
like($said, qr/2 of 64 shards failed/, 'the others belong');
rename 's/02.tar', 'gone';
copy('kept', 'index/01.tsv') or die;
unlink 'd-i/02.npy';
is(run(into('d', 'list'), '--index-dir index'), 0, 'a shard that is not there, whose index is empty') or diag $said;
like(slurp('d-i/02.npy'), qr/'shape': \(0, 20\)/, 'has no rows');
rename 'gone', 's/02.tar';

# ---- kill -9, and the same command goes on
my $rounds = 0;
for my $files (1, 5, 20, 40) {
    my $pid = fork // die;
    if (!$pid) {
        open STDERR, '>', '/dev/null';
        exec "$bin/teacher-embed", qw(-m teacher), split / /, into('k', 'list');
    }
    for (1 .. 20_000) { last if (() = glob 'k-i/*.npy') >= $files; sleep 0.001 }
    kill 9, $pid;
    waitpid $pid, 0;
    my @there = grep { -e "k-i/$_.npy" } @names;
    $rounds++ if @there && @there < $n;
    my $bad = grep { slurp("k-i/$_.npy") ne slurp("c-i/$_.npy") || slurp("k-t/$_.npy") ne slurp("c-t/$_.npy") } @there;
    is($bad, 0, scalar(@there) . ' shards after kill -9, each whole');
    unlink glob 'k-*/*' if @there == $n;
}
my $were = grep { -e "k-i/$_.npy" && -e "k-t/$_.npy" } @names;
is(run(into('k', 'list')), 0, 'after the last kill');
like($said, qr/; (\d+) shards, $were were there/, 'what was there is passed over');
ok(made('k') eq made('c'), 'the bytes of an undisturbed run');
ok($rounds, "$rounds kills in the middle");

# ---- wrong usage
is(run("--image-dir a-i s/00.tar"), 2, 'folders without a list');
is(run(into('a', 'list'), 's/00.tar'), 2, 'a list and operands');
is(run(into('a', 'list'), '-o x.npy'), 2, 'folders and a file');
is(run("--shards-from none --image-dir a-i"), 1, 'no such list');
like($said, qr/'none'/, 'is named');
is(run("--shards-from list --image-dir no/where"), 1, 'no such folder');
done_testing;
