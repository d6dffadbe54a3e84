#!/usr/bin/env perl
# The demo's pictures: from npm or from Debian, whichever answers, a word about the one that does not, and a short limit; clip art made
# small. npm and apt-get are stand-ins that answer as told. The estimate of what is left.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use Test::More;
use Time::HiRes qw(time);
my $bin = abs_path($ENV{BIN} // 'bin');
my $home = abs_path('.');
my $dir = tempdir(CLEANUP => 1);
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; return; }
plan skip_all => 'no dpkg-deb here' if system('command -v dpkg-deb >/dev/null 2>&1');
plan skip_all => 'clip art is installed here' if -d '/usr/share/openclipart/png';

# ---- a package of clip art, and the stand-ins
my $art = "$dir/pkg/usr/share/openclipart/png";
my @pictures = sort grep { -s $_ > 200 } glob "$home/tests/data/images/*.png";
my $n = 0;
for my $folder (qw(animals food/fruit unsorted)) {
    make_path("$art/$folder");
    copy($_, sprintf '%s/%s/big_red_thing%d_architetto_%02d.png', $art, $folder, $n, $n++) or die for (@pictures) x 4;
}
symlink 'big_red_thing0_architetto_00.png', "$art/animals/link.png" or die;
make_path("$dir/pkg/DEBIAN", "$dir/stand-ins");
spew("$dir/pkg/DEBIAN/control", "Package: openclipart-png\nVersion: 1\nArchitecture: all\nMaintainer: x <x\@x>\nDescription: x\n");
system("dpkg-deb -b $dir/pkg $dir/openclipart-png_1_all.deb >/dev/null 2>&1") == 0 or die;
spew("$dir/stand-ins/npm", <<'EOS');
#!/bin/sh
case $NPM in
hangs) exec sleep 30 ;;
refuses) exit 1 ;;
certificate) printf 'npm ERR! code SELF\nnpm ERR! request to https://r.example/x failed, reason: self-signed certificate\n' >&2; exit 1 ;;
none) printf 'npm error code E404\nnpm error 404 Not Found\n' >&2; exit 1 ;;
esac
for a; do p=$last last=$a; done
case "$*" in
*view*) set -- $*; for a; do case $a in *@*) echo "${a%@*}" ;; esac; done ;;
*pack*)
    mkdir -p package/sheets-x && echo x >package/file && echo big >package/sheets-x/f
    tar -czf got.tgz package && rm -r package && echo got.tgz ;;
