#!/usr/bin/env perl
# pipeline.mk on small shards: done once it has nothing to do; a missing, a damaged and a spoilt shard are
# reported and the rest is done; -j1 and -j2, and any number of kill -9, end in the same bytes; a changed
# parameter redoes only what depends on it; laion400m's plan is there and right.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use Test::More;
use Time::HiRes qw(sleep time);

my $bin = abs_path($ENV{BIN} // 'bin');
my $kills = $ENV{PIPELINE_KILLS} // ($ENV{ASAN} ? 3 : 20);
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } qw(shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report);
my $dir = tempdir(CLEANUP => 1);
my $data = abs_path('tests/data');

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
sub tar { my ($from, $to) = @_;
    system('tar', '--sort=name', '--mtime=@1700000000', '--owner=0', '--group=0', '--format=ustar', '-C', $from, '-cf', $to, '.') == 0 or die;
}

# ---- a data set: four shards of twelve samples, an evaluation set, a teacher, a student
my @pictures = sort grep { -s $_ > 500 } map { glob "$data/images/$_" } qw(4*.jpg *grey.png *lossy.webp palette.png prog*.jpg page.jpg);
my @words = qw(red blue green small large round square old new bright dark odd);
make_path("$dir/shards", "$dir/eval/test", "$dir/teacher");
for my $s (0 .. 3) {
    my $stage = "$dir/stage";
    make_path($stage);
    for my $i (0 .. 11) {
        my $picture = $pictures[($i + 5 * $s) % @pictures];
        my ($ext) = $picture =~ /\.(\w+)$/;
        copy($picture, sprintf('%s/%05d.%s', $stage, $i, $ext)) or die;
        spew(sprintf('%s/%05d.txt', $stage, $i), "a $words[$i] thing, $words[($i + $s) % 12]");
    }
    tar($stage, sprintf '%s/shards/%05d.tar', $dir, $s);
    remove_tree($stage);
}
make_path("$dir/stage");
for my $i (0 .. 7) {
    my ($ext) = $pictures[$i % @pictures] =~ /\.(\w+)$/;
    copy($pictures[$i % @pictures], "$dir/stage/s$i.$ext") or die;
    spew("$dir/stage/s$i.cls", $i % 3);
}
tar("$dir/stage", "$dir/eval/test/0.tar");
remove_tree("$dir/stage");
spew("$dir/eval/test/nshards.txt", "1\n");
spew("$dir/eval/classnames.txt", "red thing\nblue thing\ngreen thing\n");
spew("$dir/eval/zeroshot_classification_templates.txt", "{c}\na {c}\n");
copy($_, "$dir/teacher/") or die for glob("$data/models/odd/open_clip*"), glob("$data/tokenizer/openai/*");
my ($size) = slurp("$dir/teacher/open_clip_config.json") =~ /"image_size":\s*(\d+)/;
my $config = slurp("$dir/teacher/open_clip_config.json");
spew("$dir/student.json", $config);

