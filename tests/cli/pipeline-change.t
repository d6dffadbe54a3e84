#!/usr/bin/env perl
# What a change redoes: contents count, dates do not. Weights, tokenizer, evaluation sets and configs are noticed when their
# bytes are others; a student whose inputs changed is moved aside, never removed; a shard that cannot be read now is not taken
# for another one; the teacher's own preprocessing is used; a survivor of the balance has a caption.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use POSIX ();
use Test::More;
use lib 'tests/cli';
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } qw(shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report);
my $dir = tempdir(CLEANUP => 1);

make_shards($dir, 2, 12);
make_eval_set("$dir/eval/wds_things");
make_teacher("$dir/teacher", resize => 'longest');
make_student("$dir/student.json");
sub conf { my (@more) = @_;
    spew("$dir/conf.mk", join "\n", "SHARD_DIR := $dir/shards", 'SHARDS := 00000 00001', "TEACHER := $dir/teacher",
        "STUDENT := $dir/student.json", 'K := 2', 'BALANCE := --remove 0.1', 'TRAIN := --steps 2 --batch 4',
        "EVAL_SETS := $dir/eval/wds_things", 'T_big := 1', 'MEM := 256M', @more, '');
    return;
}
my ($said, $last);
sub make { my (@args) = @_;
    my $rc = system("make -f pipeline.mk DATA=test CONF=$dir/conf.mk WORK=$dir/w BIN=$bin @args >$dir/said 2>&1");
    $said = slurp("$dir/said");
    $last = (split /\n/, $said)[-1] // '';
    return $rc >> 8;
}
# The stages that a plan has, preflight aside.
sub planned { make('-n', @_) == 0 or diag $said; my %s; $s{$1}++ while $said =~ m{^scripts/logged \S+ (\S+)}mg; delete $s{preflight}; return join ' ', sort keys %s; }
my $w = "$dir/w/test";
conf();
is(make(), 0, 'all stages') or diag $said;
is(system("$bin/teacher-embed -q -m $dir/teacher --shards $dir/shards/00001.tar -o $dir/want.npy"), 0, 'by hand');
is(slurp("$w/embed/image/00001.npy"), slurp("$dir/want.npy"), "the teacher's own preprocessing");
ok(!glob("$w/embed/.part/*/*"), 'nothing is left between');

# ---- dates
my $later = time + 5;
utime $later, $later, glob("$dir/teacher/*"), "$dir/student.json", glob("$dir/eval/wds_things/*.txt");
is(planned(), '', 'other dates: nothing to do');

# ---- contents
sub flip { my ($f) = @_; my $t = slurp($f); my @was = (stat $f)[8, 9]; substr($t, -3, 1) ^= "\x01"; spew($f, $t); utime @was, $f; return; }
my $weights = "$dir/teacher/open_clip_model.safetensors";
copy($weights, "$dir/weights") or die;
flip($weights);
utime time, time, $weights;
is(planned(), 'balance centroids embed eval-student eval-teacher labels report train-student', 'other weights');
copy("$dir/weights", $weights) or die;
is(planned(), '', 'the old ones again: nothing to do');
is(planned(q(AUGMENT='--flip --jitter 0.4,0.4,0.4,0.1')), 'eval-student report train-student', 'other colours in training');
like($said, qr/--crop random --flip --jitter 0\.4,0\.4,0\.4,0\.1 --shuffle/, '... which shard-read makes');
isnt(make(q(AUGMENT='--jitter 0.4')), 0, 'wrong ones');
like($said, qr/AUGMENT: shard-read: --jitter needs B,C,S,H/, '... are known before the first stage');
is(planned(), '', 'none again: nothing to do');
edit("$dir/eval/wds_things/classnames.txt", 'red thing', 'red things');
is(planned(), 'eval-student eval-teacher report', 'other class names');
edit("$dir/eval/wds_things/classnames.txt", 'red things', 'red thing');
edit("$dir/eval/wds_things/zeroshot_classification_templates.txt", 'a \{c\}', 'one {c}');
is(planned(), 'eval-student eval-teacher report', 'other templates');
edit("$dir/eval/wds_things/zeroshot_classification_templates.txt", 'one \{c\}', 'a {c}');
my $tar = "$dir/eval/wds_things/test/0.tar";
copy($tar, "$dir/0.tar") or die;
spew($tar, slurp($tar) . "\0" x 512);
is(planned(), 'eval-student eval-teacher report', 'other pictures to evaluate on');
make_path("$dir/vocabulary");
copy($_, "$dir/vocabulary/") or die for glob('tests/data/tokenizer/openai/*');
conf("TOKENIZER := $dir/vocabulary");
is(planned('embed'), 'embed', 'another tokenizer');
conf();
is(make(), 0, 'all of it') or diag $said;
copy("$dir/0.tar", $tar) or die;
is(make(), 0, 'and back') or diag $said;

