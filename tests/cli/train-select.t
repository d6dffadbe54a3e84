#!/usr/bin/env perl
# distill-train --select: of more samples than a batch has those that the teacher knows and the student does not; 0 changes nothing;
# resumed and with other threads to the same bytes; what is refused.
use strict;
use warnings;
use lib 'tests/lib';
use Mpi;
use Test::More;
use Train;

shard('a/00000.tar', 40, 'm');
embed('a', 'a/00000.tar');
is(run("$bin/shard-read -q --size 29 a/00000.tar > s.samples"), 0, 'samples') or diag $said;
my $train = "$bin/distill-train --student student.json --tokenizer $vocab --batch 8 --lr 1e-3 --warmup 0 --data 'cat s.samples' --loss clip,instance --teacher-image image-a --teacher-text text-a";
my $model = 'open_clip_model.safetensors';
is(run("$train -q --steps 5 -o plain"), 0, 'as ever') or diag $said;
is(run("$train -q --steps 5 --select 0 -o zero"), 0, '--select 0') or diag $said;
ok(slurp("plain/$model") eq slurp("zero/$model"), '... is the same to the bit');
ok(!grep({ exists $_->{chosen_from} } log_lines('zero/log.jsonl')), '... in the log too');

my $half = "$train --select 0.5 --select-blocks 4";
is(run("$half --epochs 4 -o half"), 0, 'half of what is read') or diag $said;
like($said, qr/schedule: 4 epochs of 40 samples: 10 steps of 8 samples chosen from 16/, '... which is told, and makes fewer steps') or diag $said;
my @log = log_lines('half/log.jsonl');
is(scalar(grep { $_->{chosen_from} == 16 } @log), 10, 'the log says from how many');
my ($all, $chosen) = (0, 0);
$all += $_->{score_all}, $chosen += $_->{score_chosen} for @log;
cmp_ok($chosen, '>', $all, '... and that the chosen are more learnable');
is($log[9]{samples}, 80, '... and how many were trained on');
isnt(slurp("half/$model"), slurp("plain/$model"), 'another model');
my @losses = map { $_->{loss} } @log;
is(run("$half -q -t 3 --epochs 4 -o threads"), 0, 'three threads') or diag $said;
ok(slurp("threads/$model") eq slurp("half/$model"), '... the same bytes');
is(run("$half -q --epochs 4 --accumulate 4 --checkpoint-every 4 --keep-checkpoints all -o four"), 0, 'in four pieces') or diag $said;
my @four = log_lines('four/log.jsonl');
is(scalar(grep { abs($four[$_]{loss} - $losses[$_]) > 1e-3 } 0 .. 9), 0, '... the same losses but for rounding');
my $four = slurp("four/$model");
is(run("$half -q --epochs 4 --accumulate 4 --checkpoint-every 4 --keep-checkpoints all --resume-from 4 -o four"), 0, '... resumed') or diag $said;
ok(slurp("four/$model") eq $four, '... to the same bytes');
is(run("$half -q --epochs 4 --accumulate 4 --checkpoint-every 4 --keep-checkpoints all --resume-from 4 --select 0.25 -o four"), 1, 'resumed with another share');
like($said, qr/--resume: .*select/, '... is refused');
is(run("$half -q --steps 4 --patch-dropout 0.5 --accumulate 2 --val-data 'cat s.samples' --eval-every 2 -o more"), 0, 'with patch dropout and held-out samples') or diag $said;
is(run("$half --dry-run --epochs 4"), 0, 'a dry run') or diag $said;
like($said, qr/10 steps of 8 samples chosen from 16/, '... says so');

my $alone = $train =~ s/--loss.*/--loss clip/r;
for my $case (
    ["$alone --select 0.5", 2, qr/the losses need --teacher-image/, 'no teacher'],
    ["$train --select 0.5 --towers image --teacher a --loss feature", 2, qr/no --towers/, 'one tower'],
    ["$train --select-blocks 4", 2, qr/--select-blocks goes with --select/, 'blocks of nothing'],
    ["$train --select 0.5 --select-blocks 9", 2, qr/more than --batch 8/, 'more blocks than samples'],
    ["$train --select 1", 2, qr/--select/, 'all of it'],
    ["$train --select 0.5 --accumulate 2 --data 'cat s.samples; : {part} {parts}'", 1, qr/\{part\} and --select do not go together/, 'parts'],
) {
    my ($how, $status, $why, $what) = @$case;
    is(run("$how --steps 5 -o no"), $status, $what);
    like($said, $why, '... is refused') or diag $said;
}
SKIP: {
    skip 'no mpirun or no mpicc', 3 if system('command -v mpirun >/dev/null && command -v mpicc >/dev/null');
    is(system("mpicc -std=c11 -O2 -fPIC -shared -I$data/../../lib -o comm-mpi.so $data/../../plugins/comm-mpi.c"), 0, 'the plug-in');
    is(run("timeout 60 mpirun -q -n 2 $half --steps 5 --accumulate 2 --comm ./comm-mpi.so -o ranks"), 1, 'two ranks');
    like($said, qr/--select is for one rank, not for 2/, '... are refused') or diag $said;
}
done_testing();
