#!/usr/bin/env perl
# shard-read on the shards of tests/data/shards, whole and spoilt: statuses, messages, exit statuses,
# slices, and the examples of its man page.
use strict;
use warnings;
use Cwd qw(abs_path);
use Digest::MD5 qw(md5_hex);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
use lib abs_path('tests/lib');
use Store;
my $bin = abs_path($ENV{BIN} // 'bin');
my $tool = "$bin/shard-read";
my $data = abs_path('tests/data/shards');
my $page = abs_path('man/shard-read.1');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
# Runs the tool; the exit status, and what it said in $said.
my $said;
sub run { my $rc = system("$tool @_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub column { my ($n, $f) = @_; return join ' ', map { (split /\t/)[$n] } split /\n/, slurp($f); }
# Index lines, pixels of each row, joined over files.
sub rows {
    my ($size, @names) = @_;
    my @rows;
    for my $name (@names) {
        my @lines = split /\n/, slurp("$name.tsv");
        my $npy = slurp("$name.npy");
        my $at = 10 + unpack 'v', substr $npy, 8, 2;
        my $bytes = $size * $size * 3;
        is(length $npy, $at + $bytes * @lines, "$name: a row of pixels for each line") or return;
        push @rows, map { "$lines[$_] " . md5_hex(substr $npy, $at + $bytes * $_, $bytes) } 0 .. $#lines;
    }
    return join "\n", @rows;
}

# Every status.
is(run("--index i.tsv --pixels p.npy --size 32 -o s $data/0000{0,1}.tar"), 0, 'bad samples alone do not fail');
my @want = map { [split /\t/] } split /\n/, slurp("$data/expected.tsv");
my @got = map { [split /\t/] } split /\n/, slurp('i.tsv');
@want = grep { $_->[0] ne '00002.tar' } @want;
is(scalar @got, scalar @want, 'a line for each sample');
for my $i (0 .. $#want) {
    my ($shard, $key, $status, $bytes, $width, $height) = @{$want[$i]};
    my ($n, $k, $s, $reason, $w, $h, $b, $in) = @{$got[$i] // []};
    $status = 'ok|bad-image' if $status eq 'warn-or-bad';
    my $good = $k eq $key && $in eq $shard && $s =~ /^(?:$status)$/ && $b == $bytes
        && ($s eq 'ok') == ($reason eq '-') && (!$width || $w == $width && $h == $height);
    ok($good, "$shard $key: $status") or diag("@{$got[$i]}");
}
like($said, qr/^shard-read: warning: \S+00001.tar: record 6 \(000010006\): bad-image: JPEG: truncated$/m, 'described');
is(() = $said =~ /: record /g, 10, 'ten at most');
like($said, qr/64 samples, 13 bad, 5 bad-image, 1 no-image, 3 no-caption, 2 bad-utf8, 1 bad-json, 1 duplicate-key; 1 with a key of another shard/, 'counted');
rows(32, 'i') if rename 'p.npy', 'i.npy';

# --max-bad
is(run("--max-bad 13 -o s $data/0000{0,1}.tar"), 0, 'as many bad ones as allowed');
is(run("--max-bad 12 -o s $data/0000{0,1}.tar"), 1, 'one more');
like($said, qr/13 of 64 bad, more than --max-bad 12/, 'and says so');
is(run("--max-bad 21% -o s $data/0000{0,1}.tar"), 0, 'per cent');
is(run("--max-bad 20% -o s $data/0000{0,1}.tar"), 1, 'fewer per cent');

# Spoilt archives.
for (['truncated-member', 3, 'truncated'], ['truncated-header', 3, 'truncated'],
     ['bad-checksum', 3, 'damaged header'], ['garbage', 0, 'not a tar']) {
    my ($name, $n, $why) = @$_;
    is(run("--index i.tsv -o s $data/$name.tar"), 1, "$name: fails");
    my @lines = grep { /record/ } split /\n/, $said;
    is(scalar @lines, 1, "$name: one line");
    like($lines[0], qr{^shard-read: \S*$name.tar: record $n: $why}, "$name: file and record");
    is(() = slurp('i.tsv') =~ /\n/g, $n, "$name: $n samples");
    is(run("--max-bad 1 --index i.tsv -o s $data/$name.tar"), 0, "$name: let through");
    is(run("--max-bad 0 -q -o s $data/$name.tar"), 1, "$name: not let through");
    isnt($said, '', "$name: -q keeps errors");
}
for (['no-end-blocks', 4], ['pax-long-names', 4], ['gnu-long-names', 4], ['dirs-and-links', 4], ['zero-byte', 0]) {
    my ($name, $n) = @$_;
    is(run("--max-bad 0 --index i.tsv -o s $data/$name.tar"), 0, "$name: fine");
    is(() = slurp('i.tsv') =~ /\n/g, $n, "$name: $n samples");
}
is(run("--index i.tsv -o s $data/truncated-member.tar $data/00002.tar"), 1, 'the shard after a damaged one is read');
is(column(0, 'i.tsv'), '0 1 2 0 1 2 3', 'whole');
unlike($said, qr/duplicate-key/, 'keys of another shard are no fault');
like($said, qr/7 samples, 0 bad; 3 with a key of another shard/, 'but counted');

# Same bytes for any number of threads; slices.
my $all = "$data/0000{0,1,2}.tar";
my $opt = '-q --size 32 --crop random --scale 0.3,0.8 --ratio 0.5,2 --flip --jitter 0.4,0.4,0.2,0.1 --jitter-prob 0.8 --gray 0.2 --shuffle 20 --seed 7 --epoch 2';
run("$opt -o a -t 1 --index a.tsv --pixels a.npy $all");
run("$opt -o b -t 3 --index b.tsv --pixels b.npy $all");
ok(-s "a$_" && slurp("a$_") eq slurp("b$_"), "-t 1 and -t 3: same bytes$_") for '.tsv', '.npy';
ok(-s 'a' && slurp('a') eq slurp('b'), '-t 1 and -t 3: same stream');
like(slurp('a'), qr/"ratio":\[0\.5,2\],"jitter":\[0\.4,0\.4,0\.2,0\.1\],"jitter_prob":0\.8,"gray":0\.2/, 'the header says how they are changed');
run("-q --size 32 --crop random --pixels c.npy -o b $data/00000.tar");
run("-q --size 32 --crop random --jitter 0,0,0,0 --pixels d.npy -o b $data/00000.tar");
is(slurp('d.npy'), slurp('c.npy'), '--jitter 0,0,0,0: the same pixels');
run("-q --size 32 --crop random --gray 1 --pixels d.npy -o b $data/00000.tar");
my ($grey, $of) = (0, 0);
for (unpack '(a3)*', substr slurp('d.npy'), 128) { $of++; $grey++ if /^(.)\1\1$/s; }
ok($of > 1000 && $grey == $of, '--gray 1: all of them grey');
my $whole = rows(32, 'a');
run("$opt -o s --part $_/3 --index p$_.tsv --pixels p$_.npy $all") for 1 .. 3;
is(rows(32, 'p1', 'p2', 'p3'), $whole, 'the parts are the whole');
run("$opt -o s --limit 33 --index l.tsv --pixels l.npy $all");
run("$opt -o s --skip 33 --index k.tsv --pixels k.npy $all");
is(rows(32, 'l', 'k'), $whole, 'a run and its continuation are the whole');
run("-q --images raw -o s --index r.tsv $data/00000.tar");
is(() = slurp('r.tsv') =~ /\tok\t/g, 33, 'raw pictures');
run("-q --images no --captions no -o s --index r.tsv $data/0000{0,1}.tar");
is(() = slurp('r.tsv') =~ /\tok\t/g, 61, 'neither pictures nor captions: only json and keys count');
run("-q --fast --size 16 -o s --index r.tsv $data/00000.tar");
is(column(4, 'r.tsv') =~ s/ .*//r, 256, '--fast: the stored size all the same');

# Compressed, standard input, patterns.
run("-q --index i.tsv -o a $data/00002.tar");
for my $filter ('gzip', 'bzip2', 'xz', 'zstd') {
    SKIP: {
        skip "no $filter", 1 if system("$filter -c $data/00002.tar > z.tar 2>/dev/null");
        run('-q --index z.tsv -o s z.tar');
        is(slurp('z.tsv'), slurp('i.tsv'), $filter);
    }
}
run("-q --index z.tsv -o s - < $data/00002.tar");
is(slurp('z.tsv'), slurp('i.tsv'), 'standard input');
run("-q --index z.tsv -o s '$data/{00002..00002}.tar'");
is(slurp('z.tsv'), slurp('i.tsv'), 'a pattern');

# Keep masks.
sub mask { my ($f, @v) = @_; my $h = sprintf "{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }", scalar @v;
    open my $o, '>:raw', $f or die; print $o "\x93NUMPY\x01\0", pack('v', 118), $h, ' ' x (117 - length $h), "\n", pack 'C*', @v; close $o; }
mkdir 'keep';
mask('keep/00002.npy', 1, 0, 0, 1);
is(run("--keep keep --index i.tsv --pixels i.npy --size 8 -o s $data/00002.tar"), 0, 'keep masks');
is(column(2, 'i.tsv'), 'ok not-kept not-kept ok', 'the index has what was dropped');
like($said, qr/2 samples, 0 bad; 2 dropped by keep masks/, 'and the last line');
mask('keep/00002.npy', 1, 0, 0, 1, 1);
is(run("--keep keep -o s2 $data/00002.tar"), 1, 'a mask of another length');
like($said, qr{^shard-read: .*keep/00002.npy' has 5 rows, the shard has 4$}m, 'one line');
ok(!-e 's2', 'no output');

# Wrong usage.
for (['--part 0/2 x', 'part'], ['--part 3/2 x', 'part'], ['--part 1 x', 'part'], ['--scale 0.5 x', 'scale'],
     ['--scale 0.5,0.9 x', 'crop random'], ['--ratio 1,2 x', 'crop random'], ['--crop random --ratio 2,1 x', 'ratio'],
     ['--jitter 0.4,0.4,0.4 x', 'four numbers'], ['--jitter 0.4,0.4,0.4,0.6 x', 'hue'], ['--jitter-prob 0.5 x', 'needs --jitter'], ['--images raw --gray 0.5 x', 'images yes'], ['--crop random --resize pad x', 'resize'], ['--size 0 x', 'size'],
     ["--images no --pixels p x", 'pixels'], ["'{1..2' ", 'brace'], ['', 'SHARD'], ['--shuffle -1 x', 'shuffle'],
     ['pipe:ls', 'not run'], ['--max-bad x% y', 'max-bad']) {
    is(run("-o s3 $_->[0]"), 2, "wrong usage: $_->[0]");
    like($said, qr/\Q$_->[1]/, 'says what');
}
ok(!-e 's3', 'no output');
is(run("-o s3 $data/missing.tar"), 1, 'no such shard');
like($said, qr/^shard-read: cannot open '.*missing.tar': No such file/, 'says so');
is(run("-o s3 --part 1/2 - < $data/00002.tar"), 1, 'standard input has no parts');

# --counts: the same parts, without opening the shards before.
{
    mkdir $_ for qw(counts shards3 npy);
    my @three;
    for my $i (0 .. 2) {
        symlink "$data/0000$i.tar", "shards3/$i.tar";
        is(run("-q --images no --index counts/$i.tsv -o /dev/null shards3/$i.tar"), 0, "index $i");
        push @three, "shards3/$i.tar";
    }
    for my $order ('', '--shuffle 9 --seed 4', '--shuffle 1000') {
        for my $part (1 .. 5) {
            my $o = "-q --images no $order --part $part/5";
            is(run("$o -o plain.s --index plain.tsv @three"), 0, "$order part $part, by headers");
            is(run("$o --counts counts -o counted.s --index counted.tsv @three"), 0, "and by counts") or diag($said);
            # Keys of the shards before are not seen, so what only they have is not a duplicate.
            is(slurp('counted.tsv') =~ s{\tduplicate-key\tkey used before in another shard}{\tok\t-}gr,
                slurp('plain.tsv') =~ s{\tduplicate-key\tkey used before in another shard}{\tok\t-}gr, "the same samples");
        }
    }
    my $opened = `strace -f -e trace=openat $tool -q --images no --part 5/5 --counts counts -o /dev/null @three 2>&1`;
    SKIP: {
        skip 'no strace', 2 if $? || $opened !~ /openat/;
        unlike($opened, qr{shards3/0\.tar}, 'the first shard is not opened');
        like($opened, qr{shards3/2\.tar}, 'the last one is');
    }
    my @lines = split /^/m, slurp('counts/2.tsv');
    open my $f, '>', 'counts/2.tsv' or die;
    print $f @lines[1 .. $#lines];
    close $f;
    is(run("-q --images no --part 2/2 --counts counts -o short.s @three"), 1, 'a wrong count');
    like($said, qr{shards3/2\.tar: \d+ samples, and the counts say \d+}, 'is named');
    unlink 'counts/2.tsv';
    is(run("-q --images no --part 1/2 --counts counts -o short.s @three"), 1, 'no count');
    like($said, qr{counts/2\.tsv}, 'is named');
    is(run("-q --counts counts -o short.s @three"), 2, '--counts without --part');
}

# The examples of the man page.
my ($examples) = slurp($page) =~ /^\.Sh EXAMPLES\n(.*?)^\.Sh /ms;
my @commands = map { s/\\e/\\/gr } $examples =~ /^\$ (.*)$/mg;
ok(@commands >= 5, 'the man page has examples');
symlink "$data/0000$_.tar", "0000$_.tar" for 0, 1;
make_path('store/public/laion');
symlink "$data/00000.tar", 'store/public/laion/00000.tar';
my $store = Store->new_at('store');
$ENV{AWS_ENDPOINT_URL} = $store->url;
my $script = "set -e -o pipefail\nPATH=$bin:\$PATH\n" . join("\n", @commands) . "\n";
open my $s, '>', 'examples.sh' or die;
print $s $script;
close $s;
is(system('bash examples.sh >examples.out 2>&1'), 0, 'they work') or diag(slurp('examples.out'));
ok(-s $_, "made $_") for '00001.tsv', '00000.samples', '1.samples', '2.samples', 'rest.npy';
done_testing();
