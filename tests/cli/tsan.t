#!/usr/bin/env perl
# Threads and ranks under the thread sanitizer: comm, losses, a step of training by threads as ranks, and distill-train with
# the thread that reads its parts. `make tsan` compiles six rooms for it; a race in the others is not seen.
use strict;
use warnings;
use lib 'tests/lib';
use Cwd qw(abs_path);
use Test::More;
$SIG{$_} = 'DEFAULT' for qw(HUP INT TERM USR2);
use Train;
my $source = abs_path("$data/../..");
my $cc = $ENV{CC} // 'cc';
plan skip_all => 'the address sanitizer is there already' if $ENV{ASAN};

# A program with a race: is there a thread sanitizer, and does it work on this kernel?
spew('race.c', "#include <pthread.h>\nint n;\nstatic void *add(void *x) { for (int i = 0; i < 1000; i++) n++; return x; }\n"
    . "int main(void) { pthread_t t[2]; for (int i = 0; i < 2; i++) pthread_create(&t[i], 0, add, 0);\n"
    . "for (int i = 0; i < 2; i++) pthread_join(t[i], 0); return 0; }\n");
plan skip_all => "no thread sanitizer: $said" if run("$cc -g -fsanitize=thread -o race race.c -pthread");
my $still = run('./race') && $said !~ /data race/ ? 'setarch -R ' : ''; # where the kernel lays programs out too freely for it
plan skip_all => "the thread sanitizer does not work here: $said" if !run("${still}./race") || $said !~ /data race/;

my $build = $ENV{BUILD} // 'build/release';
is(run("make -s -C $source BUILD=$build tsan >made"), 0, 'make tsan') or diag($said);
$build = "$source/$build";
sub clean {
    my ($command, $what) = @_;
    my $status = run("$still$command >out.txt");
    ok($status == 0 && $said !~ /ThreadSanitizer/, $what) or diag "status $status", $said, slurp("out.txt");
}
clean("$build/tsan/tests/unit/$_-test", $_) for 'comm/comm', 'losses/losses', 'train/ranks';

shard('a/00000.tar', 40, 'a');
embed('t', 'a/00000.tar');
clusters('t', '-k 4');
my $train = "$build/tsan/tools/distill-train --student student.json --tokenizer $vocab --batch 8 --accumulate 2 --progress never --steps 6 "
    . '--teacher-image image-t --teacher-text text-t --labels labels-t --centroids c-t.npy --checkpoint-every 2';
my $read = "$bin/shard-read -q --size 29 --part {part}/{parts} --shuffle 8 --seed {seed} --epoch {epoch} --skip {skip} a/00000.tar";
clean("$train -t 2 -o out --data '$read'", 'distill-train, two parts');
done_testing();