sub conf { my (%with) = @_;
    my $shards = $with{shards} // '00000 00001 00002 00003';
    my $k = $with{k} // 4;
    spew("$dir/conf.mk", <<"EOC");
SHARD_DIR := $dir/shards
SHARDS := $shards
TEACHER := $dir/teacher
STUDENT := $dir/student.json
SIZE := $size
K := $k
BALANCE := --remove 0.3
CELLS := 2
TRAIN := --steps 6 --batch 6 --lr 1e-3 --warmup 2 --checkpoint-every 2
SHUFFLE := 8
EVAL_SETS := $dir/eval
T_big := 1
MEM := 256M
EOC
}
my $said = '';
# Sidecars name paths, so all runs work in one place, $dir/w, and are put aside under their own names.
sub make { my ($work, @args) = @_;
    rename $work, "$dir/w" if -e $work;
    my $rc = system("make -f pipeline.mk DATA=test CONF=$dir/conf.mk WORK=$dir/w BIN=$bin V=1 @args >$dir/said 2>&1");
    rename "$dir/w", $work if -e "$dir/w";
    $said = slurp("$dir/said");
    return $rc & 127 ? -1 : $rc >> 8;
}
# Everything made, without logs, times and the report's table of costs.
sub made { my ($work) = @_;
    my %f;
    for my $f (split /\n/, `cd $work/test && find . -type f -not -path './log/*' -not -path './params/*' -not -name '.*'`) {
        next if $f =~ m{checkpoint|report\.html|\.jsonl$|\.lock$};
        $f{$f} = slurp("$work/test/$f");
    }
    return \%f;
}
sub same { my ($a, $b, $what) = @_;
    my @differ = grep { ($a->{$_} // '-') ne ($b->{$_} // '-') } sort keys %{ { %$a, %$b } };
    is("@differ", '', $what);
}

# ---- once through
conf();
is(make("$dir/a"), 0, 'all stages') or diag $said;
ok(-s "$dir/a/test/report.html", 'a report');
my $whole = made("$dir/a");
ok(exists $whole->{"./$_"}, $_) for qw(index/00000.tsv embed/image/00003.npy embed/text/00000.npy keep/00000.npy
    groups/00001.npy centroids.npy labels/00002.npy student/open_clip_model.safetensors eval/student.json eval/teacher.json ledger.tsv);
is(make("$dir/a"), 0, 'again');
ok($said !~ m{scripts/logged}, 'nothing to do') or diag $said;
# A job on a cluster for some shards of a stage does not read the graph of all: with 41,455 that is 0.8 GB a job.
my $made = (stat "$dir/a/test/labels/00001.npy")[9];
rename "$dir/a", "$dir/w";
my $graph = `make -p -f pipeline.mk DATA=test CONF=$dir/conf.mk WORK=$dir/w BIN=$bin LOCKED=yes PREFLIGHT=no ONLY=labels $dir/w/test/labels/00001.npy 2>&1`;
my $rc = $?;
rename "$dir/w", "$dir/a";
ok($graph =~ m{^\S+/labels/00001\.npy:}m && $graph !~ m{/0000[023]\.(?:npy|tsv|tar)}, 'a job for one shard knows no other');
is("$rc " . (stat "$dir/a/test/labels/00001.npy")[9], "0 $made", 'and sees that it is made');
like(slurp("$dir/a/test/ledger.tsv"), qr/^read\t00000\t12\t12\t0\t$/m, 'the ledger has every shard');
is(make("$dir/a", 'status'), 0, 'status');
like($said, qr{index\s+4 / 4.*labels\s+4 / 4}s, 'counts the files');
is(make("$dir/b", '-j2'), 0, 'all stages, two at a time') or diag $said;
same($whole, made("$dir/b"), '-j2 gives the same bytes');

# ---- a lost file, a changed parameter
unlink "$dir/b/test/embed/image/00002.npy";
is(make("$dir/b", 'embed'), 0, 'a lost file is made again');
is(join(' ', $said =~ m{^# \d+ shards: (.*)}mg), '00002', 'and only that one');
is(make("$dir/b"), 0, 'and what depends on it');
same($whole, made("$dir/b"), 'the same bytes');
conf(k => 3);
is(make("$dir/b", '-n'), 0, 'another K');
ok($said !~ /teacher-embed/ && $said !~ m{/sem-balance} && $said =~ /kmeans-cluster -k 3/, 'redoes only what uses it');
conf();

# ---- files as goals
is(make("$dir/e", map { "$dir/w/test/embed/image/$_.npy" } '00001', '00003'), 0, 'two files as goals') or diag $said;
is(join(' ', $said =~ m{^# \d+ shards: (.*)}mg), '00001 00003 00001 00003', 'their index and they, in blocks of their own');
is(join(' ', sort keys %{ made("$dir/e") }), join(' ', sort map { my $s = $_; "./index/$s.tsv", map { ("./embed/$_/$s.npy", "./embed/$_/$s.npy.json") } qw(image text) } '00001', '00003'),
    'and nothing else');

# ---- killed again and again
my $rounds = 0;
my $start = time;
for my $i (1 .. $kills) {
    my $pid = fork // die;
    if (!$pid) {
        setpgrp;
        open STDOUT, '>', '/dev/null';
        open STDERR, '>', '/dev/null';
        exec 'make', '-f', 'pipeline.mk', 'DATA=test', "CONF=$dir/conf.mk", "WORK=$dir/w", "BIN=$bin", '-j2';
    }
    sleep 0.03 + ($i * 0.6180339 - int($i * 0.6180339)) * ($ENV{ASAN} ? 6 : 1.2);
    kill -9, $pid;
    waitpid $pid, 0;
    $rounds++;
}
rename "$dir/w", "$dir/c";
is(make("$dir/c"), 0, "after $rounds kills -9") or diag $said;
same($whole, made("$dir/c"), 'the bytes of an undisturbed run');

# ---- spoilt shards
copy("$dir/shards/00001.tar", "$dir/whole.tar") or die;
truncate "$dir/shards/00001.tar", 20_000;
rename "$dir/shards/00003.tar", "$dir/later.tar";
make_path("$dir/stage");
spew("$dir/stage/$_.jpg", 'not a picture') for 1 .. 3;
spew("$dir/stage/$_.txt", "text $_") for 1 .. 3;
tar("$dir/stage", "$dir/shards/00004.tar");
conf(shards => '00000 00001 00002 00003 00004');
isnt(make("$dir/d", '-k'), 0, 'spoilt shards fail the run');
like($said, qr/00001\.damaged/, 'the damaged one is named');
like($said, qr/00003\.missing/, 'the missing one is named');
my $d = made("$dir/d");
ok($d->{'./student/open_clip_model.safetensors'} && -s "$dir/d/test/report.html", 'the rest is done') or diag $said;
like($d->{'./ledger.tsv'}, qr/^read\t00004\t3\t0\t3\tbad-image=3$/m, 'a shard of failures only');
like($d->{'./ledger.tsv'}, qr/^read\t00003\t0\t0\t0\t$/m, 'a missing shard has no rows');
copy("$dir/whole.tar", "$dir/shards/00001.tar") or die;
rename "$dir/later.tar", "$dir/shards/00003.tar";
is(make("$dir/d", '-n', 'embed'), 0, 'both come back');
is(join(' ', $said =~ m{scripts/logged \S+ index \d+:(\d+):}g), '2', 'two shards are to be read again');
is(make("$dir/d"), 0, 'and everything is whole') or diag $said;
is(($said =~ m{^# \d+ shards: (.*)}m)[0], '00001 00003', 'only they are read again');

# ---- laion400m
my $began = time;
my $plan = `make -f pipeline.mk DATA=laion400m WORK=$dir/laion BIN=$bin -n 2>&1`;
is($?, 0, 'a plan for laion400m');
for my $stage (['index', 648, 'read'], ['embed', 648, 'embedded'], ['labels', 81, 'labelled']) {
    my @blocks = $plan =~ /scripts\/logged \S+ $stage->[0] \d+:(\d+):/g;
    my $shards = 0;
    $shards += $_ for @blocks;
    is($shards, 41455, "every shard is $stage->[2]");
    is(scalar @blocks, $stage->[1], 'in as many processes as there are blocks');
}
like($plan, qr/sem-balance --remove 0\.437/, 'balanced');
like($plan, qr/kmeans-cluster -k 1000000 --levels 2/, 'clustered');
ok(!-e "$dir/laion", 'and nothing is made by it');
done_testing();
