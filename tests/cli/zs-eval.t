#!/usr/bin/env perl
# zs-eval: figures equal to a direct computation from teacher-embed's rows; several captions counted
# right; caches, batches and threads change no byte; refusals name what is wrong and leave nothing.
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
my $page = abs_path('man/zs-eval.1');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
my $said;
sub run { my $rc = system("$bin/zs-eval @_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
sub tar { my ($from, $to) = @_; system('tar', '--sort=name', '--mtime=@1', '--format=ustar', '-C', $from, '-cf', $to, '.') == 0 or die; }
sub npy_f4 { my ($f) = @_; my $t = slurp($f); my ($n, $d) = $t =~ /'shape': \((\d+), (\d+)\)/ or die;
    my @v = unpack 'f<*', substr $t, 10 + unpack('v', substr $t, 8, 2); return map { [@v[$_ * $d .. ($_ + 1) * $d - 1]] } 0 .. $n - 1; }
sub dot { my ($a, $b) = @_; my $s = 0; $s += $a->[$_] * $b->[$_] for 0 .. $#$a; return $s; }
sub unit { my ($v) = @_; my $n = sqrt dot($v, $v); return [map { $_ / $n } @$v]; }

# ---- a model and sets
make_path('model');
copy($_, 'model/') or die for glob("$data/models/odd/open_clip*"), glob("$data/tokenizer/openai/*");
my @pictures = sort grep { -s $_ > 300 } map { glob "$data/images/$_" } qw(4*.jpg grey*.png lo*.webp pal*.png prog*.jpg page.jpg la*.png);
my @classes = ('red', 'a large blue square', 'an old dark thing', 'round', 'small');
my @templates = ('{c}', 'a {c} of {c}');
# Pictures i, with the members that fn(i) gives; split over two shards.
sub make_set { my ($set, $split, $n, $fn) = @_;
    make_path("$set/$split");
    for my $shard (0, 1) {
        make_path('stage');
        for my $i (grep { $_ % 2 == $shard } 0 .. $n - 1) {
            my $p = $pictures[$i % @pictures];
            my ($ext) = $p =~ /\.(\w+)$/;
            my %m = $fn->($i);
            my $bytes = delete $m{picture} // slurp($p);
            spew(sprintf('stage/s%07d.%s', $i, $ext), $bytes);
            spew(sprintf('stage/s%07d.%s', $i, $_), $m{$_}) for keys %m;
        }
        tar('stage', "$set/$split/$shard.tar");
        remove_tree('stage');
    }
    spew("$set/$split/nshards.txt", "2\n");
    spew("$set/classnames.txt", join "\n", @classes, '');
    spew("$set/zeroshot_classification_templates.txt", join "\n", @templates, '');
}
my $label = sub { return ($_[0] * 7 + int($_[0] / 3)) % 5 };
make_set('cls', 'test', 20, sub { (cls => $label->($_[0])) });
make_set('cls', 'train', 30, sub { (cls => $label->($_[0])) });
make_set('ret', 'test', 10, sub { my $i = shift; (txt => join("\n", map { "$classes[($i + $_) % 5] $i" } 0 .. $i % 3) . "\n") });
spew('ret/dataset_type.txt', "retrieval\n");
sub npy_u1 { my $h = sprintf "{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }", scalar @_; $h .= ' ' x (63 - (10 + length $h) % 64) . "\n"; return "\x93NUMPY\1\0" . pack('v', length $h) . $h . pack 'C*', @_; }
make_set('multi', 'test', 12, sub { my $i = shift; (npy => npy_u1(map { ($i + $_) % 3 == 0 ? 1 : 0 } 0 .. 4)) });
spew('multi/dataset_type.txt', "multilabel\n");

# ---- the same computed directly
my $embed = "$bin/teacher-embed -q -m model --out-dtype f32";
sub images { my ($set) = @_; my @rows; my @order;
    for my $shard (0, 1) {
        system("$embed --shards $set/test/$shard.tar -o e.npy") == 0 or die;
        push @rows, npy_f4('e.npy');
    }
    return @rows;
}
sub texts { my (@t) = @_;
    make_path('stage');
    spew(sprintf('stage/%06d.txt', $_), $t[$_]) for 0 .. $#t;
    copy($pictures[0], sprintf 'stage/%06d.jpg', $_) for 0 .. $#t;
    tar('stage', 't.tar');
    remove_tree('stage');
    system("$embed --shards t.tar -o e.npy --text-out t.npy") == 0 or die;
    return npy_f4('t.npy');
}
my @weights;
for my $c (@classes) {
    my @t = texts(map { s/\{c\}/$c/gr } @templates);
    push @weights, unit([map { my $j = $_; my $s = 0; $s += $_->[$j] for @t; $s } 0 .. $#{ $t[0] }]);
}
sub best { my @s = @_; my @i = sort { $s[$b] <=> $s[$a] || $a <=> $b } 0 .. $#s; return @i; }
is(run('-m model cls > cls.json'), 0, 'zero-shot') or diag $said;
my $got = decode_json(slurp('cls.json'));
my @rows = images('cls');
my @names = map { my $s = $_; map { $_ * 2 + $s } 0 .. 9 } 0, 1;
my ($hits, %n, %h) = 0;
for my $k (0 .. $#rows) {
    my ($top) = best(map { dot($rows[$k], $_) } @weights);
    my $y = $label->($names[$k]);
    $n{$y}++;
    $hits += $top == $y;
    $h{$y} += $top == $y;
}
is(sprintf('%.6f', $got->{metrics}{acc1}), sprintf('%.6f', $hits / 20), 'acc1');
my $recall = 0;
$recall += ($h{$_} // 0) / $n{$_} for keys %n;
is(sprintf('%.6f', $got->{metrics}{mean_per_class_recall}), sprintf('%.6f', $recall / keys %n), 'mean per class recall');
is($got->{metrics}{acc5}, 1, 'acc5 of five classes');
is("$got->{n} $got->{failed} $got->{classes} $got->{templates}", '20 0 5 2', 'counts');
ok($got->{intervals}{acc1}[0] <= $got->{metrics}{acc1} && $got->{intervals}{acc1}[1] >= $got->{metrics}{acc1}, 'an interval around it');

is(run('-m model ret > ret.json'), 0, 'retrieval') or diag $said;
$got = decode_json(slurp('ret.json'));
@rows = images('ret');
my (@captions, @owner);
my @order = map { my $s = $_; map { $_ * 2 + $s } 0 .. 4 } 0, 1;
for my $k (0 .. $#order) { my $i = $order[$k]; for (0 .. $i % 3) { push @captions, "$classes[($i + $_) % 5] $i"; push @owner, $k } }
my @t = texts(@captions);
for my $at (1, 5, 10) {
    my ($text, $image) = (0, 0);
    for my $k (0 .. $#rows) {
        my @b = best(map { dot($rows[$k], $_) } @t);
        $text++ if grep { $owner[$_] == $k } @b[0 .. ($at > @b ? $#b : $at - 1)];
    }
    for my $c (0 .. $#t) {
        my @b = best(map { dot($t[$c], $_) } @rows);
        $image++ if grep { $_ == $owner[$c] } @b[0 .. ($at > @b ? $#b : $at - 1)];
    }
    is(sprintf('%.6f', $got->{metrics}{"text_retrieval_recall\@$at"}), sprintf('%.6f', $text / @rows), "text recall\@$at");
    is(sprintf('%.6f', $got->{metrics}{"image_retrieval_recall\@$at"}), sprintf('%.6f', $image / @t), "image recall\@$at");
}
is($got->{captions}, scalar @captions, 'every caption counts');

is(run('-m model multi > multi.json'), 0, 'multilabel') or diag $said;
@rows = images('multi');
my @item = map { my $s = $_; map { $_ * 2 + $s } 0 .. 5 } 0, 1;
my $map = 0;
for my $c (0 .. 4) {
    my ($p, $sum) = (0, 0);
    my @b = best(map { dot($rows[$_], $weights[$c]) } 0 .. $#rows);
    for my $r (0 .. $#b) { next if ($item[$b[$r]] + $c) % 3; $p++; $sum += $p / ($r + 1) }
    $map += $p ? $sum / $p : 0;
}
is(sprintf('%.5f', decode_json(slurp('multi.json'))->{metrics}{mean_average_precision}), sprintf('%.5f', $map / 5), 'mean average precision');

# ---- the same bytes by every way
for my $way ('-t 3', '--batch 1', '--batch 7 -t 2', '--cache cache', '--cache cache', '--no-shortcuts') {
    mkdir 'cache';
    is(run("-m model $way cls ret > again.json"), 0, $way) or diag $said;
    if ($way ne '--no-shortcuts') { is(slurp('again.json'), slurp('cls.json') . slurp('ret.json'), 'the same bytes') }
}
is(scalar(() = glob 'cache/*.npy'), 2, 'features of both sets are kept');
is(run('-m model --task linear-probe --cache cache cls > lp.json'), 0, 'linear probe') or diag $said;
$got = decode_json(slurp('lp.json'));
ok(defined $got->{metrics}{lp_acc1} && $got->{C} > 0 && $got->{converged}, 'its figures');
is(run('-m model --task linear-probe -t 2 cls > lp2.json'), 0, 'again');
is(slurp('lp2.json'), slurp('lp.json'), 'the same bytes');
is(run('-m model --task linear-probe --features tower --c 1 cls > lp3.json'), 0, 'on the features of the tower') or diag $said;
isnt(slurp('lp3.json'), slurp('lp.json'), 'which are others');
is(run('-m model --task linear-probe --c 1e4 --iterations 3 cls > lp4.json'), 0, 'a probe that is stopped before its minimum');
like($said, qr/^zs-eval: .*cls: .* C = 10000 is not at its minimum after 3 iterations; --iterations N/m, '... is told of');
$got = decode_json(slurp('lp4.json'));
ok(!$got->{converged} && $got->{iterations} == 3, '... in the JSON too');
is(run('-m model --predictions p.tsv cls > /dev/null'), 0, 'predictions');
# ---- CLIP_benchmark's table
is(run('-m model --csv t.csv cls ret > t.json'), 0, 'a table') or diag $said;
{
    my @rows = map { decode_json($_) } split /\n/, slurp('t.json');
    my ($head, @lines) = map { [split /,/, $_, -1] } split /\n/, slurp('t.csv');
    my @metrics;
    for my $r (@rows) { my %have = map { $_ => 1 } @metrics; push @metrics, grep { !$have{$_} } slurp('t.json') =~ /"($_)":/g ? $_ : () for keys %{ $r->{metrics} } }
    is(join(' ', sort @$head), join(' ', sort(@metrics, qw(dataset language model model_fullname pretrained task))), 'its columns') or diag "@$head";
    my $wrong = 0;
    for my $i (0 .. $#rows) {
        my %cell;
        @cell{@$head} = @{ $lines[$i] };
        $wrong += grep { ($cell{$_} eq '' ? 'none' : $cell{$_} + 0) ne (defined $rows[$i]{metrics}{$_} ? $rows[$i]{metrics}{$_} + 0 : 'none') } @metrics;
        $wrong += grep { $cell{$_} ne $rows[$i]{$_} } qw(dataset model pretrained task language);
        $wrong += $cell{model_fullname} ne "$rows[$i]{model} $rows[$i]{pretrained}";
    }
    is($wrong, 0, 'its cells are those of the lines');
    is(scalar @lines, scalar @rows, 'a line for each');
}
is(run('-m model --csv /dev/full cls > /dev/null'), 1, 'a full disk for the table');
is(scalar(() = slurp('p.tsv') =~ /^cls\t\d+\t[01]\.tar\/\S+\t\d\t\d(,\d){4}\t-?[\d.]+\t(?:red|round|small|a large blue square|an old dark thing)\t\w[\w ]*$/mg), 20, 'a line each') or diag slurp('p.tsv');

# ---- refusals
sub refused { my ($why, $like, @args) = @_;
    unlink 'out.json';
    is(run('-o out.json', @args), 1, $why);
    like($said, $like, "$why: says so") ;
    ok(!-e 'out.json', "$why: nothing is left");
}
is(run('cls'), 2, 'no model is wrong usage');
is(run('-m model'), 2, 'no set is wrong usage');
is(run('-m model --min-acc1 0.999 cls > /dev/null'), 1, '--min-acc1 not reached');
is(run('-m model --min-acc1 0 cls > /dev/null'), 0, '--min-acc1 reached');
refused('no such set', qr/^zs-eval: .*nowhere/, '-m model nowhere');
refused('a task for another set', qr/not a set for this task/, '-m model --task retrieval cls');
make_set('badcls', 'test', 4, sub { (cls => $_[0] == 2 ? 9 : 0) });
refused('a class out of range', qr/class 9 is not among the 5 class names/, '-m model badcls');
make_set('nocls', 'test', 4, sub { $_[0] == 2 ? (other => 1) : (cls => 0) });
refused('a sample without a label', qr/no cls/, '-m model nocls');
make_set('badimg', 'test', 4, sub { $_[0] == 2 ? (cls => 0, picture => 'no picture') : (cls => 0) });
refused('a bad picture', qr/1 bad pictures are more than --max-bad allows/, '-m model badimg');
is(run('-m model --max-bad 1 badimg > b.json'), 0, 'unless allowed');
is(decode_json(slurp('b.json'))->{failed}, 1, 'and counted');

# ---- every prediction is the direct one
my @p = grep { /^cls\t/ } split /\n/, slurp('p.tsv');
@rows = images('cls');
my $wrong = 0;
for my $k (0 .. $#p) {
    my @cell = split /\t/, $p[$k];
    my @score = map { dot($rows[$k], $_) } @weights;
    my @b = best(@score);
    $wrong++ if $cell[1] != $k || $cell[3] != $label->($names[$k]) || $cell[4] ne join(',', @b[0 .. 4]) || abs($cell[5] - 100 * $score[$b[0]]) > 1e-3;
}
is($wrong, 0, 'label, top 5 and score of each sample');
my %pair;
for my $line (@p) { my @cell = split /\t/, $line; my ($top) = split /,/, $cell[4]; $pair{"$cell[3] $top"}++ if $cell[3] != $top }
$got = decode_json(slurp('cls.json'));
my %number = map { $classes[$_] => $_ } 0 .. $#classes;
is(join(' ', sort map { "$number{$_->{label}} $number{$_->{predicted}} $_->{count}" } @{ $got->{confusions} }),
    join(' ', sort map { "$_ $pair{$_}" } keys %pair), 'confusions are those of the predictions');
is(run('-m model --confusions 1 cls > few.json'), 0, '--confusions');
is(scalar @{ decode_json(slurp('few.json'))->{confusions} }, 1, 'lists as many');

# ---- a picture that cannot be had is no candidate for any caption, nor are its captions
my $caption = sub { my $i = shift; return join("\n", map { "$classes[($i + $_) % 5] $i" } 0 .. $i % 3) . "\n" };
make_set('whole', 'test', 10, sub { (txt => $caption->($_[0])) });
make_set('torn', 'test', 12, sub { my $i = shift; $i < 10 ? (txt => $caption->($i)) : (txt => "small\nred\n", picture => 'torn') });
spew("$_/dataset_type.txt", "Retrieval \r\n") for 'whole', 'torn';
is(run('-m model whole > whole.json') || run('-m model --max-bad 2 torn > torn.json'), 0, 'retrieval with two bad pictures') or diag $said;
my ($whole, $torn) = map { decode_json(slurp("$_.json")) } 'whole', 'torn';
is_deeply($torn->{metrics}, $whole->{metrics}, 'has the figures of the rest');
is("$torn->{n} $torn->{failed}", '12 2', 'and counts them');
make_set('badtrain', 'test', 4, sub { (cls => $_[0]) });
make_set('badtrain', 'train', 20, sub { $_[0] > 17 ? (cls => 0, picture => 'none') : (cls => $_[0] % 5) });
refused('bad training pictures', qr/2 bad pictures/, '-m model --task linear-probe --c 1 badtrain');
is(run('-m model --task linear-probe --c 1 --max-bad 10% --cache cache badtrain > b1'), 0, 'unless allowed') or diag $said;
is(run('-m model --task linear-probe --c 1 --max-bad 10% --cache cache badtrain > b2'), 0, 'from the cache') or diag $said;
is(slurp('b2'), slurp('b1'), 'the same bytes');
like($said, qr/2 of 20 pictures cannot be decoded/, 'and the same warning');
is(run('-m model --task linear-probe --c 1 --max-bad 2 --min-acc1 1.0 badtrain > b3'), slurp('b1') =~ /"lp_acc1":1[,.]/ ? 0 : 1, '--min-acc1 of a probe');

# ---- lists as CLIP_benchmark reads them
make_set('lists', 'test', 20, sub { (cls => $label->($_[0]) . "\n") });
spew('lists/classnames.txt', join "\r\n", map({ " $_\t" } @classes), '', '');
spew('lists/zeroshot_classification_templates.txt', join "\r\n", @templates);
spew('lists/dataset_type.txt', "classification");
spew('lists/test/nshards.txt', " 2 ");
is(run('-m model lists > lists.json'), 0, 'blanks and line ends') or diag $said;
sub figures { return slurp($_[0]) =~ s/"lists"/"cls"/r =~ s/,"inputs":"\w+"//r }
is(figures('lists.json'), figures('cls.json'), 'change nothing');
is(run('-m model --classnames cls/classnames.txt --templates cls/zeroshot_classification_templates.txt lists/ > lists.json'), 0, 'names from elsewhere');
is(figures('lists.json'), figures('cls.json'), 'change nothing either');

# ---- caches are of one model and one set of pictures
my @before = glob 'cache/*.npy';
is(run('-m model --cache cache lists > /dev/null'), 0, 'other tars');
is(run('-m model --dtype f32 --no-shortcuts --cache cache cls > /dev/null'), 0, 'another way of running');
is(scalar(() = glob 'cache/*.npy'), @before + 2, 'have their own files');
mkdir 'model2';
copy($_, 'model2/') for glob 'model/*';
open my $h, '+<:raw', 'model2/open_clip_model.safetensors' or die;
my ($from, $to) = slurp('model/open_clip_model.safetensors') =~ /"token_embedding.weight":\{[^}]*"data_offsets":\[(\d+),(\d+)\]/ or die;
my $middle = 8 + unpack('Q<', slurp('model/open_clip_model.safetensors')) + $from + 4 * int(($to - $from) / 8);
seek $h, $middle, 0;
read $h, my $four, 4;
seek $h, $middle, 0;
print $h pack 'f<', 0.25 + unpack 'f<', $four;
close $h;
is(run('-m model2 --cache cache cls > m2.json'), 0, 'a model with one other weight') or diag $said;
is(scalar(() = glob 'cache/*.npy'), @before + 3, 'has its own file');
isnt(decode_json(slurp('m2.json'))->{pretrained}, $got->{pretrained}, 'and digest');

# ---- what a folder may hold
sub spoil { my ($member, $bytes, $like, %o) = @_;
    remove_tree('odd');
    make_set('odd', 'test', 3, sub { $_[0] == 1 ? ($member => $bytes) : ($member => $o{good}) });
    spew('odd/dataset_type.txt', $o{type});
    refused("$o{type}: $like", $like, '-m model odd');
}
spoil('cls', $_, qr/class -?\d+ is not among|cls is not a number/, type => 'classification', good => '0')
    for '', '-1', '5', '1x', 'one', '1 2', "1\0", '99999999999999999999', '4294967296';
spoil('txt', "a\0b", qr/NUL/, type => 'retrieval', good => 'a');
spoil('txt', "\n\n", qr/holds no caption/, type => 'retrieval', good => 'a');
spoil('txt', "a \xff\n", qr/UTF-8/, type => 'retrieval', good => 'a');
my $five = npy_u1(0, 1, 0, 1, 1);
spoil('npy', $_, qr/npy/, type => 'multilabel', good => $five) for npy_u1(0, 1), npy_u1(0, 1, 2, 0, 0), substr($five, 0, -1), 'no', "$five ";
for ("0\n", "-1\n", "2 3\n", "1\n1\n", '', "18446744073709551617\n", "99999999\n") {
    spew('lists/test/nshards.txt', $_);
    refused('shards: ' . s/\n/ /gr, qr/not a number of shards/, '-m model lists');
}
spew('lists/test/nshards.txt', "1\n");
spew('lists/test/0.tar', '');
refused('a split without samples', qr/no samples/, '-m model lists');
spew('lists/dataset_type.txt', 'segmentation');
refused('another type', qr/segmentation/, '-m model lists');
spew('lists/dataset_type.txt', 'multilabel');
refused('a probe of several labels', qr/not a set for this task/, '-m model --task linear-probe lists');
unlink 'lists/dataset_type.txt';
spew('lists/classnames.txt', "\n");
refused('no class names', qr/no class names/, '-m model lists');
unlink 'lists/classnames.txt';
refused('no file of class names', qr/classnames\.txt/, '-m model lists');
refused('no train split', qr/no split 'train'/, '-m model --task linear-probe ' . do { make_set('only', 'test', 4, sub { (cls => 0) }); 'only' });
refused('no such split', qr/no split 'val'/, '-m model --split val cls');
refused('no cache folder', qr/cannot write into the folder 'nowhere'/, '-m model --cache nowhere cls');
is(run('-m model -o out.json cls nowhere'), 1, 'the second of two sets');
like($said, qr/1 of 2 sets failed: nowhere/, '... is named');
is(slurp('out.json'), slurp('cls.json'), '... and the first is kept');
is(run('-m model --features tower cls'), 2, 'the tower is for the probe only');
is(run('-m model --predictions /dev/full cls > /dev/null'), 1, 'a full disk for the predictions');
is(run('-m model cls > /dev/full'), 1, 'and for the figures');

spew('cls/test/nshards.txt', "3\n");
refused('a shard that is not there', qr/2\.tar/, '-m model cls');
spew('cls/test/nshards.txt', "x\n");
refused('no number of shards', qr/not a number of shards/, '-m model cls');
spew('cls/test/nshards.txt', "2\n");
truncate 'cls/test/1.tar', 3000;
refused('a damaged shard', qr/1\.tar/, '-m model cls');
spew('ret/test/nshards.txt', "2\n");
spew('multi/zeroshot_classification_templates.txt', "no class\n");
refused('a template without {c}', qr/has no \{c\}/, '-m model multi');
is(run('-m model ret > /dev/full'), 1, 'a full disk');

# ---- the man page's examples
make_path('man/models', 'man/data', 'man/features');
make_set('lists2', $_, 20, sub { (cls => $label->($_[0])) }) for 'test', 'train';
system("cp -r model man/models/ViT-B-32; cp -r model man/student; cp -r lists2 man/data/wds_imagenet1k; cp -r lists2 man/data/wds_food101; cp -r lists2 man/data/wds_cifar10");
my @examples = slurp($page) =~ /^\.Dl (zs-eval .*)/mg;
ok(@examples >= 2, 'there are examples');
is(system("cd man && PATH=$bin:\$PATH && { $_; } >../said 2>&1"), 0, $_) or diag slurp('said') for @examples;
done_testing();
