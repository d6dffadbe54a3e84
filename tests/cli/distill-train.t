#!/usr/bin/env perl
# distill-train: teacher rows by shard and ordinal, a stopped run that resumes to the bit, accumulation, checkpoints
# whole or absent, what is refused, the log, the exported folders.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die; print $h $t; close $h; }
my $said;
sub run { my $rc = system("@_ 2>said"); $said = slurp('said'); return $rc & 127 ? -($rc & 127) : $rc >> 8; }
sub lines { return map { decode_json($_) } split /\n/, slurp("$_[0]/log.jsonl"); }

spew('student.json', encode_json({ embed_dim => 20, vision_cfg => { image_size => 29, patch_size => 7, width => 24, layers => 2, head_width => 12 },
    text_cfg => { context_length => 11, vocab_size => 1214, width => 16, layers => 2, heads => 2 } }));
my $vocab = "$data/tokenizer/openai";
my @shards = map { "$data/shards/0000$_.tar" } 0 .. 2;
make_path('image', 'text', 'labels');
for my $shard (@shards) {
    my ($name) = $shard =~ m{(\d+)\.tar};
    is(run("$bin/shard-read -q --size 29 -o $name.samples $shard"), 0, "samples of $name") or diag $said;
    is(run("$bin/teacher-embed -q -m $data/models/odd --tokenizer $vocab --image-out image/$name.npy --text-out text/$name.npy $name.samples"), 0, 'teacher') or diag $said;
}
is(run("$bin/kmeans-cluster -q -k 6 -o c.npy --labels-dir labels image/*.npy"), 0, 'clusters') or diag $said;
my $read = "$bin/shard-read -q --size 29 --crop random --shuffle 64 --seed {seed} --epoch {epoch} @shards";
my $base = "$bin/distill-train -q --student student.json --tokenizer $vocab --batch 8 --seed 3 --checkpoint-every 7";
my $teacher = '--teacher-image image --teacher-text text --labels labels --centroids c.npy';
my $train = "$base $teacher --loss instance=1,cluster=1 --sigma 64 --data '$read' --steps 12";

# A straight run, and one that is taken up again.
is(run("$train -o a -t 1"), 0, 'a run') or diag $said;
my @log = lines('a');
is(scalar @log, 12, 'a line a step');
is(join(',', sort keys %{ $log[0] }), 'cluster_ce,cluster_kl,data_wait,epoch,grad_norm,instance,logit_scale,loss,lr,memory,part,samples,samples_per_second,seconds,step', 'what a line says');
ok($log[11]{epoch} >= 1 && $log[11]{samples} == 96, 'over more than one epoch');
ok(-e "a/$_", "a/$_") for 'open_clip_config.json', 'open_clip_model.safetensors', 'bpe_simple_vocab_16e6.txt.gz', 'checkpoints/step-00000012/state.json';
is(decode_json(slurp('a/open_clip_config.json'))->{preprocess_cfg}{size}, 29, 'the preprocessing is recorded');
is(run("$bin/teacher-embed -q -m a --image-out /dev/null 00000.samples"), 0, 'the student embeds') or diag $said;
is(run("$train -o b -t 3"), 0, 'again') or diag $said;
is(slurp('b/open_clip_model.safetensors'), slurp('a/open_clip_model.safetensors'), 'the same bytes for other threads');
remove_tree('b/checkpoints/step-00000012');
spew('b/log.jsonl', slurp('b/log.jsonl') . '{"step":13,');
make_path('b/checkpoints/.step-00000009.77.tmp');
is(run("$train -o b --resume"), 0, 'resumed after step 7') or diag $said;
for my $file ('open_clip_model.safetensors', 'checkpoints/step-00000012/optimizer.safetensors', 'checkpoints/step-00000012/state.json') {
    ok(slurp("b/$file") eq slurp("a/$file"), "the same bytes: $file");
}
is(join(' ', map { $_->{step} } lines('b')), join(' ', 1 .. 12), 'the log has each step once');
is(join(' ', map { $_->{loss} } lines('b')), join(' ', map { $_->{loss} } @log), 'and the same losses');
ok(!-e 'b/checkpoints/.step-00000009.77.tmp', 'what was half written is gone');
is(run("$train -o c --recompute"), 0, 'recompute') or diag $said;
is(slurp('c/open_clip_model.safetensors'), slurp('a/open_clip_model.safetensors'), 'gives the same bytes');
is(run("$train -o d --accumulate 4"), 0, 'accumulate') or diag $said;
my ($worst, @other) = (0, lines('d'));
for my $i (0 .. 11) { my $e = abs($other[$i]{loss} / $log[$i]{loss} - 1); $worst = $e if $e > $worst; }
ok($worst < 1e-4, "gives the same losses ($worst)");

