#!/usr/bin/env perl
# The plan of distill-train: what is counted makes the schedule, widths that differ are mapped, the batch goes in as few
# pieces as fit, --dry-run says all of it and writes nothing.
use strict;
use warnings;
use lib 'tests/lib';
use Archive::Tar;
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Test::More;
use Train;

shard("shards/0000$_.tar", 20, "s$_-") for 0 .. 2;
spew('picture', (grep { $_->name =~ /\.jpg$/ } Archive::Tar->new('shards/00000.tar')->get_files)[0]->get_content);
embed('a', "shards/0000$_.tar") for 0 .. 2;
clusters('a', '');
make_path('keep');
mask("keep/0000$_.npy", map { $_ % 4 ? 1 : 0 } 0 .. 19) for 0 .. 2;    # 15 of 20
my $train = "$bin/distill-train --student student.json --tokenizer $vocab --seed 3 --batch 4 --warmup 1";
my $teacher = '--teacher-image image-a --teacher-text text-a --labels labels-a --centroids c-a.npy';
sub reader { return "--data '$bin/shard-read -q --size 29 --seed {seed} --epoch {epoch} @_'"; }
my @three = map { "shards/0000$_.tar" } 0 .. 2;
my $masked = reader('--keep keep', @three);
sub state { my ($out) = @_; my @s = sort glob "$out/checkpoints/*/state.json"; return decode_json(slurp($s[-1])); }
sub rates { return map { $_->{lr} } log_lines("$_[0]/log.jsonl"); }

# A student of another width than the teacher's.
my $narrow = slurp('student.json') =~ s/"embed_dim":20/"embed_dim":12/r;
spew('narrow.json', $narrow);
is(run("$train $teacher --steps 3 --student narrow.json -o w1 --checkpoint-every 2 " . reader(@three)), 0, 'a narrower student') or diag $said;
like($said, qr/the student's 12 columns are mapped to the teacher's 20/, '... is mapped, and that is said');
is(run("$train $teacher --steps 3 --student narrow.json --project -o w2 " . reader(@three)), 0, 'with --project') or diag $said;
is(slurp('w1/open_clip_model.safetensors'), slurp('w2/open_clip_model.safetensors'), '... the same bytes');
unlike(slurp('w1/open_clip_model.safetensors'), qr/project\./, 'the maps are not exported');
remove_tree('w1/checkpoints/step-00000003');
is(run("$train $teacher --steps 3 --student narrow.json --resume -o w1 --checkpoint-every 2 " . reader(@three)), 0, 'taken up again') or diag $said;
is(slurp('w1/open_clip_model.safetensors'), slurp('w2/open_clip_model.safetensors'), '... the same bytes');
is(run("$train $teacher --steps 3 --student narrow.json --no-project -o w3 " . reader(@three)), 1, 'widths that differ, and no projection');
like($said, qr/12 columns.*20.*--no-project/, '... are refused');
is(run("$train $teacher --steps 2 -o w4 " . reader(@three)), 0, 'one width') or diag $said;
unlike($said, qr/mapped/, '... needs no map');

# Epochs count what the masks keep and what has not failed.
is(run("$train $teacher --keep keep -o e1 $masked"), 0, 'an epoch with masks') or diag $said;
like($said, qr/data: 3 shards of 60 samples, less 15 by the keep masks, 0 failed, 0 without label: 45 an epoch/, 'what is counted');
like($said, qr/schedule: 1 epochs of 45 samples: 11 steps of 4 samples, 1 of them warm-up/, 'the schedule');
ok(index($said, 'schedule:') < index($said, 'memory:'), '... before the first step');
my @rates = rates('e1');
is(scalar @rates, 11, 'as many steps');
sub last_rate { my ($n) = @_; my $pi = 4 * atan2(1, 1); return 1e-3 / 2 * (1 + cos($pi * ($n - 2) / ($n - 1))); }
cmp_ok(abs($rates[-1] - last_rate(11)), '<', 1e-9, 'the cosine ends with the data');
is(run("$train $teacher -o e2 $masked"), 1, 'the masks are not told: the data end early');
like($said, qr/the data ended after 11 of 15 steps/, '... is an error');
ok(-e 'e2/checkpoints/step-00000011/state.json', '... with a checkpoint');
ok(!-e 'e2/open_clip_config.json', '... and no model');
is(run("$train $teacher --steps 15 --epochs 1 -o e3 $masked"), 0, 'with --steps it is none') or diag $said;
like($said, qr/the data ended after 11 of 15 steps/, '... but is said');
is(run("$train $teacher --keep keep --epochs 3 -o e4 $masked"), 0, 'three epochs') or diag $said;
is(scalar(rates('e4')), 33, '... 135 samples are 33 steps');

