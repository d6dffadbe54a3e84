#!/usr/bin/env perl
# The table "COMING FROM OPEN_CLIP" of distill-train(1): each row's own options are run, for two steps of a run.
use strict;
use warnings;
use lib 'tests/lib';
use Cwd qw(abs_path);
use Test::More;
use Train;

my $page = slurp("$data/../../man/distill-train.1");
my ($table) = $page =~ /^\.Sh COMING FROM OPEN_CLIP\n.*?^\.Bl -column[^\n]*\n(.*?)^\.El/ms;
my @rows = map { /^\.It Li (.*?) Ta (.*)/ ? [$1, $2] : () } split /\n/, $table // '';
cmp_ok(scalar @rows, '>', 30, 'rows of the table') or BAIL_OUT('no table');

shard('a/00000.tar', 40, 'a');
is(run("$bin/shard-read -q --size 29 -o s.samples a/00000.tar"), 0, 'samples') or diag $said;
my %base = (student => 'student.json', tokenizer => $vocab, batch => 4, loss => 'clip', steps => 2, data => "'cat s.samples'", output => 'out', progress => 'never');
sub train { my %o = @_; return "$bin/distill-train " . join ' ', map { defined $o{$_} ? "--$_ $o{$_}" : "--$_" } sort keys %o; }
is(run(train(%base, output => 'start')), 0, 'a model') or diag $said;
my $bf16 = run(train(%base, output => 'probe', dtype => 'bf16', 'dry-run' => undef)) == 0;

# Values for the names in the table; what else an option needs that stands in a row of its own.
mkdir $_ for 'set', 'set/test';
spew("set/$_->[0]", $_->[1]) for ['classnames.txt', "red\nblue\n"], ['zeroshot_classification_templates.txt', "{c}\n"], ['test/nshards.txt', "1\n"];
system("mkdir t && cd t && tar -xf ../a/00000.tar && for f in *.txt; do echo 1 > \${f%.txt}.cls; done && rm *.txt && tar -cf ../set/test/0.tar *");
my %value = (SET => 'set', CONFIG => 'student.json', MODEL => 'start', CMD => "'cat s.samples'", E => 2, S => 8, BG => 8, BA => 8, G => 2, A => 2, X => 0.5, N => 1, P => 0.5,
    STEP => 1, W => 2, NAME => 'cpu', DIR => 'out', 'A,B' => '0.5,1', 'B,C,S,H' => '0.4,0.4,0.4,0.1');
my %needs = (lock => { init => 'start' }, cooldown => { schedule => 'cooldown' }, 'lr-end' => { lr => 0.6 }, 'cooldown-power' => { schedule => 'cooldown', cooldown => 1 });
for my $row (@rows) {
    my ($theirs, $ours) = @$row;
    # Another tool's options are no "Fl" in this page.
    my $reads = $ours =~ s/^Xr shard-read 1 Li //;
    $ours =~ s/--(\S+) (\S+)/"Fl -$1 " . (exists $value{$2} ? 'Ar' : 'Cm') . " $2"/ge if $reads;
    my %o;
    while ($ours =~ /\GFl -(\S+)(?: (Ar|Cm) (\S+))? ?/gc) { $o{$1} = !defined $2 ? undef : $2 eq 'Cm' ? $3 : $value{$3} // die "no value for $3"; }
    is(pos $ours // 0, length $ours, "$theirs: the row is understood") or next;
    $o{cooldown} //= 1 if ($o{schedule} // '') eq 'cooldown';
    %o = (map({ %{ $needs{$_} // {} } } keys %o), %o);
    system('rm', '-rf', 'out');
    if ($reads) {
        my $plain = slurp('s.samples');
        is(run("$bin/shard-read -q --size 29 " . join(' ', map { "--$_ $o{$_}" } sort keys %o) . " -o other.samples a/00000.tar"), 0, '... runs') or diag $said;
        ok(slurp('other.samples') ne $plain, '... and changes the pictures');
        next;
    }
    SKIP: {
        skip 'no bfloat16 here', 1 if ($o{dtype} // '') eq 'bf16' && !$bf16;
        my %run = (%base, %o);
        delete $run{steps} if exists $o{epochs};
        if (exists $o{resume} || exists $o{'resume-from'}) { is(run(train(%base, 'checkpoint-every' => 1)), 0, '... a run to go on from') or diag $said; }
        is(run(train(%run)), 0, '... runs') or diag $said;
    }
}
done_testing();
