#!/usr/bin/env perl
# distill-train takes together only what belongs together: rows of these samples, embeddings of one teacher, labels of these
# centroids over these embeddings. What it cannot know it does not refuse.
use strict;
use warnings;
use lib 'tests/lib';
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use Test::More;
use Train;

shard('one/00000.tar', 40, 'a');
shard('two/00000.tar', 40, 'b'); # as many samples, others
embed('one', 'one/00000.tar');
embed('two', 'two/00000.tar');
my $train = "$bin/distill-train -q --student student.json --tokenizer $vocab --batch 4 --seed 3 --loss instance=1";
my $n = 0;
sub train { my ($teacher, $read, $more) = @_; $n++; return run("$train --steps 2 -o out$n $teacher ${\($more // '')} --data '$bin/shard-read -q --size 29 $read'"); }
my $own = '--teacher-image image-one --teacher-text text-one';
my $other = '--teacher-image image-two --teacher-text text-two';

# Keys are compared in masked and sliced runs too: an epoch of the shard comes to its end.
make_path('keep');
mask('keep/00000.npy', map { $_ % 3 ? 1 : 0 } 0 .. 39);
for my $how ('', '--keep keep', '--skip 32', '--limit 5', '--part 2/3', '--keep keep --shuffle 16 --skip 20 --limit 5') {
    my $steps = $how =~ /limit|skip/ ? '--steps 5' : '--steps 15';
    is(train($own, "$how one/00000.tar", $steps), 0, "its own rows: $how") or diag $said;
    is(train($other, "$how one/00000.tar", $steps), 1, "rows of other samples: $how");
    like($said, qr/key digests differ/, '... are refused');
}

# Two shards of one name, in two streams put together; parts of one shard are something else.
is(run("$bin/shard-read -q --size 29 -o one.samples one/00000.tar && $bin/shard-read -q --size 29 -o two.samples two/00000.tar"), 0, 'two streams') or diag $said;
$n++;
is(run("cat one.samples two.samples | $train --loss clip --steps 15 -o out$n"), 1, 'two shards of one name');
like($said, qr/two streams have a shard called 00000\.tar/, '... are refused');
is(run("$bin/shard-read -q --size 29 -o part$_.samples --part $_/2 one/00000.tar"), 0, "part $_") or diag $said for 1, 2;
$n++;
is(run("cat part1.samples part2.samples | $train --loss clip --steps 10 -o out$n"), 0, 'parts of one shard') or diag $said;

# Two teachers of one width.
is(run("$bin/distill-train -q --init $data/models/odd --tokenizer $vocab --loss clip --batch 4 --steps 1 -o B one.samples"), 0, 'another teacher') or diag $said;
embed('B', 'one/00000.tar', model => 'B');
clusters('one', '');
clusters('B', '');
clusters('seed', '--seed 7', 'image-one');
clusters('text', '', 'text-one');
my $both = "$bin/distill-train -q --student student.json --tokenizer $vocab --batch 4 --steps 2 --loss instance=1,cluster=1";
sub match { my ($image, $text, $c, $labels) = @_; $n++; return run("$both -o out$n --teacher-image $image --teacher-text $text --centroids $c --labels $labels one.samples"); }
is(match(qw(image-one text-one c-one.npy labels-one)), 0, 'what belongs together') or diag $said;
is(match(qw(image-B text-B c-B.npy labels-B)), 0, 'and of the other teacher') or diag $said;
for my $case (
    ['images of one, texts of another teacher', qr/--teacher-text: .*another model/, qw(image-one text-B c-one.npy labels-one)],
    ['centroids and labels of another teacher', qr/another model/, qw(image-one text-one c-B.npy labels-B)],
    ['labels of another teacher', qr/--labels: .*another model/, qw(image-one text-one c-one.npy labels-B)],
    ['labels of another clustering', qr/--labels: .*not made with the centroids/, qw(image-one text-one c-one.npy labels-seed)],
    ['centroids of another clustering', qr/--labels: .*not made with the centroids/, qw(image-one text-one c-seed.npy labels-one)],
    ['clusters of the texts', qr/--labels: .*not made over the embeddings/, qw(image-one text-one c-text.npy labels-text)],
    ['images and texts exchanged', qr/exchanged/, qw(text-one image-one c-one.npy labels-one)],
    ['images twice', qr/--teacher-text: .*holds image/, qw(image-one image-one c-one.npy labels-one)],
  )
{
    my ($what, $said_why, @files) = @$case;
    is(match(@files), 1, $what);
    like($said, $said_why, '... is refused');
    ok(!-e "out$n/open_clip_model.safetensors", '... before anything is made');
}

