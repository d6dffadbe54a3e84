#!/usr/bin/env perl
# --select: samples by the fields of their json. Left out of a stream as by a keep mask, with the reason in the index; rows of zeros
# from teacher-embed; SELECT of pipeline.mk, whose ledger counts the reasons, and which makes everything again when it changes.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
use lib 'tests/cli';
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $root = abs_path('.');
my $dir = tempdir(CLEANUP => 1);
my @pictures = grep { -s $_ > 500 } glob "$data/images/*4*.jpg $data/images/prog*.jpg $data/images/p*.jpg";
my @json = ('{"similarity": 0.31, "punsafe": 0.1, "width": 640, "status": "success", "key": "a"}', '{"similarity": 0.29, "punsafe": 0.1, "width": 640}',
    '{"similarity": 0.5, "punsafe": 0.5, "width": 640}', '{"punsafe": 0.1, "width": 640}', '{"similarity": NaN, "punsafe": 0.1, "width": 640}',
    '{"similarity": null, "punsafe": 0, "width": 1}', undef, '{"a": {"similarity": 1}, "similarity": "0.4", "punsafe": 1e-3, "width": 2e3}',
    'broken', '{"x": [1, {"y": "}"}], "similarity": 0.3, "width": 200, "punsafe": 0.49}', '{"similarity": 0.3, "width": 199, "punsafe": 0}',
    '{}');
make_path("$dir/shards");
for my $s (0 .. 1) {
    make_path("$dir/stage");
    for my $i (0 .. $#json) {
        copy($pictures[($i + 5 * $s) % @pictures], sprintf '%s/stage/%05d.jpg', $dir, $i) or die;
        spew(sprintf('%s/stage/%05d.txt', $dir, $i), "a thing $i of $s");
        spew(sprintf('%s/stage/%05d.json', $dir, $i), $json[$i]) if defined $json[$i];
    }
    tar_folder("$dir/stage", sprintf '%s/shards/%05d.tar', $dir, $s);
}
make_teacher("$dir/teacher");
chdir $dir or die;
my $said;
sub run { my $rc = system("$bin/@_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub lines { return map { [split /\t/] } split /\n/, slurp($_[0]); }
my $want = "--select 'similarity>=0.3,punsafe<0.5,width>=200'";

# ---- the index
is(run("shard-read $want --index i.tsv -o s shards/00000.tar"), 0, 'a stream') or diag $said;
is(join(' ', map { $_->[2] } lines('i.tsv')),
    'ok not-selected not-selected no-field no-field no-field no-field ok no-field ok not-selected no-field', 'the status of each');
my @why = map { $_->[3] } lines('i.tsv');
is($why[1], 'similarity is 0.29, not >= 0.3', 'what does not hold, with the value');
is($why[2], 'punsafe is 0.5, not < 0.5', 'at the bound');
is($why[10], 'width is 199, not >= 200', 'the last condition');
is($why[3], "no number or text 'similarity' in the json", 'a field that is missing');
is($why[6], "no json for 'similarity'", 'no json at all');
like($said, qr/3 samples, 0 bad; 9 left out by --select/, 'the account');
is(run("shard-read $want --index-dir x -t 2 shards/00000.tar"), 0, 'with --index-dir');
is(slurp('x/00000.tsv'), slurp('i.tsv'), 'the same index');
is(run("shard-read $want --skip 1 --limit 1 --index l.tsv -o l shards/00000.tar"), 0, 'a part of it');
is(join(' ', map { $_->[0] } grep { $_->[2] eq 'ok' } lines('l.tsv')), '7', 'counts selected samples');
for my $p (1, 2) { run("shard-read $want --part $p/2 --index p$p.tsv -o p$p shards/0000{0,1}.tar") == 0 or diag $said; }
is(join(' ', map { "$_->[7]:$_->[0]" } grep { $_->[2] =~ /ok|duplicate/ } map { lines("p$_.tsv") } 1, 2),
    join(' ', map { my $s = $_; map { "0000$s.tar:$_" } 0, 7, 9 } 0, 1), 'parts are of selected samples');
is(run("shard-read --select 'status==success' --index t.tsv -o t shards/00000.tar"), 0, 'a text');
is(join(' ', map { $_->[0] } grep { $_->[2] eq 'ok' } lines('t.tsv')), '0', 'is compared');
is(run("shard-read --select 'key!=a' --index t.tsv -o t shards/00000.tar"), 0, '!=');
is((lines('t.tsv'))[0][2], 'not-selected', 'a text that is it');

# ---- embeddings
spew('list', "shards/00000.tar\n");
is(run("teacher-embed -m teacher $want --index-dir x --shards-from list --image-dir e --text-dir f"), 0, 'embeddings') or diag $said;
is(run("teacher-embed -m teacher --shards-from list --image-dir e2 --text-dir f2"), 0, 'of all');
my ($part, $all) = map { substr slurp("$_/00000.npy"), 128 } 'e', 'e2';
is(length $part, length $all, 'as many rows');
my $row = length($all) / @json;
is(join(' ', grep { substr($part, $_ * $row, $row) =~ /[^\0]/ } 0 .. $#json), '0 7 9', 'those left out are zeros');
is(scalar(grep { substr($part, $_ * $row, $row) ne substr($all, $_ * $row, $row) } 0, 7, 9), 0, 'the others the same bytes');

# ---- wrong usage
for (['a', qr/no </], ['a<', qr/missing/], ['<1', qr/missing/], ['a<b', qr/'b' is not a number/], ['a<1,', qr/no </], ['a!1', qr/'!' without/]) {
    is(run("shard-read --select '$_->[0]' -o q shards/00000.tar"), 2, "--select '$_->[0]'");
    like($said, $_->[1], 'says what is wrong');
}
is(run("teacher-embed -m teacher --select 'a<1' -o q.npy s"), 2, 'a stream is not selected again');

# ---- the pipeline
chdir $root or die;
make_student("$dir/student.json");
sub conf { my ($select) = @_; spew("$dir/conf.mk", <<"EOC"); }
SHARD_DIR := $dir/shards
SHARDS := 00000 00001
TEACHER := $dir/teacher
STUDENT := $dir/student.json
SELECT := $select
K := 1
BALANCE := --distance 0.0000001
MAX_DROPPED := 90
TRAIN := --steps 2 --batch 2
T_big := 1
MEM := 256M
EOC
sub make { my $rc = system("make -f pipeline.mk DATA=test CONF=$dir/conf.mk WORK=$dir/w BIN=$bin @_ >$dir/said 2>&1"); $said = slurp("$dir/said"); return $rc >> 8; }
conf('similarity>=0.3,punsafe<0.5,width>=200');
is(make(), 0, 'the pipeline') or diag $said;
my $ledger = slurp("$dir/w/test/ledger.tsv");
like($ledger, qr/^read\t00000\t12\t3\t9\tno-field=6,not-selected=3$/m, 'the ledger has the reasons') or diag $ledger;
is(make(), 0, 'again');
unlike($said, qr/done/, 'nothing to do');
conf('similarity>=0.3');
is(make('index', 'embed'), 0, 'another SELECT') or diag $said;
like($said, qr/index: done, 2 of 2.*embed: done, 2 of 2/s, 'everything is made again');
conf('similarity>');
isnt(make(), 0, 'a broken one');
like($said, qr/SELECT: .*missing/, 'is refused by the preflight');
done_testing;
