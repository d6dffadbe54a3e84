#!/usr/bin/env perl
# Progress: every tool knows its total and reaches it; lines for programs; the file for those who watch from outside, which is not
# the children's; the line that is redrawn below what stages say; `make status` while stages run, here and on another host.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
use lib 'tests/cli';
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } qw(shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report);
my $dir = tempdir(CLEANUP => 1);
make_shards($dir, 4, 12);
make_eval_set("$dir/eval/wds_things");
make_teacher("$dir/teacher");
make_student("$dir/student.json");
spew("$dir/conf.mk", <<"EOC");
SHARD_DIR := $dir/shards
SHARDS := 00000 00001 00002 00003
TEACHER := $dir/teacher
STUDENT := $dir/student.json
K := 2
BALANCE := --remove 0.1
TRAIN := --steps 3 --batch 4
EVAL_SETS := $dir/eval/wds_things
T_big := 1
MEM := 256M
EOC
my $w = "$dir/w/test";
my $said = '';
sub make { my (@args) = @_;
    my $rc = system("make -f pipeline.mk DATA=test CONF=$dir/conf.mk WORK=$dir/w BIN=$bin @args >$dir/said 2>&1");
    $said = slurp("$dir/said");
    return $rc >> 8;
}
is(make(), 0, 'a run to the end') or diag $said;
is(join(' ', glob "$w/log/.progress/*"), '', 'leaves no file of progress behind');

