#!/usr/bin/env perl
# The page of a whole run: its sections, what was lost, contrast in light and dark; in a real browser, where there is one: no errors,
# every link of the sections reached by the keyboard, nothing wider than a phone. Two runs side by side; a page that is written anew.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use Test::More;
use Time::HiRes qw(sleep time);
use lib 'tests/cli';
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } qw(shard-read teacher-embed sem-balance kmeans-cluster distill-train zs-eval cid-report);
my $dir = tempdir(CLEANUP => 1);
make_shards($dir, 2, 12);
# One picture that is none, one without a caption.
mkdir "$dir/stage" or die;
spew("$dir/stage/a<i>.jpg", 'no picture');
spew("$dir/stage/a<i>.txt", 'a caption');
system("cp tests/data/images/palette.png $dir/stage/b.png") == 0 or die;
# Two with a class.
for my $k ('c', 'd') {
    system("cp tests/data/images/palette.png $dir/stage/$k.png") == 0 or die;
    spew("$dir/stage/$k.txt", "class $k");
    spew("$dir/stage/$k.json", qq({"category": "$k"}));
}
tar_folder("$dir/stage", "$dir/shards/00002.tar");
make_eval_set("$dir/eval/wds_things");
make_teacher("$dir/teacher");
make_student("$dir/student.json");
spew("$dir/conf.mk", <<"EOC");
SHARD_DIR := $dir/shards
SHARDS := 00000 00001 00002
TEACHER := $dir/teacher
STUDENT := $dir/student.json
K := 3
BALANCE := --remove 0.2
TRAIN := --steps 4 --batch 4
EVAL_SETS := $dir/eval/wds_things
NEIGHBOURS := yes
T_big := 1
MEM := 512M
EOC
my $make = "make -f pipeline.mk DATA=test CONF=$dir/conf.mk WORK=$dir/w BIN=$bin";
is(system("$make >$dir/said 2>&1"), 0, 'a run') or diag slurp("$dir/said");
my $page = slurp("$dir/w/test/report.html");

