#!/usr/bin/env perl
# distill-train takes together only what belongs together: rows of these samples, embeddings of one teacher, labels of these
# centroids over these embeddings. What it cannot know it does not refuse.
use strict;
use warnings;
use lib 'tests/lib';
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use Test::More;
use Train;

shard('one/00000.tar', 40, 'a');
shard('two/00000.tar', 40, 'b'); # as many samples, others
embed('one', 'one/00000.tar');
embed('two', 'two/00000.tar');
my $train = "$bin/distill-train -q --student student.json --tokenizer $vocab --batch 4 --seed 3 --loss instance=1";
my $n = 0;
sub train { my ($teacher, $read, $more) = @_; $n++; return run("$train --steps 2 -o out$n $teacher ${\($more // '')} --data '$bin/shard-read -q --size 29 $read'"); }
my $own = '--teacher-image image-one --teacher-text text-one';
my $other = '--teacher-image image-two --teacher-text text-two';

# Keys are compared in masked and sliced runs too: an epoch of the shard comes to its end.
make_path('keep');
mask('keep/00000.npy', map { $_ % 3 ? 1 : 0 } 0 .. 39);
for my $how ('', '--keep keep', '--skip 32', '--limit 5', '--part 2/3', '--keep keep --shuffle 16 --skip 20 --limit 5') {
    my $steps = $how =~ /limit|skip/ ? '--steps 5' : '--steps 15';
    is(train($own, "$how one/00000.tar", $steps), 0, "its own rows: $how") or diag $said;
    is(train($other, "$how one/00000.tar", $steps), 1, "rows of other samples: $how");
    like($said, qr/key digests differ/, '... are refused');
}
done_testing;
