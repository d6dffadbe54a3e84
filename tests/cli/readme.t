#!/usr/bin/env perl
# README's stages by hand are run as they stand there, on small shards and a small model under the names used
# there; only numbers that need a large set are made smaller.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $readme = do { local $/; open my $h, '<', 'README.md' or die; <$h> };
my ($block) = $readme =~ /^By hand:\n\n((?:    .*\n)+)/m;
ok($block, 'README has stages by hand');
my @lines = map { s/^ +//r } split /\n/, $block;
chdir tempdir(CLEANUP => 1);
make_path('shards', 'models/ViT-L-14', 'labels', 'keep');
copy("$data/shards/00000.tar", sprintf 'shards/%05d.tar', $_) or die for 0 .. 9;
copy($_, 'models/ViT-L-14/') or die for glob("$data/models/odd/open_clip*"), glob("$data/tokenizer/openai/*");
for my $line (@lines) {
    my $small = $line =~ s/--size 224/--size 29/r =~ s/-k 1000\b/-k 3/r =~ s/shard-read /shard-read --max-bad 100% /r;
    open my $h, '>', 'line.sh' or die;
    print {$h} "set -eu -o pipefail; PATH=$bin:\$PATH\n$small\n";
    close $h;
    my $out = `bash line.sh 2>&1 >/dev/null`;
    is($?, 0, $line) or diag $out;
}
ok(-s $_, "$_ is there") for qw(x.npy t.npy centroids.npy keep/x.npy labels/x.npy);
done_testing();
