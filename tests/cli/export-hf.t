#!/usr/bin/env perl
# distill-train --export-hf: a CLIP repository with its tokenizer, which gives the same ids and rows
# as the student's own folder; --tokenizer FILE goes into the folder and every checkpoint.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die; print $h $t; close $h; }
my $said;
sub run { my $rc = system("@_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub json { return decode_json(slurp($_[0])); }
sub take { my ($to, $from, @names) = @_; make_path($to); for (@names) { copy("$from/$_", "$to/$_") or die "$from/$_" } }

# 1214 tokens, a table of 1300 rows: the end of a text is not the last row.
spew('student.json', encode_json({ embed_dim => 12, vision_cfg => { image_size => 29, patch_size => 7, width => 24, layers => 1, head_width => 12 },
    text_cfg => { context_length => 11, vocab_size => 1300, width => 16, layers => 1, heads => 2 } }));
is(run("$bin/shard-read -q --size 29 -o s $data/shards/00000.tar"), 0, 'samples') or diag $said;
my $train = "$bin/distill-train -q --student student.json --batch 4 --loss clip --steps 2 --checkpoint-every 1";
my $packed = "$data/tokenizer/openai/bpe_simple_vocab_16e6.txt.gz";
is(run("$train --tokenizer $packed --export-hf -o a s"), 0, 'a student, the vocabulary a file') or diag $said;
my @files = qw(vocab.json merges.txt tokenizer.json tokenizer_config.json special_tokens_map.json preprocessor_config.json);
ok(-s "a/$_", "a/$_") for @files;
is(slurp('a/bpe_simple_vocab_16e6.txt.gz'), slurp($packed), 'the vocabulary itself');
for my $step (glob 'a/checkpoints/step-*') {
    is(run("$bin/teacher-embed -q -m $step --no-images --tokens-out c.npy s"), 0, "$step has it too") or diag $said;
}

sub embed { my ($m) = @_; return run("$bin/teacher-embed -q -m $m -o $m.i.npy --text-out $m.t.npy --tokens-out $m.k.npy s"); }
take('oc', 'a', qw(open_clip_config.json open_clip_model.safetensors bpe_simple_vocab_16e6.txt.gz));
take('hf', 'a', qw(config.json model.safetensors), @files);
take('fast', 'a', qw(config.json model.safetensors preprocessor_config.json tokenizer.json tokenizer_config.json special_tokens_map.json));
for my $m (qw(oc hf fast)) { is(embed($m), 0, "$m embeds") or diag $said; }
for my $m (qw(hf fast)) {
    ok(slurp("$m.k.npy") eq slurp('oc.k.npy'), "$m: the same token ids");
    ok(slurp("$m.t.npy") eq slurp('oc.t.npy') && slurp("$m.i.npy") eq slurp('oc.i.npy'), "$m: the same embeddings");
}
my $text = json('hf/config.json')->{text_config};
is("$text->{bos_token_id} $text->{eos_token_id} $text->{vocab_size}", '1212 1213 1300', "the tokenizer's ids, not the last row");

# A student whose config is Hugging Face's is written so without the option; what that layout cannot hold is said before
# the first step.
(my $begun = $train) =~ s/--student student.json/--init hf --tokenizer hf/;
is(run("$begun -o from s"), 0, 'a student begun from such a folder') or diag $said;
is_deeply(json('from/config.json'), json('hf/config.json'), 'is written in its layout');
ok(-e 'from/open_clip_config.json', "and in open_clip's");
(my $sigmoid = $train) =~ s/--loss clip/--loss siglip/;
is(run("$sigmoid --tokenizer $packed --export-hf -o bias s"), 1, 'a bias of logits');
like($said, qr/CLIPModel has no logit bias/, 'is refused');
ok(!-e 'bias/checkpoints', 'before the first step');

# As transformers expects them.
my ($vocab, $fast, $config, $map) = map { json("hf/$_") } qw(vocab.json tokenizer.json tokenizer_config.json special_tokens_map.json);
is(scalar keys %$vocab, 1214, 'each token once');
is_deeply($vocab, json("$data/tokenizer/hf/vocab.json"), 'the vocabulary that Hugging Face has');
is(slurp('hf/merges.txt'), slurp("$data/tokenizer/hf/merges.txt"), 'and its merges');
is_deeply($fast->{model}{vocab}, $vocab, 'in tokenizer.json too');
is(scalar @{ $fast->{model}{merges} }, (() = slurp('hf/merges.txt') =~ /\n/g) - 1, 'all merges');
is_deeply([map { "$_->{id} $_->{content}" } @{ $fast->{added_tokens} }], ['1212 <|startoftext|>', '1213 <|endoftext|>'], 'special tokens');
is_deeply($fast->{post_processor}{cls}, ['<|startoftext|>', 1212], 'which frame a text');
is_deeply($fast->{post_processor}{sep}, ['<|endoftext|>', 1213], 'at both ends');
is($fast->{pre_tokenizer}{pretokenizers}[0]{pattern}{Regex}, q('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+), 'the pattern');
is($fast->{model}{end_of_word_suffix}, '</w>', 'the end of a word');
is("$config->{tokenizer_class} $config->{model_max_length} $config->{pad_token}", 'CLIPTokenizer 11 <|endoftext|>', 'class and length');
is($config->{added_tokens_decoder}{1213}{content}, '<|endoftext|>', 'ids in the config');
is($map->{eos_token}{content}, '<|endoftext|>', 'and names');

# A tokenizer.json by itself, one with a token that its model learned, and a plain list of merges.
my $one = json("$data/tokenizer/fast/tokenizer.json");
push @{ $one->{added_tokens} }, { id => 1214, content => '<toy>', special => JSON::PP::false, normalized => JSON::PP::false, single_word => JSON::PP::true };
spew('one.json', encode_json($one));
spew('student.json', slurp('student.json') =~ s/("text_cfg":\{)/$1"pool_type":"eos","eos_id":1213,/r);
is(run("$train --tokenizer one.json --export-hf -o b s"), 0, 'a tokenizer.json') or diag $said;
spew('x.txt', '<toy> a');
spew('x.png', slurp((glob "$data/images/rgb.png")[0]));
is(system('tar cf x.tar x.png x.txt'), 0, 'a caption with the token');
take('bh', 'b', qw(config.json model.safetensors), @files);
take('bo', 'b', qw(open_clip_config.json open_clip_model.safetensors tokenizer.json));
for my $m (qw(b bh bo b/checkpoints/step-00000001)) {
    is(run("$bin/teacher-embed -q -m $m --no-images --tokens-out t.npy --shards x.tar"), 0, "$m reads it") or diag $said;
    is(join(' ', (unpack 'l<*', substr slurp('t.npy'), -44)[0 .. 3]), '1212 1214 320 1213', "$m: the learned token");
}
is_deeply(json('bh/tokenizer_config.json')->{added_tokens_decoder}{1214}, { content => '<toy>', special => JSON::PP::false, normalized => JSON::PP::false,
    single_word => JSON::PP::true, lstrip => JSON::PP::false, rstrip => JSON::PP::false }, 'with what it says about itself');
is(system("gzip -dc $packed > merges.plain"), 0, 'unpacked');
is(run("$train --tokenizer merges.plain -o c s"), 0, 'a list of merges') or diag $said;
ok(-e 'c/bpe_simple_vocab_16e6.txt', 'under its name');
is(run("$bin/teacher-embed -q -m c --no-images --tokens-out t.npy s"), 0, 'which is found') or diag $said;
done_testing;
