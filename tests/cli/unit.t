#!/usr/bin/env perl
# Runs every unit program; each is one test here, its own TAP shown when it fails. What a program skips is shown, so that
# a green run without the reference data or on another processor is not taken for a whole one.
use strict;
use warnings;
use File::Find;
use Test::More;
my $build = $ENV{BUILD} // 'build/release';
my @programs;
find({ no_chdir => 1, wanted => sub { push @programs, $_ if -x $_ && !-d $_ } }, "$build/unit");
@programs = sort grep { (my $source = $_) =~ s{^\Q$build\E}{tests}; -e "$source.c" } @programs; # none of a source that is gone
my $skipped = 0;
ok(@programs > 0, 'there are unit programs to run');
for my $p (@programs) {
    my $out = `$p 2>&1` // '';
    my $status = $?;
    if ($status == 0 && $out =~ /^1\.\.0\s*#\s*skip\s+(.*)/mi) { # nothing of it can run here
        my $why = $1;
        SKIP: { skip "$p: $why", 1 }
        diag("$p: skipped: $why");
        $skipped++;
        next;
    }
    my $good = $status == 0 && $out =~ /^1\.\.[1-9]/m && $out !~ /^not ok/m;
    ok($good, $p) or diag($out);
    my @left = $out =~ /^((?:ok|1\.\.).*#\s*skip.*)$/mgi;
    diag("$p: $_") for @left;
    $skipped += @left;
}
diag("$skipped unit tests were skipped") if $skipped;
done_testing();
