#!/usr/bin/env perl
# Pixels through the tool against Pillow's, byte for byte: needs the folder with the goldens,
# CLIP_CID_SHARED or ../shared.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
my $shared = $ENV{CLIP_CID_SHARED} // '../shared';
plan skip_all => "no goldens in $shared" unless -e "$shared/golden/preprocess/index.json";
$shared = abs_path($shared);
my $tool = abs_path($ENV{BIN} // 'bin') . '/shard-read';
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or die "$f: $!"; return scalar <$h>; }
sub npy { my ($f) = @_; my $t = slurp($f); return substr $t, 10 + unpack 'v', substr $t, 8, 2; }

my $rows = decode_json(slurp("$shared/golden/preprocess/index.json"));
my %shards = map { $_->{shard} => 1 } @$rows;
for my $size (32, 64, 224) {
    my $bytes = $size * $size * 3;
    my %pixels;
    for my $shard (sort keys %shards) {
        is(system("$tool -q -t 2 --size $size -o /dev/null --index i --pixels p.npy $shared/fixtures/$shard"), 0, $shard);
        my $p = npy('p.npy');
        my $i = 0;
        push @{$pixels{"$shard " . (split /\t/)[1]}}, substr $p, $bytes * $i++, $bytes for split /\n/, slurp('i');
    }
    my $want = npy("$shared/golden/preprocess/shortest_$size.npy");
    my @differ;
    for my $i (0 .. $#$rows) {
        my ($shard, $member) = @{$rows->[$i]}{'shard', 'member'};
        my $key = $member =~ s{^(?:\./)?((?:.*/)?[^.]+)\..*$}{$1}r;
        my $got = shift @{$pixels{"$shard $key"}} // ''; # a key may be there twice, in this order
        push @differ, "$shard $member" if $got ne substr $want, $bytes * $i, $bytes;
    }
    is("@differ", '', "$size: all " . @$rows . ' rows equal');
}
done_testing();