# Stopped by a signal: a checkpoint, and death by the signal.
my $pid = fork // die;
if (!$pid) { open STDERR, '>', 'said'; exec "$base $teacher --data '$read' --steps 100000 -o e --checkpoint-every 0" =~ s/^/exec /r; }
for (1 .. 600) { last if lines_or('e') > 2; select undef, undef, undef, 0.05; }
sub lines_or { my $t = slurp("$_[0]/log.jsonl"); return scalar(() = $t =~ /\n/g); }
kill 'TERM', $pid;
waitpid $pid, 0;
is($? & 127, 15, 'dies of SIGTERM');
my ($saved) = glob 'e/checkpoints/step-*';
ok($saved && -e "$saved/state.json", 'with a checkpoint');
ok(!-e 'e/open_clip_config.json', 'and no model');

# What is refused.
for my $change ('--lr 0.01', '--batch 4', '--loss instance=2,cluster=1', '--sigma 32', '--seed 4', '--dtype bf16', '--weight-decay 0') {
    my ($what) = $change =~ /--(\w[\w-]*)/;
    isnt(run("$train -o b --resume $change"), 0, "resume with $change") or diag $said;
    remove_tree('b/checkpoints/step-00000012') if -e 'b/checkpoints/step-00000012';
    SKIP: {
        skip 'no bfloat16 products on this processor, so its resuming is not tried', 1 if $said =~ /this processor has no bfloat16/;
        like($said, $what eq 'loss' ? qr/instance/ : $what eq 'dtype' ? qr/dtype f32/ : qr/\Q$what\E/, '... names it');
    }
}
my $other = "$read" =~ s{00000\.tar}{00001.tar}r =~ s{--shuffle 64}{}r;
isnt(run("$base $teacher --loss instance=1,cluster=1 --sigma 64 --data '$other' --steps 12 -o b --resume"), 0, 'resume with other data');
like($said, qr/not those that the checkpoint was made with|samples, the checkpoint/, '... is refused');
is(run("$base --data '$read' --steps 2 -o x"), 2, 'a loss without its teacher');
like($said, qr/--teacher-image/, '... says what is missing');
is(run("$base --student student.json -o x $teacher --loss clop"), 2, 'no such loss');
is(run("$bin/distill-train --student student.json --loss clip"), 2, 'no output');
is(run("$base $teacher --data 'sh -c \"exit 3\"' --steps 2 -o x"), 1, 'a data command that fails');
like($said, qr/status 3/, '... with its status');
is(run("$base $teacher --steps 2 -o x < /dev/null"), 1, 'no data');
ok(!-e 'x/open_clip_config.json', 'nothing is left');
make_path('short');
copy('image/00000.npy', "short/0000$_.npy") for 0 .. 2;
isnt(run("$base --teacher-image short --teacher-text text --loss instance --data '$read' --steps 12 -o x"), 0, 'teacher rows of other samples');
like($said, qr/short/, '... are refused');
isnt(run("$base --loss clip --data '$read' --steps 12 -o x --student $data/models/tiny/open_clip_config.json"), 0, 'pictures of another size');
like($said, qr/pixels a side/, '... are refused');

