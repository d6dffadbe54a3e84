#!/usr/bin/env perl
# Where outputs go: through symbolic links, to descriptors by name, with what stands there kept as it was.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
sub npy {
    my ($file, $shape, @v) = @_;
    my $head = "{'descr': '<f4', 'fortran_order': False, 'shape': ($shape), }";
    $head .= ' ' x (117 - length $head) . "\n";
    spew($file, "\x93NUMPY\1\0" . pack('v', length $head) . $head . pack 'f<*', @v);
}
my $said;
sub run { my ($args) = @_; my $rc = system('bash', '-c', "2>said $bin/$args"); $said = slurp('said'); return $rc >> 8; }

npy('x.npy', '4, 2', 1, 0, 0, 1, 1, 1, -1, 0);
my $kmeans = 'kmeans-cluster -q -k 2 x.npy -o';
is(run("$kmeans c.npy"), 0, 'an output') or diag $said;
my $want = slurp('c.npy');

# Links.
mkdir 'real';
spew('real/old', 'old');
chmod 0604, 'real/old';
symlink 'real/old', 'link';
symlink '../new', 'real/dangling';
is(run("$kmeans link"), 0, 'through a link') or diag $said;
ok(-l 'link', 'which stays one');
is(slurp('real/old'), $want, 'the file has the bytes');
is((stat 'real/old')[2] & 07777, 0604, 'and its old mode');
is(run("$kmeans real/dangling"), 0, 'through one that leads nowhere yet');
is(slurp('new'), $want, 'the file is made');

# Descriptors, by a link of our own: a link in /dev is not put at risk by a test.
symlink '/proc/self/fd/1', 'out';
is(run("$kmeans out >file"), 0, 'to standard output by name') or diag $said;
ok(-l 'out' && slurp('file') eq $want, 'the link stays, the redirected file has the bytes');
is(run("$kmeans out | cat >file"), 0, 'to a pipe by name');
is(slurp('file'), $want, 'the same bytes');
is(run("$kmeans /proc/self/fd/7 7>file"), 0, 'to another descriptor') or diag $said;
is(slurp('file'), $want, 'the same bytes');
is(run("$kmeans /proc/self/fd/7 7<real/old"), 1, 'one that is open for reading is refused');
like($said, qr{'/proc/self/fd/7': Bad file descriptor}, 'by name') or diag $said;
is(join(' ', grep { !/^(c|new|link|real)/ } glob '*.json'), '', 'no sidecar beside a descriptor');
is(run("sem-balance -q --distance 0.1 -o out --curve curve x.npy | grep -c usable"), 0, 'a report to a pipe by name');

# Two names of one file.
is(run("sem-balance -q -o link --curve real/old x.npy"), 1, 'two outputs that lead to one file');
like($said, qr/two outputs are named/, 'are refused') or diag $said;
is(join(' ', glob '.*.tmp real/.*.tmp'), '', 'nothing half written');
done_testing();
