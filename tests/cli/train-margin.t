#!/usr/bin/env perl
# distill-train --loss margin: labels without centroids, a batch in pieces, resumed and over ranks to the same bytes, what is refused.
use strict;
use warnings;
use lib 'tests/lib';
use Mpi;
use Train;
use Test::More;

shard('a/00000.tar', 24, 'm');
embed('a', 'a/00000.tar');
clusters('a', '--top 2');
is(run("$bin/shard-read -q --size 29 a/00000.tar > s.samples"), 0, 'samples') or diag $said;
my $train = "$bin/distill-train -q --student student.json --tokenizer $vocab --batch 8 --lr 1e-3 --warmup 0 --data 'cat s.samples'";
my $with = "$train --loss clip,margin=2 --labels labels-a";
is(run("$with --steps 6 -o one"), 0, 'labels alone, no centroids') or diag $said;
my @log = log_lines('one/log.jsonl');
my $off = grep { abs($_->{loss} - $_->{clip} - 2 * $_->{margin}) > 1e-9 * $_->{loss} || $_->{margin} <= 0 || $_->{margin} >= 2 } @log;
is(scalar(@log) . " $off", '6 0', 'the sum of the two terms, step by step');
is(run("$train --loss clip --steps 6 -o clip"), 0, 'without it') or diag $said;
isnt(slurp('one/open_clip_model.safetensors'), slurp('clip/open_clip_model.safetensors'), 'it does something');
ok(length slurp('one/open_clip_model.safetensors') > 1000, '... to a model');

is(run("$with --steps 6 --accumulate 4 -o four"), 0, 'in four pieces') or diag $said;
my @four = log_lines('four/log.jsonl');
is(scalar(grep { abs($log[$_]{margin} - $four[$_]{margin}) > 1e-4 } 0 .. 5), 0, '... the same values but for rounding');
is(run("$with --steps 6 --accumulate 4 --checkpoint-every 3 --keep-checkpoints all -o again"), 0, 'with checkpoints') or diag $said;
is(run("$with --steps 6 --accumulate 4 --checkpoint-every 3 --keep-checkpoints all --resume-from 3 -o again"), 0, '... and from its middle') or diag $said;
is(slurp('again/open_clip_model.safetensors'), slurp('four/open_clip_model.safetensors'), '... to the same bytes');
SKIP: {
    skip 'no mpirun or no mpicc', 4 if system('command -v mpirun >/dev/null && command -v mpicc >/dev/null');
    my $plugin = "$bin/../plugins/comm-mpi.c";
    $plugin = "$data/../../plugins/comm-mpi.c" if !-e $plugin;
    is(system("mpicc -std=c11 -O2 -fPIC -shared -I$data/../../lib -o comm-mpi.so $plugin"), 0, 'the plug-in');
    is(run("timeout 60 mpirun -q -n 2 $with --steps 6 --accumulate 4 --comm ./comm-mpi.so -o ranks"), 0, 'two ranks') or diag $said;
    is(slurp('ranks/open_clip_model.safetensors'), slurp('four/open_clip_model.safetensors'), '... the same bytes');
    is(join("\n", map { $_->{margin} } log_lines('ranks/log.jsonl')), join("\n", map { $_->{margin} } @four), '... the same values');
}
is(run("$train --loss clip,margin --steps 6 -o no"), 2, 'without labels');
like($said, qr/the losses need --labels DIR/, '... is refused');
clusters('b', '--seed 9', 'image-a');
is(run("$with --steps 6 --accumulate 4 --checkpoint-every 3 --keep-checkpoints all --resume-from 3 --labels labels-b -o again"), 1, 'resumed with other labels');
like($said, qr/--resume: .*labels/, '... is refused');
is(run("$with --dry-run --steps 6 -o dry"), 0, 'a dry run') or diag $said;
done_testing();
