#!/usr/bin/env perl
# sem-balance: who survives where some rows may not (no caption), what is said when much goes, and what a long list costs.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
mkdir $_ for qw(text mask k);

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
sub npy {
    my ($file, $type, $shape, $data) = @_;
    my $head = "{'descr': '$type', 'fortran_order': False, 'shape': ($shape), }";
    $head .= ' ' x (117 - length $head) . "\n";
    spew($file, "\x93NUMPY\1\0" . pack('v', length $head) . $head . $data);
}
sub body { my $t = slurp(@_); return substr $t, 10 + unpack 'v', substr $t, 8, 2; }
my $said;
sub run { my ($args) = @_; my $rc = system("$bin/sem-balance $args 2>said"); $said = slurp('said'); return $rc >> 8; }
sub report { return decode_json(slurp('r')); }

# 60 groups in 64 dimensions: group g has g % 4 + 1 rows near the axis g; each row a little apart.
my (@rows, @group);
for my $g (0 .. 59) {
    for my $i (0 .. $g % 4) {
        push @rows, [map { $_ == $g ? 1 : $_ == 60 + $i ? 0.02 * ($i + 1) : 0 } 0 .. 63];
        push @group, $g;
    }
}
my $n = @rows;
npy('x.npy', '<f4', "$n, 64", pack 'f<*', map { @$_ } @rows);
# The first row of each group has no text, and nobody in groups 20 to 29.
my @may = map { my $i = $_; ($i && $group[$i - 1] == $group[$i] && ($group[$i] < 20 || $group[$i] > 29)) ? 1 : 0 } 0 .. $n - 1;
npy('mask/x.npy', '|u1', "$n,", pack 'C*', @may);
npy('text/x.npy', '<f2', "$n, 3", pack 'v*', map { $_ ? (0, 0x3c00, 0x8000) : (0, 0x8000, 0) } @may);

for my $survivor (qw(center hard easy first random semdedup)) {
    my $how = $survivor eq 'semdedup' ? '--rule semdedup' : "--survivor $survivor";
    is(run("-q --distance 0.05 $how --keep-dir k -o r x.npy"), 0, "$survivor: without");
    my $kept = report()->{kept};
    is($kept, 60, 'one of each group');
    for my $what (qw(mask text)) {
        is(run("--distance 0.05 $how --may-survive $what --keep-dir k -o r x.npy"), 0, "with a $what") or diag $said;
        my @keep = unpack 'C*', body('k/x.npy');
        my (%kept, %wrong);
        for my $i (grep { $keep[$_] } 0 .. $n - 1) {
            $kept{$group[$i]}++;
            $wrong{$group[$i]}++ if !$may[$i] && grep { $group[$_] == $group[$i] && $may[$_] } 0 .. $n - 1;
        }
        is(join(' ', grep { $kept{$_} != 1 } keys %kept), '', 'one of each group stays');
        is(scalar keys %kept, 60, 'of all groups');
        is(join(' ', %wrong), '', 'and it may, where anybody of the group may');
        my $barred = grep { $keep[$_] && !$may[$_] } 0 .. $n - 1;
        is(report()->{kept_that_may_not}, $barred, 'the others are counted');
        like($said, qr/rows may not survive; $barred of them stay/, 'and told');
    }
}
npy('mask/x.npy', '|u1', ($n - 1) . ',', "\1" x ($n - 1));
is(run('-q --may-survive mask -o r x.npy'), 1, 'a mask of another length');
like($said, qr{mask/x\.npy has \d+ rows, x\.npy has $n}, 'is refused') or diag $said;
is(run('-q --may-survive none -o r x.npy'), 1, 'one that is missing');
like($said, qr{none/x\.npy}, 'too');
spew('text/x.npy.json', qq({"tool": "x", "version": "1", "rows": $n, "of": "image"}));
is(run('-q --may-survive text -o r x.npy'), 1, 'image embeddings in the place of the text\'s');
like($said, qr{text/x\.npy is of image embeddings}, 'are refused') or diag $said;

