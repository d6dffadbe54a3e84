#!/usr/bin/env perl
# shard-read when things break: full disks, closed pipes, kills. An output is whole or not there.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use POSIX qw(mkfifo WNOHANG);
use Test::More;
$SIG{$_} = 'DEFAULT' for qw(HUP INT TERM); # ignored under nohup, which a test of signals cannot use
use Time::HiRes qw(sleep);
my $bin = abs_path($ENV{BIN} // 'bin');
my $tool = "$bin/shard-read";
my $data = abs_path('tests/data/shards');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }

for my $where ("-o /dev/full", "> /dev/full", "-o s --index /dev/full", "-o s --pixels /dev/full") {
    isnt(system("$tool -q $data/00002.tar $where 2>said"), 0, "full disk: $where");
    like(slurp('said'), qr/^shard-read: .*No space left on device$/, 'one line');
}
ok(!-e 's', 'a full disk for one output leaves none of the others');
is(system("$tool -q -o no/such/s $data/00002.tar 2>said") >> 8, 1, 'no such folder');

# A reader that goes away ends the run by SIGPIPE, silently.
my $rc = system('bash', '-c', "$tool -q --shuffle 2 $data/0000{0,1}.tar 2>said | head -c 100 > /dev/null; exit \${PIPESTATUS[0]}") >> 8;
is($rc, 128 + 13, 'SIGPIPE');
is(slurp('said'), '', 'without a word');

# Killed while it waits for the rest of a shard: nothing is left under a final name, and after
# SIGTERM nothing at all.
for my $sig ('KILL', 'TERM', 'INT', 'HUP') {
    my $sub = "$dir/$sig";
    mkdir $sub;
    mkfifo("$sub/in", 0600) or die;
    my $pid = fork // die;
    if (!$pid) {
        chdir $sub;
        $SIG{$sig} = 'DEFAULT' if $sig ne 'KILL'; # nohup and a shell's background jobs pass on an ignored one
        open STDERR, '>', "$dir/said.$sig";
        exec $tool, '-o', 's', '--index', 'i', '--pixels', 'p', 'in';
    }
    open my $w, '>:raw', "$sub/in" or die;
    print $w substr slurp("$data/00000.tar"), 0, 200000;
    $w->flush;
    sleep 0.5;
    kill $sig, $pid;
    waitpid $pid, 0;
    my $status = $? & 127;
    close $w;
    like(slurp("said.$sig"), qr/^shard-read: stopped after \d+ samples; no output was written/m, "SIG$sig: says how far it came") if $sig ne 'KILL';
    is($status, {KILL => 9, TERM => 15, INT => 2, HUP => 1}->{$sig}, "SIG$sig: died of it");
    opendir my $d, $sub or die;
    my @left = grep { !/^\.\.?$/ && $_ ne 'in' } readdir $d;
    is("@left", '', "SIG$sig: nothing left") if $sig ne 'KILL';
    ok(!-e "$sub/s" && !-e "$sub/i" && !-e "$sub/p", "SIG$sig: no output");
}

# Every cut of a shard gives samples and one error, or samples; never a crash.
my $whole = slurp("$data/00002.tar");
my %seen;
for (my $n = 0; $n < length $whole; $n += 1021) {
    open my $o, '>:raw', 'cut.tar' or die;
    print $o substr $whole, 0, $n;
    close $o;
    my $status = system("$tool -q --size 8 -o s --index i cut.tar 2>said");
    my $lines = () = slurp('i') =~ /\n/g;
    my $good = ($status == 0 && slurp('said') eq '') || ($status >> 8 == 1 && slurp('said') =~ /\Ashard-read: cut.tar: record $lines: \N+\n\z/);
    $seen{$good ? 'good' : "bad at $n: $status " . slurp('said')}++;
}
is(join(', ', sort keys %seen), 'good', 'cut anywhere');
done_testing();
