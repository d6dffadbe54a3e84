#!/usr/bin/env perl
# Mistakes in a conf file or on the command line are named before the first stage, each in the last line; questions write
# nothing.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
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
make_teacher("$dir/wordless", tokenizer => 0);
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
# Wrong, named, and before the first stage.
sub refused { my ($what, $pattern, @args) = @_;
    isnt(make(@args), 0, "$what is refused");
    like($last, $pattern, "$what: the last line says so");
    ok(!-e "$dir/w/test/index", "$what: before the first stage");
    remove_tree("$dir/w");
    return;
}

# ---- questions
conf();
is(make('status'), 0, 'status before the first run') or diag $said;
like($said, qr{nothing is made yet.*index\s+0 / 2\s+2 to do.*train student.*report\s+0 / 1\s+1 to do}s, 'tells what is to do');
is(make('-n'), 0, 'a dry run') or diag $said;
is(make('clean-tmp'), 0, 'clean-tmp') or diag $said;
ok(!-e "$dir/w", 'they write nothing');
is(system("make -f pipeline.mk help >$dir/said 2>&1"), 0, 'help without DATA');
like(slurp("$dir/said"), qr/preflight:.*data sets:.*laion400m/s, 'lists stages and data sets');
isnt(system("make -f pipeline.mk DATA=nonesuch >$dir/said 2>&1"), 0, 'a conf file that is not there');
like(slurp("$dir/said"), qr{no 'conf/nonesuch.mk'.*conf/example.mk}, 'is named');