# ---- sections
my ($nav) = $page =~ /<nav.*?>(.*?)<\/nav>/s;
my @links = $nav =~ /href='#(\w+)'/g;
is("@links", 'samples balance clusters training evaluation provenance', 'the sections');
for my $id (@links) { is(scalar(() = $page =~ /<h2 id='$id'/g), 1, "section $id") }
my %section = map { my ($s) = $page =~ /(<h2 id='$_'.*?)(?=<h2 id=|<\/body>)/s; ($_ => $s // '') } @links;
like($section{samples}, qr/<h3>bad-image<\/h3>.*?<figure>.*?00002 a&lt;i&gt;/s, 'lost: a picture that is none, by its key');
like($section{samples}, qr/<h3>no-caption<\/h3>.*?<img alt='[^']*' src='data:image\/jpeg/s, 'lost: one without a caption, with its picture') or diag $section{samples} =~ s/base64,[^']*//gr;
like($section{balance}, qr/usable rows stay.*Share kept.*<svg.*<svg.*rows in a group.*The largest groups.*<img class='stays'/s, 'balance: curves, sizes, groups and what stays');
like($section{clusters}, qr/by their size.*<svg.*nearest to the centroid.*<img/s, 'clusters: sizes and a wall');
like($section{clusters}, qr/Purity: of 2 samples of this run with a class \(category, 2 of them\), 50\.0&nbsp;% .* by chance it would be 50\.0&nbsp;%/, '... purity against the classes of samples: two of one cluster') or diag $section{clusters} =~ s/base64,[^']*//gr;
# Of the evaluation set, by the teacher's rows: the same from labels that kmeans-cluster gives them.
mkdir "$dir/by-hand" or die;
is(system("$bin/kmeans-cluster -q --assign $dir/w/test/centroids.npy --labels-dir $dir/by-hand $dir/w/test/eval/rows/wds_things/0.npy"), 0, 'labels of the evaluation set');
my @label = unpack 'l<8', substr slurp("$dir/by-hand/0.npy"), -32;
my %of;
$of{ $label[$_] }{ $_ % 3 }++ for 0 .. 7;
my $pure = 0;
for my $c (values %of) { $pure += (sort { $b <=> $a } values %$c)[0] }
my $pure_is = sprintf '%.1f', 100 * $pure / 8;
like($section{clusters}, qr/Purity: of 8 samples of wds_things with a class \(cls, 3 of them\), \Q$pure_is\E&nbsp;% .* of all has 37\.5&nbsp;%/, "... and of an evaluation set: $pure_is %");
like($section{evaluation}, qr/<h3>Neighbours in wds_things, student<\/h3>.*?(?:<div class='set many near'>.*?<small>teacher<\/small><span title='0\.tar\/s\d'><img.*?<small>student, \d+ % in common<\/small>.*?){5}/s, 'neighbours: five pictures, the nearest by the teacher and by the student') or diag $section{evaluation} =~ s/base64,[^']*//gr;
like($section{evaluation}, qr/class='set many near'>.*<img class='stays'/s, '... those that both have in a frame');
like($section{training}, qr/student.*Learning rate.*Logit scale.*Gradient norm.*Samples a second.*Memory/s, 'training');
like($section{evaluation}, qr/95 % intervals.*wds_things: acc1.*class='span'/s, 'evaluation: intervals as a plot');
unlike($section{provenance}, qr/<td class='text'>[^<]* [0-9a-f]{24}</, 'no digests of contents');
like($section{evaluation}, qr/<b>wds_things, \w+<\/b>, taken for: [^<]*<\/p>\n<div class='set many'><div><small>\w+ thing<\/small><img alt/, 'the most frequent confusion, with pictures of both classes') or diag $section{evaluation} =~ s/base64,[^']*//gr;
like($section{provenance}, qr/K = 3.*Settings of the stages.*<td>cluster<\/td><td class='text'>3 .*--steps 4 --batch 4.*Time and memory/s, 'provenance: every setting');
unlike($page, qr/(?:src|href)='(?!data:|#)|https?:|<script|\@import|url\(/, 'no request, no script');

# ---- contrast
sub luminance { my ($c) = @_; $c = join '', map { $_ x 2 } split //, $c if length $c == 3;
    my @l = map { my $v = hex($_) / 255; $v <= 0.03928 ? $v / 12.92 : (($v + 0.055) / 1.055)**2.4 } $c =~ /../g; return 0.2126 * $l[0] + 0.7152 * $l[1] + 0.0722 * $l[2] }
sub contrast { my ($x, $y) = sort { $b <=> $a } map { luminance($_) } @_; return ($x + 0.05) / ($y + 0.05) }
my @schemes = $page =~ /:root\{(--bg.*?)\}/g;
is(scalar @schemes, 3, 'light, dark and paper');
my %light = $schemes[0] =~ /--([\w-]+):#(\w+)/g;
for my $k (0, 1) {
    my %v = (%light, $schemes[$k] =~ /--([\w-]+):#(\w+)/g);
    my @low = grep { contrast($v{$_->[0]}, $v{$_->[1]}) < 4.5 } map({ my $g = $_; map { [$_, $g] } qw(fg dim link) } qw(bg soft)), ['fg', 'warn'], map { ["c$_", 'bg'] } 0 .. 7;
    is(join(' ', map { "$_->[0] on $_->[1]" } @low), '', ('light', 'dark')[$k] . ': text has a contrast of 4.5');
    is(join(' ', grep { contrast($v{$_}, $v{bg}) < 3 } qw(in out)), '', '... bars of 3');
}

# ---- a browser
SKIP: {
    my ($browser) = grep { system("command -v $_ >/dev/null 2>&1") == 0 } qw(chromium-headless-shell chromium chromium-browser google-chrome);
    skip 'no Chromium here: the page is not looked at in a browser', 9 if !$browser;
    my $look = sub { my ($name, $script, $width) = @_;
        spew("$dir/$name.html", $page =~ s{</body>}{<script>addEventListener('load',()=>{let r;try{r=(()=>{$script})()}catch(e){r='error '+e}document.body.dataset.seen=r})</script></body>}r);
        my $dom = `timeout 60 $browser --headless --no-sandbox --disable-gpu --enable-logging=stderr --window-size=$width,800 --virtual-time-budget=2000 --dump-dom file://$dir/$name.html 2>$dir/browser`;
        return ($dom =~ /data-seen="([^"]*)"/ ? $1 : "nothing: $dom" =~ s/base64,[^']*//gr, slurp("$dir/browser"));
    };
    my ($seen, $log) = $look->('keys', q[
        const l=[...document.querySelectorAll('nav a')];
        return l.map(a=>{a.focus();const id=a.hash.slice(1),t=document.getElementById(id);return document.activeElement===a&&a.tabIndex>=0&&t?id:'?'+id}).join(' ')], 1000);
    is($seen, "@links", 'each link takes the focus and leads to its section');
    unlike($log, qr/CONSOLE/, 'nothing on the console') or diag $log;
    ($seen, $log) = $look->('images', q[const i=[...document.images];return i.length+' '+i.filter(x=>!x.complete||!x.naturalWidth).length], 1000);
    like($seen, qr/^[1-9]\d* 0$/, 'every picture is one');
    ($seen) = $look->('phone', q[return innerWidth+' '+document.documentElement.scrollWidth], 500);
    my ($inner, $scroll) = $seen =~ /^(\d+) (\d+)$/ or diag $seen;
    cmp_ok($scroll // 9e9, '<=', $inner // 0, 'nothing is wider than a narrow screen');
    for my $width (1000, 500) {
        ($seen) = $look->('letters', q[return [...document.querySelectorAll('svg')].filter(s=>{const b=[...s.querySelectorAll('text')].map(t=>t.getBoundingClientRect());
            return b.some((x,i)=>b.some((y,j)=>j>i&&x.left<y.right&&y.left<x.right&&x.top<y.bottom-4&&y.top<x.bottom-4))}).map(s=>s.textContent).join(';')], $width);
        is($seen, '', "no letters of a plot lie on others, $width wide");
    }
    ($seen) = $look->('headings', q[return [...document.querySelectorAll('svg')].every(s=>s.getAttribute('role')==='img'&&s.querySelector('title')&&s.getBoundingClientRect().height>0)], 1000);
    is($seen, 'true', 'every plot has a name and a size');
    ($seen) = $look->('colour', q[return getComputedStyle(document.body).color+getComputedStyle(document.body).backgroundColor], 1000);
    is($seen, 'rgb(29, 33, 38)rgb(255, 255, 255)', 'light, where the reader chose nothing else');
    is(system("timeout 60 $browser --headless --no-sandbox --disable-gpu --screenshot=$dir/shot.png --window-size=900,900 file://$dir/w/test/report.html >/dev/null 2>&1") | (-s "$dir/shot.png" > 5000 ? 0 : 1), 0, 'and is drawn');
}

# ---- evaluations in training, of sets with long names: names of curves are whole, their time is a share of the run's
mkdir "$dir/long" and mkdir "$dir/long/log" or die;
spew("$dir/long/s.jsonl", join '', slurp("$dir/w/test/student.jsonl"), map { my $k = $_;
    map { qq({"step":$k,"eval":"wds_a_set_of_a_long_name","weights":"$_","metrics":{"mean_per_class_recall":0.$k},"took":4.0,"eval_seconds":@{[4 * $k]},"seconds":@{[5 * $k]}}\n) } 'trained', 'ema' } 1, 2);
is(system("$bin/cid-report -q -o $dir/long.html $dir/long 2>$dir/said"), 0, 'a log with evaluations') or diag slurp("$dir/said");
my $long = slurp("$dir/long.html");
like($long, qr/Evaluated while it trained, 8\.0 s, 80\.0% of the run's time/, 'their share is of all that the log tells of');
SKIP: {
    my ($browser) = grep { system("command -v $_ >/dev/null 2>&1") == 0 } qw(chromium-headless-shell chromium chromium-browser google-chrome);
    skip 'no Chromium here', 2 if !$browser;
    for my $width (1000, 500) {
        spew("$dir/cut.html", $long =~ s{</body>}{<script>addEventListener('load',()=>{document.body.dataset.seen=[...document.querySelectorAll('svg')].flatMap(s=>{const r=s.getBoundingClientRect().right;return [...s.querySelectorAll('text')].filter(t=>t.getBoundingClientRect().right>r+1).map(t=>t.textContent)}).join(';')})</script></body>}r);
        my $dom = `timeout 60 $browser --headless --no-sandbox --disable-gpu --window-size=$width,800 --virtual-time-budget=2000 --dump-dom file://$dir/cut.html 2>/dev/null`;
        is($dom =~ /data-seen="([^"]*)"/ ? $1 : 'nothing', '', "no letters are cut off, $width wide");
    }
}

# ---- two runs
is(system("$make RUN=k2 K=2 >$dir/said 2>&1"), 0, 'a run beside it') or diag slurp("$dir/said");
is(system("$bin/cid-report -q -o $dir/both.html $dir/w/test $dir/w/test-k2/ 2>$dir/said"), 0, 'both on one page') or diag slurp("$dir/said");
my $both = slurp("$dir/both.html");
my ($settings) = $both =~ /(<h2 id='settings'.*?)<h2/s;
like($settings, qr/<td>cluster<\/td><td class='text'>3 [^<]*<\/td><td class='text'>2 /, 'the setting that differs');
unlike($settings, qr/<td>embed</, 'and not those that do not');
like($both, qr/<th>test<\/th><th>test-k2<\/th>.*<td>balance<\/td><td>\d+ of 26<\/td><td>\d+ of 26<\/td>/s, 'the account of both');
like($both, qr/test: student.*test-k2: student.*test-k2: teacher/s, 'and the models of both');
isnt(system("$bin/cid-report -q -o $dir/x.html $dir/w/test $dir/none 2>$dir/said"), 0, 'a run that is not there');
like(slurp("$dir/said"), qr/cannot read '\S+none'/, 'is named');
is(system("$bin/cid-report --watch -o $dir/x.html $dir/w/test $dir/w/test-k2 2>$dir/said") >> 8, 2, 'no watching of two');
is(system("$bin/cid-report --watch $dir/w/test >$dir/x 2>$dir/said") >> 8, 2, 'nor onto standard output');

# ---- watched
my $pid = fork // die;
if (!$pid) { open STDERR, '>', "$dir/watched" or die; exec "$bin/cid-report", '-q', '--watch', '-o', "$dir/live.html", "$dir/w/test" or exit 127 }
sub until_true { my ($fn) = @_; my $end = time + 40; while (time < $end) { return 1 if $fn->(); sleep 0.2 } return 0 }
ok(until_true(sub { slurp("$dir/live.html") =~ /<\/html>/ }), 'a page at once');
like(slurp("$dir/live.html"), qr/<script>setTimeout\(\(\)=>location\.reload\(\),5000\)/, 'that loads itself again');
system("cp $dir/w/test/student.jsonl $dir/w/test/second.jsonl") == 0 or die;
ok(until_true(sub { slurp("$dir/live.html") =~ /<h3>second<\/h3>/ }), 'and is written anew when the folder has changed');
kill 'TERM', $pid;
waitpid $pid, 0;
is($?, 0, 'until it is told to stop') or diag slurp("$dir/watched");
done_testing();
