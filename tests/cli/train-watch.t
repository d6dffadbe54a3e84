#!/usr/bin/env perl
# distill-train's looks at its student: each line is what zs-eval gives for the checkpoint of that step, to the last digit; training
# gives the same bytes with and without; stopped, killed and gone on, the log has the same looks; the best checkpoint stays.
use strict;
use warnings;
use lib 'tests/lib';
use Archive::Tar;
use JSON::PP;
use Test::More;
use Train;
$SIG{$_} = 'DEFAULT' for qw(HUP INT TERM USR2);

shard('a/00000.tar', 40, 'a');
is(run("$bin/shard-read -q --size 29 -o s.samples a/00000.tar"), 0, 'samples') or diag $said;
my $common = "--student student.json --tokenizer $vocab --batch 4 --seed 3 --loss clip --progress never --lr 1e-2 --warmup 1";
my $train = "$bin/distill-train $common --data 'cat s.samples'";

# ---- sets
my @classes = ('red', 'a large blue square', 'an old dark thing', 'round', 'small');
my @pictures = sort grep { -s $_ > 300 } map { glob "$data/images/$_" } qw(4*.jpg grey*.png lo*.webp pal*.png prog*.jpg page.jpg);
sub make_set {
    my ($set, $n, $ext, $of) = @_;
    mkdir $_ for $set, "$set/test";
    my $tar = Archive::Tar->new;
    for my $i (0 .. $n - 1) {
        my $p = $pictures[$i % @pictures];
        my ($kind) = $p =~ /\.(\w+)$/;
        $tar->add_data(sprintf('s%04d.%s', $i, $kind), slurp($p));
        $tar->add_data(sprintf('s%04d.%s', $i, $ext), $of->($i));
    }
    $tar->write("$set/test/0.tar") or die;
    spew("$set/test/nshards.txt", "1\n");
    spew("$set/classnames.txt", join "\n", @classes, '');
    spew("$set/zeroshot_classification_templates.txt", "{c}\na {c} of {c}\n");
}
make_set('cls', 30, 'cls', sub { ($_[0] * 7 + int($_[0] / 3)) % 5 });
make_set('ret', 12, 'txt', sub { "$classes[$_[0] % 5] $_[0]\nno $_[0]\n" });
spew('ret/dataset_type.txt', "retrieval\n");

