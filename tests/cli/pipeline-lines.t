#!/usr/bin/env perl
# What a user of the pipeline sees: one line a stage and the warnings. What the tools say is in the logs; V=1 shows it, and the
# commands, on the terminal too.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use Test::More;
use lib 'tests/cli';
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } qw(shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report);
my $dir = tempdir(CLEANUP => 1);
make_shards($dir, 2, 12);
make_eval_set("$dir/eval/wds_things");
make_teacher("$dir/teacher");
make_student("$dir/student.json");
spew("$dir/conf.mk", <<"EOC");
SHARD_DIR := $dir/shards
SHARDS := 00000 00001
TEACHER := $dir/teacher
STUDENT := $dir/student.json
CELLS := 2
K := 2
BALANCE := --remove 0.1
TRAIN := --steps 2 --batch 4
EVAL_SETS := $dir/eval/wds_things
T_big := 1
MEM := 256M
EOC
my $make = "make -f pipeline.mk DATA=test CONF=$dir/conf.mk WORK=$dir/w BIN=$bin";
my $s = qr/\d+\.\d s/;
my @lines = (qr/preflight: done, $s/, map({ qr/$_: done, 2 of 2 shards made, $s/ } qw(index embed)), qr/cells: done, $s/,
    qr/balance: done, $s; \d+\.\d % of the rows dropped, .*/, qr/centroids: done, $s/, qr/labels: done, 2 of 2 shards made, $s/,
    map({ qr/$_: done, $s/ } qw(train-student eval-student eval-teacher report)));
# The lines are these, each once and nothing else. Stages that do not depend on each other may change places.
sub one_line_a_stage { my ($said, $what) = @_;
    my @said = grep { !/: warning: / } split /\n/, $said;
    my @left = grep { my $line = $_; !grep { $line =~ /\A$_\z/ } @lines } @said;
    is("@left", '', "$what: no other line");
    is(join(' ', map { scalar(() = $said =~ /^$_$/mg) } @lines), join(' ', (1) x @lines), "$what: one for each stage") or diag $said;
    return;
}
is(system("$make >$dir/said 2>&1"), 0, 'to the end') or diag slurp("$dir/said");
one_line_a_stage(slurp("$dir/said"), 'into a file');
for my $stage (['index/block-00000', 'shard-read: 24 samples'], ['centroids.npy', 'kmeans-cluster: '], ['student/open_clip_config.json', 'distill-train: ']) {
    my ($file, $words) = @$stage;
    my $log = "$dir/w/test/log/$file.log";
    like(slurp($log), qr/^# .*\n# host .*\n(?:.*\n)*\Q$words\E/m, "the log of $file has what the tool said, and the command");
}
is(system("$make >$dir/said 2>&1"), 0, 'again');
is(slurp("$dir/said"), '', 'nothing to do, nothing said');
remove_tree("$dir/w");
is(system("$make V=1 >$dir/said 2>&1"), 0, 'with V=1');
my $said = slurp("$dir/said");
like($said, qr{scripts/logged \S+ $_ }, "V=1: the command of $_") for qw(index embed labels train-student);
like($said, qr/^$_: /m, "V=1: the words of $_") for qw(shard-read kmeans-cluster distill-train);

SKIP: {
    skip 'script(1) is not here', 3 if system('script -qec true /dev/null >/dev/null 2>&1');
    remove_tree("$dir/w");
    is(system("script -qec '$make' $dir/typescript </dev/null >$dir/said 2>&1"), 0, 'on a terminal');
    # What stands there in the end: text after a carriage return stands over what was there.
    my @seen = map { my $line = ''; for my $part (split /\r/) { $line = $part . (length $part < length $line ? substr $line, length $part : '') } $line =~ s/\s+\z//r } split /\r?\n/, slurp("$dir/said");
    one_line_a_stage(join("\n", grep { /\S/ } @seen) . "\n", 'on a terminal');
}

# A tool that has a bar, a line for the log, a warning, and words without an end of line.
make_path("$dir/fake");
spew("$dir/tool", "#!/bin/bash\nprintf '\\r[##..] 50%%'; sleep 0.1; printf '\\r          \\rtool: note\\n'; printf '\\r[####]'; sleep 0.1; printf '\\r      \\rtool: warning: look\\ntool: rest' \n");
chmod 0755, "$dir/tool";
for my $all ('', '-a') {
    unlink "$dir/log";
    system("$dir/tool | scripts/to-log $dir/log $all 2>$dir/said");
    is(slurp("$dir/log"), "tool: note\ntool: warning: look\ntool: rest\n", "to-log $all: the log has the lines without the bar");
    is(slurp("$dir/said"), $all ? "tool: note\ntool: warning: look\ntool: rest\n" : "tool: warning: look\n", '... a file the warnings, or all');
}

# ---- a shard that is not there is warned of, and named in the end
remove_tree("$dir/w");
unlink "$dir/shards/00001.tar";
isnt(system("$make >$dir/said 2>&1"), 0, 'a missing shard fails the run');
like(slurp("$dir/said"), qr/^shard-read: warning: '\S+00001\.tar' is missing: its index is empty\n(?:.*\n)*.*missing or damaged/m, 'it is warned of at once');
done_testing();
