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

# ---- what is finished is kept
make_set('two', [@six[0, 1]], 8, sub { (cls => $_[0] % 2) });
make_set('bad', \@six, 6, sub { (cls => $_[0] == 4 ? 17 : 0) });
make_set('ret', [], 12, sub { (txt => "picture $_[0]\n") });
spew('ret/dataset_type.txt', "retrieval\n");
sub names { return join ' ', map { $_->{dataset} } results($_[0]) }
sub counted { return join ' ', $said =~ /^zs-eval: (\w+): \w+: /mg }
my $all = '-m model -o all.json six bad two nowhere ret';
is(run($all), 1, 'two of five sets fail');
is(names('all.json'), 'six two ret', '... the others are kept');
like($said, qr/^zs-eval: cannot use 'bad\/test\/0.tar': sample 's0004': class 17 /m, '... the fault is named');
like($said, qr/^zs-eval: cannot open 'nowhere/m, '... of both');
like($said, qr/^zs-eval: 2 of 5 sets failed: bad, nowhere; the others are done/m, '... and the sets at the end');
my @first = split /\n/, slurp('all.json');
make_set('bad', \@six, 6, sub { (cls => $_[0] % 6) });
is(run($all), 1, 'one of them mended');
like($said, qr/six: taken from 'all.json'/, '... what was done is taken');
is(names('all.json'), 'six bad two ret', '... in the order given');
is((split /\n/, slurp('all.json'))[0], $first[0], '... the same bytes');
is(run('-m model -o whole.json six bad two ret'), 0, 'all of them at once') or diag $said;
is(slurp('whole.json'), slurp('all.json'), '... the same bytes');
is(run('-m model -o whole.json ret six'), 0, 'fewer of them') or diag $said;
is(names('whole.json'), 'ret six', '... are all that is in the file');
is(scalar(() = $said =~ /taken from/g), 2, '... and none runs');
make_set('two', [@six[0, 1]], 8, sub { (cls => $_[0] % 3 == 1 ? 1 : 0) });
is(run('-m model -o all.json six bad two ret'), 0, 'other labels') or diag $said;
unlike($said, qr/two: taken/, '... are evaluated again');
like($said, qr/six: taken/, '... alone');
for my $change ('--templates one.txt', '--confusions 3', '--dtype bf16 --no-shortcuts', '--max-bad 1') {
    spew('one.txt', "the {c}\n");
    my $before = slurp('all.json');
    my $rc = run("-m model -o all.json $change six");
    SKIP: {
        skip 'no bfloat16 products on this processor', 1 if $rc && $said =~ /bfloat16/;
        unlike($said, qr/taken from/, "$change: evaluated again");
    }
    spew('all.json', $before);
}
is(run("-m bare --tokenizer $data/tokenizer/openai -o all.json six"), 0, 'under another name of the model');
unlike($said, qr/taken from/, '... evaluated again');
spew('all.json', "no result\n{\"inputs\":3}\n" . $first[0]);
is(run('-m model -o all.json six'), 0, 'a file of other lines');
is(names('all.json'), 'six', '... is replaced');
is(run('-m model bad nowhere two >out.json'), 1, 'standard output');
is(names('out.json'), 'bad two', '... has the lines of the sets that are finished');
spew('all.json', "as it was\n");
is(run('-m model -o all.json nowhere none'), 1, 'no set can be evaluated');
is(slurp('all.json'), "as it was\n", '... and the file stays as it was');
is(run('-m model -o all.json --predictions p.tsv six two'), 0, 'with predictions') or diag $said;
is(run('-m model -o all.json --predictions p.tsv six two nowhere'), 1, 'and once more') or diag $said;
is(scalar(() = slurp('p.tsv') =~ /^(?:six|two)\t/mg), 20, '... every set runs, so that all lines are there');
like(slurp('p.tsv'), qr/^six\t1\t0\.tar\/s0001\t1\t\d(?:,\d){4}\t-?[\d.]+\ta large blue square\t[a-z ]+$/m, '... with the names of the classes');
is(run('-m model --min-acc1 1 -o all.json six'), 1, '--min-acc1 of a result that was taken');
like($said, qr/taken from.*acc1 .* is less than 1/s, '... is looked at');

# ---- killed between two sets
is(run('-m model -o done.json six two'), 0, 'two sets');
my @lines = split /^/, slurp('done.json');
spew('done.json', $lines[0]);
is(run('-m model -o done.json six two'), 0, 'the second was not reached');
is(slurp('done.json'), join('', @lines), '... the same bytes');

# ---- figures that say nothing
my ($few) = grep { $_->{dataset} eq 'two' } results('done.json');
ok(!exists $few->{metrics}{acc5} && !exists $few->{intervals}{acc5} && defined $few->{metrics}{acc1}, 'no acc5 of two classes');
is(run('-m model --task linear-probe --c 1 two'), 1, 'no training split');
make_set('two', [@six[0, 1]], 8, sub { (cls => $_[0] % 2) }, 'train');
is(run('-m model --task linear-probe --c 1 two >lp.json'), 0, 'a probe of two classes') or diag $said;
ok(!exists +(results('lp.json'))[0]{metrics}{lp_acc5}, '... no lp_acc5');
make_set('pairs', [], 3, sub { (txt => "one $_[0]\ntwo $_[0]\n") });
spew('pairs/dataset_type.txt', "retrieval\n");
is(run('-m model pairs ret >r.json'), 0, 'retrieval among three and twelve pictures') or diag $said;
my @m = map { $_->{metrics} } results('r.json');
is(join(' ', sort keys %{ $m[0] }), 'image_retrieval_recall@1 text_retrieval_recall@1 text_retrieval_recall@5', 'no recall at more than there are');
is(scalar keys %{ $m[1] }, 6, 'all of twelve');
sub npy_u1 { my $h = sprintf "{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }", scalar @_; $h .= ' ' x (63 - (10 + length $h) % 64) . "\n"; return "\x93NUMPY\1\0" . pack('v', length $h) . $h . pack 'C*', @_; }
make_set('none', [@six[0, 1]], 4, sub { (npy => npy_u1(0, 0)) });
make_set('some', [@six[0, 1]], 4, sub { (npy => npy_u1($_[0] == 0, 0)) });
spew("$_/dataset_type.txt", "multilabel\n") for 'none', 'some';
is(run('-m model none some >multi.json'), 0, 'several labels') or diag $said;
my @multi = results('multi.json');
is(join(' ', keys %{ $multi[0]{metrics} }), '', 'no average precision without positives');
ok($multi[1]{metrics}{mean_average_precision} > 0.2 && $multi[1]{classes_with_positives} == 1, 'its mean is over the classes that have some');
ok(!exists $multi[1]{chance}, 'and no chance level, which would be of another figure');
make_set('torn', \@six, 3, sub { (cls => 0) });
make_path('stage');
for my $i (1, 2) { spew("stage/s$i.jpg", 'torn'); spew("stage/s$i.cls", 0) }
system('tar', '--sort=name', '-C', 'stage', '-cf', 'torn/test/0.tar', '.') == 0 or die;
is(run('-m model --max-bad 100% torn >torn.json'), 0, 'no picture at all') or diag $said;
is(scalar keys %{ (results('torn.json'))[0]{metrics} }, 0, 'no figure of nothing');
is(run('-m model --max-bad 100% --min-acc1 0 torn >torn.json'), 1, 'nor does it reach --min-acc1');

# ---- lists in other forms
spew('names.json', encode_json({ cifar10 => ['x'], six => \@six }));
spew('meta.py', "# open_clip's layout\nOPENAI_IMAGENET_TEMPLATES = (\n    lambda c: f'a photo of a {c}.',\n    lambda c: f'{c}',\n)\n\nIMAGENET_CLASSNAMES = (\n    "
    . join(', ', map { "\"$_\"" } @six) . ",\n)\n");
sub figures { return map { my $r = { %$_ }; delete @$r{qw(inputs dataset model)}; $r } results($_[0]) }
is(run('-m model six >plain.json'), 0, 'one a line');
for my $how ('--classnames names.json', '--classnames meta.py --templates meta.py', '--classnames meta.py:IMAGENET_CLASSNAMES') {
    is(run("-m model $how six >other.json"), 0, $how) or diag $said;
    is_deeply([figures('other.json')], [figures('plain.json')], '... the same figures');
}
make_path('own/test');
copy("six/test/$_", 'own/test/') or die for '0.tar', 'nshards.txt';
spew('own/classnames.json', "\xef\xbb\xbf" . encode_json(\@six));
spew('own/zeroshot_classification_templates.py', "templates = [\r\n    'a photo of a {}.',\r\n    '{}',\r\n]\r\n");
is(run('-m model own >other.json'), 0, "a set's own") or diag $said;
is_deeply([figures('other.json')], [figures('plain.json')], '... the same figures');
spew('own/classnames.txt', "red\ncaf\xe9\n");
is(run('-m model own'), 1, 'names that are not UTF-8');
like($said, qr/own\/classnames\.txt': line 2 is not UTF-8/, '... are named by file and line');
done_testing();
