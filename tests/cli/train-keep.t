#!/usr/bin/env perl
# Which checkpoints of distill-train stay, what reads them, and going on from one that is not the newest.
use strict;
use warnings;
use lib 'tests/lib';
use JSON::PP;
use Test::More;
use Train;

shard('a/00000.tar', 40, 'a');
is(run("$bin/shard-read -q --size 29 -o s.samples a/00000.tar"), 0, 'samples') or diag $said;
my $train = "$bin/distill-train --student student.json --tokenizer $vocab --batch 4 --seed 3 --loss clip --progress never --lr 2e-3 --warmup 2 --data 'cat s.samples'";
sub kept { return join ' ', map { s/.*step-0*//r } sort glob "$_[0]/checkpoints/*step-*"; }
sub model { return slurp("$_[0]/open_clip_model.safetensors"); }
sub logged { return join ' ', map { decode_json($_)->{step} } grep { /"lr"/ } split /\n/, slurp("$_[0]/log.jsonl"); }

is(run("$train --steps 10 --checkpoint-every 2 -o all --keep-checkpoints all"), 0, 'a run that keeps all') or diag $said;
is(kept('all'), '2 4 6 8 10', '... has them all');
is(run("$train --steps 10 --checkpoint-every 2 -o some --keep-checkpoints 1 --keep-every 5"), 0, 'one that keeps every fifth step') or diag $said;
is(kept('some'), '5 10', '... saves it though none was due, and has the newest besides');
ok(model('some') eq model('all'), 'the same model');
is(run("$train --steps 8 --checkpoint-every 2 -o three --keep-checkpoints 3 --keep-every 100"), 0, 'one that keeps three') or diag $said;
is(kept('three'), '4 6 8', '... has three');
is(run("$bin/teacher-embed --describe all/checkpoints/step-00000004"), 0, 'a checkpoint is a model folder') or diag $said;

is(run("$train --steps 10 --checkpoint-every 2 -o all --keep-checkpoints all --resume-from 5"), 1, 'a step that has no checkpoint');
like($said, qr/no checkpoint of step 5 in 'all': there are 2, 4, 6, 8, 10/, '... is refused, with those that there are');
is(kept('all'), '2 4 6 8 10', '... and nothing is removed');
my $model = model('all');
unlink 'all/open_clip_model.safetensors';
is(run("$train --steps 10 --checkpoint-every 2 -o all --keep-checkpoints all --resume-from 4"), 0, 'from one that is not the newest') or diag $said;
like($said, qr/going on after step 4 of 10/, '... it goes on');
ok(model('all') eq $model, '... to the same bytes');
is(kept('all'), '2 4 6 8 10', '... with the same checkpoints');
is(logged('all'), '1 2 3 4 5 6 7 8 9 10', '... and a log without doubles');

is(run("$train --steps 8 --schedule const --checkpoint-every 2 --keep-checkpoints all -o branch"), 0, 'a constant rate') or diag $said;
is(run("cp -r branch other"), 0, 'a copy');
is(run("$train --steps 8 --schedule cooldown --cooldown 4 -o other --checkpoint-every 0 --resume-from 4 --extend"), 0, 'a cooldown from its middle') or diag $said;
is(run("$train --steps 8 --schedule cooldown --cooldown 4 -o planned"), 0, 'one that was planned') or diag $said;
ok(model('other') eq model('planned'), '... the same bytes');

truncate 'branch/checkpoints/step-00000004/optimizer.safetensors', 100 or die;
is(run("$train --steps 8 --schedule const -o branch --resume-from 4"), 1, 'a damaged one');
like($said, qr/step-00000004/, '... is refused by name');
is(kept('branch'), '2 4 6 8', '... and nothing is removed');
for (['--keep-checkpoints 0', 'from 1 on'], ['--keep-checkpoints some', 'neither all nor'], ['--keep-checkpoints 2x', 'neither all nor'], ['--resume-from 4 --overwrite', 'one of them']) {
    is(run("$train --steps 6 -o wrong $_->[0]"), 2, "wrong usage: $_->[0]");
    like($said, qr/\Q$_->[1]/, '... says what');
}
done_testing();
