#!/usr/bin/env perl
# distill-train on a mixture: batches by weight, each set with its own rows, labels and masks though their shards have one name; the
# same as a run on samples laid by hand in that order; killed and gone on in the middle of the sets' epochs; counts in the log.
use strict;
use warnings;
use lib 'tests/lib';
use Archive::Tar;
use JSON::PP;
use Test::More;
use Train;
$SIG{$_} = 'DEFAULT' for qw(HUP INT TERM USR2);

my %n = (A => 40, B => 28);
for my $set ('A', 'B') {
    shard("$set/00000.tar", $n{$set}, lc $set);
    embed($set, "$set/00000.tar");
    is(run("$bin/shard-read -q --size 29 -o $set.samples $set/00000.tar"), 0, "samples of $set") or diag $said;
}

my $common = "--student student.json --tokenizer $vocab --batch 6 --seed 3 --progress never --lr 1e-2 --warmup 1";
my $train = "$bin/distill-train $common";
my $mix = "--data 'A=1:cat A.samples' --data 'B=0.5:cat B.samples'";
my $teacher = '--loss instance=1,clip=1 --teacher-image image-{set} --teacher-text text-{set}';
sub model { return slurp("$_[0]/open_clip_model.safetensors"); }
sub step { return sprintf '%s/checkpoints/step-%08d', @_; }
sub made { my ($dir) = @_; return join "\0", map { /time\.json$|log\.jsonl$|finished\.json$/ ? () : s{^\Q$dir\E/}{}r . "\n" . slurp($_) } sort split /\n/, `find $dir -type f`; }

# ---- batches by weight: 4 of A and 2 of B, as laid by hand
my $steps = 9;
is(run("$train $mix $teacher --steps $steps -o mixed"), 0, 'a mixture') or diag $said;
is(join(' ', map { "$_->{sets}{A}:$_->{sets}{B}" } log_lines('mixed/log.jsonl')), join(' ', map { 4 * $_ . ':' . 2 * $_ } 1 .. $steps), '... counts of each in the log');
like($said, qr/A: 36 samples, epoch 0\n.*B: 18 samples, epoch 0\n/, '... and at the end');
is(decode_json(slurp(step('mixed', $steps) . '/state.json'))->{options}{data}, 'A=1,B=0.5', '... its sets in the checkpoint');
my %of;
for my $set ('A', 'B') {
    my $tar = Archive::Tar->new("$set/00000.tar");
    for ($tar->get_files) { my ($key) = $_->name =~ /^([ab]\d+)\./; push @{ $of{$key} }, $_; }
}
my $hand = Archive::Tar->new;
for my $step (0 .. $steps - 1) {
    for my $key (map({ 'a' . (4 * $step + $_) } 0 .. 3), map { 'b' . (2 * $step + $_) } 0, 1) { $hand->add_data($_->name, $_->get_content) for @{ $of{$key} }; }
}
mkdir 'hand';
$hand->write('hand/00000.tar');
embed('hand', 'hand/00000.tar');
is(run("$bin/shard-read -q --size 29 -o hand.samples hand/00000.tar"), 0, 'the samples in that order') or diag $said;
is(run("$train --data 'cat hand.samples' --loss instance=1,clip=1 --teacher-image image-hand --teacher-text text-hand --steps $steps -o by-hand"), 0, '... a run on them') or diag $said;
ok(model('by-hand') eq model('mixed'), '... is the same to the byte: each sample has its own rows');
is(run("$train --data 'A=1:cat A.samples' --loss clip --steps 6 -o single"), 0, 'a mixture of one') or diag $said;
is(run("$train --data 'cat A.samples' --loss clip --steps 6 -o plain"), 0, '... and the set') or diag $said;
ok(model('single') eq model('plain'), '... are one');
is(run("$train --data 'A=1:cat A.samples' --data 'B=3.7:cat B.samples' --loss clip --steps 20 -o odd"), 0, 'odd weights') or diag $said;
is(scalar(grep { my $all = 6 * $_->{step}; abs($_->{sets}{A} - $all / 4.7) >= 1 || $_->{sets}{A} + $_->{sets}{B} != $all } log_lines('odd/log.jsonl')), 0, '... are kept to a sample at each step');
my @lines = log_lines('odd/log.jsonl');
cmp_ok($lines[-1]{sets}{B}, '>', 3 * $n{B}, '... one set is in its fourth epoch');

