package TestPipeline;
# A small data set for tests of pipeline.mk: four shards of twelve samples, an evaluation set, a teacher and a student.
use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter 'import';
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
our @EXPORT = qw(slurp spew tar_folder make_shards make_eval_set make_teacher make_student edit);

my $data = abs_path('tests/data');
my @pictures = sort grep { -s $_ > 500 } map { glob "$data/images/$_" } qw(4*.jpg *grey.png *lossy.webp palette.png prog*.jpg page.jpg);
my @words = qw(red blue green small large round square old new bright dark odd);

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; return; }
# Changes a file; the pattern has to be there.
sub edit { my ($f, $from, $to) = @_; my $t = slurp($f); $t =~ s/$from/$to/ or die "$f: no $from"; spew($f, $t); return; }
sub tar_folder { my ($from, $to) = @_;
    system('tar', '--sort=name', '--mtime=@1700000000', '--owner=0', '--group=0', '--format=ustar', '-C', $from, '-cf', $to, '.') == 0 or die;
    remove_tree($from);
    return;
}
# $n shards of $rows samples: $dir/shards/00000.tar ...
sub make_shards { my ($dir, $n, $rows) = @_;
    make_path("$dir/shards");
    for my $s (0 .. $n - 1) {
        my $stage = "$dir/stage";
        make_path($stage);
        for my $i (0 .. $rows - 1) {
            my $picture = $pictures[($i + 5 * $s) % @pictures];
            my ($ext) = $picture =~ /\.(\w+)$/;
            copy($picture, sprintf('%s/%05d.%s', $stage, $i, $ext)) or die;
            spew(sprintf('%s/%05d.txt', $stage, $i), "a $words[$i % 12] thing, $words[($i + $s) % 12]");
        }
        tar_folder($stage, sprintf '%s/shards/%05d.tar', $dir, $s);
    }
    return;
}
sub make_eval_set { my ($folder) = @_;
    make_path("$folder/stage", "$folder/test");
    for my $i (0 .. 7) {
        my ($ext) = $pictures[$i % @pictures] =~ /\.(\w+)$/;
        copy($pictures[$i % @pictures], "$folder/stage/s$i.$ext") or die;
        spew("$folder/stage/s$i.cls", $i % 3);
    }
    tar_folder("$folder/stage", "$folder/test/0.tar");
    spew("$folder/test/nshards.txt", "1\n");
    spew("$folder/classnames.txt", "red thing\nblue thing\ngreen thing\n");
    spew("$folder/zeroshot_classification_templates.txt", "{c}\na {c}\n");
    return;
}
# 29 pixels a side, 20 columns.
sub make_teacher { my ($folder, %with) = @_;
    make_path($folder);
    my @tokenizer = $with{tokenizer} // 1 ? glob("$data/tokenizer/openai/*") : ();
    copy($_, "$folder/") or die for glob("$data/models/odd/open_clip*"), @tokenizer;
    edit("$folder/open_clip_config.json", qr/"resize_mode": "\w+"/, qq("resize_mode": "$with{resize}")) if $with{resize};
    return;
}
# Narrower than the teacher, and of other pictures.
sub make_student { my ($file, %with) = @_;
    my $width = $with{width} // 12;
    spew($file, <<"EOC");
{"embed_dim": $width,
 "vision_cfg": {"image_size": 24, "patch_size": 8, "width": 24, "layers": 2, "head_width": 12},
 "text_cfg": {"context_length": 11, "vocab_size": 1214, "width": 16, "layers": 2, "heads": 2}}
EOC
    return;
}
1;