# The figures of a line as they are written, and what is not a time.
sub figures { my ($line) = @_; return join ' ', $line =~ /("metrics":\{[^}]*\}),("intervals":\{[^}]*\})/; }
sub looks { return map { my $x = decode_json($_); delete @$x{qw(took eval_seconds seconds)}; JSON::PP->new->canonical->encode($x) } grep { /"eval"/ } split /\n/, slurp("$_[0]/log.jsonl"); }
sub look { my ($dir, $step, $set, $weights) = @_; my ($l) = grep { /"step":$step,/ && /"eval":"$set"/ && /"weights":"$weights"/ } split /\n/, slurp("$dir/log.jsonl"); return $l // ''; }
sub step { return sprintf '%s/checkpoints/step-%08d', @_; }
sub evaluated { my ($model, $set) = @_; is(run("$bin/zs-eval -q -m $model -o r.json $set"), 0, "zs-eval on $model") or diag $said; return figures(slurp('r.json')); }
# All files of a folder but logs and times.
sub made {
    my ($dir) = @_;
    return join "\0", map { /time\.json$|log\.jsonl$|finished\.json$/ ? () : s{^\Q$dir\E/}{}r . "\n" . slurp($_) } sort split /\n/, `find $dir -type f`;
}

# ---- the same as zs-eval, and nothing of the training is changed
my $run = "--steps 10 --ema 0.8 --checkpoint-every 3 --keep-checkpoints all";
my $eval = '--eval-set cls --eval-set ret/';
is(run("$train $run $eval --eval-every 3 -o whole"), 0, 'a run that is looked at') or diag $said;
like($said, qr/step 3: cls: acc1 0\.\d{4}\n.*step 3: ret: image_retrieval_recall\@1 0\.\d{4}\n.*step 3: ema\/cls: acc1/, '... says what it sees');
like($said, qr/evaluated 4 times: \d+\.\d s, \d+\.\d% of the run's time\n/, '... and what that takes');
like($said, qr/memory: .*, evaluation 0\.\d\d\)/, '... of memory too');
is(run("$train $run -o plain"), 0, 'one that is not') or diag $said;
ok(made('whole') eq made('plain'), '... the same bytes');
unlike(slurp(step('plain', 3) . '/time.json'), qr/eval/, '... and nothing of it');
is(scalar(looks('whole')), 16, 'each set with both weights, at steps 3, 6, 9 and the last');
for my $set ('cls', 'ret') {
    for my $step (3, 6, 9, 10) {
        my $is = figures(look('whole', $step, $set, 'trained'));
        like($is, qr/"metrics":\{"\w+[^}]*0\.\d+/, "step $step, $set: a figure");
        is($is, evaluated(step('whole', $step), $set), '... is what zs-eval gives');
    }
    is(figures(look('whole', 10, $set, 'ema')), evaluated('whole/ema', $set), "$set: the average's too");
}
isnt(figures(look('whole', 3, 'ret', 'trained')), figures(look('whole', 10, 'ret', 'trained')), 'the weights of each step, not always the same');
isnt(look('whole', 9, 'ret', 'ema') =~ s/.*"metrics"//r, look('whole', 9, 'ret', 'trained') =~ s/.*"metrics"//r, '... nor of each kind');

# ---- epochs: 40 samples are 10 steps
is(run("$train --steps 32 --checkpoint-every 0 $eval --eval-every 1e -o epochs --no-recompute"), 0, 'every epoch') or diag $said;
is(join(' ', map { decode_json($_)->{step} } grep { /cls/ } looks('epochs')), '11 21 31 32', '... when it has ended, and at the end');

# ---- stopped in a look, killed, gone on
my $whole = "$bin/distill-train $common $run $eval --eval-every 3";
rename 'ret/test/0.tar', 'ret.tar' or die;
system('mkfifo', 'ret/test/0.tar');
my $pid = start("$whole --data 'cat s.samples' -o parts", 'said-parts');
ok(wait_for(sub { look('parts', 3, 'cls', 'trained') }), 'in a look at step 3');
kill 'TERM', $pid;
system('cat ret.tar > ret/test/0.tar');
waitpid $pid, 0;
is($? & 127, 15, 'stopped by the signal') or diag slurp('said-parts');
ok(-d step('parts', 3) && !look('parts', 3, 'ret', 'trained'), '... with a checkpoint, the look is not whole');
unlink 'ret/test/0.tar';
rename 'ret.tar', 'ret/test/0.tar' or die;
spew('slow.sh', "#!/bin/bash\nhead -c 80000 s.samples\nwhile [ ! -e go ]; do sleep 0.05; done\ntail -c +80001 s.samples\n");
$pid = start("$whole --data 'bash slow.sh' -o parts --resume", 'said-parts');
ok(wait_for(sub { slurp('parts/log.jsonl') =~ /"step":7,/ }), 'gone on') or diag slurp('said-parts');
kill 'KILL', $pid;
waitpid $pid, 0;
spew('go', '');
is(run("$whole --data 'cat s.samples' -o parts --resume"), 0, '... killed, and gone on') or diag $said;
ok(made('parts') eq made('whole'), '... the same bytes');
ok(join("\n", looks("parts")) eq join("\n", looks("whole")), '... the same looks, each once');
is(run("$train --steps 4 -o late"), 0, 'a run that was not looked at') or diag $said;
is(run("$train --steps 4 $eval --resume -o late"), 0, '... is asked for when it has ended') or diag $said;
is(figures(look('late', 4, 'cls', 'trained')), evaluated('late', 'cls'), '... and made');

# ---- the best stays
my $best = "--checkpoint-every 1 --keep-checkpoints 1 --steps 10 $eval --eval-every 1 --ema 0.8";
for my $of ('ret:image_retrieval_recall@5', 'ema/ret:text_retrieval_recall@1') {
    my ($weights, $set, $metric) = $of =~ m{^(ema/|)(\w+):(.*)};
    $weights = $weights ? 'ema' : 'trained';
    system('rm', '-rf', 'best');
    is(run("$train $best -o best --keep-best $of"), 0, "the best $of is kept") or diag $said;
    my %value = map { my $x = decode_json($_); $x->{step} => $x->{metrics}{$metric} } grep { /"eval":"$set"/ && /"weights":"$weights"/ } split /\n/, slurp('best/log.jsonl');
    my ($top) = sort { $value{$b} <=> $value{$a} || $a <=> $b } keys %value;
    is(join(' ', map { /step-0*(\d+)/ } glob 'best/checkpoints/step-*'), join(' ', sort { $a <=> $b } keys %{ { $top => 1, 10 => 1 } }), '... beside the newest');
    like($said, qr/the best \Q$of\E is \Q${\sprintf '%.4f', $value{$top}}\E, after step $top\n/, '... and named');
}
is(run("$train --steps 10 $eval --eval-every 2 -o rare --keep-best cls:acc1 --checkpoint-every 0"), 0, 'with no other checkpoint') or diag $said;
my ($only) = map { /step-0*(\d+)/ } glob 'rare/checkpoints/step-*';
is(figures(look('rare', $only, 'cls', 'trained')), evaluated(step('rare', $only), 'cls'), '... one is saved for it');

# ---- a share of the time
is(run("$train --steps 10 $eval --eval-every 1 --eval-share 0.001% -o share"), 0, 'nearly no time') or diag $said;
is(join(' ', map { decode_json($_)->{step} } grep { /cls/ } looks('share')), '1 10', '... the first and the last alone');
like($said, qr/evaluated 2 times: .*; 8 passed over for --eval-share\n/, '... which is said');

# ---- losses on held-out samples: those of a run on them whose rate is 0
shard('a/00001.tar', 22, 'b');
is(run("$bin/shard-read -q --size 29 -o v.samples a/00001.tar"), 0, 'held-out samples') or diag $said;
embed('t', "a/0000$_.tar") for 0, 1;
clusters('t', '-k 9');
spew('train.list', "a/00000.tar\n");
my $terms = '--loss instance=1,clip=0.5,cluster=0.1,feature=10 --teacher-image image-t --teacher-text text-t --labels labels-t --centroids c-t.npy --freeze-centroids';
my $held = "$bin/distill-train $common $terms --data 'cat s.samples'";
my $val = "--val-data 'cat v.samples' --eval-every 5";
is(run("$held --shards-from train.list --steps 10 --ema 0.8 -o held $val --checkpoint-every 5 --keep-best val:instance"), 0, 'losses on held-out samples') or diag $said;
is(run("$held --shards-from train.list --steps 10 --ema 0.8 -o unheld --checkpoint-every 5"), 0, '... and none') or diag $said;
ok(slurp('held/open_clip_model.safetensors') eq slurp('unheld/open_clip_model.safetensors') && slurp('held/ema/open_clip_model.safetensors') eq slurp('unheld/ema/open_clip_model.safetensors'), '... the same bytes');
ok(slurp(step('held', 5) . '/optimizer.safetensors') eq slurp(step('unheld', 5) . '/optimizer.safetensors'), '... of the moments too');
my @all = qw(loss instance clip cluster_ce cluster_kl feature);
for (['trained', 5, step('held', 5)], ['trained', 10, step('held', 10)], ['ema', 10, 'held/ema']) {
    my ($weights, $step, $model) = @$_;
    system('rm', '-rf', 'still');
    is(run("$held --data 'cat v.samples' --init $model --lr 0 --steps 5 --epochs 1 -o still"), 0, "$weights, step $step: a run at rate 0") or diag $said;
    my @lines = log_lines('still/log.jsonl');
    my $is = decode_json(look('held', $step, 'val', $weights));
    is($is->{n}, 20, '... on 20 of 22 samples');
    for my $term (@all) {
        my $sum = 0;
        $sum += $_->{$term} for @lines;
        cmp_ok(abs($is->{metrics}{$term} - $sum / 5), '<', 1e-14 * abs $sum, "... $term");
    }
    is(join(' ', sort keys %{ $is->{metrics} }), join(' ', sort @all), '... and no other');
}
my %of = map { my $x = decode_json($_); $x->{step} => $x->{metrics}{instance} } grep { /"eval":"val"/ && /"trained"/ } split /\n/, slurp('held/log.jsonl');
my ($least) = sort { $of{$a} <=> $of{$b} } keys %of;
is(decode_json(slurp(step('held', 10) . '/state.json'))->{best_step}, $least, 'the least loss is the best');
# It begins from other pieces of a batch, stopped and gone on.
is(run("$held --shards-from train.list --steps 10 --ema 0.8 -o pieces $val --accumulate 2"), 0, 'in pieces') or diag $said;
for my $term (@all) { cmp_ok(abs(decode_json(look('pieces', 5, 'val', 'ema'))->{metrics}{$term} / decode_json(look('held', 5, 'val', 'ema'))->{metrics}{$term} - 1), '<', 1e-4, "... $term"); }
spew('endless.sh', "#!/bin/bash\nhead -c 30000 v.samples\nif [ -e on ]; then tail -c +30001 v.samples; else touch hangs; sleep 100; fi\n");
$pid = start("$held --shards-from train.list --steps 10 --ema 0.8 -o halted --val-data 'bash endless.sh' --eval-every 5 --checkpoint-every 0", 'said-halted');
ok(wait_for(sub { -e 'hangs' }), 'held-out samples that do not come');
kill 'TERM', $pid;
waitpid $pid, 0;
is($? & 127, 15, '... stopped by the signal') or diag slurp('said-halted');
spew('on', '');
is(run("$held --shards-from train.list --steps 10 --ema 0.8 -o halted --val-data 'bash endless.sh' --eval-every 5 --checkpoint-every 0 --resume"), 0, '... and gone on') or diag $said;
ok(join("\n", looks('halted')) eq join("\n", looks('held')), '... the same losses, each once');
is(run("$held --shards-from train.list --steps 10 -o failing --val-data 'false' --eval-every 5"), 0, 'a command that fails') or diag $said;
like($said, qr/step 5 is not evaluated, training goes on: --val-data: .*the data command ended with status 1/, '... is told of') or diag $said;
is(run("$held --shards-from train.list --steps 5 -o few --val-data 'cat v.samples' --batch 23"), 0, 'fewer than a batch') or diag $said;
like($said, qr/22 samples do not fill a batch of 23/, '... are told of');
for (["--val-data 'x {part}'", '{part} has no meaning'], ["--val-data 'x \"'", '--val-data: '], ["--val-data x --keep-best val", 'is not SET:METRIC']) {
    is(run("$held --steps 2 $_->[0] -o wrong"), 2, "wrong usage: $_->[0]");
    like($said, qr/\Q$_->[1]/, '... says why') or diag $said;
}
is(run("$held --steps 2 --val-data x --keep-best val:siglip -o wrong"), 1, 'a term that is not');
like($said, qr/--keep-best: 'siglip' is no term/, '... is refused');

# ---- refused
for (['--eval-every 3', '--eval-every needs --eval-set DIR or --val-data'], ["$eval --eval-every 0", "'0' is neither N"], ["$eval --eval-every 3m", "'3m' is neither N"],
    ['--keep-best cls:acc1', 'needs --eval-set'], ["$eval --keep-best acc1", "'acc1' is not SET:METRIC"], ["$eval --keep-best ema/cls:acc1", 'needs --ema'],
    ["$eval --eval-share 5", 'is a share of the run'], ["$eval --eval-share 101%", "'101%' is not a count or a percentage"]) {
    is(run("$train --steps 2 $_->[0] -o wrong"), 2, "wrong usage: $_->[0]");
    like($said, qr/\Q$_->[1]/, '... says why');
}
mkdir $_ for 'twice', 'twice/cls';
system("cp -r cls/* twice/cls/; mkdir empty; cp cls/*.txt empty/");
for (['--eval-set cls --eval-set twice/cls', "'cls' and 'twice/cls' have one name"], ['--eval-set none', "cannot open 'none"], ['--eval-set empty', "has no split 'test'"],
    ["$eval --keep-best clas:acc1", "no --eval-set is called 'clas'"], ["$eval --keep-best ret:acc1", "'ret' has no metric 'acc1'"]) {
    is(run("$train --steps 2 $_->[0] -o wrong"), 1, "refused: $_->[0]");
    like($said, qr/\Q$_->[1]/, '... says why') or diag $said;
}
ok(!-e 'wrong', 'and no folder is left');
# Of a set that is gone in the middle of the run: told of, and training goes on.
spew('gone.sh', "#!/bin/bash\nhead -c 60000 s.samples\nwhile [ ! -e gone ]; do sleep 0.05; done\ntail -c +60001 s.samples\n");
$pid = start("$bin/distill-train $common --steps 10 --eval-set twice/cls --eval-every 2 --data 'bash gone.sh' -o gone-run", 'said-gone');
ok(wait_for(sub { look('gone-run', 2, 'cls', 'trained') }), 'looked at once') or diag slurp('said-gone');
unlink 'twice/cls/test/0.tar';
spew('gone', '');
waitpid $pid, 0;
is($?, 0, 'a set that is gone does not end the run') or diag slurp('said-gone');
like(slurp('said-gone'), qr/step 10 is not evaluated, training goes on: --eval-set 'twice\/cls': .*0\.tar/, '... it is told of');
ok(-s 'gone-run/open_clip_model.safetensors', '... and there is a model');
done_testing();