# ---- killed and gone on
my $keep = "--steps 20 --checkpoint-every 3 --keep-checkpoints all";
is(run("$train $mix $teacher $keep -o once"), 0, 'over the ends of the sets') or diag $said;
spew('slow.sh', "#!/bin/bash\nif [ \$1 = 0 ]; then cat B.samples; else while [ ! -e go ]; do sleep 0.05; done; cat B.samples; fi\n");
my $pid = start("$train --data 'A=1:cat A.samples' --data 'B=0.5:bash slow.sh {epoch}' $teacher $keep -o parts", 'said-parts');
ok(wait_for(sub { -d step('parts', 12) }), 'under way') or diag slurp('said-parts');
kill 'KILL', $pid;
waitpid $pid, 0;
spew('go', '');
is(run("$train $mix $teacher $keep -o parts --resume"), 0, '... killed, gone on') or diag $said;
ok(made('parts') eq made('once'), '... the same bytes');
is(run("$train --data 'A=1:cat A.samples' --data 'B=0.6:cat B.samples' $teacher $keep -o parts --resume-from 12"), 1, 'other weights');
like($said, qr/made with --data A=1,B=0\.5, now it is A=1,B=0\.5999/, '... are refused') or diag $said;
is(run("$train --data 'A=1:cat A.samples' $teacher $keep -o parts --resume-from 12"), 1, 'a set fewer');
like($said, qr/made with 2 sets in --data, now there are 1/, '... is refused');

is(run("$train --data 'cat A.samples' $teacher $keep -o parts --resume-from 12" =~ s/\{set\}/A/gr), 1, 'no mixture');
like($said, qr/made with a mixture of 2 sets in --data: give the same/, '... is refused') or diag $said;

