#!/usr/bin/env perl
# distill-train's output folder: never used twice by mistake, one owner at a time, checkpoints of this run only; what a run has
# learned is saved before it fails; stopped runs say where they go on; parts of a run are counted together.
use strict;
use warnings;
use lib 'tests/lib';
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Test::More;
use Train;

shard('a/00000.tar', 40, 'a');
is(run("$bin/shard-read -q --size 29 -o s.samples a/00000.tar"), 0, 'samples') or diag $said;
my $base = "$bin/distill-train --student student.json --tokenizer $vocab --batch 4 --seed 3 --loss clip --progress never";
my $train = "$base -q --checkpoint-every 2 --data 'cat s.samples'";
sub checkpoints { return join ' ', map { s/.*\///r } sort glob "$_[0]/checkpoints/*step-*"; }
sub model { return slurp("$_[0]/open_clip_model.safetensors"); }

# A folder that was used.
is(run("$train --steps 6 -o a"), 0, 'a run') or diag $said;
is(checkpoints('a'), 'step-00000004 step-00000006', 'its newest two checkpoints');
my $model = model('a');
is(run("$train --steps 4 --seed 5 -o a"), 1, 'another one in its folder');
like($said, qr/checkpoints up to step 6 and a model.*--resume.*--overwrite.*-o/, '... is refused, with the ways out');
ok(model('a') eq $model && checkpoints('a') eq 'step-00000004 step-00000006', '... and changes nothing');
is(run("$train --steps 4 -o a --dry-run"), 1, '... before it starts, too');
is(run("$train --steps 4 --seed 5 -o a --overwrite --resume"), 2, 'both ways at once');
is(run("$train --steps 4 --seed 5 -o a --overwrite --student none.json"), 1, 'a mistake with --overwrite');
ok(model('a') eq $model, '... removes nothing');
spew('a/notes.txt', 'mine');
spew('a/checkpoints/notes.txt', 'mine too');
is(run("$train --steps 3 --seed 5 -o a --overwrite"), 0, '--overwrite') or diag $said;
is(checkpoints('a'), 'step-00000002 step-00000003', '... has the checkpoints of the new run only');
is(steps('a'), '1 2 3', '... and its log');
ok(model('a') ne $model && slurp('a/notes.txt') eq 'mine' && slurp('a/checkpoints/notes.txt') eq 'mine too', '... and leaves what it did not make');
is(run("$base -q --steps 2 --checkpoint-every 0 -o plain s.samples"), 0, 'a run without checkpoints') or diag $said;
is(run("$base -q --steps 2 --checkpoint-every 0 -o plain s.samples"), 1, '... again');
like($said, qr/holds a model.*--overwrite/, '... is refused');
is(run("$base --steps 2 --checkpoint-every 0 -o plain --resume s.samples"), 0, '... with --resume it is finished') or diag $said;
like($said, qr/'plain' is finished: 2 steps, 8 samples/, '... and says so');
is(run("$base --steps 2 --checkpoint-every 0 -o plain --resume --lr 1 s.samples"), 1, '... with other options it is not');
like($said, qr/--lr/, '... which it names');
make_path('given');
copy($_, 'given') for glob "$data/models/tiny/*";
is(run("$train --steps 2 -o given"), 1, 'a folder with a model of another origin');
like($said, qr/did not make.*another -o/, '... is refused');
unlike($said, qr/--overwrite/, '... and --overwrite, which would not help, is not offered');
is(run("$train --steps 2 -o given --overwrite"), 1, 'a model that no run made');
like($said, qr/not made by distill-train/, '... is not overwritten');
is(run("$train --steps 2 -o new/deep"), 1, 'a folder that cannot be made');
is(run("$train --steps 2 -o fresh --lr 1 --init none"), 1, 'a run that fails before its first step');
ok(!-e 'fresh', '... leaves no folder');

# A checkpoint of another run is never taken for one of this.
is(run("$train --steps 2 -o alien --seed 7"), 0, 'another run') or diag $said;
my $put = 'mkdir -p b/checkpoints; cp -r alien/checkpoints/step-00000002 b/checkpoints/step-00000004; cat s.samples';
is(run("$base -q --checkpoint-every 2 --steps 6 -o b --data 'sh -c \"$put\"'"), 0, 'a run, and a checkpoint that comes from elsewhere') or diag $said;
ok(slurp('b/checkpoints/step-00000004/state.json') ne slurp('alien/checkpoints/step-00000002/state.json'), '... its checkpoint has replaced the other');
is(decode_json(slurp('b/checkpoints/step-00000004/state.json'))->{step}, 4, '... with its own');

# One owner.
sub slow { my ($out, $more) = @_; return start("$base --checkpoint-every 1 --steps 100000 -o $out $more --data 'sh -c \"cat s.samples; sleep 0.1\"'", "said.$out"); }
my $pid = slow('c', '');
ok(wait_for(sub { checkpoints('c') ne '' }), 'a run is at work');
my $lock = slurp('c/.lock');
like($lock, qr/^tool distill-train\nhost \S+\npid $pid\nstart \d+\n/, 'its lock says who it is');
is(run("$train --steps 6 -o c --resume"), 1, 'a second one');
like($said, qr/in use by distill-train, process $pid /, '... is refused and told who is there');
kill 'KILL', $pid;
waitpid $pid, 0;
ok(-e 'c/.lock', 'kill -9 leaves the lock');
is(run("$train --steps 200 -o c --extend --resume --data 'cat s.samples'"), 0, '... and the next run takes over') or diag $said;
ok(!-e 'c/.lock', '... and gives it back');
spew('c/.lock', "tool distill-train\nhost elsewhere.example\npid 4711\nstart 815\nboot x\nsince 2026-01-01T00:00:00Z\n");
is(run("$train --steps 200 -o c --resume"), 1, 'the lock of another host');
like($said, qr/elsewhere\.example.*4711.*815.*remove 'c\/\.lock'/, '... is refused with what to do');
ok(-e 'c/.lock', '... and stays');
unlink 'c/.lock';

# What is half made: of a process that is gone it goes, of one that is there it stays.
my $host = qx(uname -n) =~ s/\n//r;
make_path(map { "a/checkpoints/$_" } ".step-00000009.$host.$$.tmp", ".step-00000009.$host.99999999.tmp", '.step-00000009.elsewhere.example.1.tmp', '.step-00000009.77.tmp');
is(run("$train --steps 3 --seed 5 -o a --resume"), 0, 'a finished run again') or diag $said;
is(join(' ', map { s/.*\///r } glob 'a/checkpoints/.step*'), ".step-00000009.elsewhere.example.1.tmp .step-00000009.$host.$$.tmp", 'removes what nobody is making');
remove_tree(glob 'a/checkpoints/.step*');
done_testing;
