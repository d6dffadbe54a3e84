#!/usr/bin/env perl
# conf/laion400m.mk and conf/example.mk themselves, to the report: changed on the command line are only where shards, teacher,
# student and evaluation sets are, how many there are, and sizes. The student is narrower than the teacher and sees other
# pictures, the teacher squashes its own; masks drop a part of the rows, and the learning rate ends at zero all the same.
# At other levels of the processor (CLIP_CID_ISA) and under another processor's kernels of OpenBLAS it goes the same way.
# (A distance means nothing to this teacher, whose pictures are all alike: example.mk's other line is taken.)
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
use lib 'tests/cli';
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } qw(shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report);
my $dir = tempdir(CLEANUP => 1);

# Pictures that are all different, some of them spoilt.
make_path("$dir/shards");
my @names = map { "0000$_" } 0 .. 2;
copy("tests/data/shards/$_.tar", "$dir/shards/") or die for @names;
make_eval_set("$dir/eval/wds_things");
make_teacher("$dir/teacher", resize => 'squash');
make_student("$dir/student.json");
my %size = (example => q(K=5 CELLS=2 BALANCE='--remove 0.4'), laion400m => 'K=6 CELLS=3');
my @ways = ((map { [$_, 'as it is', ''] } sort keys %size), ['example', 'portable', 'CLIP_CID_ISA=portable'], ['example', 'avx2', 'CLIP_CID_ISA=avx2'],
    ['example', 'OpenBLAS of Haswell', 'OPENBLAS_CORETYPE=Haswell']);
delete @ENV{qw(CLIP_CID_ISA OPENBLAS_CORETYPE)};
for my $way (@ways) {
    my ($conf, $name, $env) = @$way;
    remove_tree("$dir/work");
    my $w = "$dir/work/$conf";
    $name = "$conf, $name";
    my $make = "$env make -f pipeline.mk DATA=$conf WORK=$dir/work BIN=$bin SHARD_DIR=$dir/shards SHARDS='@names' TEACHER=$dir/teacher "
        . "STUDENT=$dir/student.json EVAL_SETS=$dir/eval/wds_things $size{$conf} MEM=256M SIZE= T_read=1 T_embed=1 T_big=1 "
        . "TRAIN_student='--epochs 3 --batch 3 --warmup 2' SHUFFLE=8 V=1 >$dir/said 2>&1";
    is(system($make), 0, "$name: to the end") or diag slurp("$dir/said");
    ok(-s "$w/report.html", "$name: a report");
    ok(-s "$w/student/open_clip_model.safetensors", "$name: a student");
    like(slurp("$w/eval/$_.json"), qr/"acc1"/, "$name: $_ evaluated") for qw(student teacher);
    my $balance = decode_json(slurp("$w/balance.json"));
    cmp_ok(abs($balance->{removed_share} - 0.42), '<', 0.05, "$name: two fifths of the rows are dropped");
    my @log = map { decode_json($_) } split /\n/, slurp("$w/student.jsonl");
    my ($most) = sort { $b <=> $a } map { $_->{lr} } @log;
    cmp_ok($log[-1]{samples}, '<=', 3 * $balance->{kept}, "$name: only kept rows are trained on");
    cmp_ok($log[-1]{samples}, '>', 3 * 0.8 * $balance->{kept}, "$name: nearly all of them");
    cmp_ok(scalar @log, '>', 30, "$name: a run of some steps");
    cmp_ok($most, '>', 9e-4, "$name: the rate was up");
    cmp_ok($log[-1]{lr}, '<', 1e-5, "$name: and ends at zero");
    like(slurp("$dir/said"), qr/kmeans-cluster -k 6 --levels 2/, 'laion400m: two levels') if $conf eq 'laion400m';
    next if $env;
    is(system($make), 0, "$name: again");
    unlike(slurp("$dir/said"), qr{scripts/logged}, "$name: nothing to do");
}
done_testing();
