#!/usr/bin/env perl
# kmeans-cluster and sem-balance with --device cuda (run on the processor where there is no GPU): the
# bytes of the CPU, what is said about memory, what is refused.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use Test::More;
my $build = abs_path($ENV{BUILD} // 'build/release');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
mkdir $_ for qw(a cpu gpu);

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub npy {
    my ($file, $type, $shape, $data) = @_;
    my $head = "{'descr': '$type', 'fortran_order': False, 'shape': ($shape), }";
    $head .= ' ' x (117 - length $head) . "\n";
    open my $h, '>:raw', $file or die;
    print $h "\x93NUMPY\1\0" . pack('v', length $head) . $head . $data;
    close $h;
}
my $said = '';
sub run {
    my ($tool, $args) = @_;
    my $rc = system("$build/cuda-tools/$tool $args 2>said");
    $said = slurp('said');
    return $rc & 127 ? -1 : $rc >> 8;
}
my ($n, $dim, $seed, @x) = (1200, 21, 1);
for my $i (0 .. $n - 1) {
    my $from = $i > 20 && $i % 3 ? $x[$i * 7919 % ($i - 10)] : undef;
    push @x, [map { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff;
                    my $v = ($seed >> 12) % 129 - 64;
                    $from ? $from->[$_] + $v / 16 : $v } 0 .. $dim - 1];
}
$x[7] = [(0) x $dim];
$x[8] = [('nan') x $dim];
$x[30] = $x[31];
npy('a/0.npy', '<f4', "700, $dim", pack 'f<*', map { @$_ } @x[0 .. 699]);
npy('a/1.npy', '<f4', "500, $dim", pack 'f<*', map { @$_ } @x[700 .. $n - 1]);
my $in = 'a/0.npy a/1.npy';

# The same command on both; every file named must be the same.
sub both {
    my ($tool, $args, @files) = @_;
    for my $on ('cpu', 'cuda') {
        (my $here = $args) =~ s/DIR/$on eq 'cpu' ? 'cpu' : 'gpu'/ge;
        is(run($tool, "--device $on $here"), 0, "$tool on $on: $args") or diag $said;
        like($said, qr/^$tool: cuda:0: [\d.]+ MiB of [\d.]+ free: \d+ rows of $dim bf16 values held/m, 'says what it takes')
            if $on eq 'cuda';
    }
    ok(slurp("cpu/$_") ne '' && slurp("gpu/$_") eq slurp("cpu/$_"), "the same $_") for @files;
}
both('kmeans-cluster', "-k 40 --iterations 5 -t 2 --top 3 --labels-dir DIR -o DIR/c.npy $in", qw(c.npy 0.npy 1.npy));
both('kmeans-cluster', "-k 60 --levels 2 --coarse 5 --iterations 4 -o DIR/c2.npy $in", qw(c2.npy));
both('kmeans-cluster', "--assign cpu/c.npy -t 2 --labels-dir DIR $in", qw(0.npy 1.npy));
mkdir "$_/g" for qw(cpu gpu);
my $outputs = '--keep-dir DIR --groups-dir DIR/g -o DIR/report.json';
my @all = qw(0.npy 1.npy g/0.npy g/1.npy report.json);
both('sem-balance', "--distance 0.05 -t 2 $outputs --curve DIR/curve.tsv $in", @all, 'curve.tsv');
both('sem-balance', "--cells cpu/c.npy --probe 3 --distance 0.1 $outputs $in", @all);
both('sem-balance', "--cells cpu/c.npy --rule semdedup --distance 0.1 $outputs $in", @all);
both('sem-balance', "--cells cpu/c.npy --remove 0.2 $outputs $in", @all);

SKIP: {
    skip 'the memory of a GPU is what it is', 4 if -e '/dev/nvidiactl';
    local $ENV{CUDA_ON_CPU_MEMORY} = 140_000_000;
    is(run('sem-balance', "--device cuda -o r.json $in"), 1, 'a device with too little memory is refused');
    like($said, qr/^sem-balance: cuda:0: 133\.5 MiB of its memory are free, [\d.]+ MiB are needed at least \(rows/m, 'with the sizes');
    $ENV{CUDA_ON_CPU_DEVICES} = 0;
    is(run('kmeans-cluster', "--device cuda -k 4 -o c.npy $in"), 1, 'no GPU');
    like($said, qr/^kmeans-cluster: device cuda: no GPU/m, 'is said');
    delete $ENV{CUDA_ON_CPU_DEVICES};
}
is(run('kmeans-cluster', "-v --device cuda --assign cpu/c.npy --labels-dir gpu $in"), 0, 'labels') or diag $said;
like($said, qr/^kmeans-cluster: cuda:0: [\d.]+ candidates a row for 1200 labels, 0 rows searched here/m, '-v counts the candidates');
is(run('kmeans-cluster', "--device cuda -k 4 --top 33 --labels-dir gpu -o c.npy $in"), 1, 'too many labels a row');
like($said, qr/32 nearest at most/, 'are refused');
is(run('sem-balance', "--device cuda:9 -o r.json $in"), 1, 'a device that is not there');
ok(!-e 'r.json' && !-e 'c.npy', 'leaves nothing');
done_testing();
