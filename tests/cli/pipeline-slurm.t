#!/usr/bin/env perl
# LAUNCH=slurm on a real Slurm of three hosts (tests/lib/slurm): the bytes of the local run, whatever dies on the way: nodes in
# index, embed and training, the waiting make, the controller for a while. Arrays that are smaller than the list, a shard that
# always fails, signals before the time is up, jobs that are cancelled, waiting as a job.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use Test::More;
use Time::HiRes qw(sleep);
use lib 'tests/cli';
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
my @tools = qw(shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report);
plan skip_all => 'run once, with the optimised build: it is about jobs, not about memory' if $ENV{ASAN};
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } @tools;
my $dir = tempdir(CLEANUP => 1);
chmod 0755, $dir;
my $why = `tests/lib/slurm up $dir/slurm 3 MaxArraySize=11 2>&1`;
my $up = $? >> 8;
$ENV{SLURM_TEST} = "$dir/slurm";
$ENV{SLURM_CONF} = "$dir/slurm/slurm.conf";
END { my $status = $?; system('tests/lib/slurm', 'down') if $ENV{SLURM_TEST}; $? = $status }
$SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);
plan skip_all => $why =~ s/\n//gr if $up == 77;
is($up, 0, 'a Slurm of three hosts') or BAIL_OUT($why);

