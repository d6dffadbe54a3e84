#!/usr/bin/env perl
# sem-balance: the golden masks and groups, by cells, rules, shares; the same bytes for any threads,
# memory and split; what is refused.
use strict;
use warnings;
use lib 'tests/lib';
use Npy;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $tool = "$bin/sem-balance";
my $shared = abs_path($ENV{CLIP_CID_SHARED} // '../shared') // '';
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
mkdir $_ for qw(a b k g k1 g1);

sub body { my $t = slurp(@_); return substr $t, 10 + unpack 'v', substr $t, 8, 2; }
my ($said, $seed) = ('', 7);
sub run { my $rc = system("$tool @_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub draw { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return (($seed >> 12) % 2001 - 1000) / 1000; }
sub report { return decode_json(slurp(@_)); }

# Rows, half of which are near an earlier one.
my $dim = 10;
my @rows;
for my $i (0 .. 799) {
    my $near = $i > 3 && draw() > 0 ? $rows[int((draw() + 1) / 2 * ($i - 1))] : undef;
    push @rows, [map { $near ? $near->[$_] + draw() / 8 : draw() } 0 .. $dim - 1];
}
$rows[5] = [(0) x $dim];
$rows[6] = [('nan') x $dim];
$rows[9] = [map { 30 * $_ } @{$rows[10]}];
sub f4 { pack 'f<*', map { @$_ } @_ }
npy('a/all.npy', '<f4', "800, $dim", f4(@rows));
npy('b/0.npy', '<f4', "300, $dim", f4(@rows[0 .. 299]));
npy('b/1.npy', '<f4', "0, $dim", '');
npy('b/2.npy', '<f4', "500, $dim", f4(@rows[300 .. 799]));
my $b = 'b/0.npy b/1.npy b/2.npy';

is(run('--distance 0.05 --keep-dir k --groups-dir g --ledger ledger.tsv --curve curve.tsv -o r.json a/all.npy'), 0, 'a run') or diag $said;
my $r = report('r.json');
my ($keep, $group) = (body('k/all.npy'), body('g/all.npy'));
my @keep = unpack 'C*', $keep;
my @group = unpack 'q<*', $group;
is($r->{rows} . ' ' . $r->{usable} . " $r->{zero} $r->{not_finite}", '800 798 1 1', 'rows are counted');
ok($r->{not_unit} > 700, 'so are those that are not unit rows');
is("$keep[5] $group[5] $keep[6] $group[6]", '0 -1 0 -1', 'failed rows are not kept');
is($group[9], $group[10], 'the norm does not matter');
is(scalar(grep { $_ } @keep), $r->{kept}, 'kept rows');
is(scalar(grep { $group[$_] == $_ } 0 .. 799), $r->{kept}, 'each group keeps one');
my $sum = 0;
$sum += $_->{rows} for @{$r->{histogram}};
is($sum, 798, 'the histogram has every usable row');
is($r->{biggest}[0]{rows}, $r->{largest}, 'the biggest group is listed');
is(scalar @{$r->{biggest}[0]{members}}, $r->{largest} < 50 ? $r->{largest} : 50, 'with its members');
like(slurp('ledger.tsv'), qr/^balance\tall.npy\t800\t$r->{kept}\t\d+\tfailed-row=2,same-meaning=\d+$/m, 'ledger line');
my ($at) = slurp('curve.tsv') =~ /^0\.05\t(\d+)\t/m;
is($at, $r->{kept}, 'the curve has the same figure');
for my $how ("-t 2 $b", "-t 3 --mem 50M $b") {
    is(run("--distance 0.05 --keep-dir k1 --groups-dir g1 -o r1.json $how"), 0, "again with $how") or diag $said;
    is(join('', map { body("k1/$_.npy") } 0 .. 2), $keep, 'the same masks');
    is(join('', map { body("g1/$_.npy") } 0 .. 2), $group, 'the same groups');
}
is(run("--euclidean 0.31622776601683794 -o r1.json $b"), 0, 'the same distance as Euclid\'s');
is(report('r1.json')->{kept}, $r->{kept}, 'the same number kept');
is(run("--remove 0.3 -o r1.json $b"), 0, 'a share is searched') or diag $said;
my $s = report('r1.json');
is($s->{removed}, 239, 'and met: 0.3 of 798');
is(run("--distance $s->{distance} -o r2.json a/all.npy"), 0, 'its distance');
is(report('r2.json')->{removed}, 239, 'gives the same');
for my $who (qw(hard easy first random)) {
    is(run("--distance 0.05 --survivor $who --keep-dir k1 -o r1.json a/all.npy"), 0, "survivor $who");
    is(report('r1.json')->{kept}, $r->{kept}, 'as many');
    is(run("--rule semdedup --distance 0.05 --survivor $who --groups-dir g1 -t 2 -o r1.json a/all.npy"), 0, "semdedup, $who");
    is(report('r1.json')->{kept}, scalar(grep { (unpack 'q<*', body('g1/all.npy'))[$_] == $_ } 0 .. 799), 'groups of its own');
}

# Cells searched, and cells known.
npy('a/cells.npy', '<f4', "9, $dim", f4(@rows[11 .. 19]));
mkdir $_ for qw(l k2);
is(system("$bin/kmeans-cluster -q --assign a/cells.npy --top 3 --labels-dir l a/all.npy"), 0, 'labels');
is(run('--cells a/cells.npy --probe 2 --keep-dir k1 -o r1.json a/all.npy'), 0, 'in cells');
is(run('--cells a/cells.npy --probe 2 --labels-dir l --keep-dir k2 -t 2 -o r2.json a/all.npy'), 0, 'in known cells') or diag $said;
is(body('k2/all.npy'), body('k1/all.npy'), 'the same masks');
is(slurp('r2.json'), slurp('r1.json'), 'the same report');
is(run('--cells a/cells.npy --probe 3 --labels-dir l -o r2.json a/all.npy'), 1, 'too few labels a row');
like($said, qr/has 3 labels a row, 4 are needed/, 'and says so');

# Refused.
npy('a/wide.npy', '<f4', '1, 11', f4([(1) x 11]));
npy('a/cells.npy', '<f4', "2, $dim", f4(@rows[0, 1]));
for (['--labels-dir l a/all.npy', 2, '--cells'], ['--cells a/cells.npy --labels-dir l a/all.npy', 1, 'other centroids'],
    ['--distance 0.1 --remove 0.2 a/all.npy', 2, 'only one'], ['--distance 3 a/all.npy', 2, 'distance'],
    ['--distance x a/all.npy', 2, 'distance'], ['', 2, 'operand'], ['--probe 3 a/all.npy', 2, '--cells'],
    ['--rule semdedup --survivor center a/all.npy', 2, 'semdedup'], ['a/all.npy a/wide.npy', 1, 'wide'],
    ['--mem 1M a/all.npy', 1, 'at least \d+ MiB'], ['--cells a/wide.npy a/all.npy', 1, 'columns'],
    ['--keep-dir a a/all.npy', 1, 'is an input'], ['--keep-dir none/none a/all.npy', 1, 'none'],
    ['--device abacus a/all.npy', 2, 'abacus'], -e '/dev/nvidiactl' ? () : ['--device cuda a/all.npy', 1, 'CUDA|no GPU'],
    ['--remove 0.9999 --cells a/cells.npy --rule semdedup a/all.npy', 1, 'no distance'], ['-o /dev/full a/all.npy', 1, '.']) {
    my ($args, $want, $why) = @$_;
    is(run("$args >out"), $want, "refused: $args");
    like($said, qr/^sem-balance: .*$why/m, 'and says why');
}
is(slurp('a/all.npy') ne '', 1, 'the input is untouched');

SKIP: {
    my $golden = "$shared/golden/balance";
    skip 'no goldens here', 1 unless -e "$golden/embeddings.npy";
    is(run("-t 2 --keep-dir k --groups-dir g -o r.json $golden/embeddings.npy"), 0, 'golden');
    ok(slurp('k/embeddings.npy') eq slurp("$golden/keep.npy"), 'golden masks, byte for byte');
    ok(slurp('g/embeddings.npy') eq slurp("$golden/group.npy"), 'golden groups, byte for byte');
    my ($want, $got) = (decode_json(slurp("$golden/expected.json")), report('r.json'));
    is($got->{$_}, $want->{$_}, "golden $_") for qw(rows kept groups largest pairs);
    is($got->{usable}, $want->{valid}, 'golden valid');
    is(system("$bin/kmeans-cluster -q -k 20 -o cells.npy $golden/embeddings.npy"), 0, 'cells');
    is(run("-t 2 --cells cells.npy --probe 4 -o r.json $golden/embeddings.npy"), 0, 'golden, in cells');
    $got = report('r.json');
    my $all = $want->{valid} - $want->{kept};
    cmp_ok($got->{removed} / $all, '>=', 0.99, "of $all removable rows $got->{removed} are found");
    cmp_ok($got->{compared}, '<', 0.6 * $want->{valid}**2 / 2, 'with fewer pairs');
}
done_testing();