# Rows that are fewer than the labels', and sidecars that are stale.
sub sidecars { my ($from, $to) = @_; make_path($to); copy("$from/00000.npy", "$to/00000.npy"); copy("$from/00000.npy.json", "$to/00000.npy.json"); }
shard('few/00000.tar', 30, 'a');
embed('few', 'few/00000.tar');
is(match(qw(image-few text-few c-one.npy labels-one)), 1, 'fewer embeddings than labels');
like($said, qr/30 rows.*40/, '... are refused before the first step');
sidecars('image-one', 'stale');
copy('image-few/00000.npy', 'stale/00000.npy');
is(match(qw(stale text-one c-one.npy labels-one)), 1, 'an array under the sidecar of another');
like($said, qr/stale/, '... is refused');

# Without sidecars nothing is known, and nothing refused.
for my $folder (qw(image-one text-B labels-seed)) { make_path("bare-$folder"); copy("$folder/00000.npy", "bare-$folder/00000.npy"); }
copy('c-one.npy', 'bare.npy');
is(match(qw(bare-image-one bare-text-B bare.npy bare-labels-seed)), 0, 'no sidecars') or diag $said;

# A run is taken up with its own files only.
my $resume = "$bin/distill-train -q --student student.json --tokenizer $vocab --batch 4 --seed 3 --loss instance=1,cluster=1 --checkpoint-every 2 --resume";
my %own = (image => 'image-one', text => 'text-one', labels => 'labels-one', centroids => 'c-one.npy');
sub resume {
    my ($out, %change) = @_;
    my %f = (%own, %change);
    my $tokenizer = $f{tokenizer} ? "--tokenizer $f{tokenizer}" : '';
    return run("$resume -o $out --steps 4 $tokenizer --teacher-image $f{image} --teacher-text $f{text} --labels $f{labels} --centroids $f{centroids} one.samples");
}
is(resume('run'), 0, 'a run') or diag $said;
remove_tree('run/checkpoints/step-00000004');
make_path('vocab');
my $words = `gzip -dc $vocab/bpe_simple_vocab_16e6.txt.gz`;
my @w = split /\n/, $words;
@w[50, 51] = @w[51, 50];
spew('vocab/bpe_simple_vocab_16e6.txt', join("\n", @w) . "\n");
for my $case (
    ['teacher-image', image => 'image-B', text => 'text-B', centroids => 'c-B.npy', labels => 'labels-B'],
    ['teacher-text', text => 'bare-text-B'],
    ['centroids', centroids => 'c-seed.npy', labels => 'labels-seed'],
    ['labels', labels => 'bare-labels-seed'],
    ['tokenizer', tokenizer => 'vocab'],
  )
{
    my ($name, %change) = @$case;
    is(resume('run', %change), 1, "taken up with other files: $name");
    like($said, $name eq 'teacher-image' ? qr/--resume: --(centroids|labels|teacher-image) / : qr/--resume: --$name /, '... is refused by name');
}
is(resume('run'), 0, 'with its own') or diag $said;

# Shards that come later are no change of those that the run began with.
remove_tree('run/checkpoints/step-00000004');
shard('one/00009.tar', 8, 'late');
embed('one', 'one/00009.tar');
is(run("$bin/kmeans-cluster -q --assign c-one.npy --labels-dir labels-one image-one/00009.npy"), 0, 'a late shard') or diag $said;
is(resume('run'), 0, '... does not stop a run from going on') or diag $said;
remove_tree('run/checkpoints/step-00000004');
rename 'labels-one/00000.npy', 'labels-one/away';
is(resume('run'), 1, 'a file that is gone');
like($said, qr/--labels: 'labels-one\/00000\.npy' is gone/, '... is named');
done_testing;
