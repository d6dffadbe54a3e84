#!/usr/bin/env perl
# kmeans-cluster: the same bytes for any threads, memory, split and interruption; labels, failed rows,
# masks, what is refused.
use strict;
use warnings;
use lib 'tests/lib';
use Npy;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $tool = "$bin/kmeans-cluster";
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
mkdir $_ for qw(a b l l1 l2 l3 k);

sub body { my $t = slurp(@_); return substr $t, 10 + unpack 'v', substr $t, 8, 2; }
# Multiples of 1/64 under 2: the same value as float16 and float32.
sub half {
    my ($n) = @_;
    return $n < 0 ? 0x8000 : 0 if $n == 0;
    my ($s, $e) = ($n < 0 ? 0x8000 : 0, 0);
    $n = abs($n) / 64;
    while ($n < 1) { $n *= 2; $e--; }
    return $s | ($e + 15) << 10 | ($n - 1) * 1024;
}
my ($said, $seed) = ('', 1);
sub run { my $rc = system("$tool @_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub draw { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return ($seed >> 12) % 129 - 64; }

my $dim = 12;
my @rows = map { [map { draw() } 1 .. $dim] } 1 .. 900;
$rows[7] = [(0) x $dim];
sub f4 { pack 'f<*', map { $_ / 64 } map { @$_ } @_ }
sub f2 { pack 'v*', map { half($_) } map { @$_ } @_ }
npy('a/all.npy', '<f4', "900, $dim", f4(@rows));
npy('b/0.npy', '<f2', "100, $dim", f2(@rows[0 .. 99]));
npy('b/1.npy', '<f4', "0, $dim", '');
npy('b/2.npy', '<f4', "650, $dim", f4(@rows[100 .. 749]));
npy('b/3.npy', '<f2', "150, $dim", f2(@rows[750 .. 899]));
my $b = 'b/0.npy b/1.npy b/2.npy b/3.npy';

is(run('-k 20 --iterations 7 --labels-dir l --ledger ledger.tsv -o c.npy a/all.npy'), 0, 'a run') or diag $said;
like($said, qr/training on 900 of 900 rows/, 'says how many rows it trains on');
like($said, qr/iteration 7: 899 rows, objective 0\.\d+, imbalance/, 'a line an iteration');
like($said, qr/899 rows labelled, 1 without label \(1 zero, 0 not finite\)/, 'counts labels');
like(slurp('ledger.tsv'), qr/^cluster\tall.npy\t900\t899\t1\tzero-row=1$/m, 'ledger line');
like(slurp('c.npy'), qr/'descr': '<f4'.*'shape': \(20, 12\)/, 'centroids are float32');
like(slurp('c.npy.json'), qr/"tool": "kmeans-cluster"/, 'with a sidecar');
my $labels = body('l/all.npy');
is(unpack('l<', substr $labels, 28, 4), -1, 'a failed row has no label');
for my $how ("-t 2 a/all.npy", "-t 3 $b", "--mem 45M $b") {
    is(run("-k 20 --iterations 7 -o c2.npy $how"), 0, "again with $how");
    is(slurp('c2.npy'), slurp('c.npy'), 'the same bytes');
}
is(run("-k 20 --iterations 7 --labels-dir l1 -q $b >piped.npy"), 0, 'to a pipe');
is(slurp('piped.npy'), slurp('c.npy'), 'the same bytes');
is(join('', map { body("l1/$_.npy") } 0 .. 3), $labels, 'labels do not depend on the split');
is(run("--assign c.npy --labels-dir l2 -t 2 $b"), 0, 'labels alone');
is(join('', map { body("l2/$_.npy") } 0 .. 3), $labels, 'are the same');
is(run("--assign c.npy --labels-dir l3 --top 3 a/all.npy"), 0, 'three labels a row');
my @three = unpack 'l<*', body('l3/all.npy');
is(join(' ', @three[map { 3 * $_ } 0 .. 899]), join(' ', unpack 'l<*', $labels), 'the first is the label');

# Labels against a plain loop.
my @c = unpack 'f<*', body('c.npy');
my $wrong = 0;
for my $i (0 .. 99) {
    next if $i == 7;
    my ($best, $most) = (-1, -9);
    for my $k (0 .. 19) {
        my $s = 0;
        $s += $rows[$i][$_] * $c[$k * $dim + $_] for 0 .. $dim - 1;
        ($best, $most) = ($k, $s) if $s > $most;
    }
    $wrong += $best != unpack 'l<', substr $labels, 4 * $i, 4;
}
is($wrong, 0, 'labels are the nearest centroids');

# Masks, samples, two levels, the other engine.
npy('k/all.npy', '|u1', '900,', "\1" x 300 . "\0" x 600);
npy('a/first.npy', '<f4', "300, $dim", f4(@rows[0 .. 299]));
is(run('-k 20 --keep-dir k -o c2.npy a/all.npy') | run('-k 20 -o c3.npy a/first.npy'), 0, 'with a mask');
is(slurp('c2.npy'), slurp('c3.npy'), 'is as with the kept rows alone');
npy('k/all.npy', '|u1', '899,', "\1" x 899);
is(run('-k 20 --keep-dir k -o c4.npy a/all.npy'), 1, 'a mask of another length');
like($said, qr{k/all.npy has 899 rows, a/all.npy has 900}, 'is refused') or diag $said;
is(run("-k 20 --max-points 500 -o c2.npy a/all.npy") | run("-k 20 --max-points 500 -t 2 -o c3.npy $b"), 0, 'a sample');
like($said, qr/training on 500 of 900 rows/, 'is said');
is(slurp('c2.npy'), slurp('c3.npy'), 'and is the same for any split');
is(run("-k 60 --levels 2 -o c2.npy a/all.npy") | run("-k 60 --levels 2 -t 3 --mem 50M -o c3.npy $b"), 0, 'two levels') or diag $said;
is(slurp('c2.npy'), slurp('c3.npy'), 'the same bytes');
npy('a/good.npy', '<f4', "600, $dim", f4(@rows[300 .. 899]));
my $faiss = run('-k 20 --engine faiss -o c4.npy a/good.npy');
SKIP: {
    if ($said =~ /built without FAISS/) {
        is($faiss, 2, 'the engine faiss is refused where it was not built in');
        skip 'built without FAISS', 1;
    }
    is($faiss, 0, 'FAISS') or diag $said;
    like($said, qr/iteration \d+: 600 rows, objective 0\.[1-9].*imbalance/, 'shows its iterations');
}

# Stopped and continued.
my @big = map { [map { draw() } 1 .. $dim] } 1 .. 6000;
npy('a/big.npy', '<f4', "6000, $dim", f4(@big));
for my $levels (1, 2) {
    my $what = "-k 500 --levels $levels --iterations 300 -o s$levels.npy a/big.npy";
    unlink 'said';
    my $pid = fork // die;
    if (!$pid) { open STDERR, '>', 'said'; exec split / /, "$tool --checkpoint ck$levels $what"; die; }
    for (1 .. 4000) { last if slurp('said') =~ /iteration 3:/; select undef, undef, undef, 0.002; }
    kill $levels == 1 ? 'TERM' : 'USR2', $pid;
    waitpid $pid, 0;
    my $died = $? & 127;
    is($died, $levels == 1 ? 15 : 12, "$levels levels: dies of the signal") or diag slurp('said');
    ok(-s "ck$levels", 'a checkpoint is there');
    spew("saved$levels", slurp("ck$levels"));
    is(run("-t 2 --checkpoint ck$levels $what"), 0, 'continued') or diag $said;
    like($said, qr/continuing from ck$levels/, 'and says so');
    my $bytes = slurp("s$levels.npy");
    is(run($what), 0, 'without a stop');
    ok($bytes eq slurp("s$levels.npy"), 'the same bytes');
}
rename 'saved1', 'ck1';
is(run('-k 400 --checkpoint ck1 -o s3.npy a/big.npy'), 0, 'a checkpoint of another run');
like($said, qr/other options.*; starting anew/, 'is not used');
spew('ck1', 'garbage');
is(run('-k 400 --checkpoint ck1 -o s3.npy a/big.npy'), 1, 'a damaged checkpoint is an error');

# Refused.
npy('a/wide.npy', '<f4', '2, 13', f4([(1) x 26]));
npy('a/nan.npy', '<f4', "2, $dim", pack 'f<*', ('nan') x $dim, (1) x $dim);
npy('a/int.npy', '<i4', "2, $dim", pack 'l<*', (1) x (2 * $dim));
spew('a/text.npy', 'no array');
for (['-k 5 -o x.npy a/all.npy a/wide.npy', 1, 'wide'], ['-k 5 -o x.npy a/int.npy', 1, 'int'],
    ['-k 5 -o x.npy a/text.npy', 1, 'text'], ['-k 901 -o x.npy a/all.npy', 1, 'need as many'],
    ['-k 900 -o x.npy a/all.npy', 1, 'there are 899'], ['-k 5 -o x.npy a/none.npy', 1, 'none.npy'],
    ['-o x.npy a/all.npy', 2, '-k'], ['-k 5 -o x.npy', 2, 'operand'], ['-k 0 -o x.npy a/all.npy', 2, '-k'],
    ['-k 5 --mem 1M -o x.npy a/all.npy', 1, 'at least \d+ MiB'], ['--assign c.npy a/all.npy', 2, 'labels-dir'],
    ['-k 3 --assign c.npy --labels-dir l a/all.npy', 2, 'assign'], ['-k 5 -o /dev/full a/all.npy', 1, '.'],
    ['--assign c.npy --labels-dir a a/all.npy', 1, 'is an input'], ['-k 5 --init c.npy -o x.npy a/all.npy', 1, '20 centroids'],
    ['--assign c.npy --labels-dir l a/wide.npy', 1, 'columns'], ['--assign a/nan.npy --labels-dir l a/all.npy', 1, 'not finite'],
    ['-k 5 -o x.npy a/all.npy a/all.npy', 1, 'two inputs'], ['-k 5 --device abacus -o x.npy a/all.npy', 2, 'abacus'],
    ['-k 5 --device cuda --engine faiss -o x.npy a/all.npy', 2, 'faiss'],
    -e '/dev/nvidiactl' ? () : ['-k 5 --device cuda:0 -o x.npy a/all.npy', 1, 'CUDA|no GPU']) {
    my ($args, $want, $why) = @$_;
    is(run($args), $want, "refused: $args");
    like($said, qr/^kmeans-cluster: .*$why/m, 'and says why');
    ok(!-e 'x.npy', 'leaves nothing') or unlink 'x.npy';
}
is(run('-k 1 -o c4.npy a/nan.npy'), 0, 'a row that is not finite is left out');
like($said, qr/1 rows left out/, 'and counted');
spew('b/0.npy.json', '{"tool": "x", "version": "1", "rows": 100, "model": "' . '0' x 32 . '"}');
spew('b/2.npy.json', '{"tool": "x", "version": "1", "rows": 650, "model": "' . '1' x 32 . '"}');
is(run("-k 5 -o x.npy $b"), 1, 'embeddings of two models are refused') or diag $said;
like($said, qr{b/0.npy.*b/2.npy|b/2.npy.*b/0.npy}, 'by name');
spew('b/2.npy.json', '{"tool": "x", "version": "1", "rows": 651}');
is(run("-k 5 -o x.npy $b"), 1, 'a sidecar with another number of rows is refused');
done_testing();
