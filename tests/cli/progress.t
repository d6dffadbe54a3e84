#!/usr/bin/env perl
# The bar: drawn on a terminal and erased before anything else is said, not in a file; --progress overrules both.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
plan skip_all => 'script(1) is not here' if system('script -qec true /dev/null >/dev/null 2>&1');
chdir tempdir(CLEANUP => 1) or die;
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
# Standard error of the command on a terminal of its own, its exit status.
sub terminal { my ($command) = @_; my $rc = system("script -qec '$command' typescript </dev/null >shown 2>&1"); return (slurp('shown'), $rc >> 8) }
# The second half comes late, so that a bar is due whatever the speed of the machine.
spew('read.sh', "{ head -c 200000 $data/shards/00000.tar; sleep 1; tail -c +200001 $data/shards/00000.tar; } | $bin/shard-read --size 64 -o /dev/null \"\$\@\" -\n");
my $read = 'bash read.sh';

my ($shown, $rc) = terminal($read);
is($rc, 0, 'on a terminal') or diag $shown;
my @drawn = $shown =~ /\r([^\r\n]*\bsamples\b[^\r\n]*\/s[^\r\n]*)(?=\r)/g;
ok(@drawn >= 1, 'a bar is drawn');
# What a terminal shows at the end of each line: text after a carriage return stands over what was there.
my @lines = map { my $line = ''; for my $part (split /\r/) { $line = $part . (length $part < length $line ? substr $line, length $part : '') } $line =~ s/\s+\z//r } split /\r?\n/, $shown;
ok(!(grep { /\S/ && !/^shard-read: / } @lines), 'nothing of it stays') or diag join "\n", @lines;
like($lines[-1], qr/^shard-read: 33 samples, 0 bad/, 'the last line is whole');
($shown, $rc) = terminal("$read --progress never");
unlike($shown, qr/\r[^\r\n]*samples[^\r\n]*\r/, '--progress never draws none');
($shown, $rc) = terminal("$read -q");
unlike($shown, qr/samples/, '-q neither');
is(system("$read 2>said >/dev/null"), 0, 'into a file');
unlike(slurp('said'), qr/\r/, '... no bar');
is(system("$read --progress always 2>said >/dev/null"), 0, '--progress always');
like(slurp('said'), qr/\r/, '... draws one there too');
done_testing();
