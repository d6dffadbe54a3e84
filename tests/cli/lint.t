#!/usr/bin/env perl
# scripts/lint-rooms: the project's own rooms are clean; an include that points upwards, sideways or not from lib/ is named, a
# test that lies in no room, a row of HACKING's table that cannot be read, a folder with too many files. lint-comments: a broken table in a
# comment, a comment that is too wide. lint-length: a long file. lint-structs: a name of two structs.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
my ($lint, $comments, $length, $structs) = map { abs_path("scripts/lint-$_") } qw(rooms comments length structs);
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
# A broken table of rooms.
my $rooms = do { local $/; open my $h, '<', 'HACKING.md' or die; <$h> };
unlink 'tests/unit/bpe-test.c', 'tests/fuzz/word/bpe.c';
for (['| `image` base | x |', 'not a row'], ['| `image` | base | x', 'not a row'], ['| `image` | sound | x |', "'sound' is no room"]) {
    my ($row, $words) = @$_;
    put('HACKING.md', $rooms =~ s/(?=\| `text`)/$row\n/r);
    ($rc, $text) = said();
    is($rc, 1, "the row '$row' fails");
    like($text, qr/^HACKING\.md:7: \Q$words\E/m, 'and is named');
}
put('HACKING.md', $rooms);
is_deeply([said()], [0, ''], 'the whole table');
# A folder that is too full; lib/base has a file already.
put("lib/base/a$_.c", '') for 2 .. 34;
is_deeply([said()], [0, ''], '34 files in a folder');
put('lib/base/a35.c', '');
($rc, $text) = said();
is($rc, 1, '35 fail');
is($text, "lib/base: 35 files, 34 at most: divide it\n", 'and the folder is named');

# scripts/lint-comments: tables as they are written, and as a formatter that fills comments leaves them.
sub comments { my ($t) = @_; put('x.h', $t); my $said = `$comments x.h 2>&1`; return ($? >> 8, $said); }
my $table = "// Files:\n//     merges.txt   one a line,\n//                  in order\n//     vocab.json   an object\n//     other        none\n// and more.\nint x;\n//     a formula = x + y\n";
is_deeply([comments($table)], [0, ''], 'a table and a formula in comments');
for ([$table =~ s/vocab.json   an/vocab.json  an/r, 4, 'begins elsewhere', 'a column out of line'],
    [$table =~ s/,\n\/\/ +in order/,\n\/\/       in order/r, 3, 'neither column', 'a continuation out of line'],
    ["// Each:\n//     x1 = x + f(x)          y = x1 +\n//     f(b)\n", 2, 'in this line only', 'a row that was filled']) {
    my ($body, $line, $words, $what) = @$_;
    ($rc, $text) = comments($body);
    is($rc, 1, "$what fails");
    like($text, qr/^x\.h:$line: .*\Q$words\E/m, 'and is named');
}

is_deeply([comments('// ' . 'x' x 97 . "\n")], [0, ''], 'a comment of 100 columns');
($rc, $text) = comments("int y;\n// " . 'x' x 98 . "\n");
is($rc, 1, 'of 101 columns fails');
like($text, qr/^x\.h:2: a comment goes past column 100/m, 'and is named');

# scripts/lint-length
put($_, "int x;\n" x 501) for 'long.c', 'long-table.h';
put('short.c', "int x;\n" x 500);
put("tools/$_->[0].c", "int x;\n" x $_->[1]) for ['long', 301], ['short', 300];
is(`$length tools/short.c tools/long.c 2>&1`, "tools/long.c: 301 lines, 300 at most: divide it\n", 'a long tool is named');
is(`$length short.c long.c long-table.h 2>&1`, "long.c: 501 lines, 500 at most: divide it\n", 'a long file is named, a long table is not');
is($? >> 8, 1, 'and fails');
is(`$length short.c long-table.h 2>&1`, '', 'without it nothing is said');
is($? >> 8, 0, 'and it passes');

# scripts/lint-structs
put('a.c', "struct row;\nstruct row {\n    int n;\n};\nstruct row r;\n");
put('b.c', "struct column {\n    struct row *r;\n};\n");
is(`$structs a.c b.c 2>&1`, '', 'each struct is defined once');
put('c.c', "\nstatic const struct row {\n    int m;\n} rows[2];\n");
is(`$structs a.c b.c c.c 2>&1`, "c.c:2: struct row is defined at a.c:2 too\n", 'one that is defined twice is named');
is($? >> 8, 1, 'and fails');
done_testing();
