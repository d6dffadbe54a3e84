#!/usr/bin/env perl
# cid-find: the nearest rows are those that a plain loop finds, for any -t; probing and its recall; clusters, groups, captions that fit
# least, what was dropped for what; lines and the page; what is damaged or does not belong is refused by name.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
use lib 'tests/cli', 'tests/lib';
use Npy qw(npy);
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } qw(cid-find shard-read teacher-embed sem-balance kmeans-cluster);
my $dir = tempdir(CLEANUP => 1);
my $w = "$dir/w";
make_teacher("$dir/teacher");
make_path($w, "$dir/shards");
copy("tests/data/shards/0000$_.tar", "$dir/shards/0000$_.tar") or die for 0, 1;
# The caption of the last sample would be markup, and breaks lines.
make_path("$dir/stage");
copy((glob 'tests/data/images/4*.jpg')[0], "$dir/stage/evil<b>.jpg") or die;
spew("$dir/stage/evil<b>.txt", "<script>alert(1)</script>\tand\na line");
tar_folder("$dir/stage", "$dir/shards/hostile.tar");
spew("$dir/list", join '', map { "$dir/shards/$_.tar\n" } qw(00000 00001 hostile));
my $images = "$w/embed/image/00000.npy $w/embed/image/00001.npy $w/embed/image/hostile.npy";
sub sh { my ($c) = @_; is(system("$c >$dir/said 2>&1"), 0, (split ' ', $c)[0] =~ s{.*/}{}r) or diag slurp("$dir/said"); return; }
sh("$bin/shard-read --index-dir $w/index --max-bad 100% --files-from $dir/list");
make_path("$w/embed");
sh("$bin/teacher-embed -m $dir/teacher --partial --out-dtype f32 --shards-from $dir/list --image-dir $w/embed/image --text-dir $w/embed/text");
sh("$bin/sem-balance --remove 0.3 --keep-dir $w/keep --groups-dir $w/groups -o $w/balance.json $images");
sh("$bin/kmeans-cluster -k 5 -o $w/centroids.npy --labels-dir $w/labels $images");

