#!/usr/bin/env perl
# A second caption of each picture, in its json: shard-read and teacher-embed --caption, and a mixture that trains on both.
use strict;
use warnings;
use lib 'tests/lib';
use Archive::Tar;
use JSON::PP;
use Test::More;
use Train;

shard('t/00000.tar', 24, 'm');
my $tar = Archive::Tar->new('t/00000.tar');
my $with = Archive::Tar->new;
mkdir 'one';
for my $f ($tar->get_files) {
    $with->add_data($f->name, $f->get_content);
    next if $f->name !~ /^m(\d+)\.txt$/;
    my $n = $1;
    # escapes; one without the field, one whose field is a number, one of white space
    my %of = $n == 3 ? () : $n == 4 ? (made => 7) : $n == 5 ? (made => " \t") : (made => "made \"$n\" \x{e9}\n\x{1f600}");
    $with->add_data("m$n.json", JSON::PP->new->ascii($n % 2)->canonical->encode({ width => 3, %of }) =~ s/([^\x00-\x7f])/my $c = $1; utf8::encode($c); $c/ger);
}
$with->write('one/00000.tar');
is(run("$bin/shard-read -q --size 29 --caption made --index i -o s one/00000.tar"), 0, 'captions of the json') or diag $said;
my @lines = grep { !/^#/ && /\t/ } split /\n/, slurp('i');
is(scalar @lines, 24, 'every sample has a line');
like($lines[$_], qr/no-caption/, "sample $_ has none") for 3, 4, 5;
is(scalar(grep { /no-caption/ } @lines), 3, '... and the others have');
my $stream = slurp('s');
my $caption = "made \"6\" \x{e9}\n\x{1f600}";
utf8::encode($caption);
my $odd = "made \"7\" \x{e9}\n\x{1f600}";
utf8::encode($odd);
ok(index($stream, $caption) > 0 && index($stream, $odd) > 0 && index($stream, 'a picture m') < 0, 'escaped or not, the same text; nothing of the txt');

# A teacher of the student's own shape: its rows of each caption are at the distance 0 of a student with its weights.
is(run("$bin/shard-read -q --size 29 -o plain t/00000.tar && $bin/distill-train -q --student student.json --tokenizer $vocab --loss clip --batch 8 --steps 2 -o T plain"), 0, 'a teacher') or diag $said;
mkdir $_ for qw(image unused text-web text-made text-turned);
my $embed = "$bin/teacher-embed -q -m T --out-dtype f32 --shards one/00000.tar";
is(run("$embed --image-out image/00000.npy --text-out text-web/00000.npy"), 0, 'its rows') or diag $said;
is(run("$embed --caption made --image-out unused/00000.npy --text-out text-made/00000.npy"), 0, '... and of the other captions') or diag $said;
ok(slurp('text-web/00000.npy') ne slurp('text-made/00000.npy'), '... they differ');
ok(slurp('unused/00000.npy') eq slurp('image/00000.npy'), '... the pictures do not');
my $read = "$bin/shard-read -q --size 29 --shuffle 24 --seed {seed} --epoch {epoch}";
my $train = "$bin/distill-train -q --init T --tokenizer $vocab --batch 8 --loss feature --lr 0 --steps 9 --teacher-image image";
my $both = "--data 'web=1:$read one/00000.tar' --data 'made=1:$read --caption made one/00000.tar'";
is(run("$train --teacher-text 'text-{set}' $both -o both"), 0, 'both in one training') or diag $said;
my @log = log_lines('both/log.jsonl');
is(scalar(grep { $_->{feature} > 1e-10 } @log), 0, 'each caption has its own rows') or diag explain [map { $_->{feature} } @log];
is_deeply($log[8]{sets}, { web => 36, made => 36 }, '... half of the samples each');
is(run("$train --teacher-text text-web $both -o wrong"), 0, 'the rows of one for both') or diag $said;
is(scalar(grep { $_->{feature} < 1e-6 } log_lines('wrong/log.jsonl')), 0, '... are not where the captions are');
is(run("$train --loss instance,clip --lr 1e-3 --teacher-text 'text-{set}' $both --checkpoint-every 4 --keep-checkpoints all -o learn"), 0, 'trained') or diag $said;
my $model = slurp('learn/open_clip_model.safetensors');
is(run("$train --loss instance,clip --lr 1e-3 --teacher-text 'text-{set}' $both --checkpoint-every 4 --keep-checkpoints all --resume-from 4 -o learn"), 0, '... resumed') or diag $said;
ok(slurp('learn/open_clip_model.safetensors') eq $model, '... to the same bytes');

is(run("$bin/shard-read -q --caption made --captions no -o no one/00000.tar"), 2, 'a caption of none');
like($said, qr/--caption needs --captions yes/, '... is refused');
is(run("$bin/teacher-embed -q -m T --caption made -o no s"), 2, 'of a stream');
like($said, qr/--caption goes with --shards/, '... is refused');
done_testing();
