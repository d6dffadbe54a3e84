#!/usr/bin/env perl
# The bundle: unpacked into a root folder that has a shell, coreutils and glibc, no make and none of our libraries, it passes
# doctor and runs the pipeline, as nobody.
use strict;
use warnings;
use Config;
use Cwd qw(abs_path);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
use lib abs_path('tests/cli');
use TestPipeline;
plan skip_all => 'what is bundled is the optimised build' if $ENV{ASAN};
plan skip_all => 'patchelf is not installed (scripts/deps)' if system('command -v patchelf >/dev/null');
plan skip_all => 'a bundle is for x86-64' if `uname -m` !~ /x86_64/;
delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL PREFIX DESTDIR)};
my $bin = abs_path($ENV{BIN} // 'bin');
my $dir = tempdir(CLEANUP => 1);
chmod 0755, $dir;
my $said;
sub run { my ($what) = @_; my $rc = system("{ $what\n} >$dir/said 2>&1"); $said = slurp("$dir/said"); return $rc >> 8 || $rc }

is(run("make -o all install BIN=$bin PREFIX=$dir/folder"), 0, 'installed') or diag $said;
is(run("XZ_OPT=-0 scripts/bundle $dir/folder $dir/b.tar.xz"), 0, 'a bundle') or diag $said;
like($said, qr/: \d+ MiB, for glibc 2\.\d+ or later$/, '... says of what glibc');
my $jail = "$dir/jail";
make_path(map { "$jail/$_" } qw(tmp dev proc home lib64 bin usr));
chmod 01777, "$jail/tmp";
symlink '../bin', "$jail/usr/bin" or die;
is(run("tar -C $jail/home -xJf $dir/b.tar.xz"), 0, 'is unpacked') or diag $said;
my $libs = join ' ', glob("$jail/home/clip-cid/lib/*");
like($libs, qr{/libdnnl\.so.*/libopenblas}, 'the libraries come along');
unlike($libs, qr{/lib(?:c|m|pthread|cuda|cublasLt)\.so|/ld-linux}, "... but the system's");
is(run("cd $jail/home && for f in clip-cid/bin/* clip-cid/lib/*; do ldd \$f 2>/dev/null; done | awk '/not found/ || /=> \\// { print \$3 }' | sort -u | grep -vE 'home/clip-cid/|^/lib/[^/]*/(lib(c|m|dl|pthread|rt|resolv)\\.so|ld-linux)'"), 1, '... nothing else is wanted') or diag $said;

SKIP: {
    my @shell = qw(bash env cat chmod cp cut date df dirname basename du head id ln ls mkdir mkfifo mktemp mv nproc paste printf readlink rm
        rmdir seq sleep sort comm stat tail tee touch tr uname wc xargs find sed grep awk flock sha256sum perl);
    skip 'a root folder of its own needs root', 1 if $> != 0 || system('unshare -m true 2>/dev/null');
    my @files = map { my $c = $_; (grep { -x } map { "$_/$c" } '/usr/bin', '/bin')[0] // die "no $c" } @shell;
    # What a bare system has, and no make.
    is(run("set -e; cp -L @files $jail/bin/; ln -s bash $jail/bin/sh; for f in \$(ldd $jail/bin/* | awk '\$3 ~ /^\\// { print \$3 }' | sort -u) \$(ldconfig -p | awk '/lib(dl|pthread|rt|resolv|m)\\.so\\.[0-9] .*x86-64/ { print \$NF }'); do"
        . " mkdir -p $jail/\${f%/*}; cp -L \$f $jail/\$f; done; cp -L /lib64/ld-linux-x86-64.so.2 $jail/lib64/; mknod -m 666 $jail/dev/null c 1 3;"
        . " ln -s /proc/self/fd $jail/dev/fd; for m in strict warnings; do f=\$(perl -M\$m -e 'print \$INC{shift().q(.pm)}' \$m); mkdir -p $jail/\${f%/*}; cp \$f $jail/\$f; done"), 0, 'a bare root folder')
        or diag $said;
    my $at = "$jail/home/work";
    make_path($at);
    make_shards($at, 2, 12);
    make_eval_set("$at/set");
    make_teacher("$at/teacher");
    make_student("$at/student.json");
    make_path("$at/conf");
    spew("$at/conf/tiny.mk", "SHARD_DIR := shards\nSHARDS := 00000 00001\nTEACHER := teacher\nSTUDENT := student.json\nBALANCE := --remove 0.2\nK := 3\n"
        . "TRAIN := --epochs 1 --batch 4\nEVAL_SETS := set\nMEM := 200M\n");
    system("chown -R 65534:65534 $at") == 0 or die;
    my $in = sub { my ($what) = @_;
        spew("$jail/home/line.sh", "cd /home/work; $what\n");
        return run("unshare -m sh -c 'mount -t proc proc $jail/proc && exec env -i HOME=/tmp TMPDIR=/tmp PATH=/bin /usr/sbin/chroot --userspec=65534:65534 $jail /bin/bash /home/line.sh'");
    };
    is($in->('echo $UID'), 0, 'a shell there') or diag $said;
    skip 'no shell starts in a root folder of its own', 1 if $said !~ /^65534$/;
    is($in->('command -v make'), 1, 'there is no make');
    is($in->('../clip-cid/bin/clip-cid doctor'), 0, 'doctor') or diag $said;
    like($said, qr/^tools +\d/m, '... the tools start');
    like($said, qr/^Slurm +no sbatch/m, '... nothing of the machine outside');
    is($in->('../clip-cid/bin/clip-cid run DATA=tiny'), 0, 'the pipeline') or diag $said;
    ok(-s "$at/work/tiny/$_", "... $_") for qw(keep/00000.npy labels/00001.npy student/open_clip_model.safetensors eval/teacher.json report.html);
    is((stat "$at/work/tiny/report.html")[4], 65534, "... nobody's");
    is($in->("../clip-cid/bin/clip-cid run DATA=tiny WORK=other KMEANS='--init none.npy'"), 2, 'a stage that fails');
    like($said, qr/^centroids: failed with status 1; log: /m, '... is told as failed, without ps too') or diag $said;
    is($in->("../clip-cid/bin/kmeans-cluster -k 2 -o c.npy work/tiny/embed/image/00000.npy"), 0, 'a tool alone') or diag $said;
}
done_testing();
