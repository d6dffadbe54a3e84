#!/usr/bin/env perl
# distill-train's average of the weights: a model of its own that the tools read, the closed form from the weights of each step, the
# same bytes when the run was stopped, and nothing of it without --ema.
use strict;
use warnings;
use lib 'tests/lib';
use JSON::PP;
use Test::More;
use Train;
$SIG{$_} = 'DEFAULT' for qw(HUP INT TERM USR2);

shard('a/00000.tar', 40, 'a');
is(run("$bin/shard-read -q --size 29 -o s.samples a/00000.tar"), 0, 'samples') or diag $said;
my $common = "--student student.json --tokenizer $vocab --batch 4 --seed 3 --loss clip --progress never --lr 1e-2 --warmup 1";
my $train = "$bin/distill-train $common --data 'cat s.samples'";

sub model { return slurp("$_[0]/open_clip_model.safetensors"); }
sub step { return sprintf '%s/checkpoints/step-%08d', @_; }
# All files of a folder but logs and times.
sub made {
    my ($dir) = @_;
    return join "\0", map { /time\.json$|log\.jsonl$|finished\.json$/ ? () : s{^\Q$dir\E/}{}r . "\n" . slurp($_) } sort split /\n/, `find $dir -type f`;
}

my ($x, $steps) = (0.8, 6);
is(run("$train --steps $steps --checkpoint-every 1 --keep-checkpoints all -o whole --ema $x"), 0, 'a run with an average') or diag $said;
like($said, qr/an average of the weights is kept: 0\.8 of it/, '... says so');
is(run("$train --steps $steps --checkpoint-every 1 --keep-checkpoints all -o plain"), 0, 'one without') or diag $said;
ok(model('whole') eq model('plain'), '... the same weights');
ok(!-e 'plain/ema' && !(grep { /^ema\./ } keys %{ { tensors(step('plain', 6) . '/optimizer.safetensors') } }), '... and nothing of an average');
unlike(slurp(step('plain', 6) . '/state.json'), qr/ema|lock|layer-decay/, '... in its options neither');

# a_n = x a_(n-1) + (1 - x) w_n in float64, from the first kept step's average on
my %at = tensors(step('whole', 1) . '/optimizer.safetensors');
my %average = tensors('whole/ema/open_clip_model.safetensors');
my %last = tensors(step('whole', 6) . '/optimizer.safetensors');
my %end = tensors('whole/open_clip_model.safetensors');
my %w = map { $_ => { tensors(step('whole', $_) . '/open_clip_model.safetensors') } } 2 .. $steps;
my ($worst, $moved) = (0, 0);
for my $name (sort keys %end) {
    my @a = unpack 'f<*', $at{"ema.$name"};
    for my $step (2 .. $steps) {
        my @new = unpack 'f<*', $w{$step}{$name};
        $a[$_] = $x * $a[$_] + (1 - $x) * $new[$_] for 0 .. $#a;
    }
    my @is = unpack 'f<*', $average{$name};
    my @end = unpack 'f<*', $end{$name};
    for (0 .. $#a) {
        my $off = abs($is[$_] - $a[$_]) / (abs($a[$_]) + 1e-3);
        $worst = $off if $off > $worst;
        $moved = abs($end[$_] - $a[$_]) if abs($end[$_] - $a[$_]) > $moved;
    }
}
cmp_ok($worst, '<', 1e-6, 'the average is what it should be');
cmp_ok($moved, '>', 1e-3, '... and is not the weights');
is(join(' ', grep { $average{$_} ne $last{"ema.$_"} } keys %end), '', '... the model in ema is that of the last checkpoint');
is(join(' ', sort keys %average), join(' ', sort keys %end), '... with all tensors');
is(run("$bin/teacher-embed --describe whole/ema > described"), 0, '... which a tool reads') or diag $said;
like(slurp('described'), qr/columns|20/, '... and describes');