make_shards($dir, 13, 4);
make_eval_set("$dir/eval/wds_things");
make_teacher("$dir/teacher");
make_student("$dir/student.json");
my @names = map { sprintf '%05d', $_ } 0 .. 12;
spew("$dir/conf.mk", <<"EOC");
SHARD_DIR := $dir/shards
SHARDS := @names
TEACHER := $dir/teacher
STUDENT := $dir/student.json
CELLS := 2
K := 2
BALANCE := --remove 0.1
TRAIN := --steps 8 --batch 4 --checkpoint-every 2
SHUFFLE := 4
EVAL_SETS := $dir/eval/wds_things
T_big := 1
MEM := 256M
EOC
my @make = ('make', '-f', 'pipeline.mk', 'DATA=test', "CONF=$dir/conf.mk", "WORK=$dir/w");
my @slurm = ('LAUNCH=slurm', 'ASK_EVERY=1', 'NFS_WAIT=1', 'BLOCK_index=1', 'BLOCK_embed=3', 'BLOCK_labels=5', 'SITE=');
my $w = "$dir/w/test";
sub made {
    my %f;
    for my $f (split /\n/, `cd $w && find . -type f -not -path './log/*' -not -path './params/*' -not -path './slurm/*' -not -name '.*'`) {
        $f{$f} = slurp("$w/$f") if $f !~ m{checkpoint|report\.html|\.jsonl$};
    }
    return \%f;
}
sub same { my ($a, $b, $what) = @_; return is(join(' ', grep { ($a->{$_} // '-') ne ($b->{$_} // '-') } sort keys %{ { %$a, %$b } }), '', $what); }
sub run { my (@args) = @_; my $rc = system("@make @args >$dir/said 2>&1"); return $rc >> 8; }
sub start { my (@args) = @_;
    my $pid = fork // die;
    if (!$pid) {
        setpgrp;
        $SIG{$_} = 'DEFAULT' for qw(INT HUP TERM);
        delete $ENV{SLURM_TEST}; # its END is not ours
        open STDOUT, '>', "$dir/said" or die;
        open STDERR, '>&', \*STDOUT or die;
        exec @make, @args;
    }
    return $pid;
}
sub until_true { my ($what) = @_; for (1 .. 1200) { return 1 if $what->(); sleep 0.05; } return 0; }
sub slurm { return system('tests/lib/slurm', @_); }
# Tools that stop for good at one place, the first time: the file has host and job.
make_path("$dir/slow");
symlink "$bin/$_", "$dir/slow/$_" for @tools;
sub hangs { my ($tool, $where, $how) = @_;
    unlink "$dir/slow/$tool";
    # What a list names counts as an argument; \$list is the list.
    my $named = 'list=; for ((i = 1; i < $#; i++)); do j=$((i + 1)); [[ ${!i} != --@(files|shards)-from ]] || list=${!j}; done; '
        . 'all="$* $([ -z "$list" ] || paste -sd " " "$list")"';
    spew("$dir/slow/$tool", "#!/bin/bash\n$named\n$where\nexec $bin/$tool \"\$\@\"\n");
    chmod 0755, "$dir/slow/$tool";
    return;
}
# Fails for one shard and makes the others of its block.
sub fails_at { my ($tool, $shard, $while, $reason) = @_;
    return qq(if [[ "\$all" == *$shard* && -n "\$list" && -e $dir/$while ]]; then sed -i /$shard/d "\$list"; $bin/$tool "\$\@"; echo "$tool: $reason" >&2; exit 1; fi\n);
}
sub hang_at { my ($pattern, $name, $with) = @_;
    return qq(if [[ "\$all" == $pattern && ! -e $dir/$name ]]; then echo "\$(hostname) \$SLURM_JOB_ID" >$dir/$name.new; mv $dir/$name.new $dir/$name; $with fi\n);
}
hangs('shard-read', fails_at('shard-read', '00007', 'bad-index', 'the reason is seven') . hang_at('*--index-dir*00004.tar*', 'in-index', 'exec sleep 300;')
    . qq(if [[ "\$*" == *--shuffle* && ! -e $dir/in-training-2 ]]; then $bin/shard-read "\$\@" | { head -c 100000; ) . hang_at('*', 'in-training', 'exec sleep 300;') . hang_at('*', 'in-training-2', 'exec sleep 300;') . "}; exit; fi\n");
hangs('teacher-embed', hang_at('*00009*', 'in-embed', 'exec sleep 300;') . fails_at('teacher-embed', '00006', 'bad', 'the reason is six'));

# ---- here
is(run("BIN=$bin"), 0, 'here, to the end') or diag slurp("$dir/said");
my $here = made();
ok($here->{'./student/open_clip_model.safetensors'} && $here->{'./ledger.tsv'}, 'all is there');
rename "$dir/w", "$dir/here";

# ---- there
is(run(@slurm, "BIN=$bin", '-n'), 0, '-n');
ok(!-e "$dir/w" && `squeue -h` eq '', 'submits nothing, writes nothing');
is(run(@slurm, "BIN=$bin"), 0, 'on Slurm, to the end') or diag slurp("$dir/said");
same($here, made(), 'the same bytes');
my $said = slurp("$dir/said");
like($said, qr/^$_: done, /m, "$_ says so") for qw(preflight index embed cells balance centroids labels train eval report);
my @tasks = glob("$w/slurm/index.*.log");
is(scalar @tasks, 7, '13 shards in an array of at most 11 tasks: two a task');
is(scalar(() = glob "$w/slurm/embed.*.log"), 5, 'and by BLOCK_embed, three');
cmp_ok(scalar(keys %{ { map { slurp($_) =~ /^# job \d+ on (\S+)/ ? ($1 => 1) : () } glob "$w/slurm/*.log" } }), '>', 1, 'on several hosts');
is(run(@slurm, "BIN=$bin"), 0, 'again');
unlike(slurp("$dir/said"), qr/done/, 'nothing to do');

# ---- the teacher's views, by shards, and its rows of the sets
my @seen = ("BIN=$bin", 'VIEWS=2', "AUGMENT='--scale 0.2,0.6'", 'NEIGHBOURS=yes');
is(run(@slurm, @seen), 0, 'views and neighbours') or diag slurp("$dir/said");
like(slurp("$dir/said"), qr/^view: done, 26 files made.*^train: done.*^rows: done/ms, '... are steps');
is(scalar(() = glob "$w/slurm/view.*.log"), 9, '... views an array by BLOCK_embed');
my $viewed = made();
ok($viewed->{'./embed/view-1/00012.npy'} && $viewed->{'./embed/view-0/00012.npy'} ne $viewed->{'./embed/view-1/00012.npy'}, '... each its own rows');
remove_tree("$w/eval", "$w/student", "$w/embed/view-0", "$w/embed/view-1");
is(run(@seen), 0, '... and here') or diag slurp("$dir/said");
same($viewed, made(), '... the same bytes');
is(run(@slurm, @seen), 0, '... again on Slurm');
unlike(slurp("$dir/said"), qr/done/, '... nothing to do');
rename "$dir/w", "$dir/there";

# ---- nodes that die; the one that waits, and the controller
my $pid = start(@slurm, "BIN=$dir/slow");
ok(until_true(sub { -e "$dir/in-index" }), 'index is at work') or diag slurp("$dir/said");
kill -9, $pid;
waitpid $pid, 0;
ok(`squeue -h` ne '', 'the waiter is killed, the jobs are not');
isnt(run("BIN=$bin"), 0, 'a run here beside them is refused');
like((split /\n/, slurp("$dir/said"))[-1], qr/jobs of Slurm are at work in \S+ \(index job \d+: .*\): LAUNCH=slurm takes them up, cancel ends them/, 'and told why');
is(run('LAUNCH=slurm', 'status', "BIN=$bin"), 0, 'status') or diag slurp("$dir/said");
like(slurp("$dir/said"), qr/^jobs: index job \d+: \d+ running/m, 'tells of them');
$pid = start(@slurm, "BIN=$dir/slow");
ok(until_true(sub { slurp("$dir/said") =~ /taking up the jobs that are at work: \d/ }), 'another one takes them up');
my $node = slurp("$dir/in-index") =~ /^n(\d)/ ? $1 : die;
slurm('kill', $node);
ok(until_true(sub { -e "$dir/in-embed" }), 'a node dies in index: it goes on') or diag slurp("$dir/said");
slurm('start', $node);
slurm('hang');
sleep 10;
slurm('go');
$node = slurp("$dir/in-embed") =~ /^n(\d)/ ? $1 : die;
slurm('kill', $node);
ok(until_true(sub { -e "$dir/in-training" }), 'the controller is away for 10 s, a node dies in embed: it goes on') or diag slurp("$dir/said");
slurm('start', $node);
ok(until_true(sub { glob("$w/student/checkpoints/step-*") }), 'training has a checkpoint') or diag `cat $w/slurm/train*.log`;
my $at = (sort glob "$w/student/checkpoints/step-*")[-1];
$node = slurp("$dir/in-training") =~ /^n(\d)/ ? $1 : die;
ok(-e "$w/student/.lock", 'and holds its folder');
slurm('kill', $node);
ok(until_true(sub { -e "$dir/in-training-2" }), 'a node dies in training: it goes on') or diag slurp("$dir/said");
like(slurp("$dir/said"), qr/job \d+ has ended: its lock '\S+' is removed/, 'without the lock of the dead');
slurm('start', $node);
# Before the time is up: the batch script is told.
my ($job) = slurp("$dir/in-training-2") =~ /^\S+ (\d+)/;
system("scancel -b -s USR2 $job");
waitpid $pid, 0;
is($?, 0, 'SIGUSR2: saved, resubmitted, to the end') or diag slurp("$dir/said"), `tail -n 30 $w/slurm/train*.log`;
like(slurp("$w/log/student/open_clip_config.json.log"), qr/stopped by SIG(USR2|TERM); --resume goes on after step \d+/, 'with its word');
same($here, made(), 'the same bytes');

# ---- a shard that always fails
remove_tree("$dir/w");
spew("$dir/bad", '');
isnt(run(@slurm, "BIN=$dir/slow", 'ROUNDS=2'), 0, 'a shard that always fails');
$said = slurp("$dir/said");
like($said, qr/embed: warning: 1 of 13 not made yet; round 2\nembed: 1 of 13 not made: \S+00006\.npy/, 'is tried ROUNDS times, and named');
like($said, qr/^failed: 1\n  embed, status 1, log: \S+/m, 'with its status in the summary');
like((split /\n/, $said)[-1], qr/^pipeline\.mk:.*embed: teacher-embed: the reason is six; log: \S+embed\S+\.log/, 'with its reason in the last line');
is(scalar(() = glob "$w/embed/image/*.npy"), 12, 'the others are made');

remove_tree("$w/index", "$w/embed");
rename "$dir/bad", "$dir/bad-index";
isnt(run(@slurm, "BIN=$dir/slow", 'ROUNDS=1', '-k'), 0, 'a shard that fails in the index, with -k');
is(join(' ', map { scalar(() = glob "$w/$_") } 'index/*.tsv', 'embed/image/*.npy', 'cell[s].npy'), '12 12 0', 'the others go on to the embeddings') or diag slurp("$dir/said");
like((split /\n/, slurp("$dir/said"))[-1], qr/index: shard-read: the reason is seven; log: \S+index\S+\.log/, 'the reason is the last line');
unlink "$dir/bad-index";
is(run(@slurm, "BIN=$bin", 'embed'), 0, 'put right') or diag slurp("$dir/said");

# ---- a balance that drops more than expected is looked at once
my @much = (@slurm, "BIN=$bin", "BALANCE='--distance 1.5'", 'MAX_DROPPED=20', 'K=1', 'cluster');
is(run(@much), 2, 'a balance that drops more than MAX_DROPPED');
like((split /\n/, slurp("$dir/said"))[-1], qr/the balance drops \d+\.\d % of the rows, more than MAX_DROPPED, 20 %/, 'stops the run, and says so last');
is(run(@much), 0, 'the same again goes on') or diag slurp("$dir/said");

# ---- a mixture, here of one set
spew("$dir/mixed.mk", "MIX := test=1\nK := 1\nTRAIN := --steps 2 --batch 4\n" . join '', map { "$_\n" } grep { /^(?:TEACHER|STUDENT|SHUFFLE|T_big|MEM)/ } split /\n/, slurp("$dir/conf.mk"));
my @mixed = map { s/DATA=test/DATA=mixed/r =~ s/conf\.mk/mixed.mk/r } @make;
is(system("cp $dir/conf.mk $dir/test.mk; @mixed @slurm BIN=$bin train >$dir/said 2>&1"), 0, 'a mixture') or diag slurp("$dir/said");
ok(slurp("$dir/w/mixed/centroids.npy") eq slurp("$w/centroids.npy") && slurp("$dir/w/mixed/student/open_clip_config.json"), '... has the clusters of its set') or diag slurp("$dir/said");
is(system("@mixed BIN=$bin train >$dir/said 2>&1"), 0, '... and without Slurm');
is(slurp("$dir/said"), '', '... there is nothing to do');

# ---- waiting as a job; cancelled
unlink "$dir/in-embed";
unlink glob "$w/embed/image/00009.npy";
is(run(@slurm, "BIN=$dir/slow", 'submit', 'embed'), 0, 'submit') or diag slurp("$dir/said");
like(slurp("$dir/said"), qr/job \d+ waits/, 'says which job waits');
ok(until_true(sub { -e "$dir/in-embed" }), 'and that submits') or diag slurp("$w/slurm/waiter.log");
is(run('LAUNCH=slurm', 'cancel', "BIN=$bin"), 0, 'cancel');
ok(until_true(sub { `squeue -h` eq '' }), 'ends all jobs') or diag `squeue`;
is(run(@slurm, "BIN=$dir/slow", 'submit', 'embed'), 0, 'submitted again') or diag slurp("$dir/said");
ok(until_true(sub { `squeue -h` eq '' }), 'the jobs end, the next waiter too') or diag `squeue`, slurp("$w/slurm/waiter.log");
is(scalar(() = glob "$w/embed/*/*.npy"), 26, 'and all is made') or diag slurp("$w/slurm/waiter.log");
unlink glob "$w/embed/image/0000*.npy";
unlink "$dir/in-embed";
spew("$dir/slow/teacher-embed", "#!/bin/bash\n" . hang_at('*', 'in-embed', 'exec sleep 300;') . "exec $bin/teacher-embed \"\$\@\"\n");
$pid = start('LAUNCH=slurm', 'SITE=', "BIN=$dir/slow", 'embed'); # asks every 30 s
ok(until_true(sub { -e "$dir/in-embed" }), 'at work');
kill 'INT', $pid;
my $ended = until_true(sub { waitpid($pid, 1) == $pid });
ok($ended, 'Ctrl-C ends the waiting at once') or kill 'KILL', $pid;
ok(`squeue -h` ne '', 'and not the jobs');
is(run('LAUNCH=slurm', 'cancel', "BIN=$bin"), 0, 'they are cancelled');
is(run(@slurm, "BIN=$bin", 'SBATCH=--partition=nowhere'), 2, 'options that Slurm refuses');
like((split /\n/, slurp("$dir/said"))[-1], qr/sbatch: .*partition/, 'are named in the last line');
done_testing();
