#!/usr/bin/env perl
# README's first run is run as it stands there, by hand and by the pipeline, on small inputs under the names used there: a
# teacher without tokenizer files, shards, an evaluation set. Both ways give the same student. Only sizes are made smaller.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my ($data, $home) = (abs_path('tests/data'), abs_path('.'));
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
my $readme = slurp('README.md');
sub block { my ($before) = @_; my ($text) = $readme =~ /^[^\n]*\Q$before\E[^\n]*\n\n((?:    .*\n)+)/m; return ($text // '') =~ s/^ {4}//gmr }
# What needs a large set or model: sizes, and the distance, which is of the encoder.
sub smaller { my ($t) = @_; return $t =~ s/--distance 0\.1\b/--remove 0.3/r =~ s/-k 1000\b/-k 3/r =~ s/^K := 1000$/K := 3/mr =~ s/--epochs 8\b/--epochs 2/r
    =~ s/--batch 256\b/--batch 4/r =~ s/seq -f %05g 0 9\b/seq -f %05g 0 2/r =~ s/--max-bad 1%/--max-bad 50%/gr }

my $conf = block('A description of the data set, `conf/mine.mk`:');
my $script = block('By hand the same, into a folder of the same form:');
ok($conf =~ /^SHARD_DIR/ && $script =~ /distill-train/, 'README has both texts');
like($script, qr/sem-balance.*kmeans-cluster.*distill-train.*zs-eval.*cid-report/s, 'every stage in its order');

# ---- the inputs that it names
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
symlink "$home/$_", $_ or die for qw(pipeline.mk scripts Makefile);
my @pictures = sort grep { -s $_ > 500 } map { glob "$data/images/$_" } qw(4*.jpg *grey.png palette.png prog*.jpg page.jpg);
sub tar { my ($to, $n, $fn) = @_;
    make_path('stage', $to =~ s{/[^/]*$}{}r);
    for my $i (0 .. $n - 1) {
        my $p = $pictures[($i * 7 + 3 * length($to) + substr $to, -5, 1) % @pictures];
        my ($ext) = $p =~ /\.(\w+)$/;
        copy($p, sprintf 'stage/%05d.%s', $i, $ext) or die;
        my %m = $fn->($i);
        spew(sprintf('stage/%05d.%s', $i, $_), $m{$_}) for keys %m;
    }
    system('tar', '--sort=name', '-C', 'stage', '-cf', $to, '.') == 0 or die;
    remove_tree('stage');
}
tar("data/mine/0000$_.tar", 12, sub { ($_[0] % 5 ? (txt => "a thing, number $_[0]") : (txt => ''), json => '{}') }) for 0 .. 2;
tar('data/eval/wds_cifar10/test/0.tar', 12, sub { (cls => $_[0] % 6) });
spew('data/eval/wds_cifar10/test/nshards.txt', "1\n");
spew('data/eval/wds_cifar10/classnames.txt', join "\n", qw(red blue green small large old), '');
spew('data/eval/wds_cifar10/zeroshot_classification_templates.txt', "a {c}\n");
make_path('models/ViT-L-14', 'models/vocab', 'conf/models');
copy($_, 'models/ViT-L-14/') or die for glob("$data/models/odd/open_clip*");
copy($_, 'models/vocab/') or die for glob "$data/tokenizer/openai/bpe*";
spew('conf/models/ViT-B-32.json', '{"embed_dim":12,"vision_cfg":{"image_size":29,"patch_size":7,"width":24,"layers":1,"head_width":12},'
    . '"text_cfg":{"context_length":11,"vocab_size":1214,"width":16,"layers":1,"heads":2}}');

# ---- by hand
spew('by-hand.sh', smaller($script));
is(system("PATH=$bin:\$PATH bash by-hand.sh >said 2>&1"), 0, 'by hand') or diag slurp('said');
ok(-s "work/by-hand/$_", "by hand: $_") for qw(index/00002.tsv embed/text/00000.npy keep/00001.npy labels/00002.npy student/open_clip_model.safetensors
    eval/student.json eval/teacher.json report.html);
my $page = slurp('work/by-hand/report.html');
like($page, qr/model student.*trained with/s, 'its report says how the student was trained');
like($page, qr/<h3>student.*<svg/s, '... and has its curves');
like($page, qr/3 shards, 36 samples/, '... and the account');

# ---- by the pipeline
spew('conf/mine.mk', smaller($conf));
for my $line (block('what can be known before the first hour is spent. Then') =~ /^(make .*?)(?:\s+#.*)?$/mg) {
    is(system("$line BIN=$bin >said 2>&1"), 0, $line) or diag slurp('said');
}
ok(-s "work/mine/$_", "by the pipeline: $_") for qw(student/open_clip_model.safetensors eval/student.json eval/teacher.json report.html);
ok(slurp('work/mine/student/open_clip_model.safetensors') eq slurp('work/by-hand/student/open_clip_model.safetensors'), 'the same student both ways');

# ---- the overview's
for my $line (slurp("$home/man/clip-cid.7") =~ /^\.Sh EXAMPLES.*?^\.Bd[^\n]*\n(.*?)^\.Ed/ms ? split /\n/, $1 : ()) {
    is(system("$line BIN=$bin >said 2>&1"), 0, "clip-cid(7): $line") or diag slurp('said');
}

# ---- the tutorial's commands, on that run
my $tutorial = slurp("$home/man/clip-cid-tutorial.7");
my @blocks = map { s/\\e/\\/gr } $tutorial =~ /^\.Bd -literal[^\n]*\n(.*?)^\.Ed$/msg;
ok(@blocks >= 5, 'the tutorial has commands');
sub inode { return (stat $_[0])[1] }
for my $text (@blocks) {
    my ($first) = split /\n/, $text;
    if ($text !~ /^(?!\w+ :=)/m) { # lines of a conf file: the preflight takes them
        spew('conf/more.mk', "include conf/mine.mk\n$text");
        is(system("make -f pipeline.mk DATA=more BIN=$bin preflight >out 2>said"), 0, "tutorial: $first") or diag slurp('said');
        next;
    }
    spew('block.sh', "set -eu -o pipefail; PATH=$bin:\$PATH BIN=$bin\nexport BIN\n" . smaller($text) =~ s/^make .*/$& BIN=$bin/mgr =~ s/K=2000/K=4/r);
    is(system('bash block.sh >out 2>said'), 0, "tutorial: $first") or diag slurp('said');
}
is((split /\n/, slurp('curve.tsv'))[0], "distance\tkept\tshare", 'a curve');
is(inode('work/mine-k2000/embed/image/00000.npy'), inode('work/mine/embed/image/00000.npy'), 'another K embeds nothing again');
isnt(slurp('work/mine-k2000/student/open_clip_model.safetensors'), slurp('work/mine/student/open_clip_model.safetensors'), '... and is another student');
like(slurp('beside.html'), qr/Settings that differ.*<td>cluster<.*wds_cifar10.*mine: student.*mine-k2000: student/s, '... beside the first one on a page');
like(slurp($_), qr/<figure>/, "pictures in $_") for qw(find.html dropped.html);
like(slurp('near/ledger.tsv'), qr{in-evaluation=[1-9]}, 'training pictures that are evaluation pictures are counted');
done_testing();
