#!/usr/bin/env perl
# zs-eval over several sets: a tokenizer from elsewhere; what is finished is kept when another set fails, and not done
# again; figures that say nothing are left out; class names and templates in the forms that people keep them in.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
chdir tempdir(CLEANUP => 1) or die;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
my $said;
sub run { my $rc = system("$bin/zs-eval @_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub results { return map { decode_json($_) } split /\n/, slurp($_[0]); }

# A set of n pictures in one shard; fn(i) gives the members beside the picture.
my @pictures = sort grep { -s $_ > 300 } map { glob "$data/images/$_" } qw(4*.jpg grey*.png lo*.webp pal*.png prog*.jpg page.jpg la*.png);
sub make_set { my ($set, $classes, $n, $fn, $split) = @_;
    $split //= 'test';
    make_path("$set/$split", 'stage');
    for my $i (0 .. $n - 1) {
        my $p = $pictures[$i % @pictures];
        my ($ext) = $p =~ /\.(\w+)$/;
        my %m = $fn->($i);
        copy($p, sprintf 'stage/s%04d.%s', $i, $ext) or die;
        spew(sprintf('stage/s%04d.%s', $i, $_), $m{$_}) for keys %m;
    }
    system('tar', '--sort=name', '--mtime=@1', '--owner=0', '--group=0', '--format=ustar', '-C', 'stage', '-cf', "$set/$split/0.tar", '.') == 0 or die;
    remove_tree('stage');
    spew("$set/$split/nshards.txt", "1\n");
    spew("$set/classnames.txt", join "\n", @$classes, '') if @$classes;
    spew("$set/zeroshot_classification_templates.txt", "a photo of a {c}.\n{c}\n") if @$classes;
}
make_path('model', 'bare');
copy($_, 'bare/') or die for glob("$data/models/odd/open_clip*");
copy($_, 'model/') or die for glob('bare/*'), glob("$data/tokenizer/openai/*");
my @six = ('red', 'a large blue square', 'an old dark thing', 'round', 'small', 'bright');
make_set('six', \@six, 12, sub { (cls => $_[0] % 6) });

# ---- a tokenizer from elsewhere
is(run('-m model -o own.json six'), 0, 'a tokenizer in the model folder') or diag $said;
is(run('-m bare -o none.json six'), 1, 'no tokenizer');
like($said, qr/^zs-eval: bare: no tokenizer: .*--tokenizer/m, '... the message names the option');
ok(!-e 'none.json', '... and nothing is written');
is(run("-m bare --tokenizer $data/tokenizer/openai -o given.json six"), 0, '--tokenizer') or diag $said;
is_deeply((results('given.json'))[0]{metrics}, (results('own.json'))[0]{metrics}, '... gives the same figures');
is(run("-m bare --tokenizer nowhere six"), 1, '--tokenizer of a path that is not there');
like($said, qr/nowhere/, '... is named');
done_testing();
