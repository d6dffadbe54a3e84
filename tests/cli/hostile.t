#!/usr/bin/env perl
# Every tool against a careless user: wrong options, files that are none, folders in the place of files, full disks, closed
# descriptors, names of any kind, no samples, one, tiny ones. It answers in one line under its name and exits 1, or 2 for
# wrong usage; nothing is left half written.
use strict;
use warnings;
use utf8;
use open qw(:std :encoding(UTF-8));
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use Test::More;
use lib abs_path('tests/lib');
use Store;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
my $said;
# The redirections of $args come last, so that they hold.
sub run { my ($args) = @_; my $rc = system('bash', '-c', "2>said $bin/$args"); $said = slurp('said'); utf8::decode($said); return $rc & 127 ? -($rc & 127) : $rc >> 8; }
sub refused { my ($want, $args, $like, $what) = @_;
    my ($tool) = $args =~ /^(\S+)/;
    my $rc = run($args);
    ok($rc == $want && $said =~ /\A\Q$tool\E: [^\n]*\n\z/ && $said =~ $like, "$tool: " . ($what // $args =~ s/.{60}\K.*//sr)) or diag "exit $rc: $said";
}
sub works { my ($args, $what) = @_; is(run($args), 0, $what) or diag $said; }

# ---- something for each tool to do
my $shard = "$data/shards/00000.tar";
make_path('model', 'folder', 'cls/test', 'stage', 'work/index', 'work/keep', 'work/labels');
copy($_, 'model/') or die for glob("$data/models/odd/open_clip*"), glob("$data/tokenizer/openai/*");
works("shard-read -q --size 29 -o s.samples --index work/index/00000.tsv $shard", 'samples');
works("teacher-embed -q -m model -o x.npy s.samples", 'embeddings');
for my $i (0, 1) { copy("$data/images/444.jpg", "stage/s$i.jpg"); spew("stage/s$i.cls", $i); }
system('tar -C stage --sort=name --format=ustar -cf cls/test/0.tar .') == 0 or die;
spew('cls/test/nshards.txt', "1\n");
spew('cls/classnames.txt', "a cat\na dog\n");
spew('cls/zeroshot_classification_templates.txt', "{c}\n");
spew('empty', '');
spew('zeros', "\0" x 70000);
spew('cut.samples', substr slurp('s.samples'), 0, 5000);
spew('cut.npy', substr slurp('x.npy'), 0, -1);
spew('cut.tar', substr slurp($shard), 0, 3000);
make_path('found/index', 'found/embed/image');
spew('found/embed/image/x.npy', slurp('x.npy'));
spew('found/index/x.tsv', "0\tk\tok\t-\t1\t1\t1\n");
my $distill = 'distill-train -q --student model/open_clip_config.json --tokenizer model --loss clip --batch 4 --steps 1';
my %does = (
    'shard-read' => "-q --size 8 $shard",
    'teacher-embed' => '-q -m model s.samples',
    'sem-balance' => '-q --distance 0.1 x.npy',
    'kmeans-cluster' => '-q -k 2 x.npy',
    'distill-train' => '-q --student model/open_clip_config.json --tokenizer model --loss clip --batch 4 --steps 1 s.samples',
    'zs-eval' => '-q -m model cls',
    'cid-report' => '-q work',
    'cid-find' => '-q --key x:0 found',
);
# A server of its own, where this build reads from servers.
my $remote = system("$bin/shard-list s3://b 2>&1 | grep -q 'made without libcurl'");
my $store;
if ($remote) {
    make_path('root/b');
    spew('root/b/a.tar', slurp $shard);
    $store = Store->new_at('root');
    my %env = $store->env;
    $ENV{$_} = $env{$_} for keys %env;
    $does{'shard-list'} = '-q s3://b';
}
my @tools = sort keys %does;
my @all = sort map { s{.*/}{}r =~ s{\.c$}{}r } glob "$data/../../tools/*.c";
is("@tools", join(' ', grep { $remote || $_ ne 'shard-list' } @all), 'every tool is here');

my $long = 'a' x 300;
my $deep = 'folder/' x 700;
for my $tool (@tools) {
    my $does = "$tool $does{$tool}";
    refused(2, "$tool --no-such", qr/unknown option '--no-such'; try --help/);
    refused(2, "$tool -t", qr/needs an argument/);
    refused(2, "$does -t $_", qr/--threads/) for 'x', '-1', '99999';
    refused(2, "$does ''", qr/operand \d is empty|too many operands/, 'an empty operand');
    refused(1, "$tool --help >/dev/full", qr/cannot write standard output/);
    refused(1, "$tool --version >&-", qr/cannot write standard output/);
    works("$tool --help | head -1 >/dev/null", "$tool --help | head");
    is($said, '', '... says nothing');
    # Outputs; the folder of distill-train is one.
    my $folder = $tool eq 'distill-train';
    refused(1, "$does -o folder", qr/folder.*Is a directory/) unless $folder;
    refused(1, "$does -o nowhere/x", qr{nowhere/x.*No such file}, 'no such folder');
    refused(1, "$does -o empty/x", qr{empty/x.*Not a directory}, 'a file for a folder');
    refused(2, "$does -o ''", qr/--output: the value is empty/, 'an output without a name');
    refused(1, "$does -o $long", qr/File name too long/, 'a long name');
    refused(1, "$does -o $deep", qr/folder|too long/, 'a deep one') unless $folder;
    refused(1, "$does -o /dev/full", $folder ? qr/Not a directory/ : qr/No space/);
    refused(1, "$does >/dev/full", qr/standard output: No space/) unless $folder;
    refused(1, "$does >&-", qr/standard output: Bad file/) unless $folder;
    works("$does -o 'Größe 中.out'", "$tool: a name with a space and letters");
    ok(-e 'Größe 中.out', '... is there');
    remove_tree('Größe 中.out');
    works("$does -o out >&- 2>&- <&-", "$tool: no descriptors");
    ok($folder ? -e 'out/open_clip_config.json' : -s 'out', '... does its work');
    remove_tree('out');
    SKIP: {
        skip 'needs root, or setpriv', 2 if $> != 0 || system('setpriv --reuid=65534 --clear-groups true 2>/dev/null');
        make_path('held');
        spew('held/out', 'old');
        chmod 0444, 'held/out';
        chmod 0777, 'held', '.';
        chmod 0755, $dir;
        my $rc = system('bash', '-c', "setpriv --reuid=65534 --clear-groups $bin/$does -o held/out 2>said") >> 8;
        skip 'another user cannot run it', 2 if $rc > 2 || ($rc == 1 && slurp('said') =~ /setpriv/);
        $said = slurp('said');
        ok($rc == 1 && $said =~ /\A$tool: [^\n]*\n\z/, "$tool: a file that may not be written") or diag "exit $rc: $said";
        is(slurp('held/out'), 'old', '... is kept');
        remove_tree('held');
    }
}
is(join(' ', glob '.*.tmp'), '', 'nothing half written');

# ---- inputs
for my $f ('empty', 'folder', 'missing', 'zeros', 'cut.samples', $long) {
    refused(1, "teacher-embed -q -m model -o y $f", qr/\Q$f\E/);
    refused(1, "$distill -o run $f", qr/\Q$f\E/);
}
for my $f ('empty', 'folder', 'missing', 'zeros', 'cut.npy', $long) {
    refused(1, "sem-balance -q --distance 0.1 -o y $f", qr/\Q$f\E/);
    refused(1, "kmeans-cluster -q -k 2 -o y $f", qr/\Q$f\E/);
}
for my $f ('empty', 'folder', 'missing', 'zeros', 'cut.tar', $long) {
    refused(1, "shard-read -q -o read $f", qr/\Q$f\E/) unless $f =~ /^(empty|zeros)$/; # archives of nothing
    refused(1, "teacher-embed -q -m $f -o y s.samples", qr/\Q$f\E/);
    refused(1, "zs-eval -q -m $f -o y cls", qr/\Q$f\E/);
    refused(1, "zs-eval -q -m model -o y $f", qr/\Q$f\E/);
    refused(1, "cid-report -q -o y $f", qr/\Q$f\E/);
}
refused(1, "teacher-embed -q -m model -o y <&-", qr/standard input: cannot read/, 'standard input closed');
refused(1, "$distill -o run <&-", qr/standard input: cannot read/, 'standard input closed');
refused(1, "teacher-embed -q -m model -o y < cut.samples", qr/standard input: .*truncated/, 'a stream that breaks off');
refused(1, "shard-read -q -o y --files-from missing", qr/cannot open 'missing'/, 'no list of shards');
refused(1, "zs-eval -q -m model --cache empty cls", qr/'empty': Not a directory/, 'a file for a cache');
refused(1, "$distill -o run --data 'nosuchcommand x'", qr/cannot run the data command 'nosuchcommand': No such file/, 'no such command');
copy('x.npy', "work/$_/00000.npy") for 'labels', 'keep';
refused(1, "cid-report -q -o y work", qr{keep/00000.npy.*type <f2}, 'embeddings for keep masks');
ok(!-e "run/open_clip_config.json" && !-e "y", 'none of them left an output');

# ---- an output in the place of an input, or of another
copy($shard, 'own.tar');
symlink 'own.tar', 'link.tar';
refused(2, "shard-read -q -o own.tar own.tar", qr/'own.tar' is an input/, 'an output that is an input');
refused(2, "shard-read -q -o z --index ./own.tar link.tar", qr/own.tar' is an input/, '... by another name');
refused(2, "shard-read -q -o z --index z own.tar", qr/two outputs are named z/, 'two outputs of one name');
refused(2, "teacher-embed -q -m model -o s.samples s.samples", qr/'s.samples' is an input/, 'an output that is an input');
refused(2, "teacher-embed -q -m model -o own.tar --shards own.tar", qr/'own.tar' is an input/, 'an output that is an input');
refused(2, "zs-eval -q -m model -o z --predictions z cls", qr/two outputs are named z/, 'two outputs of one name');
ok(slurp('own.tar') eq slurp($shard), 'the input is as it was');
my $rows = slurp('x.npy');
refused(1, "kmeans-cluster -q -k 1 -o x.npy x.npy", qr/'x.npy' is an input/, 'an output that is an input');
refused(1, "kmeans-cluster -q -k 1 -o c.npy --labels-dir . x.npy", qr/x.npy is an input/, 'labels in the place of embeddings');
refused(1, "sem-balance -q -o x.npy x.npy", qr/'x.npy' is an input/, 'an output that is an input');
refused(1, "sem-balance -q -o b.json --keep-dir . x.npy", qr/x.npy is an input/, 'masks in the place of embeddings');
refused(1, "sem-balance -q -o b.json --keep-dir work --groups-dir work x.npy", qr/two outputs go to the folder work/, 'masks and groups in one folder');
ok(slurp('x.npy') eq $rows && !-e 'b.json', 'the embeddings are as they were');
works('shard-read -q --images no -o /dev/null --index /dev/null own.tar', 'a device may take both');
refused(2, 'shard-read -q -o - --index - own.tar | cat; exit ${PIPESTATUS[0]}', qr/two outputs are named -/, 'two on standard output');

# ---- none, one, tiny ones
remove_tree('stage');
make_path('stage', 'größe 中');
system('tar -cf none.tar -T /dev/null') == 0 or die;
copy("$data/images/1x1.jpg", 'stage/1.jpg');
spew('stage/1.txt', 'a dot');
system('tar -C stage --format=ustar -cf one.tar 1.jpg 1.txt') == 0 or die;
copy("$data/images/$_.jpg", "stage/ä $_.jpg") for '1x90', '300x2';
spew("stage/ä $_.txt", 'a line') for '1x90', '300x2';
system(q(tar -C stage --sort=name --format=pax -cf 'größe 中/ö 1.tar' .)) == 0 or die;
for my $in ('none.tar', 'one.tar', 'größe 中/ö 1.tar') {
    works("shard-read -q --size 29 -o t.samples '$in'", "$in: samples");
    works("teacher-embed -q -m model -o 'größe 中/t.npy' --text-out t2.npy t.samples", "$in: embeddings");
    works("sem-balance -q --distance 0.1 -o t.json 'größe 中/t.npy'", "$in: balance");
    if ($in eq 'none.tar') {
        refused(1, "kmeans-cluster -q -k 1 -o c.npy t2.npy", qr/there are 0/);
        refused(1, "$distill -o run t.samples", qr/no samples/);
    } else {
        works("kmeans-cluster -q -k 1 -o c.npy 'größe 中/t.npy'", "$in: a cluster");
        works("$distill --batch 1 --overwrite -o 'größe 中/student' t.samples", "$in: a student");
    }
}
refused(1, "$distill --batch 4 --epochs 1 -o run t.samples", qr/3 samples do not fill a batch of 4/, 'less than a batch');
done_testing;
