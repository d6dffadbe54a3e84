#!/usr/bin/env perl
# distill-train where a step goes wrong: a loss above --spike times its mean or one that is not finite; its samples are in a file;
# stopped, skipped, or rewound to the last checkpoint and on with other samples, as exactly as any run; the limit of logit_scale.
use strict;
use warnings;
use lib 'tests/lib';
use JSON::PP;
use List::Util qw(max);
use Test::More;
use Train;
$SIG{$_} = 'DEFAULT' for qw(HUP INT TERM USR2);

my ($batch, $steps) = (4, 30);
shard('a/00000.tar', 80, 'a');
shard('a/00001.tar', 48, 'b');
my $read = "$bin/shard-read -q --size 29 a/00000.tar a/00001.tar";
is(run("$read -o s.samples"), 0, 'samples') or diag $said;
is(run("$bin/distill-train --student student.json --tokenizer $vocab --batch 16 --loss clip --progress never --lr 1e-2 --steps 56 --data 'cat s.samples' -o start"), 0, 'a start') or diag $said;
my $common = "--init start --tokenizer $vocab --batch $batch --seed 3 --loss clip --progress never --lr 2e-3 --warmup 1 --steps $steps";
my $train = "$bin/distill-train $common --data 'cat s.samples'";
sub model { return slurp("$_[0]/open_clip_model.safetensors"); }
sub step { return sprintf '%s/checkpoints/step-%08d', @_; }
sub made { my ($dir) = @_; return join "\0", map { /time\.json$|log\.jsonl$|finished\.json$/ ? () : s{^\Q$dir\E/}{}r . "\n" . slurp($_) } sort split /\n/, `find $dir -type f`; }
sub decided { return join "\n", map { delete @$_{qw(samples_per_second data_wait memory part seconds)}; JSON::PP->new->canonical->encode($_) } log_lines("$_[0]/log.jsonl"); }

my $keep = '--checkpoint-every 5 --keep-checkpoints all';
is(run("$train $keep -o plain"), 0, 'a run as it is') or diag $said;
unlike(slurp(step('plain', 15) . '/state.json'), qr/mean_loss|spike|scale-max/, '... keeps no mean');

# The step whose loss is the highest beside the mean of those before it, from the eleventh on.
my @loss = (undef, map { $_->{loss} } log_lines('plain/log.jsonl'));
my ($mean, %ratio) = (0);
for my $n (1 .. $steps) { $ratio{$n} = $loss[$n] / $mean if $n > 10; $mean += ($loss[$n] - $mean) / $n; }
# ... steps are lost by going back where it is no multiple of 5.
my ($bad) = sort { $ratio{$b} <=> $ratio{$a} } keys %ratio;
my (undef, $second) = sort { $b <=> $a } values %ratio;
my $times = ($ratio{$bad} + max(1, $second)) / 2;

cmp_ok($ratio{$bad}, '>', $times, "step $bad has $ratio{$bad} times the mean loss") or BAIL_OUT('no step to take');
my $last = 5 * int(($bad - 1) / 5);
my @keys = map { my $i = ($bad - 1) * $batch + $_; $i < 80 ? "00000.tar\t$i\ta$i" : sprintf "00001.tar\t%d\tb%d", $i - 80, $i - 80 } 0 .. $batch - 1;