# Failed rows and rows without label.
sub cut { my ($file, $row, $bytes, $with) = @_; my $t = slurp($file); substr($t, length($t) - (20 - $row) * $bytes, $bytes) = $with x $bytes; spew($file, $t); unlink "$file.json"; }
copy("$_-a/00001.npy", "$_-saved.npy") for 'image', 'text', 'labels';
cut('image-a/00001.npy', 1, 40, "\0");
cut('text-a/00001.npy', 2, 40, "\0");
cut('text-a/00001.npy', 3, 40, "\0");
cut('labels-a/00001.npy', 5, 4, "\xff");
is(run("$train $teacher --keep keep --dry-run -t 3"), 0, 'rows of zeros and labels of -1') or diag $said;
like($said, qr/less 15 by the keep masks, 3 failed, 1 without label: 41 an epoch/, '... are not counted');
is(run("$train $teacher --keep keep -o z $masked"), 0, '... and not trained on') or diag $said;
is(scalar(rates('z')), 10, '... so the schedule ends with the data');
like($said, qr/10 steps, 40 samples; passed over: 0 incomplete, 3 without teacher row, 1 without label/, '... all of it');
copy("$_-saved.npy", "$_-a/00001.npy") for 'image', 'text', 'labels';

# Samples that failed: their sidecars tell, or the rows.
{
    my $tar = Archive::Tar->new;
    for (0 .. 8) {
        $tar->add_data("b$_.jpg", $_ % 3 ? slurp('picture') : 'no picture');
        $tar->add_data("b$_.txt", $_ == 4 ? "\xff\xfe" : 'a caption');
    }
    $tar->write('shards/00005.tar');
}
embed('b', 'shards/00005.tar');
my ($failed) = map { join ',', @{ decode_json(slurp("$_-b/00005.npy.json"))->{failed} } } 'image';
is($failed, '0,3,6', 'teacher-embed tells which pictures failed');
is(join(',', @{ decode_json(slurp('text-b/00005.npy.json'))->{failed} }), '4', 'and which captions');
my $broken = "$train --loss instance --teacher-image image-b --teacher-text text-b";
is(run("$broken --dry-run"), 0, 'they are counted') or diag $said;
like($said, qr/1 shards of 9 samples.* 4 failed.*: 5 an epoch/, '... by the sidecars');
unlink 'image-b/00005.npy.json', 'text-b/00005.npy.json';
is(run("$broken --dry-run"), 0, '... and without them') or diag $said;
like($said, qr/1 shards of 9 samples.* 4 failed.*: 5 an epoch/, '... the same');

# Only the shards that are read count; files of others, and foreign ones, do no harm.
spew('list', join('', map { "$_\n" } @three[0, 2]));
is(run("$train $teacher --keep keep --shards-from list -o l1 " . reader('--keep keep --files-from list')), 0, 'a list of shards') or diag $said;
like($said, qr/data: 2 shards of 40 samples.*: 30 an epoch/, '... is what is counted');
spew('bad-list', "shards/00000.tar\nelsewhere/00000.tar\n");
is(run("$train $teacher --shards-from bad-list --dry-run"), 1, 'two shards of one name');
like($said, qr/two shards are called '00000'/, '... are refused');
spew('bad-list', "shards/00000.tar\nshards/00007.tar\n");
is(run("$train $teacher --shards-from bad-list --dry-run"), 1, 'a shard without files');
like($said, qr/00007\.npy/, '... is named');
mask('image-a/notes.npy', 1 .. 7);
mask('labels-a/notes.npy', 1 .. 7);
mask('text-a/notes.npy', 1 .. 7);
is(run("$train $teacher --keep keep --dry-run"), 0, 'a foreign file') or diag $said;
like($said, qr{image-a/notes\.npy is no part of the data}, '... is named');
like($said, qr/: 45 an epoch/, '... and not counted');
unlink glob '*-a/notes.npy';

