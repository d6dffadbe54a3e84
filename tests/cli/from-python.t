#!/usr/bin/env perl
# docs/from-python.md: its commands run on small data; its programs do where their packages are there, and see what was written.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
use lib 'tests/cli';
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } qw(shard-read teacher-embed sem-balance kmeans-cluster zs-eval cid-find distill-train);
my $page = slurp('docs/from-python.md');
my $data = abs_path('tests/data');
my $dir = tempdir(CLEANUP => 1);
make_shards($dir, 2, 12);
make_path("$dir/data", "$dir/models/vocab");
rename "$dir/shards", "$dir/data/mine" or die;
make_eval_set("$dir/data/eval/wds_cifar10");
make_teacher("$dir/models/ViT-L-14", tokenizer => 0);
copy($_, "$dir/models/vocab/") or die for glob "$data/tokenizer/openai/bpe*";
chdir $dir or die;
is(system("$bin/shard-read -q --index-dir index data/mine/*.tar"), 0, 'an index');

# The tools that the page names are there, and their options.
for my $row ($page =~ /^\| `?[^|]*\| ([^|]*) \|$/mg) {
    for my $call ($row =~ /`([^`]*)`/g) {
        my ($tool, @options) = ($call =~ /^([a-z]+-[a-z]+)/, $call =~ /--([a-z-]+)/g);
        next if !$tool || !-x "$bin/$tool";
        my $help = `$bin/$tool --help`;
        is(join(' ', grep { $help !~ /--\Q$_\E\b/ } @options), '', "$call");
    }
}

my $python = '/usr/bin/python3';
my %checks = ( # what the program has seen
    "image = np.load" => "assert image.shape == (12, 20) and str(image.dtype) == 'float16' and kept.shape == (12,) and 0 < kept.sum() <= 12",
    'keys = ' => "assert keys == ['%05d' % i for i in range(12)] and 'models/ViT-L-14' in made_by",
    'np.save' => "assert np.load('mine.npy').shape == (1000, 64)",
);
my ($ran, $passed_over, @missing) = (0, 0);
for my $block ($page =~ /^(```(?:bash|python)\n.*?)^```$/msg) {
    my ($kind, $text) = $block =~ /^```(\w+)\n(.*)/s;
    my ($first) = grep { !/^#/ } split /\n/, $text;
    if ($kind eq 'bash') {
        spew('block.sh', "set -eu -o pipefail; PATH=$bin:\$PATH\n" . $text =~ s/-k 100\b/-k 2/r);
        is(system('bash block.sh >out 2>said'), 0, "bash: $first") or diag slurp('said');
        next;
    }
    my @packages = map { s/ as .*//r } grep { defined } map { /^(?:import (.*)|from (\w+) )/ ? split(/, /, $1 // $2) : () } split /\n/, $text;
    my @absent = grep { system("$python -c 'import $_' 2>/dev/null") } @packages;
    if (@absent) { $passed_over++; push @missing, @absent; next }
    my ($check) = map { $checks{$_} } grep { index($text, $_) >= 0 } sort keys %checks;
    spew('block.py', $text . ($check // '') . "\n");
    is(system("$python block.py >out 2>said"), 0, "python: $first") or diag slurp('said');
    $ran++;
}
my %missing = map { $_ => 1 } @missing;
note "$ran programs ran; $passed_over were passed over, without: ", join ', ', sort keys %missing;
is((split /\n/, slurp('results.json'))[0], slurp('results/aa.json') =~ s/\n\z//r, 'a file for each line');
is(decode_json(slurp('results/aa.json'))->{task}, 'zeroshot_classification', 'that is JSON');
like(slurp('benchmark.csv'), qr/^acc1,.*dataset,model,pretrained,task,language,model_fullname\n/, 'the table');
SKIP: { skip "Debian's python3-numpy is not here", 1 if $missing{numpy}; cmp_ok($ran, '>=', 3, 'NumPy reads our files') }
done_testing();
