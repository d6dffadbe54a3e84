#!/usr/bin/env perl
# A whole run on real pictures, two sets of emoji: an average of the weights, evaluations on two other sets and on held-out samples,
# patch dropout up to a cooldown, the best checkpoint; it learns, its figures are zs-eval's, and its report shows it. Needs the folder
# with the data, CLIP_CID_SHARED or ../shared.
use strict;
use warnings;
use lib 'tests/lib';
use Cwd qw(abs_path);
use File::Path qw(make_path);
use JSON::PP;
use Test::More;
my $shared;
BEGIN { $shared = abs_path($ENV{CLIP_CID_SHARED} // '../shared'); }
use Train;
plan skip_all => 'no data: set CLIP_CID_SHARED' unless $shared && -e "$shared/data/emoji-google/00000.tar";
my $d = "$shared/data";

my @shards = ("$d/emoji-google/00000.tar", "$d/emoji-openmoji/00000.tar");
make_path('w/index');
mkdir 'shards';
for my $i (0, 1) {
    symlink $shards[$i], "shards/0000$i.tar" or die;
    is(run("$bin/shard-read -q --size 32 --index w/index/0000$i.tsv -o w$i.samples shards/0000$i.tar"), 0, "shard $i") or diag $said;
}
spew('student.json', encode_json({ embed_dim => 32, vision_cfg => { image_size => 32, patch_size => 8, width => 48, layers => 2, head_width => 24 },
    text_cfg => { context_length => 16, vocab_size => 1214, width => 32, layers => 2, heads => 2 } }));
my $read = "$bin/shard-read -q --size 32 --shuffle 4000";
my ($steps, $cooldown) = (160, 40);
my $run = "$bin/distill-train --student student.json --tokenizer $vocab --loss clip --batch 32 -t 2 --progress never --lr 3e-3 --steps $steps"
    . " --schedule cooldown --cooldown $cooldown --ema 0.95 --patch-dropout 0.5 --patch-dropout-until " . ($steps - $cooldown)
    . " --eval-set $d/eval/wds_openclipart16 --eval-set $d/eval/wds_emoji-core-google --val-data '$read --limit 256 $d/emoji-twitter/00000.tar' --eval-every 80"
    . " --keep-best ema/val:loss --checkpoint-every 80 --keep-checkpoints 1 --spike 4 -o w/student"
    . " --data '$read --seed {seed} --epoch {epoch} --skip {skip} shards/00000.tar shards/00001.tar'";
is(run($run), 0, 'the run') or diag $said;
like($said, qr/evaluated 2 times: \d+\.\d s, \d+\.\d% of the run's time\n/, '... its evaluations took a share of its time');

my @lines = log_lines('w/student/log.jsonl');
my @rates = map { $_->{lr} } grep { exists $_->{lr} } @lines;
ok($rates[$steps - $cooldown - 2] == $rates[20] && $rates[-1] < 0.05 * $rates[20], 'the rate stays, and falls in the cooldown');
my %look = map { ("$_->{weights} $_->{eval} $_->{step}" => $_) } grep { $_->{eval} } @lines;
is(scalar keys %look, 12, 'two sets and the held-out samples, of both weights, twice');
for my $weights ('trained', 'ema') {
    my ($before, $after) = map { $look{"$weights val $_"}{metrics}{loss} } 80, $steps;
    cmp_ok($after, '<', $weights eq 'ema' ? log 32 : $before, "$weights: the held-out loss, $before, then $after");
    my $emoji = $look{"$weights wds_emoji-core-google $steps"};
    cmp_ok($emoji->{intervals}{acc5}[0], '>', 5 / 794, "... five names of 794 have the right one more often than by chance: $emoji->{metrics}{acc5}");
    my $model = $weights eq 'ema' ? 'w/student/ema' : 'w/student';
    for my $set ('wds_openclipart16', 'wds_emoji-core-google') {
        is(run("$bin/zs-eval -q -t 2 -m $model -o r.json $d/eval/$set"), 0, "zs-eval of $model on $set") or diag $said;
        my $is = decode_json(slurp('r.json'));
        is_deeply([@$is{qw(metrics intervals n)}], [@{ $look{"$weights $set $steps"} }{qw(metrics intervals n)}], '... the same to the last digit');
    }
}
my $best = decode_json(slurp(sprintf 'w/student/checkpoints/step-%08d/state.json', $steps));
my ($least) = sort { $look{"ema val $a"}{metrics}{loss} <=> $look{"ema val $b"}{metrics}{loss} } 80, $steps;
is($best->{best_step}, $least, "the best is known");
ok(-s sprintf('w/student/checkpoints/step-%08d/open_clip_model.safetensors', $least), '... and kept');
is(run("$bin/cid-report -q -o r.html --shards shards w"), 0, 'the report') or diag $said;
my $page = slurp('r.html');
like($page, qr/<h3>student<\/h3>\s*<p>$steps steps, ${\($steps * 32)} samples/, '... has the run');
for my $name ('wds_openclipart16 acc1', 'ema/wds_openclipart16 acc1', 'wds_emoji-core-google acc1', 'val loss', 'ema/val loss') {
    like($page, qr/[ >]\Q$name\E \d\.\d{4} \(step $steps\)/, "... $name");
}
like($page, qr/Evaluated while it trained, \d+\.\d s, \d+\.\d% of the run's time/, '... and what looking took');
done_testing();
