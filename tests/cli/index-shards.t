#!/usr/bin/env perl
# shard-read --index-dir DIR: an index for each shard from one process, the bytes of one process a shard; marks of shards that are
# missing or damaged; --resume passes over what is there; a shard that the machine cannot read is named, the others are made.
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
chdir $dir or die;
my $n = 64;
mkdir 's';
copy(sprintf('shards/%05d.tar', $_ % 4), sprintf('s/%02d.tar', $_)) or die for 0 .. $n - 1;
copy("$data/shards/00001.tar", 's/05.tar') or die; # has bad samples
my @names = map { sprintf '%02d', $_ } 0 .. $n - 1;
spew('list', join '', map { "s/$_.tar\n" } @names);
my $said;
sub run { my $rc = system("$bin/shard-read @_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub made { my ($d) = @_; return join '', map { slurp("$d/$_.tsv") } @names; }

is(run('--index-dir a --files-from list -t 2'), 0, "$n shards") or diag $said;
like($said, qr/; 64 shards, 0 were there/, 'the account');
for (@names) { system("$bin/shard-read -q -o /dev/null --index b.tsv s/$_.tar 2>/dev/null; cat b.tsv >>all") }
ok(made('a') eq slurp('all') && slurp('all'), 'the same bytes one by one, keys of other shards too');
my $whole = made('a');
is(run('--index-dir a --files-from list --resume'), 0, 'again');
like($said, qr/; 0 shards, 64 were there/, 'nothing is to be done');
system('touch', 's/09.tar');
unlink 'a/10.tsv';
is(run('--index-dir a --files-from list --resume'), 0, 'a newer shard and a lost index');
like($said, qr/; 2 shards, 62 were there/, 'two are made');
is(run('--index-dir a --files-from list'), 0, 'without --resume');
like($said, qr/; 64 shards, 0 were there/, 'all are made');
ok(made('a') eq $whole, 'the same bytes');

# ---- missing, damaged, not readable
rename 's/20.tar', 'gone';
copy('s/21.tar', 'kept') or die;
truncate 's/21.tar', 20_000;
rename 's/22.tar', 'plain';
mkdir 's/22.tar';
is(run('--index-dir a --files-from list --max-bad 100%'), 1, 'a missing, a damaged one, and one that is a folder');
like($said, qr{s/22\.tar}, 'the folder is named');
like($said, qr/1 of 64 shards failed/, 'it alone has failed');
ok(-e 'a/20.missing' && -e 'a/20.tsv' && !-s 'a/20.tsv', 'the missing one has a mark and an empty index');
like(slurp('a/21.damaged'), qr{s/21\.tar: .*\n}, 'the damaged one a mark that says why');
ok(length slurp('a/21.tsv') && index($whole, slurp('a/21.tsv')) >= 0, 'and the index of what could be read');
ok(!-e 'a/22.tsv' && !-e 'a/22.missing' && !-e 'a/22.damaged', 'the folder has none');
rmdir 's/22.tar';
rename 'plain', 's/22.tar';
is(run('--index-dir a --files-from list --max-bad 100%'), 0, 'with --max-bad what is damaged is no failure') or diag $said;
is(run('--index-dir a --files-from list'), 1, 'without it it is');
rename 'gone', 's/20.tar';
rename 'kept', 's/21.tar';
system('touch', 's/21.tar');
is(run('--index-dir a --files-from list --resume'), 0, 'once they are there');
like($said, qr/; 2 shards, 62 were there/, 'two are made');
ok(made('a') eq $whole && !glob('a/*.missing') && !glob('a/*.damaged'), 'the bytes of whole shards, and no marks');

# ---- kill -9
my $rounds = 0;
for my $files (1, 5, 20, 40) {
    my $pid = fork // die;
    if (!$pid) {
        open STDERR, '>', '/dev/null';
        exec "$bin/shard-read", qw(--index-dir k --resume --files-from list);
    }
    for (1 .. 20_000) { last if (() = glob 'k/*.tsv') >= $files; sleep 0.001 }
    kill 9, $pid;
    waitpid $pid, 0;
    my @there = grep { -e "k/$_.tsv" } @names;
    $rounds++ if @there && @there < $n;
    is(scalar(grep { slurp("k/$_.tsv") ne slurp("a/$_.tsv") } @there), 0, scalar(@there) . ' shards after kill -9, each whole');
    unlink glob 'k/*' if @there == $n;
}
is(run('--index-dir k --resume --files-from list'), 0, 'after the last kill');
ok(made('k') eq $whole, 'the bytes of an undisturbed run');

is(run('--index-dir a -o x s/00.tar'), 2, 'with -o');
is(run('--index-dir a --part 1/2 s/00.tar'), 2, 'a part');
is(run('--resume s/00.tar -o x'), 2, '--resume alone');
is(run('--index-dir a s/00.tar shards/00.tar'), 1, 'two shards of one name') or diag $said;
is(run('--index-dir no/where s/00.tar'), 1, 'no such folder');
ok($rounds, "$rounds kills in the middle");
done_testing;
