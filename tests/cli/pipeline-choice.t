#!/usr/bin/env perl
# Choosing: a balance that drops more than expected stops the run once; evaluation pictures are kept out of training; suggest looks at
# the embeddings that are there; a run beside another shares its embeddings and remembers its settings.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use Test::More;
use lib 'tests/cli', 'tests/lib';
use Npy qw(npy);
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } qw(shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report);
my $dir = tempdir(CLEANUP => 1);
make_shards($dir, 3, 12);
make_eval_set("$dir/eval/wds_things");
make_teacher("$dir/teacher");
make_student("$dir/student.json");
my $w = "$dir/w/test";
my $said = '';
sub conf { my (@more) = @_;
    spew("$dir/conf.mk", <<"EOC" . join '', map { "$_\n" } @more);
SHARD_DIR := $dir/shards
SHARDS := 00000 00001 00002
TEACHER := $dir/teacher
STUDENT := $dir/student.json
K := 2
TRAIN := --steps 2 --batch 4
EVAL_SETS := $dir/eval/wds_things
T_big := 1
MEM := 512M
EOC
    return;
}
sub make { my (@args) = @_;
    my $rc = system("make -f pipeline.mk DATA=test CONF=$dir/conf.mk WORK=$dir/w BIN=$bin @args >$dir/said 2>&1");
    $said = slurp("$dir/said");
    return $rc >> 8;
}
sub last_line { return (split /\n/, $said)[-1] // '' }
sub inode { return (stat $_[0])[1] // 0 }
sub mask { my ($f) = @_; my $t = slurp($f); return unpack 'C*', substr $t, -12 }

# ---- suggest
conf('BALANCE := --distance 1.5');
isnt(make('suggest'), 0, 'suggest before there are embeddings');
like($said, qr/suggest: there are no embeddings in \S+: make the target embed first/, 'says what to make');
is(make('embed'), 0, 'embeddings') or diag $said;
is(make('suggest'), 0, 'suggest') or diag $said;
like($said, qr/^from 36 rows of 3 of 3 shards; about 36 rows in all$/m, 'from all there is');
like($said, qr/^  10 %  less than \S+: so many are equal$/m, 'equal pictures are told of');
like($said, qr/^K := 2\n.*^CELLS := 1\n.*^TRAIN := \.\.\. --batch \d+ --accumulate auto\n.*memory/ms, 'K, cells, batch and memory') or diag $said;
ok(!-e "$w/balance.json", 'nothing is made');
# Pairs of rows at known distances: 2 x 100 rows of 128, row 2i + 1 at the cosine distance 0.001 i of row 2i.
mkdir "$dir/some" and mkdir "$dir/some/embed" and mkdir "$dir/some/embed/image" or die;
npy("$dir/some/embed/image/a.npy", '<f4', '200, 128', pack 'f<*', map {
    my $i = $_;
    my $cos = 1 - 0.001 * $i;
    my @x = (0) x 128;
    my @y = @x;
    ($x[$i], $y[$i], $y[100 + $i % 28]) = (1, $cos, sqrt(1 - $cos**2));
    (@x, @y);
} 0 .. 99);
is(system("scripts/suggest $dir/some $bin SHARDS=a MEM=512M T_big=1 K=1000 STUDENT= TRAIN= TEACHER= TOKENIZER= >$dir/said 2>&1"), 0, 'suggest on pairs at known distances') or diag slurp("$dir/said");
$said = slurp("$dir/said");
my %at = $said =~ /^  ([1-5]0) %  ([\d.]+)$/mg;
ok(!(grep { abs(($at{$_} // 9) - 0.002 * $_) > 0.002 } 10, 20, 30, 40), 'the distance for each share') or diag $said;
like($said, qr/The conf file has K := 1000: too many/, 'a K that is too great is named');

# ---- more goes than expected
conf('BALANCE := --distance 0.000000001', 'MAX_DROPPED := 20');
isnt(make(), 0, 'a distance that drops half stops the run');
like(last_line(), qr/the balance drops \d\d\.\d % of the rows, more than MAX_DROPPED, 20 %: look at .* suggest\. If this share is meant, run the same again, or set MAX_DROPPED/, 'the reason is the last line');
ok(-e "$w/balance.json" && !-e "$w/centroids.npy", 'before the clusters');
is(make(), 0, 'the same command goes on') or diag $said;
ok(-s "$w/report.html", 'to the end');
is(make(), 0, 'again');
is($said, '', 'nothing to do');
isnt(make("'BALANCE=--distance 0.000000002'"), 0, 'another balance is told of again');
is(make("'BALANCE=--distance 0.000000002'", 'MAX_DROPPED=99'), 0, 'MAX_DROPPED says that it is meant') or diag $said;

# ---- pictures of the evaluation set: three that the shards have
make_eval_set("$dir/eval/wds_few");
system("cd $dir/eval/wds_few && mkdir few && tar -xf test/0.tar -C few && rm -f few/s[3-9].*") == 0 or die;
tar_folder("$dir/eval/wds_few/few", "$dir/eval/wds_few/test/0.tar");
conf('BALANCE := --remove 0.1', "AGAINST := $dir/none");
isnt(make('balance'), 0, 'AGAINST a set that is not there');
like(last_line(), qr/AGAINST: '\S+none' has no tar files in test/, 'is named');
conf('BALANCE := --remove 0.1 --against-distance 0.000000001', "AGAINST := $dir/eval/wds_few");
is(make('balance'), 0, 'AGAINST') or diag $said;
my ($in) = slurp("$w/balance.json") =~ /"in_evaluation":\s*(\d+)/;
ok($in && $in < 36, 'pictures of the evaluation set are left out') or diag slurp("$w/balance.json");
my @first = mask("$w/keep/00000.npy");
is(join(' ', @first[0 .. 2]), '0 0 0', 'these, with which the first shard begins');
spew("$w/against/stray.npy", 'x');
conf('BALANCE := --remove 0.2 --against-distance 0.000000001', "AGAINST := $dir/eval/wds_few");
is(make('balance'), 0, 'a file of another set in its folder') or diag $said;
ok(!-e "$w/against/stray.npy", 'goes');

# ---- a run beside it
conf('BALANCE := --remove 0.2');
is(make(), 0, 'a run') or diag $said;
my $before = `cd $w && find . -type f | LC_ALL=C sort | xargs stat -c '%n %Y %s'`;
is(make('RUN=k3', 'K=3'), 0, 'a run beside it') or diag $said;
like($said, qr/^centroids: done/m, 'makes what is another');
unlike($said, qr/^(?:index|embed): done/m, 'embeds nothing again');
is(inode("$w-k3/embed/image/00000.npy"), inode("$w/embed/image/00000.npy"), 'the embeddings take no room');
ok(-s "$w-k3/report.html", 'its own report');
is(`cd $w && find . -type f | LC_ALL=C sort | xargs stat -c '%n %Y %s'`, $before, 'the first is as it was');
is(make('RUN=k3'), 0, 'again, by its name alone') or diag $said;
is($said, '', 'it has its settings');
is(make('RUN=k3', '"TRAIN=--steps 3 --batch 4"'), 0, 'one more setting') or diag $said;
like(slurp("$w-k3/run.mk"), qr/^K := 3\nTRAIN := --steps 3 --batch 4\n\z/m, 'is kept beside the others');
isnt(make('RUN=a/b'), 0, 'RUN with a slash');
like(last_line(), qr/RUN is 'a\/b': it must be a name/, 'is refused');
done_testing();
