#!/usr/bin/env perl
# What cannot be written is refused before anything is read. The moment is seen by an input that fails as well: the message
# must be the output's. A missing folder is created where its parent is there, and goes again where the run fails.
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
    my ($file, $type, $shape, $data) = @_;
    my $head = "{'descr': '$type', 'fortran_order': False, 'shape': ($shape), }";
    $head .= ' ' x (117 - length $head) . "\n";
    spew($file, "\x93NUMPY\1\0" . pack('v', length $head) . $head . $data);
}
my $said;
sub run { my ($args) = @_; my $rc = system('bash', '-c', "2>said $bin/$args"); $said = slurp('said'); return $rc >> 8; }

npy('x.npy', '<f4', '4, 2', pack 'f<*', 1, 0, 0, 1, 1, 1, -1, 0);
mkdir 'folder';
spew('file', 'x');
my %with = (
    'kmeans-cluster' => ['-k 2 -o c.npy', '-o', '--labels-dir', '--checkpoint', '--ledger'],
    'sem-balance' => ['-o report', '-o', '--keep-dir', '--groups-dir', '--curve', '--ledger'],
);
for my $tool (sort keys %with) {
    my ($base, @outputs) = @{$with{$tool}};
    for my $o (@outputs) {
        my $is_folder = $o =~ /-dir$/;
        my @bad = $is_folder ? ('missing/folder', 'file', 'file/x') : ('missing/out', 'folder', 'file/x');
        push @bad, 'folder/' unless $is_folder;
        for my $bad (@bad) {
            my $options = $o eq '-o' ? $base =~ s/-o \S+/-o $bad/r : "$base $o $bad";
            is(run("$tool $options none.npy"), 1, "$tool $o $bad fails");
            like($said, qr/^\Q$tool\E: [^\n]*'\Q$bad\E'[^\n]*\n\z/, 'with the message of the output') or diag $said;
        }
        next unless $is_folder;
        is(run("$tool $base $o new none.npy"), 1, "$tool $o, and an input that is missing");
        like($said, qr/none\.npy/, 'says the input');
        ok(!-e 'new', 'and leaves no folder');
        is(run("$tool -q $base $o new x.npy"), 0, "$tool $o, and an input") or diag $said;
        ok(-s 'new/x.npy', 'the folder is made');
        unlink glob 'new/*';
        rmdir 'new';
    }
}

# The other tools: an output of each kind, and an input or a model that is missing.
for my $what ('shard-read -o %s none.tar', 'shard-read -o s --index %s none.tar', 'shard-read -o s --pixels %s none.tar',
    'teacher-embed -m none -o %s s.samples', 'teacher-embed -m none --text-out %s s.samples',
    'teacher-embed -m none --tokens-out %s s.samples', 'zs-eval -m none -o %s set', 'zs-eval -m none --predictions %s set',
    'cid-report -o %s none') {
    for my $bad ('missing/out', 'folder', 'file/x') {
        is(run(sprintf $what, $bad), 1, sprintf $what, $bad);
        like($said, qr/^\S+: [^\n]*'\Q$bad\E'[^\n]*\n\z/, 'fails with the message of the output') or diag $said;
    }
}

# What stands in the folder already, and sidecars.
mkdir 'l';
mkdir 'l/x.npy';
is(run('kmeans-cluster -k 2 -o c.npy --labels-dir l x.npy'), 1, 'a folder where a label file goes');
like($said, qr{\A[^\n]*'l/x.npy': Is a directory\n\z}, 'is refused before the training') or diag $said;
rmdir 'l/x.npy';
mkdir 'l/x.npy.json';
is(run('sem-balance -o r --keep-dir l x.npy'), 1, 'a folder where a sidecar goes');
like($said, qr{\A[^\n]*'l/x.npy.json': Is a directory\n\z}, 'too') or diag $said;
mkdir 'd.npy.json';
is(run('kmeans-cluster -k 2 -o d.npy none.npy'), 1, 'that of the centroids');
like($said, qr{'d.npy.json': Is a directory}, 'as well') or diag $said;

is(run('kmeans-cluster -k 2 -o c.npy --checkpoint c.npy x.npy'), 1, 'centroids and checkpoint in one file');
like($said, qr/two outputs are named/, 'are refused: the checkpoint goes at the end') or diag $said;

# The memory of the labels is asked for before the training.
npy('wide.npy', '<f4', '40, 2', pack 'f<*', map { $_ / 7 } 1 .. 80);
is(run('kmeans-cluster -k 2 --iterations 3 --top 60000 --mem 300M -o c2.npy --labels-dir l2 wide.npy'), 1, 'labels that need more memory');
like($said, qr/\Akmeans-cluster: 1 of 1 inputs have no sidecar[^\n]*\nkmeans-cluster: labels against 2 centroids need at least \d+ MiB: see --mem\n\z/, 'no iteration is made') or diag $said;
ok(!-e 'c2.npy' && !-e 'l2', 'and nothing is left');
done_testing();
