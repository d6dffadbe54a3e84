#!/usr/bin/env perl
# scripts/lint-rooms: the project's own rooms are clean; an include that points upwards, sideways or not from lib/ is named, and
# a test that lies in no room.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
my $lint = abs_path('scripts/lint-rooms');
is(system("$lint 2>&1"), 0, 'every file of lib/ uses what its room may');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
sub put { my ($f, $t) = @_; (my $d = $f) =~ s{/[^/]*$}{}; make_path($d) if $d ne $f; open my $h, '>', $f or die; print $h $t; close $h; }
sub said { my $t = `$lint 2>&1`; return ($? >> 8, $t); }
put('HACKING.md', "| room | may use | holds |\n|---|---|---|\n| `base` | - | x |\n| `device` | base | x |\n| `device/cpu` | base device | x |\n"
    . "| `device/open.c` | base device device/cpu | x |\n| `text` | base | x |\n\nno `lib` row:\n| `other` | text | x |\n");
put("lib/$_", "#include <stdio.h>\n") for qw(base/err.h device/dev.h device/cpu/cpu.h text/bpe.h);
put('lib/device/open.c', qq(#include "device/cpu/cpu.h"\n#include "base/err.h"\n));
put('lib/text/bpe.c', qq(#include "text/bpe.h"\n#include "base/err.h"\n));
is_deeply([said()], [0, ''], 'down and within the room');
for (['base/err.c', 'text/bpe.h', "'base' may not use 'text'", 'upwards'], ['text/x.c', 'device/dev.h', "'text' may not use 'device'", 'sideways'],
    ['device/y.c', 'device/cpu/cpu.h', "'device' may not use 'device/cpu'", 'into an inner room'],
    ['text/z.c', 'bpe.h', 'not written from lib/', 'without its room']) {
    my ($file, $include, $words, $what) = @$_;
    put("lib/$file", qq(// a comment\n#include "$include"\n));
    my ($rc, $text) = said();
    is($rc, 1, "$what fails");
    like($text, qr{^lib/\Q$file\E:2: .*\Q$words\E}m, 'and is named');
    unlink "lib/$file";
}
put('lib/loose.c', '');
like((said())[1], qr{^lib/loose\.c: in no room}m, 'a file outside the rooms too');
unlink 'lib/loose.c';
put('tests/unit/text/bpe-test.c', '');
put('tests/fuzz/driver.c', '');
is_deeply([said()], [0, ''], 'tests in the folders of lib/');
put('tests/unit/bpe-test.c', '');
put('tests/fuzz/word/bpe.c', '');
my ($rc, $text) = said();
is($rc, 1, 'a test in no such folder fails');
like($text, qr{^\Q$_\E: in no folder of lib/}m, 'and is named') for 'tests/unit/bpe-test.c', 'tests/fuzz/word/bpe.c';
done_testing();
