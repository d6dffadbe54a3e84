#!/usr/bin/env perl
# shard-read on archives of unusual form: joined by cat, sparse, from named pipes, with byte order
# marks; and the names by which shards are given.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use POSIX qw(mkfifo);
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $tool = "$bin/shard-read";
my $data = abs_path('tests/data/shards');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub put { my ($f, $t) = @_; open my $h, '>:raw', $f or die; print $h $t; close $h or die; return $f; }
my $said;
sub run { my $rc = system('bash', '-c', "$tool @_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub lines { return scalar(() = slurp('i.tsv') =~ /\n/g); }
# One ustar member.
sub member {
    my ($name, $text) = @_;
    my $h = pack 'a100 a8 a8 a8 a12 a12 A8 a1 a100 a6 a2 a247', $name, '0000644', '0000000', '0000000',
        sprintf('%011o', length $text), '00000000000', ' ' x 8, '0', '', 'ustar', '00', '';
    my $sum = 0;
    $sum += $_ for unpack 'C*', $h;
    substr $h, 148, 8, sprintf("%06o\0 ", $sum);
    return $h . $text . "\0" x (-length($text) % 512);
}
sub archive { my $t = join '', map { member("$_.txt", "caption of $_") } @_; return $t . "\0" x 1024; }
sub packed { my ($how, $text) = @_; put('unpacked', $text); return scalar `$how -c unpacked`; }

# Archives put together: what follows the first end mark is there.
my ($ab, $cd) = (archive('a', 'b'), archive('c', 'd'));
my $early = archive('a', 'b') =~ s/\0{1024}\z//r;
my %joined = ('cat.tar' => $ab . $cd, 'padded.tar' => $ab . "\0" x 9216 . $cd . "\0" x 9216,
    'lone-zero-block.tar' => $early . "\0" x 512 . $cd, 'three.tar' => $ab . $cd . archive());
for (['gzip', 'gz'], ['bzip2', 'bz2'], ['xz', 'xz'], ['zstd -q', 'zst']) {
    my ($how, $end) = @$_;
    my ($first, $second) = (packed($how, $ab), packed($how, $cd));
    $joined{"members.tar.$end"} = $first . $second;
    $joined{"inside.tar.$end"} = packed($how, $ab . $cd);
    put("cut.tar.$end", $first . substr $second, 0, 5);
    isnt(run("--images no --index i.tsv -o /dev/null cut.tar.$end"), 0, "cut.tar.$end: the start of a second member is damage");
    like($said, qr/^shard-read: cut.tar.$end: record \d: /, 'and named');
    put("junk.tar.$end", $first . 'something else, and more of it');
    isnt(run("--images no --index i.tsv -o /dev/null junk.tar.$end"), 0, "junk.tar.$end: other bytes are damage");
    like($said, qr/^shard-read: junk.tar.$end: record \d: /, 'and named');
}
put('zeros.tar.gz', packed('gzip', $ab . $cd) . "\0" x 700);
for my $f (sort keys %joined) {
    put($f, $joined{$f});
    is(run("--max-bad 0 --images no --index i.tsv -o whole $f"), 0, "$f: read");
    is(join(' ', map { join ':', (split /\t/)[0, 1, 2] } split /\n/, slurp('i.tsv')), '0:a:ok 1:b:ok 2:c:ok 3:d:ok', 'all of it');
    is(run("--images no --index i.tsv -o half --part 2/2 $f"), 0, "$f: counted and read from the middle");
    is(join(' ', map { (split /\t/)[1] } split /\n/, slurp('i.tsv')), 'c d', 'its half');
    is(run("--images no --index i.tsv -o piped - < <(cat $f)"), 0, "$f: through a pipe");
    is(lines(), 4, 'all of it');
}
is(run('--images no --index i.tsv -o s zeros.tar.gz'), 0, 'zeros behind a compressed archive are padding');
is(lines(), 4, 'all of it');
put('junk.tar', $ab . 'x' x 512);
is(run('--images no --index i.tsv -o s junk.tar'), 1, 'other bytes behind an archive are damage');
like($said, qr/^shard-read: junk.tar: record 2: damaged header/, 'and named');
is(lines(), 2, 'what stands before is read');

# Sparse members hold the same bytes.
mkdir $_ for 'plain', 'parts';
my $hole = "\xff\xd8\xff" . 'head' . "\0" x 40960 . 'middle' . "\0" x 81920;
put("parts/0$_.jpg", $hole . ($_ == 1 ? '' : 'end')) for 0 .. 3;
put("parts/0$_.txt", "caption $_") for 0 .. 3;
my @names = map { ("0$_.jpg", "0$_.txt") } 0 .. 3;
for (@names) { system("cp --sparse=always parts/$_ hole && mv hole parts/$_") == 0 or die; } # tar looks at the blocks first
system("tar -C parts --format=ustar -cf plain/s.tar @names") == 0 or die;
is(run('-q --images raw -o want plain/s.tar'), 0, 'plain members');
run('-q --images raw --part 2/2 -o want2 plain/s.tar');
run('-q --images raw --skip 3 -o want3 plain/s.tar');
for my $how ('gnu', 'pax --sparse-version=0.0', 'pax --sparse-version=0.1', 'pax --sparse-version=1.0') {
    mkdir 'sparse';
    system("tar -C parts -S --hole-detection=raw --format=$how -cf sparse/s.tar @names") == 0 or die;
    cmp_ok(-s 'sparse/s.tar', '<', (-s 'plain/s.tar') / 4, "$how: the holes are not in it");
    is(run('-q --images raw -o got sparse/s.tar'), 0, "$how: read");
    ok(slurp('got') eq slurp('want'), 'the same stream');
    is(run('-q --images raw --part 2/2 -o got sparse/s.tar'), 0, "$how: counted");
    ok(slurp('got') eq slurp('want2'), 'the same part');
    is(run('-q --images raw --skip 3 -o got sparse/s.tar'), 0, "$how: passed over");
    ok(slurp('got') eq slurp('want3'), 'the same rest');
    put('cut.tar', substr slurp('sparse/s.tar'), 0, -s 'sparse/s.tar' > 12000 ? 5000 : 3000);
    isnt(run('-q --images raw --part 1/1 -o got cut.tar'), 0, "$how: cut is damage");
}

# A pipe by name is read once.
put('four.tar', $ab . $cd);
is(run('-q --images no --index i.tsv -o s <(cat four.tar)'), 0, 'process substitution');
is(lines(), 4, 'all of it');
for my $in ('<(cat four.tar)', '/dev/stdin < <(cat four.tar)') {
    is(run("--images no --part 1/2 -o no.samples $in"), 1, "--part $in");
    like($said, qr/can be read only once: parts need files/, 'refused');
}
mkfifo('fifo', 0600) or die;
is(run('--images no --part 2/2 -o no.samples fifo'), 1, '--part of a FIFO that nobody writes: no hang');
is(run('--images no -o no.samples fifo fifo'), 1, 'a FIFO twice');
like($said, qr/'fifo' is given twice and can be read only once/, 'refused');
is(run('-q --images no --part 1/2 --index i.tsv -o s /dev/stdin < four.tar'), 0, '/dev/stdin that is a file has parts');
is(lines(), 2, 'half of it');
ok(!-e 'no.samples', 'a refusal leaves no output');

# Names. The mask, the rows and the random numbers of a shard are found by its name.
mkdir $_ for 'x', 'y';
put($_, $ab) for 'x/0.tar', 'y/0.tar', 'x/1.tar';
put('y/1.tar.gz', packed('gzip', $cd));
for (['x/0.tar y/0.tar'], ['{x,y}/0.tar'], ['x/1.tar y/1.tar.gz'], ['--files-from list']) {
    put('list', "x/0.tar\ny/0.tar\n");
    is(run("--images no -o no.samples @$_"), 1, "@$_: one name");
    like($said, qr/'x\/\d\.tar' and 'y\/\d\.tar\S*' have one name/, 'both named');
}
is(run('-q --images no --index i.tsv -o s x/0.tar ./x/../x/0.tar'), 0, 'one file twice');
is(lines(), 4, 'is read twice');
put($_, $ab) for 'a{0,1}.tar', 'b::c.tar', 'd\\e.tar', 'plus.tar';
put('list', "a{0,1}.tar\nb::c.tar\nd\\e.tar\n");
is(run('-q --images no --index i.tsv -o s --files-from list plus.tar'), 0, '--files-from: names as they stand');
is(join(' ', map { (split /\t/)[7] } split /\n/, slurp('i.tsv')), 'plus.tar plus.tar a{0,1}.tar a{0,1}.tar b::c.tar b::c.tar d\\e.tar d\\e.tar', 'each');
put('list', "\n");
is(run('--images no -o s --files-from list'), 0, 'a list of nothing but an empty line') or diag $said;
my @many = map { my $f = sprintf 'm%03d.tar', $_; put($f, archive("k$_")); $f } 0 .. 199;
put('list', join "\n", @many);
is(run('-q --images no --shuffle 50 --index i.tsv -o s --files-from list', '-t 2'), 0, 'many shards');
my $rc = system('bash', '-c', "ulimit -n 24; $tool -q --images no --shuffle 50 --index j.tsv -o s --files-from list 2>said");
is($rc, 0, 'are not all open at a time') or diag slurp('said');
ok(slurp('i.tsv') eq slurp('j.tsv'), 'and read as without a limit');

# Byte order marks.
put('bom.tar', member('a.txt', "\xef\xbb\xbfa caption") . member('a.json', "\xef\xbb\xbf{\"width\": null}") .
    member('b.txt', "\xef\xbb\xbf") . member('c.txt', "\xff\xfea\0") . member('d.txt', 'd') . member('d.json', "\xef\xbb\xbf"));
is(run('--images no --index i.tsv -o s bom.tar'), 0, 'byte order marks');
is(join(' ', map { join ':', (split /\t/)[1, 2, 6] } split /\n/, slurp('i.tsv')), 'a:ok:12 b:no-caption:3 c:bad-utf8:4 d:bad-json:1',
    'a mark alone is no caption, and no json; UTF-16 is not UTF-8');
like($said, qr/bom.tar: record 2 \(c\): bad-utf8: caption is UTF-16, not UTF-8/, 'and said so');
done_testing();
