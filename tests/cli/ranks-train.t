#!/usr/bin/env perl
# distill-train on ranks over MPI: the same model and checkpoint bytes for 1, 2 and 4 of them, stop by a signal to any, a rank
# that is killed, resume on another number, what goes wrong told in one line. Threads as ranks: tests/unit/train/ranks-test.c.
use strict;
use warnings;
use lib 'tests/lib';
use Mpi;
use Cwd qw(abs_path getcwd);
use JSON::PP qw(decode_json encode_json);
use File::Copy qw(copy);
use Test::More;
$SIG{$_} = 'DEFAULT' for qw(HUP INT TERM USR2);
use Train;
my $source = abs_path("$data/../..");

plan skip_all => 'no mpirun or no mpicc' if system('command -v mpirun >/dev/null && command -v mpicc >/dev/null');
mkdir 'bin';
is(system("mpicc -std=c11 -O2 -fPIC -shared -I$source/lib -o bin/comm-mpi.so $source/plugins/comm-mpi.c"), 0, 'the plug-in');
copy("$bin/distill-train", 'bin/distill-train') && chmod 0755, 'bin/distill-train';

shard('a/00000.tar', 40, 'a');
shard('a/00001.tar', 40, 'b');
is(run("$bin/shard-read -q --size 29 -o s.samples a/00000.tar a/00001.tar"), 0, 'samples') or diag $said;
embed('t', "a/0000$_.tar") for 0, 1;
clusters('t', '-k 9');
my $files = '--teacher-image image-t --teacher-text text-t --labels labels-t --centroids c-t.npy --sample-rate 0.5';
my $train = "bin/distill-train --student student.json --tokenizer $vocab --batch 8 -t 1 --progress never $files";
sub mpi { my ($ranks, $command) = @_; return run("timeout 60 mpirun -q -n $ranks $command"); }
sub lines { return grep { /^distill-train: / } split /\n/, $said; }
# Model and last checkpoint, but for the times.
sub made {
    my ($dir) = @_;
    my ($last) = (sort glob "$dir/checkpoints/step-*")[-1];
    return join "\0", map { /time\.json$|log\.jsonl$/ ? () : s{^\Q$dir\E/}{}r . "\n" . slurp($_) } sort grep { -f } glob("$dir/* $last/*");
}

# The same bytes
my @types = ('f32', run("$train --accumulate 4 --steps 1 -o probe --dtype bf16 s.samples") == 0 ? 'bf16' : ());
for my $type (@types) {
    my $how = "$train --accumulate 4 --steps 3 --ema 0.5 --patch-dropout 0.25 --dtype $type --checkpoint-every 3";
    is(run("$how -o one-$type s.samples"), 0, "$type: one process, 4 pieces") or diag $said;
    for my $ranks (1, 2, 4) {
        is(mpi($ranks, "$how -o r$ranks-$type s.samples"), 0, "$type: $ranks ranks") or diag $said;
        ok(made("r$ranks-$type") eq made("one-$type") && length(made("one-$type")) > 50_000, '... the same model and checkpoint bytes');
    }
    is(steps("r4-$type"), '1 2 3', '... one log');
    like($said, qr/4 ranks: \d+\.\d+ MB sent by each in a step/, '... and what was sent');
}
my $two = "$train --accumulate 4 --steps 3 --checkpoint-every 3 --loss affinity --teacher-image image-t,image-t --teacher-text text-t,text-t --teacher-scale 9,80";
is(run("$two -o teachers-one s.samples"), 0, 'two teachers') or diag $said;
is(mpi(2, "$two -o teachers-two s.samples"), 0, '... on two ranks') or diag $said;
ok(made('teachers-one') eq made('teachers-two'), '... the same bytes');
my $part = "$train --accumulate 4 --steps 3 --checkpoint-every 3 --init one-f32 --lock image --layer-decay 0.5 --ema 0.5";
is(run("$part -o locked-one s.samples"), 0, 'a locked tower, rates by depth') or diag $said;
is(mpi(2, "$part -o locked-two s.samples"), 0, '... on two ranks') or diag $said;
ok(made('locked-one') eq made('locked-two') && made('locked-one') ne made('one-f32'), '... the same bytes');
# Looked at by rank 0, the best kept.
mkdir $_ for 'ret', 'ret/test';
spew('ret/dataset_type.txt', "retrieval\n");
spew('ret/test/nshards.txt', "1\n");
copy('a/00000.tar', 'ret/test/0.tar');
my $looked = "$train --accumulate 4 --steps 6 --ema 0.5 --eval-set ret --val-data 'cat s.samples' --eval-every 2 --keep-best ema/ret:text_retrieval_recall\@5 --checkpoint-every 0";
is(run("$looked -o looked-one s.samples"), 0, 'evaluated while it trains') or diag $said;
is(mpi(2, "$looked -o looked-two s.samples"), 0, '... on two ranks') or diag $said;
ok(made('looked-one') eq made('looked-two') && made('looked-one') =~ /best_step/, '... the same bytes, the best known');
sub looks { return join "\n", map { /("step":\d+,).*("weights".*"metrics":\{.*?\})/ ? "$1 $2" : () } split /\n/, slurp("$_[0]/log.jsonl"); }
ok(looks('looked-one') eq looks('looked-two') && looks('looked-one') =~ /ema.*\n.*trained.*"loss".*\n.*ema/, '... the same figures');
is(mpi(2, "$train --steps 3 -o auto s.samples"), 0, 'a piece a rank by itself') or diag $said;
is(run("$train --accumulate 2 --steps 3 -o two s.samples"), 0, '... as two pieces') or diag $said;
ok(made('auto') eq made('two'), '... to the same bytes');

