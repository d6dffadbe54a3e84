#!/usr/bin/env perl
# What does not belong together is refused: a k-means checkpoint and other inputs, an array and the sidecar of another,
# labels and centroids of two clusterings, masks of other embeddings, centroids of another model.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Temp qw(tempdir);
use Test::More;
$SIG{$_} = 'DEFAULT' for qw(HUP INT TERM); # ignored under nohup, which a test of signals cannot use
my $bin = abs_path($ENV{BIN} // 'bin');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
mkdir $_ for qw(a b l l2 k k2);

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
sub npy {
    my ($file, $type, $shape, $data) = @_;
    my $head = "{'descr': '$type', 'fortran_order': False, 'shape': ($shape), }";
    $head .= ' ' x (117 - length $head) . "\n";
    spew($file, "\x93NUMPY\1\0" . pack('v', length $head) . $head . $data);
}
my ($said, $seed) = ('', 1);
sub run { my ($args) = @_; my $rc = system('bash', '-c', "2>said $bin/$args"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub draw { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return (($seed >> 12) % 129 - 64) / 64; }
sub rows { my ($n, $dim) = @_; return pack 'f<*', map { draw() } 1 .. $n * $dim; }
my $dim = 16;
my ($n, $m) = (12000, 8000);
my @part = (rows($n, $dim), rows($m, $dim));
npy("a/$_.npy", '<f4', ($_ ? $m : $n) . ", $dim", $part[$_]) for 0, 1;

# ---- the checkpoint
my $cluster = 'kmeans-cluster -k 1000 --iterations 200 --checkpoint ck';
# Starts a run and stops it after its first iterations; false where it was too fast.
sub stopped {
    my ($what) = @_;
    unlink 'said', 'ck';
    my $pid = fork // die;
    if (!$pid) { open STDERR, '>', 'said'; exec split / /, "$bin/$cluster $what"; die; }
    for (1 .. 4000) { last if slurp('said') =~ /iteration 2:/; select undef, undef, undef, 0.002; }
    kill 'HUP', $pid;
    waitpid $pid, 0;
    $said = slurp('said');
    return ($? & 127) == 1;
}
my $inputs = 'a/0.npy a/1.npy';
ok(stopped("-o c.npy $inputs"), 'SIGHUP stops a training') or diag $said;
like($said, qr/saved in ck after iteration (\d+) of 200: the same command goes on from there/, 'says where');
my ($at) = $said =~ /after iteration (\d+)/;
ok(-s 'ck' && !-e 'c.npy', 'the checkpoint is there');
copy('ck', 'saved');
is(run("$cluster -o c.npy $inputs"), 0, 'the same command') or diag $said;
like($said, qr/continuing from ck: after iteration $at of 200/, 'goes on');
ok(!-e 'ck', 'the checkpoint is gone when all is done');
copy('saved', 'ck');
my $changed = $part[1];
substr($changed, 4 * $dim * 777, 4) = pack 'f<', 0.7;   # one value
npy('a/1.npy', '<f4', "$m, $dim", $changed);
is(run("$cluster -o c2.npy $inputs"), 0, 'with one value changed');
like($said, qr/ck: checkpoint of a run with other inputs or masks; starting anew/, 'it starts anew') or diag $said;
npy('a/1.npy', '<f4', "$m, $dim", $part[1]);
copy('saved', 'ck');
is(run("$cluster --iterations 3 --seed 2 -o c2.npy $inputs"), 0, 'with another seed');
like($said, qr/ck: checkpoint of a run with other options; starting anew/, 'too');
my @keep = map { "\1" x 7000 . "\0" x ($_ ? $m - 7000 : $n - 7000) } 0, 1;
npy("k/$_.npy", '|u1', ($_ ? $m : $n) . ',', $keep[$_]) for 0, 1;
ok(stopped("--keep-dir k -o c3.npy $inputs"), 'stopped with masks');
copy('ck', 'saved');
npy('k/1.npy', '|u1', "$m,", "\0" . "\1" x 7000 . "\0" x ($m - 7001));   # as many rows
is(run("$cluster --keep-dir k -o c3.npy $inputs"), 0, 'other masks that keep as many rows');
like($said, qr/ck: checkpoint of a run with other inputs or masks; starting anew/, 'start anew too') or diag $said;

# ---- array and sidecar
is(run("kmeans-cluster -q -k 5 -o c5.npy --labels-dir l $inputs"), 0, 'labels');
is(run("kmeans-cluster -q -k 5 --seed 9 -o c6.npy --labels-dir l2 $inputs"), 0, 'other labels');
copy('l2/0.npy', 'l/0.npy');   # as a crash between two renames leaves them
is(run("sem-balance -q --cells c5.npy --labels-dir l -o r $inputs"), 1, 'an array under the sidecar of another');
like($said, qr{l/0\.npy is not the array that its sidecar was written for}, 'is refused') or diag $said;

# ---- labels and centroids
mkdir $_ for qw(l5 l6);
is(run("kmeans-cluster -q -k 5 -o c5.npy --labels-dir l5 $inputs"), 0, 'a clustering');
is(run("kmeans-cluster -q -k 5 --seed 9 -o c6.npy --labels-dir l6 $inputs"), 0, 'and another');
is(run("sem-balance -q --cells c5.npy --labels-dir l5 -o r $inputs"), 0, 'its own labels') or diag $said;
is(run("sem-balance -q --cells c5.npy --labels-dir l6 -o r $inputs"), 1, 'those of the other');
like($said, qr{l6/0\.npy was made with other centroids \('c6\.npy'\) than c5\.npy}, 'are refused') or diag $said;
unlink 'l6/0.npy.json';
is(run("sem-balance -q --cells c5.npy --labels-dir l6 -o r $inputs"), 1, 'one without sidecar among them');
like($said, qr{l6/1\.npy was made with other centroids}, 'hides nothing');
unlink 'l6/1.npy.json';
is(run("sem-balance -q --cells c5.npy --labels-dir l6 -o r $inputs"), 0, 'without sidecars they are taken') or diag $said;
unlink 'l5/1.npy';
is(run("sem-balance --cells c5.npy --labels-dir l5 -o r $inputs"), 1, 'a label file that is missing');
like($said, qr{l5/1\.npy}, 'is missed') or diag $said;
unlike($said, qr/million pairs|usable rows/, 'before anything is compared');

# ---- labels and masks of other embeddings: centroids serve as embeddings that have a data digest
mkdir $_ for qw(e e2 ke le);
is(run("kmeans-cluster -q -k 400 --seed $_ --iterations 2 -o " . ($_ == 1 ? 'e' : 'e2') . "/x.npy $inputs"), 0, 'rows with a sidecar') for 1, 2;
is(run('sem-balance -q --keep-dir ke -o r e/x.npy'), 0, 'masks');
is(run('kmeans-cluster -q -k 4 -o ce.npy --labels-dir le e/x.npy'), 0, 'labels');
is(run('kmeans-cluster -q -k 4 --keep-dir ke -o ce2.npy e/x.npy'), 0, 'the masks of these rows') or diag $said;
is(run('kmeans-cluster -q -k 4 --keep-dir ke -o ce2.npy e2/x.npy'), 1, 'those of other rows');
like($said, qr{ke/x\.npy was made from other rows than those of e2/x\.npy}, 'are refused') or diag $said;
is(run('sem-balance -q --cells ce.npy --labels-dir le -o r e2/x.npy'), 1, 'so are labels');
like($said, qr{le/x\.npy was made from other rows than those of e2/x\.npy}, 'of other rows') or diag $said;

# ---- models and towers
sub side { my ($npy, $rows, %o) = @_; spew("$npy.json", '{"tool": "x", "version": "1", "rows": ' . $rows . join('', map { ", \"$_\": \"$o{$_}\"" } sort keys %o) . '}'); }
side('a/0.npy', $n, of => 'image', model => '0' x 32);
side('a/1.npy', $m, of => 'text', model => '0' x 32);
is(run("kmeans-cluster -q -k 4 -o c7.npy $inputs"), 1, 'images and texts mixed up');
like($said, qr{a/0\.npy is of image embeddings, a/1\.npy of text embeddings}, 'are refused') or diag $said;
side('a/1.npy', $m, of => 'image', model => '0' x 32);
is(run("kmeans-cluster -q -k 4 -o c7.npy $inputs"), 0, 'centroids of images') or diag $said;
like(slurp('c7.npy.json'), qr/"of": *"image"/, 'say so');
side('a/0.npy', $n, of => 'text', model => '0' x 32);
is(run('kmeans-cluster -q --assign c7.npy --labels-dir l2 a/0.npy'), 1, 'texts against them');
like($said, qr{a/0\.npy is of text embeddings, c7\.npy of image embeddings}, 'are refused') or diag $said;
side('a/0.npy', $n, of => 'image', model => '1' x 32);
for my $how ('kmeans-cluster -q --assign c7.npy --labels-dir l2', 'kmeans-cluster -q -k 4 --init c7.npy -o c8.npy', 'sem-balance -q --cells c7.npy -o r') {
    is(run("$how a/0.npy"), 1, "$how: another model");
    like($said, qr{a/0\.npy and c7\.npy come from different models}, 'is refused') or diag $said;
}
done_testing();
