#!/usr/bin/env perl
# Ranks over MPI: the same bytes for 1, 2 and 3 of them, memory a rank that falls with their number, what goes wrong told in
# one line. Where there is no MPI, what does not need one; threads as ranks are in tests/unit (comm, cluster, balance).
use strict;
use warnings;
use lib 'tests/lib';
use Mpi;
use Npy;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Temp qw(tempdir);
use Test::More;
use lib 'tests/cli';
use TestPipeline qw(make_shards make_teacher make_student);
my $bin = abs_path($ENV{BIN} // 'bin');
my $source = abs_path('.');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
mkdir $_ for qw(bin emb big one one/emb);

my $said = '';
sub run { my $rc = system("@_ 2>$dir/said"); $said = slurp("$dir/said"); return $rc & 127 ? -1 : $rc >> 8; }
# What the tool said, not its launcher.
sub lines { my ($tool) = @_; return grep { /^\Q$tool\E: / } split /\n/, $said; }

my $seed = 1;
sub draw { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return ($seed >> 12) % 129 - 64; }
# Rows about 23 centers, in four files of different lengths; a zero row in each.
my $dim = 16;
my @center = map { [map { draw() } 1 .. $dim] } 1 .. 23;
for my $f (0 .. 3) {
    my @rows = map { my $c = $center[($seed >> 9) % 23]; [map { ($_ + draw() / 4) / 64 } @$c] } 1 .. 500 + 90 * $f;
    $rows[3] = [(0) x $dim];
    npy("emb/$f.npy", '<f4', scalar(@rows) . ", $dim", pack 'f<*', map { @$_ } @rows);
    copy("emb/$f.npy", "one/emb/$f.npy") if $f < 3; # rank 1 has one file less there
}
my $emb = join ' ', map { "emb/$_.npy" } 0 .. 3;
# Cells: the first rows of the first file.
npy('cells.npy', '<f4', "12, $dim", substr slurp('emb/0.npy'), 128 + 4 * 4 * $dim, 12 * 4 * $dim);
copy('cells.npy', 'one/cells.npy');

# ---- without MPI

for my $tool (map { s{.*/}{}r =~ s{\.c$}{}r } glob "$source/tools/*.c") {
    my $libraries = `ldd $bin/$tool`;
    ok($? == 0 && $libraries =~ /libc\.so/ && $libraries !~ /mpi|nccl|open-rte|pmix/i, "$tool needs no MPI and no NCCL") or diag($libraries);
}
my %command = ('kmeans-cluster' => "-k 60 --levels 2 --iterations 6 -q -o c.npy $emb",
    'sem-balance' => "--cells cells.npy --probe 3 -q -o r.json $emb");
for my $tool (sort keys %command) {
    my @launchers = (['OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK'], ['PMI_SIZE', 'PMI_RANK'], ['SLURM_STEP_NUM_TASKS', 'SLURM_PROCID']);
    for my $l (@launchers) {
        my $status = join ' ', map { run("$l->[0]=2 $l->[1]=$_ $bin/$tool --comm none $command{$tool}") . ' ' . lines($tool) } 0, 1;
        is($status, '1 1 1 0', "$tool: two tasks by $l->[0] that would each do all are an error, told once");
    }
    ok(run("SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=0 $bin/$tool --comm none $command{$tool}") == 1 &&
        $said =~ /^$tool: 2 tasks were started, and each would do all the work: --comm mpi$/m, "$tool: and says what to do") or diag($said);
    is(run("$bin/$tool --comm tcp $command{$tool}"), 2, "$tool: an unknown way to talk is wrong usage");
    is(run("$bin/$tool --comm ./none.so $command{$tool}"), 1, "$tool: a plug-in that is not there");
    ok(lines($tool) == 1 && $said =~ m{cannot use './none\.so'}, 'is told in one line') or diag($said);
    is(run("$bin/$tool $command{$tool}"), 0, "$tool: one task needs nothing") or diag($said);
}

# ---- sem-balance in parts: no MPI, the same bytes

my $parted = "--cells cells.npy --probe 3 --distance 0.01";
for my $rule ($parted, '--cells cells.npy --rule semdedup --distance 0.01') {
    my $outputs = '--keep-dir keep --pairs pairs.tsv --curve curve.tsv';
    my $all = sub { join "\0", map { slurp($_) } 'r.json', 'pairs.tsv', 'curve.tsv', map { "keep/$_.npy" } 0 .. 3 };
    is(run("$bin/sem-balance -q $rule $outputs -o r.json $emb"), 0, "sem-balance $rule") or diag($said);
    my $want = $all->();
    system('rm -rf r.json pairs.tsv curve.tsv keep');
    my $status = join ' ', map { run("$bin/sem-balance -q $rule --curve-to 0.2 --part $_/3 -o part$_ $emb") } 1 .. 3;
    is($status, '0 0 0', 'in three parts') or diag($said);
    is(run("$bin/sem-balance -q $rule $outputs --merge part3 --merge part1 --merge part2 -o r.json $emb"), 0, 'merged') or diag($said);
    ok(length $want > 1000 && $all->() eq $want, 'the same bytes');
}
run("$bin/sem-balance -q $parted --part $_/3 -o part$_ $emb") for 1 .. 3;
copy('part1', 'spoilt');
{ open my $h, '+<:raw', 'spoilt' or die; seek $h, 150, 0; print $h 'x'; }
for (['1 2', 'is one of 3 parts, here are 2'], ['1 2 2', 'part2 and part2 are the same part']) {
    my $merge = join ' ', map { "--merge part$_" } split ' ', $_->[0];
    is(run("$bin/sem-balance -q $parted $merge -o r.json $emb"), 1, "parts $_->[0] of 3");
    ok(lines('sem-balance') == 1 && $said =~ /\Q$_->[1]\E/, 'are refused') or diag($said);
}
my $three = '--merge part1 --merge part2 --merge part3';
is(run("$bin/sem-balance -q $parted --merge spoilt --merge part2 --merge part3 -o r.json $emb"), 1, 'a damaged part');
like($said, qr/spoilt: damaged part/, 'is refused');
is(run("$bin/sem-balance -q --cells cells.npy --probe 3 --distance 0.02 $three -o r.json $emb"), 1, 'parts of another distance');
like($said, qr/part1: a part that was made with other options/, 'are refused');
is(run("$bin/sem-balance -q $parted $three -o r.json emb/0.npy"), 1, 'parts of other rows');
like($said, qr/part1: a part of other inputs/, 'are refused');
is(run("$bin/sem-balance -q $parted --part $_ -o x $emb"), 2, "--part $_ is wrong usage") for '0/3', '4/3', '3', '1/3x';
is(run("$bin/sem-balance -q $parted --remove 0.1 --part 1/3 -o x $emb") . run("$bin/sem-balance -q --part 1/3 -o x $emb") .
    run("$bin/sem-balance -q $parted --keep-dir keep --part 1/3 -o x $emb"), '222', 'so is a part of a search, of no cells, or with masks');

# ---- with MPI

if (system('command -v mpirun >/dev/null && command -v mpicc >/dev/null')) {
    diag('no MPI (openmpi-bin, libopenmpi-dev): ranks over it are skipped');
    ok(1, 'ranks over MPI # skip no mpirun or no mpicc');
    done_testing();
    exit;
}
my $mpicc = 'mpicc -std=c11 -O2 -Wall -Wextra -Werror -fPIC -shared';
my $plugin = "$source/plugins/comm-mpi.c";
is(system("$mpicc -I$source/lib -o bin/comm-mpi.so $plugin"), 0, 'a site compiles the plug-in from one file');
is(system("$mpicc -DCOMM_MPI_MOST=999 -I$source/lib -o pieces.so $plugin"), 0, 'and with messages in small pieces');
mkdir $_ for qw(other other/comm);
spew('other/comm/backend.h', slurp("$source/lib/comm/backend.h") =~ s/COMM_VERSION = (\d+)/'COMM_VERSION = ' . ($1 + 1)/er);
is(system("$mpicc -Iother -o other.so $plugin"), 0, 'and of another version');
copy("$bin/$_", "bin/$_") && chmod 0755, "bin/$_" for keys %command, 'distill-train';
sub mpi { my ($ranks, @command) = @_; return run("timeout 60 mpirun -q -n $ranks @command"); }

# kmeans-cluster
sub outputs { return join "\0", map { "$_\n" . slurp($_) } 'c.npy', 'c.npy.json', map { ("labels/$_.npy", "labels/$_.npy.json") } 0 .. 3; }
my $alone;
for my $levels (1, 2) {
    my $kmeans = "-k 60 --levels $levels --iterations 6 --labels-dir labels -o c.npy $emb";
    system('rm -rf c.npy* labels');
    is(run("bin/kmeans-cluster $kmeans"), 0, "kmeans-cluster of $levels levels alone") or diag($said);
    $alone = outputs();
    my @notes = grep { /iteration|labelled/ && s/[\d.]+ s\b// } lines('kmeans-cluster');
    for my $ranks (2, 3) {
        system('rm -rf c.npy* labels');
        is(mpi($ranks, "bin/kmeans-cluster $kmeans"), 0, "kmeans-cluster on $ranks ranks") or diag($said);
        ok(outputs() eq $alone, "$ranks ranks: the same bytes, sidecars too");
        is_deeply([grep { /iteration|labelled/ && s/[\d.]+ s\b// } lines('kmeans-cluster')], \@notes, 'and rank 0 alone says what one would say');
    }
}
system('cp c.npy all.npy; rm -rf c.npy* labels');
is(mpi(3, "bin/kmeans-cluster --comm ./pieces.so -t 2 -k 60 --levels 2 --iterations 6 -q -o c.npy $emb"), 0, 'messages of 999 bytes') or diag($said);
ok(slurp('c.npy') eq slurp('all.npy'), 'the same bytes');
is(mpi(2, "bin/kmeans-cluster -q --assign all.npy --labels-dir labels $emb"), 0, 'labels alone') or diag($said);
ok(join('', map { slurp("labels/$_.npy") } 0 .. 3) ne '' && index($alone, slurp('labels/3.npy')) > 0, 'each rank writes those of its files');
is(mpi(2, "bin/kmeans-cluster -q -k 60 --checkpoint ck --ledger l.tsv --labels-dir labels -o no.npy $emb"), 1, 'a ledger on two ranks');
ok(lines('kmeans-cluster') == 1 && $said =~ /2 ranks go with none of --each, --resume, --ledger and -o -/ && !-e 'no.npy', 'is refused in one line') or diag($said);

# sem-balance: both rules, a curve, a share to remove; sidecars, tables and the ledger too.
sub balanced { return join "\0", map { "$_\n" . slurp($_) } 'r.json', 'pairs.tsv', 'curve.tsv', 'ledger.tsv', map { my $d = $_; map { ("$d/$_.npy", "$d/$_.npy.json") } 0 .. 3 } 'keep', 'groups'; }
for my $rule ('--probe 3 --distance 0.01', '--rule semdedup --distance 0.01', '--probe 2 --remove 0.2') {
    my $balance = "$rule --cells cells.npy --keep-dir keep --groups-dir groups --pairs pairs.tsv --curve curve.tsv --ledger ledger.tsv -q -o r.json $emb";
    my $clean = 'rm -rf r.json *.tsv keep groups';
    system($clean);
    is(run("bin/sem-balance $balance"), 0, "sem-balance $rule alone") or diag($said);
    my $want = balanced();
    my ($rows, $kept) = $want =~ /"usable":\s*(\d+).*?"kept":\s*(\d+)/s;
    ok($kept < $rows && $kept > 10, "$kept of $rows rows stay");
    for my $ranks (2, 3) {
        system($clean);
        is(mpi($ranks, "bin/sem-balance $balance"), 0, "sem-balance on $ranks ranks") or diag($said);
        ok(balanced() eq $want, "$ranks ranks: the same bytes, sidecars too");
    }
}
is(mpi(2, "bin/sem-balance -q -o no.json $emb"), 1, 'without cells on two ranks');
ok(lines('sem-balance') == 1 && $said =~ /2 ranks need --cells/ && !-e 'no.json', 'is refused in one line') or diag($said);

# A rank's memory: the rows of its own clusters, of 65 MB here.
my $block = pack 'f<*', map { draw() / 64 } 1 .. 2000 * 128;
npy("big/$_.npy", '<f4', '32000, 128', $block x 16) for 0 .. 3;
npy("big/half$_.npy", '<f4', '16000, 128', $block x 8) for 0 .. 3;
sub peak {
    my ($ranks, $command) = @_;
    return mpi($ranks, "bin/$command") == 0 && $said =~ /, (\d+) MB peak/ ? $1 : 0;
}
SKIP: {
    skip 'memory is not measured under ASan', 3 if $ENV{ASAN};
    # What a rank has anyway: libraries, MPI, messages on their way; the balance's arrays of a few values a row.
    my @tries = (['kmeans-cluster', '-k 128 --levels 2 --coarse 96 --coarse-points 3000 --iterations 1 -o big.npy big/?.npy', 40],
        ['sem-balance', '--survivor first --distance 0.001 --cells big.npy -o big.json big/half?.npy', 25],
        ['kmeans-cluster', '-k 8 --iterations 1 -o flat.npy big/?.npy', 32]);
    for my $t (@tries) {
        my @mb = map { peak($_, "$t->[0] $t->[1]") } 2, 4;
        my $share = ($mb[0] - $t->[2]) / (($mb[1] - $t->[2]) || 1);
        ok($mb[1] > $t->[2] && $share > 1.6 && $share < 2.8, "$t->[0]: memory a rank falls as 1/R") or diag("MB: @mb");
        note("$t->[0]: MB a rank with 2 and 4: @mb");
    }
}

# What goes wrong
for my $tool (sort keys %command) {
    is(mpi(2, "bin/$tool --comm ./other.so $command{$tool}"), 1, "$tool: a plug-in of another version");
    ok(lines($tool) == 1 && $said =~ /cannot use '.*other\.so': it is of version \d+, this program needs \d+$/m, 'is told in one line') or diag($said);
    my $two = join ' ', map { run("SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=$_ bin/$tool --comm mpi $command{$tool}") . ' ' . lines($tool) } 0, 1;
    is($two, '1 1 1 0', "$tool: two tasks that are one rank each: told once, status 1") or diag($said);
    is(mpi(2, qq(sh -c 'test \$OMPI_COMM_WORLD_RANK = 0 || cd one; exec $dir/bin/$tool $command{$tool}')), 1, "$tool: a rank without its input");
    ok(lines($tool) == 1 && $said =~ m{^$tool: rank 1 \([^ ]+\): .*emb/3\.npy}m, 'is told in one line, with rank and host') or diag($said);
    rename 'bin/comm-mpi.so', 'bin/gone';
    is(mpi(2, "bin/$tool $command{$tool}"), 1, "$tool: mpirun without a plug-in");
    ok(lines($tool) == 1 && $said =~ m{no comm-mpi\.so in .*make MPI=1}, 'is told in one line') or diag($said);
    rename 'bin/gone', 'bin/comm-mpi.so';
}

# Stopped on two ranks, gone on with three and alone: the same bytes. A rank that is killed ends the others.
npy('slow.npy', '<f4', '40000, 32', pack 'f<*', map { draw() / 64 } 1 .. 40000 * 32); # takes many iterations
my %long = (1 => '-k 600 --iterations 25 -o long.npy --checkpoint ck slow.npy',
    2 => '-k 300 --levels 2 --coarse 60 --coarse-points 40000 --iterations 40 -o long.npy --checkpoint ck big/half?.npy');
sub begin { # until rank 0 has said this
    my ($until, $long) = @_;
    unlink 'said'; # of the run before
    my $pid = fork // die;
    if (!$pid) { open STDERR, '>', 'said'; exec "exec mpirun -q -n 2 bin/kmeans-cluster $long"; }
    for (1 .. 3000) { last if slurp('said') =~ $until; select undef, undef, undef, 0.01; }
    return $pid;
}
my %whole;
for my $levels (1, 2) {
    is(run("bin/kmeans-cluster -q $long{$levels}"), 0, "a run of $levels levels that is not stopped") or diag($said);
    $whole{$levels} = slurp('long.npy');
}
for my $case ([2, 1], [2, 3], [1, 3]) {
    my ($levels, $ranks) = @$case;
    my ($long, $whole) = ($long{$levels}, $whole{$levels});
    unlink 'long.npy', 'long.npy.json';
    my $pid = begin(qr/^kmeans-cluster: iteration 2:/m, $long);
    kill 'USR2', $pid; # which mpirun hands on
    waitpid $pid, 0;
    ok($? && -s 'ck' && !-e 'long.npy', 'two ranks are asked to stop: saved, no output, not status 0') or diag($?, slurp('said'));
    my $command = "bin/kmeans-cluster $long";
    is($ranks > 1 ? mpi($ranks, $command) : run($command), 0, "$ranks ranks go on");
    like($said, qr/continuing from ck: (?:after iteration \d+ of (?:25|40 of the coarse level)|with \d+ of 60 coarse clusters done)/, 'from there') or diag($said);
    ok(length $whole && slurp('long.npy') eq $whole && !-e 'ck', 'the same bytes');
}
unlink 'long.npy';
my $launcher = begin(qr/^kmeans-cluster: iteration 3:/m, $long{1});
my ($rank) = split /\n/, `pgrep -P $launcher -f kmeans-cluster`;
my $killed = $rank && kill 'KILL', $rank;
my $ended = 0;
for (1 .. 300) { last if $ended = waitpid $launcher, 1; select undef, undef, undef, 0.05; }
ok($killed && $ended == $launcher && $? && !-e 'long.npy', 'a rank that is killed ends all, within seconds, not with status 0') or diag($killed, $?);
kill 'KILL', $launcher if !$ended;
is(mpi(3, "bin/kmeans-cluster $long{1}"), 0, '... three go on') or diag($said);
like($said, qr/continuing from ck: after iteration \d+ of 25/, '... from its checkpoint');
ok(slurp('long.npy') eq $whole{1}, '... to the same bytes');

# The pipeline: RANKS puts the launcher before balance and centroids.
chdir $source or die;
make_shards($dir, 3, 12);
make_teacher("$dir/teacher");
make_student("$dir/student.json");
-e "$dir/bin/$_" or symlink "$bin/$_", "$dir/bin/$_" for map { s{.*/}{}r =~ s{\.c$}{}r } glob 'tools/*.c';
spew("$dir/conf.mk", join "\n", "SHARD_DIR := $dir/shards", 'SHARDS := 00000 00001 00002', "TEACHER := $dir/teacher", "STUDENT := $dir/student.json",
    'CELLS := 3', 'PROBE := 1', 'K := 6', 'KMEANS := --levels 2 --iterations 3', 'BALANCE := --remove 0.2', 'T_big := 1', 'MEM := 256M', '');
sub make { my ($work, @args) = @_; return run("make -f pipeline.mk DATA=test CONF=$dir/conf.mk WORK=$dir/$work BIN=$dir/bin PREFLIGHT=no @args >$dir/out"); }
is(make('w1', 'cluster'), 0, 'the pipeline up to the labels') or diag(slurp("$dir/out") . $said);
system("cp -r $dir/w1 $dir/w2; cd $dir/w2/test && rm -r keep* groups* log* balance.json* centroids.npy* labels*");
is(make('w2', 'RANKS=2', 'cluster'), 0, 'the same with RANKS=2') or diag(slurp("$dir/out") . $said);
for my $file ('centroids.npy', 'balance.json', map { "keep/0000$_.npy" } 0 .. 2) {
    ok(length slurp("$dir/w1/test/$file") && slurp("$dir/w1/test/$file") eq slurp("$dir/w2/test/$file"), "$file has the same bytes");
}
for my $log ('balance.json', 'centroids.npy') {
    like(slurp("$dir/w2/test/log/$log.log"), qr{^# mpirun -n 2 \Q$dir\E/bin/}m, "$log ran on two ranks");
}
my $log = "$dir/w1/test/log/student/open_clip_config.json.log";
for my $ranks (2, 4) {
    is(make('w1', "RANKS_train=$ranks 'TRAIN=--batch 8 --accumulate 4 --steps 3'", 'train'), 0, "training with RANKS_train=$ranks") or diag($said, slurp($log));
    like(slurp($log), qr{^# .*mpirun -n $ranks \S*distill-train.* --part \{part\}/\{parts\} }m, '... by parts');
    rename "$dir/w1/test/student", "$dir/student.$ranks";
    unlink "$dir/w1/test/student.jsonl";
}
my $model = slurp("$dir/student.2/open_clip_model.safetensors");
ok(length $model > 1000 && $model eq slurp("$dir/student.4/open_clip_model.safetensors"), '... the same bytes for both');
system("touch $dir/w2/test/params/cluster");
run("SLURM_JOB_ID=1 make -n -f pipeline.mk LOCKED=yes DATA=test CONF=$dir/conf.mk WORK=$dir/w2 BIN=$dir/bin RANKS=2 MPI=pmi2 $dir/w2/test/centroids.npy >$dir/out");
like(slurp("$dir/out"), qr{ srun --mpi=pmi2 -n 2 \S+/kmeans-cluster }, 'in a job of Slurm srun starts the ranks') or diag($said);
done_testing();
