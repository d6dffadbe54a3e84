#!/usr/bin/env perl
# Every example of every tool's page is run as it stands there, on small inputs that have the names used in the pages.
# Only the numbers below, which need a large set or a large model, are made smaller.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use Test::More;
use lib abs_path('tests/lib');
use Store;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my @tools = map { s{.*/}{}r =~ s{\.c$}{}r } glob('tools/*.c');
my %smaller = ('--size 48' => '--size 29', '--size 64' => '--size 29', '--steps 2000' => '--steps 4', '--epochs 30' => '--epochs 2', '--batch 128' => '--batch 4',
    '-k 1000' => '-k 3', '--top 10' => '--top 2', '--distance 0.1' => '--distance 0.00001', '--skip 40' => '--skip 4');
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
my $said;
sub bash { my ($text) = @_; spew('line.sh', "set -eu -o pipefail; export PATH=$bin:\$PATH\n$text\n"); my $rc = system('bash line.sh >out 2>said'); $said = slurp('said'); return $rc >> 8 || $rc }

# The commands of a page's examples: each .Dl line, each literal display, prompts taken off.
sub examples { my ($page) = @_;
    my ($text) = slurp($page) =~ /^\.Sh EXAMPLES\n(.*?)(?=^\.Sh|\z)/ms or return;
    my @found;
    while ($text =~ /^\.Dl ([^\n]*)$|^\.Bd -literal[^\n]*\n(.*?)^\.Ed$/msg) { push @found, $1 // $2 }
    my $macros = () = $text =~ /^\.(?:Dl|Bd)/mg;
    die "$page: an example in a form that this test does not read" if $macros != @found;
    return map { s/^\$ //gmr =~ s/\\e/\\/gr =~ s/\\-/-/gr =~ s/\\&//gr =~ s/\s+\z//r } @found;
}
my %example = map { $_ => [examples("man/$_.1")] } @tools;

# ---- what the pages name
chdir tempdir(CLEANUP => 1) or die;
my $store = Store->new_at(do { make_path('store/public/laion'); 'store' });
$ENV{AWS_ENDPOINT_URL} = $store->url;
my @pictures = sort grep { -s $_ > 500 } map { glob "$data/images/$_" } qw(4*.jpg *grey.png palette.png prog*.jpg page.jpg);
sub tar { my ($to, $n, $fn) = @_;
    make_path('stage', $to =~ s{/[^/]*$}{}r) if $to =~ m{/};
    make_path('stage');
    for my $i (0 .. $n - 1) {
        my $p = $pictures[($i * 5 + length $to) % @pictures];
        my ($ext) = $p =~ /\.(\w+)$/;
        my %m = $fn->($i);
        copy($p, sprintf 'stage/%05d.%s', $i, $ext) or die;
        spew(sprintf('stage/%05d.%s', $i, $_), $m{$_}) for keys %m;
    }
    system('tar', '--sort=name', '-C', 'stage', '-cf', $to, '.') == 0 or die;
    remove_tree('stage');
}
my $caption = sub { (txt => "a thing, number $_[0]") };
sub layout {
    tar("0000$_.tar", 12, $caption) for 0, 1;
    copy('00000.tar', 'store/public/laion/00000.tar') or die;
    tar("shards/0000$_.tar", 8, $caption) for 0 .. 7;
    for my $model ('ViT', 'models/ViT-B-32', 'models/ViT-L-14', 'vocab') {
        make_path($model);
        copy($_, "$model/") or die for glob("$data/tokenizer/openai/*"), $model eq 'vocab' ? () : glob("$data/models/odd/open_clip*");
    }
    make_path('conf/models');
    my $student = '{"embed_dim":20,"vision_cfg":{"image_size":29,"patch_size":7,"width":24,"layers":1,"head_width":12},'
        . '"text_cfg":{"context_length":11,"vocab_size":1214,"width":16,"layers":1,"heads":2}}';
    spew("conf/models/$_.json", $student) for 'emoji-4x128', 'emoji-3x64', 'ViT-B-32';
    my @names = ('red', 'blue', 'green', 'small', 'large', 'old');
    for my $set (map { "data/$_" } qw(wds_imagenet1k wds_food101 wds_cifar10)) {
        for my $split ('test', 'train') {
            tar("$set/$split/0.tar", 12, sub { (cls => $_[0] % 6) });
            spew("$set/$split/nshards.txt", "1\n");
        }
        spew("$set/classnames.txt", join "\n", @names, '');
        spew("$set/zeroshot_classification_templates.txt", "a {c}\n");
    }
    make_path('emb', 'keep', 'groups', 'labels', 'features', 'embed/image', 'embed/text');
    return bash(<<'EOT');
for s in shards/*.tar; do n=$(basename $s .tar); shard-read -q --size 29 $s | teacher-embed -q -m ViT --image-out embed/image/$n.npy --text-out embed/text/$n.npy; done
cp embed/image/0000[012].npy* emb/; ls emb/*.npy >list; ls shards/*.tar >shards.list
sem-balance -q --remove 0.3 --keep-dir keep --groups-dir groups -o /dev/null embed/image/*.npy
kmeans-cluster -q -k 3 -o centroids.npy --labels-dir labels embed/image/*.npy
kmeans-cluster -q -k 2 -o cells.npy emb/*.npy
for d in work/laion400m work/laion400m-k2000; do mkdir -p $d/index $d/embed data/laion400m; cp -r embed/image embed/text $d/embed/; cp -r keep groups labels centroids.npy $d/; done
cp shards/*.tar data/laion400m/
for s in shards/*.tar; do shard-read -q --images no --index work/laion400m/index/$(basename $s .tar).tsv -o /dev/null $s; done
cp work/laion400m/index/* work/laion400m-k2000/index/
EOT
}
is(layout(), 0, 'small inputs under the names of the pages') or BAIL_OUT($said);

my $all = 0;
for my $tool (@tools) {
    my @found = @{ $example{$tool} };
    ok(@found > 0, "$tool(1) has examples");
    for my $text (@found) {
        my $small = $text;
        for my $from (keys %smaller) { $small =~ s/(?<!\S)\Q$from\E(?![\d.])/$smaller{$from}/g }
        my ($first) = split /\n/, $text;
        is(bash($small), 0, "$tool: $first") or diag "$small\n$said";
        $all++;
    }
}
ok($all > 12, "$all examples");
ok(-s $_, "$_ was made by an example") for qw(image.npy text.npy 00000.npy centroids.npy balance.json teacher/open_clip_config.json student/open_clip_config.json results.jsonl report.html);
done_testing();