# ---- the same by a plain loop
sub body { my ($f) = @_; my $t = slurp($f); return substr $t, 10 + unpack 'v', substr $t, 8, 2 }
my @names = qw(00000 00001 hostile);
my (@image, @text, @place, @label, @keep, @group, @key);
for my $s (@names) {
    my @lines = split /\n/, slurp("$w/index/$s.tsv");
    push @key, map { (split /\t/)[1] } @lines;
    my $n = @lines;
    for my $f (['image', \@image], ['text', \@text]) {
        my @x = unpack 'f<*', body("$w/embed/$f->[0]/$s.npy");
        my $dim = @x / $n;
        push @{ $f->[1] }, map { [@x[$_ * $dim .. $_ * $dim + $dim - 1]] } 0 .. $n - 1;
    }
    push @place, map { [$s, $_] } 0 .. $n - 1;
    push @label, unpack 'l<*', body("$w/labels/$s.npy");
    push @keep, unpack 'C*', body("$w/keep/$s.npy");
    push @group, unpack 'q<*', body("$w/groups/$s.npy");
}
my $dim = @{ $image[0] };
sub dot { my ($x, $y) = @_; my $s = 0; $s += $x->[$_] * $y->[$_] for 0 .. $#$x; return $s }
sub cosine { my ($x, $y) = @_; my $n = dot($x, $x) * dot($y, $y); return $n > 0 ? dot($x, $y) / sqrt $n : undef }
# Rows with their cosines, best first, in the tool's order.
sub expected { my ($of, $n, $least, @rows) = @_;
    my %c = map { my $c = $of->($_); defined $c ? ($_ => $c) : () } @rows;
    my @in_order = sort { ($least ? $c{$a} <=> $c{$b} : $c{$b} <=> $c{$a}) || $a <=> $b } keys %c;
    return [map { [$_, $c{$_}] } @in_order[0 .. ($n < @in_order ? $n : @in_order) - 1]];
}
my ($out, $said);
sub found { my (@args) = @_;
    my $rc = system("$bin/cid-find @args >$dir/out 2>$dir/said") >> 8;
    ($out, $said) = (slurp("$dir/out"), slurp("$dir/said"));
    return $rc;
}
my %row_of = map { ("$place[$_][0]\t$place[$_][1]" => $_) } 0 .. $#place;
# The order may differ where cosines differ in their last digits only.
sub agrees { my ($what, $expected) = @_;
    my @lines = split /\n/, $out;
    like(shift @lines, qr/^cosine\tshard\trow\tkey\tcluster\tkept\tcaption/, "$what: names of the columns");
    is(scalar @lines, scalar @$expected, "$what: so many lines") or diag $out;
    my $wrong = '';
    for my $i (0 .. $#lines) {
        my ($c, $shard, $row, $key, $cluster, $kept) = split /\t/, $lines[$i], -1;
        my $r = $row_of{"$shard\t$row"} // -1;
        $wrong .= "$lines[$i]\n" if abs($c - $expected->[$i][1]) > 2e-6 || $key ne $key[$r] || $cluster ne ($label[$r] < 0 ? '-' : $label[$r]) || $kept ne ($keep[$r] ? 'kept' : 'dropped')
            || ($r != $expected->[$i][0] && !grep { $_->[0] == $r && abs($_->[1] - $expected->[$i][1]) < 1e-9 } @$expected, [$r, $c]);
    }
    is($wrong, '', "$what: the rows of a plain loop, with key, cluster and mask");
    return;
}
my @all = 0 .. $#place;
my ($q) = grep { $place[$_][0] eq '00001' && $place[$_][1] > 3 && $label[$_] >= 0 && dot($text[$_], $text[$_]) > 0 } @all;
my $at = "00001:$place[$q][1]"; # a row that is no failed sample
is(found("--key $at -n 12 $w"), 0, '--key') or diag $said;
agrees('--key', expected(sub { cosine($image[$q], $image[$_[0]]) }, 12, 0, @all));
my $first = $out;
for my $t (2, 5) { is(found("-t $t --key $at -n 12 $w"), 0, "-t $t"); is($out, $first, 'the same bytes') }
is(found("--key 00001:$key[$q] -n 12 $w"), 0, '--key by the key');
is($out, $first, 'the same');
is(found("--key $at -n 1000 $w"), 0, 'more than there are');
agrees('all', expected(sub { cosine($image[$q], $image[$_[0]]) }, 1000, 0, @all));
is(found("--key $at -n 12 --kept $w"), 0, '--kept');
agrees('--kept', expected(sub { cosine($image[$q], $image[$_[0]]) }, 12, 0, grep { $keep[$_] } @all));
is(found("--among captions --key $at -n 12 $w"), 0, '--among captions');
agrees('--among captions', expected(sub { cosine($text[$q], $text[$_[0]]) }, 12, 0, @all));

# ---- text and picture: the model's own embeddings of them are what is compared
is(found("-m $dir/teacher -n 5 $w 'a red bicycle'"), 0, 'a text') or diag $said;
make_path("$dir/one");
copy((glob 'tests/data/images/4*.jpg')[0], "$dir/one/x.jpg") or die;
spew("$dir/one/x.txt", 'a red bicycle');
copy("$dir/one/x.jpg", "$dir/x.jpg") or die;
tar_folder("$dir/one", "$dir/x.tar");
sh("$bin/teacher-embed -m $dir/teacher --out-dtype f32 --image-out $dir/qi.npy --text-out $dir/qt.npy --shards $dir/x.tar");
my @qt = unpack 'f<*', body("$dir/qt.npy");
my @qi = unpack 'f<*', body("$dir/qi.npy");
agrees('a text', expected(sub { cosine(\@qt, $image[$_[0]]) }, 5, 0, @all));
is(found("-m $dir/teacher -n 5 --image $dir/x.jpg $w"), 0, '--image') or diag $said;
agrees('--image', expected(sub { cosine(\@qi, $image[$_[0]]) }, 5, 0, @all));

# ---- probing
is(found("--key $at -n 8 --probe 2 --exact $w"), 0, '--probe --exact') or diag $said;
my @c = unpack 'f<*', body("$w/centroids.npy");
my @near = (sort { cosine($image[$q], [@c[$b * $dim .. $b * $dim + $dim - 1]]) <=> cosine($image[$q], [@c[$a * $dim .. $a * $dim + $dim - 1]]) } 0 .. 4)[0, 1];
my @probed = grep { my $l = $label[$_]; grep { $_ == $l } @near } @all;
my $best = expected(sub { cosine($image[$q], $image[$_[0]]) }, 8, 0, @probed);
agrees('--probe', $best);
my %in = map { $_->[0] => 1 } @$best;
my $exact = expected(sub { cosine($image[$q], $image[$_[0]]) }, 8, 0, @all);
my $recall = sprintf '%.4f', (grep { $in{ $_->[0] } } @$exact) / 8;
like($said, qr/${\scalar @probed} of ${\scalar @all} rows compared, in the 2 nearest clusters/, 'how many rows that were');
like($said, qr/recall \Q$recall\E:/, 'the recall');
is(found("--key $at -n 12 --probe 100 $w"), 0, 'more clusters than there are');
is($out, $first, 'are all of them') if !grep { $label[$_] < 0 && cosine($image[$_], $image[$q]) } @all;

# ---- a cluster, a group, the worst captions, the dropped rows
is(found("--cluster 3 -n 100 $w"), 0, '--cluster');
agrees('--cluster', expected(sub { cosine([@c[3 * $dim .. 4 * $dim - 1]], $image[$_[0]]) }, 100, 0, grep { $label[$_] == 3 } @all));
is(found("--worst -n 9 $w"), 0, '--worst');
agrees('--worst', expected(sub { cosine($image[$_[0]], $text[$_[0]]) }, 9, 1, @all));
my %size;
$size{ $group[$_] }++ for grep { $group[$_] >= 0 } @all;
my ($big) = sort { $size{$b} <=> $size{$a} || $a <=> $b } keys %size;
my ($member) = grep { $group[$_] == $big && !$keep[$_] } @all;
is(found("--group $place[$member][0]:$place[$member][1] -n 100 $w"), 0, '--group') or diag $said;
agrees('--group', expected(sub { cosine($image[$big], $image[$_[0]]) }, 100, 0, grep { $group[$_] == $big } @all));
is(found("--dropped -n 7 --shards $dir/shards $w"), 0, '--dropped') or diag $said;
agrees('--dropped', expected(sub { cosine($image[$_[0]], $image[ $group[$_[0]] ]) }, 7, 1, grep { $group[$_] >= 0 && !$keep[$_] } @all));
my ($line) = (split /\n/, $out)[1];
my @f = split /\t/, $line, -1;
my $kept_row = $group[$row_of{"$f[1]\t$f[2]"}];
is(join(' ', @f[7 .. 9]), join(' ', @{ $place[$kept_row] }, $key[$kept_row]), 'with the row that is kept for it, by its key');
ok($f[6] ne '-' && $f[10] ne '-', 'and both captions') or diag $line;
# The order of the balance need not be that of the names.
sh("$bin/sem-balance --remove 0.3 --keep-dir $w/keep --groups-dir $w/groups -o $w/balance.json " . join ' ', reverse split ' ', $images);
is(found("--dropped -n 7 --shards $dir/shards $w"), 0, 'a balance in another order');
my @again = map { [(split /\t/)[0]] } split /\n/, $out;
shift @again;
ok(!(grep { abs($_->[0] - (expected(sub { cosine($image[$_[0]], $image[ $group[$_[0]] ]) }, 7, 1, grep { $group[$_] >= 0 && !$keep[$_] } @all))->[0][1]) > 1 } @again) && @again == 7, 'finds the kept rows all the same');
my ($l2) = (split /\n/, $out)[1];
my @g = split /\t/, $l2, -1;
cmp_ok(abs($g[0] - cosine($image[$row_of{"$g[1]\t$g[2]"}], $image[$row_of{"$g[7]\t$g[8]"}])), '<', 2e-6, 'the cosine is that of the two rows shown');

# ---- the page, and captions that are no markup
is(found("--key hostile:0 -n 3 --shards $dir/shards --page $dir/page.html -o $dir/table $w"), 0, '--page') or diag $said;
my $page = slurp("$dir/page.html");
unlike($page, qr/<script/i, 'a caption is no markup');
like($page, qr/&lt;script&gt;alert\(1\)&lt;\/script&gt;/, '... but text');
like($page, qr/<img alt='[^']*' src='data:image\/jpeg;base64,/, 'pictures are in it');
unlike($page, qr/(?:src|href)='(?!data:|#)/, 'and no request to a host');
is(scalar(() = slurp("$dir/table") =~ /\n/g), 4, 'a caption of two lines is one line of the table');
is($out, '', '-o: nothing on standard output');
is(found("--key hostile:evil -n 3 $w"), 1, 'a key that is not there');
is(found("'--key=hostile:evil<b>' -n 1 $w"), 0, 'a key with markup');

# ---- what is refused
for my $case (
    ['', $w, 2, qr/one question/], ['--worst --dropped', $w, 2, qr/not several/], ['', "$w 'text'", 2, qr/TEXT needs -m MODEL/], ["--image $dir/x.jpg", $w, 2, qr/--image needs -m/],
    ["--exact --key $at", $w, 2, qr/--exact goes with --probe/], ['--probe 2 --worst', $w, 2, qr/--probe goes with/], ['--kept --dropped', $w, 2, qr/--kept does not go/],
    ['--n 0 --worst', $w, 2, qr/-n|--n/], ['--key 00001:999', $w, 1, qr/'00001:999': the shard has \d+ rows/], ['--key 7', $w, 1, qr/is not SHARD:KEY/],
    ['--key none:1', $w, 1, qr/no shard 'none'/], ['--cluster 5', $w, 1, qr/no cluster 5: they are 0 to 4/], ['--worst', "$dir/none", 1, qr/none/],
    ["-m $dir/teacher --image $dir/list", $w, 1, qr/\Q$dir\E\/list/],
) {
    my ($args, $rest, $status, $why) = @$case;
    is(found("$args $rest"), $status, "refused: $args");
    like($said, $why, 'and why');
}
make_student("$dir/student.json");
SKIP: {
    skip 'distill-train is not built', 2 if !-x "$bin/distill-train";
    system("$bin/distill-train -q --student $dir/teacher/open_clip_config.json --tokenizer $dir/teacher --loss clip=1 --steps 1 --batch 4 -o $dir/other --data 'cat $dir/s' 2>/dev/null") if system("$bin/shard-read -q --model $dir/teacher $dir/shards/00000.tar --max-bad 100% >$dir/s") == 0;
    is(found("-m $dir/other $w 'a'"), 1, 'another model of the same width');
    like($said, qr/is not the model that made the embeddings/, 'is refused') or diag $said;
}
copy("$w/labels/00000.npy", "$dir/label") or die;
npy("$w/labels/00000.npy", '<i4', '3,', pack 'l<*', 0, 1, 2);
is(found("--key $at --probe 2 $w"), 1, 'labels of another length');
like($said, qr{labels/00000\.npy' has 3 rows}, 'are refused') or diag $said;
my $n0 = grep { $_->[0] eq '00000' } @place;
npy("$w/labels/00000.npy", '<i4', "$n0,", pack 'l<*', (7) x $n0);
is(found("--key $at --probe 2 $w"), 1, 'labels of other centroids');
like($said, qr/a label is 7, and there are 5 centroids/, 'are refused') or diag $said;
copy("$dir/label", "$w/labels/00000.npy") or die;
unlink "$w/centroids.npy";
is(found("--key $at --probe 2 $w"), 1, 'no centroids');
like($said, qr{centroids\.npy}, 'are named');
npy("$w/embed/image/hostile.npy", '<f4', "1, $dim", pack 'f<*', (0) x $dim);
unlink "$w/embed/image/hostile.npy.json";
is(found("--key hostile:0 $w"), 1, 'a failed sample');
like($said, qr/row 0 of shard 'hostile' is a failed sample/, 'has nothing near');
is(found("--key $at -n 1000 $w"), 0, 'among others');
unlike($out, qr/hostile/, 'it is passed over');
truncate "$w/embed/image/hostile.npy", 100;
is(found("--key $at $w"), 1, 'a file that is cut off');
like($said, qr{hostile\.npy}, 'is named');
done_testing();
