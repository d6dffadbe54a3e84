#!/usr/bin/env perl
# distill-train's schedules: the rates in the log, a cooldown branched from a constant run's checkpoint, options that do not go
# together.
use strict;
use warnings;
use lib 'tests/lib';
use JSON::PP;
use Test::More;
use Train;

shard('a/00000.tar', 40, 'a');
is(run("$bin/shard-read -q --size 29 -o s.samples a/00000.tar"), 0, 'samples') or diag $said;
my $train = "$bin/distill-train --student student.json --tokenizer $vocab --batch 4 --seed 3 --loss clip --progress never --lr 2e-3 --warmup 2 --data 'cat s.samples'";
sub rates { return join ' ', map { sprintf '%.4g', decode_json($_)->{lr} } grep { /"lr"/ } split /\n/, slurp("$_[0]/log.jsonl"); }
sub model { return slurp("$_[0]/open_clip_model.safetensors"); }

is(run("$train --steps 6 --schedule const -o const"), 0, 'a constant rate') or diag $said;
is(rates('const'), '0.001 0.002 0.002 0.002 0.002 0.002', '... after the warm-up');
like($said, qr/2 of them warm-up, then a constant rate/, '... is said');
is(run("$train --steps 8 --schedule cooldown --cooldown 4 --lr-end 1e-3 -o whole"), 0, 'a cooldown') or diag $said;
is(rates('whole'), '0.001 0.002 0.002 0.002 0.002 0.00175 0.0015 0.00125', '... falls in its last steps');
like($said, qr/the last 4 a cooldown to 0\.001/, '... is said');
is(run("$train --steps 8 --schedule cooldown --cooldown 4 --cooldown-power 2 -o curved"), 0, '... in a curve') or diag $said;
is(rates('curved'), '0.001 0.002 0.002 0.002 0.002 0.001125 0.0005 0.000125', '... of this power');

is(run("$train --steps 4 --schedule const -o branch"), 0, 'a constant run') or diag $said;
is(run("$train --steps 8 --schedule cooldown --cooldown 4 --lr-end 1e-3 -o branch --resume"), 1, 'another schedule');
like($said, qr/--(steps|schedule|cooldown|lr-end) .*--extend/, '... is refused without --extend');
is(run("$train --steps 8 --schedule cooldown --cooldown 4 --lr-end 1e-3 -o branch --extend"), 0, '... and goes on with it') or diag $said;
ok(model('branch') eq model('whole'), 'a cooldown branched from it is the one that was planned from the start, to the byte');

is(run("$train --steps 6 -o a --eps 1e-8 --beta1 0.8 --beta2 0.95"), 0, 'other constants of AdamW') or diag $said;
is(run("$train --steps 6 -o b"), 0, 'the usual ones') or diag $said;
ok(model('a') ne model('b'), '... make another model');
is(run("$train --steps 6 -o a --resume --beta1 0.8 --beta2 0.95"), 1, '... and are held against the checkpoint');
like($said, qr/--eps 1e-08, now it is 1e-06/, '... by name');

for (['--schedule cooldown', 'needs --cooldown'], ['--cooldown 2', 'needs --schedule cooldown'], ['--cooldown-power 2', 'needs --schedule cooldown'],
     ['--schedule const --lr-end 1e-4', '--lr-end has no meaning'], ['--lr-end 1', 'above --lr']) {
    is(run("$train --steps 6 -o wrong $_->[0]"), 2, "wrong usage: $_->[0]");
    like($said, qr/\Q$_->[1]/, '... says what');
}
is(run("$train --steps 6 -o wrong --schedule cooldown --cooldown 7"), 1, 'a cooldown longer than the run');
like($said, qr/--cooldown 7 is longer than the run of 6 steps/, '... is refused');
ok(!-e 'wrong', 'no folder');
done_testing();
