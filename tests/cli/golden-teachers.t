#!/usr/bin/env perl
# Embeddings of the families beyond plain CLIP against the real libraries': weights are made from a
# formula, so that a full-size tower of each family fits here. Unit rows differ by less than 1e-5 in
# float32, bfloat16 has a cosine above 0.999, and the CUDA device is within the same bounds.
# Needs the folder with the goldens, CLIP_CID_SHARED or ../shared.
use strict;
use warnings;
use Cwd qw(abs_path);
use Digest::SHA;
use File::Temp qw(tempdir);
use Test::More;
my $bin = $ENV{BIN} // 'bin';
my $shared = abs_path($ENV{CLIP_CID_SHARED} // '../shared');
plan skip_all => 'no goldens: set CLIP_CID_SHARED' unless $shared && -e "$shared/golden/teachers";
my $tmp = tempdir(CLEANUP => 1);
my $make = "$tmp/make-weights";
my $cc = $ENV{CC} // 'cc';
is(system("$cc -O2 -o $make $shared/golden/teachers/make-weights.c"), 0, 'make-weights')
    or BAIL_OUT('no compiler');

# A view of a golden folder with its weights, and with the tokens of `variant`.
sub view {
    my ($from, $variant) = @_;
    my ($name) = $from =~ m{([^/]+)$};
    my $dir = "$tmp/$name$variant";
    mkdir $dir;
    for my $file (glob "$from/*") {
        my ($base) = $file =~ m{([^/]+)$};
        next if $variant && $base =~ /^(tokens|text_embed)\.npy$/;
        $base =~ s/$variant// if $variant;
        symlink $file, "$dir/$base";
    }
    my $weights = -e "$dir/open_clip_config.json" ? 'open_clip_model' : 'model';
    is(system("$make $dir/tensors.tsv $dir/$weights.safetensors"), 0, "$name: weights");
    my $facts = do { local (@ARGV, $/) = "$dir/facts.json"; <> };
    my ($sum) = $facts =~ /"weights_sha256": "(\w+)"/;
    is(Digest::SHA->new(256)->addfile("$dir/$weights.safetensors")->hexdigest, $sum,
        '  their sum') if !$variant;
    return $dir;
}

# CoCa's decoder is not run: its tensors are left out and counted, unless the config has no decoder.
sub decoder {
    my ($dir) = @_;
    my $pictures = 'tests/data/shards/00000.tar';
    my $said = `$bin/shard-read -q --size 56 $pictures | $bin/teacher-embed -m $dir -o $tmp/coca.npy - 2>&1`;
    is($?, 0, 'pictures through tiny-coca') or diag $said;
    like($said, qr/left out: 29 tensors of the decoder, text_decoder\.\*/, '... without its decoder');
    my $config = do { local (@ARGV, $/) = "$dir/open_clip_config.json"; <> };
    $config =~ s/"multimodal_cfg": \{[^}]*\},//s or die;
    unlink "$dir/open_clip_config.json";
    open my $f, '>', "$dir/open_clip_config.json" or die;
    print $f $config;
    close $f;
    $said = `$bin/golden model $dir 2>&1`;
    like($said, qr/tensor 'text_decoder\.[a-z_.0-9]+' is not part of this model/, 'a decoder that no config has is refused');
}

my %cuda = map { $_ => 1 } qw(hf-siglip tiny-clipa tiny-coca tiny-flags);
for my $from (grep { -e "$_/facts.json" } glob "$shared/golden/teachers/*") {
    my ($name) = $from =~ m{([^/]+)$};
    for my $variant ('', -e "$from/tokens_above_eos.npy" ? '_above_eos' : ()) {
        my $dir = view($from, $variant);
        my $said = `$bin/golden model $dir 2>&1`;
        is($?, 0, "$name$variant") or diag $said;
        if (!$variant && $cuda{$name}) {
            $said = `$bin/golden-cuda model $dir 2>&1`;
            is($?, 0, "$name on CUDA's stand-in") or diag $said;
        }
        decoder($dir) if $name eq 'tiny-coca';
        system("rm -rf $dir");
    }
}
done_testing();
