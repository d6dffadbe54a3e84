#!/usr/bin/env perl
# The levels of vector instructions (CLIP_CID_ISA): at each that this processor has, the unit programs that depend on it,
# the reference's embeddings and training, the same rows for any batch and threads; between levels the same pictures, labels
# and masks, and embeddings within rounding. Also the CPU device under the kernels that OpenBLAS has for other processors.
# A level that the processor lacks is skipped and named.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
my ($bin, $build, $data) = map { abs_path($_) } $ENV{BIN} // 'bin', $ENV{BUILD} // 'build/release', 'tests/data';
my $shared = abs_path($ENV{CLIP_CID_SHARED} // '../shared') // '';
my ($root, $dir) = (abs_path('.'), tempdir(CLEANUP => 1));
chdir $dir or die;
my @unit = qw(base/isa base/half image/resize device/dev model/model model/grad losses/losses losses/optim search/nearest balance/balance cluster/kmeans
    eval/linear-probe train/train);
my %core = (portable => 'Prescott', avx2 => 'Haswell', avx512 => 'SkylakeX');

my $said = '';
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die; print $h $t; close $h; }
sub run { my $rc = system("@_ >said 2>&1"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub floats { my ($f) = @_; my $t = slurp($f); return unpack 'f<*', substr $t, 10 + unpack('v', substr $t, 8, 2); }
sub distance {
    my ($worst, @x) = (0, floats($_[0]));
    my @y = floats($_[1]);
    return 9 if !@x || @x != @y;
    for my $i (0 .. $#x) { my $d = abs($x[$i] - $y[$i]); $worst = $d if $d > $worst; }
    return $worst;
}

delete @ENV{qw(CLIP_CID_ISA OPENBLAS_CORETYPE ONEDNN_MAX_CPU_ISA DNNL_MAX_CPU_ISA)};
my ($machine) = `$bin/teacher-embed --version` =~ /^vector instructions: (portable|avx2|avx512)\b/m;
ok($machine, 'the level is named') or BAIL_OUT('no level');
for my $wrong ('avx', 'AVX2', 'avx512 ', 'native') {
    is(run("CLIP_CID_ISA='$wrong' $bin/shard-read $data/shards/00000.tar"), 2, "'$wrong' is wrong usage");
    is($said, "shard-read: CLIP_CID_ISA is '$wrong', not one of portable|avx2|avx512; try --help\n", 'and says what is right');
}
is(run("CLIP_CID_ISA= $bin/teacher-embed --version"), 0, 'an empty one is none');
like($said, qr/^vector instructions: $machine(?! *,)/m, 'at the processor\'s own level');
is(run("CLIP_CID_ISA=avx512 $bin/teacher-embed --version"), 0, 'the highest level');
like($said, qr/^vector instructions: $machine(?! *,)/m, 'is never more than the processor has');

# Rows in groups near each other, for labels and masks: more than 64 centroids, so that every kernel is tried.
my $seed = 1;
sub draw { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return (($seed >> 12) % 2001 - 1000) / 1000; }
sub npy {
    my ($file, $rows, $dim, @v) = @_;
    my $head = "{'descr': '<f4', 'fortran_order': False, 'shape': ($rows, $dim), }";
    $head .= ' ' x (117 - length $head) . "\n";
    spew($file, "\x93NUMPY\1\0" . pack('v', length $head) . $head . pack 'f<*', @v);
}
my ($dim, $k, $n) = (40, 96, 3000);
my @centre = map { [map { draw() } 1 .. $dim] } 1 .. $k;
npy('centroids.npy', $k, $dim, map { @$_ } @centre);
npy('rows.npy', $n, $dim, map { my $c = $centre[$_ % $k]; map { $c->[$_] + 0.2 * draw() } 0 .. $dim - 1 } 1 .. $n);

my $embed = "$bin/teacher-embed -q -m $data/models/odd --tokenizer $data/tokenizer/openai --out-dtype f32";
my (%first, $first);
sub same { my ($what, $level, $bytes) = @_; $first{$what} //= $bytes; ok(length $bytes > 500 && $bytes eq $first{$what}, "$what: the same bytes at $first and $level"); }

my @levels = qw(avx512 avx2 portable);
for my $level (@levels) {
    if ($level eq 'avx512' && $machine ne 'avx512' || $level eq 'avx2' && $machine eq 'portable') {
        SKIP: { skip "level $level: this processor has $machine only, so $level is NOT tested here", 1; }
        next;
    }
    $first //= $level;
    $ENV{CLIP_CID_ISA} = $level;
    is(run("$bin/teacher-embed --version"), 0, "level $level");
    like($said, qr/^vector instructions: $level\b/m, 'is used');
    mkdir $level;

    is(run("$bin/shard-read -q --size 29 -o $level/samples $data/shards/00000.tar $data/shards/00001.tar"), 0, 'pictures') or diag $said;
    same('pictures', $level, slurp("$level/samples"));
    is(run("$embed --image-out $level/i.npy --text-out $level/t.npy $level/samples"), 0, 'embeddings') or diag $said;
    is(run("$embed -t 3 --batch 5 --image-out $level/i2.npy --text-out $level/t2.npy $level/samples"), 0, 'other batches, three threads') or diag $said;
    ok(slurp("$level/$_.npy") eq slurp("$level/${_}2.npy"), 'the same bytes') for 'i', 't';
    for my $what ('i', 't') {
        my $d = distance("$first/$what.npy", "$level/$what.npy");
        ok($d < 2e-5, "$first and $level within rounding: $d");
    }
    is(run("$bin/kmeans-cluster -q --assign centroids.npy --top 3 --labels-dir $level rows.npy"), 0, 'labels') or diag $said;
    same('labels', $level, slurp("$level/rows.npy"));
    make_path("$level/keep");
    is(run("$bin/sem-balance -q --distance 0.04 --keep-dir $level/keep -o $level/r.json rows.npy"), 0, 'masks') or diag $said;
    same('masks', $level, slurp("$level/keep/rows.npy"));

    is(run("$build/unit/base/isa-test"), 0, 'isa-test') or diag $said;
    my ($bits) = $said =~ /^# elementwise (\w+)$/m;
    $first{bits} //= $bits;
    is($bits, $first{bits}, "norms, losses, AdamW: the same bits at $first and $level");

    # The processor's own level is what unit.t and golden-*.t run.
    next if $level eq $machine;
    $ENV{OPENBLAS_CORETYPE} = $core{$level};
    for my $p (@unit) {
        is(run("(cd $root && $build/unit/$p-test)"), 0, "$level: $p-test") or diag $said;
        like($said, qr/^1\.\.[1-9]/m, 'to its end');
    }
    for my $model ("$data/models/odd", "$data/models/quick") {
        is(run("$bin/golden model $model"), 0, "$level: the reference's embeddings, $model") or diag $said;
    }
    SKIP: {
        skip "$level: no goldens of training: set CLIP_CID_SHARED", 1 unless -e "$shared/golden/train";
        is(run("$bin/golden train $shared/golden/train"), 0, "$level: the reference's training") or diag $said;
    }
    delete $ENV{OPENBLAS_CORETYPE};
}
delete $ENV{CLIP_CID_ISA};

# Only kernels that the processor can run.
my %needs = (SkylakeX => 'avx512', Haswell => 'avx2', Zen => 'avx2', Prescott => 'portable', Nehalem => 'portable');
my %rank = (portable => 0, avx2 => 1, avx512 => 2);
for my $core (sort keys %needs) {
    SKIP: {
        skip "OpenBLAS's kernels for $core: this processor has $machine only", 1 if $rank{$needs{$core}} > $rank{$machine};
        is(run("OPENBLAS_CORETYPE=$core $build/unit/base/isa-test"), 0, "OpenBLAS's kernels for $core: the same bytes for any threads and address") or diag $said;
    }
}
done_testing();
