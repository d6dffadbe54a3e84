#!/usr/bin/env perl
# pipeline.mk from a SigLIP 2 folder (Hugging Face's SiglipModel, Gemma's tokenizer) and from a PE-Core folder
# (open_clip's, CLIP's vocabulary) to the report, with students of their kinds: a SiglipModel, written in that layout and
# read again, trained with the sigmoid loss; and a plain CLIP. Weights are made from the goldens' formula, so the folder
# with the goldens is needed: CLIP_CID_SHARED or ../shared.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
use lib 'tests/cli';
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
my $shared = abs_path($ENV{CLIP_CID_SHARED} // '../shared');
plan skip_all => 'no goldens: set CLIP_CID_SHARED' unless $shared && -e "$shared/golden/teachers";
plan skip_all => 'built without libsentencepiece' if slurp("$bin/teacher-embed") =~ /this build has no libsentencepiece/;
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } qw(shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report);
my $dir = tempdir(CLEANUP => 1);
my $cc = $ENV{CC} // 'cc';
is(system("$cc -O2 -o $dir/make-weights $shared/golden/teachers/make-weights.c"), 0, 'make-weights') or BAIL_OUT('no compiler');

sub folder { my ($name, $weights, $tensors, @more) = @_;
    my $to = "$dir/$name";
    make_path($to);
    copy($_, "$to/") or die for grep { !/\.npy$|captions|facts/ } glob("$shared/golden/teachers/$name/*"), @more;
    spew("$to/tensors.tsv", $tensors->(slurp("$to/tensors.tsv"))) if $tensors;
    is(system("$dir/make-weights $to/tensors.tsv $to/$weights.safetensors"), 0, "$name: weights");
    return $to;
}
make_shards($dir, 2, 12);
make_eval_set("$dir/eval/wds_things");
my $said;
sub run { my ($work, $teacher, $student, @more) = @_;
    spew("$dir/$work.mk", join "\n", "SHARD_DIR := $dir/shards", 'SHARDS := 00000 00001', "TEACHER := $teacher", "STUDENT := $student",
        'K := 2', 'BALANCE := --remove 0.1', "EVAL_SETS := $dir/eval/wds_things", 'T_big := 2', 'MEM := 512M', @more, '');
    my $rc = system("make -f pipeline.mk DATA=test CONF=$dir/$work.mk WORK=$dir/$work BIN=$bin >$dir/said 2>&1");
    $said = slurp("$dir/said");
    return $rc >> 8;
}
sub json { return decode_json(slurp($_[0])) }

# ---- SigLIP 2
my $siglip = folder('hf-siglip2', 'model');
my $config = json("$siglip/config.json");
$config->{text_config}{$_->[0]} = $_->[1] for ['hidden_size', 24], ['num_hidden_layers', 1], ['projection_size', 32];
$config->{vision_config}{$_->[0]} = $_->[1] for ['hidden_size', 32], ['num_hidden_layers', 2], ['image_size', 24];
spew("$dir/small.json", encode_json($config));
is(run('siglip', $siglip, "$dir/small.json", 'TRAIN := --steps 3 --batch 6 --loss siglip=1,feature=1 --project --checkpoint-every 2'), 0,
    'from a SigLIP 2 folder to the report') or diag $said;
my $w = "$dir/siglip/test";
ok(-s "$w/report.html", 'the report');
like(slurp("$w/report.html"), qr/32 columns; pictures 2 x 32, texts 1 x 24/, '... says what the student is');
my $side = json("$w/embed/image/00000.npy.json");
cmp_ok(abs($side->{scale} - exp(4.7)), '<', 1e-4, "the sidecar has the teacher's scale");
is($side->{bias}, -16.5, '... and its bias');
my $made = json("$w/student/config.json");
is("$made->{model_type} $made->{architectures}[0]", 'siglip SiglipModel', 'the student is a SiglipModel');
is($made->{vision_config}{hidden_size} . ' ' . $made->{text_config}{projection_size}, '32 32', '... of its own sizes');
ok(-s "$w/student/tokenizer.json", '... with its tokenizer');
ok(!-e "$w/student/open_clip_config.json", '... and not in a layout that cannot hold it');
my $header = slurp("$w/student/model.safetensors");
like($header, qr/"$_"/, "... $_") for 'logit_bias', 'vision_model.head.attention.in_proj_weight', 'text_model.head.weight';
is(system("$bin/teacher-embed -q -m $w/student --shards $dir/shards/00000.tar -o $dir/s.npy --text-out $dir/t.npy"), 0, 'it is read again');
cmp_ok(json("$dir/s.npy.json")->{bias}, '!=', -10, '... its bias was trained');
is(system("$bin/teacher-embed -q -m " . (glob "$w/student/checkpoints/step-*")[0] . " --shards $dir/shards/00000.tar -o $dir/c.npy"), 0,
    'a checkpoint of it, too');
is(run('siglip', $siglip, "$dir/small.json", 'TRAIN := --steps 3 --batch 6 --loss siglip=1,feature=1 --project --checkpoint-every 2'), 0, 'again');
unlike($said, qr/distill-train/, '... there is nothing to do');
my $from = "$bin/distill-train -q --init $w/student --tokenizer $w/student --loss siglip=1 --steps 2 --batch 6 --checkpoint-every 1";
is(system("$bin/shard-read -q --model $dir/small.json $dir/shards/00000.tar > $dir/s"), 0, 'pictures of its size');
is(system("$from -o $dir/on $dir/s"), 0, 'a student begun from that folder');
is_deeply(json("$dir/on/config.json"), $made, '... is written with the same config');
is(system("$from --resume --extend --steps 4 -o $dir/on $dir/s"), 0, '... and goes on from its checkpoint');

# ---- PE-Core
my $pe = folder('pe-core-t-16-384', 'open_clip_model', undef, "$shared/golden/tokenizer/bpe_simple_vocab_16e6.txt.gz");
spew("$dir/plain.json", encode_json({ embed_dim => 16, vision_cfg => { image_size => 24, patch_size => 8, width => 24, layers => 1, head_width => 12 },
    text_cfg => { context_length => 16, width => 16, layers => 1, heads => 2 } }));
is(run('pe', $pe, "$dir/plain.json", 'TRAIN := --steps 2 --batch 6 --project'), 0, 'from a PE-Core folder to the report') or diag $said;
$w = "$dir/pe/test";
ok(-s "$w/report.html" && -s "$w/student/open_clip_config.json" && !-e "$w/student/config.json", 'the report, and a student in open_clip\'s layout');
unlike(slurp("$w/embed/image/00000.npy.json"), qr/"bias"/, 'its sidecar has no bias');
done_testing();
