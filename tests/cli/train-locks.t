#!/usr/bin/env perl
# distill-train's locks: what is locked comes out byte for byte as it went in and has no moments; the first step of what is trained
# has the gradients of a run without locks, to the bit; other locks are refused on --resume.
use strict;
use warnings;
use lib 'tests/lib';
use JSON::PP;
use Test::More;
use Train;

my %tower = (layers => 3, width => 16);
spew('student.json', encode_json({ embed_dim => 20, vision_cfg => { image_size => 29, patch_size => 7, head_width => 8, %tower },
    text_cfg => { context_length => 11, vocab_size => 1214, heads => 2, %tower } }));
shard('a/00000.tar', 40, 'a');
is(run("$bin/shard-read -q --size 29 -o s.samples a/00000.tar"), 0, 'samples') or diag $said;
my $common = "--student student.json --tokenizer $vocab --batch 4 --seed 3 --loss clip --progress never --lr 2e-3 --warmup 1 --data 'cat s.samples'";
is(run("$bin/distill-train $common --steps 3 -o start"), 0, 'a model to start from') or diag $said;
my $train = "$bin/distill-train $common --init start";

sub model { return tensors("$_[0]/open_clip_model.safetensors"); }
sub moments { return tensors(glob("$_[0]/checkpoints/step-*/optimizer.safetensors")); }

my $norm = qr/(?:^|\.)ln_\w+\./;
my $text = qr/^(?:transformer|token_embedding|positional_embedding|ln_final|text_projection)/;
my @cases = (
    ['image',          '--lock image',             sub { $_[0] !~ /^visual/ }],
    ['text',           '--lock text',              sub { $_[0] !~ $text }],
    ['image2',         '--lock image --unlock 2',  sub { $_[0] !~ /^visual/ || $_[0] =~ /resblocks\.[12]|ln_post|visual\.proj/ }],
    ['text1',          '--lock text --unlock 1',   sub { $_[0] !~ $text || $_[0] =~ /resblocks\.2|ln_final|text_projection/ }],
    ['norms',          '--lock-norms',             sub { $_[0] !~ $norm }],
    ['norms1',         '--lock image --unlock 1 --lock-norms', sub { $_[0] !~ $norm && ($_[0] !~ /^visual/ || $_[0] =~ /resblocks\.2|visual\.proj/) }],
    ['pieces',         '--lock image --accumulate 2', sub { $_[0] !~ /^visual/ }, '--accumulate 2'],
    ['recompute',      '--lock image --unlock 1 --recompute', sub { $_[0] !~ /^visual/ || $_[0] =~ /resblocks\.2|ln_post|visual\.proj/ }],
);
my %start = model('start');
my %free;
for my $how ('', '--accumulate 2') {
    my $out = $how ? 'pieces-free' : 'free';
    is(run("$train --clip-grad 0 --steps 1 $how -o $out"), 0, "a step without locks $how") or diag $said;
    $free{$how} = { model => { model($out) }, moments => { moments($out) } };
}
like($said, qr/parameters: \d+ in \d+ tensors with weight decay, \d+ in \d+ without, 0 in 0 locked/, 'the groups are said');
my ($decay, $plain) = $said =~ /parameters: \d+ in (\d+) tensors with weight decay, \d+ in (\d+) without/;
is($decay + $plain, scalar keys %start, '... all tensors are in one');

