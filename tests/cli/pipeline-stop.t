#!/usr/bin/env perl
# However make ends, its stages end with it and save what they have: TERM, INT, HUP and kill -9 of the make that the user
# started, kill -9 of what stands between. Who else is at work in a folder is told. The reason of a failure is the last line
# of all, and in the log before its end.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Sys::Hostname qw(hostname);
use Test::More;
use Time::HiRes qw(sleep);
use lib 'tests/cli';
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
my @tools = qw(shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report);
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } @tools;
my $dir = tempdir(CLEANUP => 1);

make_shards($dir, 3, 12);
make_teacher("$dir/teacher");
make_student("$dir/student.json");
spew("$dir/conf.mk", <<"EOC");
SHARD_DIR := $dir/shards
SHARDS := 00000 00001 00002
TEACHER := $dir/teacher
STUDENT := $dir/student.json
K := 2
BALANCE := --remove 0.1
TRAIN := --steps 2 --batch 4
T_big := 1
MEM := 256M
EOC
# Tools of which one waits until it is told to end, and then says what became of it.
sub fake { my ($folder, $tool, $script) = @_;
    make_path($folder);
    symlink "$bin/$_", "$folder/$_" for @tools;
    unlink "$folder/$tool";
    spew("$folder/$tool", "#!/bin/bash\nfor a; do [[ \$a != --dry-run && \$a != --help && \$a != --no-images ]] || exec $bin/$tool \"\$@\"; done\n$script");
    chmod 0755, "$folder/$tool";
    return;
}
fake("$dir/slow", 'distill-train', <<"EOS");
trap 'echo saved >>$dir/saved; kill \$!; rm $dir/up; exit 1' TERM
( exec -a the-data-command sleep 300 ) &
echo "\$\$ \$!" >$dir/up.new
mv $dir/up.new $dir/up
wait
EOS
my @make = ('make', '-f', 'pipeline.mk', 'DATA=test', "CONF=$dir/conf.mk", "WORK=$dir/w");
sub start { my (@args) = @_;
    unlink "$dir/saved", "$dir/up";
    my $pid = fork // die;
    if (!$pid) {
        setpgrp;
        $SIG{$_} = 'DEFAULT' for qw(INT HUP TERM);
        open STDOUT, '>', "$dir/said" or die;
        open STDERR, '>&', \*STDOUT or die;
        exec @make, @args;
    }
    return $pid;
}
sub until_true { my ($what) = @_; for (1 .. 1200) { return 1 if $what->(); sleep 0.05; } return 0; }
sub alive { my ($pid) = @_; return kill(0, $pid) && slurp("/proc/$pid/stat") !~ /\) Z/; }
# The processes between make and the stage, by their command lines.
sub child { my ($parent, $pattern) = @_;
    for my $stat (glob '/proc/[0-9]*/stat') {
        my ($pid, $ppid) = slurp($stat) =~ /^(\d+) \(.*\) \S (\d+)/s or next;
        return $pid if $ppid == $parent && slurp("/proc/$pid/cmdline") =~ $pattern;
    }
    return;
}
my %ends = map { my $s = $_; $s => sub { kill $s, $_[0] } } qw(TERM INT HUP KILL);
$ends{'KILL of scripts/run'} = sub { kill 'KILL', child($_[0], qr{scripts/run}) // die };
$ends{'KILL of the inner make'} = sub { kill 'KILL', child(child($_[0], qr{scripts/run}), qr{^make}) // die };
$ends{'KILL of the whole group'} = sub { kill '-KILL', $_[0] };
for my $end (sort keys %ends) {
    my $pid = start("BIN=$dir/slow", 'train');
    ok(until_true(sub { -e "$dir/up" }), "$end: training is at work") or diag(slurp("$dir/said")), last;
    my @stage = split ' ', slurp("$dir/up");
    if ($end eq 'TERM') {
        my $other = `@make BIN=$bin train 2>&1`;
        isnt($?, 0, 'a second run is refused');
        my ($host) = (hostname() =~ /^([^.]+)/);
        like((split /\n/, $other)[-1], qr/another run is at work in .*host \Q$host\E\S*, pid $pid, since \d/, 'and told who is at work');
    }
    $ends{$end}->($pid);
    waitpid $pid, 0;
    my $status = $?;
    ok(until_true(sub { !alive($stage[0]) && !alive($stage[1]) }), "$end: nothing is left running") or kill 'KILL', @stage;
    is(slurp("$dir/saved"), "saved\n", "$end: the stage was told once, and saved");
    isnt($status, 0, "$end: make did not succeed");
    like((split /\n/, slurp("$dir/said"))[-1], qr/goes on from there/, "$end: said so") if $end =~ /^(TERM|INT|HUP)$/;
}
is(system("@make BIN=$bin >$dir/said 2>&1"), 0, 'and a later run goes on') or diag slurp("$dir/said");

# ---- carried elsewhere by something that says 0 whatever becomes of it, kills at TERM and passes USR2 on
make_path("$dir/path");
spew("$dir/path/srun", "#!/bin/bash\n" . <<"EOS");
[ ! -e $dir/dead ] || exit 0
"\$\@" &
trap 'kill -KILL \$!; exit 0' TERM
trap 'kill -USR2 \$!' USR2
while kill -0 \$! 2>/dev/null; do wait; done
exit 0
EOS
chmod 0755, "$dir/path/srun";
$ENV{PATH} = "$dir/path:$ENV{PATH}";
spew("$dir/dead", '');
system('rm', '-rf', "$dir/w");
isnt(system("@make BIN=$bin RUN_index=srun NFS_WAIT=1 index >$dir/said 2>&1"), 0, 'a machine that died is a failure');
like((split /\n/, slurp("$dir/said"))[-1], qr{index: status 0, and '\S+/index/00000\.tsv' is not there: the machine}, 'in the last line');
unlink "$dir/dead";
is(system("@make BIN=$bin RUN_index=srun index >$dir/said 2>&1"), 0, 'one that lives is not') or diag slurp("$dir/said");
edit("$dir/slow/distill-train", qr/trap 'echo saved/, "trap 'exit 9' TERM\ntrap 'echo saved");
edit("$dir/slow/distill-train", qr/exit 1' TERM/, "exit 1' USR2");
{
    my $pid = start("BIN=$dir/slow", 'RUN_train=srun', 'train');
    ok(until_true(sub { -e "$dir/up" }), 'training elsewhere is at work') or diag slurp("$dir/said");
    my @stage = split ' ', slurp("$dir/up");
    kill 'TERM', $pid;
    waitpid $pid, 0;
    ok(until_true(sub { !alive($stage[0]) && !alive($stage[1]) }), 'stopped, nothing is left running') or kill 'KILL', @stage;
    is(slurp("$dir/saved"), "saved\n", 'and it has saved');
}

# ---- the reason
fake("$dir/bad", 'teacher-embed', <<"EOS");
[[ "\$*" == *--shards-from* ]] || exec $bin/teacher-embed "\$@"
for ((i = 1; i < \$#; i++)); do j=\$((i + 1)); [ "\${!i}" != --shards-from ] || list=\${!j}; done
bad=\$(grep 00001 "\$list")
sed -i /00001/d "\$list"
$bin/teacher-embed "\$@"
[ -z "\$bad" ] || { echo "teacher-embed: the reason is seven" >&2; exit 1; }
EOS
for my $args ('', '-j4', '-k -j4') {
    system('rm', '-rf', "$dir/w");
    isnt(system("@make BIN=$dir/bad $args >$dir/said 2>&1"), 0, "make $args: fails");
    my $last = (split /\n/, slurp("$dir/said"))[-1];
    like($last, qr/embed: teacher-embed: the reason is seven; log: \S*embed\/block-\d+\.log/, 'the last line is the reason, with its log');
    my ($file) = $last =~ /log: (\S+\.log)/;
    like(slurp($file // ''), qr/the reason is seven\n# not made: 00001\n# end .*status 1\n\z/, 'the log has it before its end, with the shard');
}
ok(-e "$dir/w/test/embed/image/00002.npy", 'with -k the others are made');
rename "$dir/shards/00002.tar", "$dir/00002.tar";
unlink "$dir/w/test/student/open_clip_config.json";
isnt(system("@make BIN=$bin >$dir/said 2>&1"), 0, 'a shard that is gone since its index was made is an error');
like((split /\n/, slurp("$dir/said"))[-1], qr{00002\.tar' is gone since its index was made}, 'in the last line');
system('rm', '-rf', "$dir/w");
isnt(system("@make BIN=$bin >$dir/said 2>&1"), 0, 'a missing shard fails the run');
like((split /\n/, slurp("$dir/said"))[-1], qr/missing or damaged/, 'in the last line');
spew("$dir/conf.mk", slurp("$dir/conf.mk") . "STUDENT := $dir/nowhere.json\n");
isnt(system("@make BIN=$bin PREFLIGHT=no >$dir/said 2>&1"), 0, 'a file that no rule makes');
like((split /\n/, slurp("$dir/said"))[-1], qr/nowhere\.json/, 'is named in the last line');
done_testing();
