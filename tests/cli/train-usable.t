#!/usr/bin/env perl
# distill-train on data of which no sample can be used: it ends after the first epoch and counts why. What it writes is checked
# before the data are opened.
use strict;
use warnings;
use lib 'tests/lib';
use File::Path qw(make_path);
use Test::More;
use Train;

shard('a/00000.tar', 12, 'a');
embed('t', 'a/00000.tar');
my $base = "timeout -s KILL 100 $bin/distill-train -q --student student.json --tokenizer $vocab --batch 4 --seed 3 --progress never";
my $read = "$bin/shard-read -q --size 29";

# Shards without captions, or without pictures that can be decoded: the command is run once.
my $tar = Archive::Tar->new;
$tar->read('a/00000.tar') or die;
my $bare = Archive::Tar->new;
my $broken = Archive::Tar->new;
for my $f ($tar->get_files) {
    my $text = $f->name =~ /txt$/;
    $bare->add_data($f->name, $f->get_content) unless $text;
    $broken->add_data($f->name, $text ? "\xff\xfe" : $f->get_content);
}
make_path('bare', 'broken');
$bare->write('bare/00000.tar') or die;
$broken->write('broken/00000.tar') or die;
my $n = 0;
sub train {
    my ($data, $more) = @_;
    $n++;
    unlink 'runs';
    return run("$base --steps 6 -o out$n ${\($more // '--loss clip')} --data 'sh -c \"echo {epoch} >> runs; $data\"'");
}
is(train("$read bare/00000.tar"), 1, 'no captions');
like(said_last(), qr/^distill-train: data of epoch 0: none of its 12 samples can be trained on: 12 without caption; .*KEY\.txt/, '... are counted, with where to look');
like(slurp('runs'), qr/^0\n(1\n)?\z/, '... and the command is not run for ever');
is(run("$base --loss clip --steps 3 -o out$n --data '$read a/00000.tar'"), 0, '... and its folder can be used') or diag $said;
is(train("$read broken/00000.tar"), 1, 'captions that are not UTF-8');
like(said_last(), qr/none of its 12 samples .*12 (with a caption that is not UTF-8|without caption)/, '... are counted');
is(run("$read --size 29 bare/00000.tar | $base --steps 6 -o pipe --loss clip"), 1, 'a pipe without captions');
like(said_last(), qr/samples: none of its 12 samples .*12 without caption/, '... is told the same');

# A teacher that could embed nothing: rows of zeros.
my $npy = slurp('image-t/00000.npy');
my $head = 10 + unpack 'v', substr $npy, 8, 2;
make_path('image-zero');
spew('image-zero/00000.npy', substr($npy, 0, $head) . "\0" x (length($npy) - $head));
my $teacher = '--loss instance=1 --epoch-samples 12 --teacher-image image-zero --teacher-text text-t';
is(train("$read a/00000.tar", $teacher), 1, 'a teacher without a row');
like(said_last(), qr/none of its 12 samples .*12 without row in --teacher-image; .*teacher-embed/, '... is named');

# Masks that leave nothing.
make_path('keep');
mask('keep/00000.npy', (0) x 12);
is(train("$read --keep keep a/00000.tar"), 1, 'all samples masked');
like(said_last(), qr/data of epoch 0: no samples: .*--keep/, '... is said');

# An epoch may end with less than a batch, and a later one may be the first to fail.
is(train("$read --limit 3 a/00000.tar"), 0, 'epochs of less than a batch') or diag $said;
is(train("$read \$(test {epoch} = 0 && echo a || echo bare)/00000.tar"), 1, 'a second epoch without captions');
like(said_last(), qr/data of epoch 1: none of its 12 samples/, '... is named');
ok(-d "out$n/checkpoints/step-00000003", '... after a checkpoint');
# A resumed run has had the usable samples of the epoch already.
is(run("cp bare/00000.tar bare/00001.tar; $read -o one.samples a/00000.tar; $read -o mix.samples a/00000.tar bare/00001.tar"), 0, 'samples') or diag $said;
is(run("$base --loss clip --steps 3 -o mixed --data 'cat mix.samples'"), 0, 'a run that stops within an epoch') or diag $said;
is(run("$base --loss clip --steps 6 -o mixed --extend --data 'cat mix.samples'"), 0, '... goes on where only unusable ones are left in it') or diag $said;

# Rows of a part of a shard are never taken for the whole without a word.
make_path('image-part', 'text-part');
is(run("$read --limit 8 a/00000.tar | $bin/teacher-embed -q -m $data/models/odd --tokenizer $vocab --partial --image-out image-part/00000.npy --text-out text-part/00000.npy -"), 0, 'rows of a part') or diag $said;
like(slurp('image-part/00000.npy.json'), qr/"partial":\s*true/, '... say so');
my $part = '--loss instance=1 --teacher-image image-part --teacher-text text-part';
is(train("$read a/00000.tar", $part), 1, '... are refused where the shard is read to its end');
like(said_last(), qr/00000\.tar .*8 rows/, '... by the name of the shard');
is(run(($base =~ s{ -q }{ }r) . " $part --steps 1 -o short one.samples"), 0, 'a run that ends before that') or diag $said;
like($said, qr/part of their shard.*not checked/, '... says what was not checked');

# What is written is checked first.
is(train("$read a/00000.tar", '--loss clip --log none/log.jsonl'), 1, 'a log in no folder');
like(said_last(), qr/none\/log\.jsonl/, '... is named');
ok(!-e 'runs' && !-e "out$n", '... before the data command is run');
mkdir 'folder';
is(train("$read a/00000.tar", '--loss clip --log folder'), 1, 'a log that is a folder');
ok(!-e 'runs', '... is refused as early');
spew('file', '');
is(run("$base --steps 2 --loss clip -o file/out --data 'touch runs'"), 1, 'an output below a file');
ok(!-e 'runs', '... is refused as early');
done_testing;