# NaN.
isnt(run("$base --loss clip --data '$read' --steps 40 -o n --lr 1000 --warmup 0 --clip-grad 0 --weight-decay 1000"), 0, 'a run that goes wrong ends');
like($said, qr/step \d+: .* not finite.*checkpoint/, '... and says where');
is(run("$base --loss clip --data '$read' --steps 12 -o n2 --lr 1000 --warmup 0 --clip-grad 0 --weight-decay 1000 --skip-bad-steps"), 0, 'or passes over it') or diag $said;
ok((grep { $_->{skipped} } lines('n2')) > 0, '... and logs it');

# Other ways: every loss, projection, sampling, a file, init, Hugging Face.
is(run("$bin/distill-train -q --student student.json --tokenizer $vocab --batch 8 --loss clip --steps 2 -o f 00000.samples"), 0, 'from a file') or diag $said;
is(run("cat 00000.samples 00002.samples | $bin/distill-train -q --init f --batch 8 --loss siglip --epochs 1 --epoch-samples 36 -o g"), 0, 'from a pipe, siglip, init') or diag $said;
is(scalar(lines('g')), 4, 'the data give the steps');
like(slurp('g/open_clip_model.safetensors'), qr/logit_bias/, 'a logit_bias');
spew('wide.json', slurp('student.json') =~ s/"embed_dim":20/"embed_dim":12/r);
isnt(run("$train -o h --student wide.json --no-project"), 0, 'another width');
like($said, qr/--no-project/, '... is refused without a projection');
is(run("$train -o h --student wide.json --export-hf --sample-rate 0.5 --margin 0.2 --filter 0.9 --loss instance,cluster,feature=10,affinity,clip"), 0, 'with it, all losses') or diag $said;
ok(-e 'h/config.json' && -e 'h/model.safetensors', 'Hugging Face too');
unlike(slurp('h/open_clip_model.safetensors'), qr/project\./, 'the maps are not exported');
# Any number of pieces has the gradient of the whole batch, with several pieces in a part, a last piece that is smaller, and maps.
for my $more ('', '--student wide.json --loss instance,cluster,feature=10,affinity,clip') {
    my %norm;
    for my $n (1, 3, 5, 8, 12, 24) {
        is(run("$train $more --batch 24 --steps 1 --accumulate $n --overwrite -o pieces"), 0, "$n pieces") or diag $said;
        $norm{$n} = (lines('pieces'))[0]{grad_norm};
    }
    is(join(' ', grep { abs($norm{$_} / $norm{1} - 1) > 1e-5 } sort keys %norm), '', '... the same gradient') or diag explain \%norm;
}
isnt(run("$base --loss clip --data '$read' --steps 1 -o big --batch 100000000"), 0, 'what cannot fit');

# cluster_soft and a prior: resumed to the bit, and what has no use is refused.
make_path('top');
is(run("$bin/kmeans-cluster -q --assign c.npy --top 3 --labels-dir top image/*.npy"), 0, 'three labels a sample') or diag $said;
my $soft = "$base --teacher-image image --teacher-text text --labels top --centroids c.npy --loss clip=1,cluster=0.1,cluster_soft=0.2 --soft-sigma 30 --cluster-prior 0.5 --sample-rate 0.5 --data '$read' --steps 12";
is(run("$soft -o soft --keep-checkpoints all"), 0, 'nearest clusters') or diag $said;
ok((lines('soft'))[0]{cluster_soft} > 0, '... in the log');
remove_tree('soft/checkpoints/step-00000012');
my $straight = slurp('soft/open_clip_model.safetensors');
is(run("$soft -o soft --resume"), 0, '... resumed') or diag $said;
ok(slurp('soft/open_clip_model.safetensors') eq $straight, '... to the same bytes');
for my $other (['--soft-sigma 31', 'soft-sigma'], ['--cluster-prior 1', 'cluster-prior']) {
    is(run("$soft -o soft --resume $other->[0]"), 1, "another --$other->[1]");
    like($said, qr/made with --$other->[1]/, '... is refused');
}
is(run("$base --loss clip=1 --data '$read' --steps 2 -o no --soft-sigma 3"), 2, '--soft-sigma without cluster_soft');
is(run("$base --loss clip=1 --data '$read' --steps 2 -o no --cluster-prior 1"), 2, '--cluster-prior without cluster_ce');
done_testing;
