#!/usr/bin/env perl
# shard-read --model: the stream has the pictures that a model wants, whatever its resize mode, filter, fill and
# normalisation, so that teacher-embed makes of it what it makes of the tar files itself. --dtype auto runs on any machine.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die; print $h $t; close $h; }
sub header { my ($json) = slurp($_[0]) =~ /(\{.*?\})/; return $json; }
my $said;
sub run { my $rc = system("@_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }

my $config = slurp("$data/models/odd/open_clip_config.json");
my $shard = "$data/shards/00000.tar";
my %fits = (shortest => 'shortest', squash => 'squash', longest => 'pad');
for my $fit (sort keys %fits) {
    for my $filter (qw(bicubic bilinear)) {
        for my $fill ($fit eq 'longest' ? (0, 127) : 0) {
            my $m = "$fit-$filter-$fill";
            make_path($m);
            copy("$data/models/odd/open_clip_model.safetensors", $m) or die;
            my $c = $config;
            $c =~ s/"resize_mode": "\w+"/"resize_mode": "$fit"/ or die;
            $c =~ s/"interpolation": "\w+"/"interpolation": "$filter"/ or die;
            $c =~ s/"fill_color": \d+/"fill_color": $fill/ or die;
            $c =~ s/"mean": \[[^]]*\]/"mean": [0.5, 0.4, 0.3]/ or die;
            spew("$m/open_clip_config.json", $c);
            is(run("$bin/teacher-embed -q -m $m --shards $shard -o want.npy"), 0, "$m: from the tar file") or diag $said;
            is(run("$bin/shard-read -q --model $m -o s $shard"), 0, "$m: a stream") or diag $said;
            is(run("$bin/teacher-embed -q -m $m -o have.npy s"), 0, "$m: from the stream") or diag $said;
            ok(slurp('want.npy') eq slurp('have.npy'), "$m: the same rows");
            my $word = $fill ? "pad-$fill" : $fits{$fit};
            like(header('s'), qr/"resize":"$word"/, "$m: the stream says $word");
        }
    }
}
ok(slurp('longest-bicubic-0/open_clip_config.json') ne slurp('longest-bicubic-127/open_clip_config.json'), 'two fills');
run("$bin/shard-read -q --model longest-bicubic-127 -o s $shard");
is(run("$bin/teacher-embed -q -m longest-bicubic-0 -o have.npy s"), 1, "another model's pictures are refused");
like($said, qr/pad-127.*shard-read --model/, 'with the way out');
is(run("$bin/shard-read -q --model longest-bicubic-0/open_clip_config.json --crop random -o s $shard"), 0, 'a config, random crops');
like(header('s'), qr/"size":29,/, "the config's size");
is(run("$bin/shard-read -q --model squash-bicubic-0 --size 30 -o s2 $shard"), 1, 'another --size is refused');
like($said, qr/--size is 30, the pictures of 'squash-bicubic-0' are 29 a side/, 'and both are named');
is(run("$bin/shard-read -q --model squash-bicubic-0 --resize pad -o s2 $shard"), 2, 'so is --resize');
is(run("$bin/shard-read -q --model nowhere -o s2 $shard"), 1, 'a model that is not there');
like($said, qr/cannot read 'nowhere'/, 'is named');
ok(!-e 's2', 'nothing is left');

is(run("$bin/teacher-embed -m $data/models/odd --dtype auto --shards $shard -o auto.npy"), 0, '--dtype auto') or diag $said;
my ($took) = $said =~ /--dtype auto: (f32|bf16)$/m;
like($took // '', qr/./, '... says what it takes') or diag $said;
my $native = !run("$bin/teacher-embed -q -m $data/models/odd --dtype bf16 --shards $shard -o bf16.npy");
run("$bin/teacher-embed -q -m $data/models/odd --shards $shard -o f32.npy");
ok(slurp('auto.npy') eq slurp("$took.npy"), "... which is $took here");
ok($native || $took eq 'f32', '... nothing that is not there');
like($said, qr/--dtype auto/, 'bf16 refused names it') if !$native && run("$bin/teacher-embed -q -m $data/models/odd --dtype bf16 --shards $shard -o x.npy");
done_testing();
