#!/usr/bin/env perl
# sem-balance: which rows take part by the cosine of picture and caption or by targets, the survivor with the best caption, a cap
# for each cell. Every mask is compared with one worked out here.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
use lib 'tests/lib';
use Mpi;
use Npy;
my $bin = abs_path($ENV{BIN} // 'bin');
my $source = abs_path('.');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
mkdir $_ for qw(text k g other);

my $said;
sub run { my ($args) = @_; my $rc = system("$bin/sem-balance $args 2>said"); $said = slurp('said'); return $rc >> 8; }
sub report { return decode_json(slurp('r')); }
sub body { my $t = slurp(@_); return substr $t, 10 + unpack 'v', substr $t, 8, 2; }
sub mask { return join '', map { unpack 'C*', body("k/$_.npy") } qw(a b); }

# 60 groups in 64 dimensions: group g has g % 4 + 1 rows near the axis g, each a little apart; captions at a known angle.
my (@rows, @group, @texts, @score);
for my $g (0 .. 59) {
    for my $i (0 .. $g % 4) {
        my @x = map { $_ == $g ? 1 : $_ == 60 + $i ? 0.02 * ($i + 1) : 0 } 0 .. 63;
        my $s = ((37 * @rows) % 101) / 101 - 0.2;
        my $norm = sqrt(1 + (0.02 * ($i + 1)) ** 2);
        # a unit row at the cosine s: s x + sqrt(1 - s^2) along an axis that x has nothing of
        my @t = map { $s * $x[$_] / $norm + ($_ == ($g + 1) % 60 ? sqrt(1 - $s * $s) : 0) } 0 .. 63;
        push @rows, \@x; push @group, $g; push @texts, \@t; push @score, $s;
    }
}
my $n = @rows;
my %none = map { $_ => 1 } grep { $_ % 7 == 0 } 0 .. $n - 1; # no caption: rows of zeros
$none{$_} = 1 for grep { $group[$_] == 22 } 0 .. $n - 1;       # a whole group without
my %failed = (5 => 1);
@{ $rows[5] } = (0) x 64;
my $half = 70;
for (['a', 0, $half - 1], ['b', $half, $n - 1]) {
    my ($name, $from, $to) = @$_;
    my $count = $to - $from + 1;
    npy("$name.npy", '<f4', "$count, 64", pack 'f<*', map { @{ $rows[$_] } } $from .. $to);
    npy("text/$name.npy", '<f4', "$count, 64", pack 'f<*', map { $none{$_} ? (0) x 64 : @{ $texts[$_] } } $from .. $to);
}
my @in = grep { !$none{$_} && !$failed{$_} } 0 .. $n - 1;
# Of each group of the rows that take part the one that comes first by $cost.
sub expect {
    my ($rows, $cost) = @_;
    my %best;
    for my $i (@$rows) { my $b = $best{ $group[$i] }; $best{ $group[$i] } = $i if !defined $b || $cost->($i) < $cost->($b); }
    my %keep = map { $_ => 1 } values %best;
    return join '', map { $keep{$_} ? 1 : 0 } 0 .. $n - 1;
}
my $first = sub { $_[0] };
my $best = sub { -$score[$_[0]] };
my $base = '--distance 0.05 --keep-dir k --groups-dir g -o r a.npy b.npy';

is(run("$base --survivor first --text-dir text"), 0, 'captions alone') or diag $said;
is(mask(), expect(\@in, $first), 'a survivor always has a caption, and a group without one none');
is(report()->{no_caption}, scalar(grep { !$failed{$_} } keys %none), 'those without are counted');
like($said, qr/\d+ rows have no usable caption, 0 are left out by their score/, 'and told');
is(run("$base --survivor score --text-dir text --ledger ledger.tsv"), 0, 'the best caption stays') or diag $said;
is(mask(), expect(\@in, $best), '... of each group');
my $ledger = slurp('ledger.tsv');
like($ledger, qr/no-caption=\d+/, 'the ledger has the reason');
my ($rows_in, $sum) = (0, 0);
for (split /\n/, $ledger) {
    my @f = split /\t/;
    next if $f[0] ne 'balance';
    $rows_in += $f[2];
    $sum += $f[3];
    $sum += $_ for $f[5] =~ /=(\d+)/g;
}
is($sum, $rows_in, 'and accounts for every row');
my $one = mask();
is(run("$base --survivor score --text-dir text -t 3 --mem 100M"), 0, 'other threads and memory');
is(mask(), $one, '... the same bytes');
for my $case (['--min-score 0.1', sub { $_[0] >= 0.1 }], ['--max-score 0.4', sub { $_[0] <= 0.4 }], ['--min-score 0 --max-score 0.3', sub { $_[0] >= 0 && $_[0] <= 0.3 }]) {
    my ($how, $takes) = @$case;
    is(run("$base --survivor first --text-dir text $how"), 0, $how) or diag $said;
    my @some = grep { $takes->($score[$_]) } @in;
    is(mask(), expect(\@some, $first), '... these take part, and no others');
    is(report()->{out_by_score}, @in - @some, '... counted');
}
my @sorted = sort { $score[$b] <=> $score[$a] || $a <=> $b } @in;
my $keep = int(0.3 * @in + 0.5);
is(run("$base --survivor first --text-dir text --keep-score 0.3"), 0, 'a share by score') or diag $said;
is(mask(), expect([sort { $a <=> $b } @sorted[0 .. $keep - 1]], $first), '... the greatest');
cmp_ok(abs(report()->{least_score} - $score[$sorted[$keep - 1]]), '<', 1e-6, '... and the least of them is told');
is(run('--distance 0.05 --rule semdedup --survivor score --keep-dir k -o r --text-dir text a.npy b.npy'), 0, 'as the order of semdedup') or diag $said;
is(mask(), $one, '... the best of each clique');

# Targets: three axes.
npy('targets.npy', '<f4', '3, 64', pack 'f<*', map { my $t = $_; map { $_ == $t ? 2 : 0 } 0 .. 63 } 10, 11, 30);
is(run("$base --survivor first --targets targets.npy --min-similarity 0.9"), 0, 'near a target') or diag $said;
is(mask(), expect([grep { $group[$_] =~ /^(10|11|30)$/ } 0 .. $n - 1], $first), '... those groups alone');
is(report()->{far_from_targets}, scalar(grep { $group[$_] !~ /^(10|11|30)$/ && !$failed{$_} } 0 .. $n - 1), '... the others are counted');

# A cap: three cells, of the groups 0 .. 19, 20 .. 39 and 40 .. 59.
npy('cells.npy', '<f4', '3, 64', pack 'f<*', map { my $c = $_; map { $_ < 60 && int($_ / 20) == $c ? 1 : 0 } 0 .. 63 } 0 .. 2);
sub per_cell { my @n = (0) x 3; my @k = split //, mask(); $k[$_] and $n[int($group[$_] / 20)]++ for 0 .. $n - 1; return "@n"; }
is(run("$base --cells cells.npy"), 0, 'cells') or diag $said;
my $all = per_cell();
my @was = split //, mask();
is(run("$base --cells cells.npy --cap 7"), 0, 'a cap') or diag $said;
is(per_cell(), '7 7 7', "of $all");
my @now = split //, mask();
is(scalar(grep { $now[$_] && !$was[$_] } 0 .. $n - 1), 0, 'they are some of those that stayed');
is(report()->{groups}, 60, 'the groups are as many');
is(report()->{capped}, 60 - 21, 'what went is counted');
my $capped = mask();
is(run("$base --cells cells.npy --cap 7 -t 2 --seed 1"), 0, 'again');
is(mask(), $capped, '... the same');
is(run("$base --cells cells.npy --cap 7 --seed 2"), 0, 'by another seed');
isnt(mask(), $capped, '... others');
is(run("$base --cells cells.npy --cap-share 0.5"), 0, 'a share') or diag $said;
is(per_cell(), '10 10 10', '... by the cap that leaves it');
is(report()->{cap}, 10, '... which is told');

# Parts by files give the same, and parts of other choices are refused.
my $choice = '--distance 0.05 --cells cells.npy --text-dir text --survivor score --min-score 0 --cap 5';
is(run("$choice --keep-dir k -o r a.npy b.npy"), 0, 'all of it') or diag $said;
my $whole = mask();
is(run("$choice --part $_/2 -o part$_ a.npy b.npy"), 0, "part $_") or diag $said for 1, 2;
is(run("$choice --merge part1 --merge part2 --keep-dir k -o r a.npy b.npy"), 0, 'merged') or diag $said;
is(mask(), $whole, '... the same mask');
is(run("$choice --max-score 0.5 --merge part1 --merge part2 -o r a.npy b.npy"), 1, 'another choice');
like($said, qr/made with other options/, '... is refused');
SKIP: {
    skip 'no mpirun or no mpicc', 5 if system('command -v mpirun >/dev/null && command -v mpicc >/dev/null');
    is(system("mpicc -std=c11 -O2 -fPIC -shared -I$source/lib -o comm-mpi.so $source/plugins/comm-mpi.c"), 0, 'the plug-in');
    for my $ranks (2, 3) {
        my $rc = system("timeout 60 mpirun -q -n $ranks $bin/sem-balance --comm ./comm-mpi.so $choice --targets targets.npy --min-similarity -1 --keep-dir k -o r a.npy b.npy 2>said");
        is($rc, 0, "on $ranks ranks") or diag slurp('said');
        is(mask(), $whole, '... the same mask');
    }
}

for my $case (
    ['--min-score 0', 2, qr/--min-score goes with --text-dir/],
    ['--survivor score', 2, qr/--survivor score goes with --text-dir/],
    ['--text-dir text --keep-score 0.5 --min-score 0', 2, qr/--keep-score finds the least score/],
    ['--targets targets.npy', 2, qr/go together/],
    ['--cap 3', 2, qr/--cap goes with --cells/],
    ['--cells cells.npy --cap 3 --cap-share 0.5', 2, qr/only one of --cap and --cap-share/],
    ['--text-dir other', 1, qr{other/a\.npy}],
    ['--targets none.npy --min-similarity 0', 1, qr/none\.npy/],
) {
    my ($how, $status, $why) = @$case;
    is(run("$how -o r a.npy b.npy"), $status, $how);
    like($said, $why, '... is refused') or diag $said;
}
npy('other/a.npy', '<f4', "$half, 32", "\0" x ($half * 32 * 4));
is(run('--text-dir other -o r a.npy b.npy'), 1, 'texts of another width');
like($said, qr/has 32 columns, the pictures have 64/, '... are refused');
spew('text/a.npy.json', qq({"tool": "x", "version": "1", "rows": $half, "of": "image"}));
is(run('--text-dir text -o r a.npy b.npy'), 1, 'pictures in the place of texts');
like($said, qr/is of image embeddings/, '... are refused');
done_testing();