# ---- stop
is(run("$train $keep --spike $times -o stop"), 1, 'a loss that jumps stops the run');
like($said, qr/step $bad: the loss [\d.]+ is [\d.]+ times its mean [\d.]+; last good checkpoint: stop\/checkpoints\/step-0*$last$/m, '... with the last good checkpoint');
my $file = sprintf 'spikes/step-%08d.tsv', $bad;
like($said, qr{its samples are in 'stop/\Q$file\E'}, '... and the file of its samples');
my ($head, @rows) = split /\n/, slurp("stop/$file");
like($head, qr/^# step $bad, loss \Q${\sprintf '%.17g', $loss[$bad]}\E, gradient norm nan, mean loss \d\.\d+$/i, '... that says what it was');
is(join("\n", @rows), join("\n", "shard\tordinal\tkey", @keys), '... and has them all');
is(join(' ', map { $_->{loss} } log_lines('stop/log.jsonl')), join(' ', @loss[1 .. $bad - 1]), '... up to there it is the same run');
is(run("$train $keep --spike 1e9 -o never"), 0, 'a loss that never jumps so far') or diag $said;
ok(model('never') eq model('plain') && !-e 'never/spikes', '... changes nothing');

# ---- skip
is(run("$train --checkpoint-every 1 --keep-checkpoints all --spike $times --on-spike skip -o skip"), 0, 'skipped') or diag $said;
my @skip = log_lines('skip/log.jsonl');
ok($skip[$bad - 1]{skipped} && $skip[$bad - 1]{loss} == $loss[$bad], '... which the log says');
ok(model(step('skip', $bad)) eq model(step('skip', $bad - 1)), '... the weights stay');
is(decode_json(slurp(step('skip', $bad) . '/state.json'))->{optimizer_step}, $bad - 1, '... and the optimiser');
ok(slurp("skip/$file") eq slurp("stop/$file"), '... the same file');
like($said, qr/warning: 1 steps? went wrong and were skipped/, '... and the end counts it') or diag $said;
system("cp -r skip again; rm -r again/checkpoints/step-0000003* again/checkpoints/step-0000002*");
is(run("$train --checkpoint-every 1 --keep-checkpoints all --spike $times --on-spike skip -o again --resume"), 0, '... gone on from step 19') or diag $said;
ok(made('again') eq made('skip'), '... to the same bytes');
is(run("$train --spike $times -o again --resume"), 1, 'another way with it');
like($said, qr/was made with --on-spike skip, now it is stop/, '... is refused');

# ---- rewind: a run on samples without those of the steps that were lost
my $rewind = "$keep --spike $times --on-spike rewind";
is(run("$train $rewind -o back"), 0, 'rewound') or diag $said;
like($said, qr/step $bad: the loss .*; back to step $last, and on with other samples\n/, '... says how far');
my ($note) = grep { exists $_->{rewound_from} } log_lines('back/log.jsonl');
is("$note->{step} $note->{rewound_from} $note->{spike}", "$last $bad $loss[$bad]", '... and so does the log');
is(join(' ', map { $_->{step} } grep { exists $_->{loss} } log_lines('back/log.jsonl')), join(' ', 1 .. $steps), '... which has each step once');
my %lost = map { $_ => 1 } $last * $batch .. $bad * $batch - 1;
mkdir 'masks';
mask('masks/00000.npy', map { $lost{$_} ? 0 : 1 } 0 .. 79);
mask('masks/00001.npy', map { $lost{$_ + 80} ? 0 : 1 } 0 .. 47);
is(run("$read --keep masks -o left.samples"), 0, 'the samples without those') or diag $said;
spew('left.sh', "#!/bin/bash\nif [ \$1 = 0 ]; then cat left.samples; else cat s.samples; fi\n");
is(run("$bin/distill-train $common --data 'bash left.sh {epoch}' -o left"), 0, '... a run on them') or diag $said;
ok(model('left') eq model('back'), '... is the same');
# killed after going back, before the next checkpoint
my $held = int((-s 's.samples') * ($bad + 1) / 32);
spew('slow.sh', "#!/bin/bash\nhead -c " . $held . " s.samples\nwhile [ ! -e go ]; do sleep 0.05; done\ntail -c +" . ($held + 1) . " s.samples\n");
my $pid = start("$bin/distill-train $common $rewind --data 'bash slow.sh' -o parts", 'said-parts');
ok(wait_for(sub { slurp('parts/log.jsonl') =~ /rewound_from/ }), 'gone back') or diag slurp('said-parts');
kill 'KILL', $pid;
waitpid $pid, 0;
spew('go', '');
is(run("$train $rewind -o parts --resume"), 0, '... killed, gone on') or diag $said;
ok(made('parts') eq made('back'), '... the same bytes');
is(decided('parts'), decided('back'), '... the same log');
is(run("$train --checkpoint-every 1000 --spike $times --on-spike rewind -o none"), 1, 'no checkpoint to go back to');
like($said, qr/there is no checkpoint to rewind to/, '... is told');

# ---- not finite
my $wild = "$train --lr 1000 --warmup 0 --clip-grad 0 --weight-decay 1000";
is(run("$wild -o wild"), 1, 'a loss that is not finite');
like($said, qr/step (\d+): .* is not finite .*last good checkpoint: none/, '... stops the run');
ok(-s(sprintf 'wild/spikes/step-%08d.tsv', $said =~ /step (\d+): / ? $1 : 0), '... and leaves its samples');
is(run("$wild -o wilder --on-spike skip"), 0, '... or is skipped') or diag $said;
my @wild = grep { $_->{skipped} } log_lines('wilder/log.jsonl');
is(scalar(() = glob 'wilder/spikes/*.tsv'), scalar @wild, '... with a file for each step');

# ---- the limit of logit_scale
is(run("$train --scale-max 12 -o limit"), 0, 'a limit of logit_scale') or diag $said;
my $most = max(map { $_->{logit_scale} } log_lines('limit/log.jsonl'));
cmp_ok(abs($most - log 12), '<', 1e-5, '... is kept');
cmp_ok(max(map { $_->{logit_scale} } log_lines('plain/log.jsonl')), '>', log 12, '... which the run without went above');
is(run("$train --scale-max 100 -o default"), 0, 'the default') or diag $said;
ok(model('default') eq model('plain'), '... is 100');

for (['--spike 1', 'give more than 1'], ['--spike x', 'spike'], ['--on-spike wait', 'on-spike'], ['--skip-bad-steps --on-spike rewind', 'give one of them'], ['--scale-max 0.5', 'scale-max'],
    ['--on-spike rewind --checkpoint-every 0', '--checkpoint-every 0 saves none']) {
    is(run("$train $_->[0] -o wrong"), 2, "wrong usage: $_->[0]");
    like($said, qr/\Q$_->[1]/, '... says why');
}
done_testing();
