#!/usr/bin/env perl
# distill-train's patch dropout: a share of 0 is none, to the byte; the same bytes for any number of threads, stopped, killed and gone
# on; whole pictures after --patch-dropout-until, and where the student is looked at.
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
sub made { my ($dir) = @_; return join "\0", map { /time\.json$|log\.jsonl$|finished\.json$/ ? () : s{^\Q$dir\E/}{}r . "\n" . slurp($_) } sort split /\n/, `find $dir -type f`; }

my $keep = '--steps 12 --checkpoint-every 3 --keep-checkpoints all';
is(run("$train $keep -o none"), 0, 'without') or diag $said;
unlike($said, qr/patch dropout/, '... nothing of it is said');
unlike(slurp(step('none', 3) . '/state.json'), qr/dropout/, '... nor kept');
is(run("$train $keep --patch-dropout 0 -o zero"), 0, 'a share of 0') or diag $said;
ok(made('zero') eq made('none'), '... is none, to the byte');
is(run("$train $keep --patch-dropout 0.5 -o half"), 0, 'half of the patches') or diag $said;
like($said, qr/patch dropout: 8 of a picture's 16 patches go through the tower\n/, '... says how many stay');
my %dropped = tensors('half/open_clip_model.safetensors');
my %whole = tensors('none/open_clip_model.safetensors');
is(join(' ', grep { $dropped{$_} eq $whole{$_} } grep { !/ln_1|mlp|ln_2/ } keys %whole), '', '... is another model');
is(run("$train $keep --patch-dropout 0.5 -t 3 -o threads"), 0, 'on three threads') or diag $said;
ok(made('threads') eq made('half'), '... the same bytes');
is(run("$train $keep --patch-dropout 0.5 --seed 4 -o seed"), 0, 'another seed') or diag $said;
ok(model('seed') ne model('half'), '... another model');
is(run("$train $keep --patch-dropout 0.5 --recompute -o again"), 0, 'activations made twice') or diag $said;
ok(model('again') eq model('half'), '... the same model');
is(run("$train --steps 12 --patch-dropout 0.5 --accumulate 2 -o pieces"), 0, 'in pieces') or diag $said;
my ($off, $most) = (0, 0);
my %pieces = tensors('pieces/open_clip_model.safetensors');
for my $name (keys %dropped) {
    my @a = unpack 'f<*', $dropped{$name};
    my @b = unpack 'f<*', $pieces{$name};
    for (0 .. $#a) { $off = abs($a[$_] - $b[$_]) if abs($a[$_] - $b[$_]) > $off; $most = abs($a[$_]) if abs($a[$_]) > $most; }
}
cmp_ok($off, '<', 1e-3 * $most, '... the same patches of each picture');

# ---- killed and gone on, over the end of an epoch
spew('slow.sh', "#!/bin/bash\nhead -c 80000 s.samples\nwhile [ ! -e go ]; do sleep 0.05; done\ntail -c +80001 s.samples\n");
my $slow = "$bin/distill-train $common $keep --patch-dropout 0.5 --data 'bash slow.sh' -o parts";
my $pid = start($slow, 'said-parts');
ok(wait_for(sub { -d step('parts', 6) }), 'under way') or diag slurp('said-parts');
kill 'KILL', $pid;
waitpid $pid, 0;
spew('go', '');
is(run("$train $keep --patch-dropout 0.5 -o parts --resume"), 0, '... killed, gone on') or diag $said;
ok(made('parts') eq made('half'), '... the same bytes');
is(run("$train $keep --patch-dropout 0.25 -o parts --resume"), 1, 'another share');
like($said, qr/was made with --patch-dropout 0\.5, now it is 0\.25; --extend/, '... is refused');

# ---- whole pictures at the end
is(run("$train $keep --patch-dropout 0.5 --patch-dropout-until 6 -o until"), 0, 'up to step 6') or diag $said;
like($said, qr/8 of a picture's 16 patches go through the tower in the first 6 steps\n/, '... says so');
ok(slurp(step('until', 6) . '/optimizer.safetensors') eq slurp(step('half', 6) . '/optimizer.safetensors'), '... the same up to there');
ok(model(step('until', 9)) ne model(step('half', 9)), '... and not after it');
system('cp -r half branch');
is(run("$train $keep --patch-dropout 0 -o branch --resume-from 6 --extend"), 0, 'the same as a branch without from step 6 on') or diag $said;
ok(model('branch') eq model('until'), '... to the byte');
system('cp -r until again-until; rm -r again-until/checkpoints/step-0000001*');
is(run("$train $keep --patch-dropout 0.5 --patch-dropout-until 6 -o again-until --resume-from 3"), 0, 'and gone on from before the change') or diag $said;
ok(made('again-until') eq made('until'), '... the same bytes');

# ---- looked at whole
is(run("$train $keep --patch-dropout 0.5 --val-data 'cat s.samples' --eval-every 6 -o looked"), 0, 'losses on held-out samples') or diag $said;
ok(model('looked') eq model('half'), '... change nothing');
is(run("$train --init " . step('half', 6) . " --lr 0 --steps 10 --epochs 1 -o still"), 0, 'the same samples, whole, at rate 0') or diag $said;
my $sum = 0;
$sum += $_->{loss} for log_lines('still/log.jsonl');
my ($val) = grep { $_->{eval} && $_->{step} == 6 } log_lines('looked/log.jsonl');
cmp_ok(abs($val->{metrics}{loss} - $sum / 10), '<', 1e-14 * $sum, '... are those of whole pictures');

# ---- the config's
(my $dropping = slurp('student.json')) =~ s/"vision_cfg":\{/"vision_cfg":{"patch_dropout":0.5,/ or die;
spew('dropping.json', $dropping);
is(run("$train --student dropping.json --steps 12 -o config"), 0, "a config's patch_dropout") or diag $said;
ok(model('config') eq model('half'), '... is taken');
is(run("$train --student dropping.json --patch-dropout 0 --steps 12 -o forced"), 0, '... unless the option says otherwise') or diag $said;
ok(model('forced') eq model('none'), '... none');

# ---- every kind of tower's start, and what it saves
for (['no norm before the blocks and a mean behind them', '"image_size":29,', '"image_size":29,"no_ln_pre":true,"pool_type":"avg",'], ['a locked tower', '"image_size"', '"image_size"', '--init half --lock image']) {
    my ($what, $from, $to, $more) = @$_;
    (my $other = slurp('student.json')) =~ s/$from/$to/;
    spew('other.json', $other);
    is(run("$train --student other.json --steps 2 --patch-dropout 0.5 -o other --overwrite " . ($more // '')), 0, "with $what") or diag $said;
}
my %size;
for my $p (0, 0.5) {
    is(run("$bin/distill-train --student $data/../../conf/models/ViT-B-16.json --tokenizer $vocab --loss clip --batch 64 --accumulate 1 --steps 2 --dry-run --patch-dropout $p"), 0, "ViT-B-16 at $p") or diag $said;
    ($size{$p}) = $said =~ /activations (\d+\.\d+)/;
}
cmp_ok($size{0.5}, '<', 0.62 * $size{0}, "... activations of $size{0.5} GiB, not $size{0}");
for (['--patch-dropout 1', 2, 'patch-dropout'], ['--patch-dropout -0.1', 2, 'patch-dropout'], ['--patch-dropout-until 3', 1, 'needs --patch-dropout']) {
    is(run("$train --steps 2 $_->[0] -o wrong"), $_->[1], "refused: $_->[0]");
    like($said, qr/\Q$_->[2]/, '... says why');
}
done_testing();
