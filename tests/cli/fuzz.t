#!/usr/bin/env perl
# Every reader's fuzzer, a few seconds each, from the small files in tests/data. No crash, no leak, no hang.
use strict;
use warnings;
use File::Find;
use File::Temp qw(tempdir);
use Test::More;
my $build = $ENV{BUILD} // 'build/release';
my $seconds = $ENV{FUZZ_SECONDS} // 4;
plan skip_all => 'run once, under the sanitizers' unless $ENV{ASAN};
my @fuzzers;
find({ no_chdir => 1, wanted => sub { push @fuzzers, $_ if -x $_ && !-d $_ } }, "$build/fuzz");
@fuzzers = sort grep { (my $source = $_) =~ s{^\Q$build\E}{tests}; -e "$source.c" } @fuzzers; # none of a source that is gone
ok(@fuzzers > 5, 'there are fuzzers');
my %seeds = (
    'image/jpeg' => 'tests/data/images/*', 'image/png' => 'tests/data/images/*', 'image/webp' => 'tests/data/images/*',
    'shards/tar' => 'tests/data/shards/*.tar', 'text/vocab' => 'tests/data/tokenizer/*/*',
    'text/words' => 'tests/data/tokenizer/other/*.json', 'text/pieces' => 'tests/data/tokenizer/other/spiece.model',
    'text/tokenizer' => 'tests/data/tokenizer/* tests/data/formats/*.json', 'formats/sidecar' => 'tests/data/formats/*.json',
    'formats/safetensors' => 'tests/data/models/*/*.safetensors', 'config/config' => 'tests/data/models/*/*.json',
    'model/weights' => 'tests/data/models/*/*', 'eval/list' => 'tests/data/formats/*.py',
);
# Archives compressed, joined, sparse; streams joined.
my $dir = tempdir(CLEANUP => 1);
my $tar = 'tests/data/shards/00002.tar';
for (["gzip -c $tar", 'gz'], ["bzip2 -c $tar", 'bz2'], ["xz -c $tar", 'xz'], ["zstd -qc $tar", 'zst'],
     ["cat $tar tests/data/shards/no-end-blocks.tar", 'joined.tar'], ["(gzip -c $tar; gzip -c $tar)", 'members.gz'],
     ["(truncate -s 60000 $dir/hole.jpg; tar -C $dir -S --format=pax -c hole.jpg)", 'sparse.tar']) {
    is(system("$_->[0] > $dir/$_->[1]"), 0, "a seed: $_->[1]");
}
system("cat tests/data/formats/pixels.samples tests/data/formats/pixels.samples > $dir/two.samples");
$seeds{'shards/tar'} .= " $dir/*.gz $dir/*.bz2 $dir/*.xz $dir/*.zst $dir/*.tar";
sub seed { my ($name, $text) = @_; open my $h, '>:raw', "$dir/$name" or die; print $h $text; close $h; }
seed('ledger.tsv', "stage\tshard\tin\tout\tdropped\treasons\nindex\t0.tar\t9\t7\t2\tbad-image=1,no-caption=1\nembed\t0.tar\t7\t7\t0\t\n");
my $flags = '"content":"<a>","lstrip":false,"normalized":true,"rstrip":false,"single_word":true,"special":false';
seed('decoder.added', qq({"added_tokens_decoder":{"600":{$flags},"601":{"content":"in","special":true}}}));
seed('list.added', qq({"added_tokens":[{"id":600,$flags}]}));
seed('map.added', '{"additional_special_tokens":["in</w>",{"content":"th"}]}');
seed('plain.added', '{"<a>":600,"th":601}');
$seeds{'formats/ledger'} = "$dir/ledger.tsv";
$seeds{'text/added-tokens'} = "$dir/*.added";
$seeds{'formats/samples'} = "tests/data/formats/*.samples $dir/*.samples";
seed('page.xml', '<?xml version="1.0"?><ListBucketResult xmlns="x"><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;=</NextContinuationToken>'
    . '<Contents><Key>a+b%2B.tar</Key><LastModified>2013-05-24T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag><Size>12</Size></Contents><Contents><Key>&#60;&#xfc;</Key><Size>1</Size></Contents></ListBucketResult>');
seed('head.http', "HTTP/1.1 206 X\r\nETag: \"a-1\"\r\nContent-Range: bytes 5-9/100\r\nContent-Length: 5\r\nLast-Modified: Fri, 24 May 2013 00:00:00 GMT\r\n"
    . "Retry-After: 7\r\nretry-after: Fri, 24 May 2033 00:00:00 GMT\r\nx-amz-bucket-region: eu-1\r\n\r\n<Error><Code>SlowDown</Code></Error>");
seed('config.aws', "# c\n[default]\nregion = a ; b\n[profile me]\ns3 =\n  endpoint_url = http://h\naws_access_key_id=x\r\n[services y]\n");
seed('00000.link', "clip-cid remote shard\ns3://bucket/laion/00000.tar\nbytes\t368640\ntime\t1369353600\netag\t\"0f34\"\n");
$seeds{'shards/link'} = "$dir/*.link";
$seeds{'remote/listing'} = "$dir/*.xml";
$seeds{'remote/answer'} = "$dir/*.http";
$seeds{'remote/ini'} = "$dir/*.aws";
my %known = map { s{^.*/fuzz/}{}r => 1 } @fuzzers;
is(join(' ', grep { !$known{$_} } sort keys %seeds), '', 'every list of seeds is of a fuzzer');
for my $f (@fuzzers) {
    my ($name) = $f =~ m{/fuzz/(.+)$};
    my @files = grep { -f $_ && -s $_ < 300_000 } glob($seeds{$name} // 'tests/data/formats/*');
    @files = grep { -f $_ && -s $_ < 300_000 } glob('tests/data/*/*') unless @files;
    my $out = `timeout 120 $f -s $seconds @files 2>&1`;
    is($?, 0, "$name, $seconds s from " . @files . ' files') or diag(substr $out, -3000);
}
done_testing();
