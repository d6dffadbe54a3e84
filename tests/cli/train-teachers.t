#!/usr/bin/env perl
# distill-train learns from several teachers, and each has its own scale.
use strict;
use warnings;
use lib 'tests/lib';
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Test::More;
use Train;

shard('one/00000.tar', 24, 'a');
shard('one/00001.tar', 24, 'b');
for my $s (qw(00000 00001)) { embed('A', "one/$s.tar"); }
sub config { return decode_json(slurp("$_[0]/open_clip_config.json")); }
# Another teacher, of another width.
spew('other.json', encode_json({ embed_dim => 12, vision_cfg => { image_size => 29, patch_size => 7, width => 12, layers => 1, head_width => 12 },
    text_cfg => { context_length => 11, vocab_size => 1214, width => 8, layers => 1, heads => 1 } }));
is(run("$bin/shard-read -q --size 29 -o one.samples one/00000.tar one/00001.tar"), 0, 'samples') or diag $said;
is(run("$bin/distill-train -q --student other.json --tokenizer $vocab --loss clip --batch 8 --steps 2 -o B one.samples"), 0, 'another teacher') or diag $said;
for my $s (qw(00000 00001)) { embed('B', "one/$s.tar", model => 'B'); }
my ($told) = map { decode_json(slurp("image-$_/00000.npy.json"))->{scale} } 'B';
cmp_ok($told, '>', 10, "the sidecar tells the teacher's scale: $told");

my $n = 0;
my $train = "$bin/distill-train --student student.json --tokenizer $vocab --batch 8 --seed 3 --loss affinity --steps 4";
sub train { my ($more, $out) = @_; $out //= 'out' . $n++; return run("$train -o $out $more one.samples"); }
my $A = '--teacher-image image-A --teacher-text text-A';
my $AB = '--teacher-image image-A,image-B --teacher-text text-A,text-B';
sub model { return slurp("$_[0]/open_clip_model.safetensors"); }
sub loss { return join ' ', map { $_->{loss} } log_lines("$_[0]/log.jsonl"); }

is(train('--teacher-image image-B --teacher-text text-B', 'b'), 0, 'one teacher') or diag $said;
like($said, qr/teacher 1 are ([\d.]+) times its cosines, as its sidecars say/, 'the scale is said');
is(train("--teacher-image image-B --teacher-text text-B --teacher-scale $told", 'b2'), 0, 'its scale by the option') or diag $said;
is(model('b2'), model('b'), '... the same');
is(train('--teacher-image image-B --teacher-text text-B --teacher-scale 50', 'b3'), 0, 'another scale') or diag $said;
isnt(model('b3'), model('b'), '... is another run');
make_path('image-bare', 'text-bare');
for my $s (qw(00000 00001)) { copy("$_-B/$s.npy", "$_-bare/$s.npy") or die for qw(image text); }
is(train('--teacher-image image-bare --teacher-text text-bare', 'b4'), 0, 'no sidecars') or diag $said;
like($said, qr/teacher 1 are 100 times its cosines; its sidecars do not say/, '... 100');

is(train('--teacher-image image-B,image-B --teacher-text text-B,text-B', 'bb'), 0, 'twice the same teacher') or diag $said;
my @l = map { [map { $_->{loss} } log_lines("$_/log.jsonl")] } qw(b bb);
is(scalar(grep { abs($l[0][$_] - $l[1][$_]) > 1e-5 } 0 .. 3), 0, '... is one') or diag loss('b'), "\n", loss('bb');
is(train("$AB --accumulate 2", 'ab'), 0, 'two teachers of two widths') or diag $said;
is(train("$AB --accumulate 2 --checkpoint-every 2 --keep-checkpoints all", 'r'), 0, 'to be resumed') or diag $said;
remove_tree('r/checkpoints/step-00000004');
is(train("$AB --accumulate 2 --checkpoint-every 2 --resume", 'r'), 0, 'resumed') or diag $said;
is(model('r'), model('ab'), '... to the same bytes');
is(train("$AB --teacher-scale 60,70 --resume", 'r'), 1, 'other scales');
like($said, qr/made with --teacher-scale/, '... are refused');
remove_tree('r/checkpoints/step-00000004');
is(train('--teacher-image image-A,image-bare --teacher-text text-A,text-bare --resume', 'r'), 1, 'another second teacher');
like($said, qr/--teachers is not what|--teacher-scale/, '... is refused');

for my $case (
    ['--teacher-image image-A,image-B --teacher-text text-A', 2, qr/names 2 teachers, --teacher-text 1/],
    ["$AB --teacher-scale 1,2,3", 2, qr/3 numbers for 2 teachers/],
    ["$AB --teacher-scale -1", 2, qr/not a list of numbers/],
    ["$A --teacher-scale x", 2, qr/not a list of numbers/],
    ['--teacher-image image-A, --teacher-text text-A,', 2, qr/folder without a name/],
    ["$AB --loss instance", 2, qr/several teachers have a use only in the affinity term/],
    ['--teacher-image image-A,text-B --teacher-text text-A,image-B', 1, qr/exchanged/],
) {
    my ($how, $status, $why) = @$case;
    is(train($how), $status, $how);
    like($said, $why, '... is refused');
}
unlink 'text-B/00001.npy', 'text-B/00001.npy.json';
is(train($AB), 1, 'a teacher without the files of a shard');
like($said, qr/same shards|no such file|passed over|text-B/i, '... is refused') or diag $said;
done_testing();