# ---- labels by one process for several shards
my %labels = map { $_ => slurp("$w/labels/$_.npy") } qw(00000 00001);
unlink glob "$w/labels/*";
is(make('cluster', 'BLOCK_labels=2', 'V=1'), 0, 'labels of two shards at a time') or diag $said;
is(scalar(() = $said =~ /kmeans-cluster --assign/g), 1, 'by one process');
ok(slurp("$w/labels/$_.npy") eq $labels{$_}, "the same labels: $_") for sort keys %labels;
unlink "$w/labels/00001.npy";
is(planned('cluster', 'BLOCK_labels=3'), 'labels', 'a group that is not full');
is(make('cluster'), 0, 'again by itself') or diag $said;

# ---- the student
my $first = slurp("$w/student/open_clip_model.safetensors");
my $log = slurp("$w/student.jsonl");
conf('TRAIN := --steps 3 --batch 4');
is(make('train'), 0, 'another training') or diag $said;
my @old = glob("$w/student.old-*");
is(scalar @old, 1, 'the finished student is moved aside');
is(slurp("$old[0]/open_clip_model.safetensors"), $first, 'whole');
is(slurp("$old[0]/log.jsonl"), $log, 'with its log');
like($said, qr/other params than those of the finished student '\S+': it is kept as '\Q$old[0]\E'/, 'which is said, with what changed');
isnt(slurp("$w/student/open_clip_model.safetensors"), $first, 'another one is there');
# An unfinished one, and names that are taken.
unlink "$w/student/open_clip_config.json";
my $clock = 'date() { echo 20000101-000000; }; export -f date';
spew("$w/student/.inputs", "params x\n");
make_path("$w/student.old-20000101-000000");
is(system('bash', '-c', "$clock; scripts/train-student $w/student params=$dir/conf.mk -- true 2>$dir/said"), 0, 'an unfinished one');
like(slurp("$dir/said"), qr/unfinished training .* kept as '\S+\.old-20000101-000000-2'/, 'does not go into an earlier one');
ok(-d "$w/student.old-20000101-000000-2/checkpoints", 'with its checkpoints');
is_deeply([glob "$w/student.old-20000101-000000/*"], [], 'which is left alone');
is(system("scripts/train-student $w/student params=$dir/conf.mk -- true 2>$dir/said"), 0, 'the same inputs');
is(slurp("$dir/said"), '', 'move nothing');
remove_tree($_) for glob "$w/student.old-*";
# One that a run works in is not moved.
{
    my $host = (POSIX::uname())[1];
    my $lock = "$w/student/.lock";
    spew("$w/student/.inputs", "params x\n");
    spew($lock, "tool distill-train\nhost $host\npid $$\nstart 1\nboot x\nsince 2001-02-03T04:05:06Z\n");
    open my $held, '<', $lock or die;
    flock $held, 2 or die;
    is(system("scripts/train-student $w/student params=$dir/conf.mk -- touch $dir/ran 2>$dir/said") >> 8, 1, 'a folder in use');
    like(slurp("$dir/said"), qr/in use: process $$ of host \Q$host\E, since 2001-02-03T04:05:06Z; end it first/, 'is told whose');
    close $held;
    spew($lock, "tool distill-train\nhost elsewhere\npid 77\nstart 1\nboot x\nsince 2001-02-03T04:05:06Z\n");
    is(system("scripts/train-student $w/student params=$dir/conf.mk -- touch $dir/ran 2>$dir/said") >> 8, 1, 'one locked by another host');
    like(slurp("$dir/said"), qr/process 77 of host elsewhere.*If it has ended, remove '\Q$lock\E'/, 'what to do is told');
    ok(-e $lock && !glob("$w/student.old-*") && !-e "$dir/ran", 'neither is moved, nothing is run');
    spew($lock, "tool distill-train\nhost $host\npid 77\nstart 1\nboot x\nsince 2001-02-03T04:05:06Z\n");
    is(system("scripts/train-student $w/student params=$dir/conf.mk -- touch $dir/ran 2>$dir/said"), 0, 'one whose process is gone');
    ok(-e "$dir/ran" && 1 == (() = glob "$w/student.old-*"), 'is moved aside');
    remove_tree($_) for glob "$w/student.old-*";
}

