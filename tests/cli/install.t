#!/usr/bin/env perl
# `make install`, and the command clip-cid: the pipeline runs from a folder that has nothing of ours, as a user without rights;
# a new description; doctor; its page; completion for bash has the words of the option tables.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
use lib abs_path('tests/lib'), abs_path('tests/cli');
use TestPipeline;
plan skip_all => 'what is installed is the optimised build' if $ENV{ASAN};
delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL PREFIX DESTDIR)};
my $bin = abs_path($ENV{BIN} // 'bin');
my @tools = map { s{.*/}{}r =~ s{\.c$}{}r } glob('tools/*.c');
my $dir = tempdir(CLEANUP => 1);
chmod 0755, $dir;
my $said;
sub run { my ($what) = @_; my $rc = system("{ $what\n} >$dir/said 2>&1"); $said = slurp("$dir/said"); return $rc >> 8 || $rc }

# ---- what is installed; -o: the tools are built
is(run("make -o all install BIN=$bin DESTDIR=$dir/root PREFIX=/opt/cid"), 0, 'make install') or diag $said;
my $prefix = "$dir/root/opt/cid";
ok(-x "$prefix/bin/$_", "bin/$_") for 'clip-cid', @tools;
ok(-s "$prefix/share/man/$_", $_) for 'man1/clip-cid.1', 'man1/shard-read.1', 'man5/samples.5', 'man7/clip-cid.7';
my @odd = grep { !m{^bin/|^share/(?:man|clip-cid|doc/clip-cid|bash-completion/completions)/} } map { s{^\Q$prefix\E/}{}r } split /\n/, `find $dir/root -type f`;
is("@odd", '', 'nothing elsewhere');
is(run("grep -rlE '/tmp/|\Q$dir\E' $prefix/share $prefix/bin/clip-cid | grep -v 'share/\\(man\\|doc\\)' | xargs -r grep -l '\Q$dir\E'"), 0, 'looked for');
is($said, '', '... nothing names the folder that it was installed through');

# ---- moved, and from another folder
rename "$dir/root/opt/cid", "$dir/moved" or die;
my $cid = "$dir/moved/bin/clip-cid";
my $at = "$dir/elsewhere";
make_path($at);
make_shards("$at/data/tiny", 2, 12);
rename "$at/data/tiny/shards/$_", "$at/data/tiny/$_" or die for '00000.tar', '00001.tar';
make_eval_set("$at/data/set");
make_teacher("$at/teacher");
make_student("$at/student.json");
my $as = '';
if ($> == 0) {
    system("chown -R 65534:65534 $at") == 0 or die;
    $as = 'setpriv --reuid=65534 --regid=65534 --clear-groups ';
}
my $here = "cd $at && HOME=$at PATH=/usr/bin:/bin ${as}";
is(run("$here $cid new tiny"), 0, 'a new description') or diag $said;
my $text = slurp("$at/conf/tiny.mk");
like($text, qr/^SHARD_DIR := data\/tiny$/m, '... of that name');
like($text, qr/^# .*clip-cid run DATA=tiny preflight/m, '... says what to do with it');
ok((() = $text =~ /^#/mg) > 6, '... has comments');
is(run("$here $cid new tiny"), 1, 'twice') or diag $said;
like($said, qr{^clip-cid: 'conf/tiny.mk' is there already$}m, '... is refused');
is(slurp("$at/conf/tiny.mk"), $text, '... and the file is as it was');
is(run("$here $cid run -n DATA=tiny SHARDS='00000 00001' TEACHER=teacher STUDENT=conf/models/ViT-S-32.json"), 0, 'a plan') or diag $said;
like($said, qr{--student $dir/moved/share/clip-cid/conf/models/ViT-S-32.json}, '... a config that is not here is the installed one');
ok(!-e "$at/work", '... and nothing is written');
edit("$at/conf/tiny.mk", qr/SHARDS := .*/, 'SHARDS := 00000 00001');
edit("$at/conf/tiny.mk", qr/TEACHER := .*/, 'TEACHER := teacher');
edit("$at/conf/tiny.mk", qr/SIZE := .*/, 'SIZE := 29');
edit("$at/conf/tiny.mk", qr/CELLS := .*/, 'CELLS := 1');
edit("$at/conf/tiny.mk", qr/BALANCE := .*/, 'BALANCE := --remove 0.2');
edit("$at/conf/tiny.mk", qr/^K := .*/m, 'K := 3');
edit("$at/conf/tiny.mk", qr/STUDENT := .*/, 'STUDENT := student.json');
edit("$at/conf/tiny.mk", qr/TRAIN := .*/, 'TRAIN := --epochs 1 --batch 4');
edit("$at/conf/tiny.mk", qr/EVAL_SETS := .*/, 'EVAL_SETS := data/set');
edit("$at/conf/tiny.mk", qr/MEM := .*/, 'MEM := 200M');
is(run("$here $cid run DATA=tiny"), 0, 'the pipeline' . ($as && ', as nobody')) or diag $said;
ok(-s "$at/work/tiny/$_", "... $_") for qw(index/00001.tsv labels/00000.npy student/open_clip_model.safetensors eval/student.json report.html);
is(run("$here $cid run DATA=tiny"), 0, 'again') or diag $said;
unlike($said, qr/done/, '... there is nothing to do');
is(run("$here $cid run DATA=tiny status"), 0, 'status') or diag $said;
like($said, qr/ report +1 \/ 1 +whole$/m, '... all is made') or diag $said;
is(run("$here $cid run DATA=none"), 2, 'a data set that is not there');
like($said, qr/no 'conf\/none.mk': DATA is one of .*tiny/, '... is named') or diag $said;

# ---- doctor
is(run("$here $cid doctor"), 0, 'doctor') or diag $said;
for my $what (qw(tools processor commands memory cores disk limits GPU MPI Slurm)) { like($said, qr/^$what +\S/m, "... on $what") }
my ($level) = `$bin/teacher-embed --version` =~ /^vector instructions: (\S+)/m;
like($said, qr/^processor .*, $level/m, '... names the level in use');
make_path("$dir/few");
symlink "/usr/bin/$_", "$dir/few/$_" for qw(bash env awk sed grep head readlink nproc df mktemp rm uname cat wc);
is(run("cd $at && PATH=$dir/few $cid doctor"), 1, 'a machine without make');
like($said, qr/^commands +MISSING: .*flock perl make: /m, '... is told what is missing') or diag $said;
rename "$dir/moved/bin/teacher-embed", "$dir/away" or die;
is(run("cd $at && $cid doctor"), 1, 'tools that do not start');
like($said, qr/^tools +MISSING: '$dir\/moved\/bin\/teacher-embed' does not start/m, '... are told') or diag $said;
rename "$dir/away", "$dir/moved/bin/teacher-embed" or die;

# ---- the command's words
is(run("$cid --help"), 0, '--help');
my $page = slurp("$dir/moved/share/man/man1/clip-cid.1");
for my $command ($said =~ /^  ([a-z]+)\b/mg) { like($page, qr/^\.It Cm \Q$command\E$/m, "clip-cid(1) has $command") }
my %knows = map { $_ => 1 } $said =~ /--([a-z]+)/g;
my %has = map { $_ => 1 } map { /-([a-z]+)$/ } grep { /^\.It Fl/ } split /\n/, $page;
is_deeply(\%has, \%knows, 'clip-cid(1) has its options');
for ([''], ['--no'], ['fly'], ['new'], ['new a b'], ['new ../a'], ['doctor x']) { is(run("cd $at && $cid @$_"), 2, "wrong usage: @$_") or diag $said; like($said, qr/^clip-cid: .*(?:--help|only)$/m, '... is told') }
is(run("$cid --version"), 0, '--version');
like($said, qr/^clip-cid \d+\.\d+\.\d+\ncommit: \S+\ncompiler: \S+ .*\nvector instructions: $level.*\nbuilt with: \S/, '... has commit, compiler, level and parts') or diag $said;
like(`$bin/kmeans-cluster --version`, qr/^devices: cpu/m, 'a tool that opens devices names them');

# ---- completion
sub complete { my ($tool, @words) = @_;
    my $last = $words[-1];
    my $before = @words > 1 ? $words[-2] : $tool;
    (my $function = "_clip_cid_$tool") =~ s/-/_/g;
    $function = '_clip_cid' if $tool eq 'clip-cid';
    run("cd $at && bash -c 'source $dir/moved/share/bash-completion/completions/$tool; COMP_WORDS=($tool @words); COMP_CWORD=" . scalar(@words) . "; $function $tool \"$last\" \"$before\"; printf \"%s\\n\" \"\${COMPREPLY[\@]}\"'");
    return join ' ', sort split /\n/, $said;
}
for my $tool (@tools) {
    my $table = join ' ', sort `$bin/$tool --help` =~ /^\s+(?:-\w, )?(--[a-z][a-z0-9-]*)/mg;
    is(complete($tool, '--'), $table, "$tool: its options");
}
is(complete('shard-read', '--progress', ''), 'always auto json never', 'the words of a choice');
is(complete('kmeans-cluster', '--engine', 'f'), 'faiss', '... those that begin so');
is(complete('clip-cid', 'd'), 'doctor', "the command's words");
is(complete('clip-cid', 'run', 'DATA=t'), 'DATA=tiny', 'data sets that are here');
is(complete('clip-cid', 'run', 'pre'), 'preflight', 'stages');
# What a data set's file takes from conf/ is found from any folder: configs by pipeline.mk, the rest by $(HOUSE).
for my $conf (glob 'conf/*.mk') {
    my @lines = grep { !/^\s*#/ } split /\n/, slurp($conf);
    is(join('', grep { s/\s#.*//r =~ m{(?<!\$\(HOUSE\))\bconf/(?!models/)} } @lines), '', "$conf takes files from where they are installed");
}
done_testing();
