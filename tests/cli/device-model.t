#!/usr/bin/env perl
# teacher-embed and distill-train with --device cuda (run on the processor where there is no GPU): what is said about
# memory, the CPU's results within rounding, the same bytes for other batches and with and without graphs, a stopped run
# that resumes to the bit.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
my ($bin, $build, $data) = map { abs_path($_) } $ENV{BIN} // 'bin', $ENV{BUILD} // 'build/release', 'tests/data';
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;

my $said = '';
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub run { my $rc = system("@_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub gpu { my ($tool, $args, $env) = @_; return run($env // '', "$build/cuda-tools/$tool --device cuda $args"); }
sub floats { my ($f) = @_; my $t = slurp($f); return unpack 'f<*', substr $t, 10 + unpack('v', substr $t, 8, 2); }
sub distance {
    my ($worst, @x) = (0, floats($_[0]));
    my @y = floats($_[1]);
    return 9 if !@x || @x != @y;
    for my $i (0 .. $#x) { my $d = abs($x[$i] - $y[$i]); $worst = $d if $d > $worst; }
    return $worst;
}

my $vocab = "--tokenizer $data/tokenizer/openai";
my $embed = "-m $data/models/odd $vocab --out-dtype f32";
is(run("$bin/shard-read -q --size 29 -o s $data/shards/0000?.tar"), 0, 'samples') or diag $said;
is(run("$bin/teacher-embed -q $embed --image-out ci.npy --text-out ct.npy s"), 0, 'teacher-embed, CPU') or diag $said;
is(gpu('teacher-embed', "$embed --image-out gi.npy --text-out gt.npy s"), 0, 'CUDA') or diag $said;
like($said, qr/^teacher-embed: memory: [\d.]+ GiB on cuda:0 \(weights [\d.]+, buffers [\d.]+, the device's own [\d.]+\); [\d.]+ of [\d.]+ are free$/m,
    'its memory is said');
for my $what ('i', 't') {
    my $d = distance("c$what.npy", "g$what.npy");
    ok($d < 2e-5, "the CPU's rows ($d)");
}
is(gpu('teacher-embed', "-q $embed --batch 5 --image-out hi.npy --text-out ht.npy s"), 0, 'smaller batches, from graphs') or diag $said;
ok(slurp("h$_.npy") eq slurp("g$_.npy"), 'the same bytes') for 'i', 't';
is(gpu('teacher-embed', "-q $embed --batch 5 --image-out hi.npy --text-out ht.npy s", 'CLIP_CID_CUDA_GRAPHS=0'), 0, 'without graphs') or diag $said;
ok(slurp("h$_.npy") eq slurp("g$_.npy"), 'the same bytes') for 'i', 't';
is(gpu('teacher-embed', "$embed --image-out hi.npy --text-out ht.npy s"), 0, 'what it needs') or diag $said;
my ($usual) = $said =~ /memory: ([\d.]+) GiB on cuda:0/;
my $short = int(($usual - 0.02) * (1 << 30));
is(gpu('teacher-embed', "$embed --image-out hi.npy --text-out ht.npy s", "CUDA_ON_CPU_MEMORY=$short"), 0, 'with less it goes in shorter passes') or diag $said;
my ($taken) = $said =~ /memory: ([\d.]+) GiB on cuda:0/;
cmp_ok($taken, '<', $usual, 'which need less');
ok(slurp("h$_.npy") eq slurp("g$_.npy"), 'the same bytes') for 'i', 't';
is(gpu('teacher-embed', "-q $embed --batch 5 --image-out no.npy s", 'CUDA_ON_CPU_FAIL=2'), 1, 'a kernel that fails');
like($said, qr/an illegal memory access/, 'is found at a wait');
like($said, qr/given last: [a-z].*, .*CUDA_LAUNCH_BLOCKING=1/, 'which names the kernels given last');
is(gpu('teacher-embed', "$embed --image-out no.npy s", 'CUDA_ON_CPU_MEMORY=100000000'), 1, 'too little memory');
like($said, qr/this needs at least [\d.]+ GiB on cuda:0 .*; 0\.09 of 0\.09 are free/, 'is said with the sizes, before the first batch');
ok(!-e 'no.npy', 'and no file is there');

open my $h, '>', 'student.json';
print $h encode_json({ embed_dim => 20, vision_cfg => { image_size => 29, patch_size => 7, width => 24, layers => 2, head_width => 12 },
    text_cfg => { context_length => 11, vocab_size => 1214, width => 16, layers => 2, heads => 2 } });
close $h;
make_path('image', 'text');
for my $shard (0 .. 2) {
    is(run("$bin/teacher-embed -q -m $data/models/odd $vocab --image-out image/0000$shard.npy --text-out text/0000$shard.npy --shards $data/shards/0000$shard.tar"), 0, 'teacher') or diag $said;
}
my $train = "--student student.json $vocab --batch 8 --seed 3 --teacher-image image --teacher-text text --loss instance=1,clip=1 --steps 6"
    . " --data '$bin/shard-read -q --size 29 --shuffle 64 --seed {seed} --epoch {epoch} $data/shards/00000.tar $data/shards/00001.tar $data/shards/00002.tar'";
sub lines { return map { decode_json($_) } split /\n/, slurp("$_[0]/log.jsonl"); }
is(run("$bin/distill-train -q $train -o c"), 0, 'distill-train, CPU') or diag $said;
is(gpu('distill-train', "$train --checkpoint-every 4 -o g"), 0, 'CUDA') or diag $said;
like($said, qr/memory: [\d.]+ GiB \(.*the device's own [\d.]+\), data [\d.]+ GiB; [\d.]+ GiB are free of [\d.]+ on cuda:0/, 'its memory is said');
my ($worst, @c) = (0, lines('c'));
my @g = lines('g');
for my $i (0 .. 5) { for my $k ('loss', 'grad_norm') { my $d = abs($g[$i]{$k} / $c[$i]{$k} - 1); $worst = $d if $d > $worst; } }
ok(@g == 6 && $worst < 1e-4, "the CPU's losses ($worst)");
my $whole = slurp('g/open_clip_model.safetensors');
remove_tree('g/checkpoints/step-00000006');
is(gpu('distill-train', "-q $train --checkpoint-every 4 -o g --resume"), 0, 'resumed') or diag $said;
ok(slurp('g/open_clip_model.safetensors') eq $whole, 'the same bytes');
is(gpu('distill-train', "$train -o no", 'CUDA_ON_CPU_MEMORY=100000000'), 1, 'too little memory');
like($said, qr/this needs [\d.]+ GiB \(.*0\.09 GiB are free of 0\.09 on cuda:0/, 'is said with the sizes, before the first step');
my $plan = "--dry-run --student $data/../../conf/models/emoji-4x128.json $vocab --loss clip --steps 6 --batch 1024";
is(gpu('distill-train', $plan, 'CUDA_ON_CPU_MEMORY=768435456'), 0, 'a batch that does not fit at once') or diag $said;
like($said, qr/accumulate (?!1:)(\d+): \1 pieces of (?:at most )?\d+ samples/, '... goes in pieces');
is(gpu('distill-train', "$plan --accumulate 1", 'CUDA_ON_CPU_MEMORY=768435456'), 1, 'in one it is refused');
like($said, qr/are free of [\d.]+ on cuda:0: --accumulate \d+ fits/, '... with what would fit');

# conf/laion400m.mk's student, batch and clusters: on a card of 24 GiB, whatever the batch's matrices would take whole.
make_path('bigG');
open my $teacher, '>', 'bigG/open_clip_config.json' or die;
print $teacher encode_json({ embed_dim => 1280, vision_cfg => { image_size => 224, patch_size => 14, width => 1664, layers => 48, head_width => 104 },
    text_cfg => { context_length => 77, vocab_size => 49408, width => 1280, layers => 32, heads => 20 } });
close $teacher;
my $laion = "--dry-run --student $data/../../conf/models/ViT-B-32.json $vocab --teacher bigG --clusters 1000000 --batch 32768 --epochs 32 --epoch-samples 233000000 --dtype bf16";
is(gpu('distill-train', $laion, 'CUDA_ON_CPU_MEMORY=25769803776'), 0, 'a plan for a million clusters') or diag $said;
like($said, qr/mapped to the teacher's 1280.*accumulate (\d+): \1 pieces/s, '... in pieces');
done_testing();
