#!/usr/bin/env perl
# distill-train --inherit: a smaller student has the leading heads and channels of every L/l-th block of a larger model.
use strict;
use warnings;
use lib 'tests/lib';
use JSON::PP;
use Test::More;
use Train;

sub config { my ($dim, $layers, $heads, $mlp, $context, $size) = @_;
    return encode_json({ embed_dim => $dim, vision_cfg => { image_size => $size, patch_size => 7, width => 12 * $heads, layers => $layers, head_width => 12, mlp_ratio => $mlp },
        text_cfg => { context_length => $context, vocab_size => 1214, width => 8 * $heads, layers => $layers, heads => $heads, mlp_ratio => $mlp } });
}
spew('large.json', config(20, 5, 3, 4, 13, 35));
spew('small.json', config(12, 2, 2, 3, 13, 35));
spew('other.json', config(12, 2, 2, 3, 11, 28));
shard('one/00000.tar', 16, 'a');
for my $size (35, 28) { is(run("$bin/shard-read -q --size $size -o s$size.samples one/00000.tar"), 0, "samples of $size") or diag $said; }
my $still = "--tokenizer $vocab --loss clip --batch 8 --steps 1 --lr 0"; # the weights stay as they begin
is(run("$bin/distill-train -q --student large.json --seed 5 $still -o large s35.samples"), 0, 'a large model') or diag $said;
is(run("$bin/distill-train --student large.json --init large --inherit $still -o same s35.samples"), 0, 'inherited by its like') or diag $said;
ok(slurp('same/open_clip_model.safetensors') eq slurp('large/open_clip_model.safetensors'), '... to the bit');

is(run("$bin/distill-train --student small.json --init large --inherit $still -o small s35.samples"), 0, 'by a smaller one') or diag $said;
like($said, qr/tensors taken, \d+ of them cut/, '... which is said');
my %from = tensors('large/open_clip_model.safetensors');
my %to = tensors('small/open_clip_model.safetensors');
sub floats { return unpack 'f<*', $_[0]; }
# Rows and columns of a matrix, of each of so many pieces the leading ones.
sub cut { my ($bytes, $rows, $cols, $pieces, $to_rows, $to_cols) = @_;
    my @x = floats($bytes);
    my @y;
    for my $p (0 .. $pieces - 1) { for my $r (0 .. $to_rows / $pieces - 1) { my $at = ($p * $rows / $pieces + $r) * $cols; push @y, @x[$at .. $at + $to_cols - 1]; } }
    return pack 'f<*', @y;
}
my ($W, $w, $M, $m) = (36, 24, 144, 72);
my $block = 'visual.transformer.resblocks';
for my $i (0, 1) {
    my $j = int($i * 5 / 2);
    ok($to{"$block.$i.attn.in_proj_weight"} eq cut($from{"$block.$j.attn.in_proj_weight"}, 3 * $W, $W, 3, 3 * $w, $w), "block $i is block $j: the leading heads of queries, keys and values");
    ok($to{"$block.$i.attn.in_proj_bias"} eq cut($from{"$block.$j.attn.in_proj_bias"}, 3 * $W, 1, 3, 3 * $w, 1), '... their biases');
    ok($to{"$block.$i.mlp.c_fc.weight"} eq cut($from{"$block.$j.mlp.c_fc.weight"}, $M, $W, 1, $m, $w), '... the MLP in');
    ok($to{"$block.$i.mlp.c_proj.weight"} eq cut($from{"$block.$j.mlp.c_proj.weight"}, $W, $M, 1, $w, $m), '... and out');
}
ok($to{'visual.conv1.weight'} eq cut($from{'visual.conv1.weight'}, $W, 147, 1, $w, 147), 'patches');
ok($to{'visual.positional_embedding'} eq cut($from{'visual.positional_embedding'}, 26, $W, 1, 26, $w), 'positions');
ok($to{'visual.proj'} eq cut($from{'visual.proj'}, $W, 20, 1, $w, 12), 'the projection');
ok($to{'token_embedding.weight'} eq cut($from{'token_embedding.weight'}, 1214, 24, 1, 1214, 16), 'tokens');
is($to{logit_scale}, $from{logit_scale}, 'the scale');
is(run("$bin/distill-train -q --student other.json --init large --inherit $still -o other s28.samples"), 0, 'of another size of pictures and texts') or diag $said;
is(run("$bin/distill-train -q --student small.json --init-image large --inherit $still -o half s35.samples"), 0, 'one tower alone') or diag $said;

for my $case (
    ['--student large.json --init small --inherit', 1, qr/less than this model's|is smaller/],
    ['--student small.json --init large', 1, qr/its layers is 5, this model's 2/],
    ['--init large --inherit', 2, qr/--inherit needs --student/],
    ['--student small.json --inherit', 2, qr/--inherit needs/],
) {
    is(run("$bin/distill-train -q $case->[0] $still -o no s35.samples"), $case->[1], $case->[0]);
    like($said, $case->[2], '... is refused') or diag $said;
}
spew('heads.json', config(12, 2, 2, 3, 13, 35) =~ s/"head_width":12/"head_width":6/r);
is(run("$bin/distill-train -q --student heads.json --init large --inherit $still -o no s35.samples"), 1, 'narrower heads');
like($said, qr/width of a head|heads/, '... are refused') or diag $said;
done_testing();
