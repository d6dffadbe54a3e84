#!/usr/bin/env perl
# distill-train's start from other models: towers of one or two, positions of another size, a projection of another width made new;
# what was taken is told; what does not fit is refused in words.
use strict;
use warnings;
use lib 'tests/lib';
use JSON::PP;
use Test::More;
use Train;

shard('a/00000.tar', 40, 'a');
is(run("$bin/shard-read -q --size 29 -o s.samples a/00000.tar"), 0, 'samples') or diag $said;
my $common = "--batch 4 --loss clip --progress never --data 'cat s.samples'";
my $student = decode_json(slurp('student.json'));
sub config { my ($name, $change) = @_; my $c = decode_json(encode_json($student)); $change->($c); spew("$name.json", encode_json($c)); }
sub made { my ($dir) = @_; return { tensors("$dir/open_clip_model.safetensors") }; }
# The first weights: a run at rate 0.
sub start_of { my ($options) = @_; system('rm', '-rf', 'still'); is(run("$bin/distill-train $common --lr 0 --steps 1 -o still $options"), 0, "from $options") or diag $said; return made('still'); }
sub taken { my ($is, $from, $pattern) = @_; return join ' ', grep { !defined $from->{$_} || $is->{$_} ne $from->{$_} } grep { /$pattern/ } sort keys %$is; }
my ($image, $text) = (qr/^visual\./, qr/^(?!visual\.|logit)/);

for (['one', 5], ['two', 6]) {
    is(run("$bin/distill-train $common --student student.json --tokenizer $vocab --lr 1e-2 --steps 6 --seed $_->[1] -o $_->[0]"), 0, "model $_->[0]") or diag $said;
}
my ($one, $two) = (made('one'), made('two'));
my $random = start_of("--student student.json --tokenizer $vocab --seed 9");

my $is = start_of("--student student.json --init-image one --init-text two --seed 9");
is(taken($is, $one, $image), '', 'the image tower of one');
is(taken($is, $two, $text), '', '... the text tower of the other');
is($is->{logit_scale}, $random->{logit_scale}, "... logit_scale of none");
like($said, qr/--init-image 'one': (\d+) of \1 tensors taken\n.*--init-text 'two': (\d+) of \2 tensors taken\n/, '... which is told');
ok(-s 'still/bpe_simple_vocab_16e6.txt.gz' || -s 'still/tokenizer.json' || -s 'still/vocab.json' || scalar(() = glob 'still/*vocab*'), '... and the tokenizer of the text tower');
$is = start_of("--init one --init-text two --seed 9");
is(taken($is, $one, qr/^visual\.|logit/), '', 'all of one but for the text tower');
is(taken($is, $two, $text), '', '... that of the other');
$is = start_of("--student student.json --tokenizer $vocab --init-image one --seed 9");
is(taken($is, $one, $image) . taken($is, $random, qr/^(?!visual)/), '', 'an image tower alone, the rest random');
is(taken(start_of("--init one"), $one, qr//), '', 'all of one');

# A projection of another width.
config('wide', sub { $_[0]{embed_dim} = 28 });
my $wide = start_of("--student wide.json --tokenizer $vocab --seed 9");
$is = start_of("--student wide.json --init one --seed 9");
is(taken($is, $one, qr/^(?!visual\.proj$|text_projection$)/), '', 'a wider student: all but the projections');
is(taken($is, $wide, qr/^(visual\.proj|text_projection)$/), '', '... which are new');
like($said, qr/--init 'one': (\d+) of (\d+) tensors taken, new: visual\.proj, text_projection, not taken: visual\.proj, text_projection\n/, '... which is told');
$is = start_of("--student wide.json --init-image one --init-text two --seed 9");
is(taken($is, $one, qr/^visual\.(?!proj)/) . taken($is, $two, qr/^(?!visual|logit|text_projection)/) . taken($is, $wide, qr/proj$|text_projection/), '', 'and of two');

# Positions of another grid and another length.
config('large', sub { $_[0]{vision_cfg}{image_size} = 43; $_[0]{text_cfg}{context_length} = 17 });
is(run("$bin/shard-read -q --size 43 -o l.samples a/00000.tar"), 0, 'larger pictures') or diag $said;
$is = start_of("--student large.json --init one --data 'cat l.samples'");
is(taken($is, $one, qr/^(?!(visual\.)?positional_embedding$)/), '', 'another size: all but the positions');
is(length $is->{'visual.positional_embedding'}, 37 * 12 * 4, '... those of a grid of 6');
is(substr($is->{'visual.positional_embedding'}, 0, 48), substr($one->{'visual.positional_embedding'}, 0, 48), '... the class token\'s as it was');
is(length $is->{positional_embedding}, 17 * 8 * 4, '... and of 17 tokens');
like($said, qr/--init 'one': (\d+) of \1 tensors taken, resized: visual\.positional_embedding, positional_embedding\n/, '... which is told');

# Locks, a resumed run, a plan.
is(run("$bin/distill-train $common --student student.json --init-image one --tokenizer $vocab --lock image --steps 3 --checkpoint-every 1 -o lit"), 0, 'a locked image tower of its own') or diag $said;
is(taken(made('lit'), $one, $image), '', '... stays');
is(run("$bin/distill-train $common --student student.json --init-image gone --tokenizer $vocab --lock image --steps 4 --extend -o lit"), 0, 'a resumed run needs the start no more') or diag $said;
is(run("$bin/distill-train $common --student wide.json --init one --steps 3 --dry-run"), 0, 'a plan') or diag $said;
like($said, qr/new: visual\.proj, text_projection/, '... tells the same');

# What does not fit.
config('deep', sub { $_[0]{vision_cfg}{layers} = 2 });
config('words', sub { $_[0]{text_cfg}{vocab_size} = 1300 });
config('patches', sub { $_[0]{vision_cfg}{patch_size} = 6 });
config('thick', sub { $_[0]{text_cfg}{width} = 16 });
for (['deep', '--init one', "--init: one: vision tower: its layers is 1, this model's 2"], ['deep', '--init-image one', '--init-image: one: vision tower: its layers is 1'],
    ['words', '--init-text one', "--init-text: one: its vocab_size is 1214, this model's 1300"], ['patches', '--init-image one', 'patch_size is 7'],
    ['thick', '--init-text one', 'text tower: its width is 8'], ['student', '--init-image none', 'none']) {
    my ($name, $options, $why) = @$_;
    is(run("$bin/distill-train $common --student $name.json --tokenizer $vocab $options --steps 1 -o wrong"), 1, "refused: $options for $name");
    like($said, qr/\Q$why/, '... says why') or diag $said;
}
is(run("$bin/distill-train $common --student deep.json --tokenizer $vocab --init-text one --steps 1 -o fits"), 0, 'a tower that is not asked for may be another') or diag $said;
for my $tower ('image', 'text') {
    my $other = $tower eq 'image' ? 'text' : 'image';
    is(run("$bin/distill-train $common --student student.json --tokenizer $vocab --init-$other one --lock $tower --steps 1 -o wrong"), 2, "a locked $tower tower without a start");
    like($said, qr/needs --init MODEL or --init-$tower MODEL/, '... is wrong usage');
}
is(run("$bin/distill-train $common --init-image one --init-text two --steps 1 -o wrong"), 2, 'no config');
like($said, qr/missing --student CONFIG/, '... is wrong usage');
done_testing();