# ---- a shard that is another one than when its index was made
unlink "$w/embed/image/00001.npy";
copy("$dir/shards/00001.tar", "$dir/00001.tar") or die;
my @date = (stat "$dir/shards/00001.tar")[8, 9];
truncate "$dir/shards/00001.tar", 20_000;
utime @date, "$dir/shards/00001.tar";
isnt(make('embed'), 0, 'fewer samples than the index has are an error');
like($last, qr{00001\.tar: \d+ samples were read, its index has 12}, 'which says so');
ok(!-e "$w/embed/image/00001.npy" && !glob("$w/embed/.part/*/*"), 'and leaves nothing');
copy("$dir/00001.tar", "$dir/shards/00001.tar") or die;
utime @date, "$dir/shards/00001.tar";
is(make('embed'), 0, 'put right, it is embedded') or diag $said;

# ---- survivors
make_path("$dir/stage");
my ($picture) = glob 'tests/data/images/4*.jpg';
copy($picture, sprintf '%s/stage/%02d.jpg', $dir, $_) or die for 0 .. 5;
spew(sprintf('%s/stage/%02d.txt', $dir, 4), 'a caption');
make_path("$dir/alike");
tar_folder("$dir/stage", "$dir/alike/a.tar");
conf("SHARD_DIR := $dir/alike", 'SHARDS := a', 'BALANCE := --distance 0.1', 'MAX_DROPPED := 80');
is(make("WORK=$dir/w2", 'balance'), 0, 'pictures that are all alike') or diag $said;
my $mask = slurp("$dir/w2/test/keep/a.npy");
is(join(' ', unpack 'C*', substr $mask, -6), '0 0 0 0 1 0', 'the one with a caption survives');
like($said, qr/balance: warning: more than MAX_DROPPED, 80 %.*--curve.*\nbalance: done, .*83\.3 % of the rows dropped/, 'the share is told, and warned of');
# ---- views of the teacher
conf('AUGMENT := --scale 0.2,0.6', 'TRAIN := --epochs 2 --batch 4');
is(make(), 0, 'without views') or diag $said;
is(planned('VIEWS=2'), 'eval-student report train-student view-0 view-1', 'with two');
is(make('VIEWS=2'), 0, '... they are made, and trained with') or diag $said;
ok(-s "$w/embed/view-1/00001.npy" && slurp("$w/embed/view-0/00001.npy") ne slurp("$w/embed/view-1/00001.npy"), '... and differ');
is(planned('VIEWS=2'), '', '... once');
is(planned('VIEWS=3'), 'eval-student report train-student view-2', 'one more is one more');
# ---- neighbours in common with the teacher
is(make(), 0, 'without views once more') or diag $said;
is(planned('NEIGHBOURS=yes'), 'eval-student eval-teacher report rows-wds_things', 'neighbours');
is(make('NEIGHBOURS=yes'), 0, '... are counted') or diag $said;
like(slurp("$w/eval/student.json"), qr/"neighbours\@1":/, '... among the figures of the student');
like(slurp("$w/report.html"), qr/neighbours\@1 <b>/, '... and in the report');
is(planned('NEIGHBOURS=yes'), '', '... once');
# ---- captions and caps in the balance
conf('BALANCE := --distance 0.1 --keep-score 0.5 --survivor score --cap 3', 'CELLS := 2');
is(make('balance'), 0, 'by scores, and capped') or diag $said;
my $balance = slurp("$w/balance.json");
like($balance, qr/"survivor":\s*"score"/, '... the best captions stay');
like($balance, qr/"cap":\s*3/, '... three of a cell');
conf('BALANCE := --distance 0.1 --cap 3');
isnt(make(), 0, 'a cap without cells');
like($said, qr/BALANCE: sem-balance: --cap goes with --cells/, '... is known before the first stage');
conf('VIEWS := 2', 'AUGMENT := --fast');
isnt(make(), 0, 'pictures that the teacher cannot be shown');
like($said, qr/AUGMENT: teacher-embed:/, '... are known before the first stage') or diag $said;
done_testing();