# A part of the samples for each piece, read by its rank alone: 19, 18, 17 and 16 samples, so that the last ends first and is read
# a fourth time.
my $read = "$bin/shard-read -q --size 29 --part {part}/{parts} --shuffle 8 --seed {seed} --epoch {epoch} --skip {skip}";
sub by_part {
    my ($note) = @_;
    my $run = "echo {part} {epoch} >> $note; exec $read --limit \$((20 - {part} - {skip})) a/00000.tar a/00001.tar";
    return qq{--data 'sh -c "$run"' --epoch-samples 70 --epochs 3};
}
sub parts_of { my %n = map { (split)[0] => 1 } split /\n/, slurp($_[0]); return join ' ', sort keys %n; }
my $parted = "$train --accumulate 4 --checkpoint-every 10 --keep-checkpoints all";
is(run("$parted -o p1 " . by_part('p1.parts')), 0, 'by parts: one process') or diag $said;
is(parts_of('p1.parts'), '1 2 3 4', '... reads all parts');
like(slurp('p1.parts'), qr/^4 3$/m, '... and the shortest a fourth time');
for my $ranks (2, 4) {
    my $mine = '$OMPI_COMM_WORLD_RANK';
    is(mpi($ranks, "$parted -o p$ranks " . by_part("p$ranks.$mine.parts")), 0, "by parts: $ranks ranks") or diag $said;
    ok(made("p$ranks") eq made('p1') && length(made('p1')) > 50_000, '... the same model and checkpoint bytes');
    for my $r (0 .. $ranks - 1) {
        is(parts_of("p$ranks.$r.parts"), join(' ', 4 / $ranks * $r + 1 .. 4 / $ranks * ($r + 1)), "... rank $r reads its parts alone");
    }
}

# A mixture: every rank reads all of it.
my $mixed = "$train --accumulate 4 --steps 12 --checkpoint-every 12 --data 'A=2:cat s.samples' --data 'B=1:cat s.samples'";
is(run("$mixed -o mix1"), 0, 'a mixture') or diag $said;
is(mpi(2, "$mixed -o mix2"), 0, '... on two ranks') or diag $said;
ok(made('mix2') eq made('mix1') && made('mix1') =~ /A=2,B=1/, '... the same bytes');
my $both = join ' ', map { "--data '$_:$read a/00000.tar a/00001.tar'" } 'A=2', 'B=1';
is(run("$train --accumulate 4 --steps 12 --checkpoint-every 12 -o mixp1 $both"), 0, 'a mixture by parts') or diag $said;
is(mpi(2, "$train --accumulate 4 --steps 12 --checkpoint-every 12 -o mixp2 $both"), 0, '... on two ranks') or diag $said;
ok(made('mixp2') eq made('mixp1') && made('mixp1') ne made('mix1'), '... the same bytes');

