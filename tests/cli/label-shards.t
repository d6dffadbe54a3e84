#!/usr/bin/env perl
# kmeans-cluster --assign C --resume: the labels of many shards from one process that loads the centroids once, the bytes of one
# process a shard; what is there and belongs is passed over, what does not is made again; an input that fails is named and the
# others are labelled; after kill -9 the same command goes on.
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
my $dir = tempdir(CLEANUP => 1);
make_shards($dir, 4, 12);
make_teacher("$dir/teacher");
chdir $dir or die;
my $n = 64;
mkdir 's';
copy(sprintf('shards/%05d.tar', $_ % 4), sprintf('s/%02d.tar', $_)) or die for 0 .. $n - 1;
my @names = map { sprintf '%02d', $_ } 0 .. $n - 1;
system("ls s/*.tar | $bin/teacher-embed -q -m teacher --shards-from - --image-dir e") == 0 or die;
system("$bin/kmeans-cluster -q -k 5 -o c.npy e/*.npy") == 0 or die;
spew('list', join '', map { "e/$_.npy\n" } @names);
my $said;
sub run { my $rc = system("$bin/kmeans-cluster --assign c.npy @_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub made { my ($d) = @_; return join '', map { slurp("$d/$_.npy"), slurp("$d/$_.npy.json") } @names; }

is(run('--labels-dir l --resume --files-from list -t 2'), 0, "$n inputs") or diag $said;
like($said, qr/64 inputs labelled, 0 were$/m, 'all are labelled');
my $whole = made('l');
SKIP: {
    skip 'no strace', 1 if system('command -v strace >/dev/null') || system('strace -o /dev/null true 2>/dev/null');
    rename 'l', 'l1';
    local $ENV{ASAN_OPTIONS} = join ':', $ENV{ASAN_OPTIONS} // (), 'detect_leaks=0'; # it does not work under strace
    system("strace -f -qq -e trace=openat -o trace $bin/kmeans-cluster -q --assign c.npy --labels-dir l --resume --files-from list") == 0 or die;
    my @reads = grep { /"c\.npy"/ && !/ENOENT/ } split /\n/, slurp('trace');
    cmp_ok(scalar @reads, '<=', 3, 'strace: the centroids are opened to be read and to be held against their sidecar, not for each input') or diag "@reads";
    ok(made('l') eq $whole, 'the same bytes');
}
unlink glob 'l/*';
for (@names) {
    spew('one', "e/$_.npy\n");
    run('--labels-dir l --resume --files-from one') == 0 or die $said;
}
ok(made('l') eq $whole, 'the same bytes one by one, sidecars too');
rename 'l', 'a';
is(run('--labels-dir l e/*.npy'), 0, 'all as one set');
is(join('', map { slurp("l/$_.npy") } @names), join('', map { slurp("a/$_.npy") } @names), 'the same arrays');
unlink glob 'l/*';
rmdir 'l';
rename 'a', 'l';

is(run('--labels-dir l --resume --files-from list'), 0, 'again');
like($said, qr/0 inputs labelled, 64 were$/m, 'nothing is to be done');
unlink 'l/03.npy';
copy("l/06.npy$_", "l/04.npy$_") for '', '.json';
my $f = slurp('l/05.npy');
substr($f, -4, 1) ^= "\x01";
spew('l/05.npy', $f);
is(run('--labels-dir l --resume --files-from list'), 0, 'after damage');
like($said, qr/3 inputs labelled, 61 were$/m, 'three are labelled again');
ok(made('l') eq $whole, 'the same bytes');
system("$bin/kmeans-cluster -q -k 4 -o c.npy e/*.npy") == 0 or die;
is(run('--labels-dir l --resume --files-from list'), 0, 'other centroids');
like($said, qr/64 inputs labelled, 0 were$/m, 'all are labelled again');
$whole = made('l');
is(run('--labels-dir l --resume --files-from list --top 2'), 0, 'other options');
like($said, qr/64 inputs labelled, 0 were$/m, 'all are labelled again');
unlink glob 'l/*';

# ---- an input that fails
rename 'e/10.npy', 'gone';
copy('e/11.npy', 'kept') or die;
truncate 'e/11.npy', 300;
is(run('--labels-dir l --resume --files-from list'), 1, 'a missing and a damaged input');
like($said, qr{e/10\.npy}, 'the missing one is named');
like($said, qr{e/11\.npy}, 'and the damaged one');
like($said, qr/2 of 64 inputs failed/, 'and counted');
is(scalar(grep { !-e "l/$_.npy" } @names), 2, 'the others are there');
rename 'gone', 'e/10.npy';
rename 'kept', 'e/11.npy';
is(run('--labels-dir l --resume --files-from list'), 0, 'once they are there');
ok(made('l') eq $whole, 'the bytes of the undisturbed run');

is(run('--labels-dir l --each --files-from list'), 0, '--each');
like($said, qr/64 inputs labelled, 0 were$/m, 'labels all again');
ok(made('l') eq $whole, 'the same bytes');

# ---- kill -9
my $rounds = 0;
for my $files (1, 5, 20, 40) {
    my $pid = fork // die;
    if (!$pid) {
        open STDERR, '>', '/dev/null';
        exec "$bin/kmeans-cluster", qw(--assign c.npy --labels-dir k --resume --files-from list);
    }
    for (1 .. 20_000) { last if (() = glob 'k/*.npy') >= $files; sleep 0.001 }
    kill 9, $pid;
    waitpid $pid, 0;
    my @there = grep { -e "k/$_.npy" } @names;
    $rounds++ if @there && @there < $n;
    is(scalar(grep { slurp("k/$_.npy") ne slurp("l/$_.npy") } @there), 0, scalar(@there) . ' inputs after kill -9, each whole');
    unlink glob 'k/*' if @there == $n;
}
is(run('--labels-dir k --resume --files-from list'), 0, 'after the last kill');
is(join('', map { slurp("k/$_.npy") } @names), join('', map { slurp("l/$_.npy") } @names), 'the bytes of an undisturbed run');
is(run('--labels-dir k --resume e/00.npy none.npy'), 1, 'no such input');
is(run('--labels-dir k --resume --ledger x e/00.npy'), 2, 'with a ledger');
is(run('--labels-dir k --resume e/00.npy e/00.npy'), 1, 'one name twice');
ok($rounds, "$rounds kills in the middle");
done_testing;
