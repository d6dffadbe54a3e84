#!/usr/bin/env perl
# scripts/gpu-kit and scripts/gpu-proof on the emulated device: the proof runs from the kit alone, keeps what it found when
# it is cut, and a fault planted in any file of lib/device/cuda fails part 1 and is named.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
plan skip_all => 'the kit is made of the optimised build' if $ENV{ASAN};
my ($bin, $build) = map { abs_path($_) } $ENV{BIN} // 'bin', $ENV{BUILD} // 'build/release';
my $proof = abs_path('scripts/gpu-proof');
my $dir = tempdir(CLEANUP => 1);
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }

# Planted faults: a kit of one test.
for my $file (qw(attention attention-bwd elementwise gemm loss norm optim reduce rows search)) {
    my $kit = "$dir/planted-$file";
    make_path("$kit/$_") for qw(bin unit data/models sys);
    symlink "$build/plant/$file/cuda-test", "$kit/unit/cuda-test" or die;
    symlink "$bin/shard-read", "$kit/bin/shard-read" or die;
    for my $f ('emulated', 'version') { open my $h, '>', "$kit/$f" or die; }
    my $rc = system("KIT=$kit $proof --emulate --stages cuda-test $dir/out-$file >$dir/said 2>&1");
    is($rc >> 8, 1, "a fault in $file.cu fails part 1");
    like(slurp("$dir/out-$file/summary"), qr/^right\s+cuda-test\s+FAILED.* - \Q$file\E: /m, 'and is named') or diag slurp("$dir/said");
}

SKIP: {
    my $kit = "$dir/kit.tar.xz";
    skip 'patchelf is not installed (scripts/deps)', 1 if system('command -v patchelf >/dev/null');
    is(system("XZ_OPT=-0 scripts/gpu-kit --emulate $kit >$dir/said 2>&1"), 0, 'a kit') or diag slurp("$dir/said");
    my $jail = "$dir/jail";
    make_path("$jail/$_") for qw(tmp out dev proc lib64 lib/x86_64-linux-gnu);
    is(system("tar -C $jail -xJf $kit"), 0, 'is unpacked');

    # Nothing but glibc beside the kit, where a root folder of one's own can be had; else the kit in this one.
    my $libs = '/lib/x86_64-linux-gnu';
    my $bare = $> == 0 && !system("unshare -m true 2>/dev/null") && -e "$libs/libc.so.6"
        && !system("cp -L $libs/libc.so.6 $libs/libm.so.6 $libs/libdl.so.2 $libs/libpthread.so.0 $libs/librt.so.1 $libs/libresolv.so.2 $jail/lib/x86_64-linux-gnu/"
            . " && cp -L /lib64/ld-linux-x86-64.so.2 $jail/lib64/ && mknod -m 666 $jail/dev/null c 1 3 2>/dev/null")
        && !system("unshare -m sh -c 'mount -t proc proc $jail/proc' 2>/dev/null");
    diag "no root folder of its own: the kit runs beside the system's libraries" if !$bare;
    my $run = $bare
        ? "unshare -m sh -c 'mount -t proc proc $jail/proc && exec env -i TMPDIR=/tmp /usr/sbin/chroot $jail /kit/sys/bash /kit/gpu-proof ARGS /out'"
        : "env -i PATH=/usr/bin:/bin TMPDIR=$dir $jail/kit/gpu-proof ARGS $jail/out";
    my @stages = qw(cuda-step-test model-odd embeddings graphs clusters balance resume memory);
    (my $all = $run) =~ s/ARGS/'--emulate --stages ' . join ',', @stages, 'fast', 'clean'/e;
    is(system("$all >$dir/said 2>&1"), 0, 'the proof passes with the kit and glibc alone') or diag slurp("$dir/said");
    my $page = eval { decode_json(slurp("$jail/out/proof.json")) };
    is_deeply([map { "$_->{stage} $_->{result}" } @{ $page->{stages} }],
        [(map { "$_ ok" } @stages), 'fast skipped', 'clean skipped'], 'each stage is told, what was left out too');
    like(slurp("$jail/out/proof.md"), qr/^\| right \| embeddings \| ok \|/m, 'and a page');

    (my $cut = $run) =~ s/ARGS/--emulate --stages embeddings,graphs,clusters,balance,resume/;
    system("rm -rf $jail/out/*");
    my $pid = fork // die;
    if (!$pid) { setpgrp; exec "exec $cut >$dir/said 2>&1"; }
    for (1 .. 600) { last if -e "$jail/out/proof.json"; select undef, undef, undef, 0.1; }
    kill 'TERM', $pid;
    waitpid $pid, 0;
    $page = eval { decode_json(slurp("$jail/out/proof.json")) };
    ok($page && @{ $page->{stages} } && $page->{stages}[0]{stage} eq 'embeddings', 'a proof that was cut has kept what it found');
}
done_testing();
