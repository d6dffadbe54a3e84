#!/usr/bin/env perl
# teacher-embed --describe: every config of conf/models is read; the sizes are those of the published
# models; what is no transformer is refused with a line that says what it is.
use strict;
use warnings;
use File::Temp qw(tempdir);
use Test::More;
my $bin = $ENV{BIN} // 'bin';
my $shared = $ENV{CLIP_CID_SHARED} // '../shared';
my $tmp = tempdir(CLEANUP => 1);

sub described { my ($path) = @_; return scalar `$bin/teacher-embed --describe $path 2>&1` }

# Parameters of the image and the text tower.
my %known = (
    'ViT-B-32' => [87849216, 63428097],
    'ViT-B-16-SigLIP' => [92884224, 110271746],
    'ViT-SO400M-14-SigLIP-384' => [428225600, 449734898],
    'PE-Core-L-14-336' => [317152256, 353986561],
    'EVA02-E-14' => [4350556928, 354032641],
    'ViT-bigG-14-CLIPA' => undef,
);
for my $path (glob 'conf/models/*.json') {
    my ($name) = $path =~ m{([^/]+)\.json$};
    my $said = described($path);
    is($?, 0, $name) or diag $said;
    my @n = $said =~ /^    (\d+) parameters, [\d.]+ GFLOP a /mg;
    is(scalar @n, 2, '  both towers');
    is_deeply(\@n, $known{$name}, '  as published') if $known{$name};
}

SKIP: {
    skip 'no goldens: set CLIP_CID_SHARED', 2 unless -e "$shared/golden/teachers/configs.tsv";
    open my $f, '<', "$shared/golden/teachers/configs.tsv" or die;
    my (@missing, $pure);
    while (<$f>) {
        my ($name, $is) = (split /\t/)[0, 2];
        $pure += $is eq 'yes';
        push @missing, $name if $is eq 'yes' && !-e "conf/models/$name.json";
    }
    is("@missing", '', 'all of open_clip\'s transformers are there');
    is($pure, 88, '... 88 of them');
}

my %refused = (
    '"timm_model_name":"convnext_base"' => qr/convnext_base.*ConvNeXt/,
    '"timm_model_name":"vitamin_base_224"' => qr/vitamin_base_224.*hybrid/,
    '"timm_model_name":"naflexvit_base_patch16_siglip"' => qr/NaFlex/,
    '"layers":[3,4,6,3]' => qr/ResNet/,
);
for my $keys (sort keys %refused) {
    open my $f, '>', "$tmp/c.json" or die;
    print $f qq({"embed_dim":512,"vision_cfg":{$keys},"text_cfg":{}});
    close $f;
    my $said = described("$tmp/c.json");
    is($? >> 8, 1, "refused: $keys");
    like($said, $refused{$keys}, '  with what it is');
    is(() = $said =~ /\n/g, 1, '  in one line');
}
done_testing();
