#!/usr/bin/env perl
# The Makefile: what is given for the compiler, its flags and the folders holds, other flags build everything again and the
# same ones nothing, libraries are where pkg-config says, optional ones can be left out, and no package is asked for.
use strict;
use warnings;
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
plan skip_all => 'the build is looked at once' if $ENV{ASAN};
delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL CC CXX AR CFLAGS CXXFLAGS CPPFLAGS LDFLAGS LDLIBS FAISS remote sentencepiece PREFIX DESTDIR CUDA)};
my $dir = tempdir(CLEANUP => 1);
my $said;
sub slurp { my ($f) = @_; local $/; open my $h, '<', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>', $f or die "$f: $!"; print $h $t; close $h or die; return; }
sub run { my ($what) = @_; my $rc = system("$what >$dir/said 2>&1"); $said = slurp("$dir/said"); return $rc >> 8 || $rc }
sub lines { my ($pattern) = @_; return scalar grep { /$pattern/ } split /\n/, $said }
my $make = "make V=1 BUILD=$dir/b BIN=$dir/bin";
my $object = "$dir/b/lib/base/err.o";

# ---- flags
is(run("$make $object"), 0, 'an object') or diag $said;
is(run("$make $object"), 0, 'again');
is(lines(qr/ -c -o /), 0, '... nothing is compiled') or diag $said;
for my $change ('CFLAGS=-O1', 'CPPFLAGS=-DX=1', 'LDFLAGS=-Wl,-z,now', 'FAISS=0') {
    is(run("$make $change $object"), 0, "$change");
    is(lines(qr/ -c -o /), 1, '... it is compiled') or diag $said;
    is(run("$make $change $object"), 0, 'the same again');
    is(lines(qr/ -c -o /), 0, '... it is not') or diag $said;
}
is(run("$make FAISS=0 werror=1 $object"), 0, 'other warnings');
is(lines(qr/ -c -o /), 0, '... are no reason to compile') or diag $said;

# ---- a source that is gone
my ($archive, $other) = ("$dir/b/libclipcid.a", $object =~ s/err\.o$/half.o/r);
is(run("$make 'LIB_OBJ=$object $other' $archive"), 0, 'an archive of two objects') or diag $said;
is(run("$make LIB_OBJ=$object $archive && ar t $archive"), 0, '... of one of them') or diag $said;
unlike($said, qr/^half\.o$/m, '... without the other');
is(run("$make LIB_OBJ=$object $archive"), 0, 'again');
unlike($said, qr/ rcs /, '... is not made again');

# ---- what is given, in the environment and on the command line
for my $how ('CC=mycc AR=myar CFLAGS=-Dmine CPPFLAGS=-Ipre LDFLAGS=-Lmine LDLIBS=-lmine make V=1', 'make V=1 CC=mycc AR=myar CFLAGS=-Dmine CPPFLAGS=-Ipre LDFLAGS=-Lmine LDLIBS=-lmine') {
    my ($where) = $how =~ /^(\w+)/;
    is(run("$how BUILD=$dir/none BIN=$dir/bin FAISS=0 -n all"), 0, "a plan, flags given before or behind make ($where)") or diag $said;
    my ($compile) = $said =~ /(\S+ [^\n]* -c -o \S+lib\/base\/err\.o[^\n]*)/;
    like($compile, qr/\bmycc /, 'CC');
    like($compile, qr/-Ipre .*-std=c11 .*-O2 .*-Dmine .*-ffp-contract=off/, 'flags stand behind our own, which stay');
    like($said, qr/\bmyar rcs /, 'AR');
    my ($link) = $said =~ /(\S+ [^\n]* -o \S+bin\/shard-read [^\n]*)/;
    like($link, qr/mycc .*-Lmine .* -lmine$/, 'LDFLAGS and LDLIBS');
    unlike($said, qr/apt-get|dpkg|scripts\/deps/, 'no package is asked for');
}

# ---- libraries
make_path("$dir/pc");
spew("$dir/pc/libarchive.pc", "Name: a\nDescription: a\nVersion: 3\nCflags: -I/elsewhere/include\nLibs: -L/elsewhere/lib -larchive\n");
is(run("PKG_CONFIG_PATH=$dir/pc make V=1 BUILD=$dir/none BIN=$dir/bin -n all"), 0, 'a library that is elsewhere');
like($said, qr{-I/elsewhere/include .*-c -o}, '... its header');
like($said, qr{-L/elsewhere/lib -larchive}, '... and itself');
is(run("PKG_CONFIG=false make V=1 BUILD=$dir/none BIN=$dir/bin -n all"), 0, 'without pkg-config');
like($said, qr/ -ldnnl -lopenblas -larchive -ljpeg -lwebpdemux -lwebp -lutf8proc -lcjson -lz -lxxhash /, '... the usual names');
unlike($said, qr/-lcurl/, '... and no remote shards');
make_path("$dir/include");
spew("$dir/include/$_", '') for 'sentencepiece_processor.h';
is(run("PKG_CONFIG=false make V=1 BUILD=$dir/none BIN=$dir/bin CPPFLAGS=-I$dir/include -n all"), 0, 'a header alone');
like($said, qr/-DCLIPCID_SENTENCEPIECE.* -c -o/, '... is enough for sentencepiece');
like($said, qr/ -lsentencepiece /, '... whose library has its usual name');
is(run("make V=1 BUILD=$dir/none BIN=$dir/bin FAISS=0 remote=no sentencepiece=no -n all"), 0, 'optional parts left out');
unlike($said, qr/-lfaiss|-lcurl|-lcrypto|-lsentencepiece|CLIPCID_(?:FAISS|REMOTE|SENTENCEPIECE)|faiss-train/, '... nothing of them is left');

# ---- the names of packages
my %rows;
for my $os (qw(debian ubuntu fedora)) {
    is(run("scripts/deps --list $os"), 0, "names of $os");
    $rows{$os} = lines(qr/^[a-zA-Z0-9.+-]+$/);
    ok($rows{$os} > 20, '... one a line') or diag $said;
}
is($rows{debian}, $rows{ubuntu}, 'as many on both');
is(run('scripts/deps --list debian slurm'), 0, 'names of a class');
like($said, qr/^slurmctld\n(?:.*\n)*munge$/m, '... alone');
unlike($said, qr/gcc/, '... no others');
is(run('scripts/deps --list plan9'), 1, 'another system');
like($said, qr/^deps: no names for 'plan9'/, '... is named');

# ---- continuous integration runs scripts that are there
my ($matrix) = slurp('packaging/workflow.yml') =~ /script: \[([^\]]+)\]/;
my %ci = map { $_ => 1 } split(/, /, $matrix // ''), 'clang', 'in-root', 'inside', 'qemu-aarch64';
is(join(' ', sort map { s{.*/}{}r } glob 'packaging/ci/*'), join(' ', sort keys %ci), "the workflow has every script of packaging/ci");
ok(-x "packaging/ci/$_", "packaging/ci/$_ runs") for sort keys %ci;
done_testing();
