#!/usr/bin/env perl
# sem-balance --hard: partners that are near in picture and text, worked out again here; one file a shard with its sidecar; the same
# bytes for any threads, memory, split and ranks; what is refused.
use strict;
use warnings;
use lib 'tests/lib';
use Mpi;
use Npy;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $source = abs_path('.');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
mkdir $_ for qw(text one one/text h other);
my $said;
sub run { my ($args) = @_; my $rc = system("$bin/sem-balance -q $args 2>said"); $said = slurp('said'); return $rc >> 8; }
sub body { my $t = slurp(@_); return substr $t, 10 + unpack 'v', substr $t, 8, 2; }
sub hard { my ($k, @names) = @_; my @all = map { unpack 'q<*', body("h/$_.npy") } @names; return [map { [splice @all, 0, $k] } 1 .. @all / $k]; }

my ($n, $dim, $k, $seed) = (240, 8, 4, 11);
sub draw { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return (($seed >> 12) % 2001 - 1000) / 1000; }
sub rounded { return [unpack 'f<*', pack 'f<*', @_]; }
my (@v, @t);
for my $i (0 .. $n - 1) {
    my $like = $i > 5 && draw() > -0.4 ? int((draw() + 1) / 2 * ($i - 1)) : -1;
    push @v, rounded(map { $like < 0 ? draw() : $v[$like][$_] + draw() / 4 } 0 .. $dim - 1);
    push @t, rounded(map { $like < 0 ? draw() : $t[$like][$_] + draw() / 4 } 0 .. $dim - 1);
}
$t[$_] = [(0) x $dim] for 7, 31;  # no caption
$v[12] = [(0) x $dim];            # no picture
$v[41] = $v[40];                  # the same picture with another caption: too near
my %out = map { $_ => 1 } 7, 31, 12;
sub f4 { return pack 'f<*', map { @$_ } @_; }
sub dot { my ($x, $y) = @_; my $s = 0; $s += $x->[$_] * $y->[$_] for 0 .. $dim - 1; return $s; }
sub cosine { my ($x, $y) = @_; return dot($x, $y) / sqrt(dot($x, $x) * dot($y, $y)); }
for (['a', 0, 89], ['b', 90, $n - 1]) {
    my ($name, $from, $to) = @$_;
    my $rows = $to - $from + 1;
    npy("$name.npy", '<f4', "$rows, $dim", f4(@v[$from .. $to]));
    npy("text/$name.npy", '<f4', "$rows, $dim", f4(@t[$from .. $to]));
}
npy('one/all.npy', '<f4', "$n, $dim", f4(@v));
npy('one/text/all.npy', '<f4', "$n, $dim", f4(@t));
my @centre = ([1, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0, 0, 0]);
npy('cells.npy', '<f4', "3, $dim", f4(@centre));
sub expect {
    my ($cell) = @_;
    my @want;
    for my $i (0 .. $n - 1) {
        my %h;
        for my $j (grep { !$out{$i} && $_ != $i && !$out{$_} && $cell->($_) == $cell->($i) } 0 .. $n - 1) {
            my ($x, $y) = (cosine($v[$i], $v[$j]), cosine($t[$i], $t[$j]));
            $h{$j} = $x * $y if $x < 0.98 && $y < 0.98 && $x * $y > 0;
        }
        my @best = sort { $h{$b} <=> $h{$a} || $a <=> $b } keys %h;
        push @want, [map { 0 + ($best[$_] // -1) } 0 .. $k - 1];
    }
    return \@want;
}
my $base = "--hard $k --hard-dir h -o r --text-dir";
is(run("$base text a.npy b.npy"), 0, 'all pairs') or diag $said;
my $want = expect(sub { return 0 });
is_deeply(hard($k, 'a', 'b'), $want, 'the partners of every row');
is_deeply($want->[$_], [(-1) x $k], "row $_ has none") for 7, 12;
ok(!(grep { $_ == 41 } @{ $want->[40] }), 'the same picture is no partner');
my $report = decode_json(slurp('r'));
is("$report->{hard} $report->{without_partner}", "$k " . grep({ !$out{$_} && $want->[$_][0] < 0 } 0 .. $n - 1), 'the report counts');
my $side = decode_json(slurp('h/b.npy.json'));
is("$side->{tool} $side->{rows} " . join(' ', map { $_->{name} } @{ $side->{inputs} }), 'sem-balance 150 b.npy', 'a sidecar');
my $bytes = slurp('h/a.npy') . slurp('h/b.npy');
is(run("-t 3 --mem 60M $base text a.npy b.npy"), 0, 'other threads and memory') or diag $said;
ok(slurp('h/a.npy') . slurp('h/b.npy') eq $bytes, 'the same bytes');
is(run("$base one/text one/all.npy"), 0, 'one file') or diag $said;
is_deeply(hard($k, 'all'), $want, 'the same partners');

my $nearest = sub { my ($i) = @_; return (sort { dot($v[$i], $centre[$b]) <=> dot($v[$i], $centre[$a]) || $a <=> $b } 0 .. 2)[0]; };
is(run("--cells cells.npy --probe 1 $base text a.npy b.npy"), 0, 'cells') or diag $said;
is_deeply(hard($k, 'a', 'b'), expect($nearest), 'partners are of the same cell');
$bytes = slurp('h/a.npy') . slurp('h/b.npy') . slurp('h/b.npy.json');
SKIP: {
    skip 'no mpirun or no mpicc', 3 if system('command -v mpirun >/dev/null && command -v mpicc >/dev/null');
    is(system("mpicc -std=c11 -O2 -fPIC -shared -I$source/lib -o comm-mpi.so $source/plugins/comm-mpi.c"), 0, 'the plug-in');
    my $rc = system("timeout 60 mpirun -q -n 3 $bin/sem-balance -q --comm ./comm-mpi.so --cells cells.npy --probe 1 $base text a.npy b.npy 2>said");
    is($rc, 0, 'on 3 ranks') or diag slurp('said');
    ok((slurp('h/a.npy') . slurp('h/b.npy') . slurp('h/b.npy.json')) =~ s/"--comm", "[^"]*", //r eq $bytes =~ s/"--comm", "[^"]*", //r, 'the same bytes');
}
for my $case (
    ['--hard 3 --text-dir text -o r', 2, qr/--hard, --hard-dir and --text-dir go together/],
    ['--hard 3 --hard-dir h -o r', 2, qr/go together/],
    ['--hard-dir h --text-dir text -o r', 2, qr/go together/],
    ['--hard 3 --hard-dir h --text-dir text --cells cells.npy --part 1/2 -o p', 2, qr/--hard goes with one run or with ranks, not with --part or --merge/],
    ['--hard 3 --hard-dir h --keep-dir h --text-dir text -o r', 1, qr/two outputs go to the folder h/],
    ['--hard 3 --hard-dir text --text-dir text -o r', 1, qr/text/],
    ['--hard 3 --hard-dir other --text-dir none -o r', 1, qr{none/a\.npy}],
) {
    my ($how, $status, $why) = @$case;
    is(run("$how a.npy b.npy"), $status, $how);
    like($said, $why, '... is refused') or diag $said;
}
done_testing();