# Lengths that no number holds.
is(run("$train $teacher --epoch-samples 10000000000000000000 --epochs 3 --dry-run"), 1, 'too many samples');
like($said, qr/3 epochs of 10000000000000000000 samples are too many/, '... are refused');

# A resumed run keeps its length when shards are added, and its pieces.
is(run("$train --loss clip --epoch-samples 45 --checkpoint-every 4 --accumulate 2 -o r $masked"), 0, 'a run to take up') or diag $said;
my $pieces_of_two = slurp('r/open_clip_model.safetensors');
remove_tree('r/checkpoints/step-00000011');
unlink glob 'r/open_clip*';
is(run("$train --loss clip --epoch-samples 45 --checkpoint-every 4 --resume -o r $masked"), 0, 'with --accumulate auto') or diag $said;
like($said, qr/accumulate 2: 2 pieces of 2 samples/, '... it keeps its pieces');
is(state('r')->{options}{accumulate}, 2, '... as recorded');
ok(slurp('r/open_clip_model.safetensors') eq $pieces_of_two, '... and the same bytes');

is(run("$train --loss clip --steps 11 --resume -o r $masked"), 1, 'taken up in steps');
like($said, qr/made with --epochs 1: give that again/, '... is refused');
is(run("$train $teacher --steps 4 --checkpoint-every 2 --loss instance,cluster=0.1 --lr 0.0003 -o words $masked"), 0, 'weights that no float holds') or diag $said;
remove_tree('words/checkpoints/step-00000004');
is(run("$train $teacher --steps 4 --resume --loss instance,cluster=0.3 --lr 0.0003 -o words $masked"), 1, 'other weights');
like($said, qr/made with --loss instance=1,cluster=0\.1, now it is instance=1,cluster=0\.3$/m, "... are named in the user's words");
is(run("$train $teacher --steps 4 --resume --loss instance,cluster=0.1 --lr 0.0001 -o words $masked"), 1, 'another rate');
like($said, qr/made with --lr 0\.0003, now it is 0\.0001$/m, '... likewise');
is(run("$train $teacher --resume --loss instance,cluster=0.1 --lr 0.0003 -o words $masked"), 1, 'taken up in epochs');
like($said, qr/made with --steps 4: give that again/, '... is refused');

# Shards that are added later change neither the length nor what is compared.
make_path('some/image', 'some/text', 'some/labels');
sub bring { my ($i) = @_; for my $k ('image', 'text', 'labels') { copy("$k-a/0000$i.npy$_", "some/$k/0000$i.npy$_") for '', '.json'; } }
bring($_) for 0, 1;
my $some = '--teacher-image some/image --teacher-text some/text --labels some/labels --centroids c-a.npy --keep keep --checkpoint-every 3 --epochs 2';
my $two = reader('--keep keep', @three[0, 1]);
is(run("$train $some -o grown $two"), 0, 'two shards') or diag $said;
like($said, qr/2 epochs of 30 samples: 15 steps/, '... and their length');
my $whole = slurp('grown/open_clip_model.safetensors');
remove_tree('grown/checkpoints/step-00000015');
unlink glob 'grown/open_clip*';
bring(2);
is(run("$train $some --resume -o grown $two"), 0, 'taken up with a third in the folders') or diag $said;
ok(slurp('grown/open_clip_model.safetensors') eq $whole, '... the same bytes');
is(run("$train $some -o grown2 $two"), 1, 'a new run counts all three');
is(run("$train $some --shards-from two -o grown2 $two"), 1, 'a list that is not there');
spew('two', join('', map { "$_\n" } @three[0, 1]));
is(run("$train $some --shards-from two -o grown3 $two"), 0, 'or those of its list') or diag $said;
ok(slurp('grown3/open_clip_model.safetensors') eq $whole, '... the same bytes');
unlink 'some/text/00000.npy.json';
remove_tree('grown/checkpoints/step-00000015');
unlink glob 'grown/open_clip*';
is(run("$train $some --resume -o grown $two"), 1, 'one of its shards is another');
like($said, qr/--teacher-text is not what the checkpoint was made with/, '... is refused');