# ---- every tool: total, and the end of it
# The lines of progress of a command, by unit, and what else it says.
sub lines_of { my ($command) = @_;
    my (%by, $other);
    for my $line (split /\n/, `$command --progress json 2>&1 >/dev/null`) {
        if ($line =~ /^\{/) { my $p = decode_json($line); push @{ $by{ $p->{unit} } }, $p }
        else { $other .= "$line\n" }
    }
    return ($other // '', \%by);
}
spew("$dir/shards.list", join '', map { "$dir/shards/0000$_.tar\n" } 0 .. 3);
my $bytes = 0;
$bytes += -s "$dir/shards/0000$_.tar" for 0 .. 3;
my $balanced = "--keep-dir $w/keep";
my @tools = (
    ['shard-read into an index', "$bin/shard-read --index-dir $dir/index --files-from $dir/shards.list", 'KB', int($bytes / 1000) + 1, 12],
    ['shard-read as a stream', "$bin/shard-read -o /dev/null --size 24 --files-from $dir/shards.list", 'KB', int($bytes / 1000) + 1, 12],
    ['shard-read --limit', "$bin/shard-read -o /dev/null --size 24 --limit 30 --files-from $dir/shards.list", 'samples', 30],
    ['teacher-embed', "$bin/teacher-embed -m $dir/teacher --shards-from $dir/shards.list --index-dir $w/index --image-dir $dir/image", 'samples', 48],
    ['sem-balance', "$bin/sem-balance -o $dir/b.json $w/embed/image/*.npy", 'million pairs', 1],
    ['kmeans-cluster', "$bin/kmeans-cluster -k 2 --iterations 3 -o $dir/c.npy $w/embed/image/*.npy", 'iterations', 3],
    ['kmeans-cluster --levels 2', "$bin/kmeans-cluster -k 6 --coarse 3 --levels 2 --iterations 3 -o $dir/c2.npy $w/embed/image/*.npy", 'coarse clusters', 3],
    ['kmeans-cluster --assign', "$bin/kmeans-cluster --assign $w/centroids.npy --labels-dir $dir/labels --each $w/embed/image/*.npy", 'rows', 48],
    ['distill-train', "$bin/distill-train --student $dir/student.json --tokenizer $dir/teacher --steps 3 --batch 4 --loss clip=1 -o $dir/model "
        . "--data '$bin/shard-read --model $dir/student.json --files-from $dir/shards.list'", 'steps', 3],
    ['zs-eval, pictures', "$bin/zs-eval -m $dir/teacher -o $dir/eval.json $dir/eval/wds_things", 'samples', 8],
    ['zs-eval, prompts', "$bin/zs-eval -m $dir/teacher -o $dir/eval2.json $dir/eval/wds_things", 'texts', 6],
);
for my $t (@tools) {
    my ($what, $command, $unit, $total, $short) = @$t;
    my ($other, $by) = lines_of($command);
    my @p = @{ $by->{$unit} // [] };
    ok(@p >= 2, "$what: lines of progress in $unit") or diag $other, join ' ', keys %$by;
    next if !@p;
    my $last = $p[-1];
    is($last->{total}, $total, "$what: its total");
    # The end of an archive is not read to its last block.
    ok($last->{done} <= $total && $last->{done} >= $total - ($unit eq 'KB' ? $short * 4 : 0), "$what: ends at its total") or diag $last->{text};
    unlike($other, qr/\r/, "$what: no bar beside them");
    ok($last->{tool} eq ($command =~ m{\Q$bin\E/(\S+)})[0] && $last->{pid} > 0 && $last->{rate} >= 0 && $last->{text} =~ m{/s}, "$what: who, rate, text");
}
is(system("$bin/teacher-embed -m $dir/teacher --shards-from $dir/shards.list --index-dir $w/index --image-dir $dir/image --progress json 2>$dir/said"), 0, 'again');
my ($first) = grep { /^\{/ } reverse split /\n/, slurp("$dir/said");
is(decode_json($first)->{done}, 48, 'what an earlier run made counts as done');
is(decode_json($first)->{rate}, '0.0' + 0, 'and not in the rate');

# ---- the file, and whose it is
spew("$dir/tell.sh", "printf '%s' \"\${CLIP_CID_PROGRESS-none}\" >$dir/child; exec $bin/shard-read --model $dir/student.json --files-from $dir/shards.list\n");
is(system("CLIP_CID_PROGRESS=$dir/file $bin/distill-train --student $dir/student.json --tokenizer $dir/teacher --steps 2 --batch 4 --loss clip=1 -o $dir/model2 --data 'bash $dir/tell.sh' 2>$dir/said"),
    0, 'with CLIP_CID_PROGRESS') or diag slurp("$dir/said");
my $file = decode_json(slurp("$dir/file"));
is("$file->{tool} $file->{done} $file->{total}", 'distill-train 2 2', 'the file has the last state');
is(slurp("$dir/child"), 'none', 'a process that the tool starts does not get the variable');
is(system("CLIP_CID_PROGRESS=$dir/none/file $bin/kmeans-cluster -k 2 --iterations 1 -o $dir/c3.npy $w/embed/image/*.npy 2>$dir/said"), 0, 'a file that cannot be written is no failure');

# ---- status in the middle
sub working { my ($name, %with) = @_;
    my %p = (unit => 'samples', done => 0, total => 12, rate => 5, left => 1, text => 'its own words', time => time, %with);
    make_path("$w/log/.progress");
    spew("$w/log/.progress/$name", qq({"tool":"t","unit":"$p{unit}","done":$p{done},"total":$p{total},"seconds":1.0,"rate":$p{rate},"left":$p{left},"note":"","text":"$p{text}","host":"h","pid":1,"time":$p{time}}\n));
    return;
}
unlink glob "$w/embed/image/0000[123].npy";
working('embed@1@here@11', done => 6);
is(make('status'), 0, 'status, one shard of a stage of four at work') or diag $said;
like($said, qr{^\[#{9}\.{15}\] embed image\s+1 / 4 +3 to do, 1 process, 5\.0 samples/s 0:06 left$}m, 'bar, rate and time left of all that is to do') or diag $said;
working('embed@1@there@12', done => 3, time => time - 200);
make('status');
like($said, qr{^\[#{10}\.{14}\] embed image .* 3 to do, 2 processes, 10 samples/s 0:03 left; there was last heard of 3:2\d ago$}m, 'two hosts together, and one that is silent') or diag $said;
like($said, qr{^\[#{24}\] index\s+4 / 4 +whole$}m, 'a stage that is whole');
unlink glob "$w/log/.progress/*";
unlink glob "$w/student/*.json";
working('train-student@1@here@13', done => 3, total => 6, text => '50% 3/6 steps 1.0/s 0:03 left, loss 2.5');
make('status');
like($said, qr{^\[#{12}\.{12}\] train student\s+0 / 1 +1 to do, 50% 3/6 steps 1\.0/s 0:03 left, loss 2\.5}m, 'a stage of one file: what its tool says') or diag $said;

# ---- the line that is redrawn
SKIP: {
    skip 'script(1) is not here', 4 if system('script -qec true /dev/null >/dev/null 2>&1');
    working('train-student@1@here@13', done => 3, total => 6, text => '50% 3/6 steps');
    spew("$dir/shown.sh", "{ echo one; sleep 1.5; echo two; } | scripts/screen $w/log\n");
    my $shown = `script -qec 'stty cols 60; bash $dir/shown.sh' /dev/null </dev/null`;
    like($shown, qr/^one\r\n.*train-student \[#{12}\.{12}\] 50% 3\/6 s\S*(?!s)/s, 'on a terminal: a bar below, as wide as the terminal') or diag $shown;
    like($shown, qr/\r +\rtwo\r\n/, 'erased before a line is said');
    like($shown, qr/two\r\n\z/, 'and nothing of it at the end');
    spew("$dir/log.sh", "{ echo one; sleep 1.5; echo two; } | scripts/screen $w/log 2>&1\n");
    is(`bash $dir/log.sh`, "one\ntwo\n", 'in a log: no bar, and no line before a minute is over');
}
done_testing();
