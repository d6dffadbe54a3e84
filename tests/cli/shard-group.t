#!/usr/bin/env perl
# shard-read --group-labels --group: a window keeps its samples, those of one label come several in a row, and the order can be cut
# anywhere.
use strict;
use warnings;
use lib 'tests/lib';
use File::Path qw(make_path);
use Test::More;
use Npy ();
use Train;

shard('one/00000.tar', 40, 'a');
shard('one/00001.tar', 33, 'b');
my $shards = 'one/00000.tar one/00001.tar';
my (%label, @all);
make_path('labels', 'keep');
for (['00000', 40, 'a'], ['00001', 33, 'b']) {
    my ($name, $n, $keys) = @$_;
    # in the order of the tar, which is that of the index
    my @keys = map { "$keys$_" } 0 .. $n - 1;
    my @l = map { $_ % 10 == 9 ? -1 : ($_ * 7 + length $name) % 4 } 0 .. $n - 1;
    @label{@keys} = @l;
    push @all, @keys;
    Npy::npy("labels/$name.npy", '<i4', "$n, 2", pack 'l<*', map { ($_, 99) } @l);
    mask("keep/$name.npy", map { $_ % 5 ? 1 : 0 } 0 .. $n - 1);
}
my $read = "$bin/shard-read -q --images no --seed 4";
my $n = 0;
sub keys_of { my ($how) = @_;
    $n++;
    my $rc = run("$read $how --index i$n -o s$n $shards");
    return $rc ? "failed: $said" : join ' ', map { (split /\t/)[1] } grep { !/^#/ && /\t/ } split /\n/, slurp("i$n");
}
my $plain = keys_of('--shuffle 30');
my $how = '--shuffle 30 --group-labels labels --group 4';
my $grouped = keys_of($how);
my @p = split / /, $plain;
my @g = split / /, $grouped;
is(scalar @g, 73, 'all samples') or diag $grouped;
isnt($grouped, $plain, 'in another order');
my $windows = 0;
for (my $at = 0; $at < @g; $at += 30) {
    my $end = $at + 30 < @g ? $at + 29 : $#g;
    $windows += join(' ', sort @p[$at .. $end]) eq join(' ', sort @g[$at .. $end]);
}
is($windows, 3, 'each window has its samples');
# Runs: as long as they can be, of at most 4, but for runs of one label that happen to meet.
my $wrong = 0;
for (my $at = 0; $at < @g; $at += 30) {
    my $end = $at + 30 < @g ? $at + 29 : $#g;
    my (%count, %runs);
    $count{ $label{$_} }++ for @g[$at .. $end];
    for my $l (grep { $_ >= 0 } keys %count) {
        my ($run, @runs) = (0);
        for my $k (@g[$at .. $end], undef) {
            if (defined $k && $label{$k} == $l) { $run++; next; }
            push @runs, $run if $run;
            $run = 0;
        }
        # runs that meet make longer ones; all but one then have a length that is a multiple of 4
        $wrong++ if grep({ $_ % 4 } @runs) > 1;
    }
}
is($wrong, 0, 'of a label four in a row, its last run may be shorter');
is(keys_of("$how -t 3"), $grouped, 'for other threads');
is(join(' ', map { keys_of("$how --part $_/3") } 1 .. 3), $grouped, 'parts put together');
is(join(' ', keys_of("$how --limit 37"), keys_of("$how --skip 37")), $grouped, 'a run and its continuation');
isnt(keys_of("$how --epoch 1"), $grouped, 'another epoch is another order');
is(join(' ', sort split / /, keys_of("$how --keep keep")), join(' ', sort split / /, keys_of('--shuffle 30 --keep keep')), 'with masks');

# A training run resumed in the middle of a window compares the keys of what it has had.
my $train = "$bin/distill-train -q --student student.json --tokenizer $vocab --batch 8 --seed 3 --loss clip --steps 14 --checkpoint-every 6 --keep-checkpoints all";
my $data = "$bin/shard-read -q --size 29 $how --seed {seed} --epoch {epoch} --skip {skip} $shards";
is(run("$train -o a --data '$data'"), 0, 'training') or diag $said;
my $model = slurp('a/open_clip_model.safetensors');
system('rm', '-r', 'a/checkpoints/step-00000014', 'a/checkpoints/step-00000012');
is(run("$train -o a --data '$data' --resume"), 0, 'resumed') or diag $said;
ok(slurp('a/open_clip_model.safetensors') eq $model, '... to the same bytes');
isnt(run("$train -o a --resume --resume-from 6 --data '" . $data =~ s/--group 4/--group 5/r . "'"), 0, 'in another order');
like($said, qr/are not those that the checkpoint was made with/, '... is refused') or diag $said;

for my $case (
    ['--shuffle 30 --group 4', 2, qr/go together/],
    ['--group-labels labels --group 4', 2, qr/--group needs --shuffle/],
    ['--shuffle 30 --group-labels none --group 4', 1, qr{none/00000\.npy|none/00001\.npy}],
) {
    is(run("$read $case->[0] -o no $shards"), $case->[1], $case->[0]);
    like($said, $case->[2], '... is refused') or diag $said;
}
Npy::npy('labels/00000.npy', '<i4', '39, 1', "\0" x 156);
is(run("$read $how -o no $shards"), 1, 'labels of another length');
like($said, qr/labels 'labels\/00000\.npy' have 39 rows/, '... are refused') or diag $said;
done_testing();
