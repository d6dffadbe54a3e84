#!/usr/bin/env perl
# Runs every unit program; each is one test here, its own TAP shown when it fails.
use strict;
use warnings;
use Test::More;
my $build = $ENV{BUILD} // 'build/release';
my @programs = glob("$build/unit/*");
@programs = grep { -x $_ && !-d $_ } @programs;
ok(@programs > 0, 'there are unit programs to run');
for my $p (@programs) {
    my $out = `$p 2>&1`;
    my $good = $? == 0 && $out =~ /^1\.\.[1-9]/m && $out !~ /^not ok/m;
    ok($good, $p) or diag($out);
}
done_testing();
