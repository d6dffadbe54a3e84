#!/usr/bin/env perl
# cid-report: a folder made by hand has its facts, curves and times; the account is of the files that are there, whatever
# their dates; asking writes nothing; no result is left out; damaged numbers are named; hostile names and captions stay text.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
chdir tempdir(CLEANUP => 1) or die;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
my $said;
sub run { my (@c) = @_; my $pid = fork // die;
    if (!$pid) { open STDERR, '>', 'said' or die; open STDOUT, '>', 'out' or die; exec @c or exit 127 }
    waitpid $pid, 0; $said = slurp('said'); return $? & 127 ? -1 : $? >> 8; }
sub tool { my ($name, @a) = @_; return run("$bin/$name", @a) }
sub page { my ($work, @a) = @_; my $rc = tool('cid-report', '-q', '-o', 'r.html', @a, $work); diag $said if $rc; return slurp('r.html') =~ s/<style>.*<\/style>//sr =~ s/base64,[^']*/BASE64/gr }
sub npy { my ($descr, $pack, @v) = @_; my $h = sprintf "{'descr': '%s', 'fortran_order': False, 'shape': (%d,), }", $descr, scalar @v;
    $h .= ' ' x (63 - (10 + length $h) % 64) . "\n"; return "\x93NUMPY\1\0" . pack('v', length $h) . $h . pack $pack, @v }
sub files { return join "\n", sort split /\n/, `find "$_[0]" -type f -printf '%p %s %T\@ %C\@\n'` }

# ---- a folder by hand: two shards, masks, groups, clusters, a student, results
make_path('shards', 'model', map { "w/$_" } qw(index embed/image embed/text keep groups labels eval log));
copy($_, 'model/') or die for glob("$data/models/odd/open_clip*"), glob("$data/tokenizer/openai/*");
my @pictures = sort grep { -s $_ > 500 } map { glob "$data/images/$_" } qw(4*.jpg *grey.png palette.png prog*.jpg page.jpg);
my $hostile = q(<script>alert("1")</script> & 'so' on);
for my $s (0, 1) {
    make_path('stage');
    for my $i (0 .. 11) {
        my $p = $pictures[($i + 5 * $s) % @pictures];
        my ($ext) = $p =~ /\.(\w+)$/;
        copy($p, sprintf 'stage/%05d.%s', $i, $ext) or die;
        spew(sprintf('stage/%05d.txt', $i), $i % 2 ? "$hostile $i" : "thing \x{1} $i");
    }
    system('tar', '--sort=name', '-C', 'stage', '-cf', "shards/0000$s.tar", '.') == 0 or die;
    remove_tree('stage');
    is(tool('shard-read', '--size', 29, '--index', "w/index/0000$s.tsv", '-o', 's.samples', "shards/0000$s.tar"), 0, "shard $s") or diag $said;
    is(tool('teacher-embed', '-q', '-m', 'model', '--image-out', "w/embed/image/0000$s.npy", '--text-out', "w/embed/text/0000$s.npy", 's.samples'), 0, '... embedded') or diag $said;
}
my @images = glob 'w/embed/image/*.npy';
is(tool('sem-balance', '-q', '--remove', '0.3', '--keep-dir', 'w/keep', '--groups-dir', 'w/groups', '-o', 'w/balance.json', @images), 0, 'balance') or diag $said;
is(tool('kmeans-cluster', '-q', '-k', 3, '--keep-dir', 'w/keep', '-o', 'w/centroids.npy', '--labels-dir', 'w/labels', @images), 0, 'clusters') or diag $said;
spew('student.json', '{"embed_dim":20,"vision_cfg":{"image_size":29,"patch_size":7,"width":24,"layers":2,"head_width":12},'
    . '"text_cfg":{"context_length":11,"vocab_size":1214,"width":16,"layers":2,"heads":2}}');
is(tool(qw(distill-train -q --student student.json --tokenizer model --batch 4 --steps 7 --lr 0.002 --teacher-image w/embed/image --teacher-text w/embed/text --labels w/labels --centroids w/centroids.npy -o w/small),
        '--data', "$bin/shard-read -q --size 29 --seed {seed} --epoch {epoch} --keep w/keep shards/00000.tar shards/00001.tar"), 0, 'a student') or diag $said;
spew('w/log/embed.log', "shard-read: 24 samples; 1.5 s, 16/s, 8 MB peak\nteacher-embed: 24 samples, 0 without a picture; waited 0.0 s for samples; 2.5 s, 10/s, 24 MB peak\n");
my $page = page('w', '--shards', 'shards');
like($page, qr/<h1>clip-cid: w</, 'the title');
like($page, qr/2 shards, 24 samples/, 'the data');
like($page, qr/teacher<.*?>model; 20 columns; digest [0-9a-f]{32}; teacher-embed \d/, 'the teacher');
like($page, qr/balance<.*?cosine distance [\d.e-]+; \d+ of 24 kept/, 'the balance');
like($page, qr/clusters<.*?K = 3 of 20 columns/, 'the clusters');
like($page, qr/model small<.*?20 columns; pictures 2 x 24, texts 2 x 16/, 'the student');
my ($trained) = $page =~ /trained with (.*)/;
for my $what ('batch 4', 'lr 0.002', 'steps 7', 'instance=1', 'cluster=0.1') { like($trained, qr/\b\Q$what\E\b/, "how it was trained: $what") }
like($page, qr/\d{4}-\d\d-\d\d \d\d:\d\d UTC, clip-cid \d/, 'date and version');
like($page, qr/<h3>small<\/h3>\n<p>7 steps, 28 samples; /, 'its curves, from the log in its folder');
my ($svg) = $page =~ /(<svg.*?<\/svg>)/s;
my @ticks = $svg =~ /class='[xy]'>([-\d.e]+)</g;
ok(@ticks >= 4 && !(grep { !/^-?0?\.?0*[1-9]?[05]?0*(?:\.[0-9])?$/ && !/^-?\d$/ } @ticks), "round ticks: @ticks");
like($page, qr/<td>embed<\/td><td>2<\/td><td>0<\/td><td>0<\/td><td>4\.0<\/td>/, 'the time of tools that were logged by hand');
unlike($page, qr/<script/, 'a caption is text');
like($page, qr/title='0000\d 000\d\d: &lt;script&gt;alert\(&quot;1&quot;\)&lt;\/script&gt; &amp; &#39;so&#39; on/, '... whole, with shard and key');
ok($page !~ /[\x00-\x08\x0e-\x1f]/, '... without control characters');
my $whole = slurp('r.html');
my @shown = $whole =~ /src='data:(image\/\w+);base64,([^']*)'/g;
ok(@shown > 20 && !(grep { $_ % 2 ? length $shown[$_] > 30_000 : $shown[$_] ne 'image/jpeg' } 0 .. $#shown), 'small pictures only');
chdir 'w';
is(tool('cid-report', '-q', '-o', '../r.html', '.'), 0, 'the folder where one is');
chdir '..';
like(slurp('r.html'), qr/<h1>clip-cid: w</, '... has its name');

# ---- a question writes nothing; the account is of the files that are there
my $before = files('w');
is(tool('cid-report', '--ledger', 'w'), 0, '--ledger');
like(slurp('out'), qr/^read +24 +24 +0/m, '... prints the sums');
is(files('w'), $before, '... and writes nothing');
unlink 'w/ledger.tsv';
is(tool('cid-report', '--ledger', 'w'), 0, 'nor without a ledger');
ok(!-e 'w/ledger.tsv', '... makes one');
page('w');
ok(-s 'w/ledger.tsv', 'the page does');
sub kept { tool('cid-report', '--ledger', 'w'); return slurp('out') =~ /^balance +\d+ +(\d+)/m ? $1 : '?' }
sub put_mask { my ($dir, $shard, $n) = @_; spew("$dir/$shard.npy", npy('|u1', 'C*', map { $_ < $n ? 1 : 0 } 0 .. 11)) }
my @old = (time - 7200, time - 7200);
put_mask('w/keep', $_, 3) for '00000', '00001';
unlink glob 'w/labels/*';
utime @old, glob 'w/keep/*';
page('w');
is(kept(), 6, 'masks');
sleep 3; # until the files are old enough to be known by their times
page('w');
ok(slurp('w/.ledger.seen') =~ /\t00001$/m, 'known by their files');
is(kept(), 6, '... the same account');
put_mask('w/keep', '00000', 9);
utime @old, 'w/keep/00000.npy';
is(kept(), 12, 'a mask put back with its old date');
make_path('other');
put_mask('other', $_, 5) for '00000', '00001';
utime @old, glob 'other/*';
sleep 3;
page('w');
rename 'w/keep', 'was';
rename 'other', 'w/keep';
is(kept(), 10, 'a folder put in place of another');
page('w');
spew('w/ledger.tsv', slurp('w/ledger.tsv') =~ s/^balance\t00000\t12\t5\t7\tnear-duplicate=7/balance\t00000\t12\t1\t11\tnear-duplicate=11/mr);
is(kept(), 10, 'a ledger that somebody changed');

# ---- all results
spew('w/eval/small.json', join '', map { sprintf qq({"dataset":"set%03d","task":"t","metrics":{"acc1":0.5},"n":8,"confusions":[{"label":"a%d","predicted":"b","count":%d}]}\n), $_, $_, $_ % 2 + 1 } 1 .. 90);
spew('w/eval/teacher.json', slurp('w/eval/small.json'));
$page = page('w');
is(scalar(() = $page =~ /<tr><td>set\d\d\d/g), 180, 'every result is there');
is(scalar(() = $page =~ /taken for/g), 90, 'confusions that were met once are noise');
like($page, qr/set089<.*?set090<.*?small<.*?set090<.*?teacher</s, 'in order');
spew('w/eval/teacher.json', "{\"dataset\":\"x\"}\nno json\n");
is(tool('cid-report', '-o', 'r.html', 'w'), 1, 'a damaged result');
like($said, qr/w\/eval\/teacher\.json: line 2: /, '... by file and line');
unlink 'w/eval/teacher.json';

# ---- training in parts, logs of several commands
my $step = sub { my ($n, $rate) = @_; return sprintf qq({"step":%d,"epoch":0,"samples":%d,"loss":1.5,"samples_per_second":%g}\n), $n, 10 * $n, $rate };
spew('w/parts.jsonl', join('', map { $step->($_, 100) } 1 .. 5) . join '', map { $step->($_, 5) } 6 .. 10);
make_path('w/log/parts');
spew('w/log/parts/x.log', "# kmeans -k 4\n# host h, start s\ntool: x\n# end 2026-01-01T00:00:00Z, 10.0 s, status 0\n"
    . "# kmeans -k 3\n# host h, start s\n"
    . "# kmeans -k 3\n# host h, start s\n# end 2026-01-01T00:00:00Z, 2.0 s, status 1\n"
    . "# kmeans -k 3\n# host h, start s\n# end 2026-01-01T00:00:00Z, 3.0 s, status 0\n");
$page = page('w');
like($page, qr/<h3>parts<\/h3>\n<p>10 steps, 100 samples; 10\.5 s in steps, 10 samples\/s/, 'the time of every step counts');
like($page, qr/<td>parts<\/td><td>4<\/td><td>1<\/td><td>1<\/td><td>5\.0<\/td><td>10\.0<\/td>/, 'runs of another K stand apart, one cut off is counted');

my $parted = sub { my ($n, $part, $s) = @_; return sprintf qq({"step":%d,"samples":%d,"loss":1.5,"samples_per_second":10,"part":%d,"seconds":%g}\n), $n, 10 * $n, $part, $s };
spew('w/parts.jsonl', join '', (map { $parted->($_, 1, $_ + 20) } 1 .. 3), map { $parted->($_, 3, $_ + 40) } 4 .. 5);
like(page('w'), qr/5 steps, 50 samples; 5\.0 s in steps, 10 samples\/s; 45\.0 s with data, checkpoints and start, in 3 parts/, 'parts and their time, as the log has them');

my $looked = sub { my ($n, $weights, $set, $v) = @_; return sprintf qq({"step":%d,"epoch":0,"samples":10,"eval":"%s","weights":"%s","task":"t","metrics":{"acc1":%g,"loss":9},"n":4,"took":1,"eval_seconds":4.5,"seconds":45}\n), $n, $set, $weights, $v };
spew('w/parts.jsonl', join '', (map { $parted->($_, 1, 45) } 1 .. 5), map { $looked->(@$_) } [2, 'trained', 'cif<ar', 0.25], [2, 'ema', 'cif<ar', 0.3], [5, 'trained', 'cif<ar', 0.5], [5, 'ema', 'cif<ar', 0.625]);
$page = page('w');
like($page, qr/<h3>parts<\/h3>\n<p>5 steps, 50 samples;/, 'evaluations are no steps');
like($page, qr/Evaluated while it trained, 4\.5 s, 10\.0% of the run's time: cif&lt;ar acc1 0\.5000 \(step 5\), ema\/cif&lt;ar acc1 0\.6250 \(step 5\)<\/p>\n<svg/, '... their last figures, and curves');
spew('w/parts.jsonl', join '', map { $parted->($_, 1, 45) } 1 .. 5);
unlike(page('w'), qr/Evaluated while/, 'nothing where there are none');

# ---- hostile names
rename 'w', q(w [1] *'"<b>);
my $odd = q(w [1] *'"<b>);
spew("$odd/index/00001.damaged", "torn <i>\n");
make_path("$odd/<b>x");
rename "$odd/small/log.jsonl", "$odd/<b>x/log.jsonl";
$page = page($odd);
like($page, qr/00001\.damaged: torn &lt;i&gt;/, 'damage is shown in a folder with brackets in its name');
like($page, qr/<h3>&lt;b&gt;x<.*?<svg/s, 'and curves');
like($page, qr/set001/, 'and results');
like($page, qr/<h1>clip-cid: w \[1\] \*&#39;&quot;&lt;b&gt;</, 'names are text');
rename $odd, 'w';
my $long = './' x 2038 . 'w';
is(tool('cid-report', '-o', 'r.html', $long), 1, 'a path that is too long for a file in it');
like($said, qr/path too long/, '... is not cut to the name of another file');
is(tool('cid-report', '--ledger', $long), 1, 'nor for the ledger');

# ---- damaged numbers
spew('w/labels/00000.npy', npy('<i4', 'l<*', (0) x 12));
spew('w/labels/00001.npy', npy('<i4', 'l<*', (0) x 11, 3));
is(tool('cid-report', '-o', 'r.html', 'w'), 1, 'a label beyond the centroids');
like($said, qr/w\/labels\/00001\.npy': row 11: label 3, where centroids\.npy has 3/, '... is named');
spew('w/labels/00001.npy', npy('<i4', 'l<*', (0) x 12));
spew('w/groups/00001.npy', npy('<i8', 'q<*', (-1) x 11, 100_000_000_000));
is(tool('cid-report', '-o', 'r.html', 'w'), 1, 'a group beyond the rows');
like($said, qr/w\/groups\/00001\.npy': row 11: group 100000000000, where the index has 24/, '... is named, and no memory asked for');

# ---- nothing to be about
make_path('empty');
is(tool('cid-report', '-o', 'none.html', 'empty'), 1, 'an empty folder');
like($said, qr/empty' has no index.*cid-report\(1\)/, '... is told what is looked for');
ok(!-e 'none.html', '... and no page');
is(tool('cid-report', '--ledger', 'nowhere'), 1, 'no folder');
done_testing();