# ---- the page
my $page = slurp('man/clip-cid-pipeline.7');
my $cluster = slurp('man/clip-cid-cluster.7');
my ($for_slurm) = slurp('pipeline.mk') =~ /^CLUSTER_VARIABLES := ((?:.*\\\n)*.*)\n/m;
is(join(' ', grep { $cluster !~ /^\.It Cm (?:.*[ ,])?\Q$_\E\b/m } grep { $_ ne '\\' } split ' ', $for_slurm), '', 'every variable for Slurm stands in its page');
my ($list) = slurp('pipeline.mk') =~ /^VARIABLES := ((?:.*\\\n)*.*)\n/m;
is(join(' ', grep { $page !~ /^\.It Cm (?:.*[ ,])?\Q$_\E\b/m } grep { $_ ne '\\' } split ' ', $list), '', 'every variable stands in the page');
is(join(' ', grep { $page !~ /^\.It Cm \Q$_\E$/m } slurp('pipeline.mk') =~ /^## ([\w-]+):/mg), '', 'every stage stands in it');
my %known = map { $_ => 1 } split ' ', $list;
is(join(' ', grep { !$known{$_} && $_ ne 'TRAIN_' } map { split /[ ,]+/, s/ (?:Pq|Ns).*//r } $page =~ /^\.It Cm ([A-Z][A-Za-z_ ,]*)/mg), '', 'and no other');

# ---- variables
conf('STUDNET := x');
refused('a misspelt variable', qr/nothing reads the variable STUDNET: did you mean STUDENT\?/);
conf('TRAIN_studnet := --lr 1');
refused('options of a student that is not there', qr/TRAIN_studnet: did you mean TRAIN_student\?/);
conf();
refused('one on the command line', qr/nothing reads the variable BALNACE: did you mean BALANCE\?/, 'BALNACE=1');
conf('QQQQQQQQQQQQQ := x');
refused('one like no other', qr/nothing reads the variable QQQQQQQQQQQQQ; clip-cid-pipeline/);
conf("HOME_OF ?= $dir", 'SHARD_DIR := $(HOME_OF)/shards', 'UNUSED_ONCE = x', 'USES = ${UNUSED_ONCE:x=y}', 'SEED := $(if $(USES),1)', 'export OMP_NUM_THREADS := 1');
is(make('-n', "HOME_OF=$dir"), 0, 'helpers of the conf file are its own matter') or diag $said;
$ENV{STUDNET} = 'x';
conf();
is(make('-n'), 0, 'so is the environment') or diag $said;
delete $ENV{STUDNET};
conf('STUDENTS := student labels');
refused('a name of the pipeline', qr/STUDENTS has 'labels'/);
conf('STUDENTS := a b a');
refused('a name twice', qr/STUDENTS names 'a' twice/);
conf('SHARDS := 00000 00000');
refused('a shard twice', qr/SHARDS names '00000' twice/);
conf("SHARD_DIR := $dir/my shards");
refused('a path with a space', qr/SHARD_DIR is '.*my shards': a path with a space/);
conf("TEACHER := $dir/it's");
refused('a path with a quote', qr/TEACHER is '.*it's': a path with ' /);
for my $c ('(', ')', '<', '>', '`', '\\', '#') {
    conf("SHARD_DIR := $dir/a" . ($c eq '#' ? '\\#' : $c) . 'b');
    refused("a path with $c", qr/SHARD_DIR is '.*a\Q$c\Eb': a path with \Q$c\E is not possible here/);
}
for (['K', '10;x'], ['SEED', '1 2'], ['DEVICE', 'cpu)'], ['K', 'many'], ['SEED', '-1'], ['MEM', '1G;x'], ['MEM', '1 G'], ['MEM', 'lots'], ['MEM', '2X'],
    ['DEVICE', 'tpu'], ['DEVICE', 'cuda:x'], ['CELLS', 'a few'], ['PROBE', '1:2'], ['SHUFFLE', '1e4'], ['BLOCK_labels', '1,2'], ['T_read', 'all'],
    ['T_embed', '-1'], ['T_big', '2 3'], ['MAX_DROPPED', '60%'], ['SIZE', '224x'], ['TRAIN_SIZE', 'big'], ['LOCK', 'maybe'], ['PREFLIGHT', 'NO']) {
    my ($name, $value) = @$_;
    conf("$name := $value");
    refused("$name of $value", qr/$name is '\Q$value\E': /);
}

conf('K :=');
refused('no K', qr/K is empty/);
conf('MEM := 0.25G', 'DEVICE := cpu');
is(make('preflight'), 0, 'sizes and devices are what the tools take') or diag $said;
remove_tree("$dir/w");

# ---- preflight
my %wrong = (
    'no folder of shards' => ["SHARD_DIR := $dir/none", qr/SHARD_DIR '.*none' is not a folder/],
    'no shard there' => ["SHARDS := x y", qr/none of the 2 SHARDS is in '.*shards': there is no x\.tar/],
    'no teacher' => ["TEACHER := $dir/none", qr/TEACHER '.*none' is not a folder/],
    'a folder that is no model' => ["TEACHER := $dir/shards", qr/TEACHER: .*shards/],
    'a teacher without tokenizer' => ["TEACHER := $dir/wordless", qr/no tokenizer.*set TOKENIZER/],
    'a tokenizer that is not there' => ["TOKENIZER := $dir/none", qr/TOKENIZER '.*none' is not there/],
    'a size that is not the teacher\'s' => ['SIZE := 30', qr/--size is 30, the pictures of '.*teacher' are 29 a side/],
    'no student' => ["STUDENT := $dir/none.json", qr/STUDENT '.*none.json' is not a file/],
    'a student of another width without maps' => ['TRAIN += --no-project', qr/student: .*(12|20)/],
    'a misspelt option of training' => ['TRAIN += --stepps 3', qr/student: distill-train: .*stepps/],
    'a misspelt option of the balance' => ['BALANCE := --remov 0.1', qr/BALANCE: sem-balance: .*remov/],
    'a misspelt option of embedding' => ['EMBED := --dtpye f32', qr/EMBED: teacher-embed: .*dtpye/],
    'a misspelt option of evaluation' => ['EVAL := --bach 3', qr/EVAL: zs-eval: .*bach/],
    'a quotation that does not end' => ["BALANCE := --remove '0.1", qr/BALANCE is '--remove '0.1': a shell cannot read that/],
    'an evaluation set that is not there' => ["EVAL_SETS := $dir/eval/wds_thongs", qr/EVAL_SETS: '.*wds_thongs' is not a folder/],
    'an evaluation set without pictures' => ["EVAL_SETS := $dir/eval", qr/EVAL_SETS: '.*eval' has no folder 'test'/],
    'too many clusters' => ['K := 1000', qr/K is 1000, and there are only about 24 samples/],
);
for my $what (sort keys %wrong) {
    my ($line, $pattern) = @{ $wrong{$what} };
    conf($line);
    refused($what, $pattern);
}
# Weights that a broken download left behind.
make_teacher("$dir/cut");
truncate "$dir/cut/open_clip_model.safetensors", 3 * (-s "$dir/cut/open_clip_model.safetensors") / 4;
conf("TEACHER := $dir/cut");
refused('cut weights', qr/TEACHER: .*cut.*open_clip_model\.safetensors.*(shorter|truncated|ends)/);
make_path("$dir/packed");
system("gzip -c $dir/shards/00000.tar >$dir/packed/00000.tar.gz");
conf("SHARD_DIR := $dir/packed", 'SHARDS := 00000');
refused('compressed shards', qr/00000\.tar\.gz' is compressed/);
copy("$dir/shards/00001.tar", "$dir/packed/") or die;
for my $ext ('tar.gz', 'tgz', 'tar.zst') {
    rename((glob "$dir/packed/00000.*")[0], "$dir/packed/00000.$ext");
    conf("SHARD_DIR := $dir/packed");
    refused("one .$ext among others", qr/00000\.\Q$ext\E' is compressed: shards are \.tar files here; unpack them first/);
}
copy("$dir/shards/00000.tar", "$dir/packed/") or die;
is(make('preflight'), 0, 'one beside its tar is nobody\'s matter') or diag $said;
remove_tree("$dir/w");
conf("TEACHER := $dir/none");
is(make('index'), 0, 'the index needs no teacher') or diag $said;
remove_tree("$dir/w");

# ---- ways that work
conf("TEACHER := $dir/wordless", "TOKENIZER := $dir/teacher", "TRAIN := --steps '2' --batch 4 --loss 'instance=1,clip=1' --eval-set $dir/eval/wds_things", "BALANCE := --remove '0.1'",
    "EVAL_SETS :=", "EMBED := '--dtype' f32");
is(make(), 0, 'a tokenizer of its own, quotation marks, no evaluation sets') or diag $said;
like($said, qr/no EVAL_SETS: evaluation is left out/, 'which is said');
ok(-s "$dir/w/test/report.html" && !-e "$dir/w/test/eval", 'to the report');
conf("TEACHER := $dir/wordless", "TOKENIZER := $dir/teacher", "TRAIN := --steps '2' --batch 4 --loss 'instance=1,clip=1' --eval-set $dir/eval/wds_things", "BALANCE := --remove '0.1'",
    "EMBED := '--dtype' f32");
is(make(), 0, 'evaluation sets later') or diag $said;
ok(-s "$dir/w/test/eval/teacher.json" && -s "$dir/w/test/eval/student.json", 'are evaluated on');
unlike($said, qr/^(index|embed|balance|centroids|labels|train-student): done/m, 'and nothing else is done again');
my $before = `cd $dir/w && find . | LC_ALL=C sort | xargs stat -c '%n %Y %s'`;
is(make('status'), 0, 'status') or diag $said;
like($said, qr{index\s+2 / 2\s+whole.*train student\s+1 / 1\s+whole, finished at step 2; step 2: wds_things acc1 \d\.\d{4}\n.*eval\s+2 / 2\s+whole}s, 'tells that all is whole');
conf("TEACHER := $dir/wordless", "TOKENIZER := $dir/teacher", 'TRAIN := --steps 3 --batch 4', "BALANCE := --remove '0.1'", "EMBED := '--dtype' f32");
is(make('status'), 0, 'status with another TRAIN') or diag $said;
like($said, qr{labels\s+2 / 2\s+whole.*train student\s+1 / 1\s+1 to do.*eval\s+2 / 2\s+1 to do}s, 'tells what has to be made again');
is(`cd $dir/w && find . | LC_ALL=C sort | xargs stat -c '%n %Y %s'`, $before, 'and writes nothing');
done_testing();
