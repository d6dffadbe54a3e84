#!/usr/bin/env perl
# Transparent pictures: the alpha channel is dropped as open_clip drops it, or they stand on white;
# the stream says which, and teacher-embed's own reading gives the rows of the stream.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Temp qw(tempdir);
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
my $said;
sub run { my $rc = system("@_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }

my @clear = qw(rgba.png la.png palette-clear.png palette-alpha.png rgba16.png rgba-interlaced.png lossless-alpha.webp lossy-alpha.webp);
my @solid = qw(rgb.png palette.png lossy.webp 420.jpg);
my $i = 0;
for (@clear, @solid) {
    my ($ending) = /(\w+)$/;
    copy("$data/images/$_", sprintf('%02d.%s', $i, $ending)) or die;
    open my $h, '>', sprintf('%02d.txt', $i++) or die;
    print $h $_;
}
is(system('tar', '-cf', 'a.tar', sort glob('[0-9]*.*')), 0, 'a shard');
my $model = "-q -m $data/models/odd --tokenizer $data/tokenizer/openai";
for my $alpha ('drop', 'white') {
    is(run("$bin/shard-read -q --size 29 --alpha $alpha --pixels $alpha.npy -o $alpha.samples a.tar"), 0, $alpha) or diag $said;
    is(run("$bin/teacher-embed $model -o s.npy $alpha.samples"), 0, "$alpha: from the stream") or diag $said;
    is(run("$bin/teacher-embed $model --alpha $alpha -o $alpha.e.npy --shards a.tar"), 0, "$alpha: from the shard") or diag $said;
    ok(slurp('s.npy') eq slurp("$alpha.e.npy"), "$alpha: the same rows");
}
is(run("$bin/shard-read -q --size 29 -o plain.samples a.tar"), 0, 'without the option');
is(slurp('plain.samples'), slurp('drop.samples'), 'alpha is dropped');
like(slurp('white.samples'), qr/"white":\s*true/, 'the stream says that it is on white');
unlike(slurp('drop.samples'), qr/"white"/, 'and nothing else');
my ($drop, $white) = map { substr slurp("$_.npy"), -29 * 29 * 3 * (@clear + @solid) } 'drop', 'white';
my $bytes = 29 * 29 * 3;
for my $k (0 .. @clear + @solid - 1) {
    my $same = substr($drop, $k * $bytes, $bytes) eq substr($white, $k * $bytes, $bytes);
    ok($k < @clear ? !$same : $same, ($k < @clear ? 'another picture: ' : 'the same: ') . (@clear, @solid)[$k]);
}
isnt(run("cat drop.samples white.samples | $bin/teacher-embed $model -o x.npy"), 0, 'streams of both kinds do not join');
like($said, qr/white/, '... which is said');
done_testing;
