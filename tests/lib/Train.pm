# What the tests of distill-train share: a student, shards of few small samples, their streams, a teacher's rows, clusters.
package Train;
use strict;
use warnings;
use Archive::Tar;
use Cwd qw(abs_path);
use Exporter qw(import);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use JSON::PP;
our @EXPORT = qw($bin $data $vocab $said slurp spew run said_last shard embed clusters mask steps log_lines start wait_for alive tensors);

our $bin = abs_path($ENV{BIN} // 'bin');
our $build = abs_path($ENV{BUILD} // "build/release");
our $data = abs_path('tests/data');
our $vocab = "$data/tokenizer/openai";
our $said;
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
# The exit status, or the signal below 0; what went to standard error is in $said.
sub run { my $rc = system('bash', '-c', "exec 2>said; @_"); $said = slurp('said'); return $rc & 127 ? -($rc & 127) : $rc >> 8; }
sub said_last { my @l = split /\n/, $said; return $l[-1] // ''; }

spew('student.json', encode_json({ embed_dim => 20, vision_cfg => { image_size => 29, patch_size => 7, width => 12, layers => 1, head_width => 12 },
    text_cfg => { context_length => 11, vocab_size => 1214, width => 8, layers => 1, heads => 1 } }));

# A shard of $n samples with keys of their own, at most one picture of the test data each.
my @pictures;
sub shard {
    my ($file, $n, $keys) = @_;
    if (!@pictures) {
        my $from = Archive::Tar->new("$data/shards/00000.tar") or die;
        @pictures = map { [$_->name =~ /\.(\w+)$/, $_->get_content] } grep { $_->name =~ /\.(jpg|png)$/ && $_->size } $from->get_files;
    }
    my $tar = Archive::Tar->new;
    for my $i (0 .. $n - 1) {
        my ($ext, $bytes) = @{ $pictures[$i % 8] };
        $tar->add_data("$keys$i.$ext", $bytes);
        $tar->add_data("$keys$i.txt", "a picture $keys $i");
    }
    my ($folder) = $file =~ m{(.*)/};
    make_path($folder) if $folder;
    $tar->write($file) or die;
}

# The teacher's rows of a shard, in image-$set and text-$set.
sub embed {
    my ($set, $shard, %o) = @_;
    my ($name) = $shard =~ m{([^/]*)\.tar$};
    my $model = $o{model} // "$data/models/odd";
    make_path("image-$set", "text-$set");
    my $rc = system("$bin/teacher-embed -q -m $model --tokenizer $vocab --shards $shard --image-out image-$set/$name.npy --text-out text-$set/$name.npy");
    die "teacher-embed: $rc" if $rc;
}

# Centroids c-$set.npy and labels-$set of all rows of that set.
sub clusters {
    my ($set, $options, $of) = @_;
    make_path("labels-$set");
    $of //= "image-$set";
    die 'kmeans-cluster' if system("$bin/kmeans-cluster -q -k 3 $options -o c-$set.npy --labels-dir labels-$set $of/*.npy");
}

# A keep mask without sidecar.
sub mask {
    my ($file, @rows) = @_;
    my $header = sprintf "{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }", scalar @rows;
    $header .= ' ' x (117 - length $header) . "\n";
    spew($file, "\x93NUMPY\x01\x00" . pack('v', length $header) . $header . pack('C*', @rows));
}

# Lines of a training log.
sub log_lines { return map { decode_json($_) } split /\n/, slurp($_[0]); }
sub steps { return join ' ', map { $_->{step} } log_lines("$_[0]/log.jsonl"); }

# Starts a command in the background, its standard error in $file; its process id.
sub start {
    my ($command, $file) = @_;
    my $pid = fork // die;
    return $pid if $pid;
    open STDERR, '>', $file // 'said' or die;
    exec 'bash', '-c', "exec $command";
}
# True once the condition holds; false when it does not for a minute.
sub wait_for {
    my ($what) = @_;
    for (1 .. 1200) { return 1 if $what->(); select undef, undef, undef, 0.05; }
    return 0;
}
sub alive { my ($pid) = @_; return -d "/proc/$pid" && slurp("/proc/$pid/stat") !~ /\) [ZX] /; }
# A safetensors file: the bytes of each tensor by its name.
sub tensors {
    my ($file) = @_;
    my $bytes = slurp($file);
    my $n = unpack 'Q<', $bytes;
    my $header = decode_json(substr $bytes, 8, $n);
    delete $header->{__metadata__};
    return map { my ($from, $to) = @{ $header->{$_}{data_offsets} }; $_ => substr $bytes, 8 + $n + $from, $to - $from } keys %$header;
}
1;
