#!/usr/bin/env perl
# distill-train --towers: one tower is trained, the other is the teacher's to the byte; samples need only the one side; resumed and over
# ranks to the same bytes; what needs both is refused in words.
use strict;
use warnings;
use lib 'tests/lib';
use Archive::Tar;
use JSON::PP;
use Mpi;
use Test::More;
use Train;

# A teacher with towers of other shapes than the student's, of its width.
spew('teacher.json', encode_json({ embed_dim => 20, vision_cfg => { image_size => 35, patch_size => 7, width => 24, layers => 2, head_width => 12 },
    text_cfg => { context_length => 13, vocab_size => 1214, width => 16, layers => 2, heads => 2 } }));
shard('t/00000.tar', 24, 'm');
is(run("$bin/shard-read -q --size 35 -o t.samples t/00000.tar"), 0, 'samples') or diag $said;
is(run("$bin/distill-train -q --student teacher.json --tokenizer $vocab --loss clip --batch 8 --steps 2 -o T t.samples"), 0, 'a teacher') or diag $said;
embed('a', 't/00000.tar', model => 'T');
clusters('a', '');
is(run("$bin/shard-read -q --size 29 -o s.samples t/00000.tar"), 0, 'samples of the student') or diag $said;
my $train = "$bin/distill-train -q --student student.json --tokenizer $vocab --teacher T --batch 8 --lr 1e-3 --warmup 0 --steps 6";
my $from = "--data 'cat s.samples'";
my $with = '--teacher-image image-a --teacher-text text-a';
my %teacher = tensors('T/open_clip_model.safetensors');
sub split_towers { my ($dir) = @_; my %t = tensors("$dir/open_clip_model.safetensors"); my %s;
    for (keys %t) { next if /^logit/; $s{ /^visual/ ? 'image' : 'text' }{$_} = $t{$_}; } return \%s; }