# Pieces.
is(run("$train --loss clip --steps 2 --accumulate 3 -o p $masked"), 0, 'pieces of unequal size') or diag $said;
like($said, qr/accumulate 2: 2 pieces of 2 samples/, '... as many as there are');
is(run("$train --loss clip --steps 2 --batch 10 --accumulate 4 -o p10 $masked"), 0, 'or a smaller last one') or diag $said;
like($said, qr/accumulate 4: 4 pieces of at most 3 samples/, '... is said');
is(run("$train --loss clip --steps 2 --accumulate $_ -o no $masked"), 2, "--accumulate $_") for 0, 5, 'many', '';

# What a config asks of training and is not there is no secret.
(my $last = slurp('student.json')) =~ s/"text_cfg":\{/"text_cfg":{"embed_cls":true,/ or die;
spew('last.json', $last);
is(run("$train $teacher --steps 2 --student last.json -o last " . reader(@three)), 1, 'a class token behind the text');
like($said, qr/a class token behind the text \(CoCa\) is not trained/, '... is refused');

# As few pieces as fit; what does not fit is refused with what would.
sub limited { my ($mib, $command) = @_; return run("bash -c \"ulimit -v \$(($mib * 1024)); exec $command\""); }
spew('deep.json', encode_json({ embed_dim => 64, vision_cfg => { image_size => 29, patch_size => 7, width => 256, layers => 12, head_width => 64 },
    text_cfg => { context_length => 11, vocab_size => 1214, width => 64, layers => 2, heads => 1 } }));
my $dry = "$bin/distill-train --student deep.json --tokenizer $vocab --dry-run --loss clip --steps 5";
SKIP: {
    skip 'an address sanitizer needs all of the address space', 8 if $ENV{ASAN};
    is(limited(4000, "$dry --batch 256"), 0, 'a batch that fits') or diag $said;
    like($said, qr/accumulate 1: the batch of 256 in one piece/, '... in one piece');
    is(limited(4000, "$dry --batch 4096"), 0, 'a large batch') or diag $said;
    like($said, qr/accumulate (\d+): \1 pieces of/, '... in more');
    my ($pieces) = $said =~ /accumulate (\d+):/;
    cmp_ok($pieces // 0, '>', 1, '... as many as it takes');
    is(limited(4000, "$dry --batch 4096 --accumulate 1"), 1, 'in one piece it does not fit');
    like($said, qr/GiB are free \(ulimit -v\): --accumulate \d+ fits/, '... and what would is said');
    my ($would) = $said =~ /--accumulate (\d+) fits/;
    is(limited(4000, "$dry --batch 4096 --accumulate $would"), 0, '... and does') or diag $said;
}

# A tokenizer of another model is refused wherever texts are made into tokens.
is(run("$train --loss clip --steps 1 --export-hf -o both $masked"), 0, "Hugging Face's layout") or diag $said;
make_path('hf');
copy("both/$_", "hf/$_") for 'model.safetensors', 'preprocessor_config.json';
spew('hf/config.json', slurp('both/config.json') =~ s/"eos_token_id":\s*\K\d+/7/gr);
for my $how ("$bin/distill-train --dry-run --init hf --tokenizer $vocab --loss clip --steps 1", "$bin/zs-eval -m hf --tokenizer $vocab -o no.jsonl none", "$bin/teacher-embed -m hf --tokenizer $vocab --text-out no.npy --shards $three[0]") {
    my ($tool) = $how =~ m{([\w-]+) -};
    is(run($how), 1, "$tool: another end-of-text id");
    like($said, qr/end-of-text id is 1213, the model reads a text at id 7/, '... is refused');
}

# A vocabulary that is a file comes with the model and its checkpoints.
is(run("$bin/distill-train --student student.json --tokenizer $vocab/bpe_simple_vocab_16e6.txt.gz --seed 3 --batch 4 --loss clip --steps 2 -o file $masked"), 0, '--tokenizer FILE') or diag $said;
for my $folder ('file', 'file/checkpoints/step-00000002') {
    is(run("$bin/teacher-embed -q -m $folder --no-images --text-out t.npy --shards $three[0]"), 0, "$folder has its tokenizer") or diag $said;
}

# --dry-run before there is anything but the shards: it writes nothing.
copy('narrow.json', 'fresh.json');
my $before = join ' ', sort glob '* */* */*/*';
is(run("$bin/distill-train --dry-run --student fresh.json --tokenizer $vocab --teacher $data/models/odd -o new/out --clusters 7 --keep no-keep --shards-from list --teacher-image no/image --teacher-text no/text --labels no/labels --centroids no/c.npy --epochs 2 --batch 8"), 0, 'nothing is made yet') or diag $said;
like($said, qr/mapped to the teacher's 20/, 'the widths are known');
like($said, qr/clusters 0\.\d+/, 'and the memory');
like($said, qr/schedule: not known/, 'the schedule is not');
like($said, qr/disk: [\d.]+ GiB \(3 checkpoints of [\d.]+, the model [\d.]+\); [\d.]+ GiB are free/, 'and the disk');
is(join(' ', sort glob '* */* */*/*'), $before, 'nothing is written');
is(run("$bin/distill-train --dry-run --student fresh.json --tokenizer $vocab --teacher $data/models/odd --clusters 7 --epoch-samples 100 --batch 8"), 0, 'with the least that is needed') or diag $said;
like($said, qr/12 steps of 8 samples/, 'a length that is given');
is(run("$bin/distill-train --dry-run --student fresh.json --tokenizer $vocab --teacher $data/models/odd --steps 5"), 2, 'clusters that nothing tells of');
is(run("$bin/distill-train --dry-run --student fresh.json --tokenizer $data/models/odd --loss clip --steps 5"), 1, 'no tokenizer');
spew('negative.json', slurp('student.json') =~ s/"layers":1/"layers":1,"ls_init_value":-0.1/r);
is(run("$bin/distill-train --dry-run --student negative.json --tokenizer $vocab --loss clip --steps 5"), 1, 'a negative layer scale');
like($said, qr/tower: ls_init_value -0\.1/, '... is refused by name');
is(run("$bin/distill-train --dry-run --student none.json --tokenizer $vocab --loss clip --steps 5"), 1, 'no student');
is(run("$bin/distill-train --dry-run --student fresh.json --tokenizer $vocab --loss instance --teacher-image image-a --teacher-text gone --steps 5"), 1, 'no embeddings, and no teacher');
like($said, qr/gone/, '... are named');
is(run("$train $teacher --dry-run --teacher $data/models/tiny --steps 5"), 1, 'another teacher');
like($said, qr/20.*models\/tiny/, '... is refused');
is(run("$bin/distill-train --student none.json --loss clip --steps 5 -o no --data 'cat nothing'"), 1, 'a student that is not there');
like($said, qr/cannot open 'none\.json': No such file/, '... is named, and not its tokenizer') or diag $said;
is(run("$bin/distill-train --student fresh.json --tokenizer $vocab --loss clip --steps 5 -o no --data 'cat nothing' nothing.samples"), 2, 'samples twice');
like($said, qr/SAMPLES 'nothing\.samples' and --data: give one of them/, '... are refused');
is(run("$bin/distill-train --dry-run --student fresh.json --tokenizer $vocab --loss clip --steps 5 --margin 0.3 --filter 0.9 --sample-rate 0.5 --cluster-warmup 3 --freeze-centroids"), 0, 'options of clusters without clusters') or diag $said;
is(join(' ', $said =~ /warning: --([a-z-]+) has no effect: no term of --loss has clusters/g), 'margin filter sample-rate cluster-warmup freeze-centroids', '... are told of');
SKIP: {
    skip 'root may write everywhere', 1 if !$>;
    is(run("$bin/distill-train --dry-run --student fresh.json --tokenizer $vocab --loss clip --steps 5 -o /proc/x"), 1, 'a folder that cannot be made');
}
clusters('other', '--seed 9', 'image-a');
is(run("$train --teacher-image image-a --teacher-text text-a --labels labels-other --centroids c-a.npy --dry-run --steps 5"), 1, 'labels of other centroids');
like($said, qr/not made with the centroids/, '... are refused');
is(run("ulimit -n 32; $train $teacher --dry-run --steps 5"), 1, 'too few open files');
like($said, qr/ulimit -n \d+/, '... with the remedy');
done_testing;
