#!/usr/bin/env perl
# What every tool says to values that cannot be meant: an empty one is a shell variable that was not set, which with a
# file's name behind it would stand for the root folder.
use strict;
use warnings;
use Test::More;
my $bin = $ENV{BIN} // 'bin';
my %may_be_empty = ('cid-report --title' => 1);
for my $tool (map { s{.*/}{}r =~ s{\.c$}{}r } glob('tools/*.c')) {
    my $help = `$bin/$tool --help`;
    my @with_value = $help =~ /^\s+(?:-\w, )?--([a-z][a-z0-9-]+) \S/mg;
    cmp_ok(scalar @with_value, '>', 2, "$tool has options with a value");
    if ($help =~ /--device/) {
        for my $name (qw(tpu cuda: cuda:x cudax)) {
            like(`$bin/$tool --device $name x 2>&1`, qr/--device: unknown device \Q$name\E \(cpu, cuda, cuda:N\)/, "$tool --device $name is refused");
            is($? >> 8, 2, "... as wrong usage");
        }
    }
    for my $o (grep { !$may_be_empty{"$tool --$_"} } @with_value) {
        my $said = `$bin/$tool --$o '' </dev/null 2>&1 >/dev/null`;
        is($? >> 8, 2, "$tool --$o '' is wrong usage");
        like($said, qr/^$tool: --$o: /, 'and names the option') or diag $said;
    }
}
done_testing();