# stopped and gone on
my $whole = "$bin/distill-train $common --ema $x --steps $steps --checkpoint-every 0";
is(run("$train --ema $x --steps $steps --checkpoint-every 0 -o once"), 0, 'a run in one') or diag $said;
spew('slow.sh', "#!/bin/bash\nhead -c 40000 s.samples\nwhile [ ! -e go ]; do sleep 0.05; done\ntail -c +40001 s.samples\n");
my $pid = start("$whole --data 'bash slow.sh' -o parts", 'said-parts');
ok(wait_for(sub { -s 'parts/log.jsonl' }), 'a step is done');
kill 'TERM', $pid;
waitpid $pid, 0;
my ($stopped) = map { /step-0*(\d+)$/ } glob 'parts/checkpoints/step-*';
ok($stopped && $stopped < $steps, 'stopped in between') or diag slurp('said-parts');
spew('go', '');
is(run("$whole --data 'cat s.samples' -o parts --resume"), 0, 'and gone on') or diag $said;
system('rm', '-r', step('parts', $stopped));
ok(made('parts') eq made('once'), '... the same bytes, average and all');
is(run("$train --ema $x --steps $steps -o whole --resume-from 3"), 0, 'from a kept checkpoint') or diag $said;
ok(model('whole/ema') eq model('once/ema'), '... the same average');
for (['--ema 0.9', '--ema 0.8, now it is 0.9'], ['', '--ema 0.8, now it is left out']) {
    is(run("$train --steps $steps $_->[0] -o whole --resume"), 1, "resumed with '$_->[0]'");
    like($said, qr/\Q$_->[1]/, '... is refused');
}

# locks: what does not change is its own average
is(run("$train --ema 0.7 --init whole --lock image --steps 2 --export-hf -o locked"), 0, 'with a locked tower, in both layouts') or diag $said;
%average = tensors('locked/ema/open_clip_model.safetensors');
%end = tensors('locked/open_clip_model.safetensors');
is(join(' ', grep { $average{$_} ne $end{$_} } grep { /^visual/ } keys %end), '', '... which is its own average');
ok($average{text_projection} ne $end{text_projection}, '... the other has one');
ok(-s 'locked/ema/model.safetensors' && -s 'locked/ema/config.json', "... Hugging Face's too");

# an average belongs to the output
is(run("$train --steps 2 -o locked --overwrite"), 0, 'started again without') or diag $said;
ok(!-e 'locked/ema', '... the average is removed');
spew('whole/ema/open_clip_model.safetensors', 'mine');
is(run("$train --steps 2 -o whole --overwrite"), 1, 'an average that was changed');
like($said, qr{whole/ema/open_clip_model\.safetensors' was not made by distill-train, or was changed}, '... is not removed');
ok(-s 'whole/open_clip_model.safetensors', '... nor the model');
mkdir $_ for 'other', 'other/ema';
spew('other/ema/open_clip_config.json', '{}');
is(run("$train --steps 2 --ema 0.5 -o other"), 1, 'a model in ema that no run made');
like($said, qr/'other' holds a model/, '... is refused');
for ('1', '-0.1', 'x') { is(run("$train --steps 2 --ema $_ -o wrong"), 2, "wrong usage: --ema $_"); }
ok(!-e 'wrong', 'no folder');

# the plan of a larger student: the average in memory once, on the disk in each checkpoint and as a model
my %tower = (layers => 12, width => 768);
spew('large.json', encode_json({ embed_dim => 512, vision_cfg => { image_size => 224, patch_size => 32, %tower },
    text_cfg => { context_length => 11, vocab_size => 1214, heads => 12, %tower } }));
sub planned {
    is(run("$train --student large.json --steps 2 --checkpoint-every 0 --dry-run -o planned $_[0]"), 0, "the plan with '$_[0]'") or diag $said;
    my ($parameters) = $said =~ /parameters: (\d+) in/;
    my ($optimiser) = $said =~ /memory: .*optimiser ([\d.]+)/;
    my ($disk, $n, $checkpoint, $model) = $said =~ /disk: ([\d.]+) GiB \((\d+) checkpoints of ([\d.]+), the model ([\d.]+)\)/;
    return { size => $parameters * 4 / 2**30, optimiser => $optimiser, disk => $disk, n => $n, checkpoint => $checkpoint, model => $model };
}
my ($with, $without) = (planned('--ema 0.9'), planned(''));
for (['optimiser', 1], ['checkpoint', 1], ['disk', $without->{n} + 1]) {
    my ($what, $times) = @$_;
    cmp_ok(abs($with->{$what} - $without->{$what} - $times * $without->{size}), '<', 0.02, "$what: $with->{$what}, not $without->{$what}");
}
done_testing();