for my $case (@cases) {
    my ($out, $options, $trained, $as) = @$case;
    my $want = $free{ $as // '' };
    my @trained = grep { $trained->($_) } keys %start;
    my @locked = grep { !$trained->($_) } keys %start;
    is(run("$train --clip-grad 0 --steps 1 $options -o $out"), 0, $options) or diag $said;
    like($said, qr/, \d+ in ${\ scalar @locked} locked/, '... says how many tensors are locked');
    my %m = model($out);
    my %o = moments($out);
    is(join(' ', grep { $m{$_} ne $want->{model}{$_} } @trained), '', '... what is trained is that of a run without locks, to the bit');
    is(join(' ', grep { my $n = $_; grep { $o{"$_.$n"} ne $want->{moments}{"$_.$n"} } 'm', 'v' } @trained), '', '... and its moments');
    is(join(' ', sort keys %o), join(' ', sort map { ("m.$_", "v.$_") } @trained), '... nothing else has any');
    is(join(' ', grep { $m{$_} ne $start{$_} } @locked), '', '... what is locked comes out as it went in');
    ok((grep { $m{$_} ne $start{$_} } @trained) > @trained / 2, '... and the rest does not');
}

is(run("$train --steps 6 --lock image --unlock 1 --checkpoint-every 3 -o whole"), 0, 'a longer run') or diag $said;
my %whole = model('whole');
is(join(' ', grep { $whole{$_} ne $start{$_} } grep { /^visual.*(conv1|resblocks\.[01]|ln_pre|embedding)/ } keys %start), '', '... the same at its end');
is(run("$train --steps 6 --lock image --unlock 1 -o whole --resume-from 3"), 0, 'from its middle') or diag $said;
my %again = model('whole');
is(join(' ', grep { $whole{$_} ne $again{$_} } keys %whole), '', '... to the same bytes');
for (['', '--lock image, now it is left out'], ['--lock image', '--unlock 1, now it is left out'], ['--lock text --unlock 1', '--lock image, now it is text'],
     ['--lock image --unlock 1 --lock-norms', '--lock-norms left out, now it is true']) {
    is(run("$train --steps 6 $_->[0] -o whole --resume"), 1, "resumed with '$_->[0]'");
    like($said, qr/\Q$_->[1]/, '... is refused');
}
# The first step of AdamW without weight decay is lr times the rate in each number.
is(run("$train --clip-grad 0 --weight-decay 0 --steps 1 -o flat"), 0, 'a step at one rate') or diag $said;
is(run("$train --clip-grad 0 --weight-decay 0 --steps 1 --layer-decay 0.5 -o decay"), 0, 'a step with layer decay') or diag $said;
like($said, qr/times 0\.5 a block, down to 0\.0625 of the image tower's embeddings and 0\.0625/, '... says so');
my %flat = model('flat');
my %low = model('decay');
sub rate { # of all numbers that moved
    my ($name) = @_;
    my @x = map { [unpack 'f<*', $_->{$name}] } \%start, \%flat, \%low;
    my ($a, $b) = (0, 0);
    for (0 .. $#{ $x[0] }) { $a += abs($x[1][$_] - $x[0][$_]); $b += abs($x[2][$_] - $x[0][$_]); }
    return $b / $a;
}
my %depth = (logit_scale => 0, 'visual.proj' => 0, 'visual.ln_post.weight' => 0, 'text_projection' => 0, 'ln_final.bias' => 0, 'visual.conv1.weight' => 4,
    'visual.class_embedding' => 4, 'visual.positional_embedding' => 4, 'visual.ln_pre.weight' => 4, 'token_embedding.weight' => 4, 'positional_embedding' => 4,
    (map { my $l = $_; map { ("${_}transformer.resblocks.$l.mlp.c_fc.weight" => 3 - $l, "${_}transformer.resblocks.$l.ln_1.bias" => 3 - $l) } '', 'visual.' } 0 .. 2));
for (sort keys %depth) {
    my $off = rate($_) / 0.5**$depth{$_} - 1;
    cmp_ok(abs $off, '<', 1e-3, "$_: a rate of 0.5^$depth{$_}") or diag $off;
}
is(run("$train --clip-grad 0 --weight-decay 0 --steps 1 --layer-decay 0.6 -o decay --resume"), 1, 'resumed with another');
like($said, qr/--layer-decay 0\.5, now it is 0\.6/, '... is refused');
is(run("$train --steps 1 --layer-decay 1.5 -o wrong"), 2, 'a decay that grows');

is(run("$bin/distill-train $common --steps 6 --lock image -o wrong"), 2, 'a lock without a model');
like($said, qr/--lock image .* needs --init/, '... says what');
is(run("$train --steps 6 --unlock 1 -o wrong"), 2, '--unlock alone');
like($said, qr/--unlock 1 needs --lock/, '... says what');
is(run("$train --steps 6 --lock text --unlock 4 -o wrong"), 1, 'more blocks than there are');
like($said, qr/--unlock 4: the text tower has 3 blocks/, '... says what');
is(run("$train --steps 6 --lock text --unlock 4 --dry-run"), 1, '... in a dry run');
done_testing();
