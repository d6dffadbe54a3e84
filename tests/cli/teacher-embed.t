#!/usr/bin/env perl
# teacher-embed: the same rows by every way in, zero rows for what is missing, refusals that name
# what is wrong and leave nothing behind.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Temp qw(tempdir);
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $page = abs_path('man/teacher-embed.1');
my $vocab = "$data/tokenizer/openai";
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die; print $h $t; close $h; }
my $said;
sub run { my $rc = system("$bin/teacher-embed @_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
# Rows of an NPY file as lists of bytes.
sub rows {
    my ($f) = @_;
    my $npy = slurp($f);
    my ($n, $cols) = $npy =~ /'shape': \((\d+), (\d+)\)/ or return;
    my ($size) = $npy =~ /'descr': '<[fi](\d)'/ or return;
    my $at = 10 + unpack 'v', substr $npy, 8, 2;
    return map { substr $npy, $at + $_ * $cols * $size, $cols * $size } 0 .. $n - 1;
}
sub zero { return $_[0] !~ /[^\0]/; }
sub norm { my $s = 0; $s += $_ * $_ for unpack 'f<*', $_[0]; return sqrt $s; }

my $model = "$data/models/odd";
my $shards = join ' ', map { "$data/shards/$_.tar" } '00000', '00001';
is(system("$bin/shard-read -q --size 29 -o s $shards"), 0, 'samples');
my $with = "-m $model --tokenizer $vocab";

is(run("$with -o i.npy --text-out t.npy --tokens-out k.npy s"), 0, 'both towers') or diag $said;
my ($n) = slurp('i.npy.json') =~ /"rows": (\d+)/;
my @index = map { [split /\t/] } grep { /^\d/ } split /\n/, slurp("$data/shards/expected.tsv");
my (@i, @t, @k);
@i = rows('i.npy'), @t = rows('t.npy'), @k = rows('k.npy');
ok($n && @i == $n && @t == $n && @k == $n, "$n rows in each");
ok((grep { zero($_) } @i) && (grep { !zero($_) } @i), 'some samples have no picture');
ok((grep { zero($_) } @t) && (grep { !zero($_) } @t), 'some have no caption');
is(join('', map { zero($_) ? 0 : 1 } @t), join('', map { zero($_) ? 0 : 1 } @k), 'tokens where texts are');
like($said, qr/$n samples, \d+ without a picture, \d+ without a caption/, 'the account');

my ($scale) = slurp('i.npy.json') =~ /"scale": ([\d.]+)/;
cmp_ok(abs(log($scale // 1) - log(1 / 0.07)), '<', 1e-5, 'the sidecar has the scale of its logits');
unlike(slurp('t.npy.json'), qr/"bias"/, 'and no bias, as the model has none');

# Every way in gives the same bytes.
for my $way ("--batch 1 -t 3 -o i2.npy --text-out t2.npy s", "-t 2 --batch 7 --image-out i2.npy --text-out t2.npy < s",
    "-o i2.npy --text-out t2.npy --shards $data/shards/0000{0,1}.tar -t 2", "-o i2.npy --text-out t2.npy - < s",
    "-o i2.npy --text-out t2.npy --shards $shards") {
    unlink 'i2.npy', 't2.npy';
    is(run("$with $way"), 0, $way) or diag $said;
    ok(slurp('i2.npy') eq slurp('i.npy') && slurp('t2.npy') eq slurp('t.npy'), 'the same bytes');
}
is(run("$with --text-out - s > t2.npy"), 0, 'texts alone, to standard output') or diag $said;
ok(slurp('t2.npy') eq slurp('t.npy'), 'the same bytes');
is(run("$with --text-out t2.npy s > i2.npy"), 0, 'both, pictures to standard output') or diag $said;
ok(slurp('i2.npy') eq slurp('i.npy') && slurp('t2.npy') eq slurp('t.npy'), 'the same bytes');
is(run("-m $model s > i2.npy"), 0, 'pictures alone need no tokenizer') or diag $said;
ok(slurp('i2.npy') eq slurp('i.npy'), 'the same bytes');
is(run("$with --no-images --tokens-out k2.npy s"), 0, 'tokens alone');
ok(slurp('k2.npy') eq slurp('k.npy') && !-e '-', 'the same bytes');

# Numbers.
is(run("$with --out-dtype f32 -o f.npy --text-out ft.npy s"), 0, 'float32 rows');
is((grep { !zero($_) && abs(norm($_) - 1) > 1e-6 } rows('f.npy'), rows('ft.npy')), 0, 'unit rows');
is(run("$with --out-dtype f32 --no-normalize -o raw.npy s"), 0, 'raw rows');
ok((grep { norm($_) > 1.5 } rows('raw.npy')), 'are not unit');
is(run("$with --out-dtype f32 --no-shortcuts -o f2.npy --text-out ft2.npy s"), 0, 'without shortcuts');
my $worst = 0;
for my $p (['f.npy', 'f2.npy'], ['ft.npy', 'ft2.npy']) {
    my @a = map { unpack 'f<*', $_ } rows($p->[0]);
    my @b = map { unpack 'f<*', $_ } rows($p->[1]);
    for (0 .. $#a) { my $d = abs($a[$_] - $b[$_]); $worst = $d if $d > $worst; }
}
ok($worst < 2e-6, "gives the same rows: $worst");
is(run("$with --dtype bf16 --emulate --out-dtype f32 -o b.npy s"), 0, 'bfloat16') or diag $said;
my @exact = rows('f.npy');
my $cos = 1;
for my $r (rows('b.npy')) {
    my @a = unpack 'f<*', $r;
    my @b = unpack 'f<*', shift @exact;
    my $d = 0;
    $d += $a[$_] * $b[$_] for 0 .. $#a;
    $cos = $d if !zero($r) && $d < $cos;
}
ok($cos > 0.999, "is near: $cos");

# Sidecars name the samples and the model.
my %side = map { $_ => slurp("$_.npy.json") } 'i', 't', 'k', 'f', 'b';
my ($keys) = $side{i} =~ /"keys": "(\w+)"/;
my ($made) = $side{i} =~ /"model": "(\w+)"/;
ok($keys && $made, 'digests');
is((grep { !/"keys": "$keys"/ || !/"model": "$made"/ } values %side), 0, 'are the same in all');
like($side{f}, qr/"--out-dtype", "f32"/, 'the command stands in it');
is(run("-m $data/models/quick --tokenizer $vocab --no-images --text-out q.npy s"), 0, 'another model');
unlike(slurp('q.npy.json'), qr/"model": "$made"/, 'has another digest');

# Refusals.
sub refused {
    my ($args, $status, $like, $name) = @_;
    unlink 'x.npy', 'x.npy.json';
    is(run($args), $status, $name) or diag $said;
    like($said, $like, 'says why');
    is(($said =~ tr/\n//), 1, 'in one line');
    ok(!-e 'x.npy' && !-e 'x.npy.json' && !glob('.x*'), 'nothing is there');
}
refused("-o x.npy s", 2, qr/-m DIR/, 'no model');
refused("$with -o x.npy --image-out x.npy s", 2, qr/both name/, 'two names for the images');
refused("$with -o x.npy --text-out x.npy s", 2, qr/two outputs/, 'two outputs of a name');
refused("$with -o x.npy s s", 2, qr/more than one/, 'two streams');
refused("-m nowhere -o x.npy s", 1, qr/nowhere/, 'no model folder');
refused("-m $model --text-out x.npy s", 1, qr/odd/, 'no vocabulary');
refused("$with -o x.npy none", 1, qr/none/, 'no samples');
refused("$with -o x.npy --shards none.tar", 1, qr/none\.tar/, 'no shard');
refused("$with --device cuda -o x.npy s", 1, qr/CUDA/, 'no CUDA') if !-e '/dev/nvidiactl';
refused("$with --device abacus -o x.npy s", 2, qr/abacus/, 'no such device');
refused("-m $data/models/quick -o x.npy s", 1, qr/29 pixels.*32/, 'pictures of another size');
system("$bin/shard-read -q --size 29 --resize squash -o squash $shards; $bin/shard-read -q --images no -o noimg $shards");
system("$bin/shard-read -q --size 29 --captions no -o nocap $shards");
refused("$with -o x.npy squash", 1, qr/resize is squash/, 'pictures squashed');
refused("$with -o x.npy noimg", 1, qr/no pixels/, 'no pictures in the stream');
refused("$with --text-out x.npy nocap", 1, qr/no captions/, 'no captions in the stream');
is(run("$with --text-out t2.npy noimg"), 0, 'texts need no pictures');
ok(slurp('t2.npy') eq slurp('t.npy'), 'the same bytes');
spew('cut', substr slurp('s'), 0, -40);
refused("$with -o x.npy cut", 1, qr/cut/, 'a stream cut off');
refused("$with -o x.npy --shards $data/shards/truncated-member.tar", 1, qr/truncated-member/, 'a damaged shard')
    if -e "$data/shards/truncated-member.tar";

# Model folders that are wrong.
sub folder {
    my ($name, $config, $weights) = @_;
    mkdir $name;
    spew("$name/open_clip_config.json", $config);
    spew("$name/open_clip_model.safetensors", $weights);
    return "-m $name -o x.npy s";
}
my $config = slurp("$model/open_clip_config.json");
my $weights = slurp("$model/open_clip_model.safetensors");
(my $key = $config) =~ s/"patch_size"/"patch_sizes"/;
(my $wide = $config) =~ s/"width": 39/"width": 52/;
(my $deep = $config) =~ s/"layers": 2/"layers": 3/;
(my $few = $config) =~ s/"layers": 2/"layers": 1/;
(my $name = $weights) =~ s/visual\.proj/visual.prop/;
(my $type = $weights) =~ s/"dtype":"F32"/"dtype":"I32"/;
refused(folder('m1', $key, $weights), 1, qr/patch_sizes/, 'unknown key');
refused(folder('m2', $wide, $weights), 1, qr/visual/, 'wrong shape');
refused(folder('m3', $deep, $weights), 1, qr/resblocks\.2/, 'missing tensor');
refused(folder('m4', $few, $weights), 1, qr/resblocks\.1/, 'one too many');
refused(folder('m5', $config, $name), 1, qr/visual\.pro/, 'another name');
refused(folder('m6', $config, $type), 1, qr/I32/, 'another type');
refused(folder('m7', $config, substr $weights, 0, -4), 1, qr/m7/, 'cut off');
refused(folder('m8', $config, pack('Q<', 1 << 60) . substr $weights, 8), 1, qr/m8/, 'a header of nonsense');
refused(folder('m9', '{', $weights), 1, qr/m9/, 'no JSON');
my $nan = $weights;
substr($nan, -4) = pack 'f<', 'nan';
substr($nan, -$_ * 4, 4) = pack 'f<', 'nan' for 1 .. 4000;
refused(folder('m10', $config, $nan), 1, qr/not finite/, 'weights that are not numbers');

# The man page's examples.
SKIP: {
    skip 'no page', 1 unless -e $page;
    my @examples = grep { !/^\.|^#/ } slurp($page) =~ /^\.Bd -literal.*?\n(.*?)^\.Ed/gms;
    mkdir 'example';
    chdir 'example';
    copy("$data/shards/00000.tar", '00000.tar');
    system("cp -r $model ViT; cp $vocab/* ViT/");
    my $script = join "\n", @examples;
    $script =~ s/\\e/\\/g;
    $script =~ s/--size 224/--size 29/g;
    is(system('bash', '-c', "set -euo pipefail; PATH=$bin:\$PATH; { $script\n} >../out 2>&1"), 0, 'the examples run')
        or diag slurp('../out');
}
chdir '/';
done_testing();