# Much that goes is warned of, with what to look at.
is(run('--distance 0.05 -o r x.npy'), 0, 'more than a third goes');
like($said, qr/warning: distance 0\.05 removes 60 % of the rows, and the largest group has 4 .*--curve FILE.*--remove/, 'a warning') or diag $said;
is(run('--distance 0.00001 -o r x.npy'), 0, 'nothing goes');
unlike($said, qr/warning/, 'no warning');
is(run('--remove 0.5 -o r x.npy'), 0, 'a share that was asked for');
unlike($said, qr/warning/, 'is no surprise');
npy('big.npy', '<f4', '1000, 2', pack 'f<*', map { my $a = $_ < 120 ? $_ / 1e5 : 0.02 * $_; (cos $a, sin $a) } 0 .. 999);
is(run('--distance 0.000001 -o r big.npy'), 0, 'one big group');
like($said, qr/warning: .*largest group has \d\d\d/, 'is warned of') or diag $said;
is(run('--distance 0.05 --curve curve --curve-to 0.08 -o r x.npy'), 0, 'with a curve');
like($said, qr/kept at distances: [\d.]+ % at 0\.01, [\d.]+ % at 0\.02, [\d.]+ % at 0\.04, 40\.0 % at 0\.08/, 'a few points of it are told') or diag $said;

is(run('--distance 0.05 -o r x.npy'), 0, 'without one');
like($said, qr/kept at distances: [\d.]+ % at 0\.00625, [\d.]+ % at 0\.0125, [\d.]+ % at 0\.025, 40\.0 % at 0\.05\b/, 'the shares up to the distance are told') or diag $said;
like($said, qr/kept at distances.*usable rows kept/s, 'before what was decided');
is(run('--distance 0.05 --warn-above 70% -o r x.npy'), 0, '--warn-above a greater share');
unlike($said, qr/warning/, 'no warning');
is(run("--distance 0.05 --warn-above ${\int($n / 2)} -o r x.npy"), 0, '--warn-above as a number of rows');
like($said, qr/warning: distance 0\.05 removes 60 %/, 'a warning');

# Rows that are in an evaluation set: near its rows, whatever near duplicates there are among themselves.
sub rows_of { my ($file, @rows) = @_; my $body = body($file); my $width = length($body) / $n; return join '', map { substr $body, $_ * $width, $width } @rows }
my $dim = length(body('x.npy')) / 4 / $n;
mkdir for qw(against empty);
npy('against/a.npy', '<f4', "3, $dim", rows_of('x.npy', 5) . ("\0" x (4 * $dim)) . rows_of('x.npy', 17));
npy('against/b.npy', '<f4', "1, $dim", rows_of('x.npy', 40));
is(run('--distance 0.000001 --against against --keep-dir k --groups-dir k2 --ledger l -o r x.npy'), 0, '--against') or diag $said;
my @kept_rows = unpack 'C*', body('k/x.npy');
my @group_of = unpack 'q<*', body('k2/x.npy');
is(join(' ', grep { !$kept_rows[$_] } 0 .. $n - 1), '5 17 40', 'the rows that it has are left out');
is(join(' ', @group_of[5, 17, 40]), '-1 -1 -1', 'and in no group');
is(decode_json(slurp('r'))->{in_evaluation}, 3, 'counted');
like(slurp('l'), qr/in-evaluation=3/, 'in the ledger');
like($said, qr/3 rows are near duplicates of 'against' and are left out/, 'and told');
is(run('-q --distance 0.000001 --against against --against-distance 0.05 --keep-dir k --groups-dir k2 -o r x.npy'), 0, '--against-distance');
my @wide = grep { !(unpack 'C*', body('k/x.npy'))[$_] } 0 .. $n - 1;
cmp_ok(scalar @wide, '>', 3, 'a greater distance leaves out more');
my $same = slurp('k/x.npy');
is(run('-q -t 4 --distance 0.000001 --against against --against-distance 0.05 --keep-dir k --groups-dir k2 -o r x.npy'), 0, 'on four threads');
ok(slurp('k/x.npy') eq $same, 'the same bytes');
is(run('-q --against empty -o r x.npy'), 1, 'a folder without arrays');
like($said, qr/--against: 'empty' has no rows/, 'is refused') or diag $said;
npy('empty/w.npy', '<f4', '2, 3', pack 'f<*', 1 .. 6);
is(run('-q --against empty -o r x.npy'), 1, 'other columns');
like($said, qr/empty\/w\.npy/, 'are refused') or diag $said;
is(run('--against-distance 0.1 -o r x.npy'), 2, '--against-distance alone is wrong usage');