esac
EOS
spew("$dir/stand-ins/apt-get", "#!/bin/sh\n[ \"\$APT\" = works ] || exit 100\ncase \"\$*\" in *download*) cp $dir/openclipart-png_1_all.deb . ;; esac\n");
spew("$dir/stand-ins/apt-cache", "#!/bin/sh\n[ \"\$APT\" = works ]\n");
chmod 0755, glob "$dir/stand-ins/*";
sub fetch { my ($to, %with) = @_;
    my $env = join ' ', map { "$_=$with{$_}" } sort keys %with;
    my $start = time;
    my $rc = system("PATH=$dir/stand-ins:\$PATH LIMIT=1 $env demo/fetch $dir/$to >$dir/said 2>&1") >> 8;
    return ($rc, slurp("$dir/said"), time - $start);
}
my ($rc, $said, $seconds) = fetch('a', NPM => 'answers', APT => 'no');
is($rc, 0, 'npm answers') or diag $said;
is(slurp("$dir/a/set"), "emoji\n", 'the emoji');
ok(-e "$dir/a/openmoji/file" && !-e "$dir/a/openmoji/sheets-x", 'unpacked, without the sheets');
like($said, qr{^\@0/3 packages$}m, 'it counts');
($rc, $said) = fetch('a', NPM => 'refuses', APT => 'no');
is($rc, 0, 'again, without either: it is all there') or diag $said;
($rc, $said, $seconds) = fetch('b', NPM => 'hangs', APT => 'works');
is($rc, 0, 'npm hangs, Debian answers') or diag $said;
is(slurp("$dir/b/set"), "clipart\n", 'the clip art');
like($said, qr/npm's registry does not answer within 1 s/, 'a word about npm');
cmp_ok($seconds, '<', 10, 'after the limit');
($rc, $said) = fetch('c', NPM => 'refuses', APT => 'no');
is($rc, 1, 'neither answers');
like($said, qr/^no pictures for the demo: npm's registry does not answer within 1 s; apt knows no package openclipart-png, and its server does not answer$/m, 'and both are named');
for (['certificate', 'cannot be asked: self-signed certificate'], ['none', 'answers E404']) {
    ($rc, $said) = fetch('c', NPM => $_->[0], APT => 'no');
    like($said, qr/^no pictures for the demo: npm's registry \Q$_->[1]\E; apt knows/m, "npm's own reason: $_->[1]");
}
($rc, $said) = fetch('d', NPM => 'answers', APT => 'works', FROM => 'debian');
is(slurp("$dir/d/set"), "clipart\n", 'FROM=debian');

# ---- clip art made small
SKIP: {
    skip 'shard-read is not built', 7 if !-x "$bin/shard-read";
    for my $out (qw(one two)) { is(system("demo/make-clipart $dir/b $dir/$out $bin/shard-read >$dir/said 2>&1"), 0, 'make-clipart') or diag slurp("$dir/said") }
    my ($train, $held) = slurp("$dir/said") =~ /^(\d+) pictures to train on, (\d+) held out in 2 folders$/m;
    my ($bad) = slurp("$dir/said") =~ /, (\d+) bad-image;/;
    ok($bad && $train + $held == $n - $bad, 'every picture that can be read, no link twice') or diag slurp("$dir/said");
    ok($held > 0 && $train > $held, 'some held out');
    is(`cd $dir/one && find . -type f | LC_ALL=C sort | xargs sha256sum`, `cd $dir/two && find . -type f | LC_ALL=C sort | xargs sha256sum`, 'the same package, the same bytes');
    is(slurp("$dir/one/eval/wds_folders/classnames.txt"), "animals\nfood\n", 'classes: the first folders that say something');
    my %captions = map { $_ => 1 } split /\n/, `$bin/shard-read -q --size 64 --index $dir/i.tsv -o /dev/null $dir/one/shards/*.tar; cut -f3,5,6 $dir/i.tsv | sort -u`;
    is(join('|', keys %captions), "ok\t64\t64", '64 pixels a side, all readable');
    like(`tar -xOf $dir/one/shards/clipart-00000.tar --wildcards '*.txt'`, qr/food, fruit, big red thing\d+ architetto/, 'captions: folders and name');
}

# ---- the estimate
spew("$dir/plan", "first 100\nsecond 50\nthird 10\nnet 1000 apart\n");
make_path("$dir/log/.progress");
my $out = `printf 'net: done, 2.0 s\nfirst: done, 200.0 s\nelse: done, 3.0 s\nthird: done, 2 of 2 shards made, 20.0 s; 3 %% dropped\nsecond: done, 100 s\n' | scripts/screen --plan $dir/plan $dir/log 2>&1`;
is($out, "net: done, 2.0 s; about 2:40 to go\nfirst: done, 200.0 s; about 1:50 to go\nelse: done, 3.0 s\nthird: done, 2 of 2 shards made, 20.0 s; 3 % dropped; about 1:32 to go\nsecond: done, 100 s\n", 'by the speed so far; nothing at the end');
isnt(system("TEACHER=$dir/none demo/run $dir/w 2>$dir/said"), 0, 'TEACHER of a folder that is not there');
like(slurp("$dir/said"), qr/^demo: no folder '.*none': TEACHER names the folder of a model/, 'is refused before anything else');
ok(!-e "$dir/w", 'and nothing is made');
done_testing();