# ---- the samples of a step that went wrong tell their set; held-out samples have folders of their own
is(run("$train $mix $teacher --steps 4 -o wild --lr 1000 --warmup 0 --clip-grad 0 --weight-decay 1000 --on-spike skip"), 0, 'a step that goes wrong') or diag $said;
my ($file) = glob 'wild/spikes/*.tsv';
like(slurp($file // ''), qr{^A/00000\.tar\t\d+\ta\d+\n(?:.*\n)*B/00000\.tar\t\d+\tb\d+$}m, '... names the sets');
shard('val/00000.tar', 14, 'v');
embed('val', 'val/00000.tar');
is(run("$bin/shard-read -q --size 29 -o v.samples val/00000.tar"), 0, 'held-out samples') or diag $said;
is(run("$train $mix $teacher --steps $steps -o held --val-data 'cat v.samples' --eval-every 4"), 0, '... in a mixture') or diag $said;
ok(model('held') eq model('mixed'), '... change nothing');
is(scalar(grep { ($_->{eval} // '') eq 'val' && $_->{n} == 12 } log_lines('held/log.jsonl')), 3, '... with their own rows');

# ---- labels of one clustering over both
mkdir $_ for 'E', 'labels', 'labels-A', 'labels-E';
system('cp B/00000.tar E/00001.tar');
embed('E', 'E/00001.tar');
is(run("$bin/shard-read -q --size 29 -o E.samples E/00001.tar"), 0, 'a set whose shard has another name') or diag $said;
is(run("$bin/kmeans-cluster -q -k 5 -o c.npy --labels-dir labels image-A/00000.npy image-E/00001.npy"), 0, 'clusters of both') or diag $said;
system('cp labels/00000.npy* labels-A; cp labels/00001.npy* labels-E');
my $clusters = '--loss clip=1,cluster=0.5 --teacher-image image-{set} --labels labels-{set} --centroids c.npy --steps 9';
is(run("$train --data 'A=1:cat A.samples' --data 'E=0.5:cat E.samples' $clusters -o labelled"), 0, 'a mixture with clusters') or diag $said;
mkdir $_ for 'image-AE';
system('cp image-A/* image-E/* image-AE');
is(run("$train --data 'A=1:cat A.samples' --data 'E=0.5:cat E.samples' " . $clusters =~ s/image-\{set\}/image-AE/r =~ s/labels-\{set\}/labels/r . ' -o together'), 0, '... of folders that both share') or diag $said;
ok(model('together') eq model('labelled'), '... the same bytes');

# ---- by parts: each piece of a batch is a mixture of its parts of the sets, as laid by hand
my @keys;
for my $set ('P', 'Q') {
    for my $part (1, 2) {
        shard("$set/0000$part.tar", 12, lc($set) . $part . '-');
        embed($set, "$set/0000$part.tar");
        is(run("$bin/shard-read -q --size 29 -o $set$part.samples $set/0000$part.tar"), 0, "part $part of $set") or diag $said;
        my $tar = Archive::Tar->new("$set/0000$part.tar");
        for ($tar->get_files) { my ($key) = $_->name =~ /^([^.]+)\./; push @{ $of{$key} }, $_; }
    }
}
my $by_part = "--data 'P=1:cat P{part}.samples' --data 'Q=0.5:cat Q{part}.samples' --accumulate 2";
is(run("$train $by_part $teacher --steps 6 -o by-part"), 0, 'a mixture by parts') or diag $said;
is(join(' ', map { "$_->{sets}{P}:$_->{sets}{Q}" } log_lines('by-part/log.jsonl')), join(' ', map { 4 * $_ . ':' . 2 * $_ } 1 .. 6), '... counts of each set over all parts');
my $laid = Archive::Tar->new;
for my $step (0 .. 5) {
    for my $part (1, 2) {
        for my $key (map({ "p$part-" . (2 * $step + $_) } 0, 1), "q$part-$step") { $laid->add_data($_->name, $_->get_content) for @{ $of{$key} }; }
    }
}
mkdir 'laid';
$laid->write('laid/00000.tar');
embed('laid', 'laid/00000.tar');
is(run("$bin/shard-read -q --size 29 -o laid.samples laid/00000.tar"), 0, 'the samples in that order') or diag $said;
is(run("$train --data 'cat laid.samples' --accumulate 2 --loss instance=1,clip=1 --teacher-image image-laid --teacher-text text-laid --steps 6 -o by-hand2"), 0, '... a run on them') or diag $said;
ok(model('by-part') eq model('by-hand2'), '... is the same to the byte');
my $long = "$train $teacher --steps 20 --checkpoint-every 3 --keep-checkpoints all --accumulate 2";
my $parted = "--data 'P=1:cat P{part}.samples' --data 'Q=0.5:bash part.sh {epoch} Q{part}.samples'";
spew('part.sh', "#!/bin/bash\nwhile [ \$1 = 1 ] && [ ! -e gone ]; do sleep 0.05; done\ncat \$2\n");
$pid = start("$long $parted -o p-parts", 'said-parts');
ok(wait_for(sub { -d step('p-parts', 9) }), 'under way, over the ends of parts') or diag slurp('said-parts');
kill 'KILL', $pid;
waitpid $pid, 0;
spew('gone', '');
is(run("$long $parted -o p-parts --resume"), 0, '... killed, gone on') or diag $said;
is(run("$long $parted -o p-once"), 0, '... and without a stop') or diag $said;
ok(made('p-parts') eq made('p-once'), '... the same bytes');
for (["$by_part --accumulate 3", 'made with --accumulate 2, now it is 3'], ["--data 'P=1:cat P1.samples' --data 'Q=0.5:cat Q1.samples' --accumulate 2", 'made with {part} in --data, give the same']) {
    is(run("$train $_->[0] $teacher --steps 6 -o by-part --resume"), 1, "other streams: $_->[1]");
    like($said, qr/\Q$_->[1]/, '... are refused') or diag $said;
}

# ---- the prior of the clusters: the mean of the sets' shares by weight.
my $prior = '--loss clip=1,cluster_ce=0.5 --teacher-image image-{set} --labels labels-{set} --centroids c.npy --steps 6';
is(run("$train --data 'A=1:cat A.samples' $prior --cluster-prior 1 -o prior-one"), 0, 'the prior of one set') or diag $said;
is(run("$train --data 'cat A.samples' " . $prior =~ s/\{set\}/A/gr . ' --cluster-prior 1 -o prior-plain'), 0, '... and without a mixture') or diag $said;
ok(model('prior-one') eq model('prior-plain'), '... the same bytes');
is(run("$train --data 'A=1:cat A.samples' --data 'E=0.5:cat E.samples' $prior --cluster-prior $_ -o prior-$_"), 0, "prior $_ of a mixture") or diag $said for 0, 1;
ok(model('prior-0') ne model('prior-1'), '... has an effect');

# ---- a plan, and what does not go together
is(run("$train $mix $teacher --steps 4 --dry-run"), 0, 'a plan') or diag $said;
embed('C', 'A/00000.tar', model => "$data/models/quick");
for (["$mix $teacher", 'give the length by --steps'], ["--data 'A=1:cat A.samples' --data 'cat B.samples' --steps 2", "'cat B.samples': of several sets each is NAME=WEIGHT:CMD"],
    ["--data 'cat A.samples' --data 'B=1:cat B.samples' --steps 2", "'cat A.samples': of several sets each is NAME=WEIGHT:CMD"],
    ["--data 'A=1:cat A.samples' --data 'A=2:cat B.samples' --steps 2", "two sets are called 'A'"], ["--data 'A=0:cat A.samples' --steps 2", 'its weight is not above 0'],
    ["--data 'A=1:' --steps 2", "'A' has no command"], ["--data 'A=1:x {part}' --data 'B=1:x' --steps 2", "--data 'B': {part} is in the commands of some sets only"],
    ["--data 'val=1:x' --val-data 'cat v.samples' --steps 2", "a set is called 'val', as the samples of --val-data are"], ["--data 'A=1:x {parts}' --steps 2", "--data 'A': {parts} without {part}"], ["--data 'A=1:x {view}' --steps 2", "--data 'A': {view} needs --views"],
    ["--data 'A=1:x' --steps 2 --views 2", "--data 'A' needs {view}"], ["--data 'A=1:x \"' --steps 2", "--data 'A': "]) {
    is(run("$train --loss clip $_->[0] -o wrong"), 2, "wrong usage: $_->[0]");
    like($said, qr/\Q$_->[1]/, '... says why') or diag $said;
}
is(run("$train --data 'A=1:cat A.samples' --data 'C=1:cat A.samples' $teacher --steps 2 -o wrong"), 1, 'teachers of two widths');
like($said, qr/--data 'C': /, '... are refused') or diag $said;
is(run("$train --data 'A=1:cat A.samples' --data 'D=1:cat A.samples' $teacher --steps 2 -o wrong"), 1, 'a set without its folder');
like($said, qr/--data 'D': .*image-D/, '... is told') or diag $said;
embed('F', 'A/00000.tar', model => 'plain');
is(run("$train --data 'A=1:cat A.samples' --data 'F=1:cat A.samples' --loss instance=1 --teacher-image image-{set} --teacher-text text-{set} --steps 2 -o wrong"), 1, 'two teachers of one width');
like($said, qr/--data 'F': its rows are of another teacher than those of 'A' \(model digests [0-9a-f]{8}, [0-9a-f]{8}\)/, '... are refused') or diag $said;
ok(!-e 'wrong', 'no folder is left');
done_testing();