# Losses that jump: every rank decides alike, and the samples of all are in the file.
sub spikes { my ($dir) = @_; return join "\0", map { s{^\Q$dir\E/}{}r . "\n" . slurp($_) } sort glob "$dir/spikes/*.tsv"; }
for my $way ('skip', 'rewind') {
    my $how = "$train --accumulate 2 --checkpoint-every 4 --lr 3e-3 --spike 1.01 --on-spike $way";
    my $one = run("$how -o j1-$way " . by_part('j.parts'));
    is(mpi(2, "$how -o j2-$way " . by_part('j.parts')), $one, "a loss that jumps, $way: 2 ranks end as one process") or diag $said;
    ok(made("j2-$way") eq made("j1-$way") && length(made("j1-$way")) > 20_000, '... with the same bytes');
    ok(spikes("j2-$way") eq spikes("j1-$way"), '... and the same samples');
    my ($first) = glob "j1-$way/spikes/*.tsv";
    is(scalar(() = slurp($first // '') =~ /^0000\d\.tar\t\d+\t[ab]\d+$/mg), 8, '... a batch of them');
}

for my $ranks (1, 2) { # after 20 samples of each part: in their second epoch, at four places
    system("cp -r p4 again$ranks");
    is(mpi($ranks, "$parted --resume-from 10 -o again$ranks " . by_part('again.parts')), 0, "by parts: 10 steps by 4 ranks, the others by $ranks") or diag $said;
    ok(made("again$ranks") eq made('p1'), '... to the same bytes');
}
is(run("$parted --resume-from 10 -o again1 --data 'cat s.samples' --epoch-samples 70 --epochs 3"), 1, 'a checkpoint by parts, and data that are not');
like($said, qr/the checkpoint was made with \{part\} in --data/, '... is refused');
is(mpi(2, "$train --steps 2 -o bad --accumulate 2 --batch 9 " . by_part('bad.parts') =~ s/--epoch-samples.*//r), 1, 'parts of two sizes');
like($said, qr/a batch of 9 in 2 pieces cannot be dealt/, '... are refused');

# Stopped by a signal to a rank, or a rank killed; then other numbers of ranks.
my $slow_parts = qq{--data 'sh -c "sleep 0.5; exec $read a/00000.tar a/00001.tar"'};
is(run("$train --accumulate 4 --steps 30 -o straight s.samples --epochs 9 "), 0, 'a straight run') or diag $said;
is(run("$train --accumulate 4 --steps 30 -o straight-parts --epochs 9 --data '$read a/00000.tar a/00001.tar'"), 0, '... by parts') or diag $said;
my $slow = "--data 'sh -c \"cat s.samples; sleep 0.4\"'";
my $long = "$train --accumulate 4 --steps 30 --epochs 9";
my $here = getcwd();
sub rank_pid {
    my ($dir, $rank) = @_;
    for my $p (grep { m{^/proc/\d+$} } glob '/proc/*') {
        next unless (readlink("$p/cwd") // '') eq $here; # another run of this test may be going
        next unless slurp("$p/cmdline") =~ /^\S*distill-train\0.*\0-o\0\Q$dir\E\0/s && slurp("$p/environ") =~ /(^|\0)OMPI_COMM_WORLD_RANK=$rank\0/;
        return $p =~ s/\D+//r;
    }
    return 0;
}
for my $case (['USR2', 'stop', 4, $slow, 's.samples', 'straight'], ['KILL', 'kill', 1, $slow, 's.samples', 'straight'],
    ['USR2', 'stop-parts', 4, $slow_parts, "--data '$read a/00000.tar a/00001.tar'", 'straight-parts']) {
    my ($signal, $dir, $then, $slowly, $data, $whole) = @$case;
    my $pid = start("timeout 60 mpirun -q -n 2 $long --checkpoint-every 2 -o $dir $slowly", "said.$dir");
    ok(wait_for(sub { slurp("$dir/log.jsonl") =~ /"step":\s*4/ }), "$dir: under way") or diag slurp("said.$dir");
    my $rank = rank_pid($dir, 1);
    ok($rank && kill($signal, $rank), "SIG$signal to rank 1");
    my $begun = time;
    waitpid $pid, 0;
    ok($? != 0 && time - $begun < 15, '... all end within seconds, with a status that is not 0') or diag "$?, " . slurp("said.$dir");
    ok(wait_for(sub { !rank_pid($dir, 0) && !rank_pid($dir, 1) }) && time - $begun < 15, '... no rank is left');
    like(slurp("said.$dir"), qr/stopped by .*--resume goes on after step \d+, from '/, '... and rank 0 says where it goes on') if $signal eq 'USR2';
    system("cp -r $dir $dir-one");
    is(mpi($then, "$long --resume -o $dir $data"), 0, "... it goes on with $then ranks") or diag $said;
    ok(made($dir) eq made($whole), '... to the same bytes');
    is(run("$long --resume -o $dir-one $data"), 0, '... and with one') or diag $said;
    ok(made("$dir-one") eq made($whole), '... to the same bytes');
}
is(mpi(2, "$long --resume -o stop s.samples"), 0, 'a finished run') or diag $said;
like($said, qr/'stop' is finished/, '... is told');

# What is free on the host is shared out; what is not promised is told.
my $plan = "$train --steps 1 --batch 6 --overwrite -o plan";
my (%free, %made);
for my $ranks (1, 2, 3) {
    is(mpi($ranks, "$plan --accumulate 6 s.samples"), 0, "a plan of $ranks ranks") or diag $said;
    ($free{$ranks}, my $by) = $said =~ /memory: .* (\d+\.\d+) GiB are free \((.*)\)$/m;
    is($by =~ /for each of (\d+) ranks$/ ? $1 : 1, $ranks, '... for each of them');
    my $told = $said =~ /warning: 6 pieces on $ranks ranks: another number of ranks gives the same only up to the rounding/;
    $made{$ranks} = slurp('plan/open_clip_model.safetensors');
    is($told ? 1 : 0, $ranks == 3 ? 1 : 0, '... rounding is ' . ($ranks == 3 ? 'told' : 'nobody\'s'));
}
ok($made{1} ne '' && $made{1} eq $made{2}, '... 6 pieces are in 2 parts: the same bytes on 1 and 2');
ok($free{3} < 0.7 * $free{1}, "... of $free{1} GiB, $free{3}");
is(mpi(2, "$plan --batch 8 --accumulate 4 s.samples"), 0, 'powers of two') or diag $said;
unlike($said, qr/another number of ranks/, '... need no warning');

# A rank's memory: its share of the moments of 16 million weights, 131 MB in all.
SKIP: {
    skip 'memory is not measured under ASan', 2 if $ENV{ASAN};
    my $large = decode_json(slurp('student.json'));
    $large->{text_cfg} = { %{ $large->{text_cfg} }, width => 64, mlp_ratio => 2000 };
    spew('large.json', encode_json($large));
    my $step = "$train --loss clip --student large.json --batch 4 --steps 1 --checkpoint-every 0 --overwrite -o large s.samples";
    my (@mb, @gib);
    for my $ranks (1, 2, 4) {
        is(mpi($ranks, "$step --accumulate $ranks"), 0, "16 million weights on $ranks ranks") or diag $said;
        push @mb, $said =~ /, (\d+) MB peak/ ? $1 : 0;
        push @gib, $said =~ /memory: .*optimiser (\d+\.\d+)/ ? $1 : 0;
    }
    is("@gib", '0.12 0.06 0.03', '... the plan has a share of the moments for each');
    my ($half, $quarter) = map { $mb[0] - $mb[$_] } 1, 2; # and of activations
    ok($half > 60 && $half < 100 && $quarter > 90 && $quarter < 140, '... and each has its share alone') or diag "MB: @mb";
    note("MB a rank of 1, 2 and 4: @mb");
}

# What goes wrong
my $how = "$train --steps 2";
is(mpi(2, "$how -o bad -"), 1, 'two ranks and standard input');
ok(lines() == 1 && $said =~ /2 ranks cannot all read standard input: give --data 'CMD', or a file/, '... are refused in one line') or diag $said;
is(mpi(3, "$how -o bad --accumulate 4 s.samples"), 1, '3 ranks for 4 pieces');
ok((grep { /cannot be dealt to 3 ranks/ } lines()) == 1, '... are refused in one line') or diag $said;
is(mpi(2, qq{$how -o bad --data 'sh -c "test {part} = 1 || exit 3; exec $read a/00000.tar"'}), 1, 'the data command of a part fails');
ok((grep { /rank/ } grep { !/memory:/ } lines()) == 1 && $said =~ /rank 1 \(.*\): data of epoch 0, part 2\/2: .*status 3/, '... is told in one line') or diag $said;
is(mpi(1, "$how -o bad --data 'cat s.{parts}'"), 2, '{parts} alone is wrong usage');
ok((grep { /parts/ } lines()) == 1 && $said =~ /\{parts\} without \{part\}/, '... is refused in one line') or diag $said;
is(mpi(2, "sh -c 'test \$OMPI_COMM_WORLD_RANK = 0 || mv c-t.npy gone.npy; sleep 0.5; exec $how -o bad s.samples'"), 1, 'no centroids');
ok((grep { /c-t\.npy/ } lines()) == 1, '... are told in one line') or diag $said;
ok(!-e 'bad', '... and nothing is left');
done_testing();