# The list: the right groups in the right order, and its memory is asked for before the work.
is(run('-q --distance 0.05 --list 20 -o r x.npy'), 0, 'a list');
my $r = report();
is(join(' ', map { $_->{rows} } @{$r->{biggest}}), join(' ', (4) x 15, (3) x 5), 'biggest first');
my @first = map { $_->{members}[0]{row} } @{$r->{biggest}}[0 .. 14];
is("@first", join(' ', sort { $a <=> $b } @first), 'of one size by row');
is(scalar @{$r->{biggest}[0]{members}}, 4, 'with their members');
is(run('-q --distance 0.05 --list 1000000 -o r2 x.npy'), 0, 'a list of all') or diag $said;
is(scalar @{decode_json(slurp('r2'))->{biggest}}, 45, 'all groups of two and more');
npy('many.npy', '<f4', '200000, 1', pack 'f<*', (1) x 200000);
is(run('--list 1000000 --mem 80M -o r3 many.npy'), 1, 'one that takes more memory than there is');
like($said, qr/--list 1000000 may need \d+ MiB: see --mem/, 'is refused') or diag $said;

# Which row was dropped for which.
is(run('-q --distance 0.05 --pairs pairs --groups-dir k -o r x.npy'), 0, 'pairs') or diag $said;
my @groups = unpack 'q<*', body('k/x.npy');
my @lines = split /\n/, slurp('pairs');
is(shift @lines, "file\trow\tkept_file\tkept_row\tcosine", 'a heading');
my @want = map { my ($x, $y) = @rows[$_, $groups[$_]];
    my ($xy, $xx, $yy) = (0, 0, 0);
    for my $d (0 .. 63) { my ($p, $q) = unpack 'f<2', pack 'f<2', $x->[$d], $y->[$d]; $xy += $p * $q; $xx += $p * $p; $yy += $q * $q; }
    sprintf "x.npy\t%d\tx.npy\t%d\t%.6f", $_, $groups[$_], $xy / sqrt($xx * $yy) } grep { $groups[$_] != $_ } 0 .. $n - 1;
is(scalar @lines, 90, 'a line for each row that goes');
is(join("\n", @lines), join("\n", @want), 'with the row that is kept for it, and their cosine');
# With keys, from an index whose lines have many lengths.
mkdir 'index';
spew('index/x.tsv', join '', map { my $i = $_; "$i\t" . 'k' x ($i % 7) . "$i\tok\t-\n" } 0 .. $n - 1);
is(run('-q --distance 0.05 --pairs keyed --index-dir index -o r x.npy'), 0, 'pairs with keys') or diag $said;
sub key { return 'k' x ($_[0] % 7) . $_[0] }
is(slurp('keyed'), join("\n", "file\trow\tkept_file\tkept_row\tcosine\tkey\tkept_key", map { my @c = split /\t/; join "\t", $_, key($c[1]), key($c[3]) } @want) . "\n", '... of both rows');
is(run('-q --distance 0.05 --index-dir index -o r x.npy'), 2, '--index-dir alone');
is(run('-q --distance 0.05 --pairs p --index-dir none -o r x.npy'), 1, 'an index that is not there');
like($said, qr{--index-dir: cannot open 'none/x\.tsv'}, '... is told before anything is compared') or diag $said;
spew('index/x.tsv', "0\tk\tok\t-\n");
is(run('-q --distance 0.05 --pairs p --index-dir index -o r x.npy'), 1, 'an index of other rows');
like($said, qr{'index/x\.tsv' has 1 lines, 'x\.npy' $n rows}, '... is refused') or diag $said;
is(run('-q --pairs none/pairs -o r none.npy'), 1, 'a table that cannot be written');
like($said, qr{'none/pairs'}, 'is refused first') or diag $said;
is(run('-q --pairs r -o r x.npy'), 1, 'in the place of the report');
like($said, qr/two outputs are named/, 'too');
done_testing();
