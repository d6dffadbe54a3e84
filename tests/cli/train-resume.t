#!/usr/bin/env perl
# distill-train stopped, failed and resumed: nothing that was learned is lost, the last line says why and where it goes on, the
# resumed run sees its own samples only, and its parts are counted together.
use strict;
use warnings;
use lib 'tests/lib';
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Test::More;
$SIG{$_} = 'DEFAULT' for qw(HUP INT TERM USR2); # ignored under nohup, which a test of signals cannot use
use Train;

shard('a/00000.tar', 40, 'a');
shard('a/00001.tar', 40, 'b');
shard('o/00000.tar', 40, 'c');
is(run("$bin/shard-read -q --size 29 -o s.samples a/00000.tar"), 0, 'samples') or diag $said;
my $base = "$bin/distill-train --student student.json --tokenizer $vocab --batch 4 --seed 3 --progress never";
my $clip = "$base --loss clip";
sub checkpoints { return join ' ', map { s/.*\///r } sort glob "$_[0]/checkpoints/*step-*"; }
sub state { my ($dir) = @_; my ($c) = (sort glob "$dir/checkpoints/step-*")[-1]; return decode_json(slurp("$c/state.json")); }
sub model { return slurp("$_[0]/open_clip_model.safetensors"); }

# The data command fails: saved, then the reason, last. The run goes on from there to the same bytes.
is(run("$clip --steps 25 -o straight --data 'cat s.samples'"), 0, 'a straight run') or diag $said;
is(run("$clip --steps 25 -o f --data 'sh -c \"cat s.samples; exit 3\"'"), 1, 'a data command that fails');
like(said_last(), qr/^distill-train: data of epoch 0: the data command ended with status 3/, '... is the last line');
is(checkpoints('f'), 'step-00000010', '... after a checkpoint');
like($said, qr/--resume goes on after step 10, from 'f\/checkpoints\/step-00000010'/, '... which is told');
is(run("$clip --steps 25 -o f --data 'cat s.samples' --resume"), 0, 'it goes on') or diag $said;
like($said, qr/going on after step 10 of 25/, '... and says from where');
ok(model('f') eq model('straight'), '... to the same bytes');
is(run("$clip --steps 25 -o cut --data 'sh -c \"head -c 60000 s.samples\"'"), 1, 'a stream that is cut off');
like(said_last(), qr/truncated/, '... is named');
like(checkpoints('cut'), qr/step-0000000\d/, '... after a checkpoint');
is(run("$clip --steps 25 -o cut2 --data 'sh -c \"head -c 60000 s.samples; exit 7\"'"), 1, 'by a command that failed');
like(said_last(), qr/status 7/, '... says how it ended');
is(run("$clip --steps 5 -o none --data 'sh -c \"exit 3\"'"), 1, 'one that fails at once');
like(said_last(), qr/status 3/, '... is the last line');
ok(!-e 'none', '... and leaves nothing');

# --dtype auto keeps the type of the checkpoint, whatever this processor would take.
for my $type ('f32', `$bin/teacher-embed --version` =~ /\bbf16\b/ ? 'bf16' : ()) {
    is(run("$clip --dtype $type --steps 8 -o type-$type --data 'cat s.samples'"), 0, "a run in $type") or diag $said;
    is(run("$clip --dtype auto --steps 12 -o type-$type --extend --data 'cat s.samples'"), 0, '... goes on') or diag $said;
    like($said, qr/--dtype auto: $type, as before/, '... in the same type');
}

# A teacher's file is missing; the log cannot be written.
embed('t', 'a/00000.tar');
embed('t', 'a/00001.tar');
unlink glob 'image-t/00001.npy*';
is(run("$base --loss instance=1 --teacher-image image-t --teacher-text text-t --steps 30 -o g --data '$bin/shard-read -q --size 29 a/00000.tar a/00001.tar'"), 1, 'a teacher file is missing');
like(said_last(), qr/image-t\/00001\.npy/, '... is named last');
is(checkpoints('g'), 'step-00000010', '... after a checkpoint');
is(run("$clip --steps 25 -o h --data 'cat s.samples' --log /dev/full"), 1, 'a log that is full');
like(said_last(), qr/'\/dev\/full': No space left/, '... is named last');
is(checkpoints('h'), 'step-00000001', '... after a checkpoint');
is(run("$clip --steps 25 -o h --data 'cat s.samples' --resume"), 0, '... from which it goes on') or diag $said;
ok(model('h') eq model('straight'), '... to the same bytes');

# A disk without room for checkpoints (files over 16 kB cannot be written): training goes on, and tries again.
SKIP: {
    skip 'no prlimit', 5 if system('prlimit --version >/dev/null 2>&1');
    my $pid = start("bash -c 'trap \"\" XFSZ; ulimit -S -f 16; exec $clip --checkpoint-every 5 --steps 100000 -o full --data \"sh -c \\\"cat s.samples; sleep 0.05\\\"\"'", 'said.full');
    ok(wait_for(sub { slurp('said.full') =~ /no checkpoint after step 5, training goes on: .*File too large/ }), 'a checkpoint that cannot be written');
    is(join(' ', map { s/.*\///r } glob('full/checkpoints/*step-00000005* full/checkpoints/.step-00000005*')), '', '... leaves nothing');
    system("prlimit --pid $pid --fsize=unlimited");
    ok(wait_for(sub { checkpoints('full') ne '' }), '... and the next one is, when there is room');
    kill 'TERM', $pid;
    waitpid $pid, 0;
    is($? & 127, 15, '... and the run can be stopped');
    like((split /\n/, slurp('said.full'))[-1], qr/stopped by SIGTERM; --resume goes on after step \d+/, '... with its last line');
}
is(run("trap '' XFSZ; ulimit -f 16; $clip --checkpoint-every 5 --steps 12 -o full2 --data 'cat s.samples'"), 1, 'a disk that stays full');
like(said_last(), qr/File too large/, '... fails at the end');
is(join(' ', map { s/.*\///r } glob('full2/*.safetensors full2/checkpoints/* full2/checkpoints/.step*')), '', '... with nothing half written');

# Signals: saved, and the last line says where it goes on, quiet or not. The command does not outlive its reader.
my $slow = "--steps 100000 --data 'sh -c \"cat s.samples; sleep 0.1\"'";
sub running { my ($out) = @_; return -s "$out/log.jsonl" && slurp("$out/log.jsonl") =~ /\n.*\n/; }
for my $sig (qw(TERM INT HUP USR2 TWICE)) {
    my $pid = start("$clip -q -o s$sig $slow", "said.$sig");
    ok(wait_for(sub { running("s$sig") }), "SIG$sig: running");
    # A batch system sends SIGTERM twice at a time limit.
    my @send = $sig eq 'TWICE' ? ('TERM', 'TERM') : ($sig);
    kill $_, $pid or die for @send;
    waitpid $pid, 0;
    is($? & 127, { TERM => 15, INT => 2, HUP => 1, USR2 => 12 }->{$send[0]}, '... dies of it');
    my $step = state("s$sig")->{step};
    is(slurp("said.$sig"), "distill-train: stopped by SIG$send[0]; --resume goes on after step $step, from '" . (sort glob "s$sig/checkpoints/step-*")[-1] . "'\n", '... and says where it goes on');
    ok(!-e "s$sig/.lock", '... and gives the folder back');
}
# Before the first sample has come the first signal ends the run, and the second does so at once: the command goes as well.
for my $times (1, 2) {
    unlink 'child';
    my $pid = start("$clip -q -o early$times --steps 9 --data 'sh -c \"echo \\\$\\\$ >child; sleep 1000\"'", 'said.early');
    ok(wait_for(sub { slurp('child') =~ /\n/ }), 'a command that writes nothing');
    my ($child) = slurp('child') =~ /(\d+)/;
    kill 'TERM', $pid for 1 .. $times;
    waitpid $pid, 0;
    is($? & 127, 15, "... $times of SIGTERM end it");
    is(slurp('said.early'), "distill-train: stopped by SIGTERM before the first step\n", '... in peace') if $times == 1;
    ok(wait_for(sub { !alive($child) }), '... and the command');
    ok(!-e "early$times/.lock", '... and the lock is gone');
}
my $pid = start("nohup $clip -q -o nohup --steps 40 --data 'sh -c \"cat s.samples; sleep 0.2\"' >/dev/null", 'said.nohup');
ok(wait_for(sub { running('nohup') }), 'nohup: running');
kill 'HUP', $pid;
waitpid $pid, 0;
is($?, 0, '... is not stopped by SIGHUP');

# A signal to all processes at once ends the command too: that is no failure of the data.
unlink 'child';
$pid = start("$clip -q -o group --steps 100000 --data 'sh -c \"echo \\\$\\\$ >child; while cat s.samples; do :; done\"'", 'said.group');
ok(wait_for(sub { running('group') && slurp('child') =~ /\d\n/ }), 'a signal to all processes');
kill 'TERM', slurp('child') =~ /(\d+)/, $pid;
waitpid $pid, 0;
is($? & 127, 15, '... stops the run');
like(slurp('said.group'), qr/^distill-train: stopped by SIGTERM; .*\n\z/, '... in peace');

# What the command started ends with it, when it does not want to and when its reader is killed.
for my $sig (qw(TERM KILL)) {
    unlink 'child';
    $pid = start("$clip -q -o stubborn$sig --steps 100000 --data 'sh -c \"echo \\\$\\\$ >child; " . ($sig eq 'TERM' ? 'trap : TERM; cat s.samples; while :; do sleep 0.1; done' : 'while cat s.samples; do :; done') . "\"'", 'said');
    ok(wait_for(sub { running("stubborn$sig") }), "a command of its own will, SIG$sig to its reader");
    my ($child) = slurp('child') =~ /(\d+)/;
    ok($child && alive($child), '... is there');
    kill $sig, $pid;
    waitpid $pid, 0;
    ok(wait_for(sub { !alive($child) }), '... and is gone');
}

# A damaged checkpoint: the one before it is taken. Names of any width are found.
my $every = "$clip -q --checkpoint-every 5 --data 'cat s.samples'";
is(run("$every --steps 25 -o d"), 0, 'a run with checkpoints') or diag $said;
sub fresh { remove_tree('e'); system('cp', '-r', 'd', 'e'); unlink 'e/open_clip_model.safetensors', 'e/open_clip_config.json'; }
for my $file ('optimizer.safetensors', 'open_clip_model.safetensors', 'state.json', 'open_clip_config.json') {
    fresh();
    my $at = "e/checkpoints/step-00000025/$file";
    my $bytes = slurp($at);
    my $i = $file eq 'state.json' ? index($bytes, '"samples": 1') + 11 : length($bytes) - 9;
    substr($bytes, $i, 1) = chr(ord(substr $bytes, $i, 1) ^ 1);
    spew($at, $bytes);
    is(run("$every --steps 25 -o e --resume" =~ s/ -q / /r), 0, "$file is damaged") or diag $said;
    like($said, qr/checkpoint 'e\/checkpoints\/step-00000025' is damaged.*going on after step 20/s, '... which is told');
    ok(model('e') eq model('d') && -d 'e/checkpoints/damaged-step-00000025', '... and the run ends with the same bytes');
}
fresh();
unlink "e/checkpoints/$_/optimizer.safetensors" for 'step-00000020', 'step-00000025';
is(run("$every --steps 25 -o e --resume"), 1, 'no checkpoint is whole');
like($said, qr/no checkpoint in 'e' is whole.*--overwrite/, '... is refused');
is(checkpoints('e'), 'step-00000020 step-00000025', '... and nothing renamed');
fresh();
rename 'e/checkpoints/step-00000025', 'e/checkpoints/step-25';
is(run("$every --steps 25 -o e --resume" =~ s/ -q / /r), 0, 'a name without zeros') or diag $said;
like($said, qr/'e' is finished: 25 steps, 100 samples/, '... is found');
ok(model('e') eq model('d'), '... and exported');

# {skip}: the resumed run's data are compared as well, and read once only.
my $read = "$bin/shard-read -q --size 29 --shuffle 16 --seed {seed} --epoch {epoch}";
sub skipping { my ($out, $more, $shards) = @_; return run("$clip -o $out --steps 18 --checkpoint-every 7 --data '$read $more --skip {skip} $shards'"); }
my $both = 'a/00000.tar a/00001.tar';
is(skipping('k', '', $both), 0, 'a run with {skip}') or diag $said;
for my $case (['its own samples', '', $both, 0], ['other shards', '', 'o/00000.tar a/00001.tar', 1], ['another order', '--shuffle 4', $both, 1], ['fewer', '', 'a/00000.tar', 1]) {
    my ($what, $more, $shards, $rc) = @$case;
    remove_tree('k2');
    system('cp', '-r', 'k', 'k2');
    remove_tree(glob('k2/checkpoints/step-00000018'), 'k2/checkpoints/finished.json');
    is(run("$clip -o k2 --resume --steps 18 --checkpoint-every 7 --data '$read $more --skip {skip} $shards'"), $rc, "taken up with $what") or diag $said;
    like(said_last(), qr/not those that the checkpoint was made with|has \d+ samples, the checkpoint was made after/, '... is refused') if $rc;
    ok(model('k2') eq model('k'), '... gives the same bytes') if !$rc;
}
is(run("$clip -o k3 --steps 18 --checkpoint-every 7 --data 'sh -c \"$read --skip {skip} $both\"'"), 0, 'the same inside double quotes') or diag $said;
ok(model('k3') eq model('k'), '... gives the same bytes');
spew('all', "exec $read $both >all.samples" =~ s/\{seed\}/3/r =~ s/\{epoch\}/0/r);
is(run('bash all'), 0, 'one epoch') or diag $said;
is(run("$clip -o q --steps 7 --data 'bash -c '\\''cat all.samples; : {skip}'\\'"), 0, '{skip} where it is not put in') or diag $said;
is(run("$clip -o q --steps 14 --extend --data 'bash -c '\\''cat all.samples; : {skip}'\\'"), 0, '... is dropped by the trainer') or diag $said;
is(run("$clip -o q2 --steps 14 --data 'cat all.samples'"), 0, 'the same samples') or diag $said;
is(state('q')->{keys}, state('q2')->{keys}, '... were read');

# Parts are counted together.
my @lines = log_lines('h/log.jsonl');
is(join(' ', map { $_->{part} } @lines), join(' ', (2) x 24), 'lines say their part');
@lines = log_lines('f/log.jsonl');
is(join(' ', map { $_->{part} } @lines), join(' ', (1) x 10, (2) x 15), '... of several');
ok(!(grep { $lines[$_]{seconds} < $lines[$_ - 1]{seconds} } 1 .. $#lines), '... and the seconds of all');
remove_tree(glob 'f/checkpoints/step-*');
is(run("$clip --steps 25 -o f --resume --data 'cat s.samples'"), 0, 'a finished run without checkpoints') or diag $said;
like($said, qr/'f' is finished: 25 steps, 100 samples, [\d.]+ s in all/, '... is finished');
unlike($said, qr{/s,}, '... and has no rate of its own');
is(run("$clip --steps 25 -o straight --resume --data 'cat s.samples'"), 0, 'a finished run') or diag $said;
like($said, qr/'straight' is finished.*--extend/, '... says so, and how it is trained on');
is(run("$clip --steps 40 -o straight --resume --data 'cat s.samples'"), 1, 'another length');
like($said, qr/--steps.*25.*40.*--extend/, '... is refused, with the way');
is(run("$clip --steps 40 -o straight --extend --data 'cat s.samples'"), 0, '--extend') or diag $said;
like($said, qr/40 steps, 160 samples in 2 parts/, '... trains on');
is(steps('straight'), join(' ', 1 .. 40), '... with one log');
my %spent = (time => decode_json(slurp('straight/checkpoints/step-00000040/time.json')), log => (log_lines('straight/log.jsonl'))[-1]);
ok($spent{time}{seconds} >= $spent{log}{seconds} && $spent{time}{parts} == 2, '... and one clock');
done_testing;
