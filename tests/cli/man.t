#!/usr/bin/env perl
# Every tool has a man page; every option of its --help stands in it, and the page has no option that
# the tool does not know. Every page is clean mdoc. Usage errors exit 2, --version and --help 0.
use strict;
use warnings;
use Test::More;
my $bin = $ENV{BIN} // 'bin';
my @tools = map { s{.*/}{}r =~ s{\.c$}{}r } glob('tools/*.c');
sub slurp { my ($f) = @_; local $/; open my $h, '<', $f or return ''; return <$h>; }
# Long options in mdoc: ".It Fl -name" or "Fl Fl name" or "Fl o , Fl -output".
sub page_options {
    my ($text) = @_;
    my %o;
    for my $line (split /\n/, $text) {
        next unless $line =~ /^\.It\b/;
        $o{$1} = 1 while $line =~ /Fl\s+(?:Fl\s+|-|\\-)([a-z][a-z0-9-]+)/g;
    }
    return %o;
}
for my $page (glob 'man/*.[157]') {
    my $lint = `mandoc -T lint -W warning $page 2>&1`;
    is($lint, '', "$page is clean mdoc");
}
ok(-e 'man/clip-cid.7', 'there is an overview') if @tools;
for my $tool (@tools) {
    my $help = `$bin/$tool --help`;
    is($?, 0, "$tool --help");
    my %has = page_options(slurp("man/$tool.1"));
    my %knows = map { $_ => 1 } $help =~ /^\s+(?:-\w, )?--([a-z][a-z0-9-]+)/mg;
    my @missing = sort grep { !$has{$_} } keys %knows;
    my @unknown = sort grep { !$knows{$_} && !/^no-/ } keys %has;
    is("@missing", '', "$tool: every option stands in its man page");
    is("@unknown", '', "$tool: the man page has no other options");
    my %letter = map { $_ => 1 } $help =~ /^  -(\w), --/mg;
    my @letters = sort grep { !$letter{$_} } map { /^\.It\b.*?Fl (\w)(?: |,|$)/ ? $1 : () } split /\n/, slurp("man/$tool.1");
    is("@letters", '', "$tool: every letter of its man page is one");
    is(`$bin/$tool -h`, $help, "$tool -h");
    is(`$bin/$tool -V`, `$bin/$tool --version`, "$tool -V");
    like(`$bin/$tool --version`, qr/^$tool \(clip-cid\) \d/, "$tool --version");
    my $err = `$bin/$tool --no-such-option 2>&1 >/dev/null`;
    is($? >> 8, 2, "$tool: an unknown option is wrong usage");
    like($err, qr/^$tool: unknown option '--no-such-option'/, "$tool: and says so");
    system("$bin/$tool --help > /dev/full 2>/dev/null");
    is($? >> 8, 1, "$tool: --help to a full disk fails");
}
ok(1, 'no tool yet') unless @tools;
done_testing();