sub is_teachers { my ($of) = @_; return join ' ', grep { ($teacher{$_} // '') ne $of->{$_} } keys %$of; }

my $image = "$train --towers image --loss instance,feature,relation,cluster=0.1 --labels labels-a --centroids c-a.npy $with";
is(run("$image -o image $from"), 0, 'the image tower') or diag $said;
my $made = split_towers('image');
is(is_teachers($made->{text}), '', 'the text tower is the teacher\'s, to the byte');
is(scalar keys %{ $made->{text} }, scalar(grep { !/^visual|^logit/ } keys %teacher), '... all of it');
my $cfg = sub { return decode_json(slurp("$_[0]/open_clip_config.json"))->{model_cfg} };
is_deeply($cfg->('image')->{text_cfg}, $cfg->('T')->{text_cfg}, '... with its config');
is($cfg->('image')->{vision_cfg}{image_size}, 29, '... and the student\'s pictures');
is(run("$bin/teacher-embed -q -m T --tokenizer $vocab --shards t/00000.tar --image-out ti.npy --text-out tt.npy && $bin/teacher-embed -q -m image --tokenizer $vocab --shards t/00000.tar --image-out si.npy --text-out st.npy"), 0, 'texts of both') or diag $said;
ok(slurp('tt.npy') eq slurp('st.npy') && length slurp('tt.npy') > 500, '... are the same rows');
my @log = log_lines('image/log.jsonl');
my $off = grep { my $l = $_; abs($l->{loss} - $l->{instance} - $l->{feature} - $l->{relation} - 0.1 * ($l->{cluster_ce} + $l->{cluster_kl})) > 1e-6 * $l->{loss} || grep { !($l->{$_} > 0) } qw(instance feature relation cluster_ce cluster_kl) } @log;
is(scalar(@log) . " $off", '6 0', 'the halves of the terms add up');
is(run("$image -o again --accumulate 2 --checkpoint-every 3 --keep-checkpoints all $from"), 0, 'in two pieces') or diag $said;
my $whole = slurp('again/open_clip_model.safetensors');
is(run("$image -o again --accumulate 2 --checkpoint-every 3 --keep-checkpoints all --resume-from 3 $from"), 0, '... resumed') or diag $said;
ok(slurp('again/open_clip_model.safetensors') eq $whole, '... to the same bytes');
is(run("$image -o again --towers both --loss clip --accumulate 2 --resume-from 3 $from"), 1, 'resumed with both towers');
like($said, qr/--resume: /, '... is refused');
SKIP: {
    skip 'no mpirun or no mpicc', 3 if system('command -v mpirun >/dev/null && command -v mpicc >/dev/null');
    is(system("mpicc -std=c11 -O2 -fPIC -shared -I$data/../../lib -o comm-mpi.so $data/../../plugins/comm-mpi.c"), 0, 'the plug-in');
    is(run("timeout 60 mpirun -q -n 2 $image --accumulate 2 --comm ./comm-mpi.so -o ranks $from"), 0, 'two ranks') or diag $said;
    ok(slurp('ranks/open_clip_model.safetensors') eq $whole, '... the same bytes');
}

# Pictures alone: a stream without captions, and shards in which some have none.
my $alone = "$train --towers image --loss feature,cluster=0.1 --labels labels-a --centroids c-a.npy --teacher-image image-a";
is(run("$alone -o with $from"), 0, 'pictures, with captions in the stream') or diag $said;
is(run("$alone -o without --data '$bin/shard-read -q --size 29 --captions no t/00000.tar'"), 0, '... and without') or diag $said;
ok(slurp('with/open_clip_model.safetensors') eq slurp('without/open_clip_model.safetensors'), '... the same bytes');
sub remade { my ($file, $drop) = @_; my $in = Archive::Tar->new('t/00000.tar'); my $out = Archive::Tar->new; my ($folder) = $file =~ m{(.*)/}; mkdir $folder;
    for my $f ($in->get_files) { $out->add_data($f->name, $f->get_content) unless $drop->($f->name); } $out->write($file); return; }
remade('nocap/00000.tar', sub { return $_[0] =~ /^m1\d\.txt$/ });
is(run("$alone -o nocap --data '$bin/shard-read -q --size 29 nocap/00000.tar'"), 0, 'some pictures without caption') or diag $said;
ok(slurp('nocap/open_clip_model.safetensors') eq slurp('with/open_clip_model.safetensors'), '... are trained on all the same');

# Captions alone.
my $text = "$train --towers text --loss feature --teacher-text text-a";
is(run("$text -o text $from"), 0, 'the text tower') or diag $said;
$made = split_towers('text');
is(is_teachers($made->{image}), '', 'the image tower is the teacher\'s, to the byte');
is($cfg->('text')->{vision_cfg}{image_size}, 35, '... with its pictures');
is_deeply(decode_json(slurp('text/open_clip_config.json'))->{preprocess_cfg}, decode_json(slurp('T/open_clip_config.json'))->{preprocess_cfg}, '... prepared as its');
isnt(is_teachers($made->{text}), '', '... and the text tower is not');
remade('nopic/00000.tar', sub { return $_[0] =~ /^m\d+\.(?!txt)/ });
is(run("$text -o nopic --data '$bin/shard-read -q --images no nopic/00000.tar'"), 0, 'captions alone') or diag $said;
ok(slurp('nopic/open_clip_model.safetensors') eq slurp('text/open_clip_model.safetensors'), '... to the same bytes');
is(run("$train --towers text --loss instance --teacher-image image-a -o cross $from"), 0, 'captions against the teacher\'s pictures') or diag $said;

spew('wide.json', slurp('student.json') =~ s/"embed_dim":20/"embed_dim":24/r);
for my $case (
    ["--towers image $with", 2, qr/--towers image: the term clip needs both towers of the student/, 'the default terms'],
    ["--towers text --loss cluster $with", 2, qr/--towers text: the term cluster_ce needs the image tower/, 'clusters of texts'],
    ["--towers image --loss feature $with --lock image --init T", 2, qr/goes without --lock/, 'a lock beside it'],
    ["--towers text --loss feature $with --patch-dropout 0.5", 2, qr/reads no pictures/, 'patch dropout of texts'],
    ["--towers image --loss feature", 2, qr/the losses need --teacher-image/, 'no rows'],
    ["--towers image --loss instance --teacher-image image-a", 2, qr/the losses need --teacher-text/, 'no rows of the other side'],
    ["--towers image --loss feature $with --student wide.json", 1, qr/the student's embeddings have 24 columns, those of the teacher's tower 20/, 'another width'],
    ["--towers image --loss feature $with --student wide.json --dry-run", 1, qr/must be as wide/, '... in a dry run too'],
) {
    my ($how, $status, $why, $what) = @$case;
    is(run("$train $how -o no $from"), $status, $what);
    like($said, $why, '... is refused') or diag $said;
}
is(run(($train =~ s/--teacher T//r) . " --towers image --loss feature $with -o no $from"), 2, 'no teacher');
like($said, qr/the text tower is the teacher's: give --teacher MODEL/, '... is refused');
is(run("$alone -o no --data '$bin/shard-read -q --images no t/00000.tar'"), 1, 'a stream without pictures');
like($said, qr/training needs a stream of pixels$/m, '... is refused');
done_testing();
