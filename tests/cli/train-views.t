#!/usr/bin/env perl
# The teacher sees the student's pictures: teacher-embed --view V makes the crops that shard-read --view V makes, and distill-train
# --views takes the rows of the epoch's view.
use strict;
use warnings;
use lib 'tests/lib';
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Test::More;
use Train;

shard('one/00000.tar', 24, 'a');
shard('one/00001.tar', 24, 'b');
my $shards = 'one/00000.tar one/00001.tar';
my $look = '--crop random --scale 0.2,0.6 --flip --jitter 0.4,0.4,0.4,0.1 --jitter-prob 0.8 --gray 0.2';

# The pictures: the same for a view in any order, in any epoch, read alone or with others.
is(run("$bin/shard-read -q --size 29 $look --seed 3 --epoch 2 -o e2.samples --pixels e2.npy one/00000.tar"), 0, 'as of an epoch') or diag $said;
is(run("$bin/shard-read -q --size 29 $look --seed 3 --epoch 7 --view 2 -o v2.samples --pixels v2.npy one/00000.tar"), 0, 'as of a view') or diag $said;
ok(slurp('e2.npy') eq slurp('v2.npy'), '... the same pictures');
is(run("$bin/shard-read -q --size 29 $look --seed 3 --epoch 2 --view 3 -o v3.samples --pixels v3.npy one/00000.tar"), 0, 'another view') or diag $said;
ok(slurp('e2.npy') ne slurp('v3.npy'), '... others');
is(run("$bin/shard-read -q --size 29 --images no --shuffle 99 --seed 3 --epoch 2 -o s2.samples $shards"), 0, 'an order') or diag $said;
is(run("$bin/shard-read -q --size 29 --images no --shuffle 99 --seed 3 --epoch 2 --view 9 -o s9.samples $shards"), 0, 'with a view') or diag $said;
ok(slurp('s2.samples') eq slurp('s9.samples'), '... the same order');

# A teacher of the student's own size.
is(run("$bin/shard-read -q --size 29 -o plain.samples $shards"), 0, 'samples') or diag $said;
is(run("$bin/distill-train -q --student student.json --tokenizer $vocab --loss clip --batch 8 --steps 2 -o T plain.samples"), 0, 'a teacher') or diag $said;
spew('list', join '', map { "$_\n" } split / /, $shards);
my $embed = "$bin/teacher-embed -q -m T --out-dtype f32 --shards-from list";
is(run("$embed --image-dir image --text-dir text"), 0, 'its rows') or diag $said;
for my $v (0, 1) { is(run("$embed --image-dir image-$v $look --seed 3 --view $v"), 0, "its rows of view $v") or diag $said; }
is(run("$bin/shard-read -q --size 29 $look --seed 3 --view 1 -o v1.samples one/00000.tar"), 0, 'its pictures') or diag $said;
is(run("$bin/teacher-embed -q -m T --out-dtype f32 -o v1.npy v1.samples"), 0, '... embedded from a stream') or diag $said;
sub body { my $t = slurp(@_); return substr $t, 10 + unpack 'v', substr $t, 8, 2; }
ok(body('v1.npy') eq body('image-1/00000.npy'), '... give the same rows');
ok(body('image-0/00000.npy') ne body('image-1/00000.npy'), '... and other views others');
is(run("$embed --image-dir image-1 $look --seed 3 --view 1"), 0, 'again');
is(run("$bin/teacher-embed -m T --out-dtype f32 --shards-from list --image-dir image-1 $look --seed 3 --view 2"), 0, 'another view in the same folder');
like($said, qr/2 shards, 0 were there/, '... is made, not passed over') or diag $said;
is(run("$embed --image-dir image-1 $look --seed 3 --view 1"), 0, 'and back');

# A student with the teacher's weights is where the teacher is, if it sees what the teacher saw.
my $read = "$bin/shard-read -q --size 29 $look --shuffle 16 --seed {seed} --epoch {epoch} --view {view} $shards";
my $train = "$bin/distill-train --init T --tokenizer $vocab --batch 16 --seed 3 --loss feature --lr 0 --epochs 4";
my $views = "--views 2 --teacher-image 'image-{view}' --teacher-text text";
is(run("$train -o a $views --data '$read'"), 0, 'with views') or diag $said;
my @l = map { $_->{feature} } log_lines('a/log.jsonl');
is(scalar @l, 12, 'four epochs');
is(scalar(grep { $_ > 1e-10 } @l), 0, '... at the distance 0') or diag "@l";
is(run("$train -o b --teacher-image image --teacher-text text --data '" . $read =~ s/--view \{view\}//r . "'"), 0, 'without') or diag $said;
my @far = map { $_->{feature} } log_lines('b/log.jsonl');
is(scalar(grep { $_ < 1e-6 } @far), 0, '... it is not') or diag "@far";

# Clusters and labels are those of the usual pictures.
make_path('labels');
is(run("$bin/kmeans-cluster -q -k 3 -o c.npy --labels-dir labels image/*.npy"), 0, 'clusters') or diag $said;
is(run("$train -o e $views --labels labels --centroids c.npy --loss instance,clip,cluster --data '$read'"), 0, 'the default terms with views') or diag $said;

# Resumed in the middle of the third epoch, and by parts.
my $moves = "$bin/distill-train -q --init T --tokenizer $vocab --batch 16 --seed 3 --loss feature,clip --epochs 4 --checkpoint-every 7";
is(run("$moves -o c $views --data '$read'"), 0, 'a run') or diag $said;
is(run("$moves -o d $views --data '$read' --keep-checkpoints all"), 0, 'another') or diag $said;
remove_tree('d/checkpoints/step-00000012');
is(run("$moves -o d $views --data '$read' --resume"), 0, 'resumed') or diag $said;
is(slurp('d/open_clip_model.safetensors'), slurp('c/open_clip_model.safetensors'), '... to the same bytes');
remove_tree('d/checkpoints/step-00000012');
is(run("$moves -o d --views 3 --teacher-image 'image-{view}' --teacher-text text --data '$read' --resume"), 1, 'other views');
like($said, qr/image-2/, '... which are not there');
rename 'image', 'image-2';
is(run("$moves -o d --views 3 --teacher-image 'image-{view}' --teacher-text text --data '$read' --resume"), 1, 'or are');
like($said, qr/made with --views 2, now it is 3|--teachers is not what/, '... are refused') or diag $said;

for my $case (
    ["--views 2 --teacher-image 'image-{view}' --teacher-text text --data '" . $read =~ s/--view \{view\}//r . "'", 2, qr/--data needs \{view\}/],
    ["--teacher-image image-0 --teacher-text text --data '$read'", 2, qr/\{view\} needs --views A/],
    ["--teacher-image 'image-{view}' --teacher-text text --data '$read'", 2, qr/needs --views A/],
    ["--views 2 --teacher-image image-0 --teacher-text text --data '$read'", 2, qr/--views needs \{view\}/],
    ["$views --data '" . $read =~ s/--view \{view\}/--view 1{view}/r . "'", 1, qr/pictures are of view 10, the teacher's rows of view 0/],
    ["$views --data '$bin/shard-read -q --size 29 --epoch {view} $shards'", 1, qr/its pictures have no views/],
) {
    my ($how, $status, $why) = @$case;
    is(run("$train -o no $how"), $status, 'refused');
    like($said, $why, '... in words') or diag $said;
}
is(run("$bin/teacher-embed -q -m T -o no.npy --crop random plain.samples"), 2, 'a crop of a stream');
like($said, qr/--crop random goes with --shards/, '... is refused');
done_testing();
